"""A draft model beside the stores: the text of the plain loop, or its law, whatever it drafts."""

from __future__ import annotations

import copy
import itertools

import pytest
from trivium import Speculator, tinylm
from trivium.errors import InputError
from trivium.testing import assert_law

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

from trivium.integrations.transformers import DraftModel, generate  # noqa: E402

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
    draft, _ = tinylm.load("draft", "float64")
    prompts = [
        tokenizer(case["prompt"])["input_ids"][:40]
        for kind in tinylm.KINDS
        for case in tinylm.prompts(kind)[:1]
    ]
    return target, draft, prompts


@pytest.mark.parametrize("temperature", [0.0, 0.8])
@pytest.mark.parametrize("law", ["shared", "point_mass"])
@pytest.mark.parametrize("draw", ["cdf", "race"])
def test_texts_are_those_of_the_plain_loop(shipped, temperature, law, draw):
    target, draft, prompts = shipped
    options = {"max_new_tokens": [20, 14, 9], "temperature": temperature, "draw": draw, "seed": 5}
    plain = generate(target, prompts, **options)
    spec = Speculator(target.config.vocab_size, max_nodes=8, policy="full")
    model = DraftModel(draft, law=law)
    fast = generate(target, prompts, speculator=spec, draft_model=model, **options)
    assert fast.new_tokens == plain.new_tokens
    assert fast.tokens_per_call > 1.3
    assert spec.stats()["sources"], "the stores still learn from their own nodes"


def test_shared_noise_is_accepted_more_than_the_most_likely_token(shipped):
    target, draft, prompts = shipped
    rate = {}
    for law in ("shared", "point_mass"):
        spec = Speculator(target.config.vocab_size, sources=[], max_nodes=1)
        out = generate(
            target,
            prompts * 2,
            speculator=spec,
            draft_model=DraftModel(draft, law=law, width=1, min_prob=0.0),
            temperature=1.6,
            draw="race",
            max_new_tokens=32,
            eos_token_id=[],
        )
        rate[law] = out.tokens_per_call
    assert rate["shared"] > rate["point_mass"]


def tiny(seed: int, layers: int):
    config = transformers.LlamaConfig(
        vocab_size=4,
        hidden_size=16,
        intermediate_size=16,
        num_hidden_layers=layers,
        num_attention_heads=2,
        num_key_value_heads=2,
        max_position_embeddings=32,
        eos_token_id=None,
        bos_token_id=None,
    )
    torch.manual_seed(seed)
    model = transformers.LlamaForCausalLM(config).double().eval()
    with torch.no_grad():
        model.lm_head.weight *= 30
    return model


def law_of(model, prompt, n):
    """Ancestral sampling of `n` tokens, exactly."""
    law = {}
    with torch.inference_mode():
        for text in itertools.product(range(4), repeat=n):
            ids = torch.tensor([[*prompt, *text]])
            rows = model(ids).logits[0, len(prompt) - 1 : -1].softmax(-1)
            law[text] = float(rows[range(n), list(text)].prod())
    return law


@pytest.mark.parametrize("verifier", ["block", "law", "auto"])
def test_drawn_drafts_keep_the_law(verifier):
    """Statistical: 400 texts of two tokens against their exact law."""
    target = tiny(1, 2)
    draft = copy.deepcopy(target)
    with torch.no_grad():
        draft.lm_head.weight *= 0.4  # a flatter law of the same mind
    spec = Speculator(4, sources=[], max_nodes=1, verifier=verifier)
    law = "shared" if verifier == "auto" else "iid"
    out = generate(
        target,
        [[1, 2]] * 400,
        speculator=spec,
        draft_model=DraftModel(draft, num_tokens=3, law=law, width=1, min_prob=0.0),
        max_new_tokens=2,
        eos_token_id=[],
        seed=list(range(400)),
    )
    want = law_of(target, [1, 2], 2)
    counts = dict.fromkeys(want, 0)
    for text in out.new_tokens:
        counts[tuple(text)] += 1
    assert_law(counts, want)
    assert out.tokens_per_call > 1.1


def test_what_does_not_fit_is_refused(shipped):
    target, draft, prompts = shipped
    with pytest.raises(InputError, match="shared"):
        generate(
            target,
            prompts,
            speculator=Speculator(target.config.vocab_size, verifier="block"),
            draft_model=DraftModel(draft, law="shared"),
        )
    with pytest.raises(InputError, match="logits"):
        generate(target, prompts, draft_model=DraftModel(tiny(0, 1)))
    with pytest.raises(InputError, match="law"):
        DraftModel(draft, law="?")
