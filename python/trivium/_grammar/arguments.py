"""Checks of what callers pass: a typed error here, before anything is built."""

from __future__ import annotations

import json
import operator
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, SupportsIndex

from trivium._core import Vocabulary as CoreVocabulary
from trivium.errors import InputError, InvalidSchema

if TYPE_CHECKING:
    from collections.abc import Sequence

    from trivium.vocabulary import Vocabulary


def count(name: str, value: int, least: int) -> int:
    try:
        number = operator.index(value)
    except TypeError:
        raise InputError(f"{name}: {value!r} is not an integer") from None
    if not least <= number < 1 << 40:
        raise InputError(f"{name}: {number} is out of range, from {least} up")
    return number


def budgets_of(
    max_states: int, max_bytes: int, max_ms: int, mask_bytes: int
) -> tuple[int, int, int, int]:
    return (
        count("max_states", max_states, 1),
        count("max_bytes", max_bytes, 1),
        count("max_ms", max_ms, 0),
        count("mask_bytes", mask_bytes, 0),
    )


def core_vocab(vocab: Vocabulary) -> CoreVocabulary:
    core = getattr(vocab, "_core", None)
    if not isinstance(core, CoreVocabulary):
        raise InputError(f"vocab: {type(vocab).__name__} is not a trivium.Vocabulary")
    return core


def raw_bytes(name: str, text: str | bytes) -> bytes:
    if isinstance(text, str):
        try:
            return text.encode()
        except UnicodeEncodeError:
            raise InputError(f"{name}: lone surrogates are no text") from None
    if not isinstance(text, bytes):
        raise InputError(f"{name}: {type(text).__name__} is not str or bytes")
    return text


def trigger_of(given: str | int | Sequence[int]) -> str | list[int]:
    """Check a trigger: a text, or ids of special tokens."""
    if isinstance(given, str):
        raw_bytes("trigger", given)
        return given
    try:
        ids = [given] if isinstance(given, SupportsIndex) else list(given)
    except TypeError:
        raise InputError(f"trigger: {type(given).__name__} is not str, int or a list") from None
    return [min(count("trigger", t, 0), (1 << 32) - 1) for t in ids]


def json_text(name: str, value: object) -> str:
    """Give the JSON text of a schema, which may be one already."""
    if isinstance(value, str):
        raw_bytes(name, value)
        return value
    if isinstance(value, Mapping):
        value = dict(value)
    elif not isinstance(value, bool):
        raise InputError(f"{name}: {type(value).__name__} is not a str, dict or bool")
    try:
        return json.dumps(value, allow_nan=False)
    except (TypeError, ValueError, RecursionError) as e:
        raise InvalidSchema(f"{name}: {e}") from None


def whitespace_of(given: str | tuple[str, int]) -> str | int:
    if isinstance(given, str):
        return given
    if isinstance(given, tuple) and len(given) == 2 and given[0] == "indent":
        width = count("whitespace", given[1], 0)
        if width <= 16:
            return width
    raise InputError(f"whitespace: {given!r} is not a name, a pattern or ('indent', 0 to 16)")


def token_id(token: int) -> int:
    try:
        number = operator.index(token)
    except TypeError:
        raise InputError(f"token: {token!r} is not an integer") from None
    # Beyond 64 bits is as far outside as -1.
    return number if -(1 << 63) <= number < 1 << 63 else -1


def token_ids(tokens: Any) -> Any:
    return list(tokens) if isinstance(tokens, tuple | range) else tokens
