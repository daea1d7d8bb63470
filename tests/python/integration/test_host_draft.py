"""A network of the caller's in `generate`, under the law it declares."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from trivium import Speculator
from trivium.errors import InputError, UnsupportedError
from trivium.host_drafts import HostDraft
from trivium.testing import assert_law

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

from trivium.integrations.transformers import HostDrafter, generate  # noqa: E402

pytestmark = pytest.mark.stack


def tiny():
    config = transformers.LlamaConfig(
        vocab_size=4,
        hidden_size=16,
        intermediate_size=16,
        num_hidden_layers=2,
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


def law_of(model, prompt, n):
    law = {}
    with torch.inference_mode():
        for text in itertools.product(range(4), repeat=n):
            ids = torch.tensor([[*prompt, *text]])
            rows = model(ids).logits[0, len(prompt) - 1 : -1].softmax(-1)
            law[text] = float(rows[range(n), list(text)].prod())
    return law


def test_an_eagle_like_network_keeps_the_law():
    """Statistical: it guesses from the target's hidden state and draws with its own noise."""
    target = tiny()
    rng = np.random.default_rng(0)
    states_seen = []

    def propose(texts, states):
        trees = []
        for text, state in zip(texts, states, strict=True):
            states_seen.append(state)
            tokens, rows = [text[-1]], []
            hidden = torch.zeros(16, dtype=torch.float64) if state is None else state
            for _ in range(2):
                embedded = target.model.embed_tokens.weight[tokens[-1]]
                row = torch.log_softmax(target.lm_head(hidden + embedded) / 8, -1)
                hidden = hidden + embedded
                rows.append(row.numpy())
                tokens.append(int(rng.choice(4, p=row.exp().numpy())))
            trees.append((tokens, [-1, 0, 1], np.stack([*rows, np.full(4, np.nan)])))
        return trees

    out = generate(
        target,
        [[1, 2]] * 250,
        speculator=Speculator(4, sources=[], max_nodes=1, verifier="block"),
        draft_model=HostDrafter(HostDraft.of("mtp"), propose, states=True),
        max_new_tokens=3,
        eos_token_id=[],
        seed=list(range(250)),
    )
    law = law_of(target, [1, 2], 3)
    counts = dict.fromkeys(law, 0)
    for text in out.new_tokens:
        counts[tuple(text)] += 1
    assert_law(counts, law)
    assert out.tokens_per_call > 1.1
    assert any(s is not None and s.shape == (16,) for s in states_seen)


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_chosen_trees_keep_the_text_beside_the_stores(temperature):
    target = tiny()

    def propose(texts, _states):
        return [([t[-1], 0, 2, 2], [-1, 0, 0, 2]) for t in texts]

    options = {"max_new_tokens": 8, "temperature": temperature, "seed": 2, "eos_token_id": []}
    plain = generate(target, [[1, 2], [3]], **options)
    for sources in ([], ["suffix"]):
        spec = Speculator(4, sources=sources, max_nodes=4, policy="full")
        draft = HostDrafter(HostDraft.of("medusa"), propose)
        fast = generate(target, [[1, 2], [3]], speculator=spec, draft_model=draft, **options)
        assert fast.new_tokens == plain.new_tokens
        assert fast.tokens_per_call > 1


def test_what_would_bias_is_refused():
    target = tiny()
    spec = Speculator(4, sources=[], verifier="block")
    draft = HostDrafter(HostDraft.of("eagle2"), lambda *_: [])
    with pytest.raises(UnsupportedError, match="block"):
        generate(target, [[1]], speculator=spec, draft_model=draft)
    draft = HostDrafter(HostDraft.of("mtp"), lambda *_: [])
    with pytest.raises(InputError, match="proposals"):
        generate(target, [[1]], speculator=spec, draft_model=draft)
