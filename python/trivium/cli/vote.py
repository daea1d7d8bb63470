"""``trivium vote run``: policies on recorded answers, as a table, JSON and plots."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from trivium.cli.extras import install_line
from trivium.cli.output import Output, add_common
from trivium.cli.replays import VoteSet, load, replay, replay_set
from trivium.errors import InputError, MissingExtraError, TriviumError

if TYPE_CHECKING:
    import argparse
    from pathlib import Path

__all__ = ["VoteSet", "add_parser", "load", "plot", "replay", "replay_set", "run"]

CURVE = (1, 2, 3, 5, 8, 13, 20, 30, 40)
"""Votes of the plain majority whose accuracy is the curve of a plot."""


def plot(scores: dict[str, Any], path: str | Path) -> None:
    """Draw accuracy against samples, one panel a set and one for the means.

    Policies ``majority@N`` are joined to a curve: what a fixed number of samples buys.

    Raises
    ------
    MissingExtraError
        matplotlib is not installed.
    InputError
        The file cannot be written.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError as e:
        raise MissingExtraError(f"plots need matplotlib: {install_line('report')}") from e
    names = list(dict.fromkeys(name for entry in scores.values() for name in entry["sets"]))
    panels = ["mean", *names] if len(names) > 1 else names
    columns = min(4, len(panels))
    rows = -(-len(panels) // columns)
    figure = Figure(figsize=(4 * columns, 3 * rows), layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False).ravel()
    colours = [f"C{i % 10}" for i in range(len(scores))]
    for axis, name in zip(axes, panels, strict=False):
        fixed = []
        for colour, (policy, entry) in zip(colours, scores.items(), strict=True):
            row = entry["mean"] if name == "mean" else entry["sets"].get(name)
            if row is not None and policy.startswith("majority@"):
                fixed.append((row["samples"], row["accuracy"]))
            elif row is not None:
                axis.plot(row["samples"], row["accuracy"], "o", color=colour, label=policy)
        if fixed:
            axis.plot(*zip(*sorted(fixed), strict=True), "-", color="0.6", zorder=0)
        axis.set_title(name, fontsize=9)
        axis.set_xlabel("samples")
        axis.set_ylabel("accuracy, %")
        axis.grid(alpha=0.3)
    for axis in axes[len(panels) :]:
        axis.remove()
    axes[0].legend(fontsize=7)
    try:
        figure.savefig(path)
    except (OSError, ValueError) as e:
        raise InputError(f"plot: {e}") from e


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add ``vote run`` to the command line."""
    vote = subparsers.add_parser("vote", help="replay voting policies on recorded answers")
    verbs = vote.add_subparsers(dest="vote_verb", required=True)
    parser = verbs.add_parser("run", help="accuracy, samples and agreement of stop rules")
    parser.add_argument("dir", metavar="DIR", help="folder of votes-v1 files (*.jsonl.gz)")
    parser.add_argument(
        "--policy",
        action="append",
        nargs="+",
        metavar="NAME",
        help="stop rule or weight, NAME@N for N votes: majority, locked, beta:C, dirichlet:C, "
        "esc:W, predictive:C, ppr:A, double:S, first_finish:K, rpc, best, ... "
        "(default: majority locked beta:0.95 best)",
    )
    parser.add_argument("--perms", type=int, default=10, help="shuffles of each question")
    parser.add_argument("--name", nargs="*", default=[], help="only files whose name has this")
    parser.add_argument(
        "--train", metavar="DIR2", help="labelled folder that teaches the reliability of voters"
    )
    parser.add_argument(
        "--folds",
        type=int,
        default=0,
        metavar="N",
        help="teach voters by the other of N folds of the same folder (cross-validation)",
    )
    parser.add_argument(
        "--plot",
        metavar="PATH",
        help="write accuracy against samples as an image (needs matplotlib)",
    )
    add_common(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Run ``vote run``; the exit code is 0, or 2 for a wrong argument."""
    policies = list(dict.fromkeys(name for group in args.policy or [] for name in group))
    policies = policies or ["majority", "locked", "beta:0.95", "best"]
    try:
        out = Output(args)
        curve = [f"majority@{n}" for n in CURVE] if args.plot else []
        scores = replay(
            args.dir,
            list(dict.fromkeys([*policies, *curve])),
            perms=args.perms,
            seed=args.seed,
            names=args.name,
            progress=not args.quiet,
            train=args.train,
            folds=args.folds,
        )
        if args.plot:
            plot(scores, args.plot)
        scores = {policy: scores[policy] for policy in policies}
        out.json(scores)
    except TriviumError as e:
        print(f"trivium vote run: {e}", file=sys.stderr)
        return 2
    out.result(f"{'policy':20s} {'accuracy':>8s} {'samples':>8s} {'agreement':>9s}")
    for policy, entry in scores.items():
        mean = entry["mean"]
        out.result(
            f"{policy:20s} {mean['accuracy']:8.2f} {mean['samples']:8.2f} {mean['agreement']:9.2f}"
        )
    return 0
