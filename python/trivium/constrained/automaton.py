"""Deterministic automata over tokens: the transitions that a dynamic programme runs on.

A regular language over bytes is lifted to tokens, ``next(q, t) = next*(q, bytes(t))``. Tokens whose
columns are equal move every state alike; they form a class, and programmes run over classes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from trivium.constrained._chance import allowed, at_least
from trivium.errors import InputError, LimitExceeded, StateError, TokenError, UnsupportedError
from trivium.grammar import GrammarMask
from trivium.vocabulary import Vocabulary

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from trivium.grammar import Matcher

__all__ = ["TokenAutomaton"]


class TokenAutomaton:
    """States and, for each, where every token leads.

    Parameters
    ----------
    transitions : int array, shape (Q, V)
        State after the token, -1 where there is none.
    start : int
    accepting : bool array, shape (Q,)
        States in which a text may end.

    Attributes
    ----------
    start : int
    accepting : bool array, shape (Q,)
    table : int32 array, shape (Q, C)
        Transitions by class of tokens; none leads to a state without a completion.
    classes : int32 array, shape (V,)
        The class of each token.

    Examples
    --------
    >>> auto = TokenAutomaton([[0, 1], [-1, 1]], 0, [True, True])  # a*b*
    >>> auto.num_states, auto.num_tokens
    (2, 2)
    """

    __slots__ = ("accepting", "classes", "start", "table")

    start: int
    accepting: NDArray[np.bool_]
    table: NDArray[np.int32]
    classes: NDArray[np.int32]

    def __init__(self, transitions: Any, start: int, accepting: Any) -> None:
        moves, ends = _checked(transitions, start, accepting)
        self._set(moves, int(start), ends, _live(moves, ends))

    def _set(
        self,
        moves: NDArray[np.int32],
        start: int,
        accepting: NDArray[np.bool_],
        live: NDArray[np.bool_],
    ) -> None:
        if not live[start]:
            raise InputError("start: no text of the language begins here")
        moves = np.where((moves >= 0) & live[moves], moves, -1).astype(np.int32)
        table, classes = np.unique(moves, axis=1, return_inverse=True)
        self.start, self.accepting = start, accepting
        self.table, self.classes = table, classes.reshape(-1).astype(np.int32)

    @property
    def num_states(self) -> int:
        """Q."""
        return len(self.table)

    @property
    def num_tokens(self) -> int:
        """V."""
        return len(self.classes)

    @classmethod
    def from_dfa(
        cls,
        transitions: Any,
        start: int,
        accepting: Any,
        vocab: Vocabulary,
        *,
        max_bytes: int = 256 << 20,
    ) -> TokenAutomaton:
        """Lift a byte automaton to the tokens of a vocabulary; O(Q * bytes of the vocabulary).

        Parameters
        ----------
        transitions : int array, shape (Q, 256)
            State after the byte, -1 where there is none.
        start : int
        accepting : bool array, shape (Q,)
        vocab : Vocabulary
            An end-of-sequence id leads from accepting states to a state ``Q`` that loops on such
            ids, as blocks of a diffusion model are padded. Special tokens lead nowhere.
        max_bytes : int, optional
            Size of the table of transitions.

        Returns
        -------
        TokenAutomaton

        Raises
        ------
        InputError
            Shapes, states out of range, a start without a completion.
        LimitExceeded
            The table would be larger.
        """
        moves, ends = _checked(transitions, start, accepting)
        if moves.shape[1] != 256:
            raise InputError(f"transitions: shape {moves.shape}, needs 256 columns")
        if not isinstance(vocab, Vocabulary):
            raise InputError(f"vocab: {type(vocab).__name__} is no Vocabulary")
        states, width = len(moves) + 1, vocab.num_rows
        if 4 * states * width > max_bytes:
            raise LimitExceeded(f"table of {4 * states * width} bytes, max_bytes={max_bytes}")
        lifted = np.full((states, width), -1, np.int32)
        dead = np.vstack([moves, np.full((1, 256), -1, np.int32)])  # row -1: stays dead
        lengths: dict[int, list[int]] = {}
        special = set(vocab.eos) | set(vocab.special)
        for token in range(len(vocab)):
            if token not in special and (size := len(vocab.token(token))):
                lengths.setdefault(size, []).append(token)
        for size, tokens in lengths.items():
            data = np.frombuffer(b"".join(vocab.token(t) for t in tokens), np.uint8)
            here = np.repeat(np.arange(states - 1, dtype=np.int32)[:, None], len(tokens), axis=1)
            for column in data.reshape(-1, size).T:
                here = dead[here, column]
            lifted[:-1, tokens] = here
        for token in vocab.eos:
            lifted[:-1, token] = np.where(ends, states - 1, -1)
            lifted[-1, token] = states - 1
        return cls(lifted, start, np.append(ends, True))

    @classmethod
    def from_grammar(
        cls,
        grammar: GrammarMask,
        depth: int | None = None,
        *,
        after: Sequence[int] = (),
        max_states: int = 20_000,
    ) -> TokenAutomaton:
        """Unroll a grammar: its matcher's states, as tokens connect them.

        Texts whose matchers go on alike (`Matcher.state_id`) are one state, whatever their tokens.
        Without `depth` that is the whole automaton of a regular language; what counts without bound
        (context-free rules, nested JSON) needs `depth`. Cost: a mask a state, and a step a state
        and allowed token.

        Parameters
        ----------
        grammar : GrammarMask
        depth : int, optional
            Tokens of the block, at least 1. Longer blocks find no transition beyond.
        after : sequence of int, optional
            Tokens of the text before the block.
        max_states : int, optional

        Returns
        -------
        TokenAutomaton
            Every state has a completion, those of texts of `depth` tokens included.

        Raises
        ------
        TokenError
            The grammar does not allow `after`.
        LimitExceeded
            More states, or a budget of the grammar.
        UnsupportedError
            A grammar with a checker, which tells no states apart.

        Examples
        --------
        >>> from trivium import GrammarMask, Vocabulary
        >>> vocab = Vocabulary([b"a", b"b", b"ab", b""], eos=[3])
        >>> TokenAutomaton.from_grammar(GrammarMask.regex("(ab)*", vocab)).num_states
        3
        """
        if not isinstance(grammar, GrammarMask):
            raise InputError(f"grammar: {type(grammar).__name__} is no GrammarMask")
        if depth is not None:
            at_least("depth", depth, 1)
        most = at_least("max_states", max_states, 1)
        matcher, base = grammar.matcher(), [int(t) for t in after]
        if matcher.commit(base) < len(base):
            raise TokenError(f"after: the grammar refuses token {len(matcher)} of it")
        if matcher.is_finished():
            raise StateError("after: the text is complete")
        if matcher.state_id is None:
            raise UnsupportedError("grammar: a checker judges whole texts, it has no states")
        return cls._unroll(matcher, grammar.vocab, depth, most)

    @classmethod
    def _unroll(
        cls, matcher: Matcher, vocab: Vocabulary, depth: int | None, most: int
    ) -> TokenAutomaton:
        ends = set(vocab.eos)
        ids: dict[int | None, int] = {matcher.state_id: 0}  # None: after the end of sequence
        rows: dict[int, dict[int, int]] = {}
        accepting = {0: matcher.is_accepting()}
        layer = [matcher]
        while layer and depth != 0:
            depth = None if depth is None else depth - 1
            following: list[Matcher] = []
            for here in layer:
                row = rows.setdefault(ids[here.state_id], {})
                for token in np.flatnonzero(allowed(here, vocab.num_rows)).tolist():
                    if token in ends:
                        key, final = None, True
                    else:
                        here.commit(token)
                        key, final = here.state_id, here.is_accepting()
                    if key not in ids:
                        if len(ids) == most:
                            raise LimitExceeded(f"more than max_states={most} states")
                        ids[key] = len(ids)
                        accepting[ids[key]] = final
                        if key is not None:
                            following.append(here.fork())
                    if key is not None:
                        here.rollback(1)
                    row[token] = ids[key]
            layer = following
        if None in ids:
            rows[ids[None]] = dict.fromkeys(ends, ids[None])
        moves = np.full((len(ids), vocab.num_rows), -1, np.int32)
        for state, row in rows.items():
            moves[state, list(row)] = list(row.values())
        self = cls.__new__(cls)
        found = np.array([accepting[i] for i in range(len(ids))], np.bool_)
        # What was not looked at may go on; intersections may have states that no text completes.
        unread = np.ones(len(ids), np.bool_)
        unread[list(rows)] = False
        self._set(moves, 0, found, _live(moves, found | unread))
        return self

    def __repr__(self) -> str:
        return (
            f"TokenAutomaton({self.num_states} states, {self.num_tokens} tokens, "
            f"{self.table.shape[1]} classes)"
        )


def _checked(
    transitions: Any, start: int, accepting: Any
) -> tuple[NDArray[np.int32], NDArray[np.bool_]]:
    moves, ends = np.asarray(transitions), np.asarray(accepting)
    if moves.ndim != 2 or 0 in moves.shape or not np.issubdtype(moves.dtype, np.integer):
        raise InputError(f"transitions: needs integers, shape (states, tokens), not {moves.shape}")
    if ends.shape != moves.shape[:1] or ends.dtype != np.bool_:
        raise InputError(f"accepting: needs bool, shape ({len(moves)},)")
    if moves.min() < -1 or moves.max() >= len(moves):
        raise InputError(f"transitions: a state outside -1 .. {len(moves) - 1}")
    if at_least("start", start, 0) >= len(moves):
        raise InputError(f"start: {start} is not below {len(moves)}")
    return moves.astype(np.int32), ends


def _live(moves: NDArray[np.int32], accepting: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """States from which an accepting one is reached."""
    live = accepting.copy()
    while True:
        more = live | ((moves >= 0) & live[moves]).any(axis=1)
        if (more == live).all():
            return live
        live = more
