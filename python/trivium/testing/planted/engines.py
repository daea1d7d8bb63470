"""Wrong engines over the tiny model: loops that are right token by token and wrong as a whole."""

from __future__ import annotations

import itertools
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np

from trivium.testing import models
from trivium.testing.chance import SampledRng
from trivium.testing.engines import EngineParams, check_engine
from trivium.testing.planted._base import Planted
from trivium.testing.reference import _cdf, plain_engine, residual, speculative_engine

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["ENGINES"]

_TARGET = cache(models.target)
_DRAFT = cache(models.draft)


def _cut(out: list[int], params: EngineParams) -> list[int]:
    out = out[: params.max_new_tokens]
    if params.eos_token_id in out:
        out = out[: out.index(params.eos_token_id) + 1]
    return out


def one_uniform_a_request(prompt: Sequence[int], seed: int, params: EngineParams) -> list[int]:
    """Draw every position with the same uniform: the noise is keyed by the seed alone."""
    out: list[int] = []
    model, u = _TARGET(), SampledRng(seed).random()
    for _ in range(params.max_new_tokens):
        out.append(_cdf(model.law((*prompt, *out), params), u))
    return _cut(out, params)


def noise_by_step(prompt: Sequence[int], seed: int, params: EngineParams) -> list[int]:
    """Key the noise by the step, so that all tokens of one speculative step share it."""
    out: list[int] = []
    model, draft, step = _TARGET(), _DRAFT(), 0
    while len(out) < params.max_new_tokens:
        u, step = SampledRng(seed * 1000 + step).random(), step + 1
        for _ in range(2):
            text = (*prompt, *out)
            drafted = _cdf(draft.law(text, params), u)
            out.append(_cdf(model.law(text, params), u))
            if out[-1] != drafted:
                break
    return _cut(out, params)


def shared_noise(prompt: Sequence[int], seed: int, params: EngineParams) -> list[int]:
    """Draw draft and residual by one uniform a position, with a ratio test between them."""
    out: list[int] = []
    model, draft = _TARGET(), _DRAFT()
    while len(out) < params.max_new_tokens:
        text = (*prompt, *out)
        rng = SampledRng(seed * 1000 + len(out))
        u = rng.random()
        p, q = model.law(text, params), draft.law(text, params)
        token = _cdf(q, u)
        accept = rng.random() * q[token] < p[token]
        out.append(token if accept else _cdf(residual(p, q), u))
    return _cut(out, params)


def goes_on_after_end(prompt: Sequence[int], seed: int, params: EngineParams) -> list[int]:
    """Look for the end token in the last token of a step only."""
    out: list[int] = []
    model, rng = _TARGET(), SampledRng(seed)
    while len(out) < params.max_new_tokens:
        for _ in range(2):
            out.append(_cdf(model.law((*prompt, *out), params), rng.random()))
        if out[-1] == params.eos_token_id:
            break
    return out[: params.max_new_tokens]


def end_token_dropped(prompt: Sequence[int], seed: int, params: EngineParams) -> list[int]:
    """Cut the text before its end token."""
    out = plain_engine(_TARGET(), prompt, seed, params)
    return out[:-1] if out[-1] == params.eos_token_id else out


def early_end_retried(prompt: Sequence[int], seed: int, params: EngineParams) -> list[int]:
    """Draw the first token again when it is the end token."""
    out: list[int] = []
    model, rng = _TARGET(), SampledRng(seed)
    while len(out) < params.max_new_tokens:
        p = model.law((*prompt, *out), params)
        token = _cdf(p, rng.random())
        if not out and token == params.eos_token_id:
            token = _cdf(p, rng.random())
        out.append(token)
        if token == params.eos_token_id:
            break
    return out


def cache_not_cropped(prompt: Sequence[int], seed: int, params: EngineParams) -> list[int]:
    """Leave a rejected draft in the key/value cache, where later rows see it."""
    model, draft, rng = _TARGET(), _DRAFT(), SampledRng(seed)
    out: list[int] = []
    seen = list(prompt)
    while len(out) < params.max_new_tokens:
        q, p = draft.law(seen, params), model.law(seen, params)
        token = _cdf(q, rng.random())
        if rng.random() * q[token] < p[token]:
            out.append(token)
            seen.append(token)
        else:
            fixed = _cdf(residual(p, q), rng.random())
            out.append(fixed)
            seen += [token, fixed]
    return _cut(out, params)


def truncation_of_first_token_only(
    prompt: Sequence[int], seed: int, params: EngineParams
) -> list[int]:
    """Apply top-k and top-p to the first token of each step only."""
    out: list[int] = []
    model, rng = _TARGET(), SampledRng(seed)
    loose = EngineParams(temperature=params.temperature, max_new_tokens=params.max_new_tokens)
    while len(out) < params.max_new_tokens:
        law = model.law((*prompt, *out), loose if len(out) % 2 else params)
        out.append(_cdf(law, rng.random()))
    return _cut(out, params)


def draft_at_temperature_one(prompt: Sequence[int], seed: int, params: EngineParams) -> list[int]:
    """Draw drafts at temperature 1 and verify them with the tempered draft law."""
    out: list[int] = []
    model, draft, rng = _TARGET(), _DRAFT(), SampledRng(seed)
    neutral = EngineParams()
    while len(out) < params.max_new_tokens:
        text = (*prompt, *out)
        token = _cdf(draft.law(text, neutral), rng.random())
        p, q = model.law(text, params), draft.law(text, params)
        accept = q[token] <= 0.0 or rng.random() * q[token] < p[token]
        out.append(token if accept else _cdf(residual(p, q), rng.random()))
    return _cut(out, params)


def row_of_the_prefix(prompt: Sequence[int], seed: int, params: EngineParams) -> list[int]:
    """Verify the second draft of a step with the row of the first."""
    out: list[int] = []
    model, rng = _TARGET(), SampledRng(seed)
    while len(out) < params.max_new_tokens:
        text = (*prompt, *out)
        if len(out) % 2:
            text = text[:-1]
        out.append(_cdf(model.law(text, params), rng.random()))
    return _cut(out, params)


_calls = itertools.count()


def global_generator(prompt: Sequence[int], seed: int, params: EngineParams) -> list[int]:
    """Ignore the seed: draw from a generator that all requests share."""
    return plain_engine(_TARGET(), prompt, seed + 7919 * next(_calls), params)


def overlong_step_redrawn(prompt: Sequence[int], seed: int, params: EngineParams) -> list[int]:
    """Throw an accepted step away when it exceeds the length, and draw again until one fits."""
    out: list[int] = []
    model, rng = _TARGET(), SampledRng(seed)
    draft = _DRAFT()
    while len(out) < params.max_new_tokens:
        step: list[int] = []
        for _ in range(2):
            text = (*prompt, *out, *step)
            guess = int(np.argmax(draft.law(text, params)))
            step.append(_cdf(model.law(text, params), rng.random()))
            if step[-1] != guess:
                break
        if len(out) + len(step) <= params.max_new_tokens:
            out += step
    return _cut(out, params)


def speculative_and_plain_differ(
    prompt: Sequence[int], seed: int, params: EngineParams
) -> list[int]:
    """Promise the plain loop's text for a seed, keep only its law."""
    return speculative_engine(_TARGET(), _DRAFT(), prompt, seed, params)


def _check_path(fn: Any, **options: Any) -> Any:
    def plain(prompt: Sequence[int], seed: int, params: EngineParams) -> list[int]:
        return plain_engine(_TARGET(), prompt, seed, params)

    return check_engine(fn, plain=plain, **options)


_LAW = (
    one_uniform_a_request,
    noise_by_step,
    shared_noise,
    goes_on_after_end,
    end_token_dropped,
    early_end_retried,
    cache_not_cropped,
    truncation_of_first_token_only,
    draft_at_temperature_one,
    row_of_the_prefix,
    global_generator,
    overlong_step_redrawn,
)

ENGINES: tuple[Planted, ...] = (
    *(Planted(fn.__name__, "engine", fn, check_engine) for fn in _LAW),
    Planted(
        speculative_and_plain_differ.__name__, "engine", speculative_and_plain_differ, _check_path
    ),
)
"""Wrong engines."""
