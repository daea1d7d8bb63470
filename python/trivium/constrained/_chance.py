"""Where the choices of this package come from, and how rows of logits are read.

Every choice is a draw from finitely many weights, so `trivium.testing.Enumerator` can stand in for
a generator and walk every outcome. The counter-addressed noise of `Speculator` has no address for
particles and rejected proposals yet; reproducibility is the seed of the generator.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

import numpy as np

from trivium.errors import DeadEnd, InputError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from trivium.grammar import Matcher


class Chance(Protocol):
    """What a procedure draws from."""

    def categorical(self, weights: NDArray[np.float64]) -> int:
        """Return an index with probability proportional to its weight."""


Rng: TypeAlias = "np.random.Generator | Chance | int"


class _Generated:
    def __init__(self, rng: np.random.Generator) -> None:
        self.rng = rng

    def categorical(self, weights: NDArray[np.float64]) -> int:
        ends = np.cumsum(weights)
        # `right` never ends on a weight of zero; rounding may reach the end, so the last positive.
        index = int(np.searchsorted(ends, self.rng.random() * ends[-1], side="right"))
        return index if index < len(ends) else int(np.flatnonzero(weights)[-1])


def chance(rng: Rng) -> Chance:
    """Wrap a generator or a seed; anything with ``categorical`` is taken as it is."""
    if isinstance(rng, int | np.integer):
        if rng < 0:
            raise InputError(f"rng: the seed {rng} is negative")
        return _Generated(np.random.default_rng(rng))
    if isinstance(rng, np.random.Generator):
        return _Generated(rng)
    if not callable(getattr(rng, "categorical", None)):
        raise InputError(
            f"rng: {type(rng).__name__} is no numpy Generator, seed or object with categorical()"
        )
    return rng


def log_softmax(logits: Any, name: str = "logits") -> NDArray[np.float64]:
    """Log-probabilities, float64, over the last axis; -inf is a token of probability 0."""
    try:
        rows = np.array(logits, np.float64)
    except (TypeError, ValueError) as e:
        raise InputError(f"{name}: not an array of numbers ({e})") from None
    if rows.ndim == 0 or rows.shape[-1] == 0:
        raise InputError(f"{name}: shape {rows.shape} has no row")
    if np.isnan(rows).any() or np.isposinf(rows).any():
        raise InputError(f"{name}: NaN or plus infinity")
    top = rows.max(axis=-1, keepdims=True)
    if not np.isfinite(top).all():
        raise InputError(f"{name}: a row of minus infinity only")
    rows -= top
    with np.errstate(divide="ignore"):
        rows -= np.log(np.exp(rows).sum(axis=-1, keepdims=True))
    return rows


def allowed(matcher: Matcher, width: int) -> NDArray[np.bool_]:
    """Tokens that may come next, bool, shape (width,); False beyond the mask.

    None at a dead end, which grammars with a checker have.
    """
    words = np.zeros(matcher.words, np.int32)
    with contextlib.suppress(DeadEnd):
        matcher.fill(words)
    bits = np.unpackbits(words.view(np.uint8), bitorder="little")[:width].astype(np.bool_)
    if len(bits) < width:
        bits = np.concatenate([bits, np.zeros(width - len(bits), np.bool_)])
    return bits


def at_least(name: str, value: Any, least: int) -> int:
    """Check a whole number."""
    if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < least:
        raise InputError(f"{name}: {value!r} is not a whole number of at least {least}")
    return int(value)
