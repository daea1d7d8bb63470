"""Token trees from a drafter's rows; the public names are in `trivium.trees`.

A `Builder` names the nodes whose rows it needs, the host runs its drafter once on all of them and
pushes the rows, until the frontier is empty:

>>> import numpy as np
>>> b = Builder.opt_tree(last=3, vocab_size=8, max_nodes=6, max_depth=3)
>>> while len(b.frontier):
...     b.push(np.random.default_rng(0).dirichlet(np.ones(8), len(b.frontier)))
>>> tree = b.finish()
>>> len(tree), tree.law, tree.pruning
(6, 'point_mass', 'identity')

`to_batch` makes a batch of such trees, which `Speculator.verify` decides. Every tree says how its
tokens came about, and a verifier that would bias it is refused, at the builder already if it is
named there.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from trivium import _core
from trivium._core import DraftTree, Sequoia, StateSpacePlan, Template, TreeBatch
from trivium.errors import InputError, UnsupportedError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from trivium._core import Request
    from trivium.control import Policy

__all__ = [
    "Builder",
    "DraftTree",
    "Sequoia",
    "StateSpacePlan",
    "Template",
    "builders",
    "merge",
    "merge_attention",
    "ppd",
    "prune_by_draft",
    "retrieved",
    "takes",
    "to_batch",
]


class Builder:
    """Grows one tree from the rows of a drafter, level by level.

    Every constructor takes the last committed token `last` (node 0) and `vocab_size`, and:

    seed, index, branch : int, optional
        Address of the noise of drawn trees: the request's seed, the absolute index of the first
        undecided token (``len(request)``) and the trace number.
    verifier : str, optional
        The verifier that will decide; `UnsupportedError`, naming both, if it would bias the text.

    Budgets called ``max_nodes`` count node 0. Rows are weights of any positive sums, after the
    drafter's own temperature and truncation; builders of drawn trees keep them for `DraftTree.q`.
    """

    __slots__ = ("_core",)

    def __init__(self, kind: str, last: int, vocab_size: int, **options: Any) -> None:
        policy = options.get("policy")
        if policy is not None:
            options["policy"] = str(policy)
        self._core = _core.TreeBuilder(kind, last, vocab_size, **options)

    @classmethod
    def template(
        cls, template: Template, last: int, vocab_size: int, *, draw: str = "top", **noise: Any
    ) -> Builder:
        """Fill a fixed shape; `draw` says what a rank is.

        ``"top"``: the rank-th most likely token (Medusa, EAGLE, Token Recycling). The others are
        draws in order: ``"without_replacement"`` (RSD-C), ``"then_uniform"`` (Sequoia: uniform
        once the support is exhausted), ``"iid"``, ``"greedy_plus_one"`` (the most likely tokens and
        one draw from the rest).
        """
        kinds = {
            "top": "template",
            "without_replacement": "rsd_c",
            "then_uniform": "sequoia",
            "iid": "iid_paths",
            "greedy_plus_one": "greedy_plus_one",
        }
        if draw not in kinds:
            raise UnsupportedError(f"draw {draw!r} does not exist; use {', '.join(kinds)}")
        return cls(kinds[draw], last, vocab_size, template=template, **noise)

    @classmethod
    def chain(
        cls,
        policy: str | Policy,
        last: int,
        vocab_size: int,
        *,
        max_depth: int = 64,
        drawn: bool = True,
        **noise: Any,
    ) -> Builder:
        """Draft a chain whose length a policy of `trivium.control` decides token by token."""
        kind = "chain" if drawn else "chain_chosen"
        return cls(kind, last, vocab_size, policy=policy, max_depth=max_depth, **noise)

    @classmethod
    def opt_tree(
        cls,
        last: int,
        vocab_size: int,
        *,
        max_nodes: int = 61,
        max_depth: int = 10,
        delta: float = 0.5,
        **noise: Any,
    ) -> Builder:
        """OPT-Tree: the best nodes of all layers, another layer while the last gained `delta`."""
        options = {"max_nodes": max_nodes, "max_depth": max_depth, "delta": delta}
        return cls("opt_tree", last, vocab_size, **options, **noise)

    @classmethod
    def eagle2(
        cls,
        last: int,
        vocab_size: int,
        *,
        top_k: int = 10,
        max_depth: int = 7,
        max_nodes: int = 61,
        **noise: Any,
    ) -> Builder:
        """EAGLE-2: a beam of `top_k` nodes a layer, then the best `max_nodes` of all."""
        options = {"top_k": top_k, "max_depth": max_depth, "max_nodes": max_nodes}
        return cls("eagle2", last, vocab_size, **options, **noise)

    @classmethod
    def longspec(
        cls,
        last: int,
        vocab_size: int,
        *,
        widths: Sequence[int] = (4, 16, 16, 16, 16),
        **noise: Any,
    ) -> Builder:
        """LongSpec: the best ``widths[l]`` nodes of each layer."""
        return cls("longspec", last, vocab_size, widths=list(widths), **noise)

    @classmethod
    def dyspec(
        cls,
        last: int,
        vocab_size: int,
        *,
        max_nodes: int = 64,
        max_depth: int = 16,
        threshold: float = 0.0,
        drawn: bool = True,
        **noise: Any,
    ) -> Builder:
        """DySpec: the slot most likely to decide is filled next.

        With ``threshold > 0`` every slot of at least that is filled and the drafter runs once a
        level; with 0 the budget is filled exactly, one row at a time.
        """
        kind = "dyspec" if drawn else "dyspec_chosen"
        options = {"max_nodes": max_nodes, "max_depth": max_depth, "threshold": threshold}
        return cls(kind, last, vocab_size, **options, **noise)

    @classmethod
    def rsd_s(
        cls, last: int, vocab_size: int, *, width: int = 8, max_depth: int = 4, **noise: Any
    ) -> Builder:
        """RSD-S: a stochastic beam, sequences without replacement."""
        return cls("rsd_s", last, vocab_size, width=width, max_depth=max_depth, **noise)

    @property
    def name(self) -> str:
        """Name of the builder, as in `builders`."""
        return self._core.name

    @property
    def frontier(self) -> NDArray[np.int32]:
        """Nodes whose rows are needed next, in this order; empty when done."""
        return self._core.frontier

    @property
    def tree(self) -> DraftTree:
        """The nodes so far; their numbers stay until `finish`."""
        return self._core.tree()

    def path(self, node: int) -> NDArray[np.int32]:
        """Tokens from below node 0 down to `node`."""
        return self._core.path(node)

    def push(self, rows: Any) -> None:
        """Take one row a frontier node: float array, shape (frontier, vocab).

        Raises
        ------
        InputError
            Wrong shape, NaN, negative entries or a row without mass; nothing changes.
        StateError
            No row was asked for.
        """
        self._core.push(rows)

    def finish(self) -> DraftTree:
        """Return the tree to verify, after the builder's last cut."""
        return self._core.finish()


def builders() -> dict[str, tuple[str, str]]:
    """Law and pruning of every builder's trees, by name."""
    return {name: (law, pruning) for name, law, pruning in _core.builders()}


def takes(builder: str, verifier: str) -> bool:
    """Whether `verifier` decides trees of `builder` without bias."""
    return _core.builder_takes(builder, verifier)


def to_batch(trees: Sequence[DraftTree], requests: Sequence[Request]) -> TreeBatch:
    """One batch of drafted trees of one kind, a tree a request; for `Speculator.verify`.

    The rows of drawn trees follow with ``np.concatenate([t.q for t in trees])``.

    Raises
    ------
    InputError
        No trees, trees of different laws, or another number of requests.
    """
    if not trees or len(trees) != len(requests):
        raise InputError(f"trees: {len(trees)} for {len(requests)} requests; one a request")
    if len({(t.law, t.pruning) for t in trees}) != 1:
        raise InputError("trees: one batch has one law; verify the others in a batch of their own")
    roles = np.concatenate([t.drawn for t in trees]).astype(np.int32)
    return TreeBatch.from_arrays(
        np.concatenate([t.tokens for t in trees]),
        np.concatenate([t.parents for t in trees]),
        np.cumsum([0, *map(len, trees)]),
        requests=list(requests),
        law=trees[0].law,
        pruning=trees[0].pruning,
        roles=roles if trees[0].law == "mixed" else None,
    )


def retrieved(batch: TreeBatch, request: int = 0) -> DraftTree:
    """Return the tree that stores proposed for one request, to merge with a drafted one."""
    a, b = batch.cu_nodes[request : request + 2].tolist()
    scores = np.clip(batch.scores[a:b], 0.0, 1.0).astype(np.float64)
    return DraftTree.from_arrays(batch.tokens[a:b], batch.parents[a:b], scores.tolist())


def prune_by_draft(tree: DraftTree, q: Any, top_k: int = 10) -> DraftTree:
    """RASD's pruning of a retrieved tree by the drafter's row `q` at node 0, shape (vocab,).

    Branches whose first token is not among the `top_k` go; scores are multiplied by its
    probability.
    """
    row = np.ascontiguousarray(np.asarray(q, dtype=np.float32).reshape(1, -1))
    return _core.prune_by_draft(tree, row, top_k)


def merge(
    base: DraftTree, over: DraftTree, *, max_nodes: int = 64, agreement: str = "max"
) -> DraftTree:
    """Lay a retrieved tree over a drafted one and keep the best `max_nodes` (node 0 counted).

    Drawn nodes stay whatever their score: cutting one for what it is would bias the text. A node
    that both name scores the larger of the two, or as if independent with
    ``agreement="noisy_or"``. O(n log n).

    Raises
    ------
    InputError
        Different last tokens, or more drawn nodes than the budget.
    UnsupportedError
        The base's draws are of a law that no rule for mixed trees fits.
    """
    return _core.merge_trees(base, over, agreement, max_nodes)


def ppd(
    accuracy: Sequence[Sequence[float]],
    size: int | None = None,
    *,
    costs: Sequence[tuple[int, float]] = (),
) -> dict[str, Any]:
    """PPD's sparse trees, one a state.

    Parameters
    ----------
    accuracy : sequence of rows
        ``accuracy[distance][rank]``: how often that candidate is right.
    size : int, optional
        Tokens of a pass, candidates and prompt tokens; without it the one of `costs` that yields
        most tokens a time.
    costs : sequence of (int, float), optional
        Tokens of a pass and its time.

    Returns
    -------
    dict
        ``size``, ``expected`` tokens a step in the long run, ``stationary`` share of each state,
        ``states``: for each number of guess rows at hand a dict of ``template``, ``prompts``
        (prompt tokens a node), ``expected``, ``next`` (probability of each next state), ``size``.
    """
    rows = [list(map(float, row)) for row in accuracy]
    if size is None:
        size, tables = _core.ppd_best_size(rows, [(int(n), float(t)) for n, t in costs])
    else:
        tables = _core.ppd_solve(rows, size)
    return {"size": size, **tables}


def merge_attention(
    first: Any, first_lse: Any, second: Any, second_lse: Any
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Merge two partial attentions of the same queries: the long text's and the tree's.

    Parameters
    ----------
    first, second : float array, shape (queries, dim)
        Outputs over either set of keys.
    first_lse, second_lse : float array, shape (queries,)
        Natural log-sum-exp of the scores of each query; -inf for no keys.

    Returns
    -------
    tuple
        Output and log-sum-exp over both sets. The definition; kernels of hosts replace it.
    """

    def floats(x: Any) -> NDArray[np.float32]:
        return np.ascontiguousarray(x, dtype=np.float32)

    return _core.merge_attention(
        floats(first), floats(first_lse), floats(second), floats(second_lse)
    )
