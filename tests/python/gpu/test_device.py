"""The calls that take CUDA arrays: on a stand-in driver everywhere, on a device where there is one.

A process has one CUDA driver for life, so each driver gets a process; this file starts them. What
they run is ``suite_device.py`` (results equal to the CPU's path, bad input) and ``suite_faults.py``
(drivers that fail).
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import stand_in

HERE = Path(__file__).resolve().parent


def run(suite: str, **env: str) -> str:
    """Run a suite in a process of its own; returns what it wrote."""
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(HERE / suite)]
    whole = {**os.environ, "RUST_BACKTRACE": "0", **env}
    done = subprocess.run(
        command,
        cwd=stand_in.ROOT,
        env=whole,
        capture_output=True,
        text=True,
        check=False,
        timeout=280,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    # A suite that ran nothing, or skipped in silence, is no success.
    found = re.search(r"(\d+) passed", done.stdout)
    assert found is not None, done.stdout
    assert int(found[1]) > 0, done.stdout
    return done.stdout


@pytest.fixture(scope="session")
def working() -> Path:
    """Folder of the stand-in driver."""
    folder = stand_in.folder()
    if folder is None:
        pytest.skip("the stand-in driver needs cargo and a C++ compiler with -fsanitize=thread")
    return folder


def test_on_the_stand_in(working: Path) -> None:
    out = run("suite_device.py", LD_LIBRARY_PATH=str(working))
    assert "skipped" not in out, out


@pytest.mark.parametrize("fault", ["old", "full", "launch"])
def test_with_a_driver_that_fails(working: Path, fault: str) -> None:
    run("suite_faults.py", LD_LIBRARY_PATH=str(working), TRIVIUM_STAND_IN=fault)


def test_with_a_broken_driver(working: Path) -> None:
    """A library without a single symbol."""
    run(
        "suite_faults.py", LD_LIBRARY_PATH=str(working.parent / "broken"), TRIVIUM_STAND_IN="broken"
    )


@pytest.mark.gpu
def test_on_the_device(cuda: None) -> None:
    run("suite_device.py", TRIVIUM_DEVICE="torch")
