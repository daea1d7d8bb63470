"""Forced text as tokens that need no model: the canonical ones, as far as they are certain."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from trivium.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from trivium.vocabulary import Vocabulary

__all__ = ["stable_tokens"]


def stable_tokens(
    vocab: Vocabulary,
    tokens: NDArray[np.int32],
    forced: bytes,
    open_at: Sequence[bool],
    encode: Callable[[bytes], Sequence[int]],
    tail: int,
) -> NDArray[np.int32]:
    """Canonical tokens of `forced` behind `tokens`, up to the first that is not certain.

    ``open_at[p]`` says whether an allowed token that begins at byte `p` of `forced` goes on beyond
    its end: the canonical token there depends on text that is not known yet.
    """
    none = np.empty(0, np.int32)
    if not forced:
        return none
    ends, special = set(vocab.eos), vocab.special
    before: list[int] = []
    length = 0
    for token in reversed(tokens.tolist()):
        if length >= tail or token in ends or token in special:
            break
        before.insert(0, token)
        length += len(vocab.token(token))
    known = vocab.decode(before)
    ids = [int(t) for t in encode(known + forced)]
    if vocab.decode(ids) != known + forced:
        raise InputError("encode: the ids do not spell the bytes they were made of")
    if ids[: len(before)] != before:
        # Merges cross the seam, or what is committed is not canonical. A longer way back may do,
        # but committed tokens stay.
        return none
    out, at = [], 0
    for token in ids[len(before) :]:
        if open_at[at]:
            break
        out.append(token)
        at += len(vocab.token(token))
    return np.array(out, np.int32)
