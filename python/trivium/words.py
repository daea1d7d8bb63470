"""Draft models of another vocabulary: whose words they read, and whose they say.

``DraftModel(model, words=...)`` takes one of these.

==================  ==============================================================================
`Intersection`      tokens of equal bytes are one token, the law is that on them (TLI)
`TrimmedHead`       the draft's head has the rows of frequent tokens only (VocabTrim, ``d2t``)
`StringMatch`       the drafted text is encoded again and verified by exact match (SLEM)
`StringRejection`   the law of the first target token of a drafted text (SLRS); small vocabularies
==================  ==============================================================================

With `Intersection`, `TrimmedHead` and `StringRejection` the law that a token is drawn from is the
law that is told, so every verifier of drawn drafts is exact; `StringMatch` gives point masses.

"Accelerating LLM Inference with Lossless Speculative Decoding Algorithms for Heterogeneous
Vocabularies"; "VOCABTRIM: Vocabulary Pruning for Efficient Speculative Decoding in LLMs".

>>> words = Intersection([b"b", b"a"], [b"a", b"b", b"ab", b"c"])
>>> words.spell([0, 2, 1])
[1, 1, 0, 0]
>>> words.row([0.0, 1.0]).tolist()
[1.0, 0.0, -inf, -inf]
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from trivium import _core
from trivium.drafting import VocabMap, seam
from trivium.errors import InputError
from trivium.vocabulary import Vocabulary

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from numpy.typing import NDArray

__all__ = ["Intersection", "StringMatch", "StringRejection", "TrimmedHead", "Words", "count_tokens"]


class Words:
    """What a draft model of another vocabulary reads and says."""

    def check(self, draft_width: int, target_width: int) -> None:
        """Refuse logits of widths that do not fit: `InputError`."""
        raise NotImplementedError

    def spell(self, text: Sequence[int]) -> list[int]:
        """Draft ids of a target text, at least one."""
        raise NotImplementedError

    def word(self, token: int) -> int:
        """Draft id of a drafted target token."""
        raise NotImplementedError

    def row(self, logits: Any) -> NDArray[np.float32]:
        """Draft logits on target ids, float32 [target width]; -inf where there is no counterpart.

        Their softmax, at any temperature, is the law that is drawn from and told.
        """
        raise NotImplementedError


def _bytes(tokens: Vocabulary | Sequence[bytes]) -> list[bytes]:
    if isinstance(tokens, Vocabulary):
        return [tokens.token(t) for t in range(len(tokens))]
    return [bytes(t) for t in tokens]


class Intersection(Words):
    """Token-level intersection: tokens of equal bytes are one token, others are never drafted.

    Of several draft tokens with equal bytes the probabilities add up. A target token without
    counterpart is read as the draft's longest tokens that spell its bytes, or left out.

    Parameters
    ----------
    draft, target : Vocabulary or list of bytes
        Bytes of each token; control tokens are empty.

    Raises
    ------
    InputError
        No token is shared.
    """

    def __init__(
        self, draft: Vocabulary | Sequence[bytes], target: Vocabulary | Sequence[bytes]
    ) -> None:
        self._draft, self._target = _bytes(draft), _bytes(target)
        self._map = VocabMap.intersection(self._draft, self._target)
        to_target = np.array(self._map.to_target, np.int64)
        self._from = np.flatnonzero(to_target >= 0)
        self._to = to_target[self._from]
        self._one = {int(t): int(d) for d, t in zip(self._from[::-1], self._to[::-1], strict=True)}
        self._ids = {b: i for i, b in reversed(list(enumerate(self._draft))) if b}
        self._longest = max(map(len, self._ids))
        self._spelled: dict[int, list[int]] = {}
        self._width = len(self._target)

    def __len__(self) -> int:
        """Target tokens that the draft can say."""
        return len(self._map)

    def check(self, draft_width: int, target_width: int) -> None:
        """Refuse logits narrower than the vocabularies; wider ones are padding."""
        if draft_width < len(self._draft) or target_width < len(self._target):
            raise InputError(
                f"words: {len(self._draft)} and {len(self._target)} tokens for logits "
                f"{draft_width} and {target_width} wide"
            )
        self._width = target_width

    def spell(self, text: Sequence[int]) -> list[int]:
        """Draft ids of a target text; token 0 where it can say none of it."""
        return [d for t in text for d in self._spell(t)] or [0]

    def _spell(self, token: int) -> list[int]:
        if token in self._one:
            return [self._one[token]]
        if token not in self._spelled:
            rest = self._target[token] if token < len(self._target) else b""
            out: list[int] = []
            while rest:
                n = min(self._longest, len(rest))
                while n and rest[:n] not in self._ids:
                    n -= 1
                if n:
                    out.append(self._ids[rest[:n]])
                rest = rest[max(n, 1) :]
            self._spelled[token] = out
        return self._spelled[token]

    def word(self, token: int) -> int:
        """Draft id of a shared token."""
        return self._one[token]

    def row(self, logits: Any) -> NDArray[np.float32]:
        """Draft logits on target ids, float32 [target width]."""
        logits = np.asarray(logits, np.float32)
        out = np.full(self._width, -np.inf, np.float32)
        np.logaddexp.at(out, self._to, logits[self._from])
        return out


def count_tokens(texts: Iterable[Sequence[int]], vocab_size: int) -> list[int]:
    """How often each token occurs in texts, for `TrimmedHead.of_counts`: texts of the target."""
    counts = np.zeros(vocab_size, np.int64)
    for text in texts:
        counts += np.bincount(np.asarray(text, np.int64), minlength=vocab_size)[:vocab_size]
    return [int(n) for n in counts]


class TrimmedHead(Words):
    """A draft that reads the target's ids and says few of them: row ``i`` is token ``kept[i]``.

    Parameters
    ----------
    kept : list of int
        Target id of each row of the draft's head; EAGLE-3's ``d2t`` table is ``kept[i] - i``.

    Raises
    ------
    InputError
        No id, or one twice.
    """

    def __init__(self, kept: Sequence[int]) -> None:
        self.kept = np.array(list(kept), np.int64)
        if not len(self.kept) or len(set(kept)) < len(self.kept) or self.kept.min() < 0:
            raise InputError("kept: needs ids, each once")
        self._width = int(self.kept.max()) + 1

    @classmethod
    def of_counts(cls, counts: Sequence[int], k: int, keep: Sequence[int] = ()) -> TrimmedHead:
        """Keep the `k` most counted tokens and those of `keep`, such as the ends of texts."""
        return cls(VocabMap.trim(list(counts), k, list(keep)).to_target)

    def check(self, draft_width: int, target_width: int) -> None:
        """Refuse a head of another size, or ids beyond the target's logits."""
        if draft_width != len(self.kept) or target_width <= self.kept.max():
            raise InputError(
                f"words: {len(self.kept)} kept ids up to {self.kept.max()} for logits "
                f"{draft_width} and {target_width} wide"
            )
        self._width = target_width

    def spell(self, text: Sequence[int]) -> list[int]:
        """Read the text as it is."""
        return list(text)

    def word(self, token: int) -> int:
        """Give the token itself: the draft reads the target's ids."""
        return token

    def row(self, logits: Any) -> NDArray[np.float32]:
        """Draft logits on target ids, float32 [target width]."""
        out = np.full(self._width, -np.inf, np.float32)
        out[self.kept] = np.asarray(logits, np.float32)
        return out


class StringMatch(Words):
    """String-level exact match: the draft writes text, which the target's tokenizer encodes again.

    Parameters
    ----------
    draft, target : Vocabulary
        Bytes of each token.
    encode_draft, encode_target : callable
        Text to ids, without special tokens.
    window : int
        Target tokens before the border that are encoded together with the draft.
    """

    def __init__(
        self,
        draft: Vocabulary,
        target: Vocabulary,
        encode_draft: Callable[[str], Sequence[int]],
        encode_target: Callable[[str], Sequence[int]],
        *,
        window: int = 10,
    ) -> None:
        if window < 1:
            raise InputError(f"window: {window} is below 1")
        self._draft, self._target = _bytes(draft), _bytes(target)
        self._encode_draft, self._encode_target = encode_draft, encode_target
        self._window = window

    @classmethod
    def from_tokenizers(cls, draft: Any, target: Any, *, window: int = 10) -> StringMatch:
        """Take two tokenizers of transformers."""

        def encoder(tokenizer: Any) -> Callable[[str], Sequence[int]]:
            return lambda text: tokenizer.encode(text, add_special_tokens=False)

        return cls(
            Vocabulary.from_tokenizer(draft),
            Vocabulary.from_tokenizer(target),
            encoder(draft),
            encoder(target),
            window=window,
        )

    def check(self, draft_width: int, target_width: int) -> None:
        """Refuse logits narrower than the vocabularies."""
        if draft_width < len(self._draft) or target_width < len(self._target):
            raise InputError(
                f"words: {len(self._draft)} and {len(self._target)} tokens for logits "
                f"{draft_width} and {target_width} wide"
            )

    def spell(self, text: Sequence[int]) -> list[int]:
        """Encode the text for the draft; token 0 where it has none."""
        return list(self._encode_draft(_text(_joined(self._target, text)))) or [0]

    def match(self, text: Sequence[int], drafted: Sequence[int]) -> list[int]:
        """Target tokens behind `text` that the draft's ids `drafted` spell; none where it is odd.

        Bytes of a character that the draft has not finished are left out.
        """
        window = list(text[-self._window :])
        written = _joined(self._target, window) + _joined(self._draft, drafted)
        return seam(window, list(self._encode_target(_text(written))))


def _joined(tokens: list[bytes], ids: Sequence[int]) -> bytes:
    return b"".join(tokens[i] for i in ids if i < len(tokens))


def _text(data: bytes) -> str:
    """Text of whole characters."""
    return data.decode("utf-8", "ignore")


class StringRejection(Intersection):
    """String-level rejection: drafts are first target tokens of texts that the draft would write.

    A text is cut into target tokens, longest match first. The law of the first one is summed over
    all texts that the draft model can write up to the longest target token: exponential in that
    length, one row of the draft model a text, so for byte and toy vocabularies only.

    Parameters
    ----------
    draft, target : Vocabulary or list of bytes
        As for `Intersection`; here draft tokens need no counterpart.
    max_texts : int
        Texts of one law beyond which it is refused (`InputError`).
    """

    def __init__(
        self,
        draft: Vocabulary | Sequence[bytes],
        target: Vocabulary | Sequence[bytes],
        *,
        max_texts: int = 4096,
    ) -> None:
        super().__init__(draft, target)
        self._max_texts = max_texts

    def law(self, following: Callable[[list[int]], Any]) -> NDArray[np.float64]:
        """Law of the first target token, float64 [target width].

        Parameters
        ----------
        following : callable
            Law of the draft's next token behind some draft ids, float [draft tokens].
        """
        psi = np.zeros(self._width)
        psi[: len(self._target)] = _core.first_token_law(
            self._draft,
            self._target,
            lambda ids: np.asarray(following(ids), np.float64)[: len(self._draft)].tolist(),
            self._max_texts,
        )
        return psi
