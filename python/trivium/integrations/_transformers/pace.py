"""Whether a draft model's passes pay in this step, from what earlier steps took and gave."""

from __future__ import annotations

import time
from collections import deque
from statistics import median
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["Pace"]

_KEPT = 9
_EXPLORE = 8
"""Steps without the draft model after which it is asked anyway."""
_FIRST = 4.0
"""Accepted tokens of a chain before any was counted; high, so that it is tried."""
_MEMORY = 16
_SLACK = 1.15
"""Near the balance fewer passes of the target win: estimates are no better than this."""

_Law = tuple[float, int, float, float]


class Pace:
    """Expected tokens a second with the draft model and without.

    Without it a step emits one token and what the stores' trees are expected to give; with it as
    many as the likelier of the two drafts, for the time of its passes more. Medians of the newest
    steps, so that one slow step decides nothing. Like every policy of drafts it changes no text.
    """

    def __init__(self) -> None:
        self._passes: deque[float] = deque(maxlen=_KEPT)  # seconds of a pass of the draft model
        self._counts: deque[int] = deque(maxlen=_KEPT)  # passes a step
        self._rests: deque[float] = deque(maxlen=_KEPT)  # seconds of what is not drafting
        self._gain: dict[_Law, tuple[float, int]] = {}  # accepted tokens of a chain, and chains
        self._skipped = 0
        self._began = self._ended = 0.0

    def pays(self, laws: Sequence[_Law], stores: Sequence[float]) -> bool:
        """Whether to draft; `stores` are the tokens expected of each request's tree."""
        if not self._rests or not self._passes or not any(stores):
            return True
        rest = median(self._rests)
        drafting = median(self._passes) * median(self._counts)
        without = sum(1 + e for e in stores)
        gains = [self._gain.get(law, (_FIRST, 0))[0] for law in laws]
        both = sum(1 + max(e, g) for e, g in zip(stores, gains, strict=True))
        if _SLACK * both / (rest + drafting) >= without / rest:
            self._skipped = 0
            return True
        self._skipped += 1
        return self._skipped % _EXPLORE == 0

    def begin(self) -> None:
        """Begin to draft."""
        self._began = time.perf_counter()

    def end(self, passes: int) -> None:
        """End drafting after so many passes."""
        self._ended = time.perf_counter()
        if passes:
            self._passes.append((self._ended - self._began) / passes)
            self._counts.append(passes)

    def verified(self) -> None:
        """End the step of the last draft."""
        self._rests.append(time.perf_counter() - self._ended)

    def report(self, law: _Law, accepted: int) -> None:
        """Count the tokens that were emitted of a chain."""
        gain, n = self._gain.get(law, (_FIRST, 1))
        self._gain[law] = (gain + (accepted - gain) / (n + 1), min(n + 1, _MEMORY))
