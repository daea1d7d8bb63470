"""Verification of a 64-node tree at 128k tokens against the same rule in torch and in numpy.

    python benches/verification.py [--vocab 131072] [--rounds 9] [--json PATH]

One thread on every side, rounds interleaved, medians, one process. What the peers do is what
engines do: softmax of every row of the tree in one batched call, one ordinary draw a row, then the
walk; for a chain, the gathers, tests, excess of every row and the residual of block verification.
The draw is the inverse CDF at our own uniforms, so that texts can be compared before anything is
timed, and once more torch.multinomial, which is what engines call.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from pathlib import Path

import numpy as np
from trivium import Speculator
from trivium.speculator import TreeBatch

NODES = 64
DEPTH = 7


def philox(ctr: list[int], key: list[int]) -> list[int]:
    """Philox4x32-10."""
    c, k = list(ctr), list(key)
    for _ in range(10):
        a, b = 0xD2511F53 * c[0], 0xCD9E8D57 * c[2]
        c = [(b >> 32) ^ c[1] ^ k[0], b & 0xFFFFFFFF, (a >> 32) ^ c[3] ^ k[1], a & 0xFFFFFFFF]
        k = [(k[0] + 0x9E3779B9) & 0xFFFFFFFF, (k[1] + 0xBB67AE85) & 0xFFFFFFFF]
    return c


def scalar(seed: int, index: int) -> float:
    """The scalar that chooses the token at `index`: so the peers draw what we draw."""
    a, b, _, _ = philox([0, index, 0, 0], [seed, 0])
    return ((a >> 5) * 2**26 + (b >> 6)) * 2.0**-53


def walk(tokens, parents, drawn) -> list[int]:
    """The emitted tokens: each row's draw, followed while a child carries it."""
    node, out = 0, []
    while True:
        out.append(int(drawn[node]))
        child = [c for c in range(len(tokens)) if parents[c] == node and tokens[c] == out[-1]]
        if not child:
            return out
        node = child[0]


def numpy_rule(z, u):
    def run():
        e = np.exp(z - z.max(axis=1, keepdims=True))
        c = np.cumsum(e, axis=1, dtype=np.float64)
        return (c <= (u * c[:, -1])[:, None]).sum(axis=1)

    return run


def torch_rule(z, u):
    import torch

    torch.set_num_threads(1)
    z, u = torch.from_numpy(z), torch.from_numpy(u)

    def run():
        c = torch.softmax(z, -1).double().cumsum(-1)
        return torch.searchsorted(c, (u * c[:, -1])[:, None], right=True)[:, 0]

    return run


def multinomial_rule(z):
    import torch

    z = torch.from_numpy(z)
    return lambda: torch.multinomial(torch.softmax(z, -1), 1)[:, 0]


def block_numpy(z, q, chain, u, v):
    """Block verification as its paper writes it: ratios, excess of every row, last success."""

    def run():
        p = np.exp(z - z.max(axis=1, keepdims=True))
        p /= p.sum(axis=1, keepdims=True)
        i = np.arange(len(chain))
        weight = [1.0]
        for r in p[i, chain] / q[i, chain]:
            weight.append(min(1.0, weight[-1] * r))
        w = np.array(weight, np.float32)
        excess = np.maximum(w[:-1, None] * p[:-1] - q, 0).sum(axis=1)
        h = np.append(excess / np.maximum(excess + 1 - w[:-1], 1e-30), w[-1])
        tau = max((k for k in range(len(chain) + 1) if k == 0 or u[k - 1] < h[k]), default=0)
        last = np.maximum(w[tau] * p[tau] - q[tau], 0) if tau < len(chain) else p[tau]
        c = np.cumsum(last, dtype=np.float64)
        return tau, int((c <= v * c[-1]).sum())

    return run


def block_torch(z, q, chain, u, v):
    import torch

    z, q, chain = torch.from_numpy(z), torch.from_numpy(q), torch.from_numpy(chain)

    def run():
        p = torch.softmax(z, -1)
        i = torch.arange(len(chain))
        weight = [1.0]
        for r in (p[i, chain] / q[i, chain]).tolist():
            weight.append(min(1.0, weight[-1] * r))
        w = torch.tensor(weight)
        excess = (w[:-1, None] * p[:-1] - q).clamp_min(0).sum(-1)
        h = torch.cat([excess / (excess + 1 - w[:-1]).clamp_min(1e-30), w[-1:]]).tolist()
        tau = max((k for k in range(len(chain) + 1) if k == 0 or u[k - 1] < h[k]), default=0)
        last = (w[tau] * p[tau] - q[tau]).clamp_min(0) if tau < len(chain) else p[tau]
        c = last.double().cumsum(-1)
        return tau, int(torch.searchsorted(c, v * c[-1], right=True))

    return run


def timed(runs: dict, rounds: int) -> dict[str, list[float]]:
    times: dict[str, list[float]] = {k: [] for k in runs}
    for turn in range(rounds + 1):
        for key, run in runs.items():
            start = time.perf_counter()
            run()
            if turn:
                times[key].append((time.perf_counter() - start) * 1e6)
    return times


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--vocab", type=int, default=131_072)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    import torch

    torch.set_num_threads(1)
    rng = np.random.default_rng(0)
    z = rng.normal(size=(NODES, args.vocab)).astype(np.float32) * 3
    spec = Speculator(args.vocab, sources=[], seed=1)
    req = spec.start([1])
    # A chain that the seeded text follows, then siblings that it does not.
    tokens, parents = [1], [-1]
    for node in range(DEPTH):
        part = TreeBatch.from_arrays(tokens, parents, [0, len(tokens)], requests=[req])
        tokens.append(int(spec.verify(part, logits=z[: len(tokens)]).tokens[-1]))
        parents.append(node)
    siblings = NODES - len(tokens)
    tokens += [int(t) for t in rng.integers(0, args.vocab, siblings)]
    parents += [int(rng.integers(0, DEPTH)) for _ in range(siblings)]
    tree = TreeBatch.from_arrays(tokens, parents, [0, NODES], requests=[req])
    depth = [0] * NODES
    for i in range(1, NODES):
        depth[i] = depth[parents[i]] + 1
    u = np.array([scalar(1, 1 + d) for d in depth])
    peers = {"numpy": numpy_rule(z, u), "torch": torch_rule(z, u)}
    out = spec.verify(tree, logits=z)
    for name, run in peers.items():
        drawn = walk(tokens, parents, run())
        print(f"{name}: same text {drawn == out.tokens.tolist()}, {len(drawn) - 1} accepted")
    cases = [
        (
            f"sampled-verify from logits, {NODES} nodes, {len(out.tokens) - 1} accepted",
            {
                "trivium": lambda: spec.verify(tree, logits=z),
                **peers,
                "torch.multinomial": multinomial_rule(z),
            },
        )
    ]

    zp = rng.normal(size=(DEPTH + 1, args.vocab)).astype(np.float32)
    q = np.exp(zp + rng.normal(size=zp.shape).astype(np.float32) * 0.3)
    q /= q.sum(axis=1, keepdims=True, dtype=np.float64).astype(np.float32)
    chain = np.array(
        [rng.choice(args.vocab, p=row / row.sum()) for row in q[:DEPTH].astype(np.float64)]
    )
    law = Speculator(args.vocab, sources=[], seed=1, verifier="block")
    owner = law.start([1])
    line = TreeBatch.from_arrays(
        [1, *chain.tolist()], list(range(-1, DEPTH)), [0, DEPTH + 1], requests=[owner], law="iid"
    )
    uniforms = rng.random(DEPTH)
    cases.append(
        (
            f"block verification from logits and q, chain of {DEPTH}",
            {
                "trivium": lambda: law.verify(line, logits=zp, q=q),
                "numpy": block_numpy(zp, q[:DEPTH], chain, uniforms, 0.4),
                "torch": block_torch(zp, q[:DEPTH], chain, uniforms, 0.4),
            },
        )
    )
    results = []
    for name, runs in cases:
        median = {k: statistics.median(v) for k, v in timed(runs, args.rounds).items()}
        ratios = ", ".join(
            f"{k} {t / median['trivium']:.1f}x" for k, t in median.items() if k != "trivium"
        )
        print(f"{name}: " + ", ".join(f"{k} {t:.0f} us" for k, t in median.items()) + f"; {ratios}")
        results += [
            {"name": name, "unit": "us", "median": median["trivium"], "n": args.rounds}
            | {"peer": f"{k}, 1 thread, all rows", "peer_median": t}
            for k, t in median.items()
            if k != "trivium"
        ]
    if args.json:
        args.json.write_text(json.dumps({"results": results}, indent=1))


if __name__ == "__main__":
    main()
