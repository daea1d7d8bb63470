"""Exact extraction: the most probable span of a source as the answer.

Castel et al., "How Optimal is Greedy Decoding for Extractive Question Answering?".

A span ``x_i .. x_j`` of a source of `n` tokens costs its own negative log-probability and that of
the end of sequence behind it,

    L(i, j) = -sum over k of log p(x_k | prompt, x_i .. x_{k-1}) - log p(eos | prompt, x_i .. x_j)

`extract_span` reads all of these from two tables, which take one teacher-forced pass a start: `n`
passes, then O(n longest). `extract_best_first` asks for rows only along prefixes that can still
win: costs never fall as a span grows, so the search ends, exactly, where the cheapest open prefix
costs as much as the best finished span. Equal prefixes of several places are one.

`GrammarMask.spans` is the constraint for sampling; these two find the maximum.
"""

from __future__ import annotations

import heapq
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from trivium.constrained._chance import at_least, log_softmax
from trivium.errors import DeadEnd, InputError, LimitExceeded

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

__all__ = ["Span", "extract_best_first", "extract_span"]


@dataclass(frozen=True, slots=True)
class Span:
    """A span of the source.

    Attributes
    ----------
    start, stop : int
        ``source[start:stop]``; the first place where its tokens occur, if the search knows it.
    log_prob : float
        Natural log of the probability of the span and of the end behind it.
    rows : int
        Rows of the model that were read.
    """

    start: int
    stop: int
    log_prob: float
    rows: int


def extract_span(token_log_probs: Any, end_log_probs: Any, *, normalise: bool = False) -> Span:
    """Find the best span from tables of log-probabilities.

    Parameters
    ----------
    token_log_probs : float array, shape (n, m)
        Entry ``[i, k]`` is ``log p(x_{i+k} | prompt, x_i .. x_{i+k-1})``; `m` is the longest span.
        Entries with ``i + k >= n`` are not read.
    end_log_probs : float array, shape (n, m)
        Entry ``[i, k]`` is ``log p(eos | prompt, x_i .. x_{i+k})``.
    normalise : bool, optional
        Divide by the number of tokens scored, the end included; `log_prob` stays the sum.

    Returns
    -------
    Span
        Ties go to the lowest start, then to the shortest.

    Raises
    ------
    InputError
        Shapes, NaN or a positive entry where it is read.
    DeadEnd
        Every span has probability 0.

    Examples
    --------
    >>> import numpy as np
    >>> tokens = np.log([[0.5, 0.5], [0.4, 1.0]])
    >>> ends = np.log([[0.1, 0.9], [0.2, 1.0]])
    >>> best = extract_span(tokens, ends)
    >>> best.start, best.stop
    (0, 2)
    """
    tables = [np.asarray(token_log_probs), np.asarray(end_log_probs)]
    if tables[0].ndim != 2 or 0 in tables[0].shape or tables[0].shape != tables[1].shape:
        raise InputError(
            f"tables: shapes {tables[0].shape}, {tables[1].shape}, need (n, m) for both"
        )
    n, m = tables[0].shape
    inside = np.add.outer(np.arange(n), np.arange(m)) < n
    try:
        tokens, ends = (np.where(inside, t, 0.0).astype(np.float64) for t in tables)
    except (TypeError, ValueError) as e:
        raise InputError(f"tables: not numbers ({e})") from None
    if not ((tokens <= 0.0) & (ends <= 0.0)).all():
        raise InputError("tables: an entry is NaN or positive, no log-probability")
    total = np.where(inside, np.cumsum(tokens, axis=1) + ends, -np.inf)
    score = total / np.arange(2, m + 2) if normalise else total
    i, k = divmod(int(score.argmax()), m)
    if score[i, k] == -np.inf:
        raise DeadEnd("every span of the source has probability 0")
    return Span(i, i + k + 1, float(total[i, k]), n)


def extract_best_first(
    source: Sequence[int],
    model: Callable[[list[tuple[int, ...]]], Any],
    *,
    eos: Sequence[int],
    max_tokens: int = 64,
    batch: int = 1,
    max_rows: int = 100_000,
) -> Span:
    """Find the best span by asking the model along promising prefixes only.

    Parameters
    ----------
    source : sequence of int, length n
    model : callable of list of tuples of int to float array, shape (number of prefixes, V)
        Logits after the prompt and each prefix; the first call asks for the empty prefix.
    eos : sequence of int
        End-of-sequence ids; their probabilities add up.
    max_tokens : int, optional
        Longest span.
    batch : int, optional
        Prefixes a call; more saves calls and may read a few more rows. The answer is the same.
    max_rows : int, optional
        Rows read at most.

    Returns
    -------
    Span
        As exact as `extract_span` with as long spans. Ties go to the span that was finished first.

    Raises
    ------
    InputError
        An empty source, ids outside the rows, rows of another shape.
    DeadEnd
        Every span has probability 0.
    LimitExceeded
        More rows.

    Examples
    --------
    >>> import numpy as np
    >>> rows = {(): [0.9, 0.0, 0.1], (0,): [0.0, 0.1, 0.9]}
    >>> def model(prefixes):
    ...     with np.errstate(divide="ignore"):
    ...         return np.log([rows[p] for p in prefixes])
    >>> best = extract_best_first([0, 1], model, eos=[2])
    >>> best.start, best.stop, best.rows
    (0, 1, 2)
    """
    text, ends = [int(t) for t in source], sorted({int(t) for t in eos})
    if not text or not ends or min(text + ends) < 0:
        raise InputError("source, eos: need ids of at least 0, at least one each")
    longest = at_least("max_tokens", max_tokens, 1)
    width, most = at_least("batch", batch, 1), at_least("max_rows", max_rows, 1)
    # An open prefix: its cost, its tokens, where its next token may stand in the source.
    heap: list[tuple[float, tuple[int, ...], list[int]]] = [(0.0, (), list(range(len(text))))]
    best: Span | None = None
    cost, rows = np.inf, 0
    while heap and heap[0][0] < cost:
        taken = [heapq.heappop(heap)]
        while heap and len(taken) < width and heap[0][0] < cost:
            taken.append(heapq.heappop(heap))
        rows += len(taken)
        if rows > most:
            raise LimitExceeded(f"more than max_rows={most} rows")
        law = _law(model([prefix for _, prefix, _ in taken]), len(taken), max(text + ends))
        for (open_cost, prefix, places), row in zip(taken, law, strict=True):
            if prefix:
                finished = open_cost - float(np.logaddexp.reduce(row[ends]))
                if finished < cost:
                    cost, stop = finished, places[0]
                    best = Span(stop - len(prefix), stop, -finished, rows)
            if len(prefix) < longest:
                for token, after in _children(text, places):
                    longer = open_cost - float(row[token])
                    if longer < np.inf:
                        heapq.heappush(heap, (longer, (*prefix, token), after))
    if best is None:
        raise DeadEnd("every span of the source has probability 0")
    return Span(best.start, best.stop, best.log_prob, rows)


def _law(logits: Any, count: int, largest: int) -> NDArray[np.float64]:
    law = log_softmax(logits, "model")
    if law.ndim != 2 or len(law) != count or law.shape[1] <= largest:
        raise InputError(f"model: rows of shape {law.shape}, needs ({count}, more than {largest})")
    return law


def _children(text: list[int], places: list[int]) -> list[tuple[int, list[int]]]:
    """Tokens that continue a prefix in the source, and the places behind them."""
    found: dict[int, list[int]] = {}
    for place in places:
        if place < len(text):
            found.setdefault(text[place], []).append(place + 1)
    return list(found.items())
