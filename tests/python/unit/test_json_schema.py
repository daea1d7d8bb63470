"""`GrammarMask.json_schema`: options, errors, spellings.

Data sets have tests of their own."""

from __future__ import annotations

import json

import pytest
from trivium import GrammarMask, Vocabulary
from trivium.errors import (
    InputError,
    InvalidSchema,
    LimitExceeded,
    UnsatisfiableError,
    UnsupportedSchema,
)

VOCAB = Vocabulary([bytes([b]) for b in range(256)] + [b'{"', b'":', b'", "', b""], eos=[259])

RECORD = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "minLength": 1},
        "age": {"type": "integer", "minimum": 0, "maximum": 150},
        "tags": {"type": "array", "items": {"enum": ["a", "b"]}, "maxItems": 2},
        "next": {"$ref": "#"},
    },
    "required": ["name", "age"],
    "additionalProperties": False,
}


def accepts(schema, text, **options):
    return GrammarMask.json_schema(schema, VOCAB, **options).matches(text)


@pytest.mark.parametrize(
    ("text", "ok"),
    [
        ('{"name": "é", "age": 3}', True),
        ('{"name":"x","age":150,"tags":["a","b"]}', True),
        ('{"name": "", "age": 3}', False),
        ('{"name": "x", "age": 151}', False),
        ('{"name": "x", "age": -1}', False),
        ('{"name": "x"}', False),
        ('{"age": 3, "name": "x"}', False),
        ('{"name": "x", "age": 3, "tags": ["a", "b", "a"]}', False),
        ('{"name": "x", "age": 3, "other": 1}', False),
        ('{"name": "x", "age": 3, "next": {"name": "y", "age": 0}}', True),
        ('{"name": "x", "age": 3, "next": {"name": "y"}}', False),
        ('{"name": "x", "name": "y", "age": 3}', False),
        ("{}", False),
        (' {"name": "x", "age": 3}', False),
    ],
)
def test_records(text, ok):
    assert accepts(RECORD, text) is ok


def test_order_any_keeps_required_and_uniqueness():
    g = GrammarMask.json_schema(RECORD, VOCAB, order="any")
    assert g.matches('{"age": 3, "name": "x"}')
    assert not g.matches('{"age": 3, "age": 3, "name": "x"}')
    assert not g.matches('{"age": 3}')


def test_undeclared_members_follow_and_never_repeat():
    schema = {"properties": {"a": {"type": "integer"}}, "additionalProperties": {"type": "null"}}
    assert accepts(schema, '{"a": 1, "b": null, "c": null}')
    assert not accepts(schema, '{"b": null, "b": null}')
    assert not accepts(schema, '{"b": null, "a": 1}')
    assert accepts(schema, '{"b": null, "a": 1}', order="any")
    assert not accepts(schema, '{"b": null, "\\u0062": null}', escapes="any")


def test_closed_refuses_what_the_schema_leaves_open():
    schema = {"properties": {"a": True}}
    assert accepts(schema, '{"z": 1}')
    assert not accepts(schema, '{"z": 1}', additional="closed")


def test_whitespace():
    schema = {"type": "array", "items": {"type": "null"}}
    wide = "[" + " " * 65 + "null]"
    assert not accepts(schema, wide)
    assert accepts(schema, wide, whitespace="any")
    assert not accepts(schema, "[null, null]", whitespace="compact")
    assert accepts(schema, "[null, null]", whitespace=" ?")
    assert accepts(schema, json.dumps([None, None], indent=2), whitespace=("indent", 2))
    assert not accepts(schema, "[null, null]", whitespace=("indent", 2))


def test_escapes_and_numbers_are_options():
    assert not accepts({"const": "é"}, '"\\u00e9"')
    assert accepts({"const": "é"}, '"\\u00e9"', escapes="any")
    assert accepts({"const": "\n"}, '"\\n"')
    assert not accepts({"type": "integer"}, "1.0")
    assert accepts({"type": "integer"}, "1.0", numbers="any")
    assert accepts({"multipleOf": 0.1}, "0.3")
    assert not accepts({"multipleOf": 0.1}, "0.35")


def test_same_keyword_in_every_dialect():
    draft4 = "http://json-schema.org/draft-04/schema#"
    assert not accepts({"$schema": draft4, "minimum": 1, "exclusiveMinimum": True}, "1")
    assert accepts({"exclusiveMinimum": 1}, "2")
    assert not accepts({"items": [{"type": "null"}], "additionalItems": False}, "[null, 1]")


def test_remotes_come_from_the_caller_only():
    schema = {"$ref": "http://example.com/x.json#/$defs/a"}
    with pytest.raises(UnsupportedSchema, match="remotes") as e:
        accepts(schema, "1")
    assert e.value.path == "#"
    assert e.value.keyword == "$ref"
    given = {"http://example.com/x.json": {"$defs": {"a": {"const": 1}}}}
    assert accepts(schema, "1", remotes=given)
    assert not accepts(schema, "2", remotes=given)


@pytest.mark.parametrize(
    ("schema", "error", "says"),
    [
        ('{"type": 1}', InvalidSchema, "type"),
        ('{"type"', InvalidSchema, "byte 7"),
        ({"$ref": "#/nowhere"}, InvalidSchema, "nowhere"),
        ({"$ref": "#"}, InvalidSchema, "cycle"),
        ({"not": {"$ref": "#"}}, InvalidSchema, "cycle"),
        ({"pattern": "("}, InvalidSchema, "pattern"),
        ({"multipleOf": 0}, InvalidSchema, "above 0"),
        (float("nan"), InputError, "float"),
        ({"const": float("inf")}, InvalidSchema, "JSON"),
        ({"const": "\ud800"}, InvalidSchema, "surrogate"),
        ("\ud800", InputError, "surrogate"),
        (False, UnsatisfiableError, "contradict"),
        ({"allOf": [{"type": "string"}, {"type": "null"}]}, UnsatisfiableError, "contradict"),
        (
            {"required": ["a"], "properties": {"a": {"$ref": "#"}}, "type": "object"},
            UnsatisfiableError,
            "contradict",
        ),
        ({"type": "integer", "minimum": 1.1, "maximum": 1.9}, UnsatisfiableError, "contradict"),
        ("[" * 100_000, LimitExceeded, "nesting"),
        ('{"not":' * 100_000, LimitExceeded, "nesting"),
    ],
)
def test_errors_are_typed(schema, error, says):
    with pytest.raises(error, match=says):
        GrammarMask.json_schema(schema, VOCAB)


@pytest.mark.parametrize(
    "options",
    [
        {"order": "sorted"},
        {"additional": None},
        {"whitespace": ("indent", -1)},
        {"whitespace": "[a-z]"},
        {"escapes": "none"},
        {"numbers": 3},
        {"formats": "some"},
        {"on_unsupported": "ignore"},
        {"max_cells": 0},
        {"digits": 0},
    ],
)
def test_options_are_checked(options):
    with pytest.raises(InputError):
        GrammarMask.json_schema(True, VOCAB, **options)


def test_random_walks_are_json():
    """Any path through the masks that reaches the end token is a valid text."""
    grammar = GrammarMask.json_schema(RECORD, VOCAB)
    m = grammar.matcher()
    seed = 7
    for _ in range(40):
        m.reset()
        text = b""
        for step in range(400):
            allowed = [t for t in range(VOCAB.num_rows) if m.allows(t)]
            assert allowed, text
            seed = (seed * 6364136223846793005 + 1442695040888963407) % 2**64
            # Drift towards the end: prefer closing characters.
            close = [t for t in allowed if VOCAB.token(t) in (b"", b'"', b"}", b"]")]
            pool = close if close and step > 40 else allowed
            token = pool[(seed >> 33) % len(pool)]
            assert m.commit(token)
            if token == 259:
                break
            text += VOCAB.token(token)
        if m.is_finished():
            value = json.loads(text)
            assert set(value) <= set(RECORD["properties"])
            assert 0 <= value["age"] <= 150


def test_relax_lists_what_it_drops():
    schema = {"properties": {"a": {"pattern": r"(a*)\1"}, "b": {"not": {"pattern": r"(a*)\1"}}}}
    with pytest.raises(UnsupportedSchema) as e:
        GrammarMask.json_schema(schema, VOCAB)
    assert e.value.path.startswith("#/properties/")
    assert e.value.keyword == "pattern"
    g = GrammarMask.json_schema(schema, VOCAB, on_unsupported="relax")
    assert g.matches('{"a": "x", "b": "x"}')
    report = g.report()
    assert len(report.relaxed) == 2
    assert not report.sound


def test_unknown_formats_are_warnings():
    g = GrammarMask.json_schema({"format": "colour"}, VOCAB)
    assert any("colour" in w for w in g.report().warnings)
    assert g.report().sound
    assert not accepts({"format": "date"}, '"2023-02-29"')
    assert accepts({"format": "date"}, '"2023-02-29"', formats="annotate")
    with pytest.raises(UnsupportedSchema, match="known"):
        GrammarMask.json_schema({"format": "colour"}, VOCAB, formats=["colour"])


def test_dead_ends_are_proven_absent_unless_said():
    assert GrammarMask.json_schema({"items": {"type": "string"}}, VOCAB).report().no_dead_end
    scalars = {"type": "array", "items": {"type": "string"}, "uniqueItems": True}
    assert GrammarMask.json_schema(scalars, VOCAB).report().no_dead_end
    report = GrammarMask.json_schema({"uniqueItems": True}, VOCAB).report()
    assert not report.no_dead_end
    assert any("uniqueItems" in w for w in report.warnings)


def test_too_many_conditions_are_refused():
    schema = {"allOf": [{"contains": {"const": i}} for i in range(9)]}
    with pytest.raises(UnsupportedSchema, match="conditions"):
        GrammarMask.json_schema(schema, VOCAB)
    assert accepts({"allOf": schema["allOf"][:3]}, "[0, 1, 2]")
    assert not accepts({"allOf": schema["allOf"][:3]}, "[0, 1, 3]")


def test_too_many_combinations_are_refused():
    parts = [{"anyOf": [{"required": [f"a{i}"]}, {"required": [f"b{i}"]}]} for i in range(12)]
    with pytest.raises(UnsupportedSchema, match="max_cells"):
        GrammarMask.json_schema({"allOf": parts}, VOCAB, max_cells=1_000)
