"""Budgets over questions by difficulty, and what a window of early stopping will cost."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, NamedTuple

from trivium import _core
from trivium.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

__all__ = ["DifficultySchedule", "WindowCost", "mean_ranks", "window_cost"]


class WindowCost(NamedTuple):
    """What `window_cost` expects.

    Attributes
    ----------
    samples : float
        Expected number of samples.
    risk : float
        Probability that a window is unanimous for an answer other than the mode.
    published_risk : float
        The same by the published normal approximation, per window.
    """

    samples: float
    risk: float
    published_risk: float


def window_cost(shares: Sequence[float], *, window: int = 5, budget: int = 40) -> WindowCost:
    """Cost and risk of stopping at a unanimous window (the control scheme of ESC).

    Li et al., "Escape Sky-high Cost: Early-stopping Self-Consistency for Multi-step Reasoning".

    Parameters
    ----------
    shares : sequence of float
        Probabilities of the answers, the mode first; from the first window, for instance.
    window, budget : int
        Samples a window and in all.

    Examples
    --------
    >>> round(window_cost([0.8, 0.2]).samples, 6)
    14.609959
    """
    shares = [float(p) for p in shares]
    if not shares or any(not 0 <= p <= 1 for p in shares) or sum(shares) > 1 + 1e-9:
        raise InputError("shares: need probabilities that sum to at most 1")
    if not 1 <= window <= budget:
        raise InputError(f"window: {window} is not in 1 .. {budget}")
    return WindowCost(*_core.Voter.window_cost(shares, window, budget))


def mean_ranks(orders: Sequence[Sequence[int]], n: int) -> list[float]:
    """Mean rank of each of `n` questions over batches that a judge ordered from easy to hard.

    Ranks count from 0 within their batch and are scaled to [0, 1]; a question that no batch held
    has 0.5.
    """
    sums = [0.0] * n
    seen = [0] * n
    for order in orders:
        for place, question in enumerate(order):
            if not 0 <= question < n:
                raise InputError(f"orders: question {question} is not in 0 .. {n - 1}")
            sums[question] += place / max(len(order) - 1, 1)
            seen[question] += 1
    return [s / k if k else 0.5 for s, k in zip(sums, seen, strict=True)]


class DifficultySchedule:
    """Which questions to vote on, how many samples first, and which to answer with one.

    Wang et al., "Make Every Penny Count: Difficulty-Adaptive Self-Consistency for Cost-Efficient
    Reasoning". Questions are walked from the hardest. The first window is the mean of the final
    sizes of the last 16 questions, in multiples of 4; after 32 easy questions in a row every easier
    one gets a single sample.

    Parameters
    ----------
    difficulty : sequence of float
        One score a question, larger is harder: `mean_ranks`, or anything known before sampling.
    window : int
        Size of windows.
    run : int
        Easy questions in a row that end the walk.
    memory : int
        Questions whose sizes predict the next.

    Examples
    --------
    >>> plan = DifficultySchedule([0.1, 0.9, 0.5], run=2)
    >>> [plan.report(q, size, easy=True) for q, size in plan]
    [False, True]
    >>> plan.single
    [0]
    """

    __slots__ = ("_done", "_easy", "_order", "_sizes", "run", "window")

    def __init__(
        self, difficulty: Sequence[float], *, window: int = 4, run: int = 32, memory: int = 16
    ) -> None:
        if window < 1 or run < 1 or memory < 1:
            raise InputError("window, run, memory: need at least 1")
        self._order = sorted(range(len(difficulty)), key=lambda q: (-difficulty[q], q))
        self._sizes: deque[int] = deque(maxlen=memory)
        self._done = self._easy = 0
        self.window, self.run = window, run

    def first_window(self) -> int:
        """Give the samples with which the next question starts."""
        if not self._sizes:
            return self.window
        mean = sum(self._sizes) / len(self._sizes)
        return max(1, int(mean / self.window + 0.5)) * self.window

    def __iter__(self) -> Iterator[tuple[int, int]]:
        """Questions from the hardest on with their first windows, until `report` ends the walk."""
        while self._done < len(self._order) and self._easy < self.run:
            yield self._order[self._done], self.first_window()

    def report(self, question: int, samples: int, *, easy: bool) -> bool:
        """Report the question walked last: its samples, and whether its first window sufficed.

        Returns
        -------
        bool
            Whether the walk has ended.
        """
        if self._done >= len(self._order) or self._order[self._done] != question:
            raise InputError(f"question: {question} is not the one walked last")
        self._done += 1
        self._sizes.append(samples)
        self._easy = self._easy + 1 if easy else 0
        return self._done >= len(self._order) or self._easy >= self.run

    @property
    def single(self) -> list[int]:
        """Questions that get a single sample, once the walk has ended."""
        return sorted(self._order[self._done :])
