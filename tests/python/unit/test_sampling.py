"""`trivium.sampling`: goldens, errors, sessions, and pipelines as targets of speculation."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
from trivium import Speculator, Vocabulary, sampling
from trivium.errors import InputError, LimitError, StateError, TokenError, UnsupportedError
from trivium.sampling import Pipeline

P = np.array([0.5, 0.25, 0.15, 0.07, 0.03])
LOGITS = np.log(P).astype(np.float32)


def kept(pipeline: Pipeline, **call) -> list[int]:
    return np.flatnonzero(np.isfinite(pipeline.process(LOGITS, **call))).tolist()


@pytest.mark.parametrize(
    ("options", "want"),
    [
        ({"top_k": 2}, [0, 1]),
        ({"top_p": 0.8}, [0, 1, 2]),
        ({"min_p": 0.2}, [0, 1, 2]),
        ({"typical": 0.2}, [1]),
        ({"typical": 0.7}, [0, 1]),
        ({"typical": 0.85}, [0, 1, 2]),
        ({"epsilon": 0.05}, [0, 1, 2, 3]),
        ({"eta": 0.1}, [0, 1, 2]),
        ({"eta": 0.05}, [0, 1, 2, 3]),
        ({"top_h": 0.6}, [0, 1]),
        ({"top_n_sigma": 1.0}, [0, 1]),
        ({"xtc": 1.0}, [2, 3, 4]),
        ({"temperature": 2.0, "top_p": 0.8}, [0, 1, 2, 3]),
        ({"temperature": 2.0, "top_p": 0.8, "order": "llama.cpp"}, [0, 1, 2]),
        ({"temperature": 0.0}, [0]),
        ({"allowed_tokens": [3, 1]}, [1, 3]),
        ({"suppress_tokens": [0]}, [1, 2, 3, 4]),
        ({"min_new_tokens": 1, "eos": 4}, [0, 1, 2, 3]),
        ({"forced": {0: 2}}, [2]),
    ],
)
def test_fixture_of_the_specification(options, want) -> None:
    assert kept(Pipeline(**options)) == want


def test_history_rules() -> None:
    assert kept(Pipeline(no_repeat_ngram=2), history=[0, 1, 0, 2, 0]) == [0, 3, 4]
    assert kept(Pipeline(bad_words=[[0, 1], [4]]), history=[0]) == [0, 2, 3]
    dry = Pipeline(dry=0.8)
    loss = LOGITS - dry.process(LOGITS, history=[3, 0, 1, 2, 3, 0, 1])
    np.testing.assert_allclose(loss, [0, 0, 1.4, 0, 0], atol=1e-6)
    penalty = Pipeline(frequency_penalty=0.5, presence_penalty=0.25)
    loss = LOGITS - penalty.process(LOGITS, history=[0, 3, 3], prompt_len=1)
    np.testing.assert_allclose(loss, [0, 0, 0, 1.25, 0], atol=1e-6)


def test_draws_are_frozen() -> None:
    plain = Pipeline()
    # The cdf scalar of seed 42 at index 7 is 0.7717: in the third token's share.
    assert plain.sample(LOGITS, seed=42, index=7) == (2, pytest.approx(np.log(0.15), abs=1e-6))
    for draw, want in GOLDEN.items():
        tokens = [plain.sample(LOGITS, seed=42, index=i, draw=draw)[0] for i in range(12)]
        assert tokens == want


GOLDEN = {
    "cdf": [1, 0, 1, 1, 0, 0, 0, 2, 0, 0, 1, 0],
    "race": [3, 1, 0, 0, 0, 0, 1, 1, 0, 0, 1, 2],
}


def test_json_round_trip_hash_and_freeze() -> None:
    p = Pipeline(top_p=0.9, temperature=0.7, repetition_penalty=1.1, logit_bias={3: 1.5, 1: -2})
    q = Pipeline.from_json(p.to_json())
    assert q == p
    assert hash(q) == hash(p)
    assert q.stable_hash == p.stable_hash
    assert pickle.loads(pickle.dumps(p)) == p
    assert [s["rule"] for s in p.steps] == ["logit_bias", "repetition", "temperature", "top_p"]
    assert Pipeline(p.steps, order=None) == p
    assert p.stable_hash != Pipeline(top_p=0.9).stable_hash
    with pytest.raises(AttributeError):
        p._json = "{}"


def truncated(z: np.ndarray, rule: str, value: float) -> np.ndarray:
    """One truncation, written out."""
    p = np.exp(z - z.max()) / np.exp(z - z.max()).sum()
    order = np.argsort(-z, kind="stable")
    if rule == "top_k":
        keep = z >= np.sort(z)[-int(value)]
    elif rule == "min_p":
        keep = p >= value * p.max()
    else:
        before = np.cumsum(p[order]) - p[order]
        keep = np.zeros(len(z), bool)
        keep[order[before < value]] = True
    return np.where(keep, z, -np.inf)


def test_orders_of_other_stacks_are_their_chains_written_out() -> None:
    """llama.cpp: penalties, top-k, top-p, min-p, then temperature; vLLM: temperature, min-p,
    then top-k and top-p on what is left."""
    chains = {
        "llama.cpp": ["penalty", "top_k", "top_p", "min_p", "temperature"],
        "vllm": ["penalty", "temperature", "min_p", "top_k", "top_p"],
        "canonical": ["penalty", "temperature", "top_k", "top_p", "min_p"],
    }
    values = {"top_k": 9, "top_p": 0.77, "min_p": 0.06, "temperature": 1.9}
    rng, history, kept = np.random.default_rng(8), [1, 1, 3], set()
    for _ in range(40):
        row = (rng.normal(size=40) * 2).astype(np.float32)
        for order, chain in chains.items():
            z = row.astype(np.float64)
            for rule in chain:
                if rule == "penalty":
                    z[1] -= 0.7 * 2 + 0.3
                    z[3] -= 0.7 + 0.3
                elif rule == "temperature":
                    z = z / values[rule]
                else:
                    z = truncated(z, rule, values[rule])
            pipeline = Pipeline(order=order, frequency_penalty=0.7, presence_penalty=0.3, **values)
            got = pipeline.process(row, history=history, prompt_len=0)
            assert (np.isneginf(got) == np.isneginf(z)).all(), order
            assert np.allclose(got[got > -np.inf], z[z > -np.inf], atol=1e-4)
            kept.add((order, int((z > -np.inf).sum())))
    assert len(kept) > 8


def test_orders() -> None:
    names = {"temperature": 0.5, "top_k": 3, "min_p": 0.1, "no_repeat_ngram": 2, "dry": 0.8}
    want = {
        "canonical": ["ngram_block", "dry", "temperature", "top_k", "min_p"],
        "transformers": ["dry", "ngram_block", "temperature", "top_k", "min_p"],
        "llama.cpp": ["ngram_block", "dry", "top_k", "min_p", "temperature"],
        "vllm": ["ngram_block", "dry", "temperature", "min_p", "top_k"],
    }
    for order, rules in want.items():
        assert [s["rule"] for s in Pipeline(order=order, **names).steps] == rules


@pytest.mark.parametrize(
    "options",
    [
        {"temperature": -1.0},
        {"temperature": float("nan")},
        {"top_p": 0.0},
        {"min_p": 2.0},
        {"typical": 0.0},
        {"xtc": {"probability": 0.5, "threshold": 0.7}},
        {"xtc": {"odds": 0.5}},
        {"mirostat": 3},
        {"repetition_penalty": 0.0},
        {"logit_bias": {1: float("-inf")}},
        {"bad_words": [[]]},
        {"allowed_tokens": []},
        {"min_new_tokens": 2},
        {"top_k": -1},
        {"steps": [{"rule": "top_q"}]},
        {"top_k": object()},
        {"momentum": -1.0},
        {"momentum": {"resistance": [-1.0]}},
        {"rpg": 1.5},
        {"diversity": -0.1},
        {"encoder_repetition": {"tokens": [1]}},
        {"encoder_no_repeat_ngram": {"n": 0, "tokens": [1]}},
    ],
)
def test_bad_parameters_are_input_errors(options) -> None:
    with pytest.raises(InputError):
        Pipeline(**options)


def test_bad_rows_are_typed_errors_and_the_pipeline_stays_usable() -> None:
    p = Pipeline(temperature=0.5, top_k=2)
    good = p.sample(LOGITS, seed=1)
    with pytest.raises(UnsupportedError):
        Pipeline(order="alphabetical")
    for bad in (np.nan, np.inf):
        row = LOGITS.copy()
        row[3] = bad
        with pytest.raises(InputError):
            p.sample(row, seed=1)
        with pytest.raises(InputError, match="row 1"):
            p.sample(np.stack([LOGITS, row]), seed=1)
    with pytest.raises(StateError):
        p.sample(np.full(5, -np.inf, np.float32), seed=1)
    with pytest.raises(StateError, match="suppress"):
        Pipeline(suppress_tokens=range(5)).sample(LOGITS, seed=1)
    with pytest.raises(TokenError):
        Pipeline(suppress_tokens=[5]).sample(LOGITS, seed=1)
    with pytest.raises(InputError):
        p.sample(LOGITS, seed=1, draw="dice")
    with pytest.raises(InputError):
        p.sample(LOGITS, seed=1, top_p=0.5)
    with pytest.raises(InputError):
        p.sample(LOGITS, seed=1, history=[1], prompt_len=2)
    with pytest.raises(InputError):
        p.sample(np.zeros((2, 2, 2), np.float32), seed=1)
    with pytest.raises(InputError):
        p.sample(np.zeros((2, 5), np.float32), seed=[1, 2, 3])
    with pytest.raises(InputError):
        p.sample(LOGITS, seed=-1)
    assert p.sample(LOGITS, seed=1) == good


@pytest.mark.parametrize(
    "row",
    [
        [0.5],
        [2.0] * 9,
        [0.0] + [-np.inf] * 8,
        [1e38, 1e38, -1e38],
        [1e-42, -1e-42, 0.0],
        [-np.inf] * 200 + [1.0, 2.0],
    ],
)
@pytest.mark.parametrize("draw", ["cdf", "race"])
def test_adversarial_rows(row, draw) -> None:
    everything = Pipeline(
        temperature=0.05,
        top_k=3,
        top_p=0.9,
        min_p=0.05,
        typical=0.95,
        epsilon=1e-4,
        eta=1e-4,
        top_h=0.9,
        top_n_sigma=2.0,
        xtc=0.5,
        mirostat=2,
    )
    for p in (Pipeline(), everything):
        for seed in range(5):
            token, logprob = p.sample(row, seed=seed, draw=draw)
            assert row[token] > -np.inf
            assert np.isfinite(logprob)
            assert logprob <= 1e-6


def test_half_rows_equal_their_widened_rows() -> None:
    p = Pipeline(temperature=0.8, top_p=0.9)
    row = np.random.default_rng(0).normal(size=999).astype(np.float16)
    assert p.sample(row, seed=3) == p.sample(row.astype(np.float32), seed=3)
    assert p.sample(row.astype(np.float64), seed=3) == p.sample(row.astype(np.float32), seed=3)
    torch = pytest.importorskip("torch")
    brain = torch.tensor(row.astype(np.float32)).to(torch.bfloat16)
    assert p.sample(brain, seed=3) == p.sample(brain.float(), seed=3)


def test_batches_are_loops_and_rows_bring_their_values() -> None:
    p = Pipeline(temperature=1.0, top_p=1.0, top_k=0, repetition_penalty=1.2)
    rng = np.random.default_rng(1)
    rows = rng.normal(size=(6, 300)).astype(np.float32)
    temperature = rng.uniform(0.2, 2, size=6)
    temperature[2] = 0.0
    top_p = rng.uniform(0.3, 1, size=6)
    history = [rng.integers(0, 300, size=n) for n in range(6)]
    allowed = rng.random((6, 300)) < 0.5
    tokens, logprobs = p.sample(
        rows,
        seed=range(6),
        branch=range(6),
        history=history,
        temperature=temperature,
        top_p=top_p,
        allowed=allowed,
    )
    for i in range(6):
        one = p.sample(
            rows[i],
            seed=i,
            branch=i,
            history=history[i],
            temperature=temperature[i],
            top_p=top_p[i],
            allowed=allowed[i],
        )
        assert one == (tokens[i], logprobs[i])
        scalar = Pipeline(
            temperature=float(np.float32(temperature[i])),
            top_p=float(np.float32(top_p[i])),
            repetition_penalty=1.2,
        )
        assert (
            scalar.sample(rows[i], seed=i, branch=i, history=history[i], allowed=allowed[i]) == one
        )


def test_details_and_the_global_weight() -> None:
    p = Pipeline(temperature=0.5)
    first, second = np.log([0.6, 0.4]), np.log([[0.9, 0.1], [0.5, 0.5]])

    def law(row):
        _, _, more = p.sample(row, seed=0, details=True)
        z = p.process(row)
        q = np.exp(z - z.max())
        return q / q.sum(), float(more.ln_kept[0])

    p1, z1 = law(first)
    local, exact = np.zeros(4), np.zeros(4)
    for a in range(2):
        p2, z2 = law(second[a])
        local[2 * a : 2 * a + 2] = p1[a] * p2
        exact[2 * a : 2 * a + 2] = p1[a] * p2 * np.exp(z1 + z2)
    exact /= exact.sum()
    np.testing.assert_allclose(exact, [0.7772, 0.0096, 0.1066, 0.1066], atol=6e-5)
    np.testing.assert_allclose(local, [0.6839, 0.0084, 0.1538, 0.1538], atol=6e-5)
    assert 0.5 * np.abs(local - exact).sum() == pytest.approx(0.0945, abs=1e-4)
    token, logprob, more = Pipeline(top_k=2).sample(LOGITS, seed=4, details=True)
    assert more.logprob_raw[0] == pytest.approx(np.log(P[token]), abs=1e-6)
    assert more.logprob_fused[0] == more.logprob_raw[0]
    assert logprob == pytest.approx(np.log(P[token] / 0.75), abs=1e-6)
    assert np.exp(more.ln_kept[0]) == pytest.approx(0.75, abs=1e-6)
    assert more.surprise[0] == pytest.approx(-logprob / np.log(2), rel=1e-6)


def test_self_debiasing() -> None:
    biased = np.log([0.1, 0.6, 0.1, 0.1, 0.1]).astype(np.float32)
    p = Pipeline(self_debias={"decay": 5.0})
    z = p.process(LOGITS, aux=[biased])
    weights = P * np.maximum(np.exp(-5 * np.maximum(0, np.exp(biased) - P)), 0.01)
    got = np.exp(z - z.max())
    np.testing.assert_allclose(got / got.sum(), weights / weights.sum(), atol=1e-6)
    with pytest.raises(InputError):
        p.sample(LOGITS, seed=0)
    with pytest.raises(UnsupportedError):
        Speculator(5, sources=[]).start([1], pipeline=p)


def test_sampling_without_replacement() -> None:
    p = Pipeline()
    counts = np.zeros(5)
    n = 20_000
    for i in range(n):
        ranked = p.sample_without_replacement(LOGITS, 2, seed=3, index=i)
        counts[ranked.tokens] += 1
        if i < 50:
            assert ranked.tokens[0] == p.sample(LOGITS, seed=3, index=i, draw="race")[0]
            assert ranked.keys[0] > ranked.keys[1]
    # Inclusion probabilities of the specification; 7 standard deviations.
    want = np.array([0.808000, 0.570667, 0.365929, 0.177851, 0.077552])
    assert np.all(np.abs(counts / n - want) < 7 * np.sqrt(want * (1 - want) / n))
    assert len(p.sample_without_replacement(LOGITS, 9, seed=3).tokens) == 5


def test_mirostat_follows_its_text() -> None:
    p = Pipeline(mirostat={"version": 2, "tau": 3.0})
    s = p.start([], seed=5)
    assert s.mu == 6.0
    mu = 6.0
    for _ in range(20):
        fork = s.fork()
        token, logprob = s.step(LOGITS)
        mu -= 0.1 * (-logprob / np.log(2) - 3.0)
        assert s.mu == pytest.approx(mu, abs=1e-4)
        assert fork.sample(LOGITS) == (token, logprob)
        fork.commit([token], [logprob])
        assert fork.mu == s.mu
    s.rollback(20)
    assert s.mu == 6.0
    assert len(s) == 0
    with pytest.raises(StateError):
        s.rollback(1)


def test_samplers_follow_the_laws_of_sequences() -> None:
    p = Pipeline(temperature=0.9, repetition_penalty=1.3, no_repeat_ngram=3, dry=0.5)
    rows = np.random.default_rng(3).normal(size=(200, 8)).astype(np.float32)
    s = p.start([1, 2, 3], seed=9, branch=2)
    for row in rows[:120]:
        index = len(s)
        history = s.tokens
        want = p.sample(row, seed=9, branch=2, index=index, history=history, prompt_len=3)
        assert s.step(row) == want
    text = s.tokens.tolist()
    s.rollback(70)
    assert s.tokens.tolist() == text[:-70]
    s.sync(text)
    assert s.tokens.tolist() == text
    other = p.start([1, 2, 3], seed=9, branch=2)
    other.commit(text[3:])
    assert s.sample(rows[150]) == other.sample(rows[150])
    s.reset()
    assert s.tokens.tolist() == [1, 2, 3]
    with pytest.raises(InputError):
        s.sync([4])


# ---- as the target of speculation ---------------------------------------------------------------

V = 12


def toy(text) -> np.ndarray:
    """Logits after a text: peaked, repetitive, so that drafts are accepted."""
    rng = np.random.default_rng([int(t) for t in text[-2:]])
    z = rng.normal(size=V) * 2
    z[(text[-1] + 1) % V] += 3
    return z.astype(np.float32)


PIPELINES = {
    "penalties": {
        "temperature": 0.8,
        "repetition_penalty": 1.2,
        "frequency_penalty": 0.1,
        "presence_penalty": 0.2,
    },
    "masks": {
        "temperature": 0.9,
        "no_repeat_ngram": 4,
        "bad_words": [[2, 3], [7]],
        "min_new_tokens": 20,
        "eos": 0,
        "suppress_tokens": [9],
    },
    "dry and xtc": {"dry": 0.6, "xtc": 0.5, "top_p": 0.95, "temperature": 0.7},
    "mirostat 1": {"mirostat": {"version": 1, "tau": 2.0}},
    "mirostat 2": {"mirostat": {"version": 2, "tau": 1.5}, "repetition_penalty": 1.1},
    "penalty decoding": {"penalty_decoding": {"penalty": 1.4, "window": 7}, "temperature": 0.6},
    "rpg": {"rpg": {"factor": 0.6, "include_prompt": True}, "temperature": 0.8, "eos": 0},
    "momentum": {"momentum": {"alpha": 0.1}},
    "unmasked": {"no_repeat_ngram": 2, "allowed_tokens": [1, 2, 3, 4, 5], "on_empty": "unmask"},
}


@pytest.mark.parametrize("name", PIPELINES)
@pytest.mark.parametrize("draw", ["cdf", "race"])
def test_speculation_keeps_the_text_of_the_plain_loop(name, draw) -> None:
    pipeline = Pipeline(**PIPELINES[name])
    prompt = [1, 2, 3, 4, 5, 1, 2, 3]
    accepted = 0
    for seed in range(4):
        plain = pipeline.start(prompt, seed=seed, branch=1, draw=draw)
        logprobs = [plain.step(toy(plain.tokens))[1] for _ in range(60)]
        text = plain.tokens.tolist()
        spec = Speculator(V, sources=["suffix"], max_nodes=8, seed=99)
        req = spec.start(prompt, seed=seed, branch=1, draw=draw, pipeline=pipeline)
        got: list[float] = []
        while len(req) < len(text):
            batch = spec.propose([req])
            rows = []
            for node in range(len(batch.tokens)):
                path = []
                at = node
                while at > 0:
                    path.append(int(batch.tokens[at]))
                    at = int(batch.parents[at])
                rows.append(toy(req.tokens.tolist() + path[::-1]))
            out = spec.verify(batch, logits=np.stack(rows))
            accepted += int(out.num_accepted[0])
            got += out.logprobs.tolist()
            spec.commit(out)
        assert req.tokens.tolist()[: len(text)] == text
        np.testing.assert_array_equal(np.float32(got[:60]), np.float32(logprobs))
        # After a rollback the state is that of the shorter text, mirostat's included.
        req.rollback(len(req) - 40)
        batch = spec.propose([req], max_total=1)
        out = spec.verify(batch, logits=toy(req.tokens)[None])
        assert out.tokens.tolist() == text[40:41]
    assert accepted > 0


def test_drafts_that_the_masks_forbid_are_pruned() -> None:
    prompt = [1, 2, 3, 4, 1, 2]
    spec = Speculator(V, sources=["suffix"], max_nodes=8)
    free = spec.propose([spec.start(prompt)])
    assert 3 in free.tokens.tolist()[1:]
    masked = spec.propose([spec.start(prompt, pipeline=Pipeline(suppress_tokens=[3]))])
    assert 3 not in masked.tokens.tolist()[1:]
    blocked = spec.propose([spec.start(prompt, pipeline=Pipeline(no_repeat_ngram=3))])
    assert 3 not in blocked.tokens.tolist()[1:2]


def test_a_pipeline_decides_alone() -> None:
    spec = Speculator(V, sources=[])
    req = spec.start([1], pipeline=Pipeline(temperature=0.5))
    batch = spec.propose([req])
    with pytest.raises(InputError, match="pipeline"):
        spec.verify(batch, logits=toy([1])[None], temperature=0.7)
    with pytest.raises(InputError, match="pipeline"):
        spec.start([1], pipeline={"temperature": 0.5})


# ---- prompts that end inside a token ------------------------------------------------------------


def test_covers_and_healing() -> None:
    vocab = Vocabulary([b"a", b"b", b"ab", b""], eos=[3])
    after_a, after_b = 0.3, 0.6

    def law(path):
        if path and path[-1] == 0:
            return np.log([1 - after_a, 1e-300, after_a, 1e-300])
        first = 1 - after_b
        return np.log([first * (1 - after_a), after_b, first * after_a, 1e-300])

    def starts(text):
        return sum(np.exp(p) for _, p in sampling.covers(vocab, text, law))

    # Conditioning on the token a would say that b never follows.
    assert starts(b"ab") / starts(b"a") == pytest.approx(after_a)
    assert sampling.back_off(vocab, [1, 0]) == 1
    heal = sampling.Heal(vocab, b"a")
    row = np.zeros(1, np.int32)
    heal.fill(row)
    assert row[0] == 0b101
    token, _, more = Pipeline().sample(law([1]), seed=0, allowed=row, details=True)
    assert token in (0, 2)
    assert np.exp(more.ln_kept[0]) == pytest.approx(starts(b"a"), rel=1e-6)
    assert heal.commit(2)
    assert heal.remaining == b""
    heal.rollback(1)
    assert not heal.commit(1)
    spec = Speculator(4, sources=[])
    req = spec.start([1], constraint=heal)
    out = spec.verify(spec.propose([req]), logits=np.zeros((1, 4), np.float32))
    assert out.tokens[0] in (0, 2)
    with pytest.raises(LimitError):
        sampling.covers(vocab, b"aaaa", law, max_covers=1)
    with pytest.raises(ZeroDivisionError):
        sampling.covers(vocab, b"a", lambda path: 1 / 0)
