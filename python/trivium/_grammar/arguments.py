"""Checks of what callers pass: a typed error here, before anything is built."""

from __future__ import annotations

import json
import operator
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, SupportsIndex, TypedDict

from trivium._core import Cancel as CoreCancel
from trivium._core import Vocabulary as CoreVocabulary
from trivium.errors import InputError, InvalidSchema

if TYPE_CHECKING:
    from collections.abc import Sequence

    from trivium.vocabulary import Vocabulary


class Cancel:
    """A flag that ends the compiling of grammars, from any thread.

    It is polled where budgets are checked, hence within a few thousand units of work. The call that
    watches it raises `Cancelled`; nothing is left behind.

    Examples
    --------
    >>> from trivium import GrammarMask, Vocabulary
    >>> vocab = Vocabulary([b"a", b""], eos=[1])
    >>> flag = Cancel()
    >>> flag.set()
    >>> GrammarMask.regex("a+", vocab, cancel=flag)
    Traceback (most recent call last):
    ...
    trivium.errors.Cancelled: limit cancelled exceeded: 1 > 0
    """

    __slots__ = ("_core",)

    def __init__(self) -> None:
        self._core = CoreCancel()

    def set(self) -> None:
        """End the calls that watch the flag, those yet to come included."""
        self._core.set()

    def is_set(self) -> bool:
        """Say whether it was set."""
        return self._core.is_set()


def count(name: str, value: int, least: int) -> int:
    try:
        number = operator.index(value)
    except TypeError:
        raise InputError(f"{name}: {value!r} is not an integer") from None
    if not least <= number < 1 << 40:
        raise InputError(f"{name}: {number} is out of range, from {least} up")
    return number


class Budgets(TypedDict, total=False):
    """What compiling a grammar and using it may cost; see `GrammarMask.regex`."""

    max_states: int
    max_bytes: int
    max_ms: int
    mask_bytes: int
    cancel: Cancel | None


def budgets_of(
    given: Budgets, *, max_ms: int = 2_000
) -> tuple[int, int, int, int, CoreCancel | None]:
    """Budgets as the extension takes them; any other name is a `TypeError`, as for arguments."""
    unknown = given.keys() - Budgets.__annotations__
    if unknown:
        raise TypeError(f"unexpected keyword argument {min(unknown)!r}")
    cancel = given.get("cancel")
    if cancel is not None and not isinstance(cancel, Cancel):
        raise InputError(f"cancel: {type(cancel).__name__} is not a trivium.grammar.Cancel")
    return (
        count("max_states", given.get("max_states", 100_000), 1),
        count("max_bytes", given.get("max_bytes", 64 << 20), 1),
        count("max_ms", given.get("max_ms", max_ms), 0),
        count("mask_bytes", given.get("mask_bytes", 64 << 20), 0),
        None if cancel is None else cancel._core,
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
