"""Random steps over many schemas without end: memory stays within the pools' bounds.

A walk takes a random allowed token (or, one time in eight, a random way back) and starts again when
the text ends or has 400 tokens. One grammar is alive at a time, as if others had been evicted. What
is measured is the process's resident memory; the bound is that of one grammar's pools (64 MiB of
expressions and states, as much of masks) with one retired run beside the fresh one, and what a
vocabulary keeps for the grammars to come: slices (96 MiB) and scans (24 MiB). Memory rises until
those are full, and by freed blocks that the allocator holds: these are given back before each
reading where the C library can (``malloc_trim``). ``TRIVIUM_STEPS`` sets the number of steps of the
long run.
"""

from __future__ import annotations

import ctypes
import gc
import gzip
import json
import os
import random
import sys
from pathlib import Path

import numpy as np
import pytest
from trivium import GrammarMask, Vocabulary
from trivium.errors import LimitExceeded, UnsatisfiableError, UnsupportedSchema

ROOT = Path(__file__).resolve().parents[3]
CASES = ROOT.parent / "shared" / "data" / "maskbench-dev" / "cases.jsonl.gz"

#: Tokens of a walk before it starts again.
LENGTH = 400
#: Steps in one schema before the next one's turn.
TURN = 2_000
#: Growth allowed past the first tour, in bytes.
BOUND = 256 << 20

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc/self/statm")


def resident() -> int:
    """Bytes of memory that the process holds, without what its allocator would give back."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # glibc only
    if trim is not None:
        trim(0)
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def schemas() -> list[str]:
    if not CASES.exists():
        pytest.skip("the shared data is not beside this checkout (../shared/data/maskbench-dev)")
    with gzip.open(CASES, "rt", encoding="utf-8") as f:
        return [json.dumps(json.loads(line)["schema"]) for line in f]


def draw(row: np.ndarray, rng: random.Random) -> int:
    """A random set bit: a random non-zero word, then one of its bits."""
    words = np.flatnonzero(row)
    at = int(words[rng.randrange(len(words))])
    word = int(row[at]) & 0xFFFF_FFFF
    bits = [i for i in range(32) if word >> i & 1]
    return 32 * at + rng.choice(bits)


def walk(mask: GrammarMask, rng: random.Random, steps: int) -> tuple[int, int]:
    """Steps made, and calls that met a limit."""
    matcher = mask.matcher()
    row = np.zeros((mask.vocab.num_rows + 31) // 32, dtype=np.int32)
    limits = 0
    for _ in range(steps):
        if len(matcher) > LENGTH:
            matcher.reset()
        try:
            if not matcher.fill(row):
                matcher.reset()
                continue
            if rng.random() < 0.125 and len(matcher):
                matcher.rollback(rng.randint(1, min(8, len(matcher))))
                continue
            token = draw(row, rng)
            assert matcher.commit(token), f"the mask allows {token}, commit does not"
        except LimitExceeded:
            limits += 1
            matcher.reset()
    return steps, limits


def tour(texts: list[str], vocab: Vocabulary, seed: int, steps: int) -> list[tuple[int, int]]:
    """(steps so far, resident bytes) after each tenth."""
    rng = random.Random(seed)
    done, limits, curve = 0, 0, []
    at = 0
    while done < steps:
        text = texts[at % len(texts)]
        at += 1
        try:
            mask = GrammarMask.json_schema(text, vocab)
        except (UnsatisfiableError, UnsupportedSchema):
            continue
        made, met = walk(mask, rng, TURN)
        done += made
        limits += met
        del mask
        if len(curve) < 20 * done // steps:
            gc.collect()
            curve.append((done, resident()))
            if steps > 100_000:
                held = curve[-1][1] >> 20
                print(f"{done:>10} steps, {held} MiB, {limits} limits met", flush=True)
    return curve


def check(curve: list[tuple[int, int]]) -> None:
    # The first quarter warms up: vocabulary, slices, class tries, pools at their bounds.
    first = curve[len(curve) // 4][1]
    assert max(m for _, m in curve) - first < BOUND, curve


def test_memory_stays_bounded():
    vocab = Vocabulary([bytes([b]) for b in range(256)] + [b'":', b'",', b"null", b""], eos=[259])
    check(tour(random.Random(0).sample(schemas(), 40), vocab, seed=1, steps=20 * TURN))


@pytest.mark.slow
@pytest.mark.timeout(0)
def test_ten_million_steps(vocab_folder):
    if "TRIVIUM_STEPS" not in os.environ:
        pytest.skip("set TRIVIUM_STEPS, for example to 10000000 (half an hour)")
    vocab = Vocabulary.load(vocab_folder / "llama-bpe.safetensors")
    check(tour(schemas(), vocab, seed=2, steps=int(os.environ["TRIVIUM_STEPS"])))
