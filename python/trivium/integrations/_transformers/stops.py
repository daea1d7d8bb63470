"""Stop strings over token bytes, so that one split across tokens is found where it completes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

from trivium.errors import InputError
from trivium.vocabulary import Vocabulary

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["Stops"]

_VOCABULARIES: WeakKeyDictionary[Any, Vocabulary] = WeakKeyDictionary()


def _vocabulary(tokenizer: Any) -> Vocabulary:
    if isinstance(tokenizer, Vocabulary):
        return tokenizer
    try:
        found = _VOCABULARIES.get(tokenizer)
    except TypeError:  # not hashable or without weak references
        return Vocabulary.from_tokenizer(tokenizer)
    if found is None:
        found = _VOCABULARIES[tokenizer] = Vocabulary.from_tokenizer(tokenizer)
    return found


class Stops:
    """Finds the token that completes a stop string.

    A request remembers only the last bytes in which a stop string may have begun; the scan costs
    the bytes of the new tokens times the number of stop strings.
    """

    def __init__(self, strings: str | Iterable[str] | None, tokenizer: Any | None) -> None:
        strings = [strings] if isinstance(strings, str) else list(strings or ())
        if any(not isinstance(s, str) or not s for s in strings):
            raise InputError("stop_strings: must be non-empty strings")
        if strings and tokenizer is None:
            raise InputError("stop_strings: need tokenizer=, which says what the tokens spell")
        self.strings = strings
        self._stops = [s.encode() for s in strings]
        self._keep = max((len(s) for s in self._stops), default=1) - 1
        self._vocabulary = _vocabulary(tokenizer) if strings else None

    def scan(self, tail: bytes, tokens: list[int]) -> tuple[int | None, bytes]:
        """How many of `tokens` reach a stop string (None: none does), and the next tail."""
        vocabulary = self._vocabulary
        if vocabulary is None:
            return None, b""
        for i, token in enumerate(tokens):
            # Rows beyond the tokenizer are padding of the logits and spell nothing.
            tail += vocabulary.token(token) if token < len(vocabulary) else b""
            if any(s in tail for s in self._stops):
                return i + 1, tail
            tail = tail[max(0, len(tail) - self._keep) :]
        return None, tail

    def cut(self, text: str) -> str:
        """`text` up to the first stop string, which is left out."""
        ends = [at for at in (text.find(s) for s in self.strings) if at >= 0]
        return text[: min(ends)] if ends else text
