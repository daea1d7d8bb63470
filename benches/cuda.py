"""Kernels on a GPU against the same rules written in torch: medians of device events, as JSON.

    python benches/cuda.py [--json PATH] [--rows 64] [--nodes 16] [--vocab 128256] [--repeats 30]

Needs a CUDA device, torch for it, and trivium with its kernels. Each line names the rule, the
bytes that it must move, the floor (those bytes over the copy bandwidth measured here), trivium's
median and torch's. Inputs rotate through more memory than the second-level cache holds. trivium's
calls end with tokens on the host, so its times hold one synchronisation and a copy of a few bytes;
torch's rules end with tokens on the device, synchronised alike. Exit code 1 where a token differs
from the host's, 2 without a device.
"""

from __future__ import annotations

import argparse
import datetime
import json
import statistics
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable

CACHE_BYTES = 256 << 20  # above any second-level cache


def timed(torch: Any, call: Callable[[int], object], repeats: int) -> dict[str, float]:
    """Milliseconds by device events; `call` gets the turn, to rotate its input."""
    for turn in range(5):
        call(turn)
    times = []
    for turn in range(repeats):
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        torch.cuda.synchronize()
        start.record()
        call(turn)
        end.record()
        torch.cuda.synchronize()
        times.append(start.elapsed_time(end))
    return {"median": statistics.median(times), "min": min(times), "max": max(times), "n": repeats}


def bandwidth(torch: Any, repeats: int) -> float:
    """Bytes a millisecond of a device copy, read and write counted."""
    source = torch.empty(1 << 30, dtype=torch.uint8, device="cuda")
    target = torch.empty_like(source)
    best = timed(torch, lambda _: target.copy_(source), repeats)["median"]
    return 2 * source.numel() / best


def gumbel(torch: Any, rows: Any) -> Any:
    """The race as torch users write it."""
    return (rows.float() - torch.empty_like(rows, dtype=torch.float32).exponential_().log()).argmax(
        -1
    )


def softmax_draw(torch: Any, rows: Any) -> Any:
    """The plain draw."""
    return torch.multinomial(torch.softmax(rows.float(), -1), 1)


def top_p_draw(torch: Any, rows: Any, p: float, k: int) -> Any:
    """Top-k and top-p by sorting, then a draw: the rule that FlashInfer's kernels replace."""
    values, ids = torch.topk(rows.float(), k, dim=-1)
    law = torch.softmax(values, -1)
    law = law * (law.cumsum(-1) - law < p)
    return ids.gather(1, torch.multinomial(law, 1))


def walk(torch: Any, drawn: Any, tokens: Any, parents: Any, depth: int) -> Any:
    """Verify trees of equal size from one token a row: [requests, nodes] each, in torch."""
    requests = tokens.shape[0]
    node = torch.zeros(requests, dtype=torch.long, device=tokens.device)
    alive = torch.ones(requests, dtype=torch.bool, device=tokens.device)
    out = []
    for _ in range(depth):
        token = drawn.gather(1, node[:, None])
        out.append(torch.where(alive, token[:, 0], -1))
        hit = (parents == node[:, None]) & (tokens == token)
        alive = alive & hit.any(1)
        node = torch.where(alive, hit.int().argmax(1), node)
    return torch.stack(out, 1)


def main() -> int:
    """Run every rule."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--json")
    parser.add_argument("--rows", type=int, default=64, help="requests")
    parser.add_argument("--nodes", type=int, default=16, help="rows a request under verification")
    parser.add_argument("--vocab", type=int, default=128_256)
    parser.add_argument("--repeats", type=int, default=30)
    args = parser.parse_args()
    try:
        import torch
    except ImportError:
        print("needs torch", file=sys.stderr)
        return 2
    if not torch.cuda.is_available():
        print("needs a CUDA device; nothing was run", file=sys.stderr)
        return 2

    from trivium import GrammarMask, Speculator, Vocabulary, sampling
    from trivium.speculator import TreeBatch

    copy = bandwidth(torch, args.repeats)
    n, vocab, count = args.rows, args.vocab, args.rows * args.nodes
    results: list[dict[str, Any]] = []
    differences = 0
    torch.manual_seed(1)

    def inputs(rows: int, dtype: Any) -> list[Any]:
        size = rows * vocab * torch.finfo(dtype).bits // 8
        copies = max(2, -(-CACHE_BYTES // size) + 1)
        made = (3 * torch.randn(rows, vocab, device="cuda") for _ in range(min(copies, 64)))
        return [x.to(dtype) for x in made]

    def compare(name: str, moved: int, ours: Any, theirs: Any) -> None:
        line = {
            "name": name,
            "unit": "ms",
            **timed(torch, ours, args.repeats),
            "peer": "torch",
            "peer_median": timed(torch, theirs, args.repeats)["median"],
            "bytes": moved,
            "floor": moved / copy,
        }
        line["share_of_floor"] = line["floor"] / line["median"]
        line["times_torch"] = line["peer_median"] / line["median"]
        results.append(line)
        print(
            f"{name:34} {line['median']:8.3f} ms  floor {line['floor']:7.3f}  "
            f"{100 * line['share_of_floor']:5.1f} % of it  torch {line['peer_median']:8.3f} ms"
        )

    plain = sampling.Pipeline(temperature=0.8)
    cut = sampling.Pipeline(temperature=0.8, top_k=50, top_p=0.9)
    for dtype in (torch.float32, torch.bfloat16):
        name = str(dtype).removeprefix("torch.")
        rows = inputs(n, dtype)
        moved = n * vocab * torch.finfo(dtype).bits // 8
        seeds = list(range(n))

        def draw(pipeline: Any, how: str, rows: Any = rows, seeds: Any = seeds) -> Any:
            return lambda turn: pipeline.sample(rows[turn % len(rows)], seed=seeds, draw=how)

        for how in ("race", "cdf"):
            found = plain.sample(rows[0], seed=seeds, draw=how)[0]
            host = plain.sample(rows[0].float().cpu(), seed=seeds, draw=how)[0]
            differences += int((found != host).sum())
        compare(
            f"race {name}",
            moved,
            draw(plain, "race"),
            lambda t, rows=rows: gumbel(torch, rows[t % len(rows)] / 0.8),
        )
        compare(
            f"cdf {name}",
            moved,
            draw(plain, "cdf"),
            lambda t, rows=rows: softmax_draw(torch, rows[t % len(rows)] / 0.8),
        )
        compare(
            f"top-k 50, top-p 0.9 {name}",
            moved,
            draw(cut, "cdf"),
            lambda t, rows=rows: top_p_draw(torch, rows[t % len(rows)] / 0.8, 0.9, 50),
        )

        spec = Speculator(vocab, sources=[], policy="full", seed=3)
        requests = [spec.start([1, 2], branch=b) for b in range(n)]
        generator = np.random.default_rng(1)
        tokens = generator.integers(0, vocab, (n, args.nodes))
        parents = np.tile(np.arange(-1, args.nodes - 1) // 2, (n, 1))
        parents[:, 0] = -1
        batch = TreeBatch.from_arrays(
            tokens.reshape(-1),
            parents.reshape(-1),
            np.arange(0, count + 1, args.nodes),
            requests=requests,
        )
        trees = inputs(count, dtype)
        on_device = [torch.from_numpy(x).cuda() for x in (tokens, parents)]

        def theirs(turn: int, trees: Any = trees, on_device: Any = on_device) -> Any:
            drawn = gumbel(torch, trees[turn % len(trees)]).view(n, args.nodes)
            return walk(torch, drawn, *on_device, depth=5).cpu()

        compare(
            f"verify {n} x {args.nodes} {name}",
            count * vocab * torch.finfo(dtype).bits // 8,
            lambda t, trees=trees, batch=batch, spec=spec: (
                spec.verify(batch, logits=trees[t % len(trees)]).tokens
            ),
            theirs,
        )
        del trees

    bytes_of = [bytes([b]) for b in range(256)] + [b"</s>"]
    vocabulary = Vocabulary(bytes_of, eos=[256], special={256: "</s>"}, num_rows=vocab)
    matcher = GrammarMask.regex("[a-z]+", vocabulary).matcher()
    words = np.zeros(-(-vocab // 32), np.int32)
    matcher.fill(words)
    allowed = np.unpackbits(words.view(np.uint8), bitorder="little")[:vocab].astype(bool)
    forbidden = torch.from_numpy(~allowed).cuda()
    rows = [x[0] for x in inputs(1, torch.float32)]
    compare(
        "mask of one row float32",
        4 * vocab,
        lambda t: matcher.apply(rows[t % len(rows)]),
        lambda t: rows[t % len(rows)].masked_fill_(forbidden, -torch.inf),
    )

    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False
    ).stdout.strip()
    report = {
        "machine": {
            "gpu": torch.cuda.get_device_name(),
            "torch": torch.__version__,
            "cuda": torch.version.cuda,
            "copy_gb_s": copy / 1e6,
            "date": datetime.datetime.now(tz=datetime.UTC).date().isoformat(),
        },
        "commit": commit,
        "results": results,
        "tokens_that_differ_from_the_host": differences,
    }
    if args.json:
        with open(args.json, "w", encoding="utf-8") as file:  # noqa: PTH123
            json.dump(report, file, indent=1)
    print(f"tokens that differ from the host's: {differences}")
    return 1 if differences else 0


if __name__ == "__main__":
    sys.exit(main())
