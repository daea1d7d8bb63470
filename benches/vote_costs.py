"""What voting costs on this machine, in Rust, through Python, and beside peers.

Run ``python benches/vote_costs.py --texts FILE.txt.gz`` in a checkout. The operations in Rust are
timed by the example ``costs`` of trivium-vote, built with the profile ``thin`` (the fastest of many
short runs); those through Python here, by processor time. fastChrF and sacreBLEU take part if they
are installed: ``--peers DIR`` adds a folder of packages to the path. sacreBLEU's figure is that of
a sample of pairs, scaled to all.
"""

from __future__ import annotations

import argparse
import gzip
import itertools
import json
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from trivium import Voter, mbr

if TYPE_CHECKING:
    from collections.abc import Callable

ROOT = Path(__file__).resolve().parents[1]
SAMPLED_PAIRS = 2000


def fastest(work: Callable[[], Any], runs: int = 5) -> float:
    """Least processor time of several runs, in seconds."""
    best = float("inf")
    for _ in range(runs):
        start = time.process_time()
        work()
        best = min(best, time.process_time() - start)
    return best


def in_rust() -> list[tuple[str, float, str]]:
    """Lines of the example ``costs``."""
    command = ["cargo", "run", "-q", "--profile", "thin", "-p", "trivium-vote"]
    done = subprocess.run(
        [*command, "--example", "costs"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    rows = []
    for line in done.stdout.splitlines():
        name, value, unit = line[:48].strip(), *line[48:].split()
        rows.append((name, float(value), unit))
    return rows


def through_python() -> list[tuple[str, float, str]]:
    """Ballots in batches of 1,000 and tokens in blocks of 1,024."""
    rows = []
    for budget, what in ((40, "no decision"), (10, "a decision in ten")):
        numbers = itertools.count()
        answers = ["14", "15", "7/2", "15"] * 250

        def vote(budget: int = budget, answers: list[str] = answers, n: Any = numbers) -> float:
            v = Voter(stop="beta:0.95", budget=budget, latency="max", bare=True)
            qs = np.repeat([v.open(f"q{next(n)}") for _ in range(100)], 10)
            v.next()
            ts = np.tile(np.arange(10), 100)
            start = time.process_time()
            v.finish_batch(qs, ts, answers=answers)
            return time.process_time() - start

        best = min(vote() for _ in range(30))
        rows.append((f"ballot through Python, batch of 1000, {what}", 1e6 * best / 1000, "us"))
    v = Voter(stop="share:0.95", prune="conf_floor:10", budget=64, latency="max")
    qs = np.repeat([v.open(str(i)) for i in range(16)], 64)
    v.next()
    ts = np.tile(np.arange(64), 16)
    values = np.linspace(0.1, 2.0, 1024)
    best = fastest(lambda: [v.tokens(qs, ts, lps=-values, conf=values) for _ in range(50)])
    rows.append(("token event through Python, block of 1024", 1e9 * best / 51_200, "ns"))
    return rows


def of_texts(texts: list[str]) -> list[tuple[str, float, str]]:
    """Exact and pruned chrF, and the same by peers."""
    rows = []
    n = len(texts)
    exact = mbr(texts)
    rows.append((f"exact chrF MBR of {n} texts", fastest(lambda: mbr(texts), 3), "s"))
    pruned = mbr(texts, prune=0.99, references=256)
    rows.append(
        ("the same pruned, 256 references", fastest(lambda: mbr(texts, prune=0.99), 3), "s")
    )
    share = 100 * pruned.calls / (n * min(n, 256))
    same = "same winner" if pruned.index == exact.index else "ANOTHER WINNER"
    rows.append((f"utilities of the pruned run ({same})", share, "%"))
    try:
        import fastchrf
    except ImportError:
        print("fastchrf: not installed", file=sys.stderr)
    else:
        found: list[Any] = []
        start = time.process_time()
        found.append(fastchrf.pairwise_chrf([texts], [texts]))
        rows.append(("fastChrF, pairwise", time.process_time() - start, "s"))
        best = int(np.asarray(found[0][0]).mean(axis=1).argmax())
        rows.append(("  finds our winner", float(best == exact.index), ""))
        start = time.process_time()
        found.append(fastchrf.aggregate_chrf([texts], [texts]))
        rows.append(("fastChrF, aggregate (approximate)", time.process_time() - start, "s"))
        best = int(np.asarray(found[1][0]).argmax())
        rows.append(("  finds our winner", float(best == exact.index), ""))
    try:
        from sacrebleu import CHRF
    except ImportError:
        print("sacrebleu: not installed", file=sys.stderr)
    else:
        chrf = CHRF()
        pairs = np.random.default_rng(0).integers(0, n, (SAMPLED_PAIRS, 2))
        start = time.process_time()
        for i, j in pairs:
            chrf.sentence_score(texts[i], [texts[j]])
        each = (time.process_time() - start) / SAMPLED_PAIRS
        rows.append((f"sacreBLEU, {SAMPLED_PAIRS} pairs scaled to all", each * n * n, "s"))
    return rows


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--texts", metavar="FILE", help="candidates, one a line (.txt or .txt.gz)")
    parser.add_argument("--peers", metavar="DIR", help="folder of packages of peers")
    parser.add_argument("--json", metavar="PATH")
    args = parser.parse_args()
    if args.peers:
        sys.path.append(args.peers)
    rows = in_rust() + through_python()
    if args.texts:
        path = Path(args.texts)
        data = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
        rows += of_texts(data.decode().splitlines())
    for name, value, unit in rows:
        print(f"{name:56} {value:10.3f} {unit}")
    if args.json:
        results = [{"name": name, "value": value, "unit": unit} for name, value, unit in rows]
        Path(args.json).write_text(json.dumps({"results": results}, indent=1) + "\n")


if __name__ == "__main__":
    main()
