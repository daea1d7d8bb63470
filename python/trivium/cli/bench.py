"""``trivium bench``: what the hot calls cost here, next to the same rule in NumPy.

Every figure is a median over repetitions in this process, measured by the calls a host would make,
Python's call overhead included. Peers are run on the same inputs, in turn with ours. The JSON is
that of every benchmark of the project: machine, commit, and per result name, unit, median, min,
max, n, and the peer's median.
"""

from __future__ import annotations

import io
import os
import platform
import re
import subprocess
import sys
import sysconfig
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

import numpy as np

from trivium import GrammarMask, Speculator, Vocabulary, __version__
from trivium.cli.output import Output, add_common
from trivium.speculator import TreeBatch

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable

__all__ = ["add_parser", "run"]

#: Expressions of the mask figures: a date, a JSON string's body, an e-mail address.
EXPRESSIONS = {
    "date": r"[0-9]{4}-(0[1-9]|1[0-2])-(0[1-9]|[12][0-9]|3[01])",
    "string": r'"([^"\\\x00-\x1f]|\\["\\/bfnrt]|\\u[0-9a-fA-F]{4})*"',
    "email": r"[a-z0-9._%+-]{1,64}@([a-z0-9-]{1,63}\.){1,4}[a-z]{2,12}",
}


@dataclass(frozen=True, slots=True)
class Figure:
    """One measured quantity."""

    name: str
    unit: str
    median: float
    min: float
    max: float
    n: int
    peer: str | None = None
    peer_median: float | None = None


def add_parser(verbs: Any) -> None:
    """Add the verb to the parser."""
    parser = verbs.add_parser("bench", help="what the hot calls cost on this machine")
    parser.add_argument(
        "--vocab", metavar="FILE", help="a trivium-vocab-1 file; default: synthetic"
    )
    parser.add_argument("--repeat", type=int, default=30, help="repetitions (default: 30)")
    parser.add_argument("--only", metavar="WORD", default="", help="names that contain WORD")
    add_common(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Measure and print."""
    out = Output(args)
    vocab = Vocabulary.load(args.vocab) if args.vocab else synthetic_vocabulary(args.seed)
    figures: list[Figure] = []
    for name, bench in BENCHES.items():
        if args.only in name:
            figures += bench(vocab, max(3, args.repeat), args.seed)
    rows = [
        (f.name, f"{f.median:.3g}", f.unit, f"{f.min:.3g}", f"{f.max:.3g}", _against(f))
        for f in figures
    ]
    out.table("", ("figure", "median", "unit", "min", "max", "peer"), rows)
    out.json(
        {
            "machine": machine(),
            "commit": commit(),
            "version": __version__,
            "vocabulary": len(vocab),
            "results": [asdict(f) for f in figures],
        }
    )
    return 0


def _against(f: Figure) -> str:
    if f.peer_median is None:
        return ""
    return f"{f.peer}: {f.peer_median:.3g} ({f.peer_median / f.median:.1f}x)"


def machine() -> dict[str, Any]:
    """Describe the machine as far as it explains a figure."""
    cpu = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.exists():
        names = re.findall(r"model name\s*: (.*)", info.read_text())
        cpu = names[0] if names else cpu
    return {
        "cpu": cpu,
        "cores": os.cpu_count(),
        "system": platform.system(),
        "python": platform.python_version(),
        "numpy": np.__version__,
    }


def commit() -> str | None:
    """Commit of the working directory, if it is a checkout."""
    try:
        done = subprocess.run(
            ["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=True
        )
    except (OSError, subprocess.CalledProcessError):
        return None
    return done.stdout.strip()


def synthetic_vocabulary(seed: int, size: int = 128_256) -> Vocabulary:
    """Make a vocabulary shaped like a byte-level BPE one: all bytes, then pieces of real text."""
    text = _source_text(4_000_000)
    pieces: dict[bytes, None] = dict.fromkeys(bytes([b]) for b in range(256))
    for word in re.findall(rb" ?[A-Za-z]+| ?[0-9]{1,3}| ?[^\sA-Za-z0-9]+|\s+", text):
        for end in range(2, min(len(word), 16) + 1):
            pieces[word[:end]] = None
    rng = np.random.default_rng(seed)
    while len(pieces) < size - 1:
        pieces[bytes(rng.integers(97, 123, int(rng.integers(3, 9))).tolist())] = None
    tokens = [*list(pieces)[: size - 1], b""]
    return Vocabulary(tokens, eos=[size - 1], special={size - 1: "<|end|>"})


def _source_text(limit: int) -> bytes:
    """Return text that every Python has: the standard library's sources."""
    buffer = io.BytesIO()
    for path in sorted(Path(sysconfig.get_paths()["stdlib"]).glob("*.py")):
        if buffer.tell() >= limit:
            break
        buffer.write(path.read_bytes())
    return buffer.getvalue()[:limit]


def _ids(count: int) -> tuple[list[int], int]:
    """Real text as ids of its words: what stores see, without a tokenizer."""
    words = re.findall(rb" ?\w+|\s+|[^\w\s]", _source_text(count * 8))[:count]
    table: dict[bytes, int] = {}
    return [table.setdefault(w, len(table)) for w in words], 128_256


def _time(call: Callable[[], Any], repeat: int, scale: float = 1e6, warm: int = 2) -> list[float]:
    for _ in range(warm):
        call()
    times = []
    for _ in range(repeat):
        start = time.perf_counter_ns()
        call()
        times.append((time.perf_counter_ns() - start) / 1e9 * scale)
    return times


def _figure(
    name: str,
    unit: str,
    times: list[float],
    peer: str | None = None,
    other: list[float] | None = None,
) -> Figure:
    return Figure(
        name,
        unit,
        median(times),
        min(times),
        max(times),
        len(times),
        peer,
        median(other) if other else None,
    )


def bench_suffix(_vocab: Vocabulary, repeat: int, _seed: int) -> list[Figure]:
    """Append and propose on real text."""
    ids, vocab = _ids(100_000)
    prompt = np.asarray(ids, np.int32)
    spec = Speculator(vocab, sources=["suffix"], max_nodes=17, policy="full")
    starts = [t / len(ids) for t in _time(lambda: spec.start(prompt), max(3, repeat // 6), warm=1)]
    request = spec.start(prompt[:50_000])
    proposals, commits = [], []
    at = 50_000
    for _ in range(repeat * 10):
        t0 = time.perf_counter_ns()
        batch = spec.propose([request])
        t1 = time.perf_counter_ns()
        follow = {
            (int(p), int(t)): i
            for i, (p, t) in enumerate(zip(batch.parents, batch.tokens, strict=True))
        }
        sampled, node, n = np.full(len(batch.tokens), -1), 0, 0
        while True:
            sampled[node] = ids[at + n]
            n += 1
            child = follow.get((node, ids[at + n - 1]))
            if child is None:
                break
            node = child
        out = spec.verify(batch, sampled=sampled)
        t2 = time.perf_counter_ns()
        spec.commit(out)
        t3 = time.perf_counter_ns()
        proposals.append((t1 - t0) / 1e3)
        commits.append((t3 - t2) / 1e3 / n)
        at += n
    return [
        _figure("suffix.append", "us/token", starts),
        _figure("suffix.propose 16 nodes", "us/call", proposals),
        _figure("suffix.commit", "us/token", commits),
    ]


def bench_mask(vocab: Vocabulary, repeat: int, _seed: int) -> list[Figure]:
    """Masks of three expressions: first ones of fresh states, and cached ones."""
    figures = []
    row = np.zeros(-(-vocab.num_rows // 32), np.int32)
    for name, pattern in EXPRESSIONS.items():

        def first(pattern: str = pattern) -> None:
            GrammarMask.regex(pattern, vocab).matcher().fill(row)

        compile_times = _time(first, 5)
        text = _example(GrammarMask.regex(pattern, vocab), name)
        cold: list[float] = []
        warm: list[float] = []
        for _ in range(max(3, repeat // 10)):
            matcher = GrammarMask.regex(pattern, vocab).matcher()
            for times in (cold, warm):
                matcher.reset()
                for byte in text:
                    t0 = time.perf_counter_ns()
                    matcher.fill(row)
                    times.append((time.perf_counter_ns() - t0) / 1e3)
                    matcher.commit(_byte_token(vocab, byte))
        figures += [
            _figure(f"mask.{name} compile and first mask", "us", compile_times),
            _figure(f"mask.{name} new state", "us/mask", cold),
            _figure(f"mask.{name} known state", "us/mask", warm),
        ]
    return figures


def _example(grammar: GrammarMask, name: str) -> bytes:
    """Return a text of the language that visits several states."""
    begin = {"date": b"2026-1", "string": b'"a \\u00e9', "email": b"ada.l@mail"}[name]
    return begin + (grammar.completion(begin) or b"")


_BYTE_TOKENS: dict[int, dict[int, int]] = {}


def _byte_token(vocab: Vocabulary, byte: int) -> int:
    table = _BYTE_TOKENS.setdefault(id(vocab), {})
    if not table:
        for i in range(len(vocab)):
            token = vocab.token(i)
            if len(token) == 1:
                table.setdefault(token[0], i)
    return table[byte]


def bench_verify(_vocab: Vocabulary, repeat: int, seed: int) -> list[Figure]:
    """Verify a tree of 64 drafted nodes at 128k from ids and from logits."""
    vocab, nodes = 128_256, 65
    rng = np.random.default_rng(seed)
    spec = Speculator(vocab, sources=[], max_nodes=nodes)
    request = spec.start([1])
    parents = [-1, *(max(0, i - 8) for i in range(1, nodes))]
    tokens = np.arange(1, nodes + 1)
    tree = TreeBatch.from_arrays(tokens, parents, [0, nodes], requests=[request])
    ids = np.full(nodes, 3, np.int64)
    rows = rng.normal(size=(nodes, vocab)).astype(np.float32)
    figures = [
        _figure(
            "verify.ids 64 nodes", "us", _time(lambda: spec.verify(tree, sampled=ids), repeat * 10)
        )
    ]
    for name, law in {
        "greedy": (0.0, 1.0),
        "T=0.8": (0.8, 1.0),
        "T=0.8 top_p=0.9": (0.8, 0.9),
    }.items():
        temperature, top_p = law
        ours, peers = [], []
        for _ in range(max(3, repeat // 3)):
            t0 = time.perf_counter_ns()
            spec.verify(tree, logits=rows, temperature=temperature, top_p=top_p)
            t1 = time.perf_counter_ns()
            _numpy_ids(rows, temperature, top_p)
            peers.append((time.perf_counter_ns() - t1) / 1e3)
            ours.append((t1 - t0) / 1e3)
        figures.append(
            _figure(
                f"verify.logits 64 nodes {name}, one row walked",
                "us",
                ours,
                "numpy, all rows",
                peers,
            )
        )
    return figures


def _numpy_ids(rows: Any, temperature: float, top_p: float = 1.0) -> Any:
    """Sample an id for every row with array operations, as a host without rules of its own does."""
    if temperature == 0:
        return rows.argmax(-1)
    scaled = rows / temperature
    weights = np.exp(scaled - scaled.max(-1, keepdims=True))
    if top_p < 1:
        order = np.argsort(-weights, -1)
        sorted_ = np.take_along_axis(weights, order, -1)
        mass = np.cumsum(sorted_, -1)
        sorted_[mass - sorted_ > top_p * mass[:, -1:]] = 0
        weights = np.zeros_like(weights)
        np.put_along_axis(weights, order, sorted_, -1)
    cumulative = np.cumsum(weights, -1)
    u = np.random.default_rng(0).random((len(rows), 1)) * cumulative[:, -1:]
    return (cumulative <= u).sum(-1)


def bench_import(_vocab: Vocabulary, repeat: int, _seed: int) -> list[Figure]:
    """Import time of the package next to numpy's alone, each in a fresh interpreter."""

    def fresh(module: str) -> list[float]:
        code = f"import time; t = time.perf_counter(); import {module}"
        command = [sys.executable, "-c", f"{code}; print(time.perf_counter() - t)"]
        times = []
        for _ in range(max(3, repeat // 6)):
            done = subprocess.run(command, capture_output=True, text=True, check=True)
            times.append(float(done.stdout) * 1e3)
        return times

    return [_figure("import trivium", "ms", fresh("trivium"), "numpy", fresh("numpy"))]


BENCHES: dict[str, Callable[[Vocabulary, int, int], list[Figure]]] = {
    "suffix": bench_suffix,
    "mask": bench_mask,
    "verify": bench_verify,
    "import": bench_import,
}
