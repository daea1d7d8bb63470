"""Replays of stop rules and weights on recorded answers (``votes-v1`` files).

A folder of ``votes-v1`` files holds questions with the canonical key of every sampled answer. Each
policy sees the answers of a question in shuffled order, at most ``min(40, n)`` of them, and is
scored by accuracy, samples used and agreement with the plain majority at the same cap. The shuffles
are those of the NumPy reference, ``default_rng([seed, order, crc32(question)])``, so that figures
are comparable to the last digit.
"""

from __future__ import annotations

import gzip
import json
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from trivium import _core
from trivium.cli.progress import Progress
from trivium.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt

__all__ = ["VoteSet", "load", "replay", "replay_set", "split"]

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
    taught = {} if train is None else _taught(votes, train, policies)
    rules = ["majority", *policies]
    right = np.zeros(len(rules))
    used = np.zeros(len(rules))
    same = np.zeros(len(rules))
    # What each policy has learned in each shuffle: the questions of a set are one pool, in turn.
    known: list[list[int]] = []
    for question in votes.questions:
        orders = _orders(question, perms, seed)
        votes_of = question["votes"]
        keys = np.array([-1 if v["k"] is None else v["k"] for v in votes_of], dtype=np.int64)
        fields = {
            name: np.array([v[name] for v in votes_of], dtype=np.float64)[orders]
            for name in ("n", "lp", "nt", "r", "v")
            if all(name in v for v in votes_of)
        }
        for name, weights in taught.items():
            if "v" in fields:
                fields[name] = weights[fields["v"].astype(np.int64)]
        winners, samples, known = _core.replay_keys(keys[orders], rules, cap, fields, known)
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


def joint_weights(votes: VoteSet, train: VoteSet) -> npt.NDArray[np.float64]:
    """Weights of a set's voters, learned jointly from the labels of another set.

    A voter that the other set does not know counts 0.
    """
    index = {name: i for i, name in enumerate(train.header["voters"])}
    labelled = []
    for question in train.questions:
        ballots = [(vote["v"], vote["k"]) for vote in question["votes"]]
        right = [k for k, ok in enumerate(question["ok"]) if ok]
        labelled.append((ballots, len(question["ok"]), right))
    found = [*_core.Voter.learn_jointly(labelled, len(index), RIDGE), 0.0]
    return np.array([found[index.get(name, -1)] for name in votes.header["voters"]])


def _taught(
    votes: VoteSet, train: VoteSet, policies: Sequence[str]
) -> dict[str, npt.NDArray[np.float64]]:
    """Weights of voters by the field that policies read."""
    taught = {"odds": source_log_odds(votes, train)}
    if any(needs_of(policy) == "learned" for policy in policies):
        taught["learned"] = joint_weights(votes, train)
    return taught


def split(votes: VoteSet, folds: int) -> list[tuple[VoteSet, VoteSet]]:
    """Pairs of held-out and remaining questions.

    Fold `f` holds the questions with ``crc32(q) % folds == f``. Folds without questions, or without
    any to learn from, are left out.
    """
    pairs = []
    for fold in range(folds):
        held: list[dict[str, Any]] = []
        rest: list[dict[str, Any]] = []
        for question in votes.questions:
            inside = zlib.crc32(question["q"].encode()) % folds == fold
            (held if inside else rest).append(question)
        if held and rest:
            header = votes.header
            pairs.append((VoteSet(votes.name, header, held), VoteSet(votes.name, header, rest)))
    return pairs


def _replay_folds(
    votes: VoteSet, policies: Sequence[str], folds: int, **options: Any
) -> dict[str, dict[str, float]]:
    """Scores of `replay_set` over held-out folds, voters taught by the other folds."""
    pairs = split(votes, folds)
    total = sum(len(held.questions) for held, _ in pairs)
    out: dict[str, dict[str, float]] = {policy: {} for policy in policies}
    for held, rest in pairs:
        scores = replay_set(held, policies, train=rest, **options)
        for policy, row in scores.items():
            for name, value in row.items():
                share = value * len(held.questions) / total
                out[policy][name] = out[policy].get(name, 0.0) + share
    return out


RIDGE = 0.3
"""Pull of jointly learned weights towards the log-odds."""
NEEDS = {
    **dict.fromkeys(("rpc", "pc", "ppl", "normalised", "unnormalised", "cisc"), "lp"),
    **dict.fromkeys(("reward", "best_of"), "r"),
    **dict.fromkeys(("log_odds", "posterior"), "odds"),
    "learned": "learned",
}
"""What a policy reads beyond answers and lengths: sets without it are left out of its row."""


def needs_of(policy: str) -> str | None:
    """Name the field that a policy reads beyond answers and lengths, None where nothing."""
    return NEEDS.get(policy.replace("@", ":").split(":", maxsplit=1)[0])


def can_replay(votes: VoteSet, policy: str, *, trained: bool) -> bool:
    """Whether a set has what a policy reads."""
    needs = needs_of(policy)
    if needs is None:
        return True
    if needs in ("odds", "learned"):
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
    folds: int = 0,
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
    folds : int
        In place of `train`: each of this many folds of a set's questions is scored with what the
        other folds teach (cross-validation); 0 for none.

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
    if folds and (folds < 2 or train is not None):
        raise InputError("folds: needs at least 2, and no train")
    out: dict[str, Any] = {policy: {"mean": {}, "sets": {}} for policy in policies}
    bar = Progress("votes", len(files), quiet=not progress)
    with bar:
        for file in files:
            scored = _scored(file, policies, train, folds, perms=perms, seed=seed)
            for policy, (name, scores) in scored.items():
                out[policy]["sets"][name] = scores
            bar.step()
    for policy, entry in out.items():
        if not entry["sets"]:
            raise InputError(f"policy: no set has what {policy} reads")
        real = [s for name, s in entry["sets"].items() if not name.startswith(GENERATED)]
        rows = real or list(entry["sets"].values())
        entry["mean"] = {key: float(np.mean([s[key] for s in rows])) for key in rows[0]}
    return out


def _scored(
    file: Path,
    policies: Sequence[str],
    train: str | Path | None,
    folds: int,
    **options: Any,
) -> dict[str, tuple[str, dict[str, float]]]:
    """Name and scores of one file by policy, for those that it has the fields for."""
    votes = load(file)
    other = None if train is None else Path(train) / file.name
    ensemble = votes.header.get("kind") == "ensemble"
    teacher = load(other) if ensemble and other is not None and other.is_file() else None
    trained = ensemble and (teacher is not None or folds > 0)
    able = [p for p in policies if can_replay(votes, p, trained=trained)]
    taught = [p for p in able if needs_of(p) in ("odds", "learned")]
    if folds and taught:
        alone = [p for p in able if p not in taught]
        scored = replay_set(votes, alone, **options) if alone else {}
        scored |= _replay_folds(votes, taught, folds, **options)
    else:
        scored = replay_set(votes, able, train=teacher, **options)
    return {policy: (votes.name, scored[policy]) for policy in able}
