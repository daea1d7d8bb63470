"""Answers that are equal in meaning: clusters made by a caller's test.

The test is asked about pairs of different canonical keys only, at most once a pair, against cluster
representatives in order of falling weight (``"representative"``, at most one question a cluster) or
against all members (``"single"``, as in RPC). Clusters merge and never split. A test need not be
transitive; then the result depends on the order of the answers, which is the launch order.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from trivium.errors import InputError, LimitError, StateError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from trivium import _core

__all__ = ["Merger", "Merging", "cluster"]


class Merger:
    """Joins keys that a test calls equal, with a bounded number of calls.

    Parameters
    ----------
    same : callable
        Takes two keys; returns a truth value, or a probability that is compared with `threshold`.
    link : {"representative", "single"}
        Whom a new key is compared with.
    threshold : float
        Least probability of equality.
    max_calls : int
        Calls after which every new key is a cluster of its own.
    deadline : float, optional
        Seconds after which an answer of the test comes too late and counts as "different".

    Attributes
    ----------
    calls : int
        Calls made.
    timeouts : int
        Answers that came too late.
    """

    __slots__ = (
        "_known",
        "_parent",
        "_weights",
        "calls",
        "deadline",
        "link",
        "max_calls",
        "same",
        "threshold",
        "timeouts",
    )

    def __init__(
        self,
        same: Callable[[str, str], float],
        *,
        link: str = "representative",
        threshold: float = 0.5,
        max_calls: int = 10_000,
        deadline: float | None = None,
    ) -> None:
        if not callable(same):
            raise InputError("same: needs a function of two keys")
        if link not in ("representative", "single"):
            raise InputError(f"link: {link!r} is unknown; choose one of: representative, single")
        if max_calls < 0:
            raise InputError(f"max_calls: {max_calls} is negative")
        self.same, self.link, self.threshold = same, link, threshold
        self.max_calls, self.deadline = max_calls, deadline
        self.calls = self.timeouts = 0
        self._parent: dict[str, str] = {}
        self._weights: dict[str, float] = {}
        self._known: dict[tuple[str, str], bool] = {}

    def find(self, key: str) -> str:
        """Find the representative of a key that was added: the oldest of its cluster."""
        root = key
        while self._parent[root] != root:
            root = self._parent[root]
        while self._parent[key] != root:
            self._parent[key], key = root, self._parent[key]
        return root

    def add(self, key: str, weight: float = 1.0) -> str:
        """Add a ballot; returns the representative of its cluster."""
        if key in self._parent:
            root = self.find(key)
            self._weights[root] += weight
            return root
        others = list(self._parent)
        self._parent[key] = key
        self._weights[key] = weight
        if self.link == "representative":
            roots = sorted(
                (k for k in others if self._parent[k] == k), key=lambda k: -self._weights[k]
            )
            for root in roots:
                if self._equal(root, key):
                    return self._join(root, key)
            return key
        for other in others:
            if self.find(other) != self.find(key) and self._equal(other, key):
                older, newer = sorted((self.find(other), self.find(key)), key=self._age)
                self._join(older, newer)
        return self.find(key)

    def clusters(self) -> dict[str, list[str]]:
        """Keys by representative, both in the order in which they were added."""
        out: dict[str, list[str]] = {}
        for key in self._parent:
            out.setdefault(self.find(key), []).append(key)
        return out

    def weight(self, key: str) -> float:
        """Weight of the cluster of a key."""
        return self._weights[self.find(key)]

    def _age(self, key: str) -> int:
        return list(self._parent).index(key)

    def _join(self, root: str, key: str) -> str:
        self._parent[key] = root
        self._weights[root] += self._weights.pop(key)
        return root

    def _equal(self, x: str, y: str) -> bool:
        pair = (x, y) if x <= y else (y, x)
        if pair not in self._known:
            if self.calls >= self.max_calls:
                return False
            self.calls += 1
            start = time.monotonic()
            said = float(self.same(x, y)) >= self.threshold
            if self.deadline is not None and time.monotonic() - start > self.deadline:
                self.timeouts += 1
                said = False
            self._known[pair] = said
        return self._known[pair]


def cluster(
    keys: Sequence[str | None],
    same: Callable[[str, str], float],
    *,
    link: str = "representative",
    max_calls: int = 10_000,
) -> list[str | None]:
    """Replace keys by the representatives of their clusters, in launch order.

    Raises
    ------
    LimitError
        `max_calls` were not enough.

    Examples
    --------
    >>> cluster(["4", "four", None, "5"], lambda x, y: {x, y} == {"4", "four"})
    ['4', '4', None, '5']
    """
    merger = Merger(same, link=link, max_calls=max_calls)
    for key in keys:
        if key is not None:
            merger.add(key)
    if merger.calls >= max_calls > 0 and len(merger.clusters()) > 1:
        raise LimitError(f"max_calls: {max_calls} calls did not suffice")
    return [None if key is None else merger.find(key) for key in keys]


class Merging:
    """Ends of one question's traces, handed on in launch order with merged keys."""

    __slots__ = ("_merger", "_next", "_said", "_waiting")

    def __init__(self, merger: Merger) -> None:
        self._merger = merger
        self._next = 0
        self._waiting: dict[int, tuple[Any, ...]] = {}
        self._said: dict[str, tuple[str | None, str | None]] = {}

    def finish(
        self, core: _core.Voter, handle: int, trace: int, end: tuple[Any, ...]
    ) -> list[tuple[str, int, str, Any]]:
        """Report an end; those that waited for it follow."""
        if trace in self._waiting:
            raise StateError(f"trace {trace} of question {handle} has ended already")
        core.check_running(handle, trace)
        self._waiting[trace] = end
        actions: list[tuple[str, int, str, Any]] = []
        decided = False
        while self._waiting:
            trace = min(self._waiting) if decided else self._next
            if trace not in self._waiting:
                break
            actions += core.finish(handle, trace, *self._merged(core, self._waiting.pop(trace)))
            decided = decided or any(action[0] == "done" for action in actions)
            self._next = max(self._next, trace + 1)
        return actions

    def _merged(self, core: _core.Voter, end: tuple[Any, ...]) -> tuple[Any, ...]:
        text, answer, reason, *rest = end
        if reason in ("cancelled", "error") or text is answer is None:
            return end
        key = core.key_of(text, answer, reason == "length")
        if key is None:
            return end
        self._said.setdefault(key, (text, answer))
        root = self._merger.add(key)
        if root == key:
            return end
        # The older spelling stands for the cluster; it was read whole.
        return (*self._said[root], "stop", *rest)
