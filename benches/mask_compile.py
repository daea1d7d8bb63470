"""CPU time of compiling JSON Schemas by size, which should be linear: ns a byte from 10 kB to 1 MB.

Three shapes: ``wide``, one object with many members; ``tools``, many tools in one ``anyOf``, each
told by a ``const``; ``defs``, one object whose members refer to as many definitions. The schemas
are made here, so that nothing but their size differs.

    python benches/mask_compile.py [--rounds N]
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from typing import TYPE_CHECKING

from trivium import GrammarMask, Vocabulary

if TYPE_CHECKING:
    from collections.abc import Callable

SIZES = [10_000, 30_000, 100_000, 300_000, 1_000_000]


def member(i: int) -> dict[str, object]:
    """One of five usual kinds of member."""
    about = {"description": f"What stands at place {i}, in a few words as schemas have them."}
    kinds: list[dict[str, object]] = [
        {"type": "string", "minLength": 1, "maxLength": 20 + i % 50},
        {"type": "integer", "minimum": 0, "maximum": 1000 + i % 90},
        {"enum": [f"choice {i}", f"other {i}", None]},
        {"type": "array", "items": {"type": "number"}, "maxItems": 8},
        {"type": "object", "properties": {"x": {"type": "boolean"}}, "required": ["x"]},
    ]
    return kinds[i % len(kinds)] | about


def wide(n: int) -> dict[str, object]:
    """An object with ``n`` members, half of them required."""
    members = {f"member_{i}": member(i) for i in range(n)}
    return {
        "type": "object",
        "properties": members,
        "required": [k for i, k in enumerate(members) if i % 2],
        "additionalProperties": False,
    }


def tools(n: int) -> dict[str, object]:
    """A choice of ``n`` tools with four arguments each."""

    def tool(i: int) -> dict[str, object]:
        arguments = {f"argument_{k}": member(i + k) for k in range(4)}
        return {
            "type": "object",
            "properties": {
                "name": {"const": f"tool_{i}"},
                "arguments": {
                    "type": "object",
                    "properties": arguments,
                    "required": ["argument_0", "argument_2"],
                    "additionalProperties": False,
                },
            },
            "required": ["name", "arguments"],
            "additionalProperties": False,
        }

    return {"anyOf": [tool(i) for i in range(n)]}


def defs(n: int) -> dict[str, object]:
    """An object with ``n`` members, all required, that each refer to a definition."""
    return {
        "type": "object",
        "properties": {f"member_{i}": {"$ref": f"#/$defs/kind_{i}"} for i in range(n)},
        "required": [f"member_{i}" for i in range(n)],
        "$defs": {f"kind_{i}": member(i) for i in range(n)},
    }


def main() -> None:
    """Prints the curve of each shape."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5, help="times taken, of which the median")
    rounds = parser.parse_args().rounds
    vocab = Vocabulary([bytes([b]) for b in range(256)] + [b""], eos=[256])
    shapes: list[Callable[[int], dict[str, object]]] = [wide, tools, defs]
    for shape in shapes:
        per = len(json.dumps(shape(100))) / 100
        for size in SIZES:
            text = json.dumps(shape(max(1, round(size / per))))
            times = []
            for _ in range(rounds):
                start = time.thread_time()
                GrammarMask.json_schema(text, vocab, max_ms=60_000)
                times.append(time.thread_time() - start)
            took = statistics.median(times)
            print(
                f"{shape.__name__:>6} {len(text):>9} bytes {took * 1e3:>9.2f} ms"
                f" {took * 1e9 / len(text):>7.0f} ns a byte",
                flush=True,
            )


if __name__ == "__main__":
    main()
