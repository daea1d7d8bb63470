"""All randomness of a procedure under test, and the walk over every outcome of it.

A callable under test receives an `rng`. If it draws only through ``bernoulli`` and ``categorical``
its law is *enumerated*: the procedure runs once for every path of its decision tree, depth first
with a replay log, and each run contributes its probability. ``random`` and ``row`` are continuous;
a callable that uses them is tested statistically.
"""

from __future__ import annotations

import math
import random
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

import numpy as np

from trivium.errors import InputError, LimitError, StateError, UnsupportedError

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Sequence

    import numpy.typing as npt

__all__ = [
    "EdgeRng",
    "Enumerator",
    "NotEnumerable",
    "Rng",
    "SampledRng",
    "enumerate_law",
]

K = TypeVar("K", bound="Hashable")

EDGES = (0.0, 2.0**-53, 2.0**-33, 0.5, 1.0 - 2.0**-24, 1.0 - 2.0**-26, 1.0 - 2.0**-53)
"""Uniforms in [0, 1) at which released samplers broke: zero, and values that round to one."""


class NotEnumerable(UnsupportedError):  # noqa: N818 - says what the procedure is
    """The procedure drew from a continuous law, or is not a function of its `rng`."""


class Rng(Protocol):
    """What a callable under test draws from."""

    def bernoulli(self, num: float, den: float = 1.0) -> bool:
        """Return true with probability ``min(1, num / den)``, as ``u * den < num`` would.

        ``den = 0`` is true for positive `num` and false for 0.
        """

    def categorical(self, weights: Sequence[float] | npt.NDArray[Any]) -> int:
        """Return an index with probability proportional to its weight."""

    def row(self, key: Hashable) -> npt.NDArray[np.float64]:
        """Return unit exponentials, one a token; equal keys return equal noise within a run."""

    def random(self) -> float:
        """Return a uniform in [0, 1) with 53 bits."""


def _ratio(num: float, den: float) -> float:
    num, den = float(num), float(den)
    if not (num >= 0.0 and den >= 0.0 and math.isfinite(num) and math.isfinite(den)):
        raise InputError(f"bernoulli({num}, {den}): both must be finite and not negative")
    if den == 0.0:
        return 1.0 if num > 0.0 else 0.0
    return min(1.0, num / den)


def _weights(weights: Sequence[float] | npt.NDArray[Any]) -> list[float]:
    values = [float(w) for w in weights]
    total = sum(values)
    if not (total > 0.0 and math.isfinite(total) and min(values) >= 0.0):
        raise InputError(f"categorical({values}): weights must be finite, not negative, not all 0")
    return [w / total for w in values]


class Enumerator:
    """An `Rng` that takes one branch of every choice and remembers which.

    Attributes
    ----------
    probability : float
        Product of the branches taken in this run.
    continuous : bool
        Whether a continuous draw was asked for, even if the caller swallowed the error.
    """

    __slots__ = ("_depth", "_script", "continuous", "probability")

    def __init__(self) -> None:
        self._script: list[tuple[list[float], list[int]]] = []
        self._depth = 0
        self.probability = 1.0
        self.continuous = False

    def begin(self) -> None:
        """Start the next run."""
        self._depth = 0
        self.probability = 1.0

    def advance(self) -> bool:
        """Move to the next path; false when all were walked."""
        del self._script[self._depth :]
        while self._script:
            weights, taken = self._script[-1]
            nxt = next((i for i in range(taken[0] + 1, len(weights)) if weights[i] > 0.0), -1)
            if nxt >= 0:
                taken[0] = nxt
                return True
            self._script.pop()
        return False

    def _choose(self, weights: list[float]) -> int:
        if self._depth == len(self._script):
            self._script.append((weights, [next(i for i, w in enumerate(weights) if w > 0.0)]))
        known, taken = self._script[self._depth]
        if known != weights:
            self.continuous = True
            raise NotEnumerable("the procedure is not a function of its rng: a replay differed")
        self._depth += 1
        self.probability *= weights[taken[0]]
        return taken[0]

    def bernoulli(self, num: float, den: float = 1.0) -> bool:
        """Take one branch; see `Rng.bernoulli`."""
        p = _ratio(num, den)
        return self._choose([p, 1.0 - p]) == 0

    def categorical(self, weights: Sequence[float] | npt.NDArray[Any]) -> int:
        """Take one branch; see `Rng.categorical`."""
        return self._choose(_weights(weights))

    def row(self, key: Hashable) -> npt.NDArray[np.float64]:
        """Refuse: a race has no finite tree."""
        self.continuous = True
        raise NotEnumerable(f"row({key!r}): race noise cannot be enumerated")

    def random(self) -> float:
        """Refuse: a uniform has no finite tree."""
        self.continuous = True
        raise NotEnumerable("random(): a uniform cannot be enumerated")


def enumerate_law(fn: Callable[[Any], K], *, max_paths: int = 500_000) -> dict[K, float]:
    """Return the exact law of a procedure.

    Parameters
    ----------
    fn : callable
        ``fn(rng) -> outcome``, hashable. It must draw through ``rng.bernoulli`` and
        ``rng.categorical`` only.
    max_paths : int, optional
        Bound on the paths of the decision tree, each of which is one call.

    Returns
    -------
    dict
        Outcome to probability; the mass is 1 up to rounding.

    Raises
    ------
    NotEnumerable
        The procedure asked for ``random`` or ``row``, or draws from elsewhere.
    LimitError
        More than `max_paths` paths.

    Examples
    --------
    >>> enumerate_law(lambda rng: "a" if rng.bernoulli(1, 4) else "bc"[rng.categorical([1, 1])])
    {'a': 0.25, 'b': 0.375, 'c': 0.375}
    """
    rng = Enumerator()
    law: dict[K, float] = {}
    for _ in range(max_paths):
        rng.begin()
        outcome = fn(rng)
        if rng.continuous:
            raise NotEnumerable("the procedure drew from a continuous law")
        law[outcome] = law.get(outcome, 0.0) + rng.probability
        if not rng.advance():
            return law
    raise LimitError(f"more than max_paths={max_paths} paths")


class SampledRng:
    """An `Rng` of ordinary pseudo-random numbers.

    Parameters
    ----------
    seed : int
        Equal seeds give equal draws.
    vocab : int
        Length of `row`.
    """

    __slots__ = ("_bits", "_noise", "_rows", "vocab")

    def __init__(self, seed: int, vocab: int = 0) -> None:
        self._bits = random.Random(seed)
        self._noise = np.random.default_rng(seed)
        self._rows: dict[Hashable, npt.NDArray[np.float64]] = {}
        self.vocab = vocab

    def begin(self) -> None:
        """Start the next run: `row` forgets its keys."""
        self._rows.clear()

    def bernoulli(self, num: float, den: float = 1.0) -> bool:
        """Draw; see `Rng.bernoulli`."""
        return self._bits.random() < _ratio(num, den)

    def categorical(self, weights: Sequence[float] | npt.NDArray[Any]) -> int:
        """Draw; see `Rng.categorical`."""
        values = _weights(weights)
        left = self._bits.random()
        last = 0
        for i, w in enumerate(values):
            if w > 0.0:
                if left < w:
                    return i
                last = i
                left -= w
        return last

    def row(self, key: Hashable) -> npt.NDArray[np.float64]:
        """Draw, or return what `key` drew in this run; see `Rng.row`."""
        if self.vocab < 1:
            raise StateError("row: this rng was made without a vocabulary size")
        noise = self._rows.get(key)
        if noise is None:
            noise = self._noise.standard_exponential(self.vocab)
            self._rows[key] = noise
        return noise.copy()

    def random(self) -> float:
        """Draw; see `Rng.random`."""
        return self._bits.random()


class EdgeRng(SampledRng):
    """A `SampledRng` whose uniforms are the edges at which samplers break.

    Parameters
    ----------
    seed : int
        As for `SampledRng`.
    vocab : int
        As for `SampledRng`.
    edge : float
        Value of the uniforms.
    at : int, optional
        Only this call of ``random`` returns the edge; all of them when absent.
    """

    __slots__ = ("_at", "_calls", "_edge")

    def __init__(self, seed: int, vocab: int, edge: float, at: int | None = None) -> None:
        super().__init__(seed, vocab)
        self._edge = edge
        self._at = at
        self._calls = 0

    def random(self) -> float:
        """Return the edge, or draw."""
        call, self._calls = self._calls, self._calls + 1
        return self._edge if self._at is None or self._at == call else super().random()
