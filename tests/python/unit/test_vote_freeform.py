"""Free-form selection, fused rows and decisions have their published values."""

from __future__ import annotations

import gzip

import numpy as np
import pytest
from trivium import mbr, voting
from trivium.errors import InputError


def test_edit_elects_the_published_text():
    result = mbr(["kitten", "sitting", "mitten"], utility="edit")
    assert result.text == "kitten"
    assert result.scores == pytest.approx((0.801587, 0.714286, 0.801587), abs=1e-6)


def test_the_thousand_translations_have_their_published_winner(request):
    folder = request.config.rootpath.parent / "shared" / "data" / "votes" / "mbr"
    path = folder / "translation_samples_1024.txt.gz"
    if not path.is_file():
        pytest.skip("the shared translations are not beside this checkout (../shared/data/votes)")
    texts = gzip.decompress(path.read_bytes()).decode().splitlines()[:1024]
    result = mbr(texts)
    assert result.index == 431
    assert result.score == pytest.approx(65.077878, abs=1e-6)
    pruned = mbr(texts, prune=0.99)
    assert pruned.index == 431
    assert pruned.calls < result.calls / 10


def test_other_utilities_agree_with_their_definitions():
    texts = ["a b", "a b", "a c", ""]

    def exact(pairs):
        return [float(h == r) for h, r in pairs]

    assert mbr(texts, exact).text == mbr(texts, "exact").text == "a b"
    one_hot = np.array([[1, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1]])
    assert mbr(texts, embeddings=one_hot).index == 0
    holes = mbr(["x", "y"], lambda pairs: [1.0, np.nan, 0.5, 1.0][: len(pairs)])
    assert holes.index == 0


@pytest.mark.parametrize(
    "wrong",
    [
        lambda: mbr("text"),
        lambda: mbr([]),
        lambda: mbr(["a"], "comet"),
        lambda: mbr(["a"], weights=[-1.0]),
        lambda: mbr([1]),
        lambda: mbr(["a", "b"], lambda pairs: [1.0]),
        lambda: mbr(["a"], embeddings=[[np.nan]]),
        lambda: voting.fuse_rows([1.0]),
        lambda: voting.allocate([2.0], 1),
        lambda: voting.isotonic([1.0], [1.0]),
        lambda: voting.majority_at(1, [1], [5]),
    ],
)
def test_wrong_arguments_are_input_errors(wrong):
    with pytest.raises(InputError):
        wrong()


def test_fused_rows_are_the_published_ones():
    rows = np.array([[2.0, 1.0, 0.0], [0.0, 1.5, 1.0]])
    assert voting.fuse_rows(rows).tolist() == [1.0, 1.25, 0.5]
    law = np.exp(voting.fuse_rows(rows, mix="prob"))
    assert law == pytest.approx([0.393596, 0.395639, 0.210765], abs=1e-6)
    many = np.random.default_rng(0).normal(size=(7, 50))
    assert np.array_equal(voting.fuse_rows(many), voting.fuse_rows(many[::-1]))
    assert np.array_equal(voting.fuse_rows(many[:1]), many[0])


def test_similarities_are_the_published_ones():
    tokens = [list("ab"), list("ac"), list("bc")]
    probs = [[0.9, 0.8], [0.6, 0.5], [0.4, 0.7]]
    scores = voting.similarity_scores(tokens, logprobs=np.log(probs).tolist())
    assert scores == pytest.approx([0.143333333, 0.148333333, 0.111666667])


def test_segments_of_half_of_the_candidates_stay():
    assert voting.segment_vote([["a", "b", "c"], ["a", "c"], ["a", "b", "d"]]) == ["a", "b", "c"]
    assert voting.segment_vote([["x", "y"]] * 3) == ["x", "y"]


def test_entropy_switches_on_after_a_full_window():
    switch = voting.EntropySwitch(1.0, window=3)
    assert [switch.push(h) for h in (2.0, 2.0, 2.0, 0.0, 0.0)] == [False, False, True, True, False]


def test_decisions_are_the_published_ones():
    found = voting.majority_at(4, [4, 2, 1], [1, 3, 5])
    assert found == pytest.approx([0.363636, 0.391919, 0.450216], abs=1e-6)
    strong, weak = voting.learn_reliabilities(
        [([(0, "a"), (1, "a" if i % 2 else "b")], "a") for i in range(98)], 2
    )
    assert strong == pytest.approx(np.log(99))
    assert weak == pytest.approx(0)
    generator, verdict = voting.consensus_game([0.6, 0.3, 0.1], [0.2, 0.3, 0.5], [0.5, 0.8, 0.4])
    assert generator == pytest.approx([0.384968, 0.612832, 0.0022], abs=1e-5)
    assert verdict == pytest.approx([0.816689, 0.980798, 0.005195], abs=1e-5)
    assert voting.risk_controlled([0.9] * 100, [True] * 100, target=0.9) == 0.0


def test_sources_that_repeat_each_other_share_their_weight():
    votes = []
    for i in range(200):
        echo = "right" if i % 5 < 3 else "wrong"
        ballots = [(0, "other" if i % 10 == 0 else "right"), *((v, echo) for v in range(1, 10))]
        votes.append((ballots, "right"))
    apart = voting.learn_reliabilities(votes, 10)
    joint = voting.learn_reliabilities(votes, 10, method="joint", ridge=0.1)
    assert apart[0] < sum(apart[1:])
    assert joint[0] > sum(joint[1:])
    for bad in ({"method": "both"}, {"ridge": 0.0}):
        with pytest.raises(InputError):
            voting.learn_reliabilities(votes, 10, **bad)


def test_reliabilities_are_learned_without_labels():
    rng = np.random.default_rng(4)
    accuracy = [0.9, 0.7, 0.5, 0.4, 0.4]

    def question():
        hit = rng.random(len(accuracy)) < accuracy
        wrong = rng.integers(1, 4, len(accuracy))
        return [
            (v, "right" if h else f"wrong {w}")
            for v, (h, w) in enumerate(zip(hit, wrong, strict=True))
        ]

    seen = [question() for _ in range(600)]
    blind = voting.learn_reliabilities([(b, None) for b in seen], 5, method="unlabelled")
    told = voting.learn_reliabilities([(b, "right") for b in seen], 5)
    assert blind == voting.learn_reliabilities([(b, "x") for b in seen], 5, method="unlabelled")
    assert blind[0] == max(blind)
    assert np.corrcoef(blind, told)[0, 1] > 0.95

    def elects(weights):
        right = 0
        for ballots in held_out:
            sums: dict[str, float] = {}
            for v, key in ballots:
                sums[key] = sums.get(key, 0.0) + weights[v]
            right += max(sums, key=sums.__getitem__) == "right"
        return right / len(held_out)

    held_out = [question() for _ in range(4000)]
    assert elects(blind) > elects([1.0] * 5) + 0.02
    assert elects(blind) == pytest.approx(elects(told), abs=0.01)
    for bad in ({"method": "odds"}, {"method": "unlabelled", "rounds": 0}):
        with pytest.raises(InputError):
            voting.learn_reliabilities([(b, None) for b in seen], 5, **bad)


def test_one_hot_embeddings_elect_the_majority():
    """P14: cosine of one-hot rows is equality."""
    rng = np.random.default_rng(0)
    for _ in range(50):
        keys = rng.integers(0, 4, rng.integers(1, 20))
        texts = [str(key) for key in keys]
        counts = np.bincount(keys, minlength=4)
        best = mbr(texts, embeddings=np.eye(4)[keys])
        assert counts[int(best.text)] == counts.max()
        assert best.score == pytest.approx(counts.max() / len(keys))
        assert best.index == int(np.argmax(counts[keys]))
