"""`uniqueItems`: items of every kind are compared as values, whatever their spelling."""

from __future__ import annotations

import itertools
import json
import random

import numpy as np
import pytest
from trivium import GrammarMask, Vocabulary

BYTES = Vocabulary([bytes([b]) for b in range(256)] + [b""], eos=[256])
POOL = [
    *[None, True, 0, 1, -1, 0.5, "", "a", "1", [], [1], [[1]], {}, {"a": 1}, {"a": [1]}, {"b": 1}],
    {"a": 1, "b": 2},
    [{"a": 1}],
]


def same(a, b) -> bool:
    return json.dumps(a, sort_keys=True) == json.dumps(b, sort_keys=True)


@pytest.mark.parametrize("order", ["schema", "any"])
def test_all_pairs(order):
    g = GrammarMask.json_schema({"type": "array", "uniqueItems": True}, BYTES, order=order)
    n = GrammarMask.json_schema({"type": "array", "not": {"uniqueItems": True}}, BYTES, order=order)
    for a, b in itertools.product(POOL, repeat=2):
        text = json.dumps([a, b])
        assert g.matches(text) is not same(a, b), text
        assert n.matches(text) is same(a, b), text


def test_spelling_does_not_matter():
    options = {"order": "any", "escapes": "any", "numbers": "any"}
    g = GrammarMask.json_schema({"uniqueItems": True}, BYTES, **options)
    for text in [
        '["a", "\\u0061"]',
        "[1, 1.0]",
        "[10, 1e1]",
        '[{"a": 1, "b": 2}, {"b": 2.0, "a": 10e-1}]',
        '[{"\\u0061": [ 1 ]}, { "a" : [1.0] }]',
        "[1, [2], [1], [ 2 ]]",
        "[[], [ ]]",
        '[{"a": {}}, {"a": { }}]',
    ]:
        assert not g.matches(text), text
    assert g.matches('[1, "1", [1], {"1": 1}, [[1]], {"1": [1]}]')


def test_nested_arrays_are_compared_where_they_stand():
    schema = {"items": {"type": "array", "uniqueItems": True}, "type": "array"}
    g = GrammarMask.json_schema(schema, BYTES)
    assert g.matches("[[1, 2], [1, 2]]")
    assert not g.matches("[[1, 2], [1, 1]]")
    schema = {"items": schema["items"], "type": "array", "uniqueItems": True}
    g = GrammarMask.json_schema(schema, BYTES)
    assert g.matches("[[1, 2], [2, 1]]")
    assert not g.matches("[[1, 2], [1, 2]]")
    assert not g.matches("[[1, 1], [1, 2]]")


def test_finite_items_run_out():
    schema = {"type": "array", "items": {"enum": ["a", "ab", 1]}, "uniqueItems": True}
    g = GrammarMask.json_schema(schema, BYTES, whitespace="compact")
    assert g.matches('["ab","a",1]')
    assert g.explain('["ab","a",1').next_bytes == [(93, 93)]
    assert g.explain('["ab",1,').next_bytes == [(34, 34)]
    assert g.explain('["ab",1,"a').next_bytes == [(34, 34)]


def test_masks_agree_with_bytes():
    """Tokens that hold several items at once are judged by what was written before."""
    tokens = [b'{"a":', b"1}", b"1},", b'{"a":1}', b',{"a":1}', b',{"a":2},{"a":1}]', b"[", b"]"]
    tokens += [
        b'"a"',
        b',"a"',
        b',"b","a"]',
        b"a",
        b'"',
        b",",
        b"1",
        b"2",
        b"}",
        b'1},{"a":2}',
        b"",
    ]
    vocab = Vocabulary(tokens, eos=[len(tokens) - 1])
    schema = {"type": "array", "uniqueItems": True}
    g = GrammarMask.json_schema(schema, vocab, whitespace="compact")
    rng = random.Random(5)
    row = np.zeros(1, dtype=np.int32)
    for _ in range(120):
        m = g.matcher()
        text = b""
        for _ in range(12):
            allowed = []
            m.fill(row)
            for t, token in enumerate(tokens[:-1]):
                viable = g.explain(text + token).viable
                assert m.allows(t) is viable, (text, token)
                assert bool(row[t >> 5] >> (t & 31) & 1) is viable, (text, token)
                allowed += [t] * viable
            if not allowed:
                break
            t = rng.choice(allowed)
            assert m.commit(t)
            text += tokens[t]
