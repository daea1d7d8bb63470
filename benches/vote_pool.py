"""A shared budget over all questions of recorded sets: where `pool="marginal"` spends it.

Run ``python benches/vote_pool.py DIR --name gsm8k_models``: DIR holds votes-v1 files. For each mean
number of samples a question: accuracy and agreement with the full vote of a fixed number of
samples, of the pool ranked by what a ballot is worth, and of the pool in the order of opening.
Shuffles are those of ``trivium vote run``.
"""

from __future__ import annotations

import argparse
import json
import sys
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from trivium import Voter
from trivium.cli.vote import load
from trivium.voter import Launch

CAP = 40
SLOTS = 64


def run(questions: list[list[int]], mean: int, pool: str) -> tuple[list[int], float]:
    """Winner of each question (-1: none), and samples a question."""
    v = Voter(
        "text",
        pool=pool,
        slots=SLOTS,  # what is launched at once is launched without looking
        total=mean * len(questions),
        stop="majority",
        budget=CAP,
        log=False,
    )
    where = {}
    for i, keys in enumerate(questions):
        where[v.open(str(i), budget=min(CAP, len(keys)))] = i
    actions = v.next()
    while actions:
        ends = [(a.q, t) for a in actions if isinstance(a, Launch) for t in a.traces]
        if not ends:
            break
        said = [questions[where[q]][t] for q, t in ends]
        answers = [None if key < 0 else str(key) for key in said]
        actions = v.finish_batch([q for q, _ in ends], [t for _, t in ends], answers=answers)
    results = [v.result(q) for q in where]
    winners = [-1 if r.winner is None else int(r.winner) for r in results]
    return winners, float(np.mean([r.cost.launched for r in results]))


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("dir")
    parser.add_argument("--name", nargs="*", default=["gsm8k_models", "mathl5", "crux"])
    parser.add_argument("--means", nargs="*", type=int, default=[4, 6, 8, 10, 14, 20])
    parser.add_argument("--perms", type=int, default=2)
    parser.add_argument("--json", metavar="PATH")
    args = parser.parse_args()
    found: dict[str, Any] = {}
    for path in sorted(Path(args.dir).glob("*.jsonl.gz")):
        if not any(name in path.name for name in args.name):
            continue
        loaded = load(path)
        print(path.name)
        print(f"{'mean':>5} {'fixed':>15} {'marginal':>15} {'fifo':>15}")
        for mean in args.means:
            rows: dict[str, list[tuple[float, float]]] = {"fixed": [], "marginal": [], "fifo": []}
            for perm in range(args.perms):
                questions, right = [], []
                for q in loaded.questions:
                    keys = [-1 if v["k"] is None else int(v["k"]) for v in q["votes"]]
                    seed = [0, perm, zlib.crc32(q["q"].encode())]
                    order = np.random.default_rng(seed).permutation(len(keys))
                    questions.append([keys[i] for i in order])
                    right.append({k for k, ok in enumerate(q["ok"]) if ok})
                full, _ = run(questions, CAP, "fifo")
                fixed = [run([keys[:mean]], mean, "fifo")[0][0] for keys in questions]
                for name, winners in (
                    ("fixed", fixed),
                    ("marginal", run(questions, mean, "marginal")[0]),
                    ("fifo", run(questions, mean, "fifo")[0]),
                ):
                    hits = [w in ok for w, ok in zip(winners, right, strict=True)]
                    same = [w == f for w, f in zip(winners, full, strict=True)]
                    rows[name].append((100 * float(np.mean(hits)), 100 * float(np.mean(same))))
            means = {name: np.mean(pairs, axis=0).tolist() for name, pairs in rows.items()}
            found.setdefault(path.name, {})[mean] = means
            cells = " ".join(f"{a:7.2f} {s:7.2f}" for a, s in means.values())
            print(f"{mean:5d} {cells}", flush=True)
    if not found:
        sys.exit("no file matches")
    if args.json:
        Path(args.json).write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
