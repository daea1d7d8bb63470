"""The demo's record schemas: what bounds them, and an independent check of what comes out.

`is_valid` covers what `trivium.tinylm.records.SCHEMAS` uses, no more, and shares nothing with the
compiler of JSON Schema.
"""

from __future__ import annotations

import json
import re
from typing import Any

__all__ = ["bounded", "is_valid"]

_LONGEST = 24


def bounded(schema: dict[str, Any]) -> dict[str, Any]:
    """Give the schema with strings of at most 24 characters, so that every record ends.

    Examples
    --------
    >>> bounded({"type": "array", "items": {"type": "string"}})
    {'type': 'array', 'items': {'type': 'string', 'maxLength': 24}}
    """
    out: dict[str, Any] = {}
    for key, value in schema.items():
        if key == "properties":
            out[key] = {name: bounded(inner) for name, inner in value.items()}
        elif key == "items":
            out[key] = bounded(value)
        else:
            out[key] = value
    if "string" in schema.get("type", ()) and "enum" not in schema:
        out.setdefault("maxLength", _LONGEST)
    return out


def is_valid(text: str, schema: dict[str, Any]) -> bool:
    """Tell whether a text is JSON and satisfies a record schema; without the compiler."""
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
