"""Wrong samplers: rounding, off-by-one and order mistakes that engines have shipped."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from trivium.testing.laws import sampling_law, softmax
from trivium.testing.planted._base import Planted
from trivium.testing.reference import _cdf
from trivium.testing.samplers import Params, check_sampler

if TYPE_CHECKING:
    from trivium.testing.chance import Rng

__all__ = ["SAMPLERS"]


def _law(logits: Any, params: Params, **changes: Any) -> np.ndarray:
    return sampling_law(logits, **{**params.law(), **changes})


def uniform_of_zero(logits: Any, params: Params, rng: Rng) -> int:
    """Take the first token whose cumulative probability reaches u: u = 0 takes a forbidden one."""
    u = np.float32(rng.random())
    return min(int(np.searchsorted(np.cumsum(_law(logits, params)), u)), len(logits) - 1)


def uniform_rounds_to_one(logits: Any, params: Params, rng: Rng) -> int:
    """Round the uniform to float32, where it can be 1 and runs past the last allowed token."""
    u = np.float32(rng.random())
    sums = np.cumsum(_law(logits, params))
    return min(int(np.searchsorted(sums, u, side="right")), len(logits) - 1)


def top_p_without_crossing_token(logits: Any, params: Params, rng: Rng) -> int:
    """Keep the tokens whose cumulative probability is at most top-p, not the one that crosses."""
    p = _law(logits, params, top_p=1.0, min_p=0.0)
    order = np.argsort(-p, kind="stable")
    drop = np.cumsum(p[order]) > params.top_p + 1e-9
    drop[0] = False
    p[order[drop]] = 0.0
    p[p < params.min_p * p.max()] = 0.0
    return rng.categorical(p)


def truncation_before_temperature(logits: Any, params: Params, rng: Rng) -> int:
    """Truncate at temperature 1, then temper what is left."""
    if params.temperature < 1e-5:
        return int(np.argmax(logits))
    kept = _law(logits, params, temperature=1.0) > 0.0
    z = np.where(kept, np.asarray(logits, dtype=np.float64), -np.inf)
    return rng.categorical(softmax(z / params.temperature))


def top_k_off_by_one(logits: Any, params: Params, rng: Rng) -> int:
    """Keep one token more than top-k says."""
    return rng.categorical(_law(logits, params, top_k=params.top_k + 1 if params.top_k else 0))


def min_p_absolute(logits: Any, params: Params, rng: Rng) -> int:
    """Compare min-p with the probability itself, not with its ratio to the largest."""
    p = _law(logits, params, min_p=0.0)
    p[(p < params.min_p) & (p < p.max())] = 0.0
    return rng.categorical(p)


def not_renormalised(logits: Any, params: Params, rng: Rng) -> int:
    """Draw from truncated probabilities that were not divided by what is left of them."""
    p = _law(logits, params, top_k=0, top_p=1.0, min_p=0.0)
    kept = np.where(_law(logits, params) > 0.0, p, 0.0)
    drawn = rng.categorical([*kept, max(0.0, 1.0 - kept.sum())])
    return drawn if drawn < len(p) else int(np.flatnonzero(kept)[-1])


def top_p_before_top_k(logits: Any, params: Params, rng: Rng) -> int:
    """Measure top-p on the whole law, where top-k should have cut it first."""
    p = _law(logits, params, top_k=0, min_p=0.0)
    order = np.argsort(-p, kind="stable")
    if params.top_k:
        p[order[params.top_k :]] = 0.0
    p[p < params.min_p * p.max()] = 0.0
    return rng.categorical(p)


def temperature_multiplies(logits: Any, params: Params, rng: Rng) -> int:
    """Multiply by the temperature."""
    t = params.temperature
    return rng.categorical(_law(logits, params, temperature=1.0 / t if t > 1e-5 else 0.0))


def softmax_without_maximum(logits: Any, params: Params, rng: Rng) -> int:
    """Exponentiate without taking the maximum off."""
    if params.temperature < 1e-5:
        return int(np.argmax(logits))
    e = np.exp(np.asarray(logits, dtype=np.float32) / np.float32(params.temperature))
    kept = _law(logits, params) > 0.0
    return rng.categorical(np.where(kept, e / e.sum(), 0.0))


def half_precision_sum(logits: Any, params: Params, rng: Rng) -> int:
    """Add probabilities up in half precision, where a long tail stops counting."""
    p = _law(logits, params)
    total = np.float16(0.0)
    sums = []
    for x in p:
        total = np.float16(total + np.float16(x))
        sums.append(float(total))
    weights = np.diff([0.0, *sums])
    return rng.categorical(weights)


def greedy_tie_to_last(logits: Any, params: Params, rng: Rng) -> int:
    """Resolve ties of greedy decoding to the highest id."""
    if params.temperature < 1e-5:
        return len(logits) - 1 - int(np.argmax(np.asarray(logits)[::-1]))
    return rng.categorical(_law(logits, params))


def rank_for_token(logits: Any, params: Params, rng: Rng) -> int:
    """Return the rank in the sorted row where its token id is due."""
    p = _law(logits, params)
    if params.top_p < 1.0:
        return rng.categorical(np.sort(p)[::-1])
    return rng.categorical(p)


def forbidden_at_minus_ten_thousand(logits: Any, params: Params, rng: Rng) -> int:
    """Mask with -10,000, which is not below every logit."""
    z = np.maximum(np.asarray(logits, dtype=np.float64), -10_000.0)
    z = np.where(np.isneginf(np.asarray(logits)), -4.0, z)
    return rng.categorical(_law(z, params))


def gumbel_of_zero(logits: Any, params: Params, rng: Rng) -> int:
    """Take ``-log(-log u)`` of uniforms that can be 0: the key of a forbidden token is then NaN."""
    law = _law(logits, params)
    if params.temperature < 1e-5:
        return int(np.argmax(law))
    keys = np.log(law) - np.log(-np.log(np.array([np.float32(rng.random()) for _ in law])))
    return int(np.argmax(keys))


def cdf_of_unsorted_ids(logits: Any, params: Params, rng: Rng) -> int:
    """Walk the sorted law but stop one token late."""
    p = _law(logits, params)
    order = np.argsort(-p, kind="stable")
    at = _cdf(p[order], rng.random())
    return int(order[min(at + (at > 0), int((p > 0).sum()) - 1)])


_ALL = (
    uniform_of_zero,
    uniform_rounds_to_one,
    top_p_without_crossing_token,
    truncation_before_temperature,
    top_k_off_by_one,
    min_p_absolute,
    not_renormalised,
    top_p_before_top_k,
    temperature_multiplies,
    softmax_without_maximum,
    half_precision_sum,
    greedy_tie_to_last,
    rank_for_token,
    forbidden_at_minus_ten_thousand,
    gumbel_of_zero,
    cdf_of_unsorted_ids,
)

SAMPLERS: tuple[Planted, ...] = tuple(
    Planted(fn.__name__, "sampler", fn, check_sampler) for fn in _ALL
)
"""Wrong samplers."""
