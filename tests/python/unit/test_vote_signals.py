"""Rewards, foresights, steps, difficulty, calibration: published values and laws."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from trivium import vote, voting
from trivium.errors import InputError


def test_rewards_have_their_published_values():
    assert voting.best_of(["a", "a", "b"], [1.0, 1.0, 1.0]) == (0, pytest.approx(2 / 3))
    assert voting.best_of([None, "a"], [None, 0.1]) == (1, 1.0)
    assert voting.best_of(["a"], [None]) == (None, 0.0)
    weights = voting.log_odds_of_rewards([0.9, 0.5, 0.2, 1.0])
    assert weights[:3] == pytest.approx([np.log(9), 0.0, 0.0])
    assert weights[3] > 13
    assert voting.accepts_step(0.1, threshold=0.0)
    assert not voting.accepts_step(1.0, threshold=1.01)
    assert voting.effective_size([2.0] * 7) == pytest.approx(7)
    assert voting.design_effect(20, 1, 0.9) == 20


@given(st.integers(1, 4), st.data())
def test_leaf_weights_are_a_law(depth, data):
    paths = [()]
    for _ in range(depth):
        at = data.draw(st.integers(0, len(paths) - 1))
        wide = data.draw(st.integers(2, 3))
        paths = paths[:at] + [(*paths[at], b) for b in range(wide)] + paths[at + 1 :]
    assert sum(voting.leaf_weights(paths)) == pytest.approx(1.0)
    with pytest.raises(InputError):
        voting.leaf_weights([*paths, paths[0]])


def test_width_is_transferred_in_full():
    assert voting.transfer_width(3, 2, [0.0, 0.0], 16) == [4, 3]
    assert voting.transfer_width(9, 2, [0.0, 0.0], 5) == [3, 2]
    tilted = voting.transfer_width(0, 4, [0.0, -5.0], 16, temperature=1.0)
    assert sum(tilted) == 8
    assert tilted[0] > tilted[1]
    assert voting.transfer_width(3, 2, [], 16) == []


def test_foresights_have_their_published_values():
    assert voting.width_pruned([1.0, 1.0, -9.0, 1.0]) == [0, 1, 3]
    assert voting.shingle_clusters([["a"], ["a"], ["b"]]) == [0, 0, 1]
    with pytest.raises(InputError):
        voting.step_law([0.1], [0, 1])


def test_steps_have_their_published_values():
    keys = list("AAAAABBB")
    linear = voting.temporal_vote(keys, weight="linear")
    assert linear.winner == "B"
    assert linear.sums == pytest.approx({"A": 1.875, "B": 2.625})
    growing = voting.temporal_vote(keys)
    scaled = {key: np.exp(5) * value for key, value in growing.sums.items()}
    assert scaled == pytest.approx({"A": 25.061902, "B": 144.720817})
    assert voting.temporal_vote(keys[:5], steps=8, weight="fixed").decided
    assert not voting.temporal_vote(keys[:4], steps=8, weight="fixed").decided
    assert voting.temporal_confidence(["a", "a"]) == (0.0, 1.0)
    with pytest.raises(InputError):
        voting.temporal_vote(keys, steps=3)


@given(st.lists(st.sampled_from(["a", "b", "c", None]), min_size=1, max_size=20))
def test_weight_on_the_last_step_alone_is_the_last_answer(keys):
    """P15: a growth that no sum of earlier steps can reach."""
    answered = [key for key in keys if key is not None]
    winner = voting.temporal_vote(keys, alpha=690.0).winner
    assert winner == (answered[-1] if answered else None)


def test_probes_are_replaced_and_a_stable_one_finishes():
    probes = voting.Probes(weight=0.25, stable=2)
    assert not probes.probe(0, "a")
    assert not probes.probe(0, "b")
    assert probes.probe(0, "b")
    assert not probes.probe(1, None)
    assert probes.tally() == {"b": 0.25}
    probes.finish(0, "c")
    assert probes.tally() == {"c": 1.0}
    with pytest.raises(InputError):
        probes.probe(0, "c")


@given(st.lists(st.lists(st.integers(0, 9), max_size=6), min_size=1, max_size=8), st.integers(1, 8))
def test_pruning_leaves_enough_traces(tokens, k_min):
    """P13."""
    kept = voting.token_cover(tokens, k_min=k_min, gamma=1.0, common=2.0)
    assert len(kept) >= min(k_min, len(tokens))
    covered = {token for i in kept for token in tokens[i]}
    assert covered == {token for row in tokens for token in row}


def test_windows_have_their_published_cost():
    for shares, samples, risk, published in [
        ([0.8, 0.2], 14.609959242939695, 9.3504e-4, 3.8721082e-6),
        ([0.6, 0.4], 29.62587581722216, 0.0606738, 0.0030849497),
    ]:
        cost = voting.window_cost(shares)
        assert cost.samples == pytest.approx(samples)
        assert cost.risk == pytest.approx(risk, rel=1e-4)
        assert cost.published_risk == pytest.approx(published, rel=1e-4)
    assert voting.window_cost([1.0]).samples == 5
    with pytest.raises(InputError):
        voting.window_cost([0.9, 0.9])


def test_the_walk_of_the_published_instance():
    """The easiest 100 of 140 are unanimous, the 40 hardest split in their first window."""
    plan = voting.DifficultySchedule([q / 140 for q in range(140)])
    walked = []
    for q, first in plan:
        walked.append(q)
        plan.report(q, 12 if q >= 100 else first, easy=q < 100)
    assert walked == list(range(139, 67, -1))
    assert plan.single == list(range(68))
    sizes = voting.DifficultySchedule([0.0] * 20)
    for i, (q, _) in enumerate(sizes):
        if i == 16:
            break
        sizes.report(q, 4 if i < 8 else 12, easy=False)
    assert sizes.first_window() == 8
    ranks = voting.mean_ranks([[2, 0, 1], [0, 2]], 4)
    assert ranks == [pytest.approx(0.25), 1.0, 0.5, 0.5]


def test_calibrators_learn_save_and_refuse():
    rng = np.random.default_rng(0)
    results, right = [], []
    for _ in range(300):
        share = rng.uniform(0.3, 1.0)
        ballots = ["1" if rng.random() < share else str(rng.integers(2, 9)) for _ in range(12)]
        results.append(vote(ballots))
        right.append(bool(rng.random() < share))
    made = voting.Calibrator.fit(results, right)
    again = voting.Calibrator.from_json(made.to_json())
    said = [made.p_correct(result) for result in results]
    assert said == [again.p_correct(result) for result in results]
    raw = voting.reliability([result.share for result in results], right)
    fitted = voting.reliability(said, right)
    assert fitted.calibration_error < 0.1
    assert fitted.brier <= raw.brier + 0.01
    with pytest.raises(InputError, match="50"):
        voting.Calibrator.fit(results[:10], right[:10])
    with pytest.raises(InputError):
        voting.Calibrator.from_json("{}")


def test_decisions_under_a_utility():
    keys = ["a", "b", "c"]
    posterior = {"a": 0.2, "b": 0.5, "c": 0.3}
    identity = {key: {key: 1.0} for key in keys}
    assert voting.bayes_decision(posterior, identity) == "b"
    assert voting.weighted_median([1.0, 5.0], [1.0, 3.0]) == 5.0


@given(st.lists(st.floats(0, 1), min_size=1, max_size=5))
def test_the_best_set_beats_every_subset(ps):
    names = [str(i) for i in range(len(ps))]

    def f1(chosen):
        total = 0.0
        for truth in itertools.product((0, 1), repeat=len(ps)):
            p = np.prod([x if t else 1 - x for x, t in zip(ps, truth, strict=True)])
            hits = sum(truth[int(c)] for c in chosen)
            both = len(chosen) + sum(truth)
            total += p * (1.0 if both == 0 else 2 * hits / both)
        return total

    subsets = [list(c) for size in range(len(ps) + 1) for c in itertools.combinations(names, size)]
    best = max(f1(c) for c in subsets)
    assert f1(voting.best_set(dict(zip(names, ps, strict=True)))) == pytest.approx(best, abs=1e-9)
