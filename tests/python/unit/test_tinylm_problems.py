"""Arithmetic problems and records: the generators agree with themselves and split by text."""

from __future__ import annotations

import json
import random
from itertools import islice
from typing import Any

import pytest
from trivium.tinylm import problems, records


@pytest.mark.parametrize("split", ["train", "heldout"])
@pytest.mark.parametrize("level", problems.LEVELS)
def test_worked_solution_gives_gold(level: int, split: str) -> None:
    cases = problems.generate(5, 300, split, level)
    assert len({case.question for case in cases}) == 300
    for case in cases:
        assert problems.check(case.solution) == case.answer, case
        assert problems.extract_answer(case.text) == case.answer
        assert case.level == level
        assert 0 <= case.answer <= 999


def test_heldout_problems_never_train() -> None:
    heldout = {p.question for level in (None, *problems.LEVELS) for p in _take("heldout", level)}
    trained = {p.question for p in islice(problems.stream(0), 20_000)}
    assert not heldout & trained
    assert all(problems.is_heldout(question) for question in heldout)
    assert not any(problems.is_heldout(question) for question in trained)


def _take(split: str, level: int | None) -> list[problems.Problem]:
    return problems.generate(9, 100, split, level)


def test_generator_is_seeded() -> None:
    assert problems.generate(3, 20) == problems.generate(3, 20)
    assert problems.generate(3, 20) != problems.generate(4, 20)


@pytest.mark.parametrize(
    ("solution", "expected"),
    [
        ("3 + 4 = 7. The answer is 7.", 7),
        ("3 + 4 = 8. The answer is 8.", None),
        ("3 + 4 = 7. The answer is 8.", None),
        ("3 + 4 = 7. 8 * 2 = 16. The answer is 16.", None),
        ("7 / 2 = 3. The answer is 3.", None),
        ("7 / 0 = 3. The answer is 3.", None),
        ("The answer is 3.", None),
        ("", None),
    ],
)
def test_check_sees_slips(solution: str, expected: int | None) -> None:
    assert problems.check(solution) == expected


def test_drill_equations_hold() -> None:
    rng = random.Random(0)
    for _ in range(200):
        for equation in problems.drill(rng).strip().rstrip(".").split(". "):
            left, right = equation.split(" = ")
            assert problems.check(f"{equation}. The answer is {right}.") == int(right), left


@pytest.mark.parametrize(("split", "level"), [("test", None), ("train", 0), ("heldout", 9)])
def test_unknown_split_or_level(split: str, level: int | None) -> None:
    with pytest.raises(ValueError, match="must be"):
        problems.generate(0, 1, split, level)


def _matches(value: object, schema: dict[str, Any]) -> None:
    if schema["type"] == "object":
        assert list(value) == schema["required"]
        for key, inner in value.items():
            _matches(inner, schema["properties"][key])
    elif schema["type"] == "array":
        assert schema["minItems"] <= len(value) <= schema["maxItems"]
        for inner in value:
            _matches(inner, schema["items"])
    elif schema["type"] == "integer":
        assert schema["minimum"] <= value <= schema["maximum"]
    elif schema["type"] == "boolean":
        assert isinstance(value, bool)
    elif "enum" in schema:
        assert value in schema["enum"]
    else:
        assert value is None or isinstance(value, str)


@pytest.mark.parametrize("kind", records.KINDS)
def test_records_keep_their_schema(kind: str) -> None:
    rng = random.Random(1)
    for _ in range(100):
        prompt, record = records.pair(rng, kind)
        assert prompt.endswith(f"\n{kind}:")
        value = json.loads(record)
        _matches(value, records.SCHEMAS[kind])
        assert record == " " + json.dumps(value, separators=(",", ":"))
