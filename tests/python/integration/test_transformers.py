"""The transformers loop against a loop without cache, and its behaviour at every border."""

from __future__ import annotations

import subprocess
import sys
import warnings

import numpy as np
import pytest
from trivium import Speculator, Vocabulary, Voter
from trivium.errors import InputError, StateError, TokenError, UnsupportedError
from trivium.integrations.transformers import calibrate, compare, generate
from trivium.speculator import TreeBatch

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

pytestmark = pytest.mark.stack

VOCAB = 48
PROMPTS = [[1, 2, 3, 4, 5, 1, 2, 3], [7], [9, 8, 7, 6, 9]]
SHAPE = {
    "vocab_size": VOCAB,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 256,
    "bos_token_id": None,
    "eos_token_id": None,
    "pad_token_id": None,
}


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    """Tiny models are fastest on one thread."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def build(name, attention=None, dtype=torch.float64, **config):
    """A random model whose weights are large enough to prefer some tokens."""
    torch.manual_seed(0)
    config = getattr(transformers, f"{name}Config")(**{**SHAPE, **config})
    model = transformers.AutoModelForCausalLM.from_config(config, attn_implementation=attention)
    with torch.no_grad():
        for p in model.parameters():
            if p.ndim == 2:
                p.mul_(6)
    return model.to(dtype).eval()


@pytest.fixture(scope="module")
def llama():
    return build("Llama", "sdpa")


@pytest.fixture(scope="module")
def vocabulary():
    """One letter a token, and some words of two."""
    letters = [bytes([97 + i]) for i in range(26)]
    return Vocabulary(
        [*letters, *(bytes([97 + i, 98 + i]) for i in range(VOCAB - 27)), b""], eos=[47]
    )


def full_logits(model, tokens):
    with torch.no_grad():
        return model(input_ids=torch.tensor([tokens]), use_cache=False).logits[0].float().numpy()


# ---- the plain loop, written again -------------------------------------------------------------


def uniform(seed, index, branch):
    """Scalar 0 of purpose 0 at an absolute index: Philox4x32-10."""
    ctr, key = [0, index, 0, branch], [seed & 0xFFFFFFFF, seed >> 32]
    for _ in range(10):
        a, b = 0xD2511F53 * ctr[0], 0xCD9E8D57 * ctr[2]
        ctr = [
            (b >> 32) ^ ctr[1] ^ key[0],
            b & 0xFFFFFFFF,
            (a >> 32) ^ ctr[3] ^ key[1],
            a & 0xFFFFFFFF,
        ]
        key = [(key[0] + 0x9E3779B9) & 0xFFFFFFFF, (key[1] + 0xBB67AE85) & 0xFFFFFFFF]
    return ((ctr[0] >> 5) * 2**26 + (ctr[1] >> 6)) * 2**-53


def draw(row, u, temperature, top_k=0, top_p=1.0, min_p=0.0):
    """The processed law in float64, then the inverse CDF in order of ids."""
    row = row.astype(np.float64)
    if temperature == 0:
        return int(row.argmax()), 0.0
    p = np.exp((row - row.max()) / temperature)
    order = np.argsort(-row, kind="stable")
    keep = np.zeros(len(row), bool)
    keep[order[: top_k or len(row)]] = True
    p = np.where(keep, p, 0) / p[keep].sum()
    before = np.cumsum(p[order]) - p[order]
    keep[order] &= before < top_p
    p = np.where(keep, p, 0)
    p = np.where(p >= min_p * p.max(), p, 0)
    p /= p.sum()
    token = int(np.searchsorted(np.cumsum(p), u, side="right"))
    return token, float(np.log(p[token]))


def reference(model, prompt, n, seed, branch, law):
    """No cache, no speculator: the whole text at once for every token."""
    tokens, logprobs = list(prompt), []
    for _ in range(n):
        row = full_logits(model, tokens)[-1]
        token, lp = draw(row, uniform(seed, len(tokens), branch), **law)
        tokens.append(token)
        logprobs.append(lp)
    return tokens, logprobs


def test_the_noise_twin_has_the_golden_value():
    assert uniform(42, 7, 0) == 0.771734270497274


LAWS = [
    {"temperature": 0},
    {"temperature": 0.8},
    {"temperature": 0.8, "top_k": 5},
    {"temperature": 1.3, "top_p": 0.7},
    {"temperature": 1.3, "min_p": 0.2},
    {"temperature": 1.1, "top_k": 9, "top_p": 0.9, "min_p": 0.05},
]


@pytest.mark.parametrize("law", LAWS, ids=str)
@pytest.mark.parametrize("sources", [None, ["suffix", "recycle"]], ids=["plain", "drafts"])
def test_text_is_that_of_a_loop_without_cache_or_speculator(llama, law, sources):
    spec = sources and Speculator(VOCAB, sources=sources, max_nodes=12, policy="full")
    out = generate(llama, PROMPTS, speculator=spec, max_new_tokens=24, seed=7, branch=3, **law)
    for i, prompt in enumerate(PROMPTS):
        tokens, logprobs = reference(llama, prompt, 24, 7, 3 + i, law)
        assert out.sequences[i] == tokens
        np.testing.assert_allclose(out.logprobs[i], logprobs, atol=1e-4)


@pytest.mark.parametrize("name", ["Llama", "GPT2", "Qwen2", "Gemma", "GPTNeoX", "OPT"])
@pytest.mark.parametrize("attention", ["eager", "sdpa"])
def test_greedy_text_is_that_of_model_generate(name, attention):
    extra = {
        "GPT2": {"n_embd": 32, "n_layer": 2, "n_head": 4},
        "Gemma": {"head_dim": 8},
        "OPT": {"ffn_dim": 48, "word_embed_proj_dim": 32},
    }
    model = build(name, attention, **extra.get(name, {}))
    spec = Speculator(VOCAB, max_nodes=12, policy="full")
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # no fallback: these verify trees
        for _ in range(2):  # the second time the store knows the text
            out = generate(model, PROMPTS, speculator=spec, temperature=0, max_new_tokens=24)
    for prompt, tokens in zip(PROMPTS, out.sequences, strict=True):
        ids = torch.tensor([prompt])
        want = model.generate(
            ids,
            attention_mask=torch.ones_like(ids),
            do_sample=False,
            max_new_tokens=24,
            pad_token_id=0,
        )
        assert tokens == want[0].tolist()
    assert out.tokens_per_call > 3


# ---- drafts from outside -------------------------------------------------------------------------


class Scripted(Speculator):
    """Proposes what a function of the committed tokens says."""

    __slots__ = ("script",)

    def propose(self, requests, max_total=None):
        tokens, parents, cu = [], [], [0]
        for r in requests:
            t, p = self.script(r.tokens.tolist())
            tokens += [int(r.tokens[-1]), *t]
            parents += [-1, *p]
            cu.append(len(tokens))
        return TreeBatch.from_arrays(tokens, parents, cu, requests=requests)


def scripted(script):
    spec = Scripted(VOCAB, sources=[], max_nodes=64, policy="full")
    spec.script = script
    return spec


@pytest.mark.parametrize("law", [{"temperature": 0}, {"temperature": 0.9}], ids=str)
def test_an_oracle_is_always_accepted(llama, law):
    plain = generate(llama, PROMPTS, max_new_tokens=25, **law)
    texts = {tuple(p): s for p, s in zip(PROMPTS, plain.sequences, strict=True)}

    def script(tokens):
        known = next(s for s in texts.values() if s[: len(tokens)] == tokens)
        true = known[len(tokens) : len(tokens) + 4]
        # Behind a wrong sibling at every depth, so that accepted nodes never stand in a row.
        nodes, parents, at = [], [], 0
        for t in true:
            nodes += [(t + 1) % VOCAB, t]
            parents += [at, at]
            at = len(nodes)
        return nodes, parents

    out = generate(llama, PROMPTS, speculator=scripted(script), max_new_tokens=25, **law)
    assert out.sequences == plain.sequences
    assert out.tokens_per_call == 5
    assert out.num_target_calls == 5


def test_garbage_changes_nothing(llama):
    rng = np.random.default_rng(3)

    def script(tokens):
        drafts, parents = [], []
        for _ in range(int(rng.integers(0, 9))):
            parent, token = int(rng.integers(0, len(drafts) + 1)), int(rng.integers(0, VOCAB))
            if (token, parent) not in zip(drafts, parents, strict=True):
                drafts.append(token)
                parents.append(parent)
        return drafts, parents

    law = {"temperature": 0.9, "max_new_tokens": 30}
    plain = generate(llama, PROMPTS, **law)
    out = generate(llama, PROMPTS, speculator=scripted(script), **law)
    assert out.sequences == plain.sequences


# ---- the cache -----------------------------------------------------------------------------------


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
def test_cache_after_trees_is_that_of_the_text(attention):
    from trivium.integrations._transformers.host import TreeHost

    model = build("Llama", attention)
    close = {"atol": 1e-10 if attention == "sdpa" else 1e-5, "rtol": 0}  # eager: float32 softmax
    spec = Speculator(VOCAB, max_nodes=12, policy="full")
    for tokens in generate(model, PROMPTS, temperature=0, max_new_tokens=30).sequences:
        spec.start(tokens).finish()
    requests = [spec.start(p) for p in PROMPTS]
    host = TreeHost(model, 3)
    accepted = 0
    with torch.inference_mode():
        host.prefill(PROMPTS)
        for _ in range(6):
            batch = spec.propose(requests)
            logits = host.forward(batch, [255] * 3)
            out = spec.verify(batch, logits=logits.numpy(), temperature=0)
            spec.commit(out)
            accepted += int(out.num_accepted.sum())
            host.keep(out.kv_gather, out.cu_tokens, [0, 1, 2])
            for row, r in enumerate(requests):
                fresh = transformers.DynamicCache(config=model.config)
                model(input_ids=torch.tensor([r.tokens[:-1].tolist()]), past_key_values=fresh)
                entries = host.entries(row)
                assert len(entries) == 2
                for (keys, values), layer in zip(entries, fresh.layers, strict=True):
                    torch.testing.assert_close(keys, layer.keys[0], **close)
                    torch.testing.assert_close(values, layer.values[0], **close)
    assert accepted > 20


def test_rows_leave_the_batch_and_the_rest_goes_on(llama):
    lengths = [3, 40, 17]
    spec = Speculator(VOCAB, max_nodes=12, policy="full")
    law = {"temperature": 0.7, "seed": 1}
    out = generate(llama, PROMPTS, speculator=spec, max_new_tokens=lengths, **law)
    assert [len(t) for t in out.new_tokens] == lengths
    for i, prompt in enumerate(PROMPTS):
        alone = generate(llama, [prompt], max_new_tokens=lengths[i], branch=i, **law)
        assert alone.sequences == [out.sequences[i]]


@pytest.mark.parametrize("chunk", [1, 3, 512])
def test_prefill_in_chunks_changes_nothing(llama, chunk):
    prompts = [*PROMPTS, PROMPTS[0], list(range(20))]
    want = generate(llama, prompts, max_new_tokens=12, seed=3)
    out = generate(llama, prompts, max_new_tokens=12, seed=3, prefill_chunk=chunk)
    assert out.sequences == want.sequences


# ---- inputs --------------------------------------------------------------------------------------


def test_prompts_in_every_form_are_the_same_request(llama):
    prompt = PROMPTS[0]
    want = generate(llama, [prompt], max_new_tokens=6).sequences
    tensor = torch.tensor(prompt)
    left = {"input_ids": torch.tensor([[0, 0, *prompt]]), "attention_mask": [[0, 0] + [1] * 8]}
    right = torch.tensor([[*prompt, 0]])
    for form in (prompt, tensor, tensor[None], np.array([prompt]), (tuple(prompt),), left):
        assert generate(llama, form, max_new_tokens=6).sequences == want
    mask = torch.tensor([[1] * 8 + [0]])
    assert generate(llama, right, attention_mask=mask, max_new_tokens=6).sequences == want


def test_samples_of_one_prompt_differ_and_follow_seed_and_branch(llama):
    law = {"temperature": 1.5, "max_new_tokens": 12}
    out = generate(llama, [[1, 2]] * 3, seed=9, **law)
    assert len({tuple(s) for s in out.sequences}) == 3
    again = generate(llama, [[1, 2]] * 2, seed=[9, 9], branch=[2, 0], **law)
    assert again.sequences == [out.sequences[2], out.sequences[0]]


def test_laws_are_per_request(llama):
    law = {"temperature": [0.0, 1.2, 0.7], "top_k": [0, 3, 0], "top_p": [1.0, 1.0, 0.8]}
    out = generate(llama, PROMPTS, max_new_tokens=10, seed=[1, 2, 3], **law)
    for i, prompt in enumerate(PROMPTS):
        own = {name: values[i] for name, values in law.items()}
        alone = generate(llama, [prompt], max_new_tokens=10, seed=i + 1, branch=i, **own)
        assert alone.sequences == [out.sequences[i]]


def test_bad_input_is_a_typed_error_and_harms_nothing(llama):
    spec = Speculator(VOCAB, policy="full")
    want = generate(llama, PROMPTS, max_new_tokens=5).sequences
    cases = [
        ([], {}, InputError, "no request"),
        ([[]], {}, InputError, "prompt 0 is empty"),
        ([[1], []], {}, InputError, "prompt 1 is empty"),
        ([[1, VOCAB]], {}, TokenError, f"token {VOCAB} of prompt 0"),
        ([[-1]], {}, TokenError, "token -1"),
        ([[1.5]], {}, InputError, "no integer"),
        ([1, [2]], {}, InputError, "mixes"),
        ([[[1]]], {}, InputError, "two dimensions"),
        ("text", {}, InputError, "token ids"),
        ([[1]], {"attention_mask": [[1, 1]]}, InputError, "another shape"),
        ([[1]], {"attention_mask": [[0]]}, InputError, "empty"),
        ([[1]], {"max_new_tokens": 0}, InputError, "at least 1"),
        ([[1]], {"temperature": [1, 1]}, InputError, "2 values for 1 requests"),
        ([[1]], {"temperature": -1}, InputError, "temperature"),
        ([[1]], {"top_p": 0.0}, InputError, "top_p"),
        ([[1]], {"draw": "dice"}, InputError, "dice"),
        ([[1]], {"stop_strings": "x"}, InputError, "tokenizer"),
        ([[1]], {"stop_strings": ""}, InputError, "non-empty"),
        ([[1]], {"eos_token_id": "x"}, InputError, "eos_token_id"),
        ([[1]], {"on_interrupt": "ignore"}, InputError, "on_interrupt"),
        ([[1]], {"prefill_chunk": 0}, InputError, "prefill_chunk"),
        ([[1]], {"constraint": object()}, InputError, "matcher"),
        ([[1] * 256], {}, InputError, "256 positions"),
        ([[1]], {"voter": object()}, InputError, "no trivium.Voter"),
        ([[1]], {"voter": Voter()}, InputError, "tokenizer"),
        ([[1]], {"speculator": Speculator(VOCAB + 1)}, InputError, f"{VOCAB + 1} wide"),
    ]
    for ids, options, error, text in cases:
        with pytest.raises(error, match=text):
            generate(llama, ids, **{"speculator": spec, **options})
    assert generate(llama, PROMPTS, speculator=spec, max_new_tokens=5).sequences == want


def test_nan_logits_name_the_row_and_the_speculator_goes_on():
    model = build("Llama")
    spec = Speculator(VOCAB, policy="full")
    want = generate(model, PROMPTS, speculator=spec, max_new_tokens=5).sequences
    saved = model.lm_head.weight.clone()
    with torch.no_grad():
        model.lm_head.weight[3] = torch.nan
    with pytest.raises(InputError, match="row 0"):
        generate(model, PROMPTS, speculator=spec, max_new_tokens=5)
    with torch.no_grad():
        model.lm_head.weight.copy_(saved)
    assert generate(model, PROMPTS, speculator=spec, max_new_tokens=5).sequences == want


def test_text_stays_within_the_positions_of_the_model():
    model = build("GPT2", n_embd=32, n_layer=2, n_head=4, max_position_embeddings=20)
    spec = Speculator(VOCAB, policy="full")
    for _ in range(2):
        out = generate(model, [[1, 2, 3], [4]], speculator=spec, temperature=0)
        assert [len(s) for s in out.sequences] == [20, 20]
        assert out.finish_reasons == ["length", "length"]
    plain = generate(model, [[1, 2, 3], [4]], temperature=0)
    assert out.sequences == plain.sequences


# ---- ends ----------------------------------------------------------------------------------------


def oracle(model, **law):
    """A drafter that knows the text, so that ends fall inside accepted drafts."""
    texts = generate(model, PROMPTS, max_new_tokens=40, eos_token_id=[], **law).sequences

    def script(tokens):
        known = next(s for s in texts if s[: len(tokens)] == tokens)
        true = known[len(tokens) : len(tokens) + 8]
        return true, list(range(len(true)))

    return texts, scripted(script)


def test_one_new_token(llama):
    spec = Speculator(VOCAB, policy="full")
    out = generate(llama, PROMPTS, speculator=spec, max_new_tokens=1, temperature=0)
    assert [len(t) for t in out.new_tokens] == [1, 1, 1]
    assert out.num_target_calls == 1
    assert out.finish_reasons == ["length"] * 3


def test_end_of_sequence_inside_an_accepted_draft(llama):
    texts, spec = oracle(llama, temperature=0.9)
    ends = [texts[0][8 + 5], texts[1][1 + 11]]
    out = generate(
        llama, PROMPTS, speculator=spec, temperature=0.9, max_new_tokens=40, eos_token_id=ends
    )
    plain = generate(llama, PROMPTS, temperature=0.9, max_new_tokens=40, eos_token_id=ends)
    assert out.sequences == plain.sequences
    assert out.finish_reasons == plain.finish_reasons
    assert out.finish_reasons[:2] == ["eos", "eos"]
    for tokens, text, reason in zip(out.new_tokens, texts, out.finish_reasons, strict=True):
        if reason == "eos":
            assert tokens[-1] in ends
        assert not set(tokens[:-1]) & set(ends)
        assert text[-40:][: len(tokens)] == tokens


def test_the_model_says_which_ids_end(llama):
    text = generate(llama, PROMPTS[:1], temperature=0, max_new_tokens=5).new_tokens[0]
    llama.generation_config.eos_token_id = text[1]
    try:
        out = generate(llama, PROMPTS[:1], temperature=0, max_new_tokens=5)
        never = generate(llama, PROMPTS[:1], temperature=0, max_new_tokens=5, eos_token_id=[])
    finally:
        llama.generation_config.eos_token_id = None
    assert out.new_tokens[0] == text[: text.index(text[1]) + 1]
    assert never.new_tokens[0] == text


def test_stop_strings_split_across_tokens(llama, vocabulary):
    texts, spec = oracle(llama, temperature=0.9)
    new = [s[-40:] for s in texts]
    spelled = [vocabulary.decode(t).decode() for t in new]
    stop = spelled[0][9:12]  # three letters over two or three tokens
    law = {"temperature": 0.9, "max_new_tokens": 40, "stop_strings": ["@", stop]}
    out = generate(llama, PROMPTS, speculator=spec, tokenizer=vocabulary, **law)
    plain = generate(llama, PROMPTS, tokenizer=vocabulary, **law)
    assert out.sequences == plain.sequences
    assert out.texts == plain.texts
    for i, text in enumerate(spelled):
        n = next((n for n in range(41) if stop in vocabulary.decode(new[i][:n]).decode()), 40)
        assert out.new_tokens[i] == new[i][:n]
        stopped = stop in text
        assert out.finish_reasons[i] == ("stop" if stopped else "length")
        assert out.texts[i] == (text[: text.index(stop)] if stopped else text)
    assert out.finish_reasons[0] == "stop"


def test_stop_strings_within_one_scan_and_across_scans(vocabulary):
    from trivium.integrations._transformers.stops import Stops

    stops = Stops(["abcd", "zz"], vocabulary)
    ids = [0, 1, 2, 3]
    for split in range(5):
        first, tail = stops.scan(b"", ids[:split])
        second, _ = stops.scan(tail, ids[split:]) if first is None else (None, b"")
        assert (first, second) == ((4, None) if split == 4 else (None, 4 - split))
    assert stops.scan(b"", [26, 2])[0] is None  # "abc"
    assert stops.scan(b"abc", [3, 25, 25])[0] == 1
    assert stops.cut("xzz") == "x"


# ---- streaming and interruption ------------------------------------------------------------------


def test_callback_sees_every_token_in_order(llama):
    _, spec = oracle(llama, temperature=0.9)
    seen = [[], [], []]
    calls = []

    def callback(i, ids):
        calls.append(i)
        seen[i] += ids

    out = generate(
        llama,
        PROMPTS,
        speculator=spec,
        temperature=0.9,
        max_new_tokens=[40, 4, 21],
        token_callback=callback,
    )
    assert seen == out.new_tokens
    assert calls[:6] == [0, 1, 2, 0, 2, 0]


def interrupting(after):
    def callback(i, ids):
        nonlocal after
        after -= 1
        if not after:
            raise KeyboardInterrupt

    return callback


def test_ctrl_c_propagates_and_leaves_the_speculator_usable(llama):
    spec = Speculator(VOCAB, policy="full")
    want = generate(llama, PROMPTS, max_new_tokens=20, temperature=0)
    with pytest.raises(KeyboardInterrupt):
        generate(llama, PROMPTS, speculator=spec, temperature=0, token_callback=interrupting(4))
    out = generate(llama, PROMPTS, speculator=spec, max_new_tokens=20, temperature=0)
    assert out.sequences == want.sequences


def test_ctrl_c_can_return_what_there_is(llama):
    plain = generate(llama, PROMPTS, max_new_tokens=[1, 20, 20], temperature=0)
    out = generate(
        llama,
        PROMPTS,
        max_new_tokens=[1, 20, 20],
        temperature=0,
        token_callback=interrupting(6),
        on_interrupt="return",
    )
    assert out.finish_reasons == ["length", "interrupted", "interrupted"]
    assert out.new_tokens[0] == plain.new_tokens[0]
    for tokens, want in zip(out.new_tokens[1:], plain.new_tokens[1:], strict=True):
        assert 0 < len(tokens) < 20
        assert tokens == want[: len(tokens)]


def test_an_error_of_the_callback_propagates(llama):
    def callback(i, ids):
        raise StateError("full")

    with pytest.raises(StateError, match="full"):
        generate(llama, PROMPTS, token_callback=callback)


# ---- models that verify no trees -----------------------------------------------------------------

OTHERS = {
    "sliding window": ("Mistral", {"sliding_window": 8}),
    "mixed layers": ("Gemma3Text", {"sliding_window": 8, "head_dim": 8}),
    "chunked attention": (
        "Llama4Text",
        {
            "attention_chunk_size": 8,
            "head_dim": 8,
            "num_local_experts": 2,
            "intermediate_size_mlp": 48,
        },
    ),
    "no position_ids": ("Bloom", {"n_layer": 2, "n_head": 4}),
    "local layers behind a full cache": (
        "GPTNeo",
        {
            "num_layers": 2,
            "num_heads": 4,
            "attention_types": [[["global", "local"], 1]],
            "window_size": 8,
        },
    ),
}


@pytest.mark.parametrize("kind", OTHERS)
def test_other_models_verify_chains_with_one_warning(kind):
    name, config = OTHERS[kind]
    model = build(name, **config)
    spec = Speculator(VOCAB, max_nodes=12, policy="full")
    law = {"temperature": 0.6, "seed": 4, "max_new_tokens": 24}
    plain = generate(model, PROMPTS, **law)  # nothing is lost without drafts: no warning
    with pytest.warns(UserWarning, match="cut to chains"):
        generate(model, PROMPTS, speculator=spec, **law)
    out = generate(model, PROMPTS, speculator=spec, **law)
    assert out.sequences == plain.sequences
    assert out.tokens_per_call > 1.2
    for i, prompt in enumerate(PROMPTS):
        assert reference(model, prompt, 24, 4, i, {"temperature": 0.6})[0] == out.sequences[i]


class Wrapper(torch.nn.Module):
    """As libraries that adapt weights do: arguments go through unnamed."""

    def __init__(self, inner):
        super().__init__()
        self.inner = inner

    def __getattr__(self, name):
        try:
            return super().__getattr__(name)
        except AttributeError:
            return getattr(self.inner, name)

    def forward(self, *args, **options):
        return self.inner(*args, **options)


def test_a_wrapper_around_a_model_is_the_model(llama):
    wrapped = Wrapper(llama).eval()
    spec = Speculator(VOCAB, max_nodes=12, policy="full")
    want = generate(llama, PROMPTS, max_new_tokens=40, temperature=0)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        out = generate(wrapped, PROMPTS, speculator=spec, max_new_tokens=40, temperature=0)
    assert out.sequences == want.sequences
    assert out.tokens_per_call > 1.2


@pytest.mark.parametrize(
    ("name", "config", "text"),
    [
        ("Mamba", {"state_size": 4}, "recurrent state"),
        ("Bert", {}, "causal"),
    ],
)
def test_models_that_cannot_be_served_are_refused(name, config, text):
    model = build(name, **config)
    with pytest.raises(UnsupportedError, match=text):
        generate(model, [[1, 2]])


def test_an_encoder_decoder_is_refused():
    config = transformers.T5Config(vocab_size=VOCAB, d_model=32, d_kv=8, d_ff=48, num_layers=1)
    with pytest.raises(UnsupportedError, match="encoder-decoder"):
        generate(transformers.T5ForConditionalGeneration(config).eval(), [[1, 2]])


def test_training_mode_is_refused():
    with pytest.raises(InputError, match="eval"):
        generate(build("Llama").train(), [[1, 2]])


# ---- helpers -------------------------------------------------------------------------------------


def test_compare_says_identical(llama):
    spec = Speculator(VOCAB, max_nodes=12, policy="full")
    c = compare(llama, PROMPTS, speculator=spec, temperature=0.9, max_new_tokens=20)
    assert (c.identical, c.verdict, c.differences) == (True, "identical", [])
    rows = c.plain.logit_rows
    for i, prompt in enumerate(PROMPTS):
        want = full_logits(llama, c.plain.sequences[i])[len(prompt) - 1 : -1]
        np.testing.assert_allclose(rows[i], want, atol=1e-4)


def test_compare_tells_rounding_from_a_bug(llama):
    from trivium.integrations import transformers as adapter

    plain = generate(llama, PROMPTS[:1], temperature=0, max_new_tokens=6, record_logits=True)
    options = {"temperature": 0, "record_logits": True}

    def differ(edit):
        rows = plain.logit_rows[0].copy()
        tokens = list(plain.new_tokens[0])
        edit(rows, tokens)
        fields = {**vars(plain), "new_tokens": [tokens], "logit_rows": [rows]}
        return adapter._classify(llama, plain, type(plain)(**fields), 0, 2, options)

    best, second = np.argsort(-plain.logit_rows[0][2])[:2]

    def bug(rows, tokens):  # another token from the same row
        tokens[2] = int(second)

    def wrong_row(rows, tokens):  # faithful to a row that is far off
        rows[2, second] = rows[2, best] + 1
        tokens[2] = int(second)

    assert differ(bug).kind == "bug"
    assert differ(wrong_row).kind == "bug"
    plain.logit_rows[0][2, second] = np.nextafter(plain.logit_rows[0][2, best], -np.inf)

    def rounding(rows, tokens):  # a near tie that falls to the other side
        rows[2, second] = np.nextafter(rows[2, best], np.inf)
        tokens[2] = int(second)

    found = differ(rounding)
    assert found.kind == "host_rounding"
    assert found.tokens == (int(best), int(second))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("name", ["Llama", "Mixtral"])
def test_lower_precision_differs_by_rounding_at_most(name, dtype):
    model = build(name, dtype=dtype, **({"num_local_experts": 4} if name == "Mixtral" else {}))
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # trees, in every precision
        for seed in range(3):
            spec = Speculator(VOCAB, max_nodes=12, policy="full")
            c = compare(
                model, PROMPTS, speculator=spec, temperature=0.8, seed=seed, max_new_tokens=40
            )
            assert c.verdict in ("identical", "host_rounding")
            assert c.identical == (c.verdict == "identical")
            assert c.speculative.stats["accepted"] > 0


def test_calibrate_reports_times_and_leaves_the_text(llama):
    spec = Speculator(VOCAB, max_nodes=16)
    times = calibrate(llama, spec, sizes=(1, 4, 16), repeats=2)
    assert sorted(times) == [1, 4, 16]
    assert all(t > 0 for t in times.values())
    want = generate(llama, PROMPTS, max_new_tokens=20, seed=2).sequences
    assert generate(llama, PROMPTS, speculator=spec, max_new_tokens=20, seed=2).sequences == want
    with pytest.raises(InputError, match="wide"):
        calibrate(llama, Speculator(VOCAB + 1))


def test_output_counts(llama):
    spec = Speculator(VOCAB, max_nodes=12, policy="full")
    out = generate(llama, PROMPTS, speculator=spec, temperature=0, max_new_tokens=30)
    assert out.num_tokens == 90 == sum(map(len, out.new_tokens))
    assert out.stats["tokens"] == 90
    assert out.tokens_per_call == pytest.approx(90 / out.stats["steps"])
    assert out.num_target_calls < 30
    assert out.stats["accepted"] > 0
    assert out.seconds.prefill >= 0
    assert out.seconds.decode > 0
    assert out.texts is None


def test_stores_learn_only_when_asked(llama):
    for keep in (False, True):
        spec = Speculator(VOCAB, sources=["suffix"], max_nodes=12, policy="full")
        before = spec.memory()["total"]
        generate(llama, PROMPTS, speculator=spec, max_new_tokens=20, keep=keep)
        assert (spec.memory()["total"] > before) == keep


# ---- constraints ---------------------------------------------------------------------------------


@pytest.mark.parametrize("law", [{"temperature": 0}, {"temperature": 1.0}], ids=str)
@pytest.mark.parametrize("form", ["grammar", "matcher", "list"])
def test_constrained_text_is_in_the_language_and_the_same_with_drafts(llama, vocabulary, law, form):
    import re

    from trivium import GrammarMask

    pattern = "(ab|cd)*xy[a-f]{3,5}"
    grammar = GrammarMask.regex(pattern, vocabulary)
    constraint = {
        "grammar": grammar,
        "matcher": grammar.matcher(),
        "list": [grammar.matcher() for _ in PROMPTS],
    }[form]
    options = {"constraint": constraint, "eos_token_id": 47, "tokenizer": vocabulary, **law}
    spec = Speculator(VOCAB, max_nodes=12, policy="full")
    plain = generate(llama, PROMPTS, **options)
    for _ in range(2):
        out = generate(llama, PROMPTS, speculator=spec, **options)
        assert out.sequences == plain.sequences
    assert out.stats["accepted"] > 0
    for text, reason, tokens in zip(out.texts, out.finish_reasons, out.new_tokens, strict=True):
        if reason == "eos":
            assert re.fullmatch(pattern, text)
            assert tokens[-1] == 47
        else:
            assert reason == "length"
    assert "eos" in out.finish_reasons


def test_the_end_of_a_grammar_ends_the_request_whatever_the_model_says(llama, vocabulary):
    from trivium import GrammarMask

    grammar = GrammarMask.choices(["abc", "xyz"], vocabulary)
    out = generate(llama, PROMPTS, constraint=grammar, tokenizer=vocabulary, eos_token_id=[])
    assert out.finish_reasons == ["eos"] * 3
    assert set(out.texts) <= {"abc", "xyz"}


# ---- imports -------------------------------------------------------------------------------------


def test_importing_the_adapter_imports_no_stack():
    code = (
        "import sys, trivium.integrations.transformers as t;"
        "assert not {'torch', 'transformers'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_absent_torch_is_named_with_the_line_that_installs_it():
    code = (
        "import sys; sys.modules['torch'] = None\n"
        "from trivium.errors import MissingExtraError\n"
        "from trivium.integrations.transformers import generate\n"
        "try: generate(None, [[1]])\n"
        "except MissingExtraError as e: assert 'pip install \"trivium[transformers]\"' in str(e)\n"
        "else: raise SystemExit(1)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
