"""Wrong callables that the kit must reject: a catalogue of bug classes.

The verifiers begin with the biases found in released code; each is a small model of its bug class,
written for this kit. `catalogue` lists them all; ``trivium check`` runs them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from trivium.testing.planted._base import Planted
from trivium.testing.planted.engines import ENGINES
from trivium.testing.planted.masks import MASKS
from trivium.testing.planted.samplers import SAMPLERS
from trivium.testing.planted.verifiers import VERIFIERS

if TYPE_CHECKING:
    from collections.abc import Iterator

    from trivium.testing.results import CheckResult

__all__ = ["ENGINES", "MASKS", "SAMPLERS", "VERIFIERS", "Planted", "catalogue", "run_all"]


def catalogue() -> tuple[Planted, ...]:
    """Return all planted bugs."""
    return (*VERIFIERS, *SAMPLERS, *ENGINES, *MASKS)


def run_all(*, seed: int = 0) -> Iterator[tuple[Planted, CheckResult]]:
    """Put every planted bug to the kit; yield each with what the kit found."""
    for bug in catalogue():
        yield bug, bug.run(seed=seed)
