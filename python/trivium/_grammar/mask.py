"""`GrammarMask`, put together."""

from __future__ import annotations

from trivium._grammar.checkers import Checkers
from trivium._grammar.combination import Combinations
from trivium._grammar.sources import Sources

__all__ = ["GrammarMask"]


class GrammarMask(Sources, Combinations, Checkers):
    """A compiled grammar over one vocabulary: immutable, shared between threads and sequences.

    Made by a front end (`regex`, `grammar`, `json_schema`, `choices`, `phrases`, `spans`,
    `checker`) or from other grammars (``& | ~ -``, `then`, `after`, `free_text_with`, `intersect`).
    Compiling takes time proportional to the text; states and masks are made when texts reach them
    and are kept for all matchers.

    Examples
    --------
    >>> from trivium import GrammarMask, Vocabulary
    >>> from trivium.grammar import GrammarMask
    >>> vocab = Vocabulary([b"a", b"b", b"ab", b""], eos=[3])
    >>> g = GrammarMask.regex("(ab)+", vocab)
    >>> m = g.matcher()
    >>> [t for t in range(4) if m.allows(t)]
    [0, 2]
    >>> m.commit([2, 0])
    2
    >>> m.is_accepting(), m.forced_bytes()
    (False, b'b')
    """

    __slots__ = ()
