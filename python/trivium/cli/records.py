"""Regular expressions of the demo's record schemas, and an independent check of what comes out.

`pattern` covers what `trivium.tinylm.records.SCHEMAS` uses, no more: objects whose keys are all
required, arrays, bounded integers, booleans, null, and strings that are enumerated, patterned or
free. It is a demonstration of regular constraints, not a JSON Schema compiler; whatever it does not
know it refuses.
"""

from __future__ import annotations

import json
import re
from typing import Any

from trivium.errors import UnsupportedError

__all__ = ["integer_range", "is_valid", "pattern"]

_FREE = r'[^"\\\x00-\x1f]{1,24}'


def integer_range(low: int, high: int) -> str:
    """Regular expression of the decimal integers of an interval, without leading zeros.

    Parameters
    ----------
    low, high : int
        Both ends, ``0 <= low <= high``.

    Examples
    --------
    >>> integer_range(18, 90)
    '(?:1[8-9]|[2-8][0-9]|90)'
    """
    parts = []
    while len(str(low)) < len(str(high)):
        top = 10 ** len(str(low)) - 1
        parts += _same_length(str(low), str(top))
        low = top + 1
    parts += _same_length(str(low), str(high))
    return f"(?:{'|'.join(parts)})"


def _same_length(low: str, high: str) -> list[str]:
    if low == high:
        return [low]
    rest = len(low) - 1
    tail = "[0-9]" * rest
    if low[1:] == "0" * rest and high[1:] == "9" * rest:
        return [_digits(low[0], high[0]) + tail]
    if low[0] == high[0]:
        return [low[0] + p for p in _same_length(low[1:], high[1:])]
    first, last, parts = int(low[0]), int(high[0]), []
    if low[1:] != "0" * rest:
        parts += [low[0] + p for p in _same_length(low[1:], "9" * rest)]
        first += 1
    if high[1:] == "9" * rest:
        return [*parts, _digits(str(first), str(last)) + tail]
    if first < last:
        parts.append(_digits(str(first), str(last - 1)) + tail)
    return parts + [high[0] + p for p in _same_length("0" * rest, high[1:])]


def _digits(low: str, high: str) -> str:
    return low if low == high else f"[{low}-{high}]"


def pattern(schema: dict[str, Any]) -> str:
    """Regular expression of the compact JSON texts of a record schema, keys in schema order.

    Free strings have 1 to 24 characters and no escapes, and a ``+`` in a pattern means at most 16
    times: the language lies inside the schema's and is finite, so every generation ends.

    Raises
    ------
    UnsupportedError
        The schema uses something else than the records do.
    """
    if "enum" in schema:
        return f"(?:{'|'.join(re.escape(json.dumps(value)) for value in schema['enum'])})"
    kinds = schema["type"] if isinstance(schema["type"], list) else [schema["type"]]
    return "|".join(_kind(kind, schema) for kind in kinds).join(("(?:", ")"))


def _kind(kind: str, schema: dict[str, Any]) -> str:
    if kind == "object" and schema["required"] == list(schema["properties"]):
        fields = (f"{json.dumps(k)}:{pattern(v)}" for k, v in schema["properties"].items())
        return rf"\{{{','.join(fields)}\}}"
    if kind == "array" and schema["minItems"] > 0:
        item = pattern(schema["items"])
        return rf"\[{item}(?:,{item}){{{schema['minItems'] - 1},{schema['maxItems'] - 1}}}\]"
    if kind == "string":
        body = schema.get("pattern")
        if body is None:
            return f'"{_FREE}"'
        return f'"(?:{body.removeprefix("^").removesuffix("$").replace("]+", "]{1,16}")})"'
    if kind == "integer":
        return integer_range(schema["minimum"], schema["maximum"])
    simple = {"boolean": "true|false", "null": "null"}
    if kind not in simple:
        raise UnsupportedError(f"records have no {kind} like {json.dumps(schema)}")
    return simple[kind]


def is_valid(text: str, schema: dict[str, Any]) -> bool:
    """Tell whether a text is JSON and satisfies a record schema; shares nothing with `pattern`."""
    try:
        value = json.loads(text)
    except ValueError:
        return False
    return _satisfies(value, schema)


def _satisfies(value: Any, schema: dict[str, Any]) -> bool:
    if "enum" in schema and value not in schema["enum"]:
        return False
    kinds = schema["type"] if isinstance(schema["type"], list) else [schema["type"]]
    if value is None:
        return "null" in kinds
    if isinstance(value, bool):
        return "boolean" in kinds
    if isinstance(value, int):
        return "integer" in kinds and schema["minimum"] <= value <= schema["maximum"]
    if isinstance(value, str):
        return "string" in kinds and bool(re.search(schema.get("pattern", ""), value))
    if isinstance(value, list):
        return (
            "array" in kinds
            and schema["minItems"] <= len(value) <= schema["maxItems"]
            and all(_satisfies(item, schema["items"]) for item in value)
        )
    if isinstance(value, dict):
        return (
            "object" in kinds
            and set(value) == set(schema["properties"])
            and all(_satisfies(v, schema["properties"][k]) for k, v in value.items())
        )
    return False
