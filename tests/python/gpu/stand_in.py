"""A CUDA device for tests: arrays in the memory of a stand-in driver, or of a real device.

The stand-in is a library under the driver's name (``cuda/shim``) that keeps device memory on the
heap and runs each launch of the kernels' own sources on the CPU. A process finds it when it starts
with its folder in ``LD_LIBRARY_PATH``.
"""

from __future__ import annotations

import ctypes
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parents[3]
SOURCES = ("cuda/kernels", "cuda/shim/cpp")


def digest() -> str:
    """FNV-1a of the sources of which the stand-in is built, as its build script computes it."""
    state = 0xCBF29CE484222325
    for folder in SOURCES:
        for file in sorted((ROOT / folder).iterdir()):
            for byte in file.name.encode() + file.read_bytes():
                state = (state ^ byte) * 0x100000001B3 & 0xFFFFFFFFFFFFFFFF
    return f"{state:016x}"


def _built(wanted: str) -> Path | None:
    target = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
    for mark in sorted(target.glob("*/build/trivium-cuda-shim-*/out/working/sources")):
        if mark.read_text() == wanted and (mark.parent / "libcuda.so").is_file():
            return mark.parent
    return None


def folder() -> Path | None:
    """Find the stand-in of the present sources, built if need be; None without a C++ compiler."""
    wanted = digest()
    found = _built(wanted)
    cargo = shutil.which("cargo")
    if found is None and cargo is not None:
        command = [cargo, "build", "--quiet", "--locked", "-p", "trivium-cuda-shim"]
        subprocess.run(command, cwd=ROOT, check=False, capture_output=True, timeout=900)
        found = _built(wanted)
    return found


# ---- arrays ------------------------------------------------------------------------------------


class _Tensor(ctypes.Structure):
    _fields_ = (
        ("data", ctypes.c_void_p),
        ("device_type", ctypes.c_int32),
        ("device_id", ctypes.c_int32),
        ("ndim", ctypes.c_int32),
        ("code", ctypes.c_uint8),
        ("bits", ctypes.c_uint8),
        ("lanes", ctypes.c_uint16),
        ("shape", ctypes.POINTER(ctypes.c_int64)),
        ("strides", ctypes.POINTER(ctypes.c_int64)),
        ("byte_offset", ctypes.c_uint64),
    )


class _Managed(ctypes.Structure):
    _fields_ = (
        ("major", ctypes.c_uint32),
        ("minor", ctypes.c_uint32),
        ("context", ctypes.c_void_p),
        ("deleter", ctypes.c_void_p),
        ("flags", ctypes.c_uint64),
        ("tensor", _Tensor),
    )


_DESTRUCTOR = ctypes.CFUNCTYPE(None, ctypes.c_void_p)
_new_capsule = ctypes.pythonapi.PyCapsule_New
_new_capsule.restype = ctypes.py_object
_new_capsule.argtypes = (ctypes.c_void_p, ctypes.c_char_p, ctypes.c_void_p)

# Code and bits by DLPack.
CODES = {"float32": (2, 32), "float16": (2, 16), "bfloat16": (4, 16), "float64": (2, 64)}


class Driver:
    """The stand-in, as a test sees it."""

    name = "stand-in"

    def __init__(self) -> None:
        lib = ctypes.CDLL("libcuda.so")
        lib.stand_in_launch.restype = ctypes.c_char_p
        lib.stand_in_launch.argtypes = (ctypes.c_size_t,)
        for count in ("launches", "pending", "allocations"):
            getattr(lib, f"stand_in_{count}").restype = ctypes.c_size_t
        lib.cuMemAlloc_v2.argtypes = (ctypes.c_void_p, ctypes.c_size_t)
        lib.cuMemFree_v2.argtypes = (ctypes.c_void_p,)
        lib.cuCtxSetCurrent.argtypes = (ctypes.c_void_p,)
        lib.cuStreamCreate.argtypes = (ctypes.c_void_p, ctypes.c_uint)
        context = ctypes.c_void_p()
        assert lib.cuDevicePrimaryCtxRetain(ctypes.byref(context), 0) == 0
        assert lib.cuCtxSetCurrent(context) == 0
        self.lib = lib
        stream = ctypes.c_void_p()
        assert lib.cuStreamCreate(ctypes.byref(stream), 1) == 0
        self.stream = int(stream.value or 0)

    def launches(self) -> list[tuple[str, int]]:
        """Kernels launched so far, each with its stream."""
        lines = [self.lib.stand_in_launch(i).decode() for i in range(self.lib.stand_in_launches())]
        return [(line.split()[0], int(line.split()[3])) for line in lines]

    def pending(self) -> int:
        """Streams with work that nobody waited for."""
        return int(self.lib.stand_in_pending())

    def allocations(self) -> int:
        """Allocations that are alive."""
        return int(self.lib.stand_in_allocations())

    def rows(self, values: Any, dtype: str = "float32", *, pad: int = 0, lead: int = 0) -> Any:
        """Copy values to the device: `pad` elements between rows, `lead` before the first."""
        return DeviceArray(self, np.asarray(values, np.float32), dtype, pad=pad, lead=lead)

    def read(self, array: Any) -> Any:
        """Copy an array back, as float32."""
        return array.numpy()


def _encode(values: Any, dtype: str) -> Any:
    if dtype == "bfloat16":  # exact for what tests use: no rounding is tested here
        return (values.view(np.uint32) >> 16).astype(np.uint16)
    return values.astype(dtype)


def _decode(bits: Any, dtype: str) -> Any:
    if dtype == "bfloat16":
        return (bits.astype(np.uint32) << 16).view(np.float32)
    return bits.astype(np.float32)


class DeviceArray:
    """Rows in the stand-in's memory, exported by DLPack as a CUDA array is.

    Tests change its fields to lie.
    """

    def __init__(self, driver: Driver, values: Any, dtype: str, *, pad: int, lead: int) -> None:
        flat = np.atleast_2d(values)
        rows, width = flat.shape
        step = width + pad
        store = np.full(lead + rows * step, 99, np.float32)
        store[lead:].reshape(rows, step)[:, :width] = flat
        self._store = np.ascontiguousarray(_encode(store, dtype))
        address = ctypes.c_void_p()
        assert driver.lib.cuMemAlloc_v2(ctypes.byref(address), self._store.nbytes) == 0
        self.driver, self.dtype = driver, dtype
        self.base = int(address.value or 0)
        ctypes.memmove(self.base, self._store.ctypes.data, self._store.nbytes)
        self.address = self.base + lead * self._store.itemsize
        self.shape: tuple[int, ...] = values.shape
        self.strides: tuple[int, ...] = (step, 1) if values.ndim == 2 else (1,)
        self.device, self.capsule_device = (2, 0), (2, 0)
        self.flags, self.major = 0, 1
        self.stream: int | None = driver.stream
        self.asked: list[Any] = []  # streams that consumers named
        self.released: list[
            tuple[int, int]
        ] = []  # launches and pending streams at the end of a capsule

    @property
    def __cuda_array_interface__(self) -> dict[str, Any]:
        return {"version": 3, "stream": self.stream}

    def numpy(self) -> Any:
        """Values on the host, of the shape they were given in."""
        buffer = (ctypes.c_char * self._store.nbytes).from_address(self.base)
        all_ = np.frombuffer(bytes(buffer), self._store.dtype)
        lead = (self.address - self.base) // self._store.itemsize
        rows = self.shape[0] if len(self.shape) == 2 else 1
        step = self.strides[0] if len(self.shape) == 2 else self.shape[0]
        table = all_[lead : lead + rows * step].reshape(rows, step)[:, : self.shape[-1]]
        return _decode(table, self.dtype).reshape(self.shape)

    def padding(self) -> Any:
        """What stands between the rows."""
        buffer = (ctypes.c_char * self._store.nbytes).from_address(self.base)
        all_ = np.frombuffer(bytes(buffer), self._store.dtype)
        lead = (self.address - self.base) // self._store.itemsize
        return _decode(all_[lead:].reshape(-1, self.strides[0])[:, self.shape[-1] :], self.dtype)

    def __dlpack_device__(self) -> tuple[int, int]:
        return self.device

    def __dlpack__(
        self,
        *,
        stream: Any = None,
        max_version: Any = None,
        dl_device: Any = None,
        copy: Any = None,
    ) -> Any:
        if dl_device == (1, 0):
            assert copy
            return self.numpy().astype(self.dtype).__dlpack__(max_version=max_version)
        self.asked.append(stream)
        shape = (ctypes.c_int64 * len(self.shape))(*self.shape)
        strides = (ctypes.c_int64 * len(self.strides))(*self.strides)
        code, bits = CODES[self.dtype]
        tensor = _Tensor(
            self.address, *self.capsule_device, len(self.shape), code, bits, 1, shape, strides, 0
        )
        managed = _Managed(self.major, 0, None, None, self.flags, tensor)
        key = id(managed)

        def end(_: int) -> None:
            self.released.append((len(self.driver.launches()), self.driver.pending()))
            _ALIVE.pop(key, None)

        destructor = _DESTRUCTOR(end)
        _KEPT.append(destructor)  # called while it runs, so never freed
        _ALIVE[key] = (managed, shape, strides, self)
        return _new_capsule(
            ctypes.addressof(managed),
            b"dltensor_versioned",
            ctypes.cast(destructor, ctypes.c_void_p).value,
        )

    def __del__(self) -> None:
        if hasattr(self, "base"):
            self.driver.lib.cuMemFree_v2(self.base)


_ALIVE: dict[int, Any] = {}
_KEPT: list[Any] = []


class Torch:
    """A real device, through torch."""

    name = "torch"

    def __init__(self) -> None:
        import torch

        self.torch = torch

    def launches(self) -> list[tuple[str, int]]:
        """Nobody counts them."""
        return []

    def rows(self, values: Any, dtype: str = "float32", *, pad: int = 0, lead: int = 0) -> Any:
        """Copy values to the device."""
        torch = self.torch
        flat = np.atleast_2d(np.asarray(values, np.float32))
        store = torch.full((lead + flat.shape[0] * (flat.shape[1] + pad),), 99.0, device="cuda")
        store = store.to(getattr(torch, dtype))
        out = store[lead:].view(flat.shape[0], -1)[:, : flat.shape[1]]
        out.copy_(torch.from_numpy(flat.copy()).to("cuda"))
        return out if np.ndim(values) == 2 else out[0]

    def read(self, array: Any) -> Any:
        """Copy an array back, as float32."""
        return array.float().cpu().numpy()


def device() -> Any:
    """The device of this process: the stand-in, or torch's."""
    return Torch() if os.environ.get("TRIVIUM_DEVICE") == "torch" else Driver()
