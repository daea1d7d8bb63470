"""Rules that are not lossless: parameters, reports, refusals."""

from __future__ import annotations

import numpy as np
import pytest
from trivium import Speculator, lossy
from trivium.errors import InputError, UnsupportedError
from trivium.speculator import TreeBatch

P = np.array([0.4, 0.3, 0.2, 0.1], np.float32)
LOGITS = np.log(P)


def verify(rule, tokens=(0, 1, 2), parents=(-1, 0, 1)):
    spec = Speculator(4, sources=[])
    req = spec.start([0])
    batch = TreeBatch.from_arrays(
        list(tokens), list(parents), [0, len(tokens)], requests=[req], law="point_mass"
    )
    return spec.verify(batch, logits=np.tile(LOGITS, (len(tokens), 1)), lossy=rule)


@pytest.mark.parametrize(
    ("rule", "accepted"),
    [
        (lossy.Typical(), 2),  # entropy 1.28: threshold .025
        (lossy.Typical(epsilon=0.25, alpha=1.0), 1),  # min(.25, .278): takes .3, not .2
        (lossy.Typical(epsilon=0.35, alpha=1.0), 1),  # min(.35, .278): the entropy's side
        (lossy.Threshold(single=0.25, acc=1.0), 1),
        (lossy.Threshold(single=1.0, acc=1.0), 0),
        (lossy.Threshold(single=0.1, acc=1.0), 2),
        (lossy.TopK(1), 0),
        (lossy.TopK(2), 1),
        (lossy.TopK(3), 2),
    ],
)
def test_numbers_of_a_rule_decide(rule, accepted):
    out = verify(rule)
    assert out.num_accepted.tolist() == [accepted], rule
    # Each token taken for sure costs one minus its probability.
    cost = sum(1 - P[t] for t in out.tokens[:accepted])
    assert out.deviation[0] == pytest.approx(min(1.0, cost), abs=1e-6)


def test_relaxed_blocks_and_units():
    # P falls with the id: the most likely token is 0.
    assert verify(lossy.Distance(0)).num_accepted.tolist() == [0]
    assert verify(lossy.Distance(1)).num_accepted.tolist() == [1]
    assert verify(lossy.Distance(2)).num_accepted.tolist() == [2]
    assert verify(lossy.MinBlock(1)).num_accepted.tolist() == [1]
    assert verify(lossy.MinBlock(2)).num_accepted.tolist() == [2]
    assert verify(lossy.MinBlock(1), (0, 3, 0, 0), (-1, 0, 1, 2)).num_accepted.tolist() == [3]
    spec = Speculator(4, sources=[])

    def unit(alpha, q, **law):
        batch = TreeBatch.from_arrays([0, 1, 2], [-1, 0, 1], [0, 3], requests=[spec.start([0])])
        logits = np.tile(LOGITS, (3, 1))
        rule = lossy.ConfidentPrefix(alpha)
        return spec.verify(batch, logits=logits, q=q, lossy=rule, **law)

    q = np.array([[0.125, 0.875, 0, 0], [0.25, 0, 0.75, 0], [1, 0, 0, 0]], np.float32)
    for alpha, n in ((0.9, 0), (0.875, 1), (0.75, 2)):
        out = unit(alpha, q)
        assert out.num_accepted.tolist() == [n]
        assert len(out.tokens) == n + 1, "one token is always written"
        assert out.deviation[0] == pytest.approx(min(1.0, sum((0.7, 0.8)[:n])), abs=1e-6)
    assert unit(0.75, q, temperature=0).num_accepted.tolist() == [2], "greedy text is relaxed too"
    assert unit(0.75, q, top_k=2).num_accepted.tolist() == [1], "truncated tokens are never taken"
    with pytest.raises(InputError, match="q"):
        unit(0.8, None)
    with pytest.raises(InputError, match="q"):
        unit(0.8, q[:2])


def test_names_take_the_released_numbers():
    for name, rule in (
        ("distance", lossy.Distance()),
        ("min_block", lossy.MinBlock()),
        ("typical", lossy.Typical()),
        ("threshold", lossy.Threshold()),
        ("top_k", lossy.TopK()),
    ):
        assert verify(name).tokens.tolist() == verify(rule).tokens.tolist()


@pytest.mark.parametrize(
    "rule",
    [
        lossy.Typical(epsilon=-1.0),
        lossy.Threshold(acc=2.0),
        lossy.TopK(0),
        lossy.Distance(-1),
        lossy.MinBlock(0),
        lossy.ConfidentPrefix(1.5),
    ],
)
def test_numbers_out_of_range_are_refused(rule):
    with pytest.raises(InputError, match="lossy"):
        verify(rule)


def test_a_lossy_rule_reads_rows():
    spec = Speculator(4, sources=[])
    batch = spec.propose([spec.start([0])])
    with pytest.raises(UnsupportedError, match="logits"):
        spec.verify(batch, sampled=np.zeros(len(batch.tokens), int), lossy=lossy.TopK())


def test_the_reward_gate_counts_what_it_lets_through():
    gate = lossy.RewardGate(0.7)
    assert gate.deviation == 0.0
    assert [gate.accept(r) for r in (0.9, 0.7, 0.2, 0.69)] == [True, True, False, False]
    assert gate.deviation == 0.5
    with pytest.raises(InputError):
        gate.accept(float("nan"))
    assert gate.deviation == 0.5
    with pytest.raises(InputError):
        lossy.RewardGate(float("nan"))


def test_the_entropy_switch_has_hysteresis():
    switch = lossy.EntropySwitch(window=2, low=0.5, high=1.0)
    seen = [switch.observe(h) for h in (0.1, 0.1, 1.0, 1.2, 0.8, 0.1, 0.1)]
    # Means .1, .55, 1.1, 1.0, .45, .1: between the bounds nothing changes.
    assert seen == [False, True, True, False, False, True, True]
    assert switch.deviation == pytest.approx(3 / 7)
    for bad in ((0, 0.5, 1.0), (2, 1.0, 0.5)):
        with pytest.raises(InputError):
            lossy.EntropySwitch(*bad)
    with pytest.raises(InputError):
        switch.observe(float("inf"))


def test_transforms_are_their_formulas():
    other = np.array([0.1, 0.2, 0.3, 0.4], np.float32)

    def law(w):
        return w / w.sum()

    wide = other.astype(float)
    cases = {
        ("reflective", "weight", 0.25): law(P**0.75 * wide**0.25),
        ("cascade", "share", 0.25): 0.75 * wide + 0.25 * P,
        ("defer", "below", 0.5): P.astype(float),
        ("defer", "below", 0.3): wide,
        ("contrastive", "beta", 1.0): law(
            np.where(0.1 * P.max() <= P, P.astype(float) ** 2 / wide, 0)
        ),
    }
    for (kind, name, value), want in cases.items():
        pi, apart = lossy.transform(P[None], other[None], kind, **{name: value})
        assert np.allclose(pi[0], want, atol=1e-6), kind
        assert apart[0] == pytest.approx(0.5 * np.abs(want - P).sum(), abs=1e-6)
    assert lossy.transform(P[None], P[None])[1][0] < 1e-6
    for bad in (
        {"other": other[None, :3]},
        {"other": other[None] * 2},
        {"other": other[None], "weight": 2.0},
        {"other": other[None], "kind": "best"},
    ):
        with pytest.raises(InputError):
            lossy.transform(P[None], **bad)
