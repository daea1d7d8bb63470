"""`Vocabulary`: the bytes of every token id, end ids, logits width."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any, Self

from trivium import _core

__all__ = ["Vocabulary"]


class Vocabulary:
    """Token bytes, special tokens, end-of-sequence ids and logits width. Immutable."""

    __slots__ = ("_core",)

    _core: _core.Vocabulary

    def __init__(
        self,
        tokens: Sequence[bytes],
        *,
        eos: Sequence[int],
        special: Mapping[int, str] | None = None,
        num_rows: int | None = None,
    ) -> None:
        self._core = _core.Vocabulary(
            list(tokens), list(eos), list((special or {}).items()), num_rows
        )

    @classmethod
    def _wrap(cls, inner: _core.Vocabulary) -> Self:
        self = cls.__new__(cls)
        self._core = inner
        return self

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Self:
        """Read a file of `save`."""
        return cls._wrap(_core.Vocabulary.load(path))

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write a ``trivium-vocab-1`` file."""
        self._core.save(path)

    def __len__(self) -> int:
        return len(self._core)

    @property
    def num_rows(self) -> int:
        """Width of the logits."""
        return self._core.num_rows

    @property
    def eos(self) -> list[int]:
        """End-of-sequence ids, ascending."""
        return self._core.eos

    @property
    def special(self) -> dict[int, str]:
        """Names of the special tokens by id."""
        return dict(self._core.special)

    @property
    def digest(self) -> int:
        """Hash of everything above."""
        return self._core.digest

    def token(self, token: int) -> bytes:
        """Text bytes of one id; empty for special tokens and padding."""
        return self._core.token(token)

    def decode(self, tokens: Any) -> bytes:
        """Text bytes of a sequence of ids."""
        return self._core.decode(tokens)
