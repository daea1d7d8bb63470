"""DINGO: the most probable block of a diffusion model under a regular language, and exact samples.

Suresh et al., "DINGO: Constrained Inference for Diffusion LLMs".

A block of `d` positions, each with its own law over the tokens and, if wanted, over "stays masked";
positions are independent. Among all strings that leave a possible completion, `dingo` finds the
most probable one by a dynamic programme over states:

    W_i(q') = max over q and t with next(q, t) = q' of W_{i-1}(q) + log v_i(t)

A masked position steps to every successor. Cost: O(d V) for the best token of each class, then
O(d edges), edges being pairs of a state and a class.

`dingo_sample` is an addition to the paper: it draws from the product law given the language. Sums,
unlike maxima, count a string once a path, and with masked positions or several start states a
string has several. So they run over reachable *sets* of states, made on demand; without masked
positions and with one start state these are single states. Cost: O(d sets classes).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from trivium.constrained._chance import at_least, chance, log_softmax
from trivium.constrained.automaton import TokenAutomaton
from trivium.errors import DeadEnd, InputError, LimitExceeded

if TYPE_CHECKING:
    from collections.abc import Iterable

    from numpy.typing import NDArray

    from trivium.constrained._chance import Rng

__all__ = ["Block", "dingo", "dingo_sample"]


@dataclass(frozen=True, slots=True)
class Block:
    """A filled block.

    Attributes
    ----------
    tokens : int32 array, shape (d,)
        -1 where the position stays masked.
    log_prob : float
        Natural log of its probability under the product law.
    log_mass : float or None
        Log of the mass of all strings that are allowed, from `dingo_sample`; ``log_prob -
        log_mass`` is the log-probability of the draw.
    states : tuple of int
        Possible states behind it: `starts` of the next block.
    """

    tokens: NDArray[np.int32]
    log_prob: float
    log_mass: float | None
    states: tuple[int, ...]


def dingo(
    automaton: TokenAutomaton,
    logits: Any,
    *,
    mask_logits: Any | None = None,
    starts: Iterable[int] | None = None,
    final: bool = False,
) -> Block:
    """Find the most probable string of a block.

    Parameters
    ----------
    automaton : TokenAutomaton
    logits : float array, shape (d, V)
        One row a position; a fixed token is a row with 0 there and ``-inf`` elsewhere.
    mask_logits : float array, shape (d,), optional
        Of staying masked, normalised together with the row. Default: no position may.
    starts : iterable of int, optional
        Possible states before the block; default the automaton's start.
    final : bool, optional
        Whether the text may end behind the block, instead of being possible to complete.

    Returns
    -------
    Block
        Ties go to the lowest token of a class, and to a token before a masked position.

    Raises
    ------
    DeadEnd
        No string with positive probability is allowed.
    InputError
        Shapes, NaN, states out of range.

    Examples
    --------
    >>> import numpy as np
    >>> auto = TokenAutomaton([[0, 1], [-1, 1]], 0, [True, True])  # a*b*
    >>> dingo(auto, np.log([[0.2, 0.8], [0.9, 0.1]])).tokens.tolist()
    [0, 0]
    """
    rows, begin = _inputs(automaton, logits, mask_logits, starts)
    by_class = _best_tokens(automaton, rows)
    edges = _Edges(automaton, masked=mask_logits is not None)
    weight = np.full(automaton.num_states, -np.inf)
    weight[list(begin)] = 0.0
    taken = []
    for i in range(len(rows)):
        scores = rows[i, by_class[i]]
        weight, edge = edges.advance(weight, scores)
        taken.append(edge)
    ends = np.where(automaton.accepting, weight, -np.inf) if final else weight
    state = int(ends.argmax())
    if ends[state] == -np.inf:
        raise DeadEnd("no string of the block is allowed and has positive probability")
    tokens = np.empty(len(rows), np.int32)
    for i in reversed(range(len(rows))):
        edge = taken[i][state]
        tokens[i] = by_class[i, edges.classes[edge]]
        state = int(edges.sources[edge])
    log_prob = float(rows[np.arange(len(rows)), tokens].sum())
    tokens[tokens == automaton.num_tokens] = -1
    return Block(tokens, log_prob, None, _states_after(automaton, begin, tokens))


def dingo_sample(
    automaton: TokenAutomaton,
    logits: Any,
    *,
    rng: Rng,
    mask_logits: Any | None = None,
    starts: Iterable[int] | None = None,
    final: bool = False,
    max_sets: int = 10_000,
) -> Block:
    """Draw a string of a block from the product law given that it is allowed.

    Parameters
    ----------
    automaton, logits, mask_logits, starts, final
        As in `dingo`.
    rng : numpy.random.Generator, int, or an object with ``categorical(weights) -> int``
        An int is a seed.
    max_sets : int, optional
        Sets of states made; with masked positions they can be many.

    Returns
    -------
    Block

    Raises
    ------
    DeadEnd
        No string with positive probability is allowed.
    LimitExceeded
        More sets of states.
    InputError
        Shapes, NaN, states out of range.
    """
    rows, begin = _inputs(automaton, logits, mask_logits, starts)
    most, source = at_least("max_sets", max_sets, 1), chance(rng)
    members = _members(automaton, masked=mask_logits is not None)
    mass = np.full((len(rows), len(members)), -np.inf)
    for c, group in enumerate(members):
        mass[:, c] = np.logaddexp.reduce(rows[:, group], axis=1)
    sets = _Sets(automaton, begin, len(members), most)
    for _ in range(len(rows)):
        sets.deepen()
    # value[s]: log mass of what may follow behind position i; one more entry stands for no state.
    values = [sets.ends(final)]
    for i in reversed(range(len(rows))):
        step = sets.moves[: sets.layers[i]]
        values.append(np.append(np.logaddexp.reduce(mass[i] + values[-1][step], axis=1), -np.inf))
    values.reverse()
    total = float(values[0][0])
    if total == -np.inf:
        raise DeadEnd("no string of the block is allowed and has positive probability")
    tokens, here, log_prob = np.empty(len(rows), np.int32), 0, 0.0
    for i in range(len(rows)):
        scores = mass[i] + values[i + 1][sets.moves[here]]
        group = members[source.categorical(np.exp(scores - scores.max()))]
        inside = rows[i, group]
        token = int(group[source.categorical(np.exp(inside - inside.max()))])
        log_prob += float(rows[i, token])
        here = int(sets.moves[here, _class_of(automaton, token)])
        tokens[i] = token
    tokens[tokens == automaton.num_tokens] = -1
    return Block(tokens, log_prob, total, tuple(sorted(sets.sets[here])))


def _inputs(
    automaton: TokenAutomaton, logits: Any, mask_logits: Any | None, starts: Iterable[int] | None
) -> tuple[NDArray[np.float64], frozenset[int]]:
    """Log-probabilities, shape (d, V) or (d, V + 1), and the states before the block."""
    if not isinstance(automaton, TokenAutomaton):
        raise InputError(f"automaton: {type(automaton).__name__} is no TokenAutomaton")
    rows = np.asarray(logits)
    if rows.ndim != 2 or rows.shape[1] != automaton.num_tokens or len(rows) == 0:
        raise InputError(f"logits: shape {rows.shape}, needs (d, {automaton.num_tokens})")
    if mask_logits is not None:
        column = np.asarray(mask_logits)
        if column.shape != (len(rows),):
            raise InputError(f"mask_logits: shape {column.shape}, needs ({len(rows)},)")
        rows = np.concatenate([rows, column[:, None]], axis=1)
    begin = frozenset([automaton.start] if starts is None else [int(q) for q in starts])
    if not begin or min(begin) < 0 or max(begin) >= automaton.num_states:
        raise InputError(f"starts: needs states of 0 .. {automaton.num_states - 1}")
    return log_softmax(rows), begin


def _members(automaton: TokenAutomaton, *, masked: bool) -> list[NDArray[np.intp]]:
    """Tokens of each class; staying masked is a class of its own, behind the others."""
    order = np.argsort(automaton.classes, kind="stable")
    counts = np.bincount(automaton.classes, minlength=automaton.table.shape[1])
    groups = np.split(order, np.cumsum(counts)[:-1])
    return [*groups, np.array([automaton.num_tokens])] if masked else groups


def _best_tokens(automaton: TokenAutomaton, rows: NDArray[np.float64]) -> NDArray[np.intp]:
    """Most probable token of each class at each position."""
    groups = _members(automaton, masked=rows.shape[1] > automaton.num_tokens)
    return np.stack([group[rows[:, group].argmax(axis=1)] for group in groups], axis=1)


def _class_of(automaton: TokenAutomaton, token: int) -> int:
    n = automaton.num_tokens
    return automaton.table.shape[1] if token == n else int(automaton.classes[token])


def _states_after(
    automaton: TokenAutomaton, begin: frozenset[int], tokens: NDArray[np.int32]
) -> tuple[int, ...]:
    here = np.array(sorted(begin))
    for token in tokens:
        rows = automaton.table[here]
        found = rows if token < 0 else rows[:, automaton.classes[token]]
        here = np.unique(found[found >= 0])
    return tuple(here.tolist())


class _Edges:
    """Moves of all states, sorted by where they lead, so that a maximum is one pass."""

    def __init__(self, automaton: TokenAutomaton, *, masked: bool) -> None:
        table = automaton.table
        src, cls = np.nonzero(table >= 0)
        dst = table[src, cls]
        if masked:
            pairs = np.unique(np.stack([src, dst]), axis=1)
            src = np.concatenate([src, pairs[0]])
            dst = np.concatenate([dst, pairs[1]])
            cls = np.concatenate([cls, np.full(pairs.shape[1], table.shape[1])])
        order = np.argsort(dst, kind="stable")
        self.sources, self.classes = src[order], cls[order]
        self.states, self.begins, sizes = np.unique(
            dst[order], return_index=True, return_counts=True
        )
        self.group = np.repeat(np.arange(len(self.states)), sizes)
        self.num_states = len(table)

    def advance(
        self, weight: NDArray[np.float64], scores: NDArray[np.float64]
    ) -> tuple[NDArray[np.float64], NDArray[np.intp]]:
        """Weights after one more position, and the edge each state was reached by."""
        after = np.full(self.num_states, -np.inf)
        edge = np.zeros(self.num_states, np.intp)
        if len(self.states):
            total = weight[self.sources] + scores[self.classes]
            best = np.maximum.reduceat(total, self.begins)
            hits = np.flatnonzero(total == best[self.group])
            _, first = np.unique(self.group[hits], return_index=True)
            after[self.states] = best
            edge[self.states] = hits[first]
        return after, edge


class _Sets:
    """Sets of states reachable in a block, and the set each class leads to; -1 is the empty one."""

    def __init__(
        self, automaton: TokenAutomaton, begin: frozenset[int], symbols: int, most: int
    ) -> None:
        self.automaton, self.most = automaton, most
        self.sets = [begin]
        self.ids = {begin: 0}
        self.moves = np.empty((0, symbols), np.intp)
        self.layers: list[int] = []  # how many sets were known before each position

    def deepen(self) -> None:
        self.layers.append(len(self.sets))
        known = len(self.moves)
        fresh = [self._row(states) for states in self.sets[known:]]
        if fresh:
            self.moves = np.vstack([self.moves, *fresh])

    def _row(self, states: frozenset[int]) -> NDArray[np.intp]:
        rows = np.sort(self.automaton.table[sorted(states)], axis=0)
        columns, inverse = np.unique(rows, axis=1, return_inverse=True)
        ids = [self._id(column) for column in columns.T]
        row = np.array(ids, np.intp)[inverse.reshape(-1)]
        if self.moves.shape[1] > len(row):
            row = np.append(row, self._id(rows.reshape(-1)))
        return row

    def _id(self, states: NDArray[np.int32]) -> int:
        found = frozenset(states[states >= 0].tolist())
        if not found:
            return -1
        if found not in self.ids:
            if len(self.sets) == self.most:
                raise LimitExceeded(f"more than max_sets={self.most} sets of states")
            self.ids[found] = len(self.sets)
            self.sets.append(found)
        return self.ids[found]

    def ends(self, final: bool) -> NDArray[np.float64]:
        good = [not final or bool(self.automaton.accepting[list(s)].any()) for s in self.sets]
        return np.append(np.where(good, 0.0, -np.inf), -np.inf)
