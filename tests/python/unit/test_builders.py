"""Trees from a drafter's rows, through the public surface: verified, refused, merged, laid out."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from trivium import Speculator, trees
from trivium.errors import InputError, StateError, UnsupportedError

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

VOCAB = 12


def row(path: list[int], salt: int = 0) -> NDArray[np.float32]:
    """A drafter or target law after a path."""
    rng = np.random.default_rng([salt, *path, 77])
    return rng.dirichlet(np.full(VOCAB, 0.5)).astype(np.float32)


def grow(builder: trees.Builder) -> trees.DraftTree:
    while len(builder.frontier):
        rows = [row(builder.path(int(n)).tolist()) for n in builder.frontier]
        builder.push(np.stack(rows))
    return builder.finish()


def paths(tree: trees.DraftTree) -> list[tuple[int, ...]]:
    out: list[tuple[int, ...]] = []
    for token, parent in zip(tree.tokens.tolist(), tree.parents.tolist(), strict=True):
        out.append(() if parent < 0 else (*out[parent], token))
    return out


MAKE: dict[str, Callable[..., trees.Builder]] = {
    "template": lambda **k: trees.Builder.template(trees.Template.cartesian([3, 2]), 1, VOCAB, **k),
    "rsd_c": lambda **k: trees.Builder.template(
        trees.Template.cartesian([2, 2]), 1, VOCAB, draw="without_replacement", **k
    ),
    "sequoia": lambda **k: trees.Builder.template(
        trees.Sequoia([0.6, 0.2, 0.1], 16, 5).shape(9, 3), 1, VOCAB, draw="then_uniform", **k
    ),
    "iid_paths": lambda **k: trees.Builder.template(
        trees.Template.cartesian([2, 2]), 1, VOCAB, draw="iid", **k
    ),
    "greedy_plus_one": lambda **k: trees.Builder.template(
        trees.Template.cartesian([3, 2]), 1, VOCAB, draw="greedy_plus_one", **k
    ),
    "opt_tree": lambda **k: trees.Builder.opt_tree(1, VOCAB, max_nodes=9, delta=0.0, **k),
    "eagle2": lambda **k: trees.Builder.eagle2(1, VOCAB, top_k=3, max_depth=3, max_nodes=9, **k),
    "longspec": lambda **k: trees.Builder.longspec(1, VOCAB, widths=[2, 4, 4], **k),
    "dyspec": lambda **k: trees.Builder.dyspec(1, VOCAB, max_nodes=9, max_depth=4, **k),
    "dyspec_chosen": lambda **k: trees.Builder.dyspec(1, VOCAB, max_nodes=9, drawn=False, **k),
    "rsd_s": lambda **k: trees.Builder.rsd_s(1, VOCAB, width=3, max_depth=3, **k),
    "chain": lambda **k: trees.Builder.chain("svip:0.5", 1, VOCAB, max_depth=4, **k),
    "chain_chosen": lambda **k: trees.Builder.chain("kangaroo", 1, VOCAB, drawn=False, **k),
}

# A rule of its own for each law of drawn trees.
VERIFIER = {
    "rsd_c": "recursive",
    "sequoia": "sequoia",
    "iid_paths": "multi_round",
    "greedy_plus_one": "greedy_plus_one",
    "dyspec": "traversal",
    "rsd_s": "recursive",
    "chain": "block",
}


@pytest.mark.parametrize("kind", MAKE)
def test_trees_are_verified_end_to_end(kind: str) -> None:
    spec = Speculator(VOCAB, sources=[], verifier=VERIFIER.get(kind, "auto"))
    req = spec.start([2, 1], seed=4)
    for _ in range(12):
        builder = MAKE[kind](seed=4, index=len(req), verifier=VERIFIER.get(kind, "auto"))
        tree = grow(builder)
        assert tree.builder == kind == builder.name
        assert (tree.law, tree.pruning) == trees.builders()[kind]
        assert tree.drawn[1:].all() == (kind in {*VERIFIER} - {"greedy_plus_one"})
        # The host's own node 0 is the last committed token.
        tokens = tree.tokens.copy()
        tokens[0] = req.tokens[-1]
        batch = trees.to_batch([tree], [req])
        target = np.stack([np.log(row(list(p), salt=9) + 1e-9) for p in paths(tree)])
        out = spec.verify(batch, logits=target.astype(np.float32), q=tree.q)
        assert 1 <= len(out.tokens) <= int(tree.depths.max()) + 1
        accepted = out.kv_gather.tolist()
        assert tree.tokens[accepted[1:]].tolist() == out.tokens.tolist()[: len(accepted) - 1]
        spec.commit(out)


def test_a_seeded_tree_is_the_same_tree_and_another_index_another() -> None:
    for kind in ("dyspec", "rsd_s", "rsd_c", "chain"):
        a, b = (grow(MAKE[kind](seed=3, index=5)) for _ in range(2))
        assert a.tokens.tolist() == b.tokens.tolist()
        others = [grow(MAKE[kind](seed=3, index=i)).tokens.tolist() for i in range(6, 12)]
        assert any(o != a.tokens.tolist() for o in others)


def test_opt_tree_holds_the_best_nodes() -> None:
    tree = grow(trees.Builder.opt_tree(1, VOCAB, max_nodes=20, max_depth=2, delta=-1.0))
    every = [((), 1.0)]
    for a in range(VOCAB):
        every.append(((a,), float(row([])[a])))
        every += [((a, b), float(row([])[a] * row([a])[b])) for b in range(VOCAB)]
    best = sorted(every, key=lambda e: -e[1])[:20]
    assert sorted(paths(tree)) == sorted(p for p, _ in best)
    assert tree.expected == pytest.approx(sum(v for _, v in best), rel=1e-5)


def test_illegal_pairs_cannot_be_built() -> None:
    with pytest.raises(UnsupportedError, match=r'"eagle2".*"traversal"'):
        trees.Builder.eagle2(1, VOCAB, verifier="traversal")
    with pytest.raises(UnsupportedError, match=r'"dyspec".*"gbv"'):
        trees.Builder.dyspec(1, VOCAB, verifier="gbv")
    refused = 0
    for kind, make in MAKE.items():
        for verifier in (
            "sampled",
            "token",
            "multi_round",
            "k_seq",
            "recursive",
            "traversal",
            "gbv",
        ):
            if trees.takes(kind, verifier):
                make(verifier=verifier)
            else:
                refused += 1
                with pytest.raises(UnsupportedError, match=kind):
                    make(verifier=verifier)
    assert refused > 40
    assert all(trees.takes(kind, "auto") for kind in trees.builders())


def test_a_drawn_tree_is_refused_by_a_rule_of_another_law() -> None:
    spec = Speculator(VOCAB, sources=[], verifier="multi_round")
    req = spec.start([1])
    tree = grow(MAKE["dyspec"](seed=0, index=1))
    batch = trees.to_batch([tree], [req])
    with pytest.raises(UnsupportedError, match="without_replacement"):
        spec.verify(batch, logits=np.zeros((len(tree), VOCAB), np.float32), q=tree.q)


def test_bad_rows_change_nothing() -> None:
    for kind in MAKE:
        b = MAKE[kind]()
        bad: list[Any] = [
            np.zeros((1, VOCAB)),
            np.full((1, VOCAB), np.nan),
            np.full((1, VOCAB), -1.0),
            np.ones((2, VOCAB)),
            np.ones((1, VOCAB + 1)),
        ]
        for rows in bad:
            with pytest.raises(InputError):
                b.push(rows)
            assert b.frontier.tolist() == [0]
            assert len(b.tree) == 1
        grow(b)
        with pytest.raises(StateError):
            b.push(np.ones((1, VOCAB)))


def test_templates() -> None:
    t = trees.Template.from_choices([[0], [1], [0, 0], [0, 1]])
    assert t.parents.tolist() == [-1, 0, 0, 1, 1]
    assert t.by_level(7, [[3, 4], [5]]).tokens.tolist() == [7, 3, 4, 5]
    assert trees.Template.chain(4).level_sizes() == [1, 1, 1, 1, 1]
    # Token Recycling's 81: the published level sizes.
    table = [[0.6, 0.2, 0.1]] * 15
    best = trees.Template.from_acceptance(table, 16)
    assert best.expected(table) == pytest.approx(3.306016)
    s = trees.Sequoia([0.6, 0.2, 0.1], 16, 15)
    assert s.expected(16, 15) == pytest.approx(3.306016)
    assert s.shape(16, 15).expected(table) == pytest.approx(3.306016)
    assert s.expected(13, 2) == pytest.approx(2.71)
    costs = list(zip([1, 2, 4, 8, 16], [10.0, 10, 10, 12, 14], strict=True))
    nodes, depth, expected, per = s.best_size(costs, 0.3)
    assert per == pytest.approx((depth * 0.3 + dict(costs)[nodes]) / expected)
    for bad in ([[0, 1]], [[]], [[0], [0]]):
        with pytest.raises(InputError):
            trees.Template.from_choices(bad)


def test_ppd_tables() -> None:
    out = trees.ppd([[0.6, 0.2], [0.4, 0.1]], 12)
    assert sum(out["stationary"]) == pytest.approx(1.0)
    assert all(s["size"] <= 12 for s in out["states"])
    assert all(sum(s["next"]) == pytest.approx(1.0) for s in out["states"])
    flow = np.array([s["next"] for s in out["states"]])
    assert np.array(out["stationary"]) @ flow == pytest.approx(np.array(out["stationary"]))
    assert trees.ppd([[0.6, 0.2]], costs=[(1, 1.0), (8, 8.0)])["size"] == 1


def test_stores_are_laid_over_a_drafted_tree() -> None:
    spec = Speculator(VOCAB, sources=["suffix"], max_nodes=6)
    req = spec.start([3, 4, 5, 6, 3, 4, 5, 7, 3, 4])
    found = trees.retrieved(spec.propose([req]))
    assert found.tokens[0] == 4
    assert 5 in found.tokens
    q = np.zeros(VOCAB, np.float32)
    q[[5, 2]] = 0.6, 0.4
    pruned = trees.prune_by_draft(found, q, top_k=2)
    assert set(paths(pruned)) <= set(paths(found))
    base = trees.Builder.eagle2(4, VOCAB, top_k=2, max_depth=1, max_nodes=3)
    base.push(q[None])
    both = trees.merge(base.finish(), pruned, max_nodes=64)
    assert set(paths(both)) == set(paths(base.finish())) | set(paths(pruned))
    assert (both.builder, both.law) == ("rasd", "point_mass")
    # Over a drawn tree: drawn nodes stay drawn, the rest is chosen, rows are the drafter's.
    drawn = trees.Builder.dyspec(4, VOCAB, max_nodes=3, index=len(req))
    while len(drawn.frontier):
        drawn.push(np.repeat(q[None], len(drawn.frontier), 0))
    both = trees.merge(drawn.finish(), pruned, max_nodes=64)
    assert (both.builder, both.law, both.pruning) == ("rasd_drawn", "mixed", "shape")
    assert both.drawn.sum() == 2
    assert both.q is not None
    checked = Speculator(VOCAB, sources=[], verifier="mixed")
    own = checked.start([3, 4])
    out = checked.verify(
        trees.to_batch([both], [own]), logits=np.zeros((len(both), VOCAB), np.float32), q=both.q
    )
    checked.commit(out)
    with pytest.raises(InputError):
        trees.merge(drawn.finish(), pruned, max_nodes=2)
    with pytest.raises(UnsupportedError, match="iid"):
        trees.merge(grow(MAKE["iid_paths"]()), grow(MAKE["template"]()))


def test_states_of_a_recurrence() -> None:
    rng = np.random.default_rng(1)
    parents = [-1, 0, 1, 1, 0, 4, 2]
    plan = trees.StateSpacePlan(parents)
    log_a, b = rng.normal(size=(2, 7, 3)) * 0.3
    h0 = rng.normal(size=3)
    want = np.zeros((7, 3))
    for i, p in enumerate(parents):
        want[i] = np.exp(log_a[i]) * (h0 if p < 0 else want[p]) + b[i]
    assert plan.scan(log_a, b, h0) == pytest.approx(want)
    seen: set[int] = {-1}
    for start, nodes in plan.chains:
        assert start in seen
        seen |= set(nodes)
    assert seen == {-1, *range(7)}
    bits = [[int(w) >> j & 1 for j in range(7)] for (w,) in plan.mask_words]
    assert bits[6] == [1, 1, 1, 0, 0, 0, 1]


def test_parts_of_an_attention_merge() -> None:
    rng = np.random.default_rng(2)
    scores, values = rng.normal(size=(4, 9)), rng.normal(size=(9, 5))

    def part(keys: slice) -> tuple[NDArray[Any], NDArray[Any]]:
        s = np.exp(scores[:, keys])
        return s @ values[keys] / s.sum(1, keepdims=True), np.log(s.sum(1))

    out, lse = trees.merge_attention(*part(slice(0, 6)), *part(slice(6, 9)))
    want, want_lse = part(slice(0, 9))
    assert out == pytest.approx(want, rel=1e-4, abs=1e-5)
    assert lse == pytest.approx(want_lse, rel=1e-5)
