"""What every front end returns, and what they share."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cache
from typing import TYPE_CHECKING

from trivium.errors import UnsupportedError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

__all__ = ["Parts", "byte_level", "byte_level_table", "unsupported"]


@dataclass
class Parts:
    """A tokenizer taken apart.

    Attributes
    ----------
    tokens : dict of int to bytes
        Text bytes of every id that stands for text. Ids that are missing are holes.
    special : dict of int to str
        Names of the ids that are symbols.
    eos : list of int
        End ids that the tokenizer itself declares.
    added : dict of int to str
        Added tokens declared as ordinary text: symbols after all if they end a sequence.
    """

    tokens: dict[int, bytes] = field(default_factory=dict)
    special: dict[int, str] = field(default_factory=dict)
    eos: list[int] = field(default_factory=list)
    added: dict[int, str] = field(default_factory=dict)

    def table(self, eos: Iterable[int]) -> tuple[list[bytes], dict[int, str]]:
        """Token bytes by id, holes as empty bytes, and the symbols, for the given end ids."""
        special = dict(self.special)
        special.update((t, self.added[t]) for t in eos if t in self.added)
        size = 1 + max((*self.tokens, *special), default=-1)
        tokens = [b""] * size
        for token, text in self.tokens.items():
            tokens[token] = text
        return tokens, special


def unsupported(feature: str, at: str, hint: str) -> UnsupportedError:
    """Build an `UnsupportedError` with the fields that the core sets on its own."""
    error = UnsupportedError(f"{feature} is not supported {at}: {hint}")
    error.feature = feature  # type: ignore[attr-defined]
    error.at = at  # type: ignore[attr-defined]
    error.hint = hint  # type: ignore[attr-defined]
    return error


@cache
def byte_level_table() -> dict[str, int]:
    """Map GPT-2's printable stand-ins back to bytes.

    Printable Latin-1 characters stand for themselves; the other 68 bytes, in order, are written as
    the characters from U+0100 on.
    """
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    table = {chr(b): b for b in printable}
    others = (b for b in range(256) if b not in set(printable))
    table.update({chr(0x100 + i): b for i, b in enumerate(others)})
    return table


def byte_level(table: dict[str, int]) -> Callable[[str], bytes]:
    """Make the inverse of a byte-level spelling; a token outside the alphabet is literal text."""

    def to_bytes(token: str) -> bytes:
        try:
            return bytes([table[c] for c in token])
        except KeyError:
            return token.encode()

    return to_bytes
