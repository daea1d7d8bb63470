"""Context-free constraints on diffusion models, under any order of unmasking.

Mündler, Dekoninck and Vechev, "Constrained Decoding of Diffusion LLMs with Context-Free Grammars".

A canvas is tokens with masked positions between them. A token proposed for a position may stay if
the masked ones can still be filled so that the whole is in the language: if the language of the
grammar and the regular language of the canvas have a text in common. That is decided in Rust, by
saturating the rules over an automaton of the canvas, O(items · edges) for items of (rule begun at a
state, position, state). `place` draws a token for a position, tests it, and draws again if it
fails.

The invariant: as long as every token was placed so, the canvas stays completable, in the sense of
`lengths`. Under ``"exact"`` and under ``"free"`` with gaps of free length that is the truth; under
``"bytes"``, and under ``"free"`` on a canvas of fixed size, it is necessary: a canvas that can be
filled is never refused, and one that passes may still be short of tokens.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from trivium._core import Canvas as CoreCanvas
from trivium._grammar.arguments import Budgets, budgets_of
from trivium.constrained._chance import at_least, chance, log_softmax
from trivium.errors import InputError
from trivium.grammar import GrammarMask

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Unpack

    from numpy.typing import NDArray

    from trivium.constrained._chance import Rng

__all__ = ["Canvas", "Placed"]


@dataclass(frozen=True, slots=True)
class Placed:
    """A token for a position.

    Attributes
    ----------
    token : int or None
        None if no tested token leaves the canvas completable; it is then as it was.
    tests : int
        Canvases tested.
    mass : float
        Probability of the tokens that were tested and refused: the draw is from the model's law
        given all others.
    """

    token: int | None
    tests: int
    mass: float


class Canvas:
    """Says which canvases a grammar can still complete.

    Parameters
    ----------
    grammar : GrammarMask
        A pattern, choices, EBNF or GBNF rules, or a combination of these.
    lengths : {"free", "bytes", "exact"}, optional
        How neighbouring masked positions are read. ``"free"``: any text, for models whose gaps may
        grow. ``"bytes"``: text of at least one byte a position and, in gaps of at most 64 bytes, at
        most the longest token's; the gaps' bytes count as the canvas's, and the cost is up to
        cubic in these, so it suits canvases of some dozens of tokens.
        ``"exact"``: one token each; the vocabulary's trie is copied for every masked position, so
        it suits small vocabularies and few positions.
    open_end : bool, optional
        Whether the text may go on behind the canvas, as between blocks.
    max_items : int, optional
        Bound on the memory of one question, about 40 bytes an item.
    **budgets
        As for `GrammarMask.regex`; ``max_states`` bounds the canvas's automaton, too.

    Raises
    ------
    UnsupportedPattern
        JSON Schema, ``%json``, Lark's longest match, checkers.

    Examples
    --------
    >>> from trivium import GrammarMask, Vocabulary
    >>> vocab = Vocabulary([b"(", b")", b"a", b""], eos=[3])
    >>> g = GrammarMask.grammar('root ::= "(" root ")" | "a"', vocab)
    >>> canvas = Canvas(g, lengths="bytes")
    >>> canvas.completable([0, -1, -1, 1]), canvas.completable([-1, 1, 2, -1])
    (False, False)
    >>> canvas.completable([0, -1, -1, -1, 1]), canvas.completable([-1, 2, -1, -1])
    (True, True)
    """

    __slots__ = ("_core", "_open", "_width")

    def __init__(
        self,
        grammar: GrammarMask,
        *,
        lengths: Literal["free", "bytes", "exact"] = "free",
        open_end: bool = False,
        max_items: int = 5_000_000,
        **budgets: Unpack[Budgets],
    ) -> None:
        if not isinstance(grammar, GrammarMask):
            raise InputError(f"grammar: {type(grammar).__name__} is no GrammarMask")
        if not isinstance(lengths, str):
            raise InputError(f"lengths: {type(lengths).__name__} is not str")
        most = at_least("max_items", max_items, 1)
        self._core = CoreCanvas(grammar._core, lengths, most, budgets_of(budgets))
        self._open, self._width = bool(open_end), grammar.vocab.num_rows

    def completable(self, tokens: Sequence[int] | NDArray[Any]) -> bool:
        """Say whether the masked positions can be filled.

        Parameters
        ----------
        tokens : int array, shape (n,)
            -1 is a masked position. The first end-of-sequence id ends the text: only such ids and
            masked positions may follow it, which are then filled with them.

        Returns
        -------
        bool

        Raises
        ------
        TokenError
            An id outside the logits.
        LimitExceeded
            A budget.
        """
        return self._core.completable(
            list(tokens) if isinstance(tokens, tuple) else tokens, self._open
        )

    def place(
        self,
        tokens: Sequence[int] | NDArray[Any],
        position: int,
        logits: Any,
        *,
        rng: Rng | None = None,
        cap: int = 100,
    ) -> Placed:
        """Draw a token for a position so that the canvas stays completable.

        Parameters
        ----------
        tokens : int array, shape (n,)
            A completable canvas; it is not changed.
        position : int
            A masked position.
        logits : float array, shape (V,)
            The model's row for it.
        rng : numpy.random.Generator, int, or an object with ``categorical(weights) -> int``,
        optional
            Default: the most probable token first.
        cap : int, optional
            Tokens tested at most.

        Returns
        -------
        Placed

        Raises
        ------
        InputError
            The position is not masked or outside; shapes, NaN.
        """
        canvas = [int(t) for t in tokens]
        if not 0 <= position < len(canvas) or canvas[position] != -1:
            raise InputError(f"position: {position} is no masked position of the canvas")
        law = log_softmax(logits)
        if law.ndim != 1:
            raise InputError(f"logits: shape {law.shape} is not one row")
        most = at_least("cap", cap, 1)
        p = np.exp(law)
        p[self._width :] = 0.0
        source = None if rng is None else chance(rng)
        refused = 0.0
        for test in range(most):
            if not p.any():
                return Placed(None, test, refused)
            token = int(p.argmax()) if source is None else source.categorical(p)
            canvas[position] = token
            if self.completable(canvas):
                return Placed(token, test + 1, refused)
            refused += float(p[token])
            p[token] = 0.0
        return Placed(None, most, refused)
