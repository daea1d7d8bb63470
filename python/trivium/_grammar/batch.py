"""Masks of many sequences in one call."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from trivium._core import Matcher as CoreMatcher
from trivium._core import fill_batch as core_fill_batch
from trivium._grammar.arguments import count, token_ids
from trivium.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from trivium._grammar.matcher import Matcher

__all__ = ["fill_batch"]


def fill_batch(
    matchers: Sequence[Matcher],
    out: Any,
    rows: Sequence[int] | NDArray[Any] | None = None,
    threads: int | None = None,
) -> None:
    """Write the masks of many sequences in one call, without holding the interpreter.

    Parameters
    ----------
    matchers : sequence of Matcher, length n
        They may be of different grammars.
    out : int32 array, shape (>= n, words), C-contiguous, on the CPU
        Row ``rows[i]`` is the mask of matcher ``i``; rows that are not named stay as they are.
    rows : int array, shape (n,), optional
        Default: ``0 .. n-1``.
    threads : int, optional
        Default: one, unless many masks have to be computed.

    Raises
    ------
    InputError
        Shapes, dtype, device, a row named twice or outside.
    StateError
        A matcher is in use by another thread.
    LimitExceeded
        A budget of a grammar.

    Examples
    --------
    >>> import numpy as np
    >>> from trivium import GrammarMask, Vocabulary
    >>> vocab = Vocabulary([b"a", b"b", b"ab", b""], eos=[3])
    >>> g = GrammarMask.regex("a*b", vocab)
    >>> out = np.zeros((2, 1), np.int32)
    >>> a, b = g.matcher(), g.matcher()
    >>> b.commit(1)
    True
    >>> fill_batch([a, b], out)
    >>> out.tolist()
    [[7], [8]]
    """
    cores = []
    for i, matcher in enumerate(matchers):
        core = getattr(matcher, "_core", None)
        if not isinstance(core, CoreMatcher):
            raise InputError(f"matchers: entry {i} is {type(matcher).__name__}, not a Matcher")
        cores.append(core)
    most = None if threads is None else min(count("threads", threads, 1), 256)
    core_fill_batch(cores, out, None if rows is None else token_ids(rows), most)
