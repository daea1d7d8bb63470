"""Early exit, rounded weights and layer sets by prompt on the shipped model: the same text."""

from __future__ import annotations

import itertools

import pytest
from trivium import Speculator, control, tinylm
from trivium.errors import InputError, UnsupportedError
from trivium.testing import assert_law

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

from trivium.integrations._transformers.draft_model import Drafting  # noqa: E402
from trivium.integrations._transformers.early_exit import Exiting, exited  # noqa: E402
from trivium.integrations._transformers.layers import (  # noqa: E402
    LayerSets,
    search_layers,
    skipped,
)
from trivium.integrations._transformers.quantized import quantized  # noqa: E402
from trivium.integrations.transformers import DraftModel, EarlyExit, generate  # noqa: E402

pytestmark = pytest.mark.stack


@pytest.fixture(autouse=True)
def one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def shipped():
    target, tokenizer = tinylm.load("target", "float64")
    prompts = [
        tokenizer(case["prompt"])["input_ids"][:40]
        for kind in tinylm.KINDS
        for case in tinylm.prompts(kind)[:1]
    ]
    texts = generate(target, prompts, temperature=0, max_new_tokens=20, eos_token_id=[]).sequences
    return target, prompts, texts


FITTED = {}


def adapter(target, texts, layers):
    """A linear map from the exit's states to the last layer's, fitted to these texts."""
    if layers not in FITTED:
        FITTED[layers] = fit(target, texts, layers)
    return FITTED[layers]


def fit(target, texts, layers):
    before, after = [], []
    for text in texts:
        ids = torch.tensor([text])
        with torch.no_grad():
            states = target.model(ids, output_hidden_states=True).hidden_states
            before.append(states[layers][0])
            last = torch.nn.Sequential(torch.nn.Identity())
            handle = target.model.norm.register_forward_pre_hook(
                lambda _m, args, last=last: setattr(last, "seen", args[0])
            )
            target.model(ids)
            handle.remove()
            after.append(last.seen[0])
    linear = torch.nn.Linear(target.config.hidden_size, target.config.hidden_size).double()
    with torch.no_grad():
        step = torch.linalg.lstsq(torch.cat(before), torch.cat(after), driver="gelsd").solution
        linear.weight.copy_(step.T)
        linear.bias.zero_()
    return linear.eval().requires_grad_(requires_grad=False)


@pytest.mark.parametrize("temperature", [0.0, 0.8])
@pytest.mark.parametrize("kind", ["layerskip", "kangaroo", "eesd", "del"])
def test_texts_are_those_of_the_plain_loop(shipped, kind, temperature):
    target, prompts, texts = shipped
    fitted = adapter(target, texts, 3)
    draft = {
        "layerskip": EarlyExit(4, policy=None, num_tokens=3),
        "kangaroo": EarlyExit(3, adapter=fitted),
        "eesd": EarlyExit(3, adapter=fitted, policy=control.Controller("thompson")),
        "del": EarlyExit([2, 3, 5], adapter=fitted, policy=None),
    }[kind]
    options = {"max_new_tokens": [12, 9, 6], "temperature": temperature, "seed": 5}
    plain = generate(target, prompts, **options)
    spec = Speculator(target.config.vocab_size, max_nodes=4, policy="full")
    fast = generate(target, prompts, speculator=spec, draft_model=draft, **options)
    assert fast.new_tokens == plain.new_tokens
    alone = Speculator(target.config.vocab_size, sources=[], max_nodes=1)
    fast = generate(target, prompts, speculator=alone, draft_model=draft, **options)
    assert fast.new_tokens == plain.new_tokens
    if kind in ("kangaroo", "eesd") and not temperature:
        assert fast.tokens_per_call > 1.3


def test_the_borrowed_cache_gives_the_rows_of_the_view(shipped, monkeypatch):
    """Every drafted chain is what the first layers say of the whole text, without any cache."""
    target, prompts, _ = shipped
    view = exited(target, 3)
    seen = []
    grow = Drafting._grow

    def spy(self, active, texts, depth):
        out = grow(self, active, texts, depth)
        seen.extend(zip(map(list, texts), map(list, self._chains), strict=True))
        return out

    monkeypatch.setattr(Exiting, "_grow", spy)
    spec = Speculator(target.config.vocab_size, max_nodes=6, policy="full")
    draft = EarlyExit(3, policy=None, num_tokens=3, always=True)
    generate(
        target,
        prompts,
        speculator=spec,
        draft_model=draft,
        temperature=0,
        max_new_tokens=[9, 3, 6],
        eos_token_id=[],
    )
    assert len(seen) > 6
    for text, chain in seen:
        ids = torch.tensor([text + chain])
        with torch.inference_mode():
            best = view(ids, use_cache=False).logits[0, len(text) - 1 : -1].argmax(-1)
        assert best.tolist() == chain


def test_the_second_exit_keeps_the_unsure_token(shipped, monkeypatch):
    target, prompts, texts = shipped
    steps = []
    grow = Drafting._grow

    def spy(self, active, drafted, depth):
        out = grow(self, active, drafted, depth)
        steps.append((list(drafted[0]), list(self._chains[0]), depth))
        return out

    monkeypatch.setattr(Exiting, "_grow", spy)
    fitted = adapter(target, texts, 3)
    view = exited(target, 3, fitted)
    spec = Speculator(target.config.vocab_size, sources=[], max_nodes=1)
    draft = EarlyExit(3, adapter=fitted)
    generate(
        target, prompts[:1], speculator=spec, draft_model=draft, temperature=0, max_new_tokens=16
    )
    ended = 0
    for text, chain, depth in steps:
        if not depth:
            continue
        with torch.inference_mode():
            rows = view(torch.tensor([text + chain]), use_cache=False).logits[0, len(text) - 1 : -1]
        sure = rows.softmax(-1).max(-1).values.tolist()
        assert 1 <= len(chain) <= depth
        assert all(p >= 0.6 for p in sure[:-1])
        assert sure[-1] < 0.6 or len(chain) == depth
        ended += sure[-1] < 0.6
    assert ended


def test_an_exit_layer_is_chosen_by_what_exits_would_have_said(shipped, monkeypatch):
    target, prompts, texts = shipped
    drafters = []
    real = EarlyExit.open

    def opened(self, opening):
        drafters.append(real(self, opening))
        return drafters[-1]

    monkeypatch.setattr(EarlyExit, "open", opened)
    hits = {1: [], 5: []}
    spec = Speculator(target.config.vocab_size, sources=[], max_nodes=1)
    fitted = adapter(target, texts, 5)
    draft = EarlyExit([1, 5], adapter=fitted, policy=None, num_tokens=4)
    out = generate(
        target, prompts, speculator=spec, draft_model=draft, temperature=0, max_new_tokens=12
    )
    for prompt, text in zip(prompts, out.sequences, strict=True):
        for layers, record in hits.items():
            view = exited(target, layers, fitted)
            with torch.inference_mode():
                rows = view(torch.tensor([text]), use_cache=False).logits[0, len(prompt) - 1 : -1]
            record += (rows.argmax(-1) == torch.tensor(text[len(prompt) :])).tolist()
    # The same record, without forgetting: the choice is that of the measured hit rates.
    rates = {k: (sum(v) + 1) / (len(v) + 2) for k, v in hits.items()}
    best = max(
        (sum(a**i for i in range(d + 1)) / (k * d + 6), k) if d else (1 / 6, 1)
        for k, a in rates.items()
        for d in range(5)
    )
    chosen = drafters[0]._chooser.choose()
    assert rates[5] > rates[1]
    assert chosen[0] == best[1]


def tiny():
    config = transformers.LlamaConfig(
        vocab_size=4,
        hidden_size=16,
        intermediate_size=16,
        num_hidden_layers=3,
        num_attention_heads=2,
        num_key_value_heads=2,
        max_position_embeddings=32,
        eos_token_id=None,
        bos_token_id=None,
    )
    torch.manual_seed(3)
    model = transformers.LlamaForCausalLM(config).double().eval()
    with torch.no_grad():
        model.lm_head.weight *= 30
    return model


@pytest.mark.parametrize("draft", ["exit", "quantspec"])
def test_drawn_drafts_keep_the_law(draft):
    """Statistical: 400 texts of three tokens against their exact law."""
    target = tiny()
    model = (
        EarlyExit(2, width=1)
        if draft == "exit"
        else DraftModel(quantized(target, 3, 8), num_tokens=4, width=1, min_prob=0.0)
    )
    out = generate(
        target,
        [[1, 2]] * 400,
        speculator=Speculator(4, sources=[], max_nodes=1, verifier="block"),
        draft_model=model,
        max_new_tokens=3,
        eos_token_id=[],
        seed=list(range(400)),
    )
    law = {}
    with torch.inference_mode():
        for text in itertools.product(range(4), repeat=3):
            rows = target(torch.tensor([[1, 2, *text]])).logits[0, 1:-1].softmax(-1)
            law[text] = float(rows[range(3), list(text)].prod())
    counts = dict.fromkeys(law, 0)
    for text in out.new_tokens:
        counts[tuple(text)] += 1
    assert_law(counts, law)
    assert out.tokens_per_call > 1.2


@pytest.mark.parametrize("temperature", [0.0, 0.8])
def test_rounded_weights_draft_for_the_whole_ones(shipped, temperature):
    target, prompts, _ = shipped
    draft = DraftModel(quantized(target), num_tokens=4)
    options = {"max_new_tokens": 12, "temperature": temperature, "seed": 2, "eos_token_id": []}
    plain = generate(target, prompts[:2], **options)
    spec = Speculator(target.config.vocab_size, sources=[], max_nodes=1)
    fast = generate(target, prompts[:2], speculator=spec, draft_model=draft, **options)
    assert fast.new_tokens == plain.new_tokens
    assert fast.tokens_per_call > 2
    weight = draft.model.model.layers[0].mlp.up_proj.weight
    groups = weight[0, :64] / weight[0, :64].abs().max()
    assert len(set((groups * 7).round().tolist())) <= 15
    assert torch.allclose(groups * 7, (groups * 7).round(), atol=1e-9)


def test_prompts_choose_their_layers_and_a_threshold_follows_the_matches(shipped):
    target, prompts, texts = shipped
    sets = LayerSets(target, prompts, texts, clusters=2, ratio=0.3, iterations=6, period=3)
    assert len(sets.sets) == 2
    assert all(sum(s) == 2 for s in sets.sets)
    votes = [sets.choose(p) for p in prompts]
    assert all(v in sets.sets for v in votes)
    # Draft & Verify: every candidate from the Gaussian process, an adaptive threshold.
    skip, _ = search_layers(target, texts, ratio=0.3, iterations=6, period=1)
    options = {"max_new_tokens": 10, "temperature": 0.8, "seed": 4, "eos_token_id": []}
    plain = generate(target, prompts, **options)
    for chosen in (votes[0], skip):
        policy = control.Controller("draft_verify")
        draft = DraftModel(skipped(target, chosen), min_prob=0.0, policy=policy)
        spec = Speculator(target.config.vocab_size, sources=[], max_nodes=1)
        fast = generate(target, prompts, speculator=spec, draft_model=draft, **options)
        assert fast.new_tokens == plain.new_tokens
        assert fast.tokens_per_call > 1
    with pytest.raises(InputError, match="cluster"):
        LayerSets(target, prompts, texts, clusters=9)


def test_what_does_not_fit_is_refused(shipped):
    target, prompts, _ = shipped
    for layers in (0, 6):
        with pytest.raises(InputError, match="layers"):
            generate(target, prompts, draft_model=EarlyExit(layers))
    gpt = transformers.GPT2LMHeadModel(transformers.GPT2Config(n_layer=2, n_embd=8, n_head=2))
    with pytest.raises(UnsupportedError):
        exited(gpt, 1)
    for wrong in ({"law": "?"}, {"num_tokens": 0}):
        with pytest.raises(InputError):
            EarlyExit(2, **wrong)
    with pytest.raises(InputError, match="no layer"):
        EarlyExit([])
    with pytest.raises(InputError, match="bits"):
        quantized(target, 1)
