"""Policies and controllers through the public surface."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from trivium import Speculator, control
from trivium.errors import InputError, UnsupportedError

POLICIES = [
    control.Fixed(3),
    control.Heuristic(),
    control.Confidence(),
    control.Kangaroo(),
    control.Swift(),
    control.DraftVerify(),
    control.Svip(h=0.2),
    control.SpecDecPP(),
    control.Disco(),
    control.Ucb(arms=(1, 4)),
    control.UcbRate(),
    control.Exp3(),
    control.Thompson(),
    control.Pearl(),
    control.Adaptive(),
]


def run(policy: str | control.Policy, tokens: int = 120) -> tuple[list[int], list[int]]:
    """Text and tree sizes of a target that repeats itself with some noise."""
    rng = np.random.default_rng(5)
    truth = [int(t) for t in rng.integers(0, 4, 12)] * 12
    for i in rng.integers(0, len(truth), 20):
        truth[int(i)] = int(rng.integers(0, 8))
    spec = Speculator(8, sources=["suffix"], max_nodes=17, policy=policy)
    req = spec.start(truth[:12])
    sizes = []
    while len(req) < tokens:
        batch = spec.propose([req])
        again = spec.propose([req])
        assert batch.tokens.tolist() == again.tokens.tolist()
        sizes.append(len(batch.tokens) - 1)
        sampled = [truth[int(p) + 1] for p in batch.positions]
        out = spec.verify(batch, sampled=sampled)
        spec.observe_forward(len(batch.tokens), 1.0 + 0.05 * len(batch.tokens))
        spec.commit(out)
    return req.tokens[:tokens].tolist(), sizes


def test_every_policy_is_used_end_to_end() -> None:
    want, full = run("full")
    seen = {tuple(full)}
    for policy in POLICIES:
        text, sizes = run(policy)
        assert text == want, "the text is the target's, whatever is drafted"
        assert max(sizes) <= 16
        assert run(str(policy))[1] == sizes, "the text form is the object"
        seen.add(tuple(sizes))
    assert len(seen) > 8, "policies that all draft alike decide nothing"
    assert max(run(control.Fixed(3))[1]) == 3
    assert set(run("fixed:0")[1]) == {0}


def test_bandits_learn_across_requests() -> None:
    spec = Speculator(8, sources=["suffix"], max_nodes=17, policy=control.Ucb(arms=(1, 8)))
    pulls = []
    for _ in range(3):
        req = spec.start([0, 1, 2, 3] * 3)
        batch = spec.propose([req])
        pulls.append(len(batch.tokens) - 1)
        sampled = [(int(t) + 1) % 4 for t in batch.tokens]
        spec.commit(spec.verify(batch, sampled=sampled))
        req.finish()
    assert pulls[0] == 1
    assert pulls[1] == 8, "the second request pulls the arm that the first did not"


def test_names_and_settings() -> None:
    assert {str(p).split(":")[0] for p in POLICIES} <= set(control.names())
    assert str(control.Svip(h=0.5)) == "svip:h=0.5,c=0.15,max=40"
    for policy in POLICIES:
        assert Speculator(8, policy=policy).config["policy"] == control.Controller(policy).policy
        # Defaults of the objects are those of the names.
        plain = type(policy)()
        assert control.Controller(plain).policy == control.Controller(plain.name).policy
        assert dataclasses.is_dataclass(policy)
    with pytest.raises(UnsupportedError, match="ucb"):
        Speculator(8, policy="usb")
    for bad in ("svip:-1", "ucb:1/1", "fixed:x", "svip:z=1"):
        with pytest.raises(InputError, match=r"policy|arms"):
            Speculator(8, policy=bad)


def test_a_policy_survives_saving(tmp_path: object) -> None:
    path = f"{tmp_path}/store"
    Speculator(8, policy=control.Exp3(arms=(2, 6))).save(path)
    assert Speculator.load(path).config["policy"] == "exp3:arms=2/6"


def test_golden_values() -> None:
    assert control.ucb_radius(10, 30, 3, 4, 0.05) == pytest.approx(3.3292948993, abs=1e-9)
    svip = control.Controller("svip")
    assert svip.after_include(1, 0.5, top=0.5, entropy=0.599999)
    assert not svip.after_include(1, 0.5, top=0.5, entropy=0.600001)
    one = control.Controller("ucb:4")
    assert [one.length(index=i) for i in range(3)] == [4, 4, 4]


def test_lengths_from_times() -> None:
    assert control.pearl_gamma(12.0, 3.1) == 4
    assert control.spec_branch_gamma(0.9, 6.0) >= 6 > control.spec_branch_gamma(0.3, 2.0)
    times = [1 + 0.1 * n for n in range(9)]
    length, rate = control.best_length([0.8] * 8, times)
    rates = [sum(0.8**i for i in range(n + 1)) / times[n] for n in range(9)]
    assert (length, rate) == (int(np.argmax(rates)), pytest.approx(max(rates)))
    with pytest.raises(InputError):
        control.best_length([0.8], [1.0])
    hedge = control.Hedge(2)
    for _ in range(50):
        hedge.update([0.9, 0.1])
    assert hedge.weights()[1] > 0.95


def test_times_of_one_size_only_are_not_taken_for_all() -> None:
    # The host runs whatever is proposed; a node costs half a pass, so most drafts do not pay.
    spec = Speculator(8, sources=["suffix"], max_nodes=17)
    req = spec.start([0, 1, 2, 3] * 4)
    sizes = []
    for i in range(60):
        batch = spec.propose([req])
        sizes.append(len(batch.tokens) - 1)
        spec.observe_forward(len(batch.tokens), 1.0 + 0.5 * len(batch.tokens))
        sampled = [(int(t) + 1 + i % 2) % 4 for t in batch.tokens]
        spec.commit(spec.verify(batch, sampled=sampled))
    assert sizes[0] > 8
    assert sum(sizes[20:]) / 40 < 4


def test_a_controller_steers_a_drafter() -> None:
    c = control.Controller(control.Heuristic(start=4))
    assert c.length() == 4
    c.report(allowed=4, drafted=4, accepted=4)
    assert c.length() == 6
    assert c.fork().length() == 6
    assert c.fresh().length() == 4
    with pytest.raises(InputError):
        c.report(allowed=4, drafted=4, accepted=5)
    with pytest.raises(InputError):
        c.before_sample(0)
    with pytest.raises(InputError):
        c.before_sample(0, [np.nan, 1.0])
    d = control.Controller(control.SpecDecPP(h=0.5))
    for _ in range(600):
        d.report(allowed=4, drafted=2, accepted=0, path=[(0.9, 0.3, 0.9, False)])
    assert d.calibrated(0.9) < 0.3, "what was measured counts, not what the drafter says"
