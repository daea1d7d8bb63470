"""Confidences of tokens, budgets of gains, windows for a target, candidates that still arrive."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from trivium import Voter, mbr, voting
from trivium.errors import InputError


def test_token_confidences_have_their_published_values():
    law = np.log([[0.7, 0.2, 0.05, 0.05], [0.25] * 4])
    assert voting.token_confidence(law, k=2) == pytest.approx([0.98305643, math.log(4)])
    assert voting.self_certainty(law) == pytest.approx([0.60309999, 0.0])
    assert voting.token_entropy(law) == pytest.approx([0.87113327, math.log(4)])
    lumped = voting.token_entropy(law[:1, :3])
    assert lumped == pytest.approx([0.87113327])  # the tail is one symbol of .05
    two = voting.token_entropy(np.log([[0.6, 0.2]]), tail="renormalise")
    assert two == pytest.approx([-(0.75 * math.log(0.75) + 0.25 * math.log(0.25))])
    for bad in ([[float("nan")]], [[0.5]], []):
        with pytest.raises(InputError):
            voting.token_confidence(bad)
    with pytest.raises(InputError):
        voting.self_certainty([[-np.inf, 0.0]])


def test_rows_of_confidence_feed_a_vote():
    v = Voter(
        weight="deepconf:100:tail", stop="majority", bare=True, budget=2, latency="max", window=2
    )
    q = v.open("q")
    v.next()
    rows = np.log([[0.97, 0.01, 0.01, 0.01], [0.25, 0.25, 0.25, 0.25]])
    for _ in range(3):
        v.tokens(
            [q, q], [0, 1], conf=voting.token_confidence(rows), entropy=voting.token_entropy(rows)
        )
    v.finish(q, 0, answer="1")
    v.finish(q, 1, answer="2")
    assert v.result(q).winner == "1"
    expected = voting.token_confidence(rows)
    assert [row.weight for row in v.result(q).tally] == pytest.approx(list(expected), rel=1e-6)


@given(
    st.lists(st.lists(st.floats(0, 1), min_size=1, max_size=4), min_size=1, max_size=3),
    st.integers(0, 6),
)
def test_gains_that_fall_are_allocated_best(gains, budget):
    falling = [sorted(row, reverse=True) for row in gains]
    given_ = voting.allocate_gains(falling, budget)
    worth = sum(sum(row[:n]) for row, n in zip(falling, given_, strict=True))
    spans = [range(len(row) + 1) for row in falling]
    best = max(
        sum(sum(row[:n]) for row, n in zip(falling, taken, strict=True))
        for taken in itertools.product(*spans)
        if sum(taken) <= budget
    )
    assert sum(given_) <= budget
    assert worth == pytest.approx(best)


def test_shared_budgets_and_passes():
    gains = [[p * (1 - p) ** k for k in range(40)] for p in (0.9, 0.5, 0.1, 0.02)]
    for budget in (0, 1, 10, 20):
        assert voting.allocate_gains(gains, budget) == voting.allocate(
            [0.9, 0.5, 0.1, 0.02], budget
        )
    # A gain that only the second sample brings is shared by both.
    assert voting.allocate_gains([[0.0, 1.0], [0.4]], 2) == [2, 0]
    assert voting.allocate_gains([[0.0, 0.0]], 2) == [0]
    assert voting.pass_at(10, 3, 5) == pytest.approx(0.9166666667)
    assert (voting.pass_at(4, 0, 2), voting.pass_at(4, 4, 1)) == (0.0, 1.0)
    for call in (
        lambda: voting.allocate_gains([[float("inf")]], 1),
        lambda: voting.allocate_gains([[1.0]], -1),
        lambda: voting.pass_at(3, 4, 1),
    ):
        with pytest.raises(InputError):
            call()


def test_windows_meet_their_target_at_least_cost():
    shares = [[0.8, 0.2], [0.6, 0.4], [1.0]]
    cheap = voting.choose_window(shares, max_samples=20.0)
    safe = voting.choose_window(shares, max_risk=1e-2)
    for window, budget in itertools.product(range(3, 11), (20, 30, 40, 64)):
        costs = [voting.window_cost(row, window=window, budget=budget) for row in shares]
        samples, risk = np.mean([c.samples for c in costs]), np.mean([c.risk for c in costs])
        assert samples > 20.0 or risk >= cheap.risk - 1e-12
        assert risk > 1e-2 or samples >= safe.samples - 1e-12
    assert cheap.samples <= 20.0
    assert safe.risk <= 1e-2
    for arguments in ({}, {"max_risk": 1e-30}, {"max_samples": 1.0, "max_risk": 0.1}):
        with pytest.raises(InputError):
            voting.choose_window(shares, **arguments)


def overlap(pairs):
    return [len(set(h) & set(r)) / max(len(set(h)), 1) for h, r in pairs]


@given(st.lists(st.text("abc", min_size=1, max_size=4), min_size=1, max_size=10))
def test_candidates_that_arrive_are_scored_as_a_list(texts):
    vote = voting.StreamingMbr(overlap)
    for n, text in enumerate(texts, 1):
        vote.add(text)
        whole = mbr(texts[:n], overlap)
        assert vote.scores == pytest.approx(list(whole.scores))
        assert vote.scores[vote.best] == pytest.approx(whole.score)
        assert len(vote) == n
    unique = len(set(texts))
    assert vote.calls == unique**2


def test_arrivals_stop_when_the_best_is_clear():
    exact = lambda pairs: [float(h == r) for h, r in pairs]  # noqa: E731
    clear, split = voting.StreamingMbr(exact), voting.StreamingMbr(exact)
    for i in range(12):
        clear.add("b" if i == 3 else "a")
        split.add("ab"[i % 2])
    assert clear.decided
    assert not split.decided
    patient = voting.StreamingMbr(exact, patience=3, level=1.0)
    said = []
    for text in "abababab":
        patient.add(text)
        said.append(patient.decided)
    assert said == [False] * 3 + [True] * 5
    for bad in ({"patience": 0}, {"level": 0.0}, {"least": 0}):
        with pytest.raises(InputError):
            voting.StreamingMbr(exact, **bad)
    for wrong in ([], [float("nan")]):
        with pytest.raises(InputError):
            voting.StreamingMbr(lambda _, wrong=wrong: wrong).add("a")


def test_selection_has_its_further_published_values():
    tokens = [["a", "b"], ["a", "c"], ["b", "c"]]
    logs = [np.log(row) for row in ([0.9, 0.8], [0.6, 0.5], [0.4, 0.7])]
    plain = voting.similarity_scores(tokens, logprobs=logs)
    assert plain == pytest.approx([0.143333333, 0.148333333, 0.111666667])
    means = (-0.2, -0.5, -0.1)
    weighted = [score * math.exp(mean) for score, mean in zip(plain, means, strict=True)]
    assert weighted == pytest.approx([0.117351408, 0.089968715, 0.101040178])
    own = voting.similarity_scores(tokens, logprobs=logs, consensus=True)
    assert own == pytest.approx(
        [s * math.exp(np.mean(row)) for s, row in zip(plain, logs, strict=True)]
    )
    rows = np.array([[2.0, 1.0, 0.0], [0.0, 1.5, 1.0]])
    logits = voting.fuse_rows(rows)
    laws = rows - np.log(np.exp(rows).sum(axis=1, keepdims=True))
    shift = logits - laws.mean(axis=0)
    assert shift == pytest.approx([2.255868] * 3)
    # One source with 99/1 against three with even odds, two wrong answers on average.
    odds = [math.log(100 / 2) + math.log(2)] + [math.log(2)] * 3
    v = Voter(weight="log_odds", log_odds=odds, stop="majority", bare=True, budget=4, latency="max")
    q = v.open("q")
    v.next()
    for t, answer in enumerate(("1", "2", "2", "2")):
        v.finish(q, t, answer=answer, source=t)
    assert v.result(q).winner == "1"
    assert [row.weight for row in v.result(q).tally] == pytest.approx([4.6052, 2.0794], abs=1e-4)
