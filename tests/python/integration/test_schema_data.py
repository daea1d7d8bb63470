"""JSON Schema against two sets of cases: the official suite and MaskBench's development sample.

The data lies beside the checkout (``../shared``) and the tests skip, saying so, where it does not.
Texts are judged byte by byte, in the spelling that has every text of a valid value. The numbers are
ratchets: nothing may be wrongly accepted or refused, and what is refused at compile is counted.
"""

from __future__ import annotations

import gzip
import json
from collections import Counter
from pathlib import Path

import pytest
from trivium import GrammarMask, Vocabulary
from trivium.errors import UnsatisfiableError, UnsupportedSchema

ROOT = Path(__file__).resolve().parents[3]
DATA = ROOT.parent / "shared" / "data"
BYTES = Vocabulary([bytes([b]) for b in range(256)] + [b""], eos=[256])
SPELLING = {"order": "any", "escapes": "any", "numbers": "any"}

#: Cases whose label the data's own validator does not find (see the data's README).
NOT_BY_SCHEMA = {"Github_hard---o71307"}


def rows(folder: str, file: str) -> list[dict]:
    path = DATA / folder / file
    if not path.exists():
        pytest.skip(f"the shared data is not beside this checkout (../shared/data/{folder})")
    with gzip.open(path, "rt", encoding="utf-8") as f:
        return [json.loads(line) for line in f]


def judge(name: str, schema, tests, seen: Counter, wrong: list[str], **options) -> None:
    """Add a case's verdicts to the counts."""
    texts = []
    for test in tests:
        text = json.dumps(test["data"], ensure_ascii=False)
        try:
            texts.append((test["valid"], text.encode()))
        except UnicodeEncodeError:  # a lone surrogate is no text
            continue
    try:
        grammar = GrammarMask.json_schema(json.dumps(schema), BYTES, **SPELLING, **options)
    except UnsatisfiableError:
        seen["unsatisfiable"] += len(texts)
        wrong += [f"{name}: said to be empty, holds {t[1][:80]!r}" for t in texts if t[0]]
        return
    except UnsupportedSchema as e:
        if not (e.path and e.reason and e.hint):
            wrong.append(f"{name}: refused without a reason: {e}")
        seen["refused"] += len(texts)
        seen["schemas refused"] += 1
        return
    for valid, text in texts:
        if grammar.matches(text) == valid:
            seen["right"] += 1
        else:
            kind = "refuses" if valid else "accepts"
            wrong.append(f"{name} {kind} {text[:120]!r}")


def test_official_suite_required():
    remotes = DATA / "json-schema-test-suite" / "remotes.json.gz"
    groups = rows("json-schema-test-suite", "draft2020-12.jsonl.gz")
    with gzip.open(remotes, "rt", encoding="utf-8") as f:
        documents = json.load(f)
    seen: Counter = Counter()
    wrong: list[str] = []
    for group in groups:
        if "/" in group["file"]:
            continue
        name = f"{group['file']}: {group['description']}"
        judge(
            name,
            group["schema"],
            group["tests"],
            seen,
            wrong,
            remotes=documents,
            formats="annotate",
        )
    assert not wrong
    assert seen["right"] + seen["unsatisfiable"] >= REQUIRED, seen


@pytest.mark.parametrize("part", range(4))
def test_maskbench_sample(part):
    cases = rows("maskbench-dev", "cases.jsonl.gz")[part::4]
    seen: Counter = Counter()
    wrong: list[str] = []
    for case in cases:
        if case["id"] not in NOT_BY_SCHEMA:
            judge(case["id"], case["schema"], case["tests"], seen, wrong)
    assert not wrong
    assert seen["schemas refused"] <= REFUSED, seen


#: Tests of 1,299 that are right, with those of schemas that no value satisfies.
REQUIRED = 1_299
#: Schemas of a quarter of the sample that are refused.
REFUSED = 0
