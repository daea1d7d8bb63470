"""The device of a suite, and its helper module."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parent))


@pytest.fixture(scope="session")
def device() -> Any:
    """Rows in device memory: of the stand-in driver, or of torch's device."""
    import stand_in

    return stand_in.device()
