"""Wrong masks: what goes astray between an automaton over bytes and a vocabulary of tokens."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from trivium.testing.masks import MaskProblem, allowed_tokens, check_mask
from trivium.testing.planted._base import Planted

if TYPE_CHECKING:
    import numpy.typing as npt

__all__ = ["MASKS"]


def _viable(problem: MaskProblem, word: bytes) -> bool:
    probe = replace(problem, vocabulary=(*problem.vocabulary, word))
    return len(problem.vocabulary) in allowed_tokens(probe)


def end_always_allowed(problem: MaskProblem, prefix: tuple[int, ...]) -> set[int]:  # noqa: ARG001
    """Allow the end token everywhere."""
    return allowed_tokens(problem) | {problem.eos}


def end_never_allowed(problem: MaskProblem, prefix: tuple[int, ...]) -> set[int]:  # noqa: ARG001
    """Forget the end token while the text could go on."""
    allowed = allowed_tokens(problem)
    return allowed - {problem.eos} if len(allowed) > 1 else allowed


def first_byte_only(problem: MaskProblem, prefix: tuple[int, ...]) -> set[int]:  # noqa: ARG001
    """Test the first byte of each token."""
    return {
        t
        for t, word in enumerate(problem.vocabulary)
        if (t in allowed_tokens(problem) if t == problem.eos else _viable(problem, word[:1]))
    }


def single_step_only(problem: MaskProblem, prefix: tuple[int, ...]) -> set[int]:  # noqa: ARG001
    """Allow tokens of one byte only."""
    words = problem.vocabulary
    return {t for t in allowed_tokens(problem) if t == problem.eos or len(words[t]) == 1}


def member_prefix_only(problem: MaskProblem, prefix: tuple[int, ...]) -> set[int]:  # noqa: ARG001
    """Allow a token when one of its own prefixes completes the text."""
    allowed = allowed_tokens(problem)
    for t, word in enumerate(problem.vocabulary):
        ends = (problem.text + word[:i] for i in range(1, len(word)))
        probe = (replace(problem, vocabulary=(b"", e), eos=0, prefix=(1,)) for e in ends)
        if t != problem.eos and any(0 in allowed_tokens(p) for p in probe):
            allowed.add(t)
    return allowed


def stale(problem: MaskProblem, prefix: tuple[int, ...]) -> set[int]:
    """Return the mask of one token ago."""
    return allowed_tokens(replace(problem, prefix=prefix[:-1]))


def shifted_by_one(problem: MaskProblem, prefix: tuple[int, ...]) -> npt.NDArray[np.bool_]:  # noqa: ARG001
    """Shift ids by one, as where a special token was inserted in front."""
    row = np.zeros(len(problem.vocabulary), dtype=bool)
    row[sorted(allowed_tokens(problem))] = True
    return np.roll(row, 1)


def big_endian_bits(problem: MaskProblem, prefix: tuple[int, ...]) -> npt.NDArray[np.int32]:  # noqa: ARG001
    """Pack the first token into the highest bit of a word."""
    words = np.zeros((len(problem.vocabulary) + 31) // 32, dtype=np.uint32)
    for t in allowed_tokens(problem):
        words[t // 32] |= np.uint32(1 << (31 - t % 32))
    return words.view(np.int32)


def second_word_forgotten(problem: MaskProblem, prefix: tuple[int, ...]) -> set[int]:  # noqa: ARG001
    """Fill the first 32 tokens only."""
    return {t for t in allowed_tokens(problem) if t < 32}


def duplicates_forgotten(problem: MaskProblem, prefix: tuple[int, ...]) -> set[int]:  # noqa: ARG001
    """Keep one id of several with the same bytes."""
    first = {word: t for t, word in reversed(list(enumerate(problem.vocabulary)))}
    return {t for t in allowed_tokens(problem) if first[problem.vocabulary[t]] == t}


_ALL = (
    end_always_allowed,
    end_never_allowed,
    first_byte_only,
    single_step_only,
    member_prefix_only,
    stale,
    shifted_by_one,
    big_endian_bits,
    second_word_forgotten,
    duplicates_forgotten,
)

MASKS: tuple[Planted, ...] = tuple(Planted(fn.__name__, "mask", fn, check_mask) for fn in _ALL)
"""Wrong masks."""
