"""The path promise on real models: with one seed the text is that of the plain loop.

Whatever is drafted, however the tree is shaped, whoever else is in the batch. Models run in
float64, so that a difference is a defect and not rounding.
"""

from __future__ import annotations

import functools
from collections import Counter

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from trivium import Speculator, tinylm
from trivium.integrations.transformers import generate
from trivium.speculator import TreeBatch

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

pytestmark = pytest.mark.stack

VOCAB = 24
ARCHITECTURES = {
    "Llama": {"num_key_value_heads": 2},
    "GPT2": {"n_embd": 32, "n_layer": 2, "n_head": 4},
    "Qwen2": {"num_key_value_heads": 2},
    "Gemma2": {"head_dim": 8, "sliding_window": 6},  # verifies chains
}


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    """Tiny models are fastest on one thread."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@functools.cache
def model_of(name):
    """A random model whose large weights prefer some tokens, so that its text repeats."""
    torch.manual_seed(1)
    config = getattr(transformers, f"{name}Config")(
        **{
            "vocab_size": VOCAB,
            "hidden_size": 32,
            "intermediate_size": 48,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "max_position_embeddings": 128,
            "bos_token_id": None,
            "eos_token_id": None,
            "pad_token_id": None,
            **ARCHITECTURES[name],
        }
    )
    model = transformers.AutoModelForCausalLM.from_config(config)
    with torch.no_grad():
        for p in model.parameters():
            if p.ndim == 2:
                p.mul_(6)
    return model.double().eval()


prompts = st.lists(
    st.lists(st.integers(0, VOCAB - 1), min_size=1, max_size=12), min_size=1, max_size=3
)
laws = st.fixed_dictionaries(
    {
        "temperature": st.sampled_from([0.0, 0.3, 0.8, 1.2]),
        "top_k": st.sampled_from([0, 0, 4]),
        "top_p": st.sampled_from([1.0, 1.0, 0.8]),
        "min_p": st.sampled_from([0.0, 0.0, 0.1]),
        "seed": st.integers(0, 2**64 - 1),
        "draw": st.sampled_from(["cdf", "race"]),
        "eos_token_id": st.sampled_from([[], [], [3], [5, 11]]),
        "max_new_tokens": st.integers(1, 20),
    }
)
builds = st.fixed_dictionaries(
    {
        "sources": st.sampled_from([["suffix"], ["recycle"], ["suffix", "recycle"], "auto"]),
        "max_nodes": st.integers(1, 24),
        "max_depth": st.integers(0, 12),
        "policy": st.sampled_from(["auto", "full"]),
    }
)

ACCEPTED: Counter[str] = Counter()


def check_identity(name, ids, law, build):
    model = model_of(name)
    plain = generate(model, ids, **law)
    spec = Speculator(VOCAB, **build)
    for _ in range(2):  # cold, then with stores that know the text
        fast = generate(model, ids, speculator=spec, **law)
        assert fast.sequences == plain.sequences
        assert fast.finish_reasons == plain.finish_reasons
        np.testing.assert_allclose(
            np.concatenate(fast.logprobs), np.concatenate(plain.logprobs), atol=1e-4
        )
        ACCEPTED[name] += fast.stats["accepted"]


@pytest.mark.filterwarnings("ignore:.*cut to chains")
@pytest.mark.parametrize("name", ARCHITECTURES)
@settings(max_examples=30, suppress_health_check=[HealthCheck.too_slow])
@given(ids=prompts, law=laws, build=builds)
def test_text_does_not_depend_on_the_speculator(name, ids, law, build):
    check_identity(name, ids, law, build)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*cut to chains")
@pytest.mark.parametrize("name", ARCHITECTURES)
@settings(max_examples=400, suppress_health_check=[HealthCheck.too_slow])
@given(ids=prompts, law=laws, build=builds)
def test_text_does_not_depend_on_the_speculator_long(name, ids, law, build):
    check_identity(name, ids, law, build)


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_drafts_were_accepted(name):
    """The runs above say nothing about a speculator whose drafts are always refused."""
    if name not in ACCEPTED:
        pytest.skip(f"the runs of {name} above were not selected")
    assert ACCEPTED[name] > 100


# ---- drafts that no source would make ------------------------------------------------------------


class Adversary(Speculator):
    """Trees from a list of choices: true continuations, near misses and noise, in any shape."""

    __slots__ = ("accepted", "choices", "texts")

    def propose(self, requests, max_total=None):
        tokens, parents, cu = [], [], [0]
        for r in requests:
            known = r.tokens.tolist()
            text = next(t for t in self.texts if t[: len(known)] == known)
            own, up, depth = [known[-1]], [-1], [0]
            for parent, kind in self.choices:
                parent %= len(own)
                at = len(known) + depth[parent]
                true = text[at] if at < len(text) else 0
                token = true if kind < 2 else (true + kind) % VOCAB
                if not any(u == parent and t == token for u, t in zip(up, own, strict=True)):
                    own.append(token)
                    up.append(parent)
                    depth.append(depth[parent] + 1)
            self.choices = self.choices[3:] + self.choices[:3]
            tokens += own
            parents += up
            cu.append(len(tokens))
        return TreeBatch.from_arrays(tokens, parents, cu, requests=requests)

    def commit(self, out):
        self.accepted += int(out.num_accepted.sum())
        super().commit(out)


choices = st.lists(st.tuples(st.integers(0, 30), st.integers(0, 5)), min_size=1, max_size=24)


def check_adversary(name, ids, law, picks):
    model = model_of(name)
    plain = generate(model, ids, **law)
    spec = Adversary(VOCAB, sources=[], policy="full")
    spec.choices, spec.texts, spec.accepted = picks, plain.sequences, 0
    fast = generate(model, ids, speculator=spec, **law)
    assert fast.sequences == plain.sequences
    assert fast.finish_reasons == plain.finish_reasons
    return spec.accepted


HITS: Counter[str] = Counter()


@pytest.mark.parametrize("name", ["Llama", "GPT2"])
@settings(max_examples=40, suppress_health_check=[HealthCheck.too_slow])
@given(ids=prompts, law=laws, picks=choices)
def test_adversarial_trees_change_nothing(name, ids, law, picks):
    # One text a prompt: with equal prompts the drafts of one row come from another.
    HITS[name] += check_adversary(name, ids, law, picks)


@pytest.mark.parametrize("name", ["Llama", "GPT2"])
def test_adversarial_trees_were_partly_right(name):
    if name not in HITS:
        pytest.skip(f"the runs of {name} above were not selected")
    assert HITS[name] > 50


# ---- the model that ships ------------------------------------------------------------------------


@functools.cache
def shipped():
    if not (tinylm.path() / "model.safetensors").is_file():
        pytest.skip("tinylm is not trained in this checkout")
    return tinylm.load("target", dtype="float64")


def check_shipped(kind, numbers, law):
    model, tokenizer = shipped()
    cases = tinylm.prompts(kind)
    ids = [tokenizer(cases[n]["prompt"])["input_ids"] for n in numbers]
    plain = generate(model, ids, **law)
    spec = Speculator(model.config.vocab_size, max_nodes=24, policy="full")
    fast = generate(model, ids, speculator=spec, **law)
    assert fast.sequences == plain.sequences
    assert fast.finish_reasons == plain.finish_reasons
    return fast


@pytest.mark.parametrize("kind", tinylm.KINDS)
@pytest.mark.parametrize("law", [{"temperature": 0}, {"temperature": 0.8, "top_p": 0.95}], ids=str)
def test_shipped_model_writes_the_same_text(kind, law):
    fast = check_shipped(kind, [0, 1], {"max_new_tokens": 40, "seed": 11, **law})
    assert fast.tokens_per_call > 1


@pytest.mark.slow
@pytest.mark.parametrize("kind", tinylm.KINDS)
@pytest.mark.parametrize("draw", ["cdf", "race"])
@pytest.mark.parametrize("temperature", [0.0, 0.5, 1.0])
def test_shipped_model_writes_the_same_text_long(kind, draw, temperature):
    for first in (0, 3):
        law = {"temperature": temperature, "draw": draw, "seed": first, "max_new_tokens": 80}
        check_shipped(kind, range(first, first + 3), law)
