"""``on_unsupported="shadow"``: keywords that are not compiled, checked where a value is complete.

The grammar is compiled from the schema without the keywords that were refused, and the whole schema
is validated, by definition, where a token would complete the value. So no invalid value ends, which
is what ``"relax"`` gives up; that a value once begun can be made valid is not proven.
"""

from __future__ import annotations

import decimal
import json
from typing import TYPE_CHECKING, Any

from trivium.errors import UnsupportedPattern, UnsupportedSchema

if TYPE_CHECKING:
    from collections.abc import Callable

    from trivium._core import GrammarMask as CoreGrammarMask

__all__ = ["shadowed"]

# Keywords under which "fewer demands" does not mean "more values", or may not.
_REVERSED = frozenset(
    {
        "not", "if", "oneOf", "contains", "dependentSchemas", "unevaluatedProperties",
        "unevaluatedItems", "$ref", "$dynamicRef", "$recursiveRef",
    }
)  # fmt: skip

_MOST = 64


def shadowed(
    text: str,
    compile_text: Callable[[str], CoreGrammarMask],
    options: dict[str, Any],
) -> CoreGrammarMask:
    """Compile `text`, leaving out what is refused, with the whole of it as a shadow."""
    schema: Any = None
    left_out: list[str] = []
    while True:
        try:
            core = compile_text(text if schema is None else json.dumps(schema))
            break
        except UnsupportedSchema as e:
            if schema is None:
                schema = _read(text, e)
            if len(left_out) == _MOST or not _leave_out(schema, e):
                raise
            left_out.append(f"{e.path}, {e.keyword}: {e.reason}")  # type: ignore[attr-defined]
    if not left_out:
        return core
    exact = "" if not _REVERSED & _keys(schema) else "; valid values may be refused"
    why = f"shadow-validated: {'; '.join(left_out)}{exact}"
    try:
        return core.shadowed_by(text, options, why)
    except UnsupportedPattern as e:
        error = UnsupportedSchema(f"{left_out[0]}; nor can it be validated: {e}")
        raise error from None


def _read(text: str, cause: UnsupportedSchema) -> Any:
    """Parse a schema so that writing it again changes no number."""

    def number(literal: str) -> float:
        value = float(literal)
        if decimal.Decimal(literal) != decimal.Decimal(repr(value)):
            raise cause
        return value

    return json.loads(text, parse_float=number)


def _leave_out(schema: Any, error: UnsupportedSchema) -> bool:
    """Drop the keyword that an error names, or the schema at its path if it names a combination."""
    path = str(getattr(error, "path", ""))
    if path != "#" and not path.startswith("#/"):
        return False  # another document
    steps = (
        [s.replace("~1", "/").replace("~0", "~") for s in path[2:].split("/")] if path[2:] else []
    )
    parent: Any = None
    here = schema
    for step in steps:
        parent = here
        try:
            here = here[int(step)] if isinstance(here, list) else here[step]
        except (KeyError, IndexError, ValueError, TypeError):
            return False
    keyword = str(getattr(error, "keyword", ""))
    if keyword:
        # What is refused of a container as a whole is told of the root: the last place has it.
        places = [here] if isinstance(here, dict) and keyword in here else _places(here, keyword)
        if places:
            del places[-1][keyword]
        return bool(places)
    if parent is None:
        return False
    step = steps[-1]
    parent[int(step) if isinstance(parent, list) else step] = True
    return True


def _places(value: Any, keyword: str) -> list[dict[str, Any]]:
    """Objects under `value` with a member `keyword`, outermost first."""
    found: list[dict[str, Any]] = []
    todo = [value]
    while todo:
        here = todo.pop(0)
        if isinstance(here, dict):
            if keyword in here:
                found.append(here)
            todo += here.values()
        elif isinstance(here, list):
            todo += here
    return found


def _keys(value: Any) -> set[str]:
    found: set[str] = set()
    todo = [value]
    while todo:
        here = todo.pop()
        if isinstance(here, dict):
            found |= here.keys()
            todo += here.values()
        elif isinstance(here, list):
            todo += here
    return found
