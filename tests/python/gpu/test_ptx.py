"""The committed PTX is what its sources compile to; this needs NVRTC's package and no GPU."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

CUDA = Path(__file__).resolve().parents[3] / "cuda"
SCRIPT = CUDA / "scripts" / "build_ptx.py"
# The script's exit status where the pinned compiler is not installed.
NO_COMPILER = 2


def build_ptx(*args: str | Path) -> subprocess.CompletedProcess[str]:
    """Run the script; skip the test where its compiler is missing."""
    command = [sys.executable, SCRIPT, *args]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode == NO_COMPILER:
        pytest.skip(f"PTX not compared: {done.stderr.strip()}")
    return done


def test_committed_ptx_is_reproduced_byte_for_byte(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # From another folder than the repository's: no path may enter the output.
    monkeypatch.chdir(tmp_path)
    done = build_ptx("--check")
    assert done.returncode == 0, done.stderr


def test_ptx_keeps_to_the_isa_that_old_drivers_read() -> None:
    files = sorted((CUDA / "ptx").glob("*.ptx"))
    assert [f.stem for f in files] == [f.stem for f in sorted((CUDA / "kernels").glob("*.cu"))]
    for file in files:
        lines = file.read_text().splitlines()
        assert ".version 8.0" in lines
        assert ".target sm_80" in lines


@pytest.mark.parametrize("fault", ["changed", "missing", "orphan"])
def test_check_sees_a_difference(fault: str, tmp_path: Path) -> None:
    # One kernel is enough to see a difference.
    kernels, copy = tmp_path / "kernels", tmp_path / "ptx"
    kernels.mkdir()
    copy.mkdir()
    shutil.copy(CUDA / "kernels" / "apply_mask.cu", kernels)
    shutil.copy(CUDA / "ptx" / "apply_mask.ptx", copy)
    file = copy / "apply_mask.ptx"
    if fault == "changed":
        file.write_bytes(file.read_bytes().replace(b"setp.", b"setp. ", 1))
    elif fault == "missing":
        file.unlink()
    else:
        (copy / "no_source.ptx").write_text("")
    before = {p.name: p.read_bytes() for p in copy.iterdir()}
    done = build_ptx("--check", "--kernels", kernels, "--out", copy)
    assert done.returncode == 1
    assert done.stderr
    assert {p.name: p.read_bytes() for p in copy.iterdir()} == before, "a check writes nothing"


def test_an_error_in_a_kernel_is_reported(tmp_path: Path) -> None:
    (tmp_path / "broken.cu").write_text('extern "C" __global__ void f(int* p) { *p = q; }')
    done = build_ptx("--kernels", tmp_path, "--out", tmp_path)
    assert done.returncode == 1
    assert "broken.cu" in done.stderr
    assert "q" in done.stderr
    assert not list(tmp_path.glob("*.ptx"))
