"""Judges, approximations of minimum Bayes risk, votes on parts of answers: published values."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from trivium import mbr, voting
from trivium.errors import InputError


def overlap(pairs):
    return [len(set(h) & set(r)) / max(len(set(h) | set(r)), 1) for h, r in pairs]


TEXTS = ["abcd", "abce", "abxy", "pqrs", "abcf", "abcd"]


def test_a_judge_is_asked_balanced_and_falls_back():
    def picky(shown):
        return shown.index("the cat sat")

    texts = ["a dog", "the cat sat", "the cat", "cat sat"]
    for order in itertools.permutations(texts):
        chosen = voting.universal_choice(order, picky, balanced=True)
        assert order[chosen.index] == "the cat sat"
        assert (chosen.calls, chosen.fallbacks) == (2, 0)
    spoken = voting.universal_choice(texts, lambda _: "The most consistent response is Response 2.")
    assert spoken.index == 2
    for silly in ("none of them", 7, -1, None, "Response 9"):
        lost = voting.universal_choice(texts, lambda _, silly=silly: silly)
        assert (lost.calls, lost.fallbacks) == (2, 1)
        assert texts[lost.index] == "the cat sat"


def test_first_place_alone_wins_nothing_in_balanced_judgement():
    texts = ["x", "the cat sat", "the cat"]
    assert voting.universal_choice(texts, lambda _: 0).index == 0
    assert voting.universal_choice(texts, lambda _: 0, balanced=True).index == 2


@pytest.mark.parametrize(("n", "group"), [(9, 3), (10, 4), (2, 2), (7, 3)])
def test_tournaments_ask_as_often_as_announced(n, group):
    texts = [str(i) for i in range(n)]
    chosen = voting.universal_choice(
        texts, lambda shown: shown.index(max(shown, key=int)), group=group
    )
    assert chosen.index == n - 1
    assert chosen.calls == -(-(n - 1) // (group - 1))


def test_fine_grained_plans():
    texts = ["a b c", "a b d", "x y z"]
    assert voting.filter_candidates(texts, fraction=1.0) == [0, 1, 2]
    assert voting.filter_candidates(texts, fraction=0.5) == [0, 1]
    assert voting.group_candidates(texts, threshold=0.0) == [[0, 1, 2]]
    assert voting.group_candidates(["same", "same"], threshold=1.0) == [[0, 1]]
    with pytest.raises(InputError):
        voting.filter_candidates(texts, fraction=0.0)


def test_approximations_are_exact_at_their_largest_parameter():
    exact = mbr(TEXTS, utility=overlap)
    assert voting.n_by_s(TEXTS, overlap, references=len(TEXTS)) == exact.index
    assert voting.coarse_to_fine(TEXTS, overlap, overlap, keep=len(TEXTS)) == exact.index
    n = len(TEXTS)
    pairs = lambda of: overlap([(TEXTS[h], TEXTS[r]) for h, r in of])  # noqa: E731
    full = voting.complete_matrix(n, pairs, reduction=1)
    assert np.allclose(full.mean(axis=1), exact.scores)
    chrf = mbr(TEXTS, utility="chrf")
    assert np.allclose(voting.aggregate_chrf(TEXTS, groups=n), chrf.scores)
    rows = np.random.default_rng(0).normal(size=(n, 3))
    centres, shares = voting.centroid_references(rows, centroids=n, rounds=5)
    assert sorted(map(tuple, centres.round(9))) == sorted(map(tuple, rows.round(9)))
    assert shares.sum() == pytest.approx(1.0)


def test_approximations_reproduce_by_seed_and_low_rank_is_close():
    rng = np.random.default_rng(1)
    left, right = rng.normal(size=(40, 2)), rng.normal(size=(40, 2))
    truth = left @ right.T
    calls = []

    def utility(pairs):
        calls.extend(pairs)
        return [truth[h, r] for h, r in pairs]

    made = [
        voting.complete_matrix(40, utility, reduction=2, rank=2, ridge=0.01, rounds=40, seed=3)
        for _ in "ab"
    ]
    assert (made[0] == made[1]).all()
    assert len(calls) == 2 * 800
    assert np.abs(made[0] - truth).mean() < 0.1 * np.abs(truth).mean()
    chosen = [voting.n_by_s(TEXTS, overlap, references=2, seed=s) for s in (0, 0)]
    assert chosen[0] == chosen[1]


def test_reference_aggregation_keeps_the_order_of_translations(request):
    path = request.config.rootpath.parent / "shared" / "data" / "votes" / "mbr"
    if not path.is_dir():
        pytest.skip("the shared translations are not beside this checkout")
    import gzip

    with gzip.open(path / "translation_samples_1024.txt.gz", "rt") as file:
        lines = file.read().splitlines()[:128]
    exact = mbr(lines, utility="chrf")
    rough = voting.aggregate_chrf(lines)
    assert (exact.index, int(np.argmax(rough))) == (36, 84)


def test_diverse_sets_trade_quality_for_difference():
    alike = [[1, 1, 0], [1, 1, 0], [0, 0, 1]]
    assert voting.diverse_best([3.0, 2.9, 1.0], alike, 2, penalty=0.0) == [0, 1]
    assert voting.diverse_best([3.0, 2.9, 1.0], alike, 2, penalty=5.0) == [0, 2]


def test_bernstein_drops_the_best_less_often_than_promised():
    """10,000 runs of two-point utilities with a known gap."""
    rng = np.random.default_rng(7)
    wrong = 0
    for _ in range(10_000):
        draws = rng.random((2, 60)) < np.array([[0.55], [0.45]])
        leader, rivals = voting.bernstein_leader(draws.astype(float), delta=0.05)
        wrong += leader == 1 and not rivals
    assert wrong <= 0.05 * 10_000
    sure = np.vstack([np.full(2000, 0.9), np.full(2000, 0.1), np.full(2000, 0.9)])
    assert voting.bernstein_leader(sure) == (0, [2])
    assert voting.bernstein_leader(sure, tolerance=0.05)[1] == []


def test_votes_on_parts():
    assert voting.set_vote([["a", "b"], None, ["b"], ["b", "c"]]) == ["b"]
    assert voting.set_vote([["a"], ["b"]], weights=[3.0, 1.0]) == ["a"]
    ballots = [(1, "x"), (1, "y"), (2, "z"), (2, "z"), (1, "w")]
    assert voting.hierarchical_vote(ballots, [lambda b: b]) == [(2, "z"), (2, "z")]
    assert len(voting.hierarchical_vote(ballots, [lambda b: b[0], lambda b: b])) == 3
    objects = [
        {"name": "f", "arguments": {"x": 1, "y": 2}},
        {"name": "f", "arguments": {"x": 1.0, "z": 3}},
        {"name": "g", "arguments": {"x": 5, "y": 2}},
    ]
    assert voting.field_vote(objects) == {"name": "f", "arguments": {"x": 1, "y": 2}}
    whole = voting.field_vote(objects[1:] * 2 + objects[:1] * 3, validate=lambda value: value == 1)
    assert whole == objects[0]
    assert voting.field_vote([1, {"a": 2}, {"a": 2}]) == {"a": 2}
    assert voting.field_vote([[1], [1], {"a": 2}]) == [1]
    with pytest.raises(InputError):
        voting.field_vote([])
