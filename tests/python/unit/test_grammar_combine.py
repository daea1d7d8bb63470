"""Combinations of grammars at the border; their languages are enumerated in Rust."""

from __future__ import annotations

import numpy as np
import pytest
from trivium import GrammarMask, Vocabulary
from trivium.errors import InputError, UnsatisfiableError, UnsupportedError

VOCAB = Vocabulary([bytes([i]) for i in range(256)] + [b"", b"ab"], eos=[256])


def test_operators_are_set_operations() -> None:
    words = GrammarMask.regex("[a-z]+", VOCAB)
    keywords = GrammarMask.choices(["if", "else"], VOCAB)
    names = words - keywords
    cases = ["if", "iff", "else", "x", "", "X"]
    assert [names.matches(t) for t in cases] == [False, True, False, True, False, False]
    assert [(words & keywords).matches(t) for t in cases] == [
        True,
        False,
        True,
        False,
        False,
        False,
    ]
    assert [(~words).matches(t) for t in cases] == [False, False, False, False, True, True]
    assert (keywords | GrammarMask.regex("X", VOCAB)).matches("X")
    assert names.then(GrammarMask.regex("=", VOCAB), words).matches("iff=if")
    assert (words & keywords).report().kind == "and"
    with pytest.raises(UnsatisfiableError):
        names & keywords
    with pytest.raises(TypeError):
        words & "a"  # type: ignore[operator]
    with pytest.raises(InputError):
        words.then("a")  # type: ignore[arg-type]
    other = Vocabulary([b"a", b""], eos=[1])
    with pytest.raises(InputError, match="different vocabularies"):
        words | GrammarMask.regex("a", other)


def test_what_is_not_regular_is_refused_by_name() -> None:
    schema = GrammarMask.json_schema({"type": "array"}, VOCAB)
    with pytest.raises(UnsupportedError, match="not regular"):
        schema & GrammarMask.regex("a", VOCAB)
    with pytest.raises(UnsupportedError, match="seam"):
        GrammarMask.regex(r"\ba", VOCAB).then(GrammarMask.regex("b", VOCAB))


def test_json_after_the_thinking_part() -> None:
    vocab = Vocabulary(
        [bytes([i]) for i in range(256)] + [b"", b"</", b"think", b'>{"', b""],
        special={260: "<call>"},
        eos=[256],
    )
    point = GrammarMask.json_schema(
        {
            "type": "object",
            "properties": {"x": {"type": "integer"}},
            "required": ["x"],
            "additionalProperties": False,
        },
        vocab,
    )
    g = GrammarMask.after("</think>", point)
    assert g.matches('{"x": } </thin</think>{"x": 3}')
    assert not g.matches('</think>{"y": 3}')
    assert not g.matches('{"x": 3}')
    report = g.report()
    assert (report.kind, report.sound, report.complete) == ("after", True, True)
    # A draft whose fourth token holds the trigger's end and the object's beginning.
    m = g.matcher()
    m.commit(list(b"hm "))
    draft = [0, 257, 258, 259, ord("x"), ord('"')]
    rows = np.zeros((len(draft), m.words), np.int32)
    alive = m.fill_tree(np.arange(-1, len(draft) - 1), draft, rows)
    assert alive.all()
    bits = np.unpackbits(rows.view(np.uint8), axis=1, bitorder="little")
    assert bits[2, ord("x")] == 1  # still free text
    assert bits[3].nonzero()[0].tolist() == [ord("x")]
    assert m.commit([257, 258, 259]) == 3
    assert m.forced_bytes() == b'x"'
    m.rollback(2)
    assert m.allows(ord("q"))
    # The same behind a special token, and behind texts as often as they come.
    for trigger in (260, [260]):
        m = GrammarMask.after(trigger, point).matcher()
        assert m.commit([ord("a"), 260, ord("{")]) == 3
        assert not m.allows(260)
    rules = GrammarMask.grammar('root ::= "(" root ")" | [0-9]', vocab)
    g = GrammarMask.free_text_with({"f": rules, "<j>": point}, stop=".")
    assert g.matches('a f((1)) <j>{"x": 1} f2.')
    assert not g.matches("a f((1) .")
    m = GrammarMask.free_text_with({260: rules}).matcher()
    assert m.commit([ord("f"), 260, ord("("), ord("7"), ord(")"), 260]) == 6
    assert not m.is_accepting()
    both = (point | rules).then(rules)
    assert [both.matches(t) for t in ('{"x":1}(2)', "(1)2", "(12)")] == [True, True, False]


def test_bad_arguments() -> None:
    a = GrammarMask.regex("a", VOCAB)
    for call in (
        lambda: GrammarMask.phrases(VOCAB, must="abc"),
        lambda: GrammarMask.phrases(VOCAB, never=[""]),
        lambda: GrammarMask.phrases(VOCAB, must=[[]]),
        lambda: GrammarMask.phrases(VOCAB, never=[3]),  # type: ignore[list-item]
        lambda: GrammarMask.after("", a),
        lambda: GrammarMask.after("\ud800", a),
        lambda: GrammarMask.after([], a),
        lambda: GrammarMask.after(97, a),
        lambda: GrammarMask.after(1.5, a),  # type: ignore[arg-type]
        lambda: GrammarMask.after(1 << 35, a),
        lambda: GrammarMask.free_text_with({}),
        lambda: GrammarMask.spans("abc", VOCAB, max_words=0),
    ):
        with pytest.raises(InputError):
            call()


def test_a_trigger_inside_a_draft_switches_the_mask() -> None:
    g = GrammarMask.after("</t>", GrammarMask.regex("[0-9]+", VOCAB))
    m = g.matcher()
    draft = [0, *b"a</t", ord(">"), ord("4")]
    parents = np.arange(-1, len(draft) - 1)
    rows = np.zeros((len(draft), m.words), np.int32)
    alive = m.fill_tree(parents, draft, rows)
    assert alive.all()
    bits = np.unpackbits(rows.view(np.uint8), axis=1, bitorder="little")
    assert bits[4, ord("b")] == 1  # still free text
    assert bits[5].nonzero()[0].tolist() == list(b"0123456789")  # the trigger is complete
    assert bits[6].nonzero()[0].tolist() == [*b"0123456789", 256]
