"""``trivium vote run``: replay stop rules on recorded answers.

A folder of ``votes-v1`` files holds questions with the canonical key of every sampled answer. Each
policy sees the answers of a question in shuffled order, at most ``min(40, n)`` of them, and is
scored by accuracy, samples used and agreement with the plain majority at the same cap. The shuffles
are those of the NumPy reference, ``default_rng([seed, order, crc32(question)])``, so that figures
are comparable to the last digit.
"""

from __future__ import annotations

import gzip
import json
import sys
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from trivium import _core
from trivium.cli.extras import install_line
from trivium.errors import InputError, MissingExtraError, TriviumError

if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence

    import numpy.typing as npt

__all__ = ["add_parser", "load", "replay", "replay_set", "run"]

CAP = 40
"""Largest number of answers that a policy may use, as in the published comparisons."""
GENERATED = ("synthetic",)
"""Beginnings of the names of sets that no model produced; they stay out of the means."""


@dataclass(frozen=True, slots=True)
class VoteSet:
    """Recorded answers of one set.

    Attributes
    ----------
    name : str
        Name of the set.
    header : dict
        First line of the file.
    questions : list of dict
        The other lines.
    """

    name: str
    header: dict[str, Any]
    questions: list[dict[str, Any]]


def load(path: str | Path) -> VoteSet:
    """Read a ``votes-v1`` file, gzipped or not.

    Raises
    ------
    InputError
        The file cannot be read or is not of that format.
    """
    path = Path(path)
    try:
        raw = path.read_bytes()
        if raw[:2] == b"\x1f\x8b":
            raw = gzip.decompress(raw)
        lines = raw.decode("utf-8").splitlines()
        header, *questions = [json.loads(line) for line in lines if line.strip()]
        problem = _problem(header, questions)
    except (OSError, EOFError, ValueError, KeyError, TypeError, AttributeError, zlib.error) as e:
        raise InputError(f"{path}: cannot be read as votes-v1: {e}") from e
    if problem:
        raise InputError(f"{path}: {problem}")
    return VoteSet(str(header.get("dataset", path.name.split(".")[0])), header, questions)


def _problem(header: dict[str, Any], questions: list[dict[str, Any]]) -> str | None:
    if header.get("format") != "votes-v1":
        return f"has format {header.get('format')!r}, not 'votes-v1'"
    if not questions:
        return "holds no question"
    for question in questions:
        num_keys = len(question["ok"])
        votes = [vote["k"] for vote in question["votes"]]
        if not isinstance(question["q"], str) or not votes:
            return f"question {question['q']!r} has no votes"
        if not all(k is None or 0 <= k < num_keys for k in votes):
            return f"question {question['q']!r} votes for an unknown key"
    return None


def replay_set(
    votes: VoteSet,
    policies: Sequence[str],
    *,
    perms: int = 10,
    seed: int = 0,
    train: VoteSet | None = None,
) -> dict[str, dict[str, float]]:
    """Replay policies on one set.

    Parameters
    ----------
    votes : VoteSet
        The set.
    policies : sequence of str
        Stop rules and weights by name, ``NAME@N`` for the first `N` votes alone; also
        ``esc_majority:W``, ``best_of`` and ``hindsight``.
    perms : int
        Number of shuffles.
    seed : int
        First part of the shuffles' seed.
    train : VoteSet, optional
        Labelled votes of the same voters, for ``log_odds`` and ``posterior:T:C``.

    Returns
    -------
    dict
        ``accuracy``, ``samples`` and ``agreement`` by policy; the first and last in per cent.

    Raises
    ------
    InputError
        An unknown name, a policy that reads what the set lacks, or a number of shuffles below 1.
    """
    if perms < 1:
        raise InputError(f"perms: {perms} shuffles are none; at least 1 is needed")
    cap = min(CAP, max(len(q["votes"]) for q in votes.questions))
    odds = None if train is None else source_log_odds(votes, train)
    rules = ["majority", *policies]
    right = np.zeros(len(rules))
    used = np.zeros(len(rules))
    same = np.zeros(len(rules))
    for question in votes.questions:
        orders = _orders(question, perms, seed)
        votes_of = question["votes"]
        keys = np.array([-1 if v["k"] is None else v["k"] for v in votes_of], dtype=np.int64)
        fields = {
            name: np.array([v[name] for v in votes_of], dtype=np.float64)[orders]
            for name in ("n", "lp", "nt", "r", "v")
            if all(name in v for v in votes_of)
        }
        if odds is not None and "v" in fields:
            fields["odds"] = odds[fields["v"].astype(np.int64)]
        winners, samples = _core.replay_keys(keys[orders], rules, cap, fields)
        # The last entry is the score of an empty ballot box, whose winner is -1.
        ok = np.array([*question["ok"], 0])
        right += ok[winners].sum(axis=1)
        used += samples.sum(axis=1)
        same += (winners == winners[0]).sum(axis=1)
    runs = perms * len(votes.questions)
    return {
        policy: {
            "accuracy": 100 * float(right[i]) / runs,
            "samples": float(used[i]) / runs,
            "agreement": 100 * float(same[i]) / runs,
        }
        for i, policy in enumerate(rules)
        if i > 0
    }


def _orders(question: dict[str, Any], perms: int, seed: int) -> npt.NDArray[np.int64]:
    """Permutations of a question's votes: the reference's random streams."""
    name = zlib.crc32(question["q"].encode())
    num = len(question["votes"])
    orders = [np.random.default_rng([seed, t, name]).permutation(num) for t in range(perms)]
    return np.array(orders)


def source_log_odds(votes: VoteSet, train: VoteSet) -> npt.NDArray[np.float64]:
    """Log-odds of a set's voters, learned from the labels of another with the same voter names.

    A voter counts ``log((right + 1) / (wrong + 1)) + log(mean number of wrong answers)``, at least
    0; one that the other set does not know counts as ``(0, 0)``.
    """
    index = {name: i for i, name in enumerate(train.header["voters"])}
    counts = np.ones((len(index) + 1, 2))
    wrong = 0.0
    for question in train.questions:
        wrong += max(1, len(question["keys"]) - 1) / len(train.questions)
        for vote in question["votes"]:
            right = vote["k"] is not None and bool(question["ok"][vote["k"]])
            counts[vote["v"], 0 if right else 1] += 1
    odds = np.log(counts[:, 0] / counts[:, 1]) + np.log(max(wrong, 1.0))
    places = [index.get(name, len(index)) for name in votes.header["voters"]]
    return np.asarray(np.maximum(odds[places], 0.0), dtype=np.float64)


NEEDS = {
    **dict.fromkeys(("rpc", "pc", "ppl", "normalised", "unnormalised", "cisc"), "lp"),
    **dict.fromkeys(("reward", "best_of"), "r"),
    **dict.fromkeys(("log_odds", "posterior"), "odds"),
}
"""What a policy reads beyond answers and lengths: sets without it are left out of its row."""


def can_replay(votes: VoteSet, policy: str, *, trained: bool) -> bool:
    """Whether a set has what a policy reads."""
    needs = NEEDS.get(policy.replace("@", ":").split(":", maxsplit=1)[0])
    if needs is None:
        return True
    if needs == "odds":
        return trained and votes.header.get("kind") == "ensemble"
    return all(needs in vote for question in votes.questions for vote in question["votes"])


def replay(
    folder: str | Path,
    policies: Sequence[str],
    *,
    perms: int = 10,
    seed: int = 0,
    names: Sequence[str] = (),
    progress: bool = False,
    train: str | Path | None = None,
) -> dict[str, Any]:
    """Replay policies on every set of a folder.

    Parameters
    ----------
    folder : path
        Holds ``*.jsonl.gz`` files.
    policies, perms, seed
        As for `replay_set`.
    names : sequence of str
        Only sets whose file name contains one of these; all by default.
    progress : bool
        Whether to report each set on the error stream.
    train : path, optional
        A folder with files of the same names, whose labels teach the reliability of voters.

    Returns
    -------
    dict
        ``{policy: {"mean": {...}, "sets": {set: {...}}}}`` with the values of `replay_set`; means
        are over the sets of real model output, each counting once.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise InputError(f"{folder}: is no folder")
    files = [
        f for f in sorted(folder.glob("*.jsonl.gz")) if not names or any(n in f.name for n in names)
    ]
    if not files:
        raise InputError(f"{folder}: holds no *.jsonl.gz file with such a name")
    out: dict[str, Any] = {policy: {"mean": {}, "sets": {}} for policy in policies}
    for i, file in enumerate(files):
        votes = load(file)
        if progress:
            line = f"\r[{i + 1}/{len(files)}] {votes.name:24s}"
            print(line, end="", file=sys.stderr, flush=True)
        other = None if train is None else Path(train) / file.name
        teacher = load(other) if other is not None and other.is_file() else None
        if votes.header.get("kind") != "ensemble":
            teacher = None
        able = [p for p in policies if can_replay(votes, p, trained=teacher is not None)]
        scored = replay_set(votes, able, perms=perms, seed=seed, train=teacher)
        for policy, scores in scored.items():
            out[policy]["sets"][votes.name] = scores
    if progress:
        print(file=sys.stderr)
    for policy, entry in out.items():
        if not entry["sets"]:
            raise InputError(f"policy: no set has what {policy} reads")
        real = [s for name, s in entry["sets"].items() if not name.startswith(GENERATED)]
        rows = real or list(entry["sets"].values())
        entry["mean"] = {key: float(np.mean([s[key] for s in rows])) for key in rows[0]}
    return out


def plot(scores: dict[str, Any], path: str | Path) -> None:
    """Draw accuracy against samples, one panel a set and one for the means.

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
        for colour, (policy, entry) in zip(colours, scores.items(), strict=True):
            row = entry["mean"] if name == "mean" else entry["sets"].get(name)
            if row is not None:
                axis.plot(row["samples"], row["accuracy"], "o", color=colour, label=policy)
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
    parser.add_argument("--seed", type=int, default=0, help="seed of the shuffles")
    parser.add_argument("--name", nargs="*", default=[], help="only files whose name has this")
    parser.add_argument(
        "--train", metavar="DIR2", help="labelled folder that teaches the reliability of voters"
    )
    parser.add_argument(
        "--plot",
        metavar="PATH",
        help="write accuracy against samples as an image (needs matplotlib)",
    )
    parser.add_argument("--json", metavar="PATH", help="write the scores, per set, as JSON")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Run ``vote run``; the exit code is 0, or 2 for a wrong argument."""
    policies = list(dict.fromkeys(name for group in args.policy or [] for name in group))
    policies = policies or ["majority", "locked", "beta:0.95", "best"]
    try:
        if args.seed < 0:
            raise InputError(f"seed: {args.seed} is negative")
        scores = replay(
            args.dir,
            policies,
            perms=args.perms,
            seed=args.seed,
            names=args.name,
            progress=sys.stderr.isatty(),
            train=args.train,
        )
        if args.plot:
            plot(scores, args.plot)
        if args.json:
            try:
                Path(args.json).write_text(json.dumps(scores, indent=1) + "\n", encoding="utf-8")
            except OSError as e:
                raise InputError(f"json: {e}") from e
    except TriviumError as e:
        print(f"trivium vote run: {e}", file=sys.stderr)
        return 2
    print(f"{'policy':20s} {'accuracy':>8s} {'samples':>8s} {'agreement':>9s}")
    for policy, entry in scores.items():
        mean = entry["mean"]
        print(
            f"{policy:20s} {mean['accuracy']:8.2f} {mean['samples']:8.2f} {mean['agreement']:9.2f}"
        )
    return 0
