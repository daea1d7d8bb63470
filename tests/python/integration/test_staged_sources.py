"""Sources around a draft model and the target's pass: staged, RASD, window, routes, replay."""

from __future__ import annotations

import copy
import itertools

import numpy as np
import pytest
from trivium import Speculator, lossy, sources, tinylm
from trivium.drafting import DraftRouter, LookaheadWindow
from trivium.errors import InputError
from trivium.replay import ReplayStore
from trivium.testing import assert_law

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

from trivium.integrations._transformers import lookahead, rasd  # noqa: E402
from trivium.integrations._transformers.layers import skipped  # noqa: E402
from trivium.integrations.transformers import (  # noqa: E402
    Cascade,
    DraftModel,
    Lookahead,
    Retrieval,
    Routed,
    generate,
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
    target, tokenizer = tinylm.load("target", "float64")
    draft, _ = tinylm.load("draft", "float64")
    prompts = [
        tokenizer(case["prompt"])["input_ids"][:40]
        for kind in tinylm.KINDS
        for case in tinylm.prompts(kind)[:1]
    ]
    return target, draft, prompts


def tiny(seed, layers=1, vocab=4):
    config = transformers.LlamaConfig(
        vocab_size=vocab,
        hidden_size=16,
        intermediate_size=16,
        num_hidden_layers=layers,
        num_attention_heads=2,
        num_key_value_heads=2,
        max_position_embeddings=64,
        eos_token_id=None,
        bos_token_id=None,
    )
    torch.manual_seed(seed)
    model = transformers.LlamaForCausalLM(config).double().eval()
    with torch.no_grad():
        model.lm_head.weight *= 30
    return model


def law_of(rows_after, prompt, n, vocab=4):
    """Ancestral law of `n` tokens, where ``rows_after(text)`` are the laws at every place."""
    law = {}
    for text in itertools.product(range(vocab), repeat=n):
        rows = rows_after([*prompt, *text])[len(prompt) - 1 : -1]
        law[text] = float(np.prod([rows[i][t] for i, t in enumerate(text)]))
    return law


def rows_of(model, text):
    with torch.inference_mode():
        return model(torch.tensor([text])).logits[0].softmax(-1).numpy()


def counted(texts, law):
    counts = dict.fromkeys(law, 0)
    for text in texts:
        counts[tuple(text)] += 1
    return counts


@pytest.mark.parametrize(
    ("temperature", "law"), [(0.0, "auto"), (0.8, "auto"), (0.8, "point_mass")]
)
def test_an_inner_source_changes_the_passes_and_nothing_else(shipped, temperature, law):
    target, draft, prompts = shipped
    options = {"max_new_tokens": [16, 12, 9], "temperature": temperature, "seed": 5}
    plain = generate(target, prompts, **options)
    vocab = target.config.vocab_size
    runs = []
    for inner in (None, Speculator(vocab, sources=["ngram", "suffix"], max_nodes=6, policy="full")):
        spec = Speculator(vocab, sources=[], max_nodes=1)
        model = DraftModel(draft, law=law, inner=inner, min_prob=0.0, num_tokens=6)
        runs.append(generate(target, prompts, speculator=spec, draft_model=model, **options))
        assert runs[-1].new_tokens == plain.new_tokens
    alone, staged = runs
    assert staged.num_target_calls == alone.num_target_calls, "the chains are the same"
    assert staged.stats["draft_calls"] < alone.stats["draft_calls"]


def test_a_staged_draft_keeps_the_law():
    """Statistical: 400 texts of two tokens against their exact law, through two verifications."""
    target, draft = tiny(1, 2), tiny(2)
    inner = Speculator(4, sources=["ngram"], max_nodes=4, policy="full")
    out = generate(
        target,
        [[1, 2, 1, 2]] * 400,
        speculator=Speculator(4, sources=[], max_nodes=1, verifier="block"),
        draft_model=DraftModel(draft, num_tokens=3, width=1, min_prob=0.0, inner=inner),
        max_new_tokens=2,
        eos_token_id=[],
        seed=list(range(400)),
    )
    law = law_of(lambda text: rows_of(target, text), [1, 2, 1, 2], 2)
    assert_law(counted(out.new_tokens, law), law)


@pytest.mark.parametrize("temperature", [0.0, 0.8])
def test_a_draft_model_judges_what_stores_retrieved(shipped, temperature, tmp_path):
    target, draft, prompts = shipped
    vocab = target.config.vocab_size
    options = {"max_new_tokens": [20, 14, 9], "temperature": temperature, "seed": 5}
    plain = generate(target, prompts, **options)
    path = tmp_path / "corpus.safetensors"
    sources.build_corpus(path, plain.sequences, vocab)
    spec = Speculator(vocab, sources=[sources.Rest(path)], max_nodes=32, policy="full")
    sizes = []
    verify = spec.verify

    class Counting:
        def __getattr__(self, name):
            return getattr(spec, name)

        def verify(self, batch, **rest):
            sizes.append(int(np.diff(batch.cu_nodes).max()))
            return verify(batch, **rest)

    model = DraftModel(draft, retrieval=Retrieval(top_k=5, max_nodes=12))
    fast = generate(target, prompts, speculator=Counting(), draft_model=model, **options)
    assert fast.new_tokens == plain.new_tokens
    assert fast.tokens_per_call > 1.8
    assert max(sizes) <= 12
    assert spec.stats()["sources"]["rest"]["tried"] > 0, "stores learn from the nodes that stay"


def test_pruning_drops_unlikely_branches_and_rescores_the_others():
    spec = Speculator(8, sources=["siblings"], max_nodes=9, policy="full")
    requests = [spec.start([0, 1, 2], group="g") for _ in range(4)]
    for request, said in zip(requests, [[3, 4, 5], [3, 4, 6], [7, 4, 5]], strict=False):
        request.commit([1, 2, *said])
    requests[3].commit([1, 2])
    batch = spec.propose([requests[3]])
    assert {3, 7} <= set(batch.tokens.tolist())
    q = np.full(8, 0.01, np.float32)
    q[3] = 0.93
    out = rasd.pruned(batch, [[q]], 1)
    assert 7 not in out.tokens.tolist()
    first = out.tokens.tolist().index(3)
    assert out.scores[first] == pytest.approx(0.93, abs=1e-5)
    below = (
        batch.scores[batch.tokens.tolist().index(4)] / batch.scores[batch.tokens.tolist().index(3)]
    )
    assert out.scores[first + 1] == pytest.approx(0.93 * below, rel=1e-4)
    small = rasd.cut(out, 3)
    assert len(small.tokens) == 3
    assert small.scores.tolist() == sorted(out.scores.tolist(), reverse=True)[:3]
    assert rasd.pruned(batch, [[]], 1).tokens.tolist() == batch.tokens.tolist()


@pytest.mark.parametrize("temperature", [0.0, 0.8])
def test_a_window_runs_beside_the_trees(shipped, temperature):
    target, _, prompts = shipped
    vocab = target.config.vocab_size
    options = {
        "max_new_tokens": [24, 14, 9],
        "temperature": temperature,
        "seed": 5,
        "eos_token_id": [],
    }
    plain = generate(target, prompts, **options)
    for names in ([], ["suffix"]):
        spec = Speculator(vocab, sources=names, max_nodes=4, policy="full")
        draft = Lookahead(width=5, ngram=4, guesses=5)
        fast = generate(target, prompts, speculator=spec, draft_model=draft, **options)
        assert fast.new_tokens == plain.new_tokens
        assert fast.stats["window_nodes"] > 100
        if not temperature:
            assert fast.tokens_per_call > 1.05


def test_what_columns_spell_is_what_the_model_says_along_them(shipped, monkeypatch):
    """A window's answers are those of the model to committed text and the tokens in view."""
    target, _, prompts = shipped
    seen, lengths = [], []
    run = lookahead.LookingAhead.run

    class Spy:
        def __init__(self, *args, **kwargs):
            self.window = LookaheadWindow(*args, **kwargs)

        def layout(self):
            self.shape = self.window.layout()
            return self.shape

        def harvest(self, last, best):
            seen.append((self.shape, best))
            return self.window.harvest(last, best)

    def counting(self, host, batch, active):
        lengths.append(len(active[0].prompt) + len(active[0].tokens))
        return run(self, host, batch, active)

    monkeypatch.setattr(lookahead, "LookaheadWindow", Spy)
    monkeypatch.setattr(lookahead.LookingAhead, "run", counting)
    spec = Speculator(target.config.vocab_size, sources=[], max_nodes=1)
    out = generate(
        target,
        prompts[:1],
        speculator=spec,
        draft_model=Lookahead(width=3, ngram=4, from_prompt=False, guesses=2),
        temperature=0,
        max_new_tokens=12,
        eos_token_id=[],
    )
    text = out.sequences[0]
    checked = 0
    for length, ((tokens, offsets, mask, wanted), best) in zip(lengths, seen, strict=True):
        n = len(tokens)
        square = np.array(mask, bool).reshape(n, n)
        for w, said in zip(wanted, best, strict=True):
            # Places behind the end of the request are never emitted, and share one position.
            if w < 0 or length - 1 + offsets[w] > len(text) - 2:
                continue
            way = sorted(np.flatnonzero(square[w]), key=lambda i: offsets[i])
            ids = torch.tensor([[*text[:length], *(tokens[i] for i in way)]])
            at = torch.tensor([[*range(length), *(length - 1 + offsets[i] for i in way)]])
            with torch.inference_mode():
                row = target(ids, position_ids=at, use_cache=False).logits[0, -1]
            assert int(row.argmax()) == said
            checked += 1
    assert checked > 8


@pytest.mark.parametrize(
    ("kind", "verifier"),
    [("cascade", "block"), ("defer", "auto"), ("contrastive", "token"), ("cascade", "auto")],
)
def test_a_cascade_has_its_own_law_exactly(kind, verifier):
    """Statistical: 400 texts of two tokens against the law of both models together."""
    target, draft = tiny(1, 2), tiny(2)
    settings = Cascade(draft, kind, num_tokens=3, below=0.6, share=0.3)
    out = generate(
        target,
        [[1, 2]] * 400,
        speculator=Speculator(4, sources=[], max_nodes=1, verifier=verifier),
        draft_model=settings,
        max_new_tokens=2,
        eos_token_id=[],
        seed=list(range(400)),
    )

    def cascade(text):
        p, q = rows_of(target, text), rows_of(draft, text)
        return lossy.transform(
            p.astype(np.float32), q.astype(np.float32), kind, **settings.numbers()
        )[0]

    law = law_of(cascade, [1, 2], 2)
    assert_law(counted(out.new_tokens, law), law)
    assert out.tokens_per_call > 1
    assert 0 < out.stats["cascade_deviation"] < 1


def test_a_cascade_writes_one_text_whatever_is_drafted(shipped):
    target, draft, prompts = shipped
    texts = []
    for num_tokens in (1, 4):
        out = generate(
            target,
            prompts,
            speculator=Speculator(target.config.vocab_size, sources=[], max_nodes=1),
            draft_model=Cascade(draft, num_tokens=num_tokens, below=0.7),
            temperature=0.8,
            max_new_tokens=12,
            seed=3,
        )
        texts.append(out.new_tokens)
    assert texts[0] == texts[1]
    with pytest.raises(InputError, match="kind"):
        Cascade(draft, "?")


def test_routes_are_learned_and_texts_stay(shipped):
    target, draft, prompts = shipped
    vocab = target.config.vocab_size
    good, poor = DraftModel(draft, min_prob=0.0), DraftModel(tiny(0, 1, vocab), min_prob=0.0)
    router = DraftRouter(2)
    options = {"max_new_tokens": 8, "temperature": 0, "eos_token_id": []}
    plain = generate(target, prompts, **options)
    routes = []
    for _ in range(6):
        spec = Speculator(vocab, sources=[], max_nodes=1)
        routed = Routed([poor, good], lambda p: f"kind {prompts.index(p)}", router)
        out = generate(target, prompts, speculator=spec, draft_model=routed, **options)
        assert out.new_tokens == plain.new_tokens
        routes.append(out.stats["routes"])
    assert routes[:2] == [[0] * 3, [1] * 3], "each is tried once"
    assert sum(r.count(1) for r in routes[2:]) >= 8, "the better one is chosen more often"
    mixed = Routed([poor, good], ["a", "b", "c"], DraftRouter(2))
    router.report("b", 0, 0.0)
    out = generate(
        target,
        prompts,
        speculator=Speculator(vocab, verifier="block"),
        draft_model=mixed,
        **options,
    )
    assert out.new_tokens == plain.new_tokens, "greedy text under a law verifier"
    with pytest.raises(InputError, match="classes"):
        generate(target, prompts, draft_model=Routed([good], ["a"], DraftRouter(1)))
    with pytest.raises(InputError, match="more drafts"):
        generate(target, prompts, draft_model=Routed([good], ["x"] * 3, _tried(DraftRouter(2))))


def _tried(router):
    router.report("x", 0, 0.5)
    return router


def test_a_draft_learns_from_what_it_missed():
    """Online distillation in small: the draft is fitted to the store, and is accepted more."""
    target, draft = tiny(1, 2, 16), tiny(2, 1, 16)
    store = ReplayStore(200_000, context=16, top=16, interval=8)
    prompts = [[i, (3 * i) % 16, 5] for i in range(16)]
    options = {"max_new_tokens": 12, "eos_token_id": [], "temperature": 1.0, "seed": 7}

    def run(replay):
        spec = Speculator(16, sources=[], max_nodes=1)
        model = DraftModel(draft, num_tokens=3, width=1, min_prob=0.0, replay=replay)
        return generate(target, prompts, speculator=spec, draft_model=model, **options)

    before = run(store)
    plain = generate(target, prompts, **options)
    assert before.new_tokens == plain.new_tokens
    assert store.is_due
    examples = store.take()
    assert not examples[0].accepted
    # Each example is the target's own law at its place.
    for e in examples[:5]:
        law = rows_of(target, e.tokens.tolist())[-1]
        assert e.probs == pytest.approx(law[e.ids], abs=1e-5)
    trained = copy.deepcopy(draft).train()
    optimizer = torch.optim.Adam(trained.parameters(), lr=1e-2)
    batch = examples[:64]
    # Padded on the right, where causal attention does not look.
    ids = torch.zeros((len(batch), 16), dtype=torch.long)
    want = torch.zeros((len(batch), 16), dtype=torch.float64)
    for i, e in enumerate(batch):
        ids[i, : len(e.tokens)] = torch.from_numpy(e.tokens)
        want[i, torch.from_numpy(e.ids).long()] = torch.from_numpy(e.probs).double()
    last = torch.tensor([len(e.tokens) - 1 for e in batch])
    for _ in range(25):
        log_q = trained(ids).logits[torch.arange(len(batch)), last].log_softmax(-1)
        optimizer.zero_grad()
        (-(want * log_q).sum()).backward()
        optimizer.step()
    draft.load_state_dict(trained.eval().state_dict())
    after = run(None)
    assert after.new_tokens == plain.new_tokens
    assert after.tokens_per_call > before.tokens_per_call


def test_what_does_not_fit_is_refused(shipped):
    target, draft, prompts = shipped
    with pytest.raises(InputError, match="inner"):
        generate(target, prompts, draft_model=DraftModel(draft, inner=Speculator(7)))
    inner = Speculator(target.config.vocab_size)
    with pytest.raises(InputError, match="inner"):
        generate(target, prompts, draft_model=DraftModel(draft, inner=inner, policy="kangaroo"))
    for wrong in (
        lambda: Lookahead(ngram=2),
        lambda: Retrieval(top_k=0),
        lambda: Routed([], [], 0),
    ):
        with pytest.raises(InputError):
            wrong()
    assert skipped(target, [False] * 12) is not None
