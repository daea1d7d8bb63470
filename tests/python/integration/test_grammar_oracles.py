"""The oracles of grammars: what decides, independently, whether masks are right.

=  ==========================================  ===========================================================
#  oracle                                      tests (file: function)
=  ==========================================  ===========================================================
1  brute force, regular languages              rust/trivium-grammar/tests/regex.rs: random_patterns_have_exact_masks
1  a second matcher                            tests/python/property/test_grammar_dialects.py: test_random_patterns_equal_re
2  brute force, context-free                   rust/trivium-grammar/tests/cfg.rs: masks_are_those_of_the_definition
3  tokenisation does not matter                rust/trivium-grammar/tests/regex.rs: tokenisation_does_not_matter
4  caches change no mask                       this file: test_masks_by_definition_are_the_same
4  eviction, threads                           rust/trivium-grammar/tests/matcher.rs: masks_survive_eviction_and_threads
4  class tries change no mask                  rust/trivium-grammar/tests/regex.rs: slices_change_no_mask
5  walks under masks validate                  this file: test_walks_validate
5  the same on random schemas                  rust/trivium-grammar/tests/json_schema_walks.rs: masks_are_the_validator
6  valid instances are accepted                tests/python/integration/test_schema_data.py: test_maskbench_sample
6  in any order of members                     this file: test_members_in_any_order
7  set algebra                                 rust/trivium-grammar/tests/json_schema_algebra.rs: algebra_is_the_validator
8  official suite                              tests/python/integration/test_schema_data.py: test_official_suite_required
9  numbers                                     rust/trivium-grammar/src/automata/number_tests.rs: all_short_decimals
9  all of three and three digits               rust/trivium-grammar/src/automata/number_tests.rs: all_decimals_of_three_and_three_digits
10 trees                                       tests/python/property/test_grammar_laws.py: test_trees_and_batches_equal_the_loop
11 forced bytes                                rust/trivium-grammar/tests/matcher.rs: forced_bytes_are_the_common_prefix_of_all_completions
12 weights by enumeration                      tests/python/unit/test_constrained.py: test_weights_are_unbiased_by_enumeration
12 ASAp                                        tests/python/unit/test_constrained_asap.py: test_estimates_never_fall_below_the_exact_mass_and_meet_it
12 particles                                   tests/python/unit/test_constrained_smc.py: test_the_mean_weight_is_the_mass_of_the_language_by_enumeration
13 DINGO                                       tests/python/unit/test_constrained_dingo.py: test_the_best_block_and_the_mass_are_those_of_all_strings
13 emptiness under gaps                        tests/python/unit/test_constrained_canvas.py: test_exact_canvases_are_those_with_a_filling
13 spans                                       tests/python/unit/test_constrained_extract.py: test_the_best_span_is_that_of_all_spans
14 peers, every difference explained           this file: test_differences_from_peers_are_explained
15 hostile input                               rust/trivium-grammar/tests/hostile.rs: cyclic_references_end
15 random input                                rust/trivium-grammar/tests/random_driver.rs: random_input_is_answered
=  ==========================================  ===========================================================

The longer runs are marked ``slow`` (here) or ``#[ignore]`` (Rust).
"""  # noqa: E501 - a table

from __future__ import annotations

import gzip
import importlib.util
import json
import os
import random
import re
import subprocess
import sys
import zlib
from collections import Counter
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from trivium import GrammarMask, Vocabulary, fill_batch
from trivium.errors import MissingExtraError, TriviumError

ROOT = Path(__file__).resolve().parents[3]
CASES = ROOT.parent / "shared" / "data" / "maskbench-dev" / "cases.jsonl.gz"
LIBERAL: dict[str, Any] = {
    "order": "any",
    "whitespace": "any",
    "escapes": "any",
    "numbers": "any",
}
BYTES = Vocabulary([bytes([b]) for b in range(256)] + [b""], eos=[256])
PIECES = Vocabulary(
    [bytes([b]) for b in range(256)]
    + [s.encode() for s in ('":', '","', '{"', '"}', "[]", "null", "true", "10", "ab", 'é"', "é")]
    + [b"a\xc3", b"\xa9b", b""],
    eos=[269],
)


def cases(count: int, seed: int = 0) -> list[dict]:
    """A random sample of the development cases."""
    if not CASES.exists():
        pytest.skip("the shared data is not beside this checkout (../shared/data/maskbench-dev)")
    with gzip.open(CASES, "rt", encoding="utf-8") as f:
        all_cases = [json.loads(line, parse_float=Decimal) for line in f]
    return random.Random(seed).sample(all_cases, min(count, len(all_cases)))


def text_of(value: Any) -> str:
    """JSON; decimals as they were written."""
    return json.dumps(value, ensure_ascii=False, default=float)


def compiled(schema: Any, vocab: Vocabulary, **options: Any) -> GrammarMask | None:
    try:
        return GrammarMask.json_schema(text_of(schema), vocab, **options)
    except TriviumError:
        return None


def allowed(row: np.ndarray) -> list[int]:
    """Ids of the set bits."""
    return np.flatnonzero(np.unpackbits(row.view(np.uint8), bitorder="little")).tolist()


def validator(schema: Any) -> Any:
    """An independent judge, formats included; skips where the package is not installed."""
    jsonschema = pytest.importorskip("jsonschema")
    default = jsonschema.Draft202012Validator
    if '"dependencies"' in text_of(schema):
        # Applied here in every dialect, as validators that are compatible with old schemas do.
        default = jsonschema.Draft7Validator
    cls = jsonschema.validators.validator_for(schema, default)
    return cls(schema, format_checker=cls.FORMAT_CHECKER)


def is_valid(judge: Any, text: bytes) -> bool | None:
    """Whether a text is JSON and valid; ``None`` where the judge itself fails."""
    try:
        value = json.loads(text, parse_float=Decimal)
    except ValueError:
        return False
    try:
        valid = not any(judge.iter_errors(value))
        # RFC 3339 has a year 0000, the judge's `datetime` has none.
        return None if not valid and '"0000-' in text_of(value) else valid
    except Exception:  # a pattern that Python's `re` has not, a reference it may not fetch
        return None


def way_out(tokens: set[int], closers: bytes = b'}]",:0129.-anuletrfsTZ/@E ') -> list[int]:
    """Bytes that lead to an end, the likeliest first: inside a string that is the quote."""
    order = b'"' + closers if len(tokens) > 60 else closers
    return [t for t in order if t in tokens]


# ---- the table ----------------------------------------------------------------------------------


def test_the_table_names_tests_that_exist():
    rows = re.findall(r"^(\d+) +\S.*?(\S+): (\w+)$", __doc__ or "", re.MULTILINE)
    assert {int(n) for n, _, _ in rows} == set(range(1, 16))
    for _, file, name in rows:
        path = Path(__file__) if file == "file" else ROOT / file
        assert re.search(rf"\b(def|fn) {name}\b", path.read_text(encoding="utf-8")), (file, name)


# ---- 4: caches ----------------------------------------------------------------------------------


def trace(count: int, seed: int) -> list[int]:
    """Checksums of rows on walks: single fills, after ways back, of forks, trees, batches."""
    out = []
    rng = random.Random(seed)
    for case in cases(count, seed):
        mask = compiled(case["schema"], PIECES)
        if mask is None:
            continue
        m = mask.matcher()
        row = np.zeros(m.words, dtype=np.int32)
        for _ in range(25):
            if not m.fill(row):
                break
            out.append(zlib.crc32(row.tobytes()))
            tokens = allowed(row)
            what = rng.random()
            if what < 0.1 and len(m) > 2:
                m.rollback(rng.randint(1, 2))
                continue
            if what < 0.2:
                fork = m.fork()
                rows = np.zeros((2, m.words), dtype=np.int32)
                fill_batch([fork, m], rows)
                out.append(zlib.crc32(rows.tobytes()))
            if what < 0.3:
                drafts = [0, rng.choice(tokens), rng.choice(tokens), rng.randrange(256)]
                rows = np.zeros((4, m.words), dtype=np.int32)
                m.fill_tree([-1, 0, 0, 1], drafts, rows)
                out.append(zlib.crc32(rows.tobytes()))
            m.commit(rng.choice(tokens))
            if m.is_finished():
                break
    return out


def traced(count: int, seed: int, slow: bool) -> list[int]:
    env = {**os.environ, "TRIVIUM_MASK_SLOW": "1" if slow else "0"}
    made = subprocess.run(
        [sys.executable, __file__, str(count), str(seed)],
        env=env,
        capture_output=True,
        text=True,
        check=True,
        timeout=3600,
    )
    return json.loads(made.stdout)


def check_traces(count: int, seed: int) -> None:
    cases(1)  # skips without data
    fast, slow = traced(count, seed, slow=False), traced(count, seed, slow=True)
    assert fast == slow
    assert len(fast) > 5 * count


def test_masks_by_definition_are_the_same():
    check_traces(25, 3)


@pytest.mark.slow
@pytest.mark.timeout(0)
def test_masks_by_definition_are_the_same_everywhere():
    check_traces(600, 4)


# ---- 5: soundness -------------------------------------------------------------------------------


def finish(m: Any, rng: random.Random, steps: int) -> bytes | None:
    """A walk by the masks: `steps` uniform tokens, then a way out. ``None`` without an end."""
    row = np.zeros(m.words, dtype=np.int32)
    text = b""
    for i in range(steps + 150):
        if not m.fill(row):
            return None
        tokens = allowed(row)
        if i >= steps:
            if m.is_accepting():
                return text
            way = way_out(set(tokens))
            token = way[0] if way and rng.random() < 0.9 else rng.choice(tokens)
        else:
            token = rng.choice(tokens)
        if token in PIECES.eos:
            return text
        assert m.commit(token)
        text += PIECES.token(token)
    return None


def check_walks(count: int, seed: int) -> None:
    rng = random.Random(seed)
    seen: Counter = Counter()
    wrong = []
    for case in cases(count, seed):
        judge = validator(case["schema"])
        mask = compiled(case["schema"], PIECES, order=rng.choice(["schema", "any"]))
        if mask is None:
            seen["refused"] += 1
            continue
        for _ in range(3):
            text = finish(mask.matcher(), rng, rng.randint(0, 60))
            verdict = None if text is None else is_valid(judge, text)
            seen[str(verdict)] += 1
            if verdict is False:
                wrong.append(f"{case['id']}: {text!r}")
    # ECMA's \D, \W and \S hold characters that Python's do not; the judge uses Python's.
    assert not wrong, wrong
    assert seen["True"] >= 1.5 * count, seen


def test_walks_validate():
    check_walks(40, 5)


@pytest.mark.slow
@pytest.mark.timeout(0)
def test_walks_validate_everywhere():
    check_walks(600, 6)


# ---- 6: completeness ----------------------------------------------------------------------------


def shuffled(value: Any, rng: random.Random) -> Any:
    if isinstance(value, dict):
        items = [(k, shuffled(v, rng)) for k, v in value.items()]
        rng.shuffle(items)
        return dict(items)
    if isinstance(value, list):
        return [shuffled(v, rng) for v in value]
    return value


def test_members_in_any_order():
    rng = random.Random(7)
    checked = 0
    for case in cases(80, 7):
        mask = compiled(case["schema"], BYTES, **LIBERAL)
        for test in case["tests"] if mask else []:
            if test["valid"] and case["id"] != "Github_hard---o71307":
                text = text_of(shuffled(test["data"], rng)).encode(errors="replace")
                assert mask.matches(text), (case["id"], text)
                checked += 1
    assert checked > 40


# ---- 14: peers ----------------------------------------------------------------------------------


class Side:
    """One engine: its matcher moves, and a text can be completed by its masks."""

    def __init__(self, engine: Any, schema: str) -> None:
        self.engine, self.compiled = engine, engine.compile(schema)
        self.matcher = engine.start(self.compiled)

    def next_bytes(self, prefix: bytes) -> set[int] | None:
        """Bytes that may follow; ``None`` if the prefix is refused."""
        self.matcher = self.engine.start(self.compiled)
        for b in prefix:
            if not self.engine.advance(self.matcher, b):
                return None
        self.engine.fill(self.matcher)
        return {t for t in allowed(np.ascontiguousarray(self.engine.row)) if t < 256}

    def complete(self, prefix: bytes, rng: random.Random) -> bytes | None:
        """A text that begins with the prefix and may end; ``None`` if none was found."""
        text = prefix
        if self.next_bytes(prefix) is None:
            return None
        for i in range(400):
            if self.engine.ends(self.matcher):
                return text
            self.engine.fill(self.matcher)
            tokens = {t for t in allowed(np.ascontiguousarray(self.engine.row)) if t < 256}
            if not tokens:
                return None
            way = way_out(tokens)
            greedy = way and (i < 30 or rng.random() < 0.8)
            token = way[0] if greedy else rng.choice(sorted(tokens))
            if not self.engine.advance(self.matcher, token):
                return None
            text += bytes([token])
        return None


def repeats_a_key(text: bytes) -> bool:
    """Whether some object of a JSON text has a key twice."""
    sizes: list[tuple[int, int]] = []

    def note(pairs: list) -> dict:
        made = dict(pairs)
        sizes.append((len(made), len(pairs)))
        return made

    json.loads(text, object_pairs_hook=note)
    return any(kept < written for kept, written in sizes)


def explain(case: dict, judge: Any, ours: Side, theirs: Side, prefix: bytes, rng: Any) -> Counter:
    """What the differences at a prefix are due to; a key that begins with BUG is ours."""
    seen: Counter = Counter()
    mine, other = ours.next_bytes(prefix), theirs.next_bytes(prefix)
    if mine is None or other is None:
        return seen
    seen["same" if mine == other else "different"] += 1
    for b in sorted(mine - other)[:3]:
        text = ours.complete(prefix + bytes([b]), rng)
        verdict = None if text is None else is_valid(judge, text)
        if verdict is False:
            seen[f"BUG {case['id']} lets {text!r} through"] += 1
        elif verdict is None:
            seen["not decided"] += 1
        else:
            seen["peer refuses a valid text"] += 1
    for b in sorted(other - mine)[:3]:
        text = theirs.complete(prefix + bytes([b]), rng)
        if text is None:
            seen["peer leads nowhere"] += 1
            continue
        verdict = is_valid(judge, text)
        try:
            repeated = repeats_a_key(text)
        except ValueError:
            seen["peer lets through what is no JSON"] += 1
            continue
        free = compiled(case["schema"], BYTES, **LIBERAL)
        plain = compiled(case["schema"], BYTES, **LIBERAL, formats="annotate")
        if verdict is False:
            seen["peer lets an invalid text through"] += 1
        elif repeated:
            seen["peer repeats a key"] += 1
        elif text != text.strip():
            seen["peer puts white space around the value"] += 1
        elif free is not None and free.matches(text):
            seen["another spelling"] += 1
        elif plain is not None and plain.matches(text):
            seen["a format that the judge does not look at so closely"] += 1
        elif verdict is None:
            seen["not decided"] += 1
        else:
            seen[f"BUG {case['id']} refuses {text!r}"] += 1
    return seen


def check_peer(name: str, count: int, seed: int) -> Counter:
    if importlib.util.find_spec(name) is None:
        pytest.skip(f"{name} is not installed")
    from trivium.cli.mask_engines import Trivium, peer

    try:
        theirs_engine = peer(name, BYTES)
    except MissingExtraError as e:
        pytest.skip(f"{name} cannot be imported: {e.__cause__}")
    ours_engine = Trivium(BYTES, whitespace="any", escapes="any")
    rng = random.Random(seed)
    total: Counter = Counter()
    for case in cases(count, seed):
        judge = validator(case["schema"])
        schema = text_of(case["schema"])
        try:
            ours, theirs = Side(ours_engine, schema), Side(theirs_engine, schema)
        except Exception:
            total["refused by one"] += 1
            continue
        texts = [text_of(t["data"]).encode(errors="replace") for t in case["tests"] if t["valid"]]
        for text in (texts or [b""])[:2]:
            for _ in range(2):
                prefix = text[: rng.randint(0, len(text))]
                total += explain(case, judge, ours, theirs, prefix, rng)
    print(name, dict(total))
    return total


def bugs(total: Counter) -> list[str]:
    return [k for k in total if k.startswith("BUG")]


@pytest.mark.parametrize("name", ["llguidance", "xgrammar"])
def test_differences_from_peers_are_explained(name):
    total = check_peer(name, 25, 8)
    assert not bugs(total)
    assert total["same"] + total["different"] >= 25


@pytest.mark.slow
@pytest.mark.timeout(0)
@pytest.mark.parametrize("name", ["llguidance", "xgrammar"])
def test_all_differences_from_peers_are_explained(name):
    assert not bugs(check_peer(name, 600, 9))


if __name__ == "__main__":
    print(json.dumps(trace(int(sys.argv[1]), int(sys.argv[2]))))
