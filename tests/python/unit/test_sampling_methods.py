"""Momentum, RPG, contrastive search, siblings, presets, policies, weights of texts."""

from __future__ import annotations

import dataclasses
import itertools
import json
import pickle

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from trivium import Speculator
from trivium.errors import InputError, StateError, TokenError, UnsupportedError
from trivium.sampling import (
    PRESETS,
    Contrastive,
    Pipeline,
    Preset,
    conditional_maxima,
    preset,
    repeats,
)

P = np.array([0.5, 0.25, 0.15, 0.07, 0.03])
LOGITS = np.log(P).astype(np.float32)


def test_goldens_of_rules_with_a_history() -> None:
    momentum = Pipeline(momentum=0.2)
    assert momentum.sample(LOGITS, seed=1, history=[0]) == (0, 0.0)
    assert momentum.sample(LOGITS, seed=1, history=[0, 0]) == (1, 0.0)
    strict = Pipeline(momentum={"alpha": 0.2, "resistance": [0.0]})
    assert strict.sample(LOGITS, seed=1, history=[0, 1])[0] == 2
    rpg = Pipeline(rpg=0.9, eos=4)
    gain = rpg.process(LOGITS, history=[0, 1, 0, 1, 0, 1]) - LOGITS
    want = [3 * np.log(0.9), 0, 0, 0, -3 * np.log(0.8)]
    np.testing.assert_allclose(gain, want, atol=1e-6)
    diverse = Pipeline(diversity=0.5)
    gain = diverse.process(LOGITS, peers=[2, 0, 2]) - LOGITS
    np.testing.assert_allclose(gain, [-0.5, 0, -1, 0, 0], atol=1e-6)
    rows = np.stack([LOGITS, LOGITS])
    gain = diverse.process(rows, peers=[[], [1]]) - rows
    np.testing.assert_allclose(gain, [[0] * 5, [0, -0.5, 0, 0, 0]], atol=1e-6)
    with pytest.raises(InputError, match="peers"):
        diverse.process(rows, peers=[[1]])
    with pytest.raises(TokenError):
        diverse.process(LOGITS, peers=[-1])


def test_diversity_equals_the_vectorised_definition() -> None:
    rng = np.random.default_rng(4)
    for _ in range(50):
        z = rng.normal(size=30).astype(np.float32)
        peers = rng.integers(0, 30, size=rng.integers(0, 40))
        want = z - 0.7 * np.bincount(peers, minlength=30)
        got = Pipeline(diversity=0.7).process(z, peers=peers.tolist())
        np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-5)


@given(st.lists(st.integers(0, 2), max_size=25))
def test_repeats_equal_brute_force(symbols) -> None:
    best = (0, 0)
    for period in range(1, len(symbols) + 1):
        n = 0
        while symbols[len(symbols) - (n + 1) * period :][:period] == symbols[-period:]:
            n += 1
            if (n + 1) * period > len(symbols):
                break
        best = max(best, (n, period))
    assert repeats(symbols) == best


# ---- contrastive search ---------------------------------------------------------------------


def naive_contrastive(p, hidden, past, alpha):
    """Loops over float64 pairs."""
    scores = []
    for i, v in enumerate(hidden):
        like = []
        for h in past:
            size = np.sqrt(float(v @ v)) * np.sqrt(float(h @ h))
            like.append(float(v @ h) / size if size else 0.0)
        scores.append((1 - alpha) * p[i] - alpha * max(like))
    return scores


def test_contrastive_equals_its_definition() -> None:
    rng = np.random.default_rng(3)
    moved = 0
    for _ in range(200):
        k, t, d, v = (int(n) for n in rng.integers([1, 1, 1, 8], [8, 20, 9, 40]))
        search = Contrastive(k=k, alpha=float(rng.random()))
        row = rng.normal(size=v)
        ids, p = search.candidates(row)
        order = np.lexsort((np.arange(v), -row))[:k]
        law = np.exp(row) / np.exp(row).sum()
        np.testing.assert_array_equal(ids, order)
        np.testing.assert_allclose(p, law[order], rtol=1e-12)
        hidden, past = rng.normal(size=(k, d)), rng.normal(size=(t, d))
        hidden[0] *= rng.choice([0, 1, 1e30])  # zeros and overflowing squares
        got = search.choose(p, hidden, past)
        scores = naive_contrastive(p, np.float32(hidden).astype(float), past, search.alpha)
        assert scores[got] >= max(scores) - 1e-5
        moved += got != 0
        assert Contrastive(k=k, alpha=0.0).choose(p, hidden, past) == 0
        assert search.choose(p, hidden, []) == 0
        assert search.choose(p[:1], hidden[:1], past) == 0
    assert moved > 50
    assert Contrastive(**json.loads(json.dumps(dataclasses.asdict(search)))) == search


def test_contrastive_takes_processed_rows_and_refuses_bad_ones() -> None:
    search = Contrastive(k=4)
    row = Pipeline(suppress_tokens=[0], top_k=2).process(LOGITS)
    ids, p = search.candidates(row)
    assert ids.tolist() == [1, 2]
    np.testing.assert_allclose(p, [0.625, 0.375], rtol=1e-6)
    assert Contrastive(k=2).candidates([1.0, 1.0, 1.0])[0].tolist() == [0, 1]
    for bad in ([np.nan, 0.0], [np.inf, 0.0], [-np.inf] * 2, [], [[0.0]]):
        with pytest.raises(InputError):
            search.candidates(bad)
    one = np.ones((2, 3))
    for args in (
        ([0.5], one, one),
        (p, one, np.ones((1, 2))),
        (p, one * np.nan, one),
        (p, [1], one),
    ):
        with pytest.raises(InputError):
            search.choose(*args)
    for options in ({"k": 0}, {"alpha": 1.5}, {"alpha": float("nan")}):
        with pytest.raises(InputError):
            Contrastive(**options)


# ---- presets ------------------------------------------------------------------------------------


def test_presets_print_and_construct() -> None:
    for name, one in PRESETS.items():
        assert one.name == name
        text = str(one)
        assert text.startswith(f"{name}(")
        assert f"[{one.exactness}]" in text
        assert one.exactness in ("exact-law", "heuristic")
        pipeline = one.pipeline()
        assert Pipeline.from_json(pipeline.to_json()) == pipeline
        pipeline.sample(LOGITS, seed=3, history=[0, 1])
    # The exact law is that of no rule at all, and nothing else is labelled so.
    exact = [one.name for one in PRESETS.values() if one.exactness == "exact-law"]
    assert exact == ["ancestral"]
    assert PRESETS["ancestral"].pipeline().steps == []
    law = PRESETS["ancestral"].pipeline().process(LOGITS)
    np.testing.assert_array_equal(law, LOGITS)
    assert preset("greedy").pipeline().sample(LOGITS, seed=1) == (0, 0.0)
    assert preset("nucleus", top_p=0.5).pipeline() == Pipeline(temperature=0.8, top_p=0.5)
    code = preset("code_greedy_rpg", eos=4).pipeline()
    assert [s["rule"] for s in code.steps] == ["rpg", "temperature"]
    assert code.steps[0]["eos"] == [4]
    assert preset("min_p").pipeline(suppress_tokens=[0]).sample(LOGITS, seed=1)[0] != 0
    assert isinstance(preset("typical"), Preset)
    for call in (
        lambda: preset("beam"),
        lambda: preset("ancestral", top_p=0.9),
        lambda: preset("nucleus").pipeline(top_p=0.9),
    ):
        with pytest.raises(InputError):
            call()


# ---- policies, log-probabilities, weights -----------------------------------------------------


def test_policies_for_empty_rows() -> None:
    masks = {"allowed_tokens": [0, 1], "suppress_tokens": [0, 1]}
    with pytest.raises(StateError, match="suppress"):
        Pipeline(**masks).sample(LOGITS, seed=1)
    unmask = Pipeline(**masks, top_k=1, on_empty="unmask")
    assert unmask.sample(LOGITS, seed=1)[0] == 0
    assert unmask.sample(LOGITS, seed=1, allowed=P < 0.1)[0] == 3
    with pytest.raises(StateError):
        unmask.sample(LOGITS, seed=1, allowed=P > 1)
    end = Pipeline(**masks, on_empty={"eos": 4})
    assert end.sample(LOGITS, seed=1) == (4, 0.0)
    token, logprob = end.sample(LOGITS, seed=1, logprobs="raw")
    assert token == 4
    assert logprob == pytest.approx(np.log(0.03), rel=1e-6)
    for p in (unmask, end):
        assert Pipeline.from_json(p.to_json()) == p
        assert pickle.loads(pickle.dumps(p)) == p
        assert eval(repr(p), {"Pipeline": Pipeline}) == p
        assert p != Pipeline(p.steps, order=None)
    assert Pipeline().on_empty == "error"
    assert end.on_empty == {"eos": 4}
    for bad in ("stop", {"eos": -1}, {"eos": "x"}, 3):
        with pytest.raises(InputError):
            Pipeline(on_empty=bad)
    with pytest.raises(TokenError):
        Pipeline(on_empty={"eos": 9}).sample(LOGITS, seed=1)
    spec = Speculator(5, sources=[])
    spec.start([1], pipeline=unmask)
    for refused in (end, Pipeline(diversity=0.5)):
        with pytest.raises(UnsupportedError):
            spec.start([1], pipeline=refused)


def test_log_probabilities_of_each_law() -> None:
    p = Pipeline(temperature=0.5, top_k=2)
    rows = np.stack([LOGITS, LOGITS[::-1]])
    tokens, processed, details = p.sample(rows, seed=5, details=True)
    np.testing.assert_array_equal(p.sample(rows, seed=5, logprobs="raw")[1], details.logprob_raw)
    np.testing.assert_array_equal(details.logprob_raw, details.logprob_fused)
    raw = p.sample(rows, seed=5, logprobs="fused", details=True)
    np.testing.assert_array_equal(raw[1], details.logprob_raw)
    np.testing.assert_array_equal(raw[0], tokens)
    assert (processed != details.logprob_raw).all()
    for kind in ("processed", "raw", "fused"):
        one = p.start(seed=5, logprobs=kind).step(LOGITS)
        want = p.sample(LOGITS, seed=5, logprobs=kind)
        assert one == (want[0], pytest.approx(want[1], abs=1e-7))
    # Fusion of rows tells the last two apart.
    aux = [LOGITS[::-1].copy()]
    fused = Pipeline(self_debias=5.0, top_k=2)
    call = {"seed": 5, "aux": aux}
    laws = {k: fused.sample(LOGITS, logprobs=k, **call)[1] for k in ("processed", "raw", "fused")}
    assert len({round(x, 5) for x in laws.values()}) == 3
    for bad in (lambda: p.sample(LOGITS, seed=1, logprobs="all"), lambda: p.start(logprobs="all")):
        with pytest.raises(InputError, match="logprobs"):
            bad()


def test_weighted_texts_have_the_global_law() -> None:
    """The golden of local normalisation, through a sampler; every text is enumerated."""
    first, second = np.log([0.6, 0.4]), np.log([[0.9, 0.1], [0.5, 0.5]])
    p = Pipeline(temperature=0.5)
    local, weight = {}, {}
    for seed in itertools.count():
        s = p.start(seed=seed, weighed=True)
        a, la = s.step(first)
        b, lb = s.step(second[a])
        local[a, b], weight[a, b] = la + lb, s.log_global_weight
        if len(local) == 4:
            break
    texts = [(0, 0), (0, 1), (1, 0), (1, 1)]
    law = np.exp([local[t] for t in texts])
    np.testing.assert_allclose(law, [0.6839, 0.0084, 0.1538, 0.1538], atol=6e-5)
    world = law * np.exp([weight[t] for t in texts])
    world /= world.sum()
    np.testing.assert_allclose(world, [0.7772, 0.0096, 0.1066, 0.1066], atol=6e-5)
    assert np.abs(law - world).sum() / 2 == pytest.approx(0.0945, abs=1e-4)


def test_the_weight_follows_the_text() -> None:
    p = Pipeline(top_p=0.7, temperature=0.9)
    s = p.start([1, 2], seed=3, weighed=True)
    assert s.log_global_weight == 0
    sums = [0.0]
    for _ in range(80):
        index = len(s)
        s.step(LOGITS)
        _, _, details = p.sample(LOGITS, seed=3, index=index, details=True)
        sums.append(sums[-1] + float(details.ln_kept[0]))
        assert s.log_global_weight == pytest.approx(sums[-1], abs=1e-9)
    fork = s.fork()
    s.rollback(50)
    assert s.log_global_weight == pytest.approx(sums[30], abs=1e-9)
    assert fork.log_global_weight == pytest.approx(sums[80], abs=1e-9)
    s.commit([1, 0], ln_kept=[-0.5, -0.25])
    assert s.log_global_weight == pytest.approx(sums[30] - 0.75, abs=1e-6)
    s.commit([1])
    assert np.isnan(s.log_global_weight)
    s.rollback(1)
    assert s.log_global_weight == pytest.approx(sums[30] - 0.75, abs=1e-6)
    with pytest.raises(InputError):
        s.commit([1, 0], ln_kept=[0.0])
    s.reset()
    assert s.log_global_weight == 0
    assert p.start().log_global_weight is None


# ---- conditional maxima ----------------------------------------------------------------------


def test_conditional_maxima_equal_their_formula() -> None:
    phi = np.log([0.5, 0.3, 0.15, 0.05])
    for seed in range(40):
        top = float(np.random.default_rng(seed).normal())
        got = conditional_maxima(phi, top, seed=seed, index=3, branch=1)
        assert got.max() == top
        # The noise is the race's: with the parent at its own maximum nothing moves.
        order = Pipeline().sample_without_replacement(
            np.float32(phi), 4, seed=seed, index=3, branch=1
        )
        np.testing.assert_array_equal(np.argsort(-got), order.tokens)
        free = conditional_maxima(phi, float(order.keys[0]), seed=seed, index=3, branch=1)
        np.testing.assert_allclose(free[order.tokens], order.keys, atol=2e-5)
        g = np.empty(4)
        g[order.tokens] = order.keys
        with np.errstate(divide="ignore"):
            v = top - g + np.log1p(-np.exp(g - g.max()))
        want = top - np.maximum(0, v) - np.log1p(np.exp(-np.abs(v)))
        np.testing.assert_allclose(got, want, atol=1e-4)
    assert conditional_maxima([], 0.0, seed=1, index=0).tolist() == []
    for bad in (([0.0], np.nan), ([np.inf], 0.0), ([np.nan], 0.0), ([[0.0]], 0.0)):
        with pytest.raises(InputError):
            conditional_maxima(*bad, seed=1, index=0)


def test_top_down_samples_follow_plackett_luce() -> None:
    """Two levels perturbed top-down: the two best leaves are an ordered sample of leaves."""
    parents, inner = [0.6, 0.4], [[0.9, 0.1], [0.5, 0.5]]
    leaves = np.array([p * q for p, row in zip(parents, inner, strict=True) for q in row])
    n, counts = 4000, np.zeros((4, 4))
    for seed in range(n):
        roots = conditional_maxima(np.log(parents), 0.0, seed=seed, index=1)
        keys = [
            conditional_maxima(
                np.log(parents[i]) + np.log(inner[i]), roots[i], seed=seed, index=2, branch=i
            )
            for i in range(2)
        ]
        first, second = np.argsort(-np.concatenate(keys))[:2]
        counts[first, second] += 1
    law = leaves[:, None] * leaves / (1 - leaves[:, None])
    np.fill_diagonal(law, 0)
    assert counts[law == 0].sum() == 0
    # Hoeffding over 12 cells at 1e-9 together.
    assert np.abs(counts / n - law).max() < np.sqrt(np.log(2 * 12 / 1e-9) / (2 * n))
    assert law.sum() == pytest.approx(1)
