"""Budgets over questions: general gains, windows for a target, what `k` samples reach at best."""

from __future__ import annotations

import heapq
import math
from typing import TYPE_CHECKING, NamedTuple

from trivium.errors import InputError
from trivium.voting.difficulty import window_cost

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["WindowChoice", "allocate_gains", "choose_window", "pass_at"]


def allocate_gains(gains: Sequence[Sequence[float]], budget: int) -> list[int]:
    """Choose the samples of each question that gain most in all, by predicted gains.

    Damani et al., "Learning How Hard to Think: Input-Adaptive Allocation of LM Computation". Gains
    of a question are made non-increasing by averaging adjacent ones; then the greedy choice is
    exact. Questions that gain equally share as evenly as possible, the first ones first; samples
    that gain nothing are not taken.

    Parameters
    ----------
    gains : sequence of sequences of float
        Predicted gain of each further sample of each question.
    budget : int
        Samples in all.

    Examples
    --------
    >>> chances = [0.9, 0.5, 0.1, 0.02]
    >>> gains = [[p * (1 - p) ** k for k in range(10)] for p in chances]
    >>> given = allocate_gains(gains, 10)
    >>> given, round(sum(sum(row[:n]) for row, n in zip(gains, given)), 5)
    ([2, 3, 5, 0], 2.27451)
    """
    if budget < 0:
        raise InputError(f"budget: {budget} is negative")
    fair = [_pooled(row) for row in gains]
    given = [0] * len(fair)
    heap = [(-row[0], 0, i) for i, row in enumerate(fair) if row]
    heapq.heapify(heap)
    while heap and sum(given) < budget:
        gain, taken, i = heapq.heappop(heap)
        if gain >= 0:
            break
        given[i] = taken + 1
        if given[i] < len(fair[i]):
            heapq.heappush(heap, (-fair[i][given[i]], given[i], i))
    return given


def _pooled(gains: Sequence[float]) -> list[float]:
    """Adjacent gains averaged until none rises."""
    blocks: list[tuple[float, int]] = []
    for gain in gains:
        if not math.isfinite(gain):
            raise InputError(f"gains: {gain} is not finite")
        total, n = float(gain), 1
        while blocks and total * blocks[-1][1] > blocks[-1][0] * n:
            before, m = blocks.pop()
            total, n = total + before, n + m
        blocks.append((total, n))
    return [total / n for total, n in blocks for _ in range(n)]


class WindowChoice(NamedTuple):
    """A window of `esc:W` with its budget, and what they cost on average.

    Attributes
    ----------
    window, budget : int
        Traces of a window, and in all.
    samples : float
        Expected traces a question.
    risk : float
        Mean probability that a wrong window decides before the budget is spent.
    """

    window: int
    budget: int
    samples: float
    risk: float


def choose_window(
    shares: Sequence[Sequence[float]],
    *,
    max_samples: float | None = None,
    max_risk: float | None = None,
    windows: Sequence[int] = (3, 4, 5, 6, 7, 8, 9, 10),
    budgets: Sequence[int] = (20, 30, 40, 64),
) -> WindowChoice:
    """Choose the window and budget of `esc` that meet a target (its control scheme).

    Li et al., "Escape Sky-high Cost: Early-stopping Self-Consistency for Multi-step Reasoning".
    With `max_samples` the least risk that costs no more; with `max_risk` the least cost that risks
    no more. Risk is exact over the run, not the paper's normal tail.

    Parameters
    ----------
    shares : sequence of sequences of float
        Shares of the answers of each question, such as those of its first window.
    max_samples, max_risk : float, optional
        The target; exactly one.
    windows, budgets : sequence of int
        What to choose from.

    Raises
    ------
    InputError
        No target or two; nothing on the grid meets it.

    Examples
    --------
    >>> best = choose_window([[0.8, 0.2], [1.0]], max_risk=1e-3, budgets=[40])
    >>> best.window, round(best.samples, 4), round(best.risk, 7)
    (5, 9.805, 0.0004675)
    """
    if (max_samples is None) == (max_risk is None):
        raise InputError("max_samples, max_risk: give one of them")
    if not len(shares):
        raise InputError("shares: needs those of at least one question")
    choices = []
    for window in windows:
        for budget in budgets:
            if not 1 <= window <= budget:
                continue
            costs = [window_cost(row, window=window, budget=budget) for row in shares]
            samples = sum(cost.samples for cost in costs) / len(costs)
            risk = sum(cost.risk for cost in costs) / len(costs)
            choices.append(WindowChoice(window, budget, samples, risk))
    if max_samples is not None:
        fit = [choice for choice in choices if choice.samples <= max_samples]
        best = min(fit, key=lambda c: (c.risk, c.samples), default=None)
    else:
        assert max_risk is not None
        fit = [choice for choice in choices if choice.risk <= max_risk]
        best = min(fit, key=lambda c: (c.samples, c.risk), default=None)
    if best is None:
        raise InputError("max_samples, max_risk: no window on the grid meets the target")
    return best


def pass_at(n: int, right: int, k: int) -> float:
    """Probability that `k` of `n` samples, `right` of them right, hold a right one.

    Chen et al., "Evaluating Large Language Models Trained on Code". `majority_at` says what a vote
    of them reaches.

    Examples
    --------
    >>> round(pass_at(10, 3, 5), 10)
    0.9166666667
    """
    if not 0 <= right <= n or not 0 <= k <= n:
        raise InputError(f"n, right, k: need 0 <= right, k <= n, found {n}, {right}, {k}")
    return 1.0 - math.comb(n - right, k) / math.comb(n, k)
