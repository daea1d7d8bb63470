r"""`Vocabulary`: the bytes of every token id, end ids, logits width.

Token masks, grammars and stores work on bytes, so the bytes must be exact: a byte-level ``Ġthe`` is
``b" the"``, a byte-fallback ``<0xE4>`` is ``b"\xe4"``. The front ends that read foreign tokenizers
are in `trivium._tokenizers`.
"""

from __future__ import annotations

import operator
from typing import TYPE_CHECKING, Any, Self

from trivium import _tokenizers
from trivium._core import Vocabulary as CoreVocabulary
from trivium.errors import InputError, TokenError

if TYPE_CHECKING:
    import os
    from collections.abc import Iterable, Mapping, Sequence

__all__ = ["Vocabulary"]


class Vocabulary:
    """Token bytes, special tokens, end-of-sequence ids and logits width.

    Immutable, shared between threads and processes (it pickles), built once per tokenizer.

    Parameters
    ----------
    tokens : sequence of bytes, length n
        Text bytes of ids ``0 .. n-1``. Empty bytes mean padding: the id exists in the logits, is
        never allowed by a mask and contributes no text. Several ids may have equal bytes.
    eos : sequence of int
        Ids that end a sequence; all of them share one rule.
    special : mapping of int to str, optional
        Ids that are symbols, by name. A symbol is not text: its entry in `tokens` is ignored, and
        the same characters spelled with regular tokens are ordinary text.
    num_rows : int, optional
        Width of the logits where it exceeds `n`; the rows beyond are never allowed.

    Raises
    ------
    InputError
        No tokens, a token of more than 255 bytes, an entry that is not bytes, or `num_rows` below
        `n`.
    TokenError
        An end id or a special id outside ``0 .. n-1``.

    Notes
    -----
    Building copies the bytes once, O(total bytes); memory is the bytes plus 5 bytes an id. The trie
    that grammars walk is built at their first use.

    Examples
    --------
    >>> from trivium import Vocabulary
    >>> vocab = Vocabulary([b"a", b"b", b"ab", b""], eos=[3], special={3: "</s>"})
    >>> vocab.decode([0, 2, 3])
    b'aab'
    """

    __slots__ = ("_core",)

    _core: CoreVocabulary

    def __init__(
        self,
        tokens: Sequence[bytes],
        *,
        eos: Sequence[int],
        special: Mapping[int, str] | None = None,
        num_rows: int | None = None,
    ) -> None:
        tokens = list(tokens)
        for i, token in enumerate(tokens):
            if not isinstance(token, bytes):
                raise InputError(f"tokens: entry {i} is {type(token).__name__}, not bytes")
        names = dict(special or {})
        for t, name in names.items():
            if not isinstance(name, str):
                raise InputError(f"special: the name of {t} is {type(name).__name__}, not str")
        rows = None if num_rows is None else _integer("num_rows", num_rows)
        if rows is not None and not 0 < rows < 1 << 31:
            raise InputError(f"num_rows: {rows} is no width of logits")
        self._core = CoreVocabulary(
            tokens,
            [_token_id("eos", t, len(tokens)) for t in _items("eos", eos)],
            [(_token_id("special", t, len(tokens)), name) for t, name in names.items()],
            rows,
        )

    @classmethod
    def _wrap(cls, inner: CoreVocabulary) -> Self:
        self = cls.__new__(cls)
        self._core = inner
        return self

    @classmethod
    def from_tokenizer(
        cls, tok: Any, *, num_rows: int | None = None, eos: Sequence[int] | int | None = None
    ) -> Self:
        """Take the exact bytes of every id from a tokenizer object.

        Parameters
        ----------
        tok : object
            A tokenizer of transformers (fast or slow), a `tokenizers.Tokenizer`, a
            `tiktoken.Encoding` or a `sentencepiece.SentencePieceProcessor`.
        num_rows : int, optional
            Width of the model's logits, often larger than the tokenizer
            (``model.config.vocab_size``). Default: one more than the largest id.
        eos : sequence of int, optional
            End ids, for example ``model.generation_config.eos_token_id``. Default: the one that
            the tokenizer declares. A `tokenizers.Tokenizer` declares none, and with no end id a
            grammar never lets a sequence end: give it.

        Returns
        -------
        Vocabulary
            Ids that the tokenizer skips are padding.

        Raises
        ------
        InputError
            `tok` is no tokenizer, or as for the constructor.
        UnsupportedError
            A token's text depends on its neighbours (word-end marks such as ``</w>``, CTC,
            replacements over the joined text), or decoder and model contradict each other.

        Notes
        -----
        The bytes of a token are what the tokenizer's decoder appends when the token follows
        another: ``decode(a + b) == decode(a) + vocab.decode(b)``.

        * Byte-level BPE: the byte alphabet inverted.
        * SentencePiece, with and without byte fallback: U+2581 is a space, ``<0xE4>`` is a byte.
          A space that the decoder drops at the very beginning of a text (the dummy prefix) is part
          of the bytes: ``vocab.decode(encode("hi"))`` is ``b" hi"`` where there is such a prefix.
        * WordPiece: ``##ing`` is ``b"ing"`` and a word start ``play`` is ``b" play"``, also at
          the beginning of a text; with ``cleanup`` the start ``.`` is ``b"."``, as decoded.
        * Added tokens marked special, and the unknown token, are symbols. Other added tokens are
          literal text, unless they end the sequence.

        Text clean-up that a host applies after decoding is not part of the bytes: decode with
        ``clean_up_tokenization_spaces=False``.

        Cost: O(total bytes), under two seconds for 150,000 tokens.
        """
        parts = _tokenizers.read(tok)
        end = parts.eos if eos is None else [_integer("eos", t) for t in _items("eos", eos)]
        tokens, special = parts.table(end)
        return cls(tokens, eos=end, special=special, num_rows=num_rows)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Self:
        """Read a ``trivium-vocab-1`` file, as written by `save`.

        Raises
        ------
        InputError
            The file cannot be read or is damaged.
        """
        return cls._wrap(CoreVocabulary.load(path))

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write a ``trivium-vocab-1`` file: safetensors with ``offsets``, ``bytes`` and ``flags``.

        Raises
        ------
        InputError
            The path cannot be written.
        """
        self._core.save(path)

    def __len__(self) -> int:
        return len(self._core)

    @property
    def num_rows(self) -> int:
        """Width of the logits, at least ``len(self)``."""
        return self._core.num_rows

    @property
    def eos(self) -> list[int]:
        """End-of-sequence ids, ascending."""
        return self._core.eos

    @property
    def special(self) -> dict[int, str]:
        """Names of the symbols by id, ascending."""
        return dict(self._core.special)

    @property
    def digest(self) -> int:
        """64-bit hash of ids, bytes, symbols and end ids: files made for it carry the number."""
        return self._core.digest

    def token(self, token: int) -> bytes:
        """Text bytes of one id; empty for symbols and padding.

        Raises
        ------
        TokenError
            The id is outside ``0 .. len(self)-1``.
        """
        return self._core.token(_token_id("token", token, len(self)))

    def decode(self, tokens: Any) -> bytes:
        """Text bytes of a sequence of ids; symbols and padding contribute nothing.

        Parameters
        ----------
        tokens : list of int, or int array, shape (n,)
            numpy, torch on the CPU, or anything with DLPack: int32, int64 or uint32, read without
            copying.

        Raises
        ------
        TokenError
            An id is outside ``0 .. len(self)-1``.
        InputError
            Another dtype, shape or device.
        """
        return self._core.decode(tokens)

    def __repr__(self) -> str:
        return (
            f"Vocabulary({len(self)} tokens, {len(self._core.special)} special, "
            f"eos={self.eos}, num_rows={self.num_rows})"
        )

    def __reduce__(self) -> tuple[Any, ...]:
        return _from_bytes, (self._core.to_bytes(),)


def _from_bytes(data: bytes) -> Vocabulary:
    return Vocabulary._wrap(CoreVocabulary.from_bytes(data))


def _items(what: str, values: Iterable[Any] | int) -> list[Any]:
    if isinstance(values, int):
        return [values]
    try:
        return list(values)
    except TypeError:
        raise InputError(f"{what}: {values!r} is not a sequence of ids") from None


def _integer(what: str, value: Any) -> int:
    try:
        return operator.index(value)
    except TypeError:
        raise InputError(f"{what}: {value!r} is not an integer") from None


def _token_id(what: str, value: Any, size: int) -> int:
    token = _integer(what, value)
    if not 0 <= token < size:
        error = TokenError(f"token {token} is outside the vocabulary of {size}")
        error.token, error.vocab = token, size  # type: ignore[attr-defined]
        raise error
    return token
