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
from trivium.errors import InputError, TriviumError

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
    votes: VoteSet, policies: Sequence[str], *, perms: int = 10, seed: int = 0
) -> dict[str, dict[str, float]]:
    """Replay policies on one set.

    Parameters
    ----------
    votes : VoteSet
        The set.
    policies : sequence of str
        Stop rules: ``majority``, ``locked``, ``beta:C``.
    perms : int
        Number of shuffles.
    seed : int
        First part of the shuffles' seed.

    Returns
    -------
    dict
        ``accuracy``, ``samples`` and ``agreement`` by policy; the first and last in per cent.

    Raises
    ------
    UnsupportedError
        A rule that is specified but does not exist yet.
    InputError
        Any other name, or a number of shuffles below 1.
    """
    if perms < 1:
        raise InputError(f"perms: {perms} shuffles are none; at least 1 is needed")
    cap = min(CAP, max(len(q["votes"]) for q in votes.questions))
    rules = ["majority", *policies]
    right = np.zeros(len(rules))
    used = np.zeros(len(rules))
    same = np.zeros(len(rules))
    for question in votes.questions:
        winners, samples = _core.replay_keys(_shuffled(question, perms, seed), rules, cap)
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


def _shuffled(question: dict[str, Any], perms: int, seed: int) -> npt.NDArray[np.int64]:
    keys = np.array([-1 if v["k"] is None else v["k"] for v in question["votes"]], dtype=np.int64)
    name = zlib.crc32(question["q"].encode())
    orders = [np.random.default_rng([seed, t, name]).permutation(len(keys)) for t in range(perms)]
    return np.ascontiguousarray(keys[np.array(orders)])


def replay(
    folder: str | Path,
    policies: Sequence[str],
    *,
    perms: int = 10,
    seed: int = 0,
    names: Sequence[str] = (),
    progress: bool = False,
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
        for policy, scores in replay_set(votes, policies, perms=perms, seed=seed).items():
            out[policy]["sets"][votes.name] = scores
    if progress:
        print(file=sys.stderr)
    for entry in out.values():
        real = [s for name, s in entry["sets"].items() if not name.startswith(GENERATED)]
        rows = real or list(entry["sets"].values())
        entry["mean"] = {key: float(np.mean([s[key] for s in rows])) for key in rows[0]}
    return out


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
        help="stop rule: majority, locked, beta:C (default: majority locked beta:0.95)",
    )
    parser.add_argument("--perms", type=int, default=10, help="shuffles of each question")
    parser.add_argument("--seed", type=int, default=0, help="seed of the shuffles")
    parser.add_argument("--name", nargs="*", default=[], help="only files whose name has this")
    parser.add_argument("--json", metavar="PATH", help="write the scores, per set, as JSON")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Run ``vote run``; the exit code is 0, or 2 for a wrong argument."""
    policies = list(dict.fromkeys(name for group in args.policy or [] for name in group))
    policies = policies or ["majority", "locked", "beta:0.95"]
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
        )
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
