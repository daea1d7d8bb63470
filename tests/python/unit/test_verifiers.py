"""Verifiers of drawn drafts through the Python surface: laws, refusals, numbers."""

from __future__ import annotations

import os
import subprocess
import sys

import numpy as np
import pytest
from trivium import Speculator, _core
from trivium.errors import InputError, StateError, UnsupportedError
from trivium.speculator import TreeBatch

VOCAB = 4
P = np.array([0.4, 0.3, 0.2, 0.1], np.float32)
Q = np.array([0.1, 0.15, 0.25, 0.5], np.float32)
LOGITS = np.log(P)


def drawn(law="iid", verifier="law", tokens=(0, 3), parents=(-1, 0), **start):
    spec = Speculator(VOCAB, sources=[], verifier=verifier)
    req = spec.start([0], **start)
    batch = TreeBatch.from_arrays(
        list(tokens), list(parents), [0, len(tokens)], requests=[req], law=law
    )
    return spec, req, batch


def test_the_law_of_a_verified_draft_is_the_targets():
    """Chi-square over 4,000 seeds; 60 has probability below 1e-12 at three degrees of freedom."""
    for verifier in ("token", "block", "traversal", "multi_round", "recursive"):
        counts = np.zeros(VOCAB)
        for seed in range(4000):
            x = np.random.default_rng(seed).choice(VOCAB, p=Q.astype(float) / Q.sum())
            tokens, nodes, logprobs = _core.verify_tree(
                verifier, [0, x], [-1, 0], np.tile(P, (2, 1)), np.tile(Q, (2, 1)), "iid", seed, 7
            )
            counts[tokens[0]] += 1
            assert len(tokens) == len(nodes) + 1 == len(logprobs)
            assert np.allclose(logprobs, np.log(P[tokens]), atol=1e-5)
        assert ((counts - 4000 * P) ** 2 / (4000 * P)).sum() < 60, verifier


def test_verify_takes_draft_rows():
    for verifier in ("law", "block", "token", "traversal", "auto", "sampled"):
        spec, req, batch = drawn(verifier=verifier)
        out = spec.verify(batch, logits=np.tile(LOGITS, (2, 1)), q=np.tile(Q, (2, 1)))
        assert np.allclose(out.logprobs, LOGITS[out.tokens], atol=1e-5)
        assert out.deviation is None
        spec.commit(out)
        assert len(req) == 1 + len(out.tokens)


def test_a_pair_outside_the_table_names_both():
    spec, _, batch = drawn(law="greedy_plus_one", verifier="block")
    with pytest.raises(UnsupportedError, match=r'"block".*"greedy_plus_one"'):
        spec.verify(batch, logits=np.tile(LOGITS, (2, 1)), q=np.tile(Q, (2, 1)))
    req = Speculator(VOCAB, sources=[]).start([0])
    with pytest.raises(UnsupportedError, match="softmax"):
        TreeBatch.from_arrays([0], [-1], [0, 1], requests=[req], law="softmax")
    with pytest.raises(UnsupportedError):
        Speculator(VOCAB, verifier="best")


def test_pruning_by_identity_is_refused_for_drawn_drafts():
    spec = Speculator(VOCAB, sources=[], verifier="traversal")
    req = spec.start([0])
    batch = TreeBatch.from_arrays(
        [0, 3], [-1, 0], [0, 2], requests=[req], law="iid", pruning="identity"
    )
    with pytest.raises(UnsupportedError, match='"identity"'):
        spec.verify(batch, logits=np.tile(LOGITS, (2, 1)), q=np.tile(Q, (2, 1)))


def test_the_whole_table_through_the_binding():
    laws = ["point_mass", "race", "iid", "without_replacement", "greedy_plus_one", "mixed"]
    names = dict(_core.verifiers())
    for name, guarantee in names.items():
        for law in laws:
            for pruning in ("none", "shape", "identity", "arrival"):
                legal = _core.verifier_takes(name, law, pruning)
                if name == "sampled" and pruning != "arrival":
                    assert legal
                if guarantee == "law" and pruning == "identity" and law != "point_mass":
                    assert not legal
    assert names["block"] == "law"
    assert names["race"] == "path"


def test_siblings_are_refused_by_chain_rules():
    spec, _, batch = drawn(verifier="block", tokens=(0, 3, 2), parents=(-1, 0, 0))
    with pytest.raises(UnsupportedError, match="siblings"):
        spec.verify(batch, logits=np.tile(LOGITS, (3, 1)), q=np.tile(Q, (3, 1)))


def test_repeated_draws_are_repeated_siblings():
    spec, _, batch = drawn(verifier="multi_round", tokens=(0, 3, 3), parents=(-1, 0, 0))
    spec.verify(batch, logits=np.tile(LOGITS, (3, 1)), q=np.tile(Q, (3, 1)))
    with pytest.raises(InputError, match="repeats"):
        drawn(law="without_replacement", tokens=(0, 3, 3), parents=(-1, 0, 0))


@pytest.mark.parametrize(
    "q",
    [
        np.tile(Q, (3, 1)),
        np.tile(Q[:3], (2, 1)),
        np.tile(Q * 2, (2, 1)),
        np.tile(np.array([1.0, 0.5, -0.5, 0.0001], np.float32), (2, 1)),
        np.tile(np.array([0.5, 0.25, np.nan, 0.25], np.float32), (2, 1)),
        np.tile(np.array([0.5, 0.25, 0.25, 0.0], np.float32), (2, 1)),
        None,
    ],
    ids=["rows", "width", "sum", "negative", "nan", "zero at the draft", "missing"],
)
def test_bad_draft_rows_are_input_errors_and_leave_the_request(q):
    spec, req, batch = drawn(verifier="block")
    with pytest.raises(InputError):
        spec.verify(batch, logits=np.tile(LOGITS, (2, 1)), q=q)
    out = spec.verify(batch, logits=np.tile(LOGITS, (2, 1)), q=np.tile(Q, (2, 1)))
    spec.commit(out)
    assert len(req) > 1


@pytest.mark.parametrize("verifier", ["auto", "block"])
def test_bad_target_rows(verifier):
    spec, _, batch = drawn(verifier=verifier)
    rows = np.tile(LOGITS, (2, 1))
    for bad, error in ((np.nan, InputError), (np.inf, InputError)):
        broken = rows.copy()
        broken[0, 1] = bad
        with pytest.raises(error, match="row 0"):
            spec.verify(batch, logits=broken, q=np.tile(Q, (2, 1)))
    broken = rows.copy()
    broken[0] = -np.inf
    with pytest.raises(StateError, match="row 0"):
        spec.verify(batch, logits=broken, q=np.tile(Q, (2, 1)))


def test_temperature_zero_is_the_greedy_walk():
    for verifier in ("auto", "block", "token", "traversal", "multi_round", "k_seq", "gbv"):
        spec, _, batch = drawn(verifier=verifier, tokens=(0, 0, 3), parents=(-1, 0, 1))
        out = spec.verify(
            batch, logits=np.tile(LOGITS, (3, 1)), q=np.tile(Q, (3, 1)), temperature=0.0
        )
        assert out.tokens.tolist() == [0, 0], verifier
        assert out.num_accepted.tolist() == [1]


def test_rules_that_read_rows_refuse_ids():
    spec, _, batch = drawn(verifier="block")
    with pytest.raises(UnsupportedError, match="logits="):
        spec.verify(batch, sampled=[0, 0])


def test_the_race_needs_a_racing_request():
    spec, _, batch = drawn(law="race", verifier="race")
    with pytest.raises(UnsupportedError, match="draw"):
        spec.verify(batch, logits=np.tile(LOGITS, (2, 1)))
    spec, _, batch = drawn(law="race", verifier="race", draw="race")
    spec.verify(batch, logits=np.tile(LOGITS, (2, 1)))


def test_a_lossy_rule_is_asked_for_by_name_and_reports():
    spec, _, batch = drawn(law="point_mass", verifier="auto", tokens=(0, 0, 1), parents=(-1, 0, 1))
    out = spec.verify(batch, logits=np.tile(LOGITS, (3, 1)), lossy="typical")
    assert out.num_accepted.tolist() == [2]
    assert out.deviation.tolist() == [1.0]
    with pytest.raises(UnsupportedError, match="typical"):
        spec.verify(batch, logits=np.tile(LOGITS, (3, 1)), lossy="close_enough")
    spec, _, batch = drawn()
    with pytest.raises(UnsupportedError, match="iid"):
        spec.verify(batch, logits=np.tile(LOGITS, (2, 1)), lossy="typical")


def test_mixed_trees_carry_roles():
    spec = Speculator(VOCAB, sources=[], verifier="mixed")
    req = spec.start([0])
    batch = TreeBatch.from_arrays(
        [0, 0, 3], [-1, 0, 0], [0, 3], requests=[req], law="mixed", roles=[0, 0, 1]
    )
    spec.verify(batch, logits=np.tile(LOGITS, (3, 1)), q=np.tile(Q, (3, 1)))
    with pytest.raises(InputError, match="roles"):
        TreeBatch.from_arrays([0, 0], [-1, 0], [0, 2], requests=[req], law="mixed")


def test_a_batch_is_its_requests_one_by_one():
    rng = np.random.default_rng(0)
    spec = Speculator(VOCAB, sources=[], verifier="traversal")
    reqs = [spec.start([0], seed=i) for i in range(20)]
    tokens, parents, cu = [], [], [0]
    for i in range(20):
        n = int(rng.integers(0, 4))
        tokens += [0, *rng.integers(0, VOCAB, n).tolist()]
        parents += [-1, *range(n)]
        cu.append(len(tokens))
        assert i < 20
    rows = np.log(rng.dirichlet(np.ones(VOCAB), len(tokens))).astype(np.float32)
    q = rng.dirichlet(np.ones(VOCAB), len(tokens)).astype(np.float32)
    whole = spec.verify(
        TreeBatch.from_arrays(tokens, parents, cu, requests=reqs, law="iid"), logits=rows, q=q
    )
    for i, req in enumerate(reqs):
        a, b = cu[i], cu[i + 1]
        one = spec.verify(
            TreeBatch.from_arrays(tokens[a:b], parents[a:b], [0, b - a], requests=[req], law="iid"),
            logits=rows[a:b],
            q=q[a:b],
        )
        span = slice(whole.cu_tokens[i], whole.cu_tokens[i + 1])
        assert one.tokens.tolist() == whole.tokens[span].tolist()
        assert one.kv_gather.tolist() == whole.kv_gather[span].tolist()


def test_every_verifier_is_enumerated():
    reports = _core.check_verifiers(True)
    rules = [r for r in reports if r["guarantee"] == "lossy"]
    assert {r["name"] for r in reports} - {r["name"] for r in rules} == set(dict(_core.verifiers()))
    exact = [r for r in reports if r["guarantee"] != "lossy"]
    assert all(r["worst_tv"] < 1e-12 and r["cases"] > 0 for r in exact), reports
    names = [
        "typical",
        "threshold",
        "top_k",
        "distance",
        "min_block",
        "confident",
        "reflective",
        "reward",
        "entropy",
    ]
    assert [r["name"] for r in rules] == names
    # Lossy rules move the law, and say by how much.
    assert all(r["worst_tv"] > 0.02 and r["uncovered"] < 1e-12 for r in rules), rules


def test_every_mutant_is_killed():
    mutants = _core.check_mutants()
    assert mutants["made"] > 100
    assert mutants["survived"] == 0, mutants["names"]


def test_a_batch_does_not_depend_on_the_number_of_threads():
    """64 requests, enough rows for the pool; the number of threads is read once a process."""
    program = """
import hashlib, numpy as np
from trivium import Speculator
from trivium.speculator import TreeBatch
vocab, n = 6000, 64
rng = np.random.default_rng(3)
digest = hashlib.sha256()
for verifier, law in (("auto", "point_mass"), ("block", "iid"), ("traversal", "iid")):
    spec = Speculator(vocab, sources=[], verifier=verifier, seed=5)
    reqs = [spec.start([i], branch=i) for i in range(n)]
    tokens = rng.integers(0, vocab, (n, 3)).astype(np.int32)
    z = np.repeat(rng.normal(size=(n, 1, vocab)), 3, axis=1).astype(np.float32)
    np.put_along_axis(z, tokens[:, None, 1:].repeat(3, 1), 8.0, 2)
    q = np.exp(z[:, :, :]).reshape(-1, vocab)
    q /= q.sum(1, keepdims=True)
    tokens[:, 0] = np.arange(n)
    batch = TreeBatch.from_arrays(tokens.ravel(), np.tile([-1, 0, 1], n),
        np.arange(n + 1) * 3, requests=reqs, law=law)
    out = spec.verify(batch, logits=z.reshape(-1, vocab), q=None if law == "point_mass" else q)
    for part in (out.tokens, out.cu_tokens, out.kv_gather, out.logprobs):
        digest.update(np.ascontiguousarray(part).tobytes())
print(digest.hexdigest())
"""
    digests = set()
    for threads in ("1", "2", "3", "8"):
        done = subprocess.run(
            [sys.executable, "-c", program],
            env=os.environ | {"TRIVIUM_NUM_THREADS": threads},
            capture_output=True,
            text=True,
            check=True,
        )
        digests.add(done.stdout.strip())
    assert len(digests) == 1
    assert len(digests.pop()) == 64


def test_one_seed_may_serve_parallel_samples():
    """Allowed: the same branch gives the same text, other branches independent ones."""
    spec = Speculator(64, sources=[], seed=9)
    z = np.zeros((1, 64), np.float32)

    def text(**start):
        req, out = spec.start([0], **start), []
        for _ in range(24):
            done = spec.verify(spec.propose([req]), logits=z)
            out += done.tokens.tolist()
            spec.commit(done)
        return out

    assert text(seed=4) == text(seed=4) == text(seed=4, branch=0)
    others = [text(seed=4, branch=b) for b in range(1, 6)]
    assert len({tuple(t) for t in [text(seed=4), *others]}) == 6
    # Independent: they agree about once in 64 tokens.
    agree = sum(a == b for t in others for a, b in zip(t, text(seed=4), strict=True))
    assert agree < 16  # of 120, mean 1.9: probability below 1e-9


@pytest.mark.parametrize(
    ("p", "match"),
    [
        (P * 2, "sums to"),
        (np.array([0.9, 0.3, -0.2, 0.0], np.float32), "entry 2"),
        (np.array([0.5, np.nan, 0.5, 0.0], np.float32), "entry 1"),
        (np.array([0.5, np.inf, 0.5, 0.0], np.float32), "entry 1"),
        (np.zeros(4, np.float32), "sums to"),
    ],
    ids=["sum", "negative", "nan", "inf", "no mass"],
)
@pytest.mark.parametrize("name", ["token", "block", "traversal", "sampled"])
def test_probability_rows_of_the_target_are_checked(name, p, match):
    law = "point_mass" if name == "sampled" else "iid"
    with pytest.raises(InputError, match=match):
        _core.verify_tree(name, [0, 3], [-1, 0], np.tile(p, (2, 1)), np.tile(Q, (2, 1)), law, 0, 1)
