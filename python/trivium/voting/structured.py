"""Votes on parts of answers: elements of sets, fields of objects, levels of a hierarchy."""

from __future__ import annotations

import json
from collections.abc import Hashable
from typing import TYPE_CHECKING, Any, TypeVar

from trivium.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

__all__ = ["field_vote", "hierarchical_vote", "set_vote"]

_Element = TypeVar("_Element", bound=Hashable)
_Ballot = TypeVar("_Ballot")

_MISSING = object()


def _weights(weights: Sequence[float] | None, n: int) -> list[float]:
    if weights is None:
        return [1.0] * n
    if len(weights) != n or any(not 0 <= w < float("inf") for w in weights):
        raise InputError(f"weights: needs {n} finite weights from 0 on")
    return [float(w) for w in weights]


def set_vote(
    ballots: Sequence[Sequence[_Element] | None], *, weights: Sequence[float] | None = None
) -> list[_Element]:
    """Elements that more than half of the ballots contain, in the order of first appearance.

    The exact minimum-risk set under Hamming utility. None abstains.

    Examples
    --------
    >>> set_vote([["a", "b"], ["a"], ["a", "c"], ["b", "a"]])
    ['a']
    """
    share = _weights(weights, len(ballots))
    total = sum(w for w, ballot in zip(share, ballots, strict=True) if ballot is not None)
    sums: dict[_Element, float] = {}
    for w, ballot in zip(share, ballots, strict=True):
        for element in dict.fromkeys(ballot or ()):
            sums[element] = sums.get(element, 0.0) + w
    return [element for element, weight in sums.items() if 2 * weight > total]


def hierarchical_vote(
    ballots: Sequence[_Ballot],
    levels: Sequence[Callable[[_Ballot], Hashable]],
    *,
    weights: Sequence[float] | None = None,
) -> list[_Ballot]:
    """Vote level by level: only ballots for the winner of a level vote on the next.

    Returns
    -------
    list
        The ballots that are left; more than one kind where the last level is tied.

    Examples
    --------
    >>> ballots = [(1, "x"), (1, "y"), (2, "z"), (2, "z"), (1, "w")]
    >>> hierarchical_vote(ballots, [lambda b: b[0], lambda b: b[1]])
    [(1, 'x'), (1, 'y'), (1, 'w')]
    """
    share = _weights(weights, len(ballots))
    left = list(zip(ballots, share, strict=True))
    for level in levels:
        sums: dict[Hashable, float] = {}
        for ballot, w in left:
            key = level(ballot)
            sums[key] = sums.get(key, 0.0) + w
        best = max(sums.values(), default=0.0)
        left = [(ballot, w) for ballot, w in left if sums[level(ballot)] >= best]
    return [ballot for ballot, _ in left]


def field_vote(
    ballots: Sequence[Any],
    *,
    validate: Callable[[Any], bool] | None = None,
    weights: Sequence[float] | None = None,
) -> Any:
    """Vote on each field of JSON values by itself, given that its parent is there.

    Objects are voted member by member, among the ballots that have an object there; everything else
    (arrays too) as a whole. Presence of a member is part of its vote. Ties go to the first ballot.

    Parameters
    ----------
    ballots : sequence of JSON values
        Parsed answers.
    validate : callable, optional
        Says whether the assembled value is allowed, by a schema for instance. Where it is not, the
        majority of whole values wins.
    weights : sequence of float, optional
        One a ballot.

    Examples
    --------
    >>> field_vote([{"a": 1, "b": 2}, {"a": 1, "b": 3}, {"a": 4, "b": 3}])
    {'a': 1, 'b': 3}
    """
    if not ballots:
        raise InputError("ballots: an empty list elects nothing")
    share = _weights(weights, len(ballots))
    rows = list(zip(ballots, share, strict=True))
    merged = _field(rows, 0)
    if validate is None or validate(merged):
        return merged
    return _whole(rows)


def _spelled(value: Any) -> str:
    if value is _MISSING:
        return ""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return json.dumps(value, sort_keys=True, default=repr)


def _whole(rows: list[tuple[Any, float]]) -> Any:
    sums: dict[str, float] = {}
    first: dict[str, Any] = {}
    for value, w in rows:
        key = _spelled(value)
        sums[key] = sums.get(key, 0.0) + w
        first.setdefault(key, value)
    return first[max(sums, key=lambda key: sums[key])]


def _field(rows: list[tuple[Any, float]], depth: int) -> Any:
    kinds: dict[bool, float] = {}
    for value, w in rows:
        kinds[isinstance(value, dict)] = kinds.get(isinstance(value, dict), 0.0) + w
    if depth > 64 or max(kinds, key=lambda kind: kinds[kind]) is False:
        return _whole([(v, w) for v, w in rows if depth > 64 or not isinstance(v, dict)])
    objects = [(value, w) for value, w in rows if isinstance(value, dict)]
    names = dict.fromkeys(name for value, _ in objects for name in value)
    out = {}
    for name in names:
        members = [(value.get(name, _MISSING), w) for value, w in objects]
        there = sum(w for value, w in members if value is not _MISSING)
        if 2 * there > sum(w for _, w in members):
            out[name] = _field([(v, w) for v, w in members if v is not _MISSING], depth + 1)
    return out
