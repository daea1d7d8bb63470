"""Families of target and draft laws: random ones, and those on which released code broke."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["FAMILIES", "Law", "law_pair", "normalise", "sampling_law", "softmax"]

Law = tuple[float, ...]
"""Probabilities of all tokens."""


def normalise(weights: np.ndarray | Law | list[float]) -> Law:
    """Return weights divided by their sum."""
    values = np.asarray(weights, dtype=np.float64)
    return tuple(float(x) for x in values / values.sum())


def softmax(logits: np.ndarray | Law | list[float]) -> np.ndarray:
    """Return the softmax in float64."""
    z = np.asarray(logits, dtype=np.float64)
    e = np.exp(z - z.max())
    out: np.ndarray = e / e.sum()
    return out


def sampling_law(
    logits: np.ndarray | list[float],
    *,
    temperature: float = 1.0,
    top_k: int = 0,
    top_p: float = 1.0,
    min_p: float = 0.0,
) -> np.ndarray:
    """Return the processed law of a row, the plain way.

    Temperature, then top-k (ties at the k-th go to the lowest id), then top-p on what top-k kept,
    then min-p. A temperature below 1e-5 is greedy, lowest id on ties.

    Parameters
    ----------
    logits : float array, shape (vocab,)
        ``-inf`` forbids.
    temperature, top_k, top_p, min_p : float or int
        As everywhere in this library; the defaults are neutral.

    Returns
    -------
    float64 array, shape (vocab,)
        Probabilities.

    Examples
    --------
    >>> import numpy as np
    >>> sampling_law(np.log([0.5, 0.25, 0.15, 0.07, 0.03]), top_p=0.8).round(4).tolist()
    [0.5556, 0.2778, 0.1667, 0.0, 0.0]
    """
    z = np.asarray(logits, dtype=np.float64)
    if temperature < 1e-5:
        out = np.zeros(len(z))
        out[int(z.argmax())] = 1.0
        return out
    p = softmax(z / temperature)
    order = np.argsort(-p, kind="stable")
    if 0 < top_k < len(p):
        p[order[top_k:]] = 0.0
        p /= p.sum()
    if top_p < 1.0:
        before = np.concatenate([[0.0], np.cumsum(p[order])[:-1]])
        drop = before >= top_p
        drop[0] = False
        p[order[drop]] = 0.0
        p /= p.sum()
    if min_p > 0.0:
        p[p < min_p * p.max()] = 0.0
        p /= p.sum()
    return p


def _dirichlet(alpha: float) -> Callable[[np.random.Generator, int], tuple[Law, Law]]:
    def draw(rng: np.random.Generator, n: int) -> tuple[Law, Law]:
        p, q = rng.dirichlet([alpha] * n, size=2)
        return normalise(p + 1e-9), normalise(q + 1e-9)

    return draw


def _equal(rng: np.random.Generator, n: int) -> tuple[Law, Law]:
    p = normalise(rng.dirichlet([1.0] * n) + 1e-3)
    return p, p


def _nearly_equal(gap: float) -> Callable[[np.random.Generator, int], tuple[Law, Law]]:
    def draw(rng: np.random.Generator, n: int) -> tuple[Law, Law]:
        p = np.array(normalise(rng.dirichlet([2.0] * n) + 0.05))
        tilt = np.ones(n)
        tilt[0], tilt[1] = 1.0 + gap, 1.0 - gap
        return normalise(p), normalise(p * tilt)

    return draw


def _disjoint(rng: np.random.Generator, n: int) -> tuple[Law, Law]:
    cut = int(rng.integers(1, n))
    order = rng.permutation(n)
    p, q = np.zeros(n), np.zeros(n)
    p[order[:cut]] = rng.random(cut) + 0.1
    q[order[cut:]] = rng.random(n - cut) + 0.1
    return normalise(p), normalise(q)


def _zeros(in_p: bool) -> Callable[[np.random.Generator, int], tuple[Law, Law]]:
    def draw(rng: np.random.Generator, n: int) -> tuple[Law, Law]:
        holes = rng.random(n) + 0.1
        holes[: max(1, n // 3)] = 0.0
        other = normalise(rng.random(n) + 0.1)
        pair = normalise(rng.permutation(holes)), other
        return pair if in_p else (pair[1], pair[0])

    return draw


def _one_hot(in_p: bool) -> Callable[[np.random.Generator, int], tuple[Law, Law]]:
    def draw(rng: np.random.Generator, n: int) -> tuple[Law, Law]:
        hot = np.zeros(n)
        hot[int(rng.integers(n))] = 1.0
        other = normalise(rng.random(n) + 0.1)
        return (normalise(hot), other) if in_p else (other, normalise(hot))

    return draw


def _tied(rng: np.random.Generator, n: int) -> tuple[Law, Law]:
    return normalise(rng.integers(1, 3, n) * 1.0), normalise(rng.integers(1, 3, n) * 1.0)


def _equal_ratios(rng: np.random.Generator, n: int) -> tuple[Law, Law]:
    p = rng.random(n) + 0.1
    q = p.copy()
    q[: n // 2] *= 2.0
    return normalise(p), normalise(q)


def _tiny(rng: np.random.Generator, n: int) -> tuple[Law, Law]:
    p, q = np.full(n, 1e-300), np.full(n, 1e-300)
    p[int(rng.integers(n))] = q[int(rng.integers(n))] = 1.0
    p[int(rng.integers(n))] = 5e-324
    if p.max() < 1.0:
        p[0] = 1.0
    return normalise(p), normalise(q)


def _toy(rng: np.random.Generator, n: int) -> tuple[Law, Law]:
    if n == 2:
        return (1 / 3, 2 / 3), (2 / 3, 1 / 3)
    if n == 3:
        return (
            ((0.5, 0.3, 0.2), (0.4, 0.35, 0.25))
            if rng.random() < 0.5
            else (
                (0.5, 0.3, 0.2),
                (0.2, 0.3, 0.5),
            )
        )
    if n == 4:
        return (0.4, 0.3, 0.2, 0.1), (0.1, 0.15, 0.25, 0.5)
    return _dirichlet(1.0)(rng, n)


FAMILIES: dict[str, Callable[[np.random.Generator, int], tuple[Law, Law]]] = {
    "toy": _toy,
    "flat dirichlet": _dirichlet(1.0),
    "sharp dirichlet": _dirichlet(0.3),
    "equal": _equal,
    "equal to 1e-4": _nearly_equal(1e-4),
    "equal to 1e-7": _nearly_equal(1e-7),
    "equal to 1e-10": _nearly_equal(1e-10),
    "disjoint supports": _disjoint,
    "zeros in p": _zeros(in_p=True),
    "zeros in q": _zeros(in_p=False),
    "one-hot p": _one_hot(in_p=True),
    "one-hot q": _one_hot(in_p=False),
    "tied": _tied,
    "equal ratios": _equal_ratios,
    "denormal": _tiny,
}
"""Families of pairs of a target and a draft law, by name."""


def law_pair(family: str, size: int, rng: np.random.Generator) -> tuple[Law, Law]:
    """Draw a target and a draft law of a family.

    Parameters
    ----------
    family : str
        One of `FAMILIES`.
    size : int
        Vocabulary size, at least 2.
    rng : numpy.random.Generator
        Source of the draw.

    Returns
    -------
    tuple
        ``(p, q)``.
    """
    return FAMILIES[family](rng, size)
