"""How often drafted tokens are emitted, learned from what was."""

from __future__ import annotations

__all__ = ["Agreement"]

_CLASSES = 16
_HORIZON = 512
_BELIEF = 4.0  # weight of the drafter's own word, in tokens

_Law = tuple[float, int, float, float]


class Agreement:
    """Acceptance of a drafted token by its probability under the draft, learned online.

    The two are far apart: under shared noise models that agree draw the same token however unlikely
    it was, and a small model is unsure of much that it gets right. Counts in classes of probability
    around the drafter's own word, halved beyond a horizon; one set a decoding law, since each has
    its own. What it says orders and ends drafts and changes no text.
    """

    def __init__(self) -> None:
        self._counts: dict[_Law, list[list[float]]] = {}

    def _class(self, law: _Law, p: float) -> list[float]:
        """Find one class: tokens tried, and emitted."""
        if law not in self._counts:
            self._counts[law] = [[0.0, 0.0] for _ in range(_CLASSES)]
        return self._counts[law][min(_CLASSES - 1, int(_CLASSES * p))]

    def __call__(self, law: _Law, p: float) -> float:
        """Estimate of the acceptance of a token of probability `p`."""
        tried, emitted = self._class(law, p)
        return min(1.0, (emitted + _BELIEF * p) / (tried + _BELIEF))

    def report(self, law: _Law, p: float, *, emitted: bool) -> None:
        """Count a token of which everything before was emitted."""
        counts = self._class(law, p)
        counts[0] += 1
        counts[1] += emitted
        if counts[0] > _HORIZON:
            counts[:] = [n / 2 for n in counts]
