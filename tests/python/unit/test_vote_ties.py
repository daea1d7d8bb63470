"""What ties votes to drafts and grammars: sibling drafts, answer grammars, asynchronous samples."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st
from trivium import Vocabulary, Voter
from trivium.errors import InputError
from trivium.voting import AnswerGrammar, GroupDrafts

VOCAB = Vocabulary([bytes([b]) for b in range(256)] + [b""], eos=[256])


def test_siblings_are_drafted_from_the_longest_shared_context():
    store = GroupDrafts()
    store.add([1, 2, 3, 4, 5, 6])
    store.add([9, 2, 3, 7, 8])
    assert store.propose([1, 2, 3], 10) == [4, 5, 6]
    assert store.propose([9, 2, 3], 10) == [7, 8]
    # Both share (2, 3) alone: the smaller id wins the tie.
    assert store.propose([5, 2, 3], 1) == [4]
    assert store.propose([3], 4) == store.propose([6, 6], 4) == []


def test_the_tally_weighs_continuations():
    store = GroupDrafts(mu=1.0)
    for answer, key in ((7, "7"), (8, "8"), (8, "8")):
        store.add([1, 2, answer], key)
    assert store.propose([1, 2], 1) == [8]
    # One trace of a leader with the whole share counts as much as the two others together: 7 is
    # the smaller id.
    assert store.propose([1, 2], 1, leader="7", share=1.0) == [7]
    assert store.propose([1, 2], 1, leader="7", share=0.9) == [8]
    assert GroupDrafts(mu=0).propose([1, 2], 1) == []


def test_an_identical_sibling_is_drafted_whole():
    store = GroupDrafts()
    text = [3, 1, 4, 1, 5, 9, 2, 6, 5, 3, 5]
    store.add(text)
    assert store.propose(text[:2], 100) == text[2:]


def test_stores_are_bounded():
    store = GroupDrafts(max_tokens=10)
    for i in range(100):
        store.add([i, i + 1, i + 2, i + 3])
    assert len(store) == 2
    assert store.propose([99, 100], 2) == [101, 102]
    with pytest.raises(InputError):
        GroupDrafts(context=1)


@pytest.mark.parametrize(
    ("answer", "key", "good", "bad"),
    [
        ("integer", "number", "-12", "012"),
        ("number", "number", "3/4", "1,5"),
        ("bool", "bool", "yes", "maybe"),
        ("date", "date", "2024-02-30", "2024-13-01"),
        (["red", "dark red"], "text", "dark red", "blue"),
    ],
)
def test_types_select_keys(answer, key, good, bad):
    grammar = AnswerGrammar(answer, VOCAB, prefix="Answer: ")
    assert grammar.key == key
    assert grammar.mask.matches(f"so it goes. Answer: {good}")
    assert not grammar.mask.matches(f"so it goes. Answer: {bad}")
    assert grammar.answer(f"Answer: {good}") == good
    assert grammar.voter().key_of("7" if key == "number" else good) is not None or key == "date"


def test_choices_by_letter():
    grammar = AnswerGrammar(vocab=VOCAB, letters="ABC", prefix="Answer: ")
    v = grammar.voter()
    assert v.key_of(grammar.answer("I think C. Answer: B")) == "B"


@given(st.text(alphabet="Ans: T7x", max_size=24))
def test_reasoning_never_contains_the_prefix(text):
    grammar = GRAMMAR
    whole = text + "Ans: 7"
    first = whole.find("Ans: ") + len("Ans: ")
    rest = whole[first:]
    assert grammar.mask.matches(whole) == (rest in {"7", "77", "7.", "7 "} or rest == "7")


GRAMMAR = AnswerGrammar("integer", VOCAB, prefix="Ans: ")


def test_spans_of_partial_texts():
    assert GRAMMAR.span("so An") is None
    assert GRAMMAR.span("so Ans: ") is None
    start, end, closed = GRAMMAR.span("so Ans: 12")
    assert ("so Ans: 12"[start:end], closed) == ("12", False)
    assert GRAMMAR.span("so Ans: 12.").closed
    assert GRAMMAR.answer("so Ans: 12", cut=True) is None
    assert GRAMMAR.answer("so Ans: 12.", cut=True) == "12"
    assert AnswerGrammar(["yes", "no"], VOCAB, prefix="Ans: ").span("Ans: no").closed


@pytest.mark.parametrize("prefix", ["", "## ", "Answer = A"])
def test_prefixes_must_announce_themselves(prefix):
    with pytest.raises(InputError, match="prefix"):
        AnswerGrammar("integer", VOCAB, prefix=prefix)
    with pytest.raises(InputError, match="answer"):
        AnswerGrammar("integr", VOCAB)


def test_remote_samples_vote_and_the_rest_is_cancelled():
    cancelled = []

    async def sample(trace):
        try:
            await asyncio.sleep(0 if trace < 4 else 60)
        except asyncio.CancelledError:
            cancelled.append(trace)
            raise
        return f"The answer is {7 if trace != 2 else 7.0}."

    v = Voter(stop="beta:0.95", budget=12, latency="max")
    result = asyncio.run(v.run(sample, "q"))
    assert (result.winner, result.cost.samples, result.stop_reason) == ("7", 4, "rule:beta:0.95")
    assert sorted(cancelled) == list(range(4, 12))
