"""Self-speculation on the shipped model: part of its layers drafts, all of them decide."""

from __future__ import annotations

import pytest
from trivium import Speculator, tinylm
from trivium.drafting import LayerSetSearch
from trivium.errors import InputError, UnsupportedError

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

from trivium.integrations._transformers.layers import (  # noqa: E402
    LayerSets,
    nearest_layers,
    search_layers,
    skipped,
)
from trivium.integrations.transformers import DraftModel, LayerSkip, generate  # noqa: E402

pytestmark = pytest.mark.stack


@pytest.fixture(scope="module")
def shipped():
    torch.set_num_threads(1)
    target, tokenizer = tinylm.load("target", "float64")
    prompt = tokenizer(tinylm.prompts("code")[0]["prompt"])["input_ids"][:40]
    text = generate(target, [prompt], temperature=0, max_new_tokens=40, eos_token_id=[])
    return target, prompt, text.sequences[0]


def test_a_view_without_gaps_is_the_model(shipped):
    target, _, text = shipped
    ids = torch.tensor([text])
    with torch.inference_mode():
        whole = target(ids).logits
        same = skipped(target, [False] * 12)(ids).logits
        # All of layer 3 left out, by hand.
        view = skipped(target, [i // 2 == 3 for i in range(12)])(ids).logits
        layers = target.model.layers
        target.model.layers = torch.nn.ModuleList(m for i, m in enumerate(layers) if i != 3)
        try:
            by_hand = target(ids, use_cache=False).logits
        finally:
            target.model.layers = layers
    assert torch.equal(whole, same)
    assert torch.equal(view, by_hand)
    assert not torch.equal(view, whole)
    assert torch.equal(target(ids).logits, whole), "the model is as before"


@pytest.mark.parametrize("how", ["search", "nearest"])
@pytest.mark.parametrize("temperature", [0.0, 0.8])
def test_a_model_drafts_for_itself(shipped, how, temperature):
    target, prompt, text = shipped
    if how == "search":
        skip, score = search_layers(target, text, ratio=0.3, iterations=12, period=4)
        assert 0 <= score <= 1
    else:
        skip = nearest_layers(target, text, 1)
        assert not any(skip[:2])
    assert sum(skip) == 2
    options = {"max_new_tokens": 24, "temperature": temperature, "seed": 3}
    plain = generate(target, [prompt], **options)
    spec = Speculator(target.config.vocab_size, sources=[], max_nodes=1)
    draft = DraftModel(skipped(target, skip), num_tokens=3, width=2)
    fast = generate(target, [prompt], speculator=spec, draft_model=draft, **options)
    assert fast.new_tokens == plain.new_tokens
    assert fast.tokens_per_call > 1.2


@pytest.mark.parametrize("temperature", [0.0, 0.8])
@pytest.mark.parametrize("how", ["swift", "clasp", "fixed", "knn"])
def test_sets_are_chosen_while_decoding_over_the_targets_cache(shipped, how, temperature):
    target, prompt, text = shipped
    search = LayerSetSearch(6, ratio=0.3, period=4, seed=2)
    layers = {
        "swift": "swift",
        "clasp": "clasp",
        "fixed": [i in (5, 7, 9) for i in range(12)],
        "knn": LayerSets(target, [prompt], [text], clusters=1, ratio=0.3, iterations=4),
    }[how]
    draft = LayerSkip(layers, search=search, ratio=0.2, every=3, num_tokens=4, policy=None)
    options = {"max_new_tokens": [20, 14], "temperature": temperature, "seed": 3}
    prompts = [prompt, prompt[:17]]
    plain = generate(target, prompts, **options)
    for names in ([], ["suffix"]):
        spec = Speculator(target.config.vocab_size, sources=names, max_nodes=4, policy="full")
        fast = generate(target, prompts, speculator=spec, draft_model=draft, **options)
        assert fast.new_tokens == plain.new_tokens
        assert fast.stats["skipped"] >= 2
        assert fast.tokens_per_call > 1.2
    if how == "swift":
        assert search.iterations > 4, "the search went on across calls"


def test_a_set_without_gaps_drafts_what_the_target_says(shipped):
    """Over the target's own entries the whole model drafts itself: every draft is accepted."""
    target, prompt, _ = shipped
    spec = Speculator(target.config.vocab_size, sources=[], max_nodes=1)
    draft = LayerSkip([False] * 12, num_tokens=4, width=1, policy=None)
    out = generate(
        target,
        [prompt, prompt[:9]],
        speculator=spec,
        draft_model=draft,
        temperature=0.8,
        max_new_tokens=20,
        eos_token_id=[],
    )
    assert out.num_target_calls == 4


def test_what_cannot_be_skipped_is_refused(shipped):
    target, _, text = shipped
    with pytest.raises(InputError, match="first"):
        skipped(target, [True] + [False] * 11)
    with pytest.raises(InputError, match="12 entries"):
        skipped(target, [False])
    with pytest.raises(InputError, match="chooses no layers"):
        generate(target, [text[:5]], draft_model=LayerSkip("?"))
    with pytest.raises(InputError, match="ratio"):
        LayerSkip(ratio=0)
    with pytest.raises(InputError, match="skips"):
        nearest_layers(target, text, 5)
    gpt = transformers.GPT2LMHeadModel(transformers.GPT2Config(n_layer=1, n_embd=8, n_head=2))
    with pytest.raises(UnsupportedError):
        skipped(gpt, [False, False])
