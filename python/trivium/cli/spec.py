"""``trivium spec sim``: replay recorded token streams through draft sources, without a model.

Prints tokens committed per step by task, mode and number of drafted nodes, beside a peer's recorded
figures where they are given, and on request the gain of every source, the reliability of the
estimates, the gain of sibling samples and the cost by length of the context.
"""

from __future__ import annotations

import dataclasses
import json
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trivium.cli.extras import need
from trivium.cli.output import Output, add_common
from trivium.cli.progress import Progress
from trivium.cli.simulate import Config, Result, Trace, load, replay
from trivium.errors import InputError
from trivium.sources import names

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator, Sequence

__all__ = ["add_parser", "run"]

_LENGTHS = (1_000, 4_000, 16_000, 64_000, 128_000)


def add_parser(verbs: Any) -> None:
    """Add the verb to the subparsers of the command."""
    spec = verbs.add_parser("spec", help="replay recorded token streams through draft sources")
    inner = spec.add_subparsers(dest="job", required=True, metavar="JOB")
    sim = inner.add_parser(
        "sim",
        help="replay traces and print tokens per step",
        description=__doc__.splitlines()[0] if __doc__ else None,
    )
    sim.add_argument("traces", nargs="+", metavar="TRACES", help="JSON lines, gzipped or not")
    sim.add_argument("--task", default="", help="tasks to replay, a list (default: all)")
    sim.add_argument("--mode", default="warm,cold", help="warm, cold or both (default)")
    sim.add_argument("--nodes", default="8,16,64", help="drafted nodes a step, a list")
    sim.add_argument("--depth", type=int, default=64, help="deepest drafted node")
    sim.add_argument(
        "--sources",
        action="append",
        default=[],
        metavar="LIST",
        help="sources of the mixture, a list (default: auto); repeat it for a grid",
    )
    sim.add_argument("--policy", default="full", help="policy of tree sizes (default: full)")
    sim.add_argument("--siblings", action="store_true", help="draft from siblings, decoded before")
    sim.add_argument("--ablate", action="store_true", help="each source alone, and all but each")
    sim.add_argument(
        "--each",
        action="store_true",
        help="also every source that needs no file, alone (recordings have no logits, from which "
        "some of them learn)",
    )
    sim.add_argument(
        "--curve", action="store_true", help="cost of a draft by length of the context"
    )
    sim.add_argument("--limit", type=int, default=0, help="requests of a task, the first ones")
    sim.add_argument("--vocab-size", type=int, default=0, help="width of the model")
    sim.add_argument("--peer", metavar="FILE", help="a peer's recorded figures, JSON")
    sim.add_argument("--cost-file", metavar="FILE", help="JSON: seconds of a pass by nodes")
    sim.add_argument("--plot", metavar="PATH", help="write the curves as an image (extra: report)")
    add_common(sim)
    sim.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Run the verb; returns the exit code."""
    out = Output(args)
    if args.plot:
        need("report")
        if not Path(args.plot).parent.is_dir():
            raise InputError(f"plot: the folder of {args.plot} does not exist")
    traces = [trace for path in args.traces for trace in load(path)]
    tasks = _chosen(traces, args.task)
    peer = _read(args.peer) if args.peer else {}
    jobs = list(_jobs(args, tasks))
    total = sum(len(traces) for _, _, traces in jobs)
    rows = []
    with Progress("replay", total, quiet=args.quiet) as progress:
        for task, config, chosen in jobs:
            note = f"{task} {_mode(config)} {config.nodes}"
            result = replay(
                chosen,
                config,
                vocab_size=args.vocab_size,
                step=partial(progress.step, 1, note),
            )
            rows.append(_row(task, config, result, peer))
    out.table("tokens per step", _HEADER, [_cells(row) for row in rows])
    curve = _curve(args, traces, out) if args.curve else []
    if args.plot:
        _plot(rows, curve, Path(args.plot))
        out.note(f"wrote {args.plot}")
    out.json({"peer": peer.get("peer"), "results": rows, "curve": curve})
    return 0


def _chosen(traces: Sequence[Trace], names: str) -> dict[str, list[Trace]]:
    """Traces by task, in the order asked for."""
    by_task: dict[str, list[Trace]] = {}
    for trace in traces:
        by_task.setdefault(trace.task, []).append(trace)
    wanted = names.split(",") if names else list(by_task)
    unknown = [name for name in wanted if name not in by_task]
    if unknown:
        raise InputError(f"task: no trace of {unknown[0]!r}; there are {', '.join(by_task)}")
    return {name: by_task[name] for name in wanted}


def _jobs(
    args: argparse.Namespace, tasks: dict[str, list[Trace]]
) -> Iterator[tuple[str, Config, list[Trace]]]:
    try:
        budgets = [int(n) for n in args.nodes.split(",")]
    except ValueError as e:
        raise InputError(f"nodes: {args.nodes!r} is not a list of numbers") from e
    modes = args.mode.split(",")
    if not set(modes) <= {"warm", "cold"}:
        raise InputError(f"mode: {args.mode!r} is not a list of warm and cold")
    grid = [tuple(s for s in text.split(",") if s) for text in args.sources] or [()]
    if args.ablate:
        grid = [variant for sources in grid for variant in _ablations(sources)]
    if args.each:
        grid = list(dict.fromkeys([*grid, *((name,) for name in names())]))
    cost = _cost(args.cost_file) if args.cost_file else {}
    for mode in modes:
        for task, traces in tasks.items():
            for sources in grid:
                for nodes in budgets:
                    config = Config(
                        sources=sources,
                        nodes=nodes,
                        depth=args.depth,
                        warm=mode == "warm",
                        policy=args.policy,
                        cost=cost,
                    )
                    chosen = traces[: args.limit or None]
                    if not args.siblings:
                        yield task, config, chosen
                        continue
                    chosen = [t for t in chosen if t.siblings]
                    if chosen:
                        yield task, config, chosen
                        yield task, dataclasses.replace(config, siblings=True), chosen


def _ablations(sources: tuple[str, ...]) -> list[tuple[str, ...]]:
    """Return the mixture, each source alone, and the mixture without each."""
    from trivium.speculator import Speculator

    whole = sources or tuple(Speculator(2).config["sources"])
    alone = [(name,) for name in whole] if len(whole) > 1 else []
    without = [tuple(s for s in whole if s != name) for name in whole] if len(whole) > 2 else []
    return [whole, *alone, *without]


def _cost(path: str) -> dict[int, float]:
    table = _read(path)
    try:
        cost = {int(n): float(seconds) for n, seconds in table.items()}
    except (TypeError, ValueError) as e:
        raise InputError(f"{path}: is no table of seconds by nodes: {e}") from e
    if len(cost) < 2 or not all(n > 0 and t > 0 for n, t in cost.items()):
        raise InputError(f"{path}: holds fewer than two positive times")
    return cost


def _read(path: str) -> dict[str, Any]:
    try:
        value = json.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError) as e:
        raise InputError(f"{path}: cannot be read: {e}") from e
    if not isinstance(value, dict):
        raise InputError(f"{path}: holds no object")
    return value


def _mode(config: Config) -> str:
    return ("warm" if config.warm else "cold") + ("+siblings" if config.siblings else "")


def _row(task: str, config: Config, result: Result, peer: dict[str, Any]) -> dict[str, Any]:
    row = {
        "task": task,
        "mode": _mode(config),
        "nodes": config.nodes,
        "sources": ",".join(config.sources) or "auto",
        **result.to_json(),
        "bytes_per_token": result.memory / result.stored if config.warm else None,
        "peer": None,
        "ratio": None,
    }
    for other in peer.get("results", []):
        if all(other.get(key) == row[key] for key in ("task", "mode", "nodes")):
            row["peer"] = other
            row["ratio"] = (result.mat - 1) / (other["mat"] - 1)
    return row


_HEADER = (
    "task",
    "mode",
    "nodes",
    "sources",
    "tokens/step",
    "peer",
    "accepted, ratio",
    "us/draft",
    "us/token",
    "error",
    "bytes/token",
    "speed-up",
)


def _cells(row: dict[str, Any]) -> list[str]:
    def show(value: float | None, digits: int) -> str:
        return "-" if value is None else f"{value:.{digits}f}"

    return [
        row["task"],
        row["mode"],
        str(row["nodes"]),
        row["sources"],
        show(row["mat"], 3),
        show(row["peer"] and row["peer"]["mat"], 3),
        show(row["ratio"], 2),
        show(row["draft_us"], 1),
        show(row["update_us"], 2),
        show(row["calibration"]["error"], 3),
        show(row["bytes_per_token"], 0),
        show(row["speedup"], 2),
    ]


def _curve(args: argparse.Namespace, traces: Sequence[Trace], out: Output) -> list[dict[str, Any]]:
    """Cost of a step after prompts of growing length, made of the traces' own texts."""
    text = [token for trace in traces for token in (*trace.prompt, *trace.output)]
    tail = max(traces, key=lambda trace: len(trace.output)).output[:256]
    largest = max(text) + 1
    curve = []
    with Progress("lengths", len(_LENGTHS), quiet=args.quiet) as progress:
        for length in _LENGTHS:
            prompt = (text * (length // len(text) + 1))[:length]
            for nodes in (int(n) for n in args.nodes.split(",")):
                config = Config(nodes=nodes, depth=args.depth, warm=False)
                trace = Trace("curve", prompt, tail, [])
                # The fastest of three: noise only adds.
                results = [replay([trace], config, vocab_size=largest) for _ in range(3)]
                row = {
                    "length": length,
                    "nodes": nodes,
                    "draft_us": min(r.draft_us for r in results),
                    "update_us": min(r.update_us for r in results),
                }
                curve.append(row)
            progress.step(note=str(length))
    cells = [
        [str(c["length"]), str(c["nodes"]), f"{c['draft_us']:.1f}", f"{c['update_us']:.2f}"]
        for c in curve
    ]
    out.table("cost by length of the context", ("length", "nodes", "us/draft", "us/token"), cells)
    return curve


def _plot(rows: list[dict[str, Any]], curve: list[dict[str, Any]], path: Path) -> None:
    """Tokens per step by nodes, reliability of the estimates, and cost by length."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(1, 3 if curve else 2, figsize=(13 if curve else 9, 4))
    lines: dict[tuple[str, str, str], list[dict[str, Any]]] = {}
    for row in rows:
        lines.setdefault((row["task"], row["mode"], row["sources"]), []).append(row)
    for (task, mode, sources), points in lines.items():
        label = f"{task}, {mode}" + ("" if sources == "auto" else f", {sources}")
        drawn = axes[0].plot(
            [p["nodes"] for p in points], [p["mat"] for p in points], "o-", label=label
        )
        last = points[-1]["calibration"]
        seen = [(e / n, a / n) for n, e, a in _bins(last) if n >= 50]
        if seen:
            axes[1].plot(*zip(*seen, strict=True), ".-", color=drawn[0].get_color())
    axes[0].set(xlabel="drafted nodes", ylabel="tokens per step", xscale="log")
    axes[0].legend(fontsize="small")
    axes[1].plot([0, 1], [0, 1], "k:", linewidth=1)
    axes[1].set(xlabel="estimated acceptance", ylabel="accepted")
    for nodes in sorted({c["nodes"] for c in curve}):
        points = [c for c in curve if c["nodes"] == nodes]
        lengths = [c["length"] for c in points]
        axes[2].plot(lengths, [c["draft_us"] for c in points], "o-", label=f"{nodes} nodes")
    if curve:
        axes[2].set(xlabel="tokens of context", ylabel="us per draft", xscale="log", ylim=(0, None))
        axes[2].legend(fontsize="small")
    figure.tight_layout()
    figure.savefig(path)
    plt.close(figure)


def _bins(calibration: dict[str, Any]) -> Iterator[tuple[float, float, float]]:
    return zip(calibration["tried"], calibration["expected"], calibration["accepted"], strict=True)
