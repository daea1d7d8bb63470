"""Make the committed PTX from the CUDA sources, byte for byte, without a GPU or a toolkit.

The compiler is NVRTC out of the pinned package `nvidia-cuda-nvrtc-cu12`, called through ctypes.
Its version fixes the PTX dialect (ISA 8.0), so another version is refused rather than used: with
the same version and the same options the output is the same file.

    python cuda/scripts/build_ptx.py            write cuda/ptx/*.ptx
    python cuda/scripts/build_ptx.py --check    compare with what is committed; exit 1 on difference

Both modes also assemble every kernel for real architectures (nothing is kept of it), so a kernel
that the assembler refuses is found here and not in a driver. Exit 2: NVRTC is missing, or it is
another version.
"""

from __future__ import annotations

import argparse
import ctypes
import importlib.metadata
import importlib.util
import sys
from pathlib import Path

PACKAGE = "nvidia-cuda-nvrtc-cu12"
VERSION = "12.0.140"
PTX_ARCH = "compute_80"
ASSEMBLED = ("sm_80", "sm_90")
OPTIONS = ("--std=c++17", "--fmad=false")

CUDA = Path(__file__).resolve().parent.parent


class NvrtcMissingError(Exception):
    """The pinned compiler is not installed."""


class CompileError(Exception):
    """NVRTC refused a source; the text is its log."""


class Nvrtc:
    """The few calls of NVRTC that turn one source into one image."""

    def __init__(self) -> None:
        """Load the library of the pinned package, and nothing else that may be installed."""
        try:
            found = importlib.metadata.version(PACKAGE)
        except importlib.metadata.PackageNotFoundError as error:
            message = f"{PACKAGE}=={VERSION} is not installed"
            raise NvrtcMissingError(message) from error
        if found != VERSION:
            message = f"{PACKAGE} is {found}, the committed PTX needs {VERSION}"
            raise NvrtcMissingError(message)
        spec = importlib.util.find_spec("nvidia.cuda_nvrtc")
        folders = list(spec.submodule_search_locations or []) if spec else []
        found_libraries = [p for f in folders for p in sorted(Path(f, "lib").glob("libnvrtc.so*"))]
        if not found_libraries:
            message = f"{PACKAGE} holds no libnvrtc for this platform"
            raise NvrtcMissingError(message)
        # The builtins library is opened by name while compiling: load it first, globally.
        for builtins in sorted(found_libraries[0].parent.glob("libnvrtc-builtins.so*")):
            ctypes.CDLL(str(builtins), mode=ctypes.RTLD_GLOBAL)
        self._lib = ctypes.CDLL(str(found_libraries[0]))
        self._lib.nvrtcGetErrorString.restype = ctypes.c_char_p

    def _check(self, code: int, what: str) -> None:
        if code != 0:
            message = f"{what}: {self._lib.nvrtcGetErrorString(code).decode()}"
            raise CompileError(message)

    def _text(self, program: ctypes.c_void_p, kind: str) -> bytes:
        size = ctypes.c_size_t()
        self._check(getattr(self._lib, f"nvrtcGet{kind}Size")(program, ctypes.byref(size)), kind)
        buffer = ctypes.create_string_buffer(size.value)
        self._check(getattr(self._lib, f"nvrtcGet{kind}")(program, buffer), kind)
        return buffer.raw

    def compile(self, source: Path, arch: str) -> bytes:
        """Compile one source: PTX text for a `compute_*` target, a binary image for `sm_*`."""
        program = ctypes.c_void_p()
        # The names given are bare file names, so that no path enters the output.
        headers = sorted(source.parent.glob("*.cuh"))
        texts = (ctypes.c_char_p * len(headers))(*(h.read_bytes() for h in headers))
        names = (ctypes.c_char_p * len(headers))(*(h.name.encode() for h in headers))
        code = self._lib.nvrtcCreateProgram(
            ctypes.byref(program),
            source.read_bytes(),
            source.name.encode(),
            len(headers),
            texts,
            names,
        )
        self._check(code, "nvrtcCreateProgram")
        try:
            options = [f"--gpu-architecture={arch}".encode(), *(o.encode() for o in OPTIONS)]
            argv = (ctypes.c_char_p * len(options))(*options)
            code = self._lib.nvrtcCompileProgram(program, len(options), argv)
            if code != 0:
                log = self._text(program, "ProgramLog").rstrip(b"\0").decode(errors="replace")
                message = f"{source.name} for {arch}:\n{log}"
                raise CompileError(message)
            if arch.startswith("sm_"):
                return self._text(program, "CUBIN")
            return self._text(program, "PTX").rstrip(b"\0")
        finally:
            self._lib.nvrtcDestroyProgram(ctypes.byref(program))


def main(argv: list[str] | None = None) -> int:
    """Write or compare the PTX of every kernel source."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--check", action="store_true", help="compare, write nothing")
    parser.add_argument("--out", type=Path, default=CUDA / "ptx", help="folder of the PTX")
    parser.add_argument("--kernels", type=Path, default=CUDA / "kernels", help="folder of the .cu")
    args = parser.parse_args(argv)
    try:
        nvrtc = Nvrtc()
    except NvrtcMissingError as error:
        print(error, file=sys.stderr)
        return 2

    sources = sorted(args.kernels.glob("*.cu"))
    # A PTX file without a source would be shipped unchecked.
    orphans = {p.stem for p in args.out.glob("*.ptx")} - {s.stem for s in sources}
    differences = [f"{name}.ptx has no source" for name in sorted(orphans)]
    for source in sources:
        try:
            ptx = nvrtc.compile(source, PTX_ARCH)
            for arch in ASSEMBLED:
                nvrtc.compile(source, arch)
        except CompileError as error:
            print(error, file=sys.stderr)
            return 1
        target = args.out / f"{source.stem}.ptx"
        if not args.check:
            target.write_bytes(ptx)
            print(f"wrote {target.name}: {len(ptx)} bytes")
        elif not target.is_file():
            differences.append(f"{target.name} is missing")
        elif target.read_bytes() != ptx:
            differences.append(f"{target.name} differs from what {source.name} compiles to")
        else:
            print(f"{target.name}: equal")
    for difference in differences:
        print(difference, file=sys.stderr)
    return 1 if differences else 0


if __name__ == "__main__":
    sys.exit(main())
