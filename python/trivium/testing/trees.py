"""Problems for verifiers, and the protocols by which their trees are drafted.

The draft protocol is part of the law: most released biases sit there and not in the acceptance
rule. A protocol is a callable ``draft(problem, rng) -> Draft``; those of this module are correct
partners of the published verifiers.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from trivium.errors import InputError
from trivium.testing.laws import FAMILIES, law_pair, normalise
from trivium.testing.shrink import round_law

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import numpy.typing as npt

    from trivium.testing.chance import Rng
    from trivium.testing.laws import Law

__all__ = ["DRAFTS", "Draft", "Tree", "VerifierProblem", "problems"]

Path = tuple[int, ...]


@dataclass(frozen=True)
class VerifierProblem:
    """Target and draft laws after every prefix, and the shape of the tree.

    Attributes
    ----------
    widths : tuple of int
        Children of every node, level by level: ``(1, 1)`` is a chain of two, ``(2, 1)`` two chains.
    rows : dict
        Path of tokens from node 0 to ``(p, q)``; paths that are absent have those of ``()``.
    temperature, penalty : float
        How `p` came from raw logits: divided by `temperature` after `penalty` was taken off for
        every time the token occurs on the path. Verifiers that look at raw rows are caught by it.
    family : str
        Where the laws come from.
    """

    widths: tuple[int, ...]
    rows: dict[Path, tuple[Law, Law]]
    temperature: float = 1.0
    penalty: float = 0.0
    family: str = ""
    _built: dict[Any, Any] = field(default_factory=dict, repr=False, compare=False)

    @property
    def vocab(self) -> int:
        """Vocabulary size."""
        return len(self.rows[()][0])

    @property
    def depth(self) -> int:
        """Depth of the deepest drafted node."""
        return len(self.widths)

    def p(self, path: Path) -> Law:
        """Return the target law after a path."""
        return self.rows.get(path, self.rows[()])[0]

    def q(self, path: Path) -> Law:
        """Return the draft law after a path."""
        return self.rows.get(path, self.rows[()])[1]

    def logits(self, path: Path) -> list[float]:
        """Return raw target logits after a path; processed they give `p`.

        Tokens that the processed law forbids have a finite raw logit, as under a mask.
        """
        p = self.p(path)
        logs = [float(np.log(x)) if x > 0.0 else 0.0 for x in p]
        return [self.temperature * z + self.penalty * path.count(t) for t, z in enumerate(logs)]

    def law(self) -> dict[Path, float]:
        """Return the law of ``depth + 1`` tokens of ancestral sampling."""
        return self.extend({(): 1.0})

    def extend(self, law: dict[Path, float]) -> dict[Path, float]:
        """Return a law of texts, each continued by ancestral sampling to ``depth + 1`` tokens."""
        full: dict[Path, float] = {}
        todo = law
        while todo:
            longer: dict[Path, float] = {}
            for text, mass in todo.items():
                if len(text) > self.depth:
                    full[text] = full.get(text, 0.0) + mass
                    continue
                for token, p in enumerate(self.p(text)):
                    if p > 0.0 and mass > 0.0:
                        key = (*text, token)
                        longer[key] = longer.get(key, 0.0) + mass * p
            todo = longer
        return full

    def describe(self) -> dict[str, Any]:
        """Return the problem as plain data for a report."""
        out: dict[str, Any] = {"vocabulary": self.vocab, "widths": self.widths}
        if self.temperature != 1.0:
            out["temperature"] = self.temperature
        if self.penalty:
            out["penalty"] = self.penalty
        paths = sorted(self.rows, key=lambda k: (len(k), k))
        for path in paths[:12]:
            where = "everywhere" if len(paths) == 1 else "after " + (str(list(path)))
            p, q = self.rows[path]
            out[f"p {where}"] = "(" + ", ".join(f"{x:.10g}" for x in p) + ")"
            out[f"q {where}"] = "(" + ", ".join(f"{x:.10g}" for x in q) + ")"
        if len(paths) > 12:
            out["..."] = f"and {len(paths) - 12} rows"
        return out

    def simpler(self) -> Iterator[VerifierProblem]:
        """Yield simpler problems, boldest first."""
        if len(self.rows) > 1:
            yield self._with(rows={(): self.rows[()]})
        if self.depth > 1:
            yield self._cut(self.widths[:-1])
        for i, width in enumerate(self.widths):
            if width > 1:
                yield self._cut((*self.widths[:i], width - 1, *self.widths[i + 1 :]))
        if self.temperature != 1.0:
            yield self._with(temperature=1.0)
        if self.penalty:
            yield self._with(penalty=0.0)
        if self.vocab > 2:
            for token in reversed(range(self.vocab)):
                smaller = self._without(token)
                if smaller is not None:
                    yield smaller
        cost = self._denominator()
        for parts in (2, 3, 4, 5, 10, 20, 100):
            if parts < cost:
                rounded = {
                    k: (round_law(p, parts), round_law(q, parts)) for k, (p, q) in self.rows.items()
                }
                yield self._with(rows=rounded)

    def _with(self, **changes: Any) -> VerifierProblem:
        return replace(self, **changes, _built={})

    def _cut(self, widths: tuple[int, ...]) -> VerifierProblem:
        rows = {k: v for k, v in self.rows.items() if len(k) <= len(widths)}
        return self._with(widths=widths, rows=rows)

    def _without(self, token: int) -> VerifierProblem | None:
        rows = {}
        for path, pair in self.rows.items():
            if token in path:
                continue
            laws = [law[:token] + law[token + 1 :] for law in pair]
            if any(sum(law) <= 0.0 for law in laws):
                return None
            key = tuple(t - (t > token) for t in path)
            rows[key] = (normalise(laws[0]), normalise(laws[1]))
        return self._with(rows=rows)

    def _denominator(self) -> int:
        values = np.array([x for pair in self.rows.values() for law in pair for x in law])
        for parts in (1, 2, 3, 4, 5, 10, 20, 100):
            if np.abs(values * parts - np.round(values * parts)).max() < 1e-9:
                return parts
        return 1000


@dataclass
class Tree:
    """A drafted tree, as a verifier receives it.

    Attributes
    ----------
    tokens : int32 array, shape (N,)
        Node 0 is the last committed token; the other nodes are drafts, in draw order.
    parents : int32 array, shape (N,)
        Parent of each node, -1 for node 0; parents come before children.
    depths : int32 array, shape (N,)
        0 for node 0.
    logits : float64 array, shape (N, vocab)
        Raw target rows, before temperature and penalties; `p` is the processed law.
    notes : dict
        Whatever the draft protocol left for its verifier.
    """

    tokens: npt.NDArray[np.int32]
    parents: npt.NDArray[np.int32]
    depths: npt.NDArray[np.int32]
    logits: npt.NDArray[np.float64]
    notes: dict[str, Any] = field(default_factory=dict)
    _children: list[list[int]] = field(default_factory=list, repr=False)
    _paths: list[Path] = field(default_factory=list, repr=False)

    def __len__(self) -> int:
        return len(self.tokens)

    def children(self, node: int) -> list[int]:
        """Return the children of a node in draw order."""
        return self._children[node]

    def child(self, node: int, token: int) -> int | None:
        """Return the first child with a token, or None."""
        return next((c for c in self._children[node] if self.tokens[c] == token), None)

    def path(self, node: int) -> Path:
        """Return the drafted tokens from node 0 (left out) to a node."""
        return self._paths[node]

    def chain(self) -> list[int]:
        """Return the drafted nodes of the path of first children."""
        out: list[int] = []
        at = 0
        while self._children[at]:
            at = self._children[at][0]
            out.append(at)
        return out


class Draft:
    """A tree under construction.

    Parameters
    ----------
    problem : VerifierProblem
        Gives the laws.
    """

    def __init__(self, problem: VerifierProblem) -> None:
        self.problem = problem
        self.notes: dict[str, Any] = {}
        self._tokens = [0]
        self._parents = [-1]
        self._paths: list[Path] = [()]
        self._claims: dict[int, Law] = {}

    def add(self, parent: int, token: int) -> int:
        """Add a node and return its index."""
        self._tokens.append(int(token))
        self._parents.append(parent)
        self._paths.append((*self._paths[parent], int(token)))
        return len(self._tokens) - 1

    def path(self, node: int) -> Path:
        """Return the drafted tokens from node 0 (left out) to a node."""
        return self._paths[node]

    def q(self, node: int) -> Law:
        """Return the draft law at a node, from which its children are drawn."""
        return self.problem.q(self._paths[node])

    def p(self, node: int) -> Law:
        """Return the target law at a node; a correct protocol does not read it."""
        return self.problem.p(self._paths[node])

    def claim(self, node: int, law: Law) -> None:
        """Hand the verifier another law than `q` for the children of a node."""
        self._claims[node] = law

    def build(self) -> tuple[Tree, npt.NDArray[np.float64], npt.NDArray[np.float64]]:
        """Return the tree, and the target and draft rows of all nodes."""
        key = (tuple(self._tokens), tuple(self._parents), tuple(sorted(self._claims.items())))
        known = self.problem._built.get(key)
        if known is None:
            known = self.problem._built[key] = self._arrays()
        arrays, p, q, children = known
        tokens, parents, depths, logits = (a.copy() for a in arrays)
        tree = Tree(tokens, parents, depths, logits, self.notes, children, self._paths)
        return tree, p.copy(), q.copy()

    def _arrays(self) -> tuple[Any, ...]:
        children: list[list[int]] = [[] for _ in self._tokens]
        depths = [0] * len(self._tokens)
        for node, parent in enumerate(self._parents):
            if parent >= 0:
                children[parent].append(node)
                depths[node] = depths[parent] + 1
        problem, paths = self.problem, self._paths
        arrays = (
            np.array(self._tokens, dtype=np.int32),
            np.array(self._parents, dtype=np.int32),
            np.array(depths, dtype=np.int32),
            np.array([problem.logits(path) for path in paths]),
        )
        q = [self._claims.get(i) or problem.q(path) for i, path in enumerate(paths)]
        return arrays, np.array([problem.p(path) for path in paths]), np.array(q), children


def with_replacement(problem: VerifierProblem, rng: Rng) -> Draft:
    """Draw the children of every node independently from its `q`, duplicates kept."""
    draft = Draft(problem)
    level = [0]
    for width in problem.widths:
        level = [
            draft.add(node, rng.categorical(draft.q(node))) for node in level for _ in range(width)
        ]
    return draft


def without_replacement(problem: VerifierProblem, rng: Rng) -> Draft:
    """Draw the children of every node from its `q` without replacement."""
    draft = Draft(problem)
    level = [0]
    for width in problem.widths:
        nxt = []
        for node in level:
            left = list(draft.q(node))
            for _ in range(width):
                if sum(left) <= 0.0:
                    break
                token = rng.categorical(left)
                left[token] = 0.0
                nxt.append(draft.add(node, token))
        level = nxt
    return draft


def deterministic(problem: VerifierProblem, rng: Rng) -> Draft:  # noqa: ARG001
    """Take the likeliest tokens of `q` as children: point masses, nothing is drawn."""
    draft = Draft(problem)
    level = [0]
    for width in problem.widths:
        nxt = []
        for node in level:
            q = draft.q(node)
            best = sorted(range(len(q)), key=lambda t: (-q[t], t))[:width]
            nxt += [draft.add(node, t) for t in best]
        level = nxt
    return draft


def race(problem: VerifierProblem, rng: Rng) -> Draft:
    """Take the first arrivals of the race ``rng.row(depth) / q`` as children."""
    draft = Draft(problem)
    level = [0]
    for depth, width in enumerate(problem.widths):
        nxt = []
        for node in level:
            q = np.asarray(draft.q(node))
            noise = rng.row(depth)
            arrival = np.full(len(q), np.inf)
            np.divide(noise, q, out=arrival, where=q > 0.0)
            first = [t for t in np.argsort(arrival, kind="stable") if np.isfinite(arrival[t])]
            nxt += [draft.add(node, int(t)) for t in first[:width]]
        level = nxt
    return draft


DRAFTS: dict[str, Callable[[VerifierProblem, Rng], Draft]] = {
    "chain": with_replacement,
    "with_replacement": with_replacement,
    "without_replacement": without_replacement,
    "deterministic": deterministic,
    "race": race,
}
"""Draft protocols by name; ``"chain"`` has one child a node."""

_CHAINS = ((1,), (1, 1), (1, 1, 1))
_TREES = ((2,), (2, 1), (1, 2), (2, 2), (3,), (3, 1))


def _paths(vocab: int, depth: int) -> list[Path]:
    out: list[Path] = [()]
    level: list[Path] = [()]
    for _ in range(depth):
        level = [(*path, t) for path in level for t in range(vocab)]
        out += level
    return out


def problems(*, chain: bool, quick: bool, seed: int) -> Iterator[VerifierProblem]:
    """Yield the problems of a verifier check, small ones first; a pure function of the arguments.

    Parameters
    ----------
    chain : bool
        Chains only, or trees too.
    quick : bool
        About a third of them.
    seed : int
        Seed of the laws.
    """
    shapes = _CHAINS if chain else (*_TREES, (1, 1))
    if seed < 0:
        raise InputError(f"seed: {seed} is negative")
    rng = np.random.default_rng(seed)
    for size in (4, 3, 2):  # the toys of the specification first
        p, q = law_pair("toy", size, rng)
        yield VerifierProblem(shapes[0], {(): (p, q)}, family="toy")
    yield VerifierProblem(shapes[0], {(): ((0.0, 1.0), (0.5, 0.5))}, family="zeros in p")
    yield VerifierProblem(shapes[0], {(): ((0.5, 0.5, 0.0), (0.2, 0.3, 0.5))}, family="zeros in p")
    number = 0
    for free in (True, False):  # context-free laws first: they shrink for nothing
        for family in FAMILIES:
            for widths in shapes:
                number += 1
                if quick and (number + number // 3) % 3 != 1:
                    continue
                nodes = sum(int(np.prod(widths[: i + 1])) for i in range(len(widths)))
                vocab = 2 if nodes > 3 else (3, 4)[number % 2] if nodes < 3 else 3
                paths = [()] if free else _paths(vocab, len(widths))
                yield VerifierProblem(
                    widths,
                    {path: law_pair(family, vocab, rng) for path in paths},
                    temperature=(1.0, 0.5, 1.5)[number % 3],
                    penalty=(0.0, 0.7)[number % 2],
                    family=family,
                )
