"""Statistical assertions whose error probability is a theorem, not an asymptotic.

Every test here states a bound on the probability that it rejects a *correct* sampler, valid for any
number of draws and any cell size:

- one cell: Chernoff's bound, ``P(count/n on that side) <= exp(-n KL(observed || p))``;
- all cells: ``P(n KL(observed || law) >= t) <= exp(-t) (e t / (k - 1))^(k - 1)`` for ``t > k - 1``
  with `k` cells (Agrawal, finite-sample concentration of the multinomial in relative entropy);
- total variation: ``P(TV >= e) <= 2^k exp(-2 n e^2)`` (Bretagnolle, Huber and Carol);
- an outcome of probability 0 was drawn: no error at all.

A test is run once. It is never repeated to see whether it passes the next time.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from trivium.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterable, Mapping

__all__ = [
    "ERROR_PROBABILITY",
    "Evidence",
    "assert_law",
    "chi_square",
    "chi_square_tail",
    "law_evidence",
    "total_variation",
    "tv_bound",
]

N = TypeVar("N", int, float)

ERROR_PROBABILITY = 1e-9
"""Largest probability with which one check rejects a correct implementation."""


def total_variation(a: Mapping[Any, float], b: Mapping[Any, float]) -> float:
    """Return half the sum of absolute differences of two laws.

    Examples
    --------
    >>> total_variation({1: 0.5, 2: 0.5}, {2: 0.5, 3: 0.5})
    0.5
    """
    return 0.5 * math.fsum(abs(a.get(k, 0.0) - b.get(k, 0.0)) for k in {**a, **b})


@dataclass(frozen=True, slots=True)
class Evidence:
    """What counts say about a law.

    Attributes
    ----------
    p_value : float
        Bound on the probability that a correct sampler looks at least this bad; 0 when an
        impossible outcome was drawn.
    tv : float
        Total variation of the observed frequencies to the law.
    worst : hashable or None
        The outcome that deviates most.
    why : str
        The bound that gave the p-value.
    """

    p_value: float
    tv: float
    worst: Hashable | None
    why: str


def _kl(x: float, p: float) -> float:
    left = x * math.log(x / p) if x > 0.0 else 0.0
    right = (1.0 - x) * math.log((1.0 - x) / (1.0 - p)) if x < 1.0 else 0.0
    return left + right


def law_evidence(
    counts: Mapping[Any, int], law: Mapping[Any, float], *, tolerance: float = 1e-12
) -> Evidence:
    """Weigh counts of independent draws against the law they should have.

    Parameters
    ----------
    counts : mapping
        Outcome to number of draws.
    law : mapping
        Outcome to probability; the mass is 1.
    tolerance : float, optional
        Probabilities below it count as possible only if they are not 0; the law's own rounding.

    Returns
    -------
    Evidence
        Its `p_value` is twice the least of the bounds: there are two of them.
    """
    n = sum(counts.values())
    if n < 1:
        raise InputError("counts: no draws")
    mass = math.fsum(law.values())
    if abs(mass - 1.0) > 1e-6:
        raise InputError(f"law: has mass {mass}, not 1")
    for outcome, count in counts.items():
        if count and law.get(outcome, 0.0) <= 0.0:
            return Evidence(0.0, _tv(counts, law, n), outcome, "an impossible outcome was drawn")
    support = [k for k, p in law.items() if p > 0.0]
    cells, worst, divergence = 0.0, None, 0.0
    for outcome in support:
        p, x = min(law[outcome], 1.0), counts.get(outcome, 0) / n
        if x > 0.0:
            divergence += x * math.log(x / p)
        if p >= 1.0 - tolerance:
            continue
        deviation = n * _kl(x, p)
        if deviation > cells or worst is None:
            cells, worst = deviation, outcome
    by_cell = min(0.0, math.log(2.0 * max(1, len(support))) - cells)
    by_all = _multinomial_log_tail(n * divergence, len(support))
    log_p = min(0.0, math.log(2.0) + min(by_cell, by_all))
    why = "one outcome" if by_cell <= by_all else "all outcomes together"
    return Evidence(math.exp(log_p), _tv(counts, law, n), worst, why)


def _tv(counts: Mapping[Any, int], law: Mapping[Any, float], n: int) -> float:
    return total_variation({k: c / n for k, c in counts.items()}, law)


def _multinomial_log_tail(t: float, k: int) -> float:
    free = k - 1
    if free < 1 or t <= free:
        return 0.0
    return min(0.0, -t + free * (1.0 + math.log(t / free)))


def tv_bound(draws: int, outcomes: int, error: float = ERROR_PROBABILITY) -> float:
    """Return how far observed frequencies may be from their law.

    Parameters
    ----------
    draws : int
        Independent draws.
    outcomes : int
        Possible outcomes.
    error : float, optional
        Probability with which the distance may be larger.

    Returns
    -------
    float
        Total variation; add it to an observed one to bound the true one.

    Examples
    --------
    >>> round(tv_bound(100_000, 8), 4)
    0.0115
    """
    return math.sqrt((outcomes * math.log(2.0) + math.log(1.0 / error)) / (2.0 * draws))


def assert_law(
    counts: Mapping[Any, int],
    law: Mapping[Any, float],
    *,
    error: float = ERROR_PROBABILITY,
) -> None:
    """Assert that counts are draws from a law.

    Parameters
    ----------
    counts : mapping
        Outcome to number of independent draws.
    law : mapping
        Outcome to probability.
    error : float, optional
        Bound on the probability that this raises for draws that are from the law.

    Raises
    ------
    AssertionError
        The draws are not from the law.

    Examples
    --------
    >>> assert_law({"a": 505, "b": 495}, {"a": 0.5, "b": 0.5})
    """
    found = law_evidence(counts, law)
    if found.p_value < error:
        n = sum(counts.values())
        raise AssertionError(
            f"{n} draws are not from the law: {found.why}, p <= {found.p_value:.2g} < {error:g}, "
            f"total variation {found.tv:.4g}, worst outcome {found.worst!r}: expected "
            f"{law.get(found.worst, 0.0):.6g}, observed {counts.get(found.worst, 0) / n:.6g}"
        )


def chi_square(
    counts: Mapping[Any, int], law: Mapping[Any, float], *, least: float = 5.0
) -> tuple[float, int, float]:
    """Return Pearson's statistic, its degrees of freedom and its asymptotic tail.

    Cells that expect fewer than `least` draws are pooled, rarest first. The tail is that of the
    chi-square law, which is an approximation far out; `assert_law` does not need one.

    Parameters
    ----------
    counts, law : mapping
        As for `assert_law`.
    least : float, optional
        Least expected count of a cell.

    Returns
    -------
    tuple
        ``(statistic, degrees of freedom, tail probability)``.
    """
    n = sum(counts.values())
    if n < 1:
        raise InputError("counts: no draws")
    if any(c and law.get(k, 0.0) <= 0.0 for k, c in counts.items()):
        return math.inf, max(1, len(law) - 1), 0.0
    cells: list[tuple[float, float]] = []
    pool = [0.0, 0.0]
    for key, p in sorted(law.items(), key=lambda item: item[1]):
        pool[0] += n * p
        pool[1] += counts.get(key, 0)
        if pool[0] >= least:
            cells.append((pool[0], pool[1]))
            pool = [0.0, 0.0]
    if pool[0] > 0.0 and cells:
        cells[-1] = (cells[-1][0] + pool[0], cells[-1][1] + pool[1])
    statistic = math.fsum((seen - want) ** 2 / want for want, seen in cells)
    free = len(cells) - 1
    return statistic, free, chi_square_tail(statistic, free)


def chi_square_tail(statistic: float, free: int) -> float:
    """Return the probability that a chi-square variable exceeds `statistic`.

    Examples
    --------
    >>> round(chi_square_tail(3.841458820694124, 1), 6)
    0.05
    """
    if free < 1 or statistic <= 0.0:
        return 1.0
    a, x = free / 2.0, statistic / 2.0
    scale = math.exp(a * math.log(x) - x - math.lgamma(a))
    if x < a + 1.0:
        term = total = 1.0 / a
        for i in range(1, 10_000):
            term *= x / (a + i)
            total += term
            if term < total * 1e-17:
                break
        return max(0.0, 1.0 - scale * total)
    b, tiny = x + 1.0 - a, 1e-300
    c, d = 1.0 / tiny, 1.0 / b
    h = d
    for i in range(1, 10_000):
        an = -i * (i - a)
        b += 2.0
        d = 1.0 / max(an * d + b, tiny)
        c = max(b + an / c, tiny)
        h *= d * c
        if abs(d * c - 1.0) < 1e-16:
            break
    return scale * h


def project(law: Mapping[Any, N], keep: Iterable[int]) -> dict[Any, N]:
    """Return the law of some positions of outcomes that are tuples."""
    places = tuple(keep)
    out: dict[Any, N] = {}
    for outcome, weight in law.items():
        assert isinstance(outcome, tuple)
        key = tuple(outcome[i] if i < len(outcome) else None for i in places)
        out[key] = out[key] + weight if key in out else weight
    return out
