"""Greedy shrinking: try simpler problems until none of them fails."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

__all__ = ["round_law", "shrink"]

C = TypeVar("C")
F = TypeVar("F")


def shrink(
    problem: C,
    finding: F,
    simpler: Callable[[C], Iterable[C]],
    retry: Callable[[C], F | None],
    *,
    seconds: float = 3.0,
    most: int = 400,
) -> tuple[C, F, int]:
    """Replace a failing problem by simpler ones while they fail.

    Parameters
    ----------
    problem : object
        Fails.
    finding : object
        What was found on it.
    simpler : callable
        Yields simpler problems, boldest first. Every chain of them must end.
    retry : callable
        Returns what it finds on a problem, or None when that passes.
    seconds : float, optional
        Stop after this time.
    most : int, optional
        Stop after this many tries.

    Returns
    -------
    tuple
        The last failing problem, its finding and the number of steps taken.
    """
    end = time.monotonic() + seconds
    steps = tries = 0
    progress = True
    while progress:
        progress = False
        for candidate in simpler(problem):
            tries += 1
            if tries > most or time.monotonic() > end:
                return problem, finding, steps
            found = retry(candidate)
            if found is not None:
                problem, finding, steps = candidate, found, steps + 1
                progress = True
                break
    return problem, finding, steps


def round_law(law: tuple[float, ...], parts: int) -> tuple[float, ...]:
    """Return a law in multiples of ``1 / parts``, by largest remainders; zeros stay zeros."""
    if parts < 1:
        return law
    scaled = [p * parts for p in law]
    whole = [int(s) for s in scaled]
    order = sorted(range(len(law)), key=lambda i: (whole[i] - scaled[i], i))
    for i in order[: max(0, parts - sum(whole))]:
        whole[i] += 1
    return tuple(w / parts for w in whole)
