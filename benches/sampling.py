"""Truncation and draw at 128k tokens: `Pipeline` against transformers' warpers, in one process.

    python benches/sampling.py [--vocab 131072] [--rounds 15] [--json PATH]

One thread on both sides, rounds interleaved, medians. The peer is what `generate` runs:
temperature, top-k, top-p and min-p warpers, softmax, multinomial. Rows: logits as a language model
has them (a peaked head over a broad tail), and flat noise, where top-p keeps tens of thousands.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from pathlib import Path

import numpy as np
from trivium.sampling import Pipeline


def rows(vocab: int, kind: str, n: int) -> np.ndarray:
    rng = np.random.default_rng(0)
    z = rng.normal(size=(n, vocab)).astype(np.float32)
    if kind == "peaked":
        head = rng.integers(0, vocab, size=(n, 200))
        np.put_along_axis(z, head, rng.exponential(3, size=(n, 200)).astype(np.float32) + 5, 1)
    return z


def peer(options: dict, z: np.ndarray):
    import torch
    from transformers.generation import logits_process as warpers

    torch.set_num_threads(1)
    chain = []
    if "temperature" in options:
        chain.append(warpers.TemperatureLogitsWarper(options["temperature"]))
    if "top_k" in options:
        chain.append(warpers.TopKLogitsWarper(options["top_k"]))
    if "top_p" in options:
        chain.append(warpers.TopPLogitsWarper(options["top_p"]))
    if "min_p" in options:
        chain.append(warpers.MinPLogitsWarper(options["min_p"]))
    tensors = [torch.from_numpy(row[None]) for row in z]

    def run(i: int) -> int:
        scores = tensors[i]
        for warper in chain:
            scores = warper(None, scores)
        return int(torch.multinomial(torch.softmax(scores, -1), 1))

    return run


def ours(options: dict, z: np.ndarray, draw: str):
    pipeline = Pipeline(**options)
    return lambda i: pipeline.sample(z[i], seed=1, index=i, draw=draw)[0]


def timed(run, n: int) -> float:
    start = time.perf_counter()
    for i in range(n):
        run(i)
    return (time.perf_counter() - start) / n * 1e6


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--vocab", type=int, default=131_072)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    cases = {
        "top-k": {"temperature": 0.8, "top_k": 50},
        "top-p": {"temperature": 0.8, "top_p": 0.95},
        "min-p": {"temperature": 0.8, "min_p": 0.05},
        "top-k, top-p, min-p": {"temperature": 0.8, "top_k": 50, "top_p": 0.95, "min_p": 0.05},
    }
    results = []
    for kind in ("peaked", "flat"):
        z = rows(args.vocab, kind, 4)
        for name, options in cases.items():
            runs = {
                "cdf": ours(options, z, "cdf"),
                "race": ours(options, z, "race"),
                "peer": peer(options, z),
            }
            times: dict[str, list[float]] = {k: [] for k in runs}
            for turn in range(args.rounds + 1):
                for key, run in runs.items():
                    t = timed(run, len(z))
                    if turn:
                        times[key].append(t)
            median = {k: statistics.median(v) for k, v in times.items()}
            results += [
                {
                    "name": f"sample {name}, {kind} rows, {draw}, vocab {args.vocab}",
                    "unit": "us/row",
                    "median": median[draw],
                    "min": min(times[draw]),
                    "max": max(times[draw]),
                    "n": args.rounds,
                    "peer": "transformers warpers + torch.multinomial, 1 thread",
                    "peer_median": median["peer"],
                }
                for draw in ("cdf", "race")
            ]
            print(
                f"{kind:7s} {name:20s} cdf {median['cdf']:8.0f} us  race {median['race']:8.0f} us  "
                f"peer {median['peer']:8.0f} us  ratio {median['peer'] / median['cdf']:6.1f}"
            )
    if args.json:
        args.json.write_text(json.dumps({"results": results}, indent=1))


if __name__ == "__main__":
    main()
