"""Write the held-out prompts: ``python -m trivium.tinylm.make_prompts``.

Code prompts come from the standard-library files that training leaves out
(`material.HELDOUT_FILES`): the lines before a function, its signature, docstring and first
statements; the rest of the function is the reference. Records and arithmetic come from their
generators on the held-out side.
"""

from __future__ import annotations

import argparse
import ast
import json
import random
import sysconfig
from pathlib import Path
from typing import TYPE_CHECKING, Any

from transformers import AutoTokenizer

from trivium.tinylm import material, problems, records

if TYPE_CHECKING:
    from collections.abc import Callable

    from transformers import PreTrainedTokenizerFast

__all__ = ["arithmetic_prompts", "code_prompts", "main", "record_prompts"]

_MIN_PROMPT, _MAX_PROMPT = 110, 220
_MIN_REST, _MAX_REST = 40, 220
_RECORD_SEED = "trivium-record-prompts"
_PROBLEM_SEED = 20_000


def _split_function(
    lines: list[str], node: ast.FunctionDef, count: Callable[[str], int]
) -> tuple[str, str, int] | None:
    """Prompt, rest and first line of one function, None when it does not fit."""
    if ast.get_docstring(node) is None or len(node.body) < 4 or node.end_lineno is None:
        return None
    cut = node.body[2].lineno - 1
    rest = "\n".join(lines[cut : node.end_lineno]) + "\n"
    if not _MIN_REST <= count(rest) <= _MAX_REST:
        return None
    start = min([node.lineno, *(d.lineno for d in node.decorator_list)]) - 1
    prompt = "\n".join(lines[start:cut]) + "\n"
    if count(prompt) > _MAX_PROMPT:
        return None
    while start > 0:
        longer = lines[start - 1] + "\n" + prompt
        if count(longer) > _MAX_PROMPT:
            break
        prompt, start = longer, start - 1
    prompt = prompt.lstrip("\n")
    return (prompt, rest, node.lineno) if count(prompt) >= _MIN_PROMPT else None


def code_prompts(tokenizer: PreTrainedTokenizerFast, num: int) -> list[dict[str, Any]]:
    """Cut prompts out of the held-out standard-library files.

    Parameters
    ----------
    tokenizer : transformers.PreTrainedTokenizerFast
        Tokenizer that measures the lengths.
    num : int
        Number of prompts.

    Returns
    -------
    list of dict
        ``id``, ``source``, ``function``, ``prompt`` and ``reference``.
    """

    def count(text: str) -> int:
        return len(tokenizer(text, add_special_tokens=False)["input_ids"])

    root = Path(sysconfig.get_paths()["stdlib"])
    by_file: list[list[dict[str, Any]]] = []
    for path in material.code_files(heldout=True):
        text = path.read_text(encoding="utf-8").expandtabs(8)
        lines, found = text.split("\n"), []
        for node in ast.walk(ast.parse(text)):
            if not isinstance(node, ast.FunctionDef):
                continue
            parts = _split_function(lines, node, count)
            if parts is not None:
                source = path.relative_to(root).as_posix()
                found.append(
                    {
                        "id": f"code/{source}:{parts[2]}",
                        "source": source,
                        "function": node.name,
                        "prompt": parts[0],
                        "reference": parts[1],
                    }
                )
        by_file.append(found)
    rounds = [
        found[i] for i in range(max(map(len, by_file))) for found in by_file if i < len(found)
    ]
    return sorted(rounds[:num], key=lambda entry: entry["id"])


def record_prompts(num: int) -> list[dict[str, Any]]:
    """Draw prompts for records, the kinds in turn.

    Parameters
    ----------
    num : int
        Number of prompts.

    Returns
    -------
    list of dict
        ``id``, ``kind``, ``schema``, ``prompt`` (an example pair and an open one) and
        ``reference``.
    """
    rng = random.Random(_RECORD_SEED)
    cases = []
    for i in range(num):
        kind = records.KINDS[i % len(records.KINDS)]
        example = "".join(records.pair(rng, kind)) + "\n"
        prompt, reference = records.pair(rng, kind)
        cases.append(
            {
                "id": f"records/{i:02}",
                "kind": kind,
                "schema": records.SCHEMAS[kind],
                "prompt": example + prompt,
                "reference": reference,
            }
        )
    return cases


def arithmetic_prompts(num: int, levels: list[int]) -> list[dict[str, Any]]:
    """Draw held-out problems, the levels in turn.

    Parameters
    ----------
    num : int
        Number of prompts.
    levels : list of int
        Levels to draw from.

    Returns
    -------
    list of dict
        ``id``, ``level``, ``prompt``, ``solution`` and ``answer``.
    """
    share = -(-num // len(levels))
    drawn = [problems.generate(_PROBLEM_SEED, share, "heldout", level) for level in levels]
    cases = [problem for group in zip(*drawn, strict=True) for problem in group][:num]
    return [
        {
            "id": f"arithmetic/{i:03}",
            "level": case.level,
            "prompt": case.prompt,
            "solution": case.solution,
            "answer": case.answer,
        }
        for i, case in enumerate(cases)
    ]


def main(argv: list[str] | None = None) -> int:
    """Run the command.

    Parameters
    ----------
    argv : list of str, optional
        Arguments; those of the process when absent.

    Returns
    -------
    int
        Exit code.
    """
    here = Path(__file__).parent
    parser = argparse.ArgumentParser(
        prog="python -m trivium.tinylm.make_prompts", description=__doc__
    )
    parser.add_argument("--out", type=Path, default=here / "prompts")
    parser.add_argument("--tokenizer", type=Path, default=here / "target")
    parser.add_argument("--levels", type=int, nargs="+", default=[3, 4])
    args = parser.parse_args(argv)
    args.out.mkdir(parents=True, exist_ok=True)
    kinds = {
        "code": code_prompts(AutoTokenizer.from_pretrained(args.tokenizer), 24),
        "records": record_prompts(16),
        "arithmetic": arithmetic_prompts(200, args.levels),
    }
    for kind, cases in kinds.items():
        text = json.dumps(cases, indent=1) + "\n"
        (args.out / f"{kind}.json").write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
