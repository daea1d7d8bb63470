"""The tree builder takes the best nodes its sources know of, and only those."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from trivium import Speculator

texts = st.lists(st.integers(0, 3), min_size=4, max_size=60)


def tree(text: list[int], max_nodes: int, sources: list[str]) -> Any:
    spec = Speculator(8, sources=sources, max_nodes=max_nodes, max_depth=8, policy="full")
    return spec.propose([spec.start(text)])


def scored_paths(batch: Any) -> dict[tuple[int, ...], float]:
    """Drafted paths of a one-request batch, with the score of their last node."""
    paths: list[tuple[int, ...]] = []
    for token, parent in zip(batch.tokens.tolist(), batch.parents.tolist(), strict=True):
        paths.append(() if parent < 0 else (*paths[parent], token))
    scores = batch.scores.tolist()
    assert len(set(paths)) == len(paths), "two siblings carry one token"
    return dict(zip(paths, scores, strict=True))


@given(texts, st.integers(2, 12), st.sampled_from([["suffix"], ["recycle"], ["suffix", "recycle"]]))
def test_a_smaller_tree_holds_the_best_nodes_of_a_larger_one(
    text: list[int], size: int, sources: list[str]
) -> None:
    small = scored_paths(tree(text, size, sources))
    large = scored_paths(tree(text, 17, sources))  # 16 drafted nodes: the largest exact tree
    assert len(small) == min(size, len(large))
    assert small.items() <= large.items()
    left_out = [score for path, score in large.items() if path not in small]
    assert max(left_out, default=0.0) <= min(small.values())


@given(texts, st.sampled_from([["suffix"], ["recycle"], ["suffix", "recycle"]]))
def test_a_large_tree_leaves_out_nothing_above_twice_its_worst_node(
    text: list[int], sources: list[str]
) -> None:
    small = scored_paths(tree(text, 33, sources))
    large = scored_paths(tree(text, 400, sources))
    left_out = [score for path, score in large.items() if path not in small]
    assert max(left_out, default=0.0) <= 2.0 * min(small.values()) * (1 + 1e-6)


@given(texts)
def test_no_node_scores_above_its_parent(text: list[int]) -> None:
    paths = scored_paths(tree(text, 40, ["suffix", "recycle"]))
    for path, score in paths.items():
        assert 0.0 <= score <= 1.0
        if path:
            assert score <= paths[path[:-1]]


@given(texts)
def test_batch_arrays_fit_together(text: list[int]) -> None:
    batch = tree(text, 24, ["suffix", "recycle"])
    assert batch.cu_nodes.tolist() == [0, len(batch.tokens)]
    assert batch.tokens[0] == text[-1]
    assert (batch.parents[0], batch.depths[0], batch.positions[0]) == (-1, 0, len(text) - 1)
    for node, parent in enumerate(batch.parents.tolist()):
        if node:
            assert 0 <= parent < node
            assert batch.depths[node] == batch.depths[parent] + 1
    assert (batch.positions == batch.depths + len(text) - 1).all()


@given(st.lists(texts, min_size=2, max_size=4), st.integers(2, 24), st.booleans())
def test_requests_of_a_batch_do_not_change_each_others_trees(
    batch: list[list[int]], size: int, tight: bool
) -> None:
    spec = Speculator(8, max_nodes=size, max_depth=8, policy="full")
    requests = [spec.start(text) for text in batch]
    alone = [scored_paths(spec.propose([r])) for r in requests]
    total = sum(map(len, alone))
    # A budget that just does not bind, and none.
    trees = spec.propose(requests, max_total=total if tight else None)
    cuts = trees.cu_nodes.tolist()
    for i, want in enumerate(alone):
        part = slice(cuts[i], cuts[i + 1])
        tokens, parents = trees.tokens[part].tolist(), trees.parents[part].tolist()
        paths: list[tuple[int, ...]] = []
        for token, parent in zip(tokens, parents, strict=True):
            paths.append(() if parent < 0 else (*paths[parent], token))
        assert set(paths) == set(want)
