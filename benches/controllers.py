#!/usr/bin/env python3
"""Replay recorded texts under every policy and compare with the best fixed length (no model).

    python benches/controllers.py TRACES.jsonl.gz [--rows 12] [--task chat,math] [--costs 0.01,0.05]

A step over n drafted nodes is taken to cost ``1 + c n`` target passes; policies that read times
are told so. Reported is the rate of a policy, tokens over cost, as a share of the rate of the best
fixed length in hindsight, and the nodes drafted a step. Greedy replay is exact: a draft is accepted
when it equals the recording.
"""

from __future__ import annotations

import argparse
import gzip
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
from trivium import Speculator

VOCAB = 128_256
LENGTHS = (0, 1, 2, 4, 8, 16, 32)
POLICIES = (
    "auto",
    "full",
    "heuristic",
    "kangaroo",
    "draft_verify",
    "svip",
    "specdec++",
    "disco",
    "ucb",
    "ucb_rate",
    "exp3",
    "thompson",
    "pearl",
    "adaptive",
)


def accepted(parents: list[int], tokens: list[int], truth: list[int]) -> list[int]:
    """Nodes of the longest path whose tokens equal `truth`."""
    children = {(p, t): n for n, (p, t) in enumerate(zip(parents, tokens, strict=True)) if n}
    path, at = [], 0
    for token in truth:
        at = children.get((at, token), -1)
        if at < 0:
            break
        path.append(at)
    return path


def replay(rows: list[dict[str, Any]], policy: str, cost: float, nodes: int = 33) -> dict[str, Any]:
    """Steps, tokens and drafted nodes of one policy over all rows, in order, stores kept."""
    spec = Speculator(VOCAB, max_nodes=nodes, max_depth=nodes, policy=policy, seed=0)
    steps = tokens = drafted = 0
    for row in rows:
        truth = row["output"]
        req = spec.start(np.asarray(row["prompt"], dtype=np.int32))
        at = 0
        while at < len(truth):
            batch = spec.propose([req])
            n = len(batch.tokens)
            path = accepted(batch.parents.tolist(), batch.tokens.tolist(), truth[at:])
            steps += 1
            drafted += n - 1
            spec.observe_forward(n, 1.0 + cost * (n - 1))
            if at + len(path) >= len(truth):
                tokens += len(truth) - at
                req.commit(truth[at:])
                break
            sampled = np.full(n, -1, dtype=np.int64)
            for k, node in enumerate([0, *path]):
                sampled[node] = truth[at + k]
            spec.commit(spec.verify(batch, sampled=sampled))
            tokens += len(path) + 1
            at += len(path) + 1
        req.finish()
    return {
        "steps": steps,
        "tokens": tokens,
        "drafted": drafted,
        "rate": tokens / (steps + cost * drafted),
    }


def compare(
    rows: list[dict[str, Any]], cost: float, policies: tuple[str, ...] = POLICIES
) -> dict[str, dict[str, Any]]:
    """Every policy with its share of the best fixed length's rate; ``"best"`` is that length."""
    fixed = {n: replay(rows, f"fixed:{n}", cost) for n in LENGTHS}
    best = max(LENGTHS, key=lambda n: fixed[n]["rate"])
    out: dict[str, dict[str, Any]] = {"best": {"length": best, **fixed[best]}}
    for policy in policies:
        result = replay(rows, policy, cost)
        out[policy] = {**result, "share": result["rate"] / fixed[best]["rate"]}
    return out


def load(path: Path, task: str, limit: int) -> list[dict[str, Any]]:
    """The first rows of a task."""
    with gzip.open(path, "rt") as lines:
        rows = [json.loads(line) for line in lines]
    return [row for row in rows if row["task"] == task][:limit]


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("traces", type=Path)
    parser.add_argument("--rows", type=int, default=12)
    parser.add_argument("--task", default="chat,math,agent")
    parser.add_argument("--costs", default="0.01,0.05")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    tasks, costs = args.task.split(","), [float(c) for c in args.costs.split(",")]
    results: dict[str, dict[str, dict[str, Any]]] = {}
    for task in tasks:
        rows = load(args.traces, task, args.rows)
        for cost in costs:
            print(f"{task}, c = {cost}", file=sys.stderr, flush=True)
            results[f"{task} {cost}"] = compare(rows, cost)
    columns = list(results)
    print("| policy | " + " | ".join(columns) + " |")
    print("|:--|" + "--:|" * len(columns))
    best = [results[c]["best"] for c in columns]
    cells = [f"{b['rate']:.3f} ({b['length']})" for b in best]
    print("| best fixed: rate (length) | " + " | ".join(cells) + " |")
    for policy in POLICIES:
        row = [results[c][policy] for c in columns]
        cells = [f"{r['share']:.3f} ({r['drafted'] / r['steps']:.1f})" for r in row]
        print(f"| `{policy}` | " + " | ".join(cells) + " |")
    if args.json:
        args.json.write_text(json.dumps(results, indent=1))


if __name__ == "__main__":
    main()
