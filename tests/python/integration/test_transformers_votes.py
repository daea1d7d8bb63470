"""Votes over real traces: launched, cancelled and stopped on a random model, and on tinylm."""

from __future__ import annotations

import pytest
from trivium import Speculator, Vocabulary, Voter, tinylm
from trivium.errors import InputError
from trivium.voter import Result
from trivium.voting import AnswerGrammar

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

from trivium.integrations.transformers import generate  # noqa: E402

pytestmark = pytest.mark.stack

VOCAB = 13
ENDS = [2, 4, 6, 8, 12]
PROMPTS = [[1, 2, 3], [7], [9, 8, 7, 6, 9]]


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    """Tiny models are fastest on one thread."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def model():
    """A random Llama over digits, a full stop, a mark and an end."""
    torch.manual_seed(0)
    config = transformers.LlamaConfig(
        vocab_size=VOCAB,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=128,
        bos_token_id=None,
        eos_token_id=12,
        pad_token_id=None,
    )
    made = transformers.AutoModelForCausalLM.from_config(config, attn_implementation="sdpa")
    with torch.no_grad():
        for p in made.parameters():
            if p.ndim == 2:
                p.mul_(4)
    return made.to(torch.float64).eval()


@pytest.fixture(scope="module")
def vocab():
    digits = [bytes([48 + i]) for i in range(10)]
    return Vocabulary([*digits, b".", b"=", b""], eos=[12])


def voter(**options):
    return Voter(**{"key": "text", "stop": "beta:0.9", "budget": 12, **options})


def vote(model, vocab, *, voter, **options):
    given = {"temperature": 0.7, "max_new_tokens": 12, "seed": 3, "tokenizer": vocab}
    given["eos_token_id"] = ENDS
    return generate(model, PROMPTS, voter=voter, **{**given, **options})


def traces(out):
    return {(t.prompt, t.trace): (t.tokens, t.finish_reason) for t in out.traces}


def test_a_trace_is_that_of_its_seed_and_branch(model, vocab):
    out = vote(model, vocab, voter=voter())
    assert [type(result) for result in out.votes] == [Result] * 3
    for trace in out.traces:
        if trace.finish_reason == "cancelled":
            continue
        alone = generate(
            model,
            [PROMPTS[trace.prompt]],
            temperature=0.7,
            max_new_tokens=12,
            eos_token_id=ENDS,
            seed=3 + trace.prompt,
            branch=trace.trace,
        )
        assert alone.new_tokens == [trace.tokens]
        assert alone.logprobs[0] == pytest.approx(trace.logprobs)
    for i, result in enumerate(out.votes):
        launched = [t for t in out.traces if t.prompt == i]
        assert len(launched) == result.cost.launched
        assert result.done


def test_votes_do_not_depend_on_drafts_batch_or_latency(model, vocab):
    plain = vote(model, vocab, voter=voter())
    fast = vote(model, vocab, voter=voter(), speculator=Speculator(VOCAB, max_nodes=16))
    narrow = vote(model, vocab, voter=voter(), max_traces=2)
    eager = vote(model, vocab, voter=voter(latency="max"))
    assert traces(plain) == traces(fast) == traces(narrow)
    assert plain.texts == fast.texts == narrow.texts == eager.texts
    for a, b in zip(plain.votes, eager.votes, strict=True):
        assert (a.winner, a.tally, a.cost.samples) == (b.winner, b.tally, b.cost.samples)
    sure = vote(model, vocab, voter=voter(latency="max"), temperature=0.01)
    assert any(r.cost.launched == 12 > r.cost.samples for r in sure.votes)


def test_traces_that_cannot_matter_are_cancelled(model, vocab):
    # The first trace to end with an answer decides; the others stop within the step.
    v = voter(stop="first_finish:1", key_options={"delimiters": ["="]}, budget=6)
    out = vote(model, vocab, voter=v, max_new_tokens=40, temperature=2.0, eos_token_id=12)
    reasons = [t.finish_reason for t in out.traces]
    assert "cancelled" in reasons
    cancelled = {t.prompt for t in out.traces if t.finish_reason == "cancelled"}
    for i in cancelled:
        ends = [len(t.tokens) for t in out.traces if t.prompt == i]
        assert max(ends) <= 40
        assert out.votes[i].cost.cancelled > 0


def test_confidences_reach_the_weights(model, vocab):
    out = vote(model, vocab, voter=voter(weight="cisc:1", stop="majority", budget=3))
    assert all(row.weight > 0 for result in out.votes for row in result.tally)
    out = vote(model, vocab, voter=voter(weight="inverse_entropy", stop="majority", budget=3))
    assert all(result.winner is not None for result in out.votes if result.num_cast)


def test_an_answer_grammar_marks_the_span_and_selects_the_key(model, vocab):
    grammar = AnswerGrammar("integer", vocab, prefix="=", suffix=r"\.?")
    out = vote(
        model,
        vocab,
        voter=grammar.voter(stop="majority", budget=4),
        constraint=grammar,
        eos_token_id=12,
    )
    for trace in out.traces:
        if trace.finish_reason == "eos":
            assert grammar.mask.matches(trace.text)
    for result in out.votes:
        assert result.winner is None or result.winner == str(int(result.winner))


def test_votes_refuse_what_they_cannot_mean(model, vocab):
    with pytest.raises(InputError, match="tokenizer"):
        generate(model, PROMPTS, voter=voter())
    with pytest.raises(InputError, match="branch"):
        vote(model, vocab, voter=voter(), branch=[0, 1, 2])
    v = voter()
    with pytest.raises(InputError, match="max_traces"):
        vote(model, vocab, voter=v, max_traces=0)
    assert len(v) == 0


def test_tinylm_adds_by_vote():
    model, tokenizer = tinylm.load()
    case = tinylm.prompts("arithmetic")[0]
    v = Voter(key="number", stop="beta:0.95", budget=8)
    out = generate(
        model,
        [tokenizer(case["prompt"])["input_ids"]],
        voter=v,
        tokenizer=tokenizer,
        speculator=Speculator(model.config.vocab_size),
        temperature=0.8,
        max_new_tokens=80,
        seed=5,
    )
    [result] = out.votes
    assert result.winner == v.key_of(str(case["answer"]))
    assert result.cost.samples <= 8
    assert len(v) == 0


def test_a_trace_stops_once_its_answer_is_whole():
    """The same answers, with fewer tokens: what follows an answer is not written."""
    model, tokenizer = tinylm.load()
    cases = tinylm.prompts("arithmetic")[:3]
    prompts = [tokenizer(case["prompt"])["input_ids"] for case in cases]
    tokens = {}
    for early in (False, True):
        out = generate(
            model,
            prompts,
            voter=Voter(stop="majority", budget=3, bare=True, finish_on_answer=early),
            tokenizer=tokenizer,
            speculator=Speculator(model.config.vocab_size),
            temperature=0.8,
            max_new_tokens=64,
            eos_token_id=[],
            seed=1,
        )
        tokens[early] = out.num_tokens
        winners = [result.winner for result in out.votes]
        assert winners == tokens.setdefault("winners", winners)
    assert tokens[True] < 0.9 * tokens[False]


def test_repeating_traces_are_cancelled(model, vocab):
    def run(**options):
        watched = voter(stop="majority", budget=4, bare=True, latency="max", **options)
        return vote(
            model, vocab, voter=watched, temperature=0.0, max_new_tokens=96, eos_token_id=[]
        )

    plain, pruned = run(), run(prune="loop:3:20")
    assert all(t.finish_reason == "length" for t in plain.traces)
    looped = [t for t in pruned.traces if t.finish_reason == "cancelled"]
    assert looped
    whole = {(t.prompt, t.trace): t.tokens for t in plain.traces}
    for t in looped:
        tail = t.tokens[-20:]
        assert whole[t.prompt, t.trace][: len(t.tokens)] == t.tokens
        assert any(tail[p:] == tail[:-p] for p in range(1, 9))


def test_branches_continue_what_their_stem_has_written(model, vocab):
    pool = {"pool": "fifo", "slots": 1, "budget": 6, "bare": True}
    forking = voter(stop="majority", weight="leaf", fork="entropy:0.5:3", **pool)
    hot = {"temperature": 1.2, "eos_token_id": [12], "max_new_tokens": 20}
    out = vote(model, vocab, voter=forking, **hot)
    assert any(t.trace > 0 for t in out.traces)
    for i, result in enumerate(out.votes):
        mine = [t for t in out.traces if t.prompt == i]
        for t in mine:
            if t.trace > 0:
                # Its stem is the beginning of another trace, three tokens at least.
                begins = [o for o in mine if o.trace != t.trace and o.tokens[:3] == t.tokens[:3]]
                assert begins
            assert len(t.logprobs) == len(t.tokens) <= 20
        assert result.num_cast <= 6
        assert sum(row.weight for row in result.tally) <= 6
    assert vote(model, vocab, voter=forking, **hot).traces == out.traces
