"""Settings and fixtures shared by the Python suites."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

ROOT = Path(__file__).resolve().parents[2]

# Everyday runs repeat the same examples, so that a red test stays red; TRIVIUM_HYPOTHESIS=search
# looks for new ones.
settings.register_profile(
    "repeat",
    deadline=None,
    derandomize=True,
    max_examples=100,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.register_profile(
    "search", deadline=None, max_examples=2000, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile(os.environ.get("TRIVIUM_HYPOTHESIS", "repeat"))


@pytest.fixture(scope="session")
def root() -> Path:
    """Top of the repository."""
    return ROOT


@pytest.fixture(scope="session")
def vocab_folder() -> Path:
    """Real vocabularies, which are too big and too unfree to ship."""
    folder = ROOT.parent / "shared" / "data" / "vocab"
    if not folder.is_dir():
        pytest.skip("the shared vocabularies are not beside this checkout (../shared/data/vocab)")
    return folder


@pytest.fixture
def cuda() -> None:
    """Skip where there is no CUDA device."""
    torch = pytest.importorskip("torch")
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")
