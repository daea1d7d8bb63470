"""Draft models of other vocabularies in `generate`: the plain loop's text, or its law."""

from __future__ import annotations

import copy
import itertools

import numpy as np
import pytest
from trivium import Speculator, Vocabulary, tinylm
from trivium.errors import InputError, UnsupportedError
from trivium.testing import assert_law

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

from trivium.integrations._transformers.layers import trimmed  # noqa: E402
from trivium.integrations.transformers import DraftModel, generate  # noqa: E402
from trivium.words import (  # noqa: E402
    Intersection,
    StringMatch,
    StringRejection,
    TrimmedHead,
    count_tokens,
)

pytestmark = pytest.mark.stack


@pytest.fixture(autouse=True)
def one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def shipped():
    """Both models; the draft's ids are shuffled, so that nothing fits by chance."""
    target, tokenizer = tinylm.load("target", "float64")
    draft, _ = tinylm.load("draft", "float64")
    vocab = Vocabulary.from_tokenizer(tokenizer)
    n = target.config.vocab_size
    order = np.random.default_rng(0).permutation(n)  # order[i]: target id of draft id i
    shuffled = copy.deepcopy(draft)
    weight = shuffled.get_input_embeddings().weight
    with torch.no_grad():
        weight.copy_(weight[torch.from_numpy(order)].clone())
    tokens = [vocab.token(t) if t < len(vocab) else b"" for t in order.tolist()]
    prompts = [
        tokenizer(case["prompt"])["input_ids"][:40]
        for kind in tinylm.KINDS
        for case in tinylm.prompts(kind)[:1]
    ]
    return target, tokenizer, vocab, draft, shuffled, tokens, order, prompts


def string_match(shipped):
    _, tokenizer, vocab, _, _, tokens, order, _ = shipped
    back = {int(t): i for i, t in enumerate(order)}

    def encode(text):
        return tokenizer.encode(text, add_special_tokens=False)

    return StringMatch(
        Vocabulary(tokens, eos=[]), vocab, lambda x: [back[t] for t in encode(x)], encode
    )


@pytest.mark.parametrize("temperature", [0.0, 0.8])
@pytest.mark.parametrize("words", ["intersection", "match", "trim"])
def test_texts_are_those_of_the_plain_loop(shipped, words, temperature):
    target, _, vocab, draft, shuffled, tokens, _, prompts = shipped
    options = {"max_new_tokens": [16, 11, 7], "temperature": temperature, "seed": 5}
    plain = generate(target, prompts, **options)
    if words == "trim":
        counts = count_tokens(plain.sequences, target.config.vocab_size)
        head = TrimmedHead.of_counts(counts, 200, keep=[0])
        model = DraftModel(trimmed(draft, head.kept), words=head)
        assert model.model.get_output_embeddings().out_features <= 201
    elif words == "match":
        model = DraftModel(shuffled, words=string_match(shipped))
    else:
        model = DraftModel(shuffled, words=Intersection(tokens, vocab))
    spec = Speculator(target.config.vocab_size, sources=[], max_nodes=1)
    fast = generate(target, prompts, speculator=spec, draft_model=model, **options)
    assert fast.new_tokens == plain.new_tokens
    assert fast.tokens_per_call > (1.15 if words == "match" else 1.3)


def test_an_intersection_drafts_what_the_model_would_with_the_targets_ids(shipped):
    """Shuffling ids and mapping them back changes nothing."""
    target, _, vocab, draft, shuffled, tokens, _, prompts = shipped
    calls = []
    for model in (DraftModel(draft), DraftModel(shuffled, words=Intersection(tokens, vocab))):
        spec = Speculator(target.config.vocab_size, sources=[], max_nodes=1)
        out = generate(
            target, prompts, speculator=spec, draft_model=model, temperature=0.8, max_new_tokens=12
        )
        calls.append((out.num_target_calls, out.new_tokens))
    assert calls[0] == calls[1]


def test_a_draft_of_bytes_matches_strings(shipped):
    """A tokenizer of single bytes: every border is one of the target's tokens or none."""
    target, tokenizer, vocab, _, _, _, _, prompts = shipped
    small = tiny(256, 5)
    words = StringMatch(
        Vocabulary([bytes([i]) for i in range(256)], eos=[]),
        vocab,
        lambda text: list(text.encode()),
        lambda text: tokenizer.encode(text, add_special_tokens=False),
    )
    options = {"max_new_tokens": 8, "temperature": 0.8, "seed": 1}
    plain = generate(target, prompts[:2], **options)
    spec = Speculator(target.config.vocab_size, sources=[], max_nodes=1)
    draft = DraftModel(small, words=words, min_prob=0.0)
    fast = generate(target, prompts[:2], speculator=spec, draft_model=draft, **options)
    assert fast.new_tokens == plain.new_tokens


def tiny(vocab, seed):
    config = transformers.LlamaConfig(
        vocab_size=vocab,
        hidden_size=16,
        intermediate_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        num_key_value_heads=2,
        max_position_embeddings=512,
        eos_token_id=None,
        bos_token_id=None,
    )
    torch.manual_seed(seed)
    model = transformers.LlamaForCausalLM(config).double().eval()
    with torch.no_grad():
        model.lm_head.weight *= 30
    return model


TARGET = [b"a", b"b", b"ab", b"ba"]
DRAFTS = {
    "intersection": (3, Intersection([b"b", b"x", b"a"], TARGET)),
    "trim": (2, TrimmedHead([1, 2])),
    "rejection": (2, StringRejection([b"a", b"b"], TARGET)),
}


@pytest.mark.parametrize(
    ("words", "verifier"),
    [
        ("intersection", "token"),
        ("intersection", "auto"),
        ("trim", "block"),
        ("rejection", "token"),
        ("rejection", "auto"),
    ],
)
def test_drawn_drafts_keep_the_law(words, verifier):
    """Statistical: 400 texts of two tokens against their exact law."""
    target = tiny(4, 1)
    width, map_ = DRAFTS[words]
    draft = trimmed(tiny(4, 2), map_.kept) if words == "trim" else tiny(width, 2)
    law = "iid" if verifier != "auto" else "auto" if words == "rejection" else "shared"
    out = generate(
        target,
        [[1, 2]] * 400,
        speculator=Speculator(4, sources=[], max_nodes=1, verifier=verifier),
        draft_model=DraftModel(draft, num_tokens=2, law=law, width=1, min_prob=0.0, words=map_),
        max_new_tokens=2,
        eos_token_id=[],
        seed=list(range(400)),
    )
    want = {}
    with torch.inference_mode():
        for text in itertools.product(range(4), repeat=2):
            rows = target(torch.tensor([[1, 2, *text]])).logits[0, 1:-1].softmax(-1)
            want[text] = float(rows[range(2), list(text)].prod())
    counts = dict.fromkeys(want, 0)
    for text in out.new_tokens:
        counts[tuple(text)] += 1
    assert_law(counts, want)


def test_what_does_not_fit_is_refused(shipped):
    target, _, vocab, draft, shuffled, tokens, _, prompts = shipped
    n = target.config.vocab_size
    words = string_match(shipped)
    with pytest.raises(UnsupportedError, match="block"):
        generate(
            target,
            prompts,
            speculator=Speculator(n, verifier="block"),
            draft_model=DraftModel(shuffled, words=words),
        )
    with pytest.raises(InputError, match="kept"):
        generate(target, prompts, draft_model=DraftModel(draft, words=TrimmedHead([1, 2])))
    model = DraftModel(tiny(4, 0), words=Intersection(tokens, vocab))
    with pytest.raises(InputError, match="wide"):
        generate(target, prompts, draft_model=model)
    model = DraftModel(tiny(4, 0), words=StringRejection([b"a"], [b"a"]), law="shared")
    with pytest.raises(InputError, match="another vocabulary"):
        generate(target, prompts, draft_model=model)
