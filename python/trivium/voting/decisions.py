"""From votes to decisions: exact maj@k, reliabilities, calibration, budgets, equilibria."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from trivium import _core
from trivium.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = [
    "allocate",
    "consensus_game",
    "isotonic",
    "learn_reliabilities",
    "majority_at",
    "risk_controlled",
]


def majority_at(
    gold: int, others: Sequence[int], k: Sequence[int], *, none: int = 0
) -> list[float]:
    """Exact probability that a vote over `k` random samples elects the right key (maj@k).

    Parameters
    ----------
    gold : int
        Samples with the right key.
    others : sequence of int
        Samples with each other key.
    k : sequence of int
        Sizes of the vote.
    none : int
        Samples without an answer.

    Returns
    -------
    list of float
        One probability a size; a tie of m keys counts 1/m.

    Examples
    --------
    >>> majority_at(3, [2, 1], [1, 3, 6])
    [0.5, 0.6, 1.0]
    """
    if min([gold, none, *others, *k], default=0) < 0:
        raise InputError("gold, others, none, k: counts are not negative")
    if gold + none + sum(others) < max(k, default=0):
        raise InputError("k: is larger than the number of samples")
    found = _core.Voter.majority_at(gold, list(others), none, list(k))
    return [round(p, 12) for p in found]


def learn_reliabilities(
    votes: Sequence[tuple[Sequence[tuple[int, str | None]], str | None]],
    sources: int,
    *,
    method: str = "odds",
    ridge: float = 0.3,
    rounds: int = 10,
) -> list[float]:
    """Weights of sources from earlier questions, for ``Voter(weight="log_odds")``.

    Parameters
    ----------
    votes : sequence of (ballots, gold)
        Ballots are pairs of source index and key, or None for no answer. ``"unlabelled"`` does
        not read the gold key: None will do.
    sources : int
        Number of sources.
    method : {"odds", "joint", "unlabelled"}
        ``"odds"``: ``max(0, log((right + 1) / (wrong + 1)) + log(mean number of wrong answers))``
        source by source, as if sources were independent (Nitzan and Paroush). ``"joint"``: a
        conditional logit over the answers (McFadden), in which sources that repeat each other share
        their weight; stop it with ``posterior:1:0.9``. ``"unlabelled"``: the log-odds with each
        vote judged by the weighted vote of all, by expectation-maximisation (Dawid and Skene, one
        accuracy a source): sources that repeat each other confirm each other.
    ridge : float
        Pull of ``"joint"`` towards the log-odds.
    rounds : int
        Rounds of ``"unlabelled"``, from 1 to 100.

    Returns
    -------
    list of float
        One weight a source, none negative.

    Raises
    ------
    InputError
        A source that is not one of them, an unknown method, a `ridge` not above 0, `rounds` out
        of range, a gold key of None for a method that reads it.
    """
    if method not in ("odds", "joint", "unlabelled"):
        raise InputError(f"method: {method!r} is unknown; choose one of: odds, joint, unlabelled")
    if not 1 <= rounds <= 100:
        raise InputError(f"rounds: {rounds} is not in 1 .. 100")
    if not 0 < ridge < np.inf:
        raise InputError(f"ridge: {ridge} is not a finite number above 0")
    counts = np.ones((sources, 2))
    spread = 0.0
    for ballots, gold in votes:
        if gold is None and method != "unlabelled":
            raise InputError(f"votes: method {method!r} reads the gold key, which is None")
        wrong = {key for _, key in ballots if key is not None and key != gold}
        spread += max(1, len(wrong)) / len(votes)
        for source, key in ballots:
            if not 0 <= source < sources:
                raise InputError(f"votes: source {source} is not in 0 .. {sources - 1}")
            counts[source, 0 if key == gold else 1] += 1
    if method == "joint":
        return _core.Voter.learn_jointly(_numbered(votes), sources, float(ridge))
    if method == "unlabelled":
        return _core.Voter.learn_unlabelled(_numbered(votes), sources, rounds)
    odds = np.log(counts[:, 0] / counts[:, 1]) + np.log(max(spread, 1.0))
    return [float(w) for w in np.maximum(odds, 0.0)]


def _numbered(
    votes: Sequence[tuple[Sequence[tuple[int, str | None]], str | None]],
) -> list[tuple[list[tuple[int, int | None]], int, list[int]]]:
    """Ballots with keys numbered question by question, how many, and the right ones."""
    numbered = []
    for ballots, gold in votes:
        ids: dict[str, int] = {}
        keys = [(s, None if k is None else ids.setdefault(k, len(ids))) for s, k in ballots]
        numbered.append((keys, len(ids), [ids[gold]] if gold in ids else []))
    return numbered


def risk_controlled(
    scores: Sequence[float],
    right: Sequence[bool],
    *,
    target: float,
    delta: float = 0.05,
    candidates: Sequence[float] | None = None,
) -> float | None:
    """Loosest threshold on a score that keeps the accuracy of what is answered at a target.

    Thresholds are tried from strict to loose, each by the exact binomial bound, and the first
    failure stops: with probability ``1 - delta`` the promise holds.

    Returns
    -------
    float or None
        Answer where the score reaches it; None if no threshold keeps the promise.
    """
    if len(scores) != len(right):
        raise InputError("scores, right: need equal lengths")
    if not 0 < delta < 1:
        raise InputError("delta: is not in (0, 1)")
    grid = [i / 20 for i in range(20)] if candidates is None else list(candidates)
    labelled = [(float(s), bool(ok)) for s, ok in zip(scores, right, strict=True)]
    return _core.Voter.controlled_threshold(labelled, grid, float(target), float(delta))


def isotonic(
    scores: Sequence[float], labels: Sequence[float], *, force: bool = False
) -> list[float]:
    """Monotone calibration: the non-decreasing values closest to the labels.

    Raises
    ------
    InputError
        Fewer than 50 labels without `force`, or lengths that differ.

    Examples
    --------
    >>> isotonic([0.2, 0.4, 0.6, 0.8], [0, 1, 0, 1], force=True)
    [0.0, 0.5, 0.5, 1.0]
    """
    if len(scores) != len(labels):
        raise InputError("scores, labels: need equal lengths")
    if len(scores) < 50 and not force:
        raise InputError(f"labels: {len(labels)} are too few to calibrate by; 50 are needed")
    return _core.Voter.isotonic([float(s) for s in scores], [float(y) for y in labels])


def allocate(chances: Sequence[float], budget: int) -> list[int]:
    """Share a budget of samples among questions with known chances of success a sample.

    The largest marginal values ``p (1 - p)^(k - 1)`` first (Damani et al., "Learning How Hard to
    Think: Input-Adaptive Allocation of LM Computation").

    Examples
    --------
    >>> allocate([0.9, 0.5, 0.1, 0.02], 10)
    [2, 3, 5, 0]
    """
    if any(not 0 <= p <= 1 for p in chances):
        raise InputError("chances: are not in [0, 1]")
    if not 0 <= budget < 1 << 24:
        raise InputError("budget: is not in 0 .. 2**24 - 1")
    return _core.Voter.allocate([float(p) for p in chances], budget)


def consensus_game(
    correct: Sequence[float],
    incorrect: Sequence[float],
    verdict: Sequence[float],
    *,
    eta: float = 0.1,
    prior: float = 0.1,
    rounds: int = 5000,
) -> tuple[list[float], list[float]]:
    """Rank candidates at the equilibrium of generator and discriminator.

    Jacob et al., "The Consensus Game: Language Model Generation via Equilibrium Search".

    Parameters
    ----------
    correct, incorrect : sequence of float
        Probability of each candidate when a correct or an incorrect answer is asked for.
    verdict : sequence of float
        Probability that each candidate is judged correct.
    eta, prior : float
        Learning rate and pull towards the initial policies.
    rounds : int
        Rounds.

    Returns
    -------
    (list of float, list of float)
        Generator's probabilities of the candidates and discriminator's verdicts.
    """
    if not len(correct) == len(incorrect) == len(verdict) > 0:
        raise InputError("correct, incorrect, verdict: need equal lengths above 0")
    flat = [float(p) for p in (*correct, *incorrect, *verdict)]
    if any(not 0 <= p <= 1 for p in flat) or eta <= 0 or prior <= 0 or not 0 <= rounds <= 1 << 20:
        raise InputError("correct, incorrect, verdict: need probabilities; eta, prior above 0")
    n = len(correct)
    return _core.Voter.consensus_game(flat[:n], flat[n : 2 * n], flat[2 * n :], eta, prior, rounds)
