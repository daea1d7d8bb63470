"""Prompts and per-request columns as plain Python values."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from trivium.errors import InputError, TokenError

__all__ = ["column", "end_ids", "prompts_of"]


def _nested(value: Any) -> Any:
    """Make lists of tensors, arrays and sequences of them."""
    if hasattr(value, "tolist"):
        return value.tolist()
    if isinstance(value, (str, bytes)) or not isinstance(value, Iterable):
        return value
    return [_nested(v) for v in value]


def _rows(name: str, value: Any) -> list[list[Any]]:
    rows = _nested(value)
    if not isinstance(rows, list):
        raise InputError(f"{name}: must be token ids of one or several requests, got {value!r}")
    if rows and not any(isinstance(row, list) for row in rows):
        rows = [rows]
    if not all(isinstance(row, list) for row in rows):
        raise InputError(f"{name}: mixes ids and lists of ids")
    if any(isinstance(x, list) for row in rows for x in row):
        raise InputError(f"{name}: has more than two dimensions")
    return rows


def prompts_of(input_ids: Any, attention_mask: Any | None, vocab_size: int) -> list[list[int]]:
    """Prompts without padding.

    Raises
    ------
    InputError
        No request, an empty prompt, ids that are not integers, a mask of another shape.
    TokenError
        An id outside the vocabulary.
    """
    if isinstance(input_ids, Mapping):
        if attention_mask is None:
            attention_mask = input_ids.get("attention_mask")
        input_ids = input_ids["input_ids"]
    prompts = _rows("input_ids", input_ids)
    if not prompts:
        raise InputError("input_ids: holds no request")
    if attention_mask is not None:
        mask = _rows("attention_mask", attention_mask)
        if [len(m) for m in mask] != [len(p) for p in prompts]:
            raise InputError("attention_mask: has another shape than input_ids")
        prompts = [
            [t for t, keep in zip(p, m, strict=True) if keep]
            for p, m in zip(prompts, mask, strict=True)
        ]
    for i, prompt in enumerate(prompts):
        if not prompt:
            raise InputError(
                f"input_ids: prompt {i} is empty; start with one token, for example bos"
            )
        for token in prompt:
            if isinstance(token, bool) or not isinstance(token, int):
                raise InputError(f"input_ids: prompt {i} holds {token!r}, which is no integer")
            if not 0 <= token < vocab_size:
                raise TokenError(
                    f"token {token} of prompt {i} is outside the {vocab_size} rows of the logits"
                )
    return prompts


def column(name: str, value: Any, n: int) -> list[Any]:
    """One value a request, from a scalar or a sequence of n values."""
    if hasattr(value, "tolist"):
        value = value.tolist()
    if not isinstance(value, Sequence) or isinstance(value, str):
        return [value] * n
    if len(value) != n:
        raise InputError(f"{name}: {len(value)} values for {n} requests")
    return list(value)


def end_ids(value: Any) -> frozenset[int]:
    """Ids that end a request, from None, an id or several."""
    if value is None:
        return frozenset()
    value = _nested(value)
    ids = value if isinstance(value, list) else [value]
    if any(isinstance(t, bool) or not isinstance(t, int) for t in ids):
        raise InputError(f"eos_token_id: must be an id or a list of ids, got {value!r}")
    return frozenset(ids)
