"""Adaptive weighted rejection sampling: a token under a constraint that is costly to test.

Lipkin et al., "Fast Controlled Generation from Language Models with Adaptive Weighted Rejection
Sampling".

A checker (a parser, a type checker, a model's verdict) answers for one token at a time, so the mass
``Z = sum_v p(v) m(v)`` of the allowed tokens is out of reach. Tokens are proposed from `p` and
tested until one passes; the weight returned with it is an unbiased estimate of `Z`, jointly:
``E[weight * 1(token = v)] = p(v) m(v)``. The product of the weights over a text is then a proper
importance weight, as ``Matcher.apply`` gives it exactly for a grammar.

Use it for checkers only: a mask of `GrammarMask` costs microseconds and gives `Z` itself.

*Recursive form.* Proposals without replacement. With `R` the mass rejected before the accepted
token `x`, one further token is tested: the estimate is ``1 - R`` if it passes, ``p(x)`` if not.

*Geometric form.* Proposals with replacement are simulated without testing a token twice: the number
of draws that would have hit rejected tokens is geometric. After `a` accepted and `r` rejected draws
the estimate is ``min(max_accepts - 1, a) / (a + r - 1)``.

Cost: tests are few (two on average where `p` is peaked on allowed tokens), each proposal is one
pass over the row, O(V).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from trivium.constrained._chance import at_least, chance, log_softmax
from trivium.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from trivium.constrained._chance import Chance, Rng

__all__ = ["Weighted", "awrs"]


@dataclass(frozen=True, slots=True)
class Weighted:
    """A token and its importance weight.

    Attributes
    ----------
    token : int or None
        None where every test failed; the weight is then 0.
    log_weight : float
        Natural log of the unbiased estimate of the allowed mass; ``-inf`` for 0.
    tests : int
        Calls of the checker.
    """

    token: int | None
    log_weight: float
    tests: int


def awrs(
    logits: Any,
    accepts: Callable[[int], bool],
    *,
    rng: Rng,
    form: Literal["auto", "recursive", "geometric"] = "auto",
    max_accepts: int = 2,
    max_rejects: int = 1_000,
    keep: Any | None = None,
) -> Weighted:
    """Draw one token that a checker accepts, with an unbiased estimate of the accepted mass.

    Parameters
    ----------
    logits : float array, shape (V,)
        Logits or log-probabilities of the next token; ``-inf`` is probability 0.
    accepts : callable of int to bool
        The checker; asked at most once a token. It must not change between the calls.
    rng : numpy.random.Generator, int, or an object with ``categorical(weights) -> int``
        An int is a seed.
    form : {"auto", "recursive", "geometric"}, optional
        ``"auto"``: geometric if `max_accepts` > 2 or some token has probability 2/3 or more, where
        fewer than two tests are expected; else recursive.
    max_accepts : int, optional
        Accepted draws after which the geometric form stops, at least 2.
    max_rejects : int, optional
        Rejections after which the draw gives up with weight 0; the weight stays unbiased.
    keep : bool array, shape (V,), optional
        Tokens that can pass at all; padding and special tokens are False. The others are never
        proposed, and their mass enters the weight.

    Returns
    -------
    Weighted

    Raises
    ------
    InputError
        Shapes, NaN, numbers out of range, an unknown form.

    Examples
    --------
    >>> awrs([2.0, 1.0, 0.0], lambda token: token == 2, rng=0).token
    2
    """
    row = log_softmax(logits)
    if row.ndim != 1:
        raise InputError(f"logits: shape {row.shape} is not one row")
    accepted_cap = at_least("max_accepts", max_accepts, 2)
    cap = at_least("max_rejects", max_rejects, 1)
    if form not in ("auto", "recursive", "geometric"):
        raise InputError(f'form: {form!r} is not "auto", "recursive" or "geometric"')
    source = chance(rng)
    p = np.exp(row)
    kept = 1.0
    if keep is not None:
        mask = np.asarray(keep)
        if mask.shape != p.shape or mask.dtype != np.bool_:
            raise InputError(f"keep: needs bool, shape {p.shape}")
        p = np.where(mask, p, 0.0)
        kept = float(p.sum())
        if kept <= 0.0:
            return Weighted(None, -np.inf, 0)
        p /= kept
    if form == "auto":
        form = "geometric" if accepted_cap > 2 or p.max() >= 2 / 3 else "recursive"
    if form == "recursive":
        token, estimate, tests = _recursive(p, accepts, source, cap)
    else:
        token, estimate, tests = _geometric(p, accepts, source, accepted_cap, cap)
    with np.errstate(divide="ignore"):
        return Weighted(token, float(np.log(kept) + np.log(estimate)), tests)


def _recursive(
    p: NDArray[np.float64], accepts: Callable[[int], bool], source: Chance, cap: int
) -> tuple[int | None, float, int]:
    rest = p.copy()
    for rejected in range(cap):
        # The sum of what is left, not one minus what is gone: that one cancels.
        left = float(rest.sum())
        if left <= 0.0:
            return None, 0.0, rejected
        token = source.categorical(rest)
        rest[token] = 0.0
        if not accepts(token):
            continue
        if rejected + 1 == cap or not rest.any():
            return token, left, rejected + 1
        second = source.categorical(rest)
        estimate = left if accepts(second) else float(p[token])
        return token, estimate, rejected + 2
    return None, 0.0, cap


def _geometric(
    p: NDArray[np.float64],
    accepts: Callable[[int], bool],
    source: Chance,
    accepted_cap: int,
    cap: int,
) -> tuple[int | None, float, int]:
    rest = p.copy()
    verdicts: dict[int, bool] = {}
    first: int | None = None
    accepted = rejected = 0
    gone = 0.0  # mass of the rejected tokens
    while accepted < accepted_cap and rejected < cap:
        left = float(rest.sum())
        if left <= 0.0:
            rejected = cap
            break
        if gone > 0.0:
            rejected += _repeats(gone / (gone + left), cap - rejected, source)
            if rejected == cap:
                break
        token = source.categorical(rest)
        if token not in verdicts:
            verdicts[token] = bool(accepts(token))
        if verdicts[token]:
            accepted += 1
            first = token if first is None else first
        else:
            rejected += 1
            gone += float(rest[token])
            rest[token] = 0.0
    if first is None:
        return None, 0.0, len(verdicts)
    return first, min(accepted_cap - 1, accepted) / (accepted + rejected - 1), len(verdicts)


def _repeats(gone: float, room: int, source: Chance) -> int:
    """Draws that fall on rejected tokens before one does not, clipped: unclipped it is biased."""
    runs = gone ** np.arange(room + 1, dtype=np.float64)
    runs[:-1] *= 1.0 - gone
    return source.categorical(runs)
