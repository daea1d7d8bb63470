"""Votes along one trace: denoising steps, early answers of an unfinished text."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, NamedTuple

from trivium import _core
from trivium.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["Probes", "TemporalVote", "temporal_confidence", "temporal_vote", "token_cover"]


class TemporalVote(NamedTuple):
    """Winner of the steps seen so far.

    Attributes
    ----------
    winner : str or None
        The key with the largest sum; ties to the later step.
    sums : dict of str to float
        Sums by key. Exponential ones are ``exp(-alpha)`` times the published ones.
    decided : bool
        Whether no remaining step can change the winner: denoising may stop.
    """

    winner: str | None
    sums: dict[str, float]
    decided: bool


def temporal_vote(
    keys: Sequence[str | None],
    *,
    steps: int | None = None,
    weight: str = "exponential",
    alpha: float = 5.0,
) -> TemporalVote:
    """Vote of the answers that a diffusion model's canvas shows step by step.

    Wang et al., "Time Is a Feature: Exploiting Temporal Dynamics in Diffusion Language Models".

    Parameters
    ----------
    keys : sequence of str or None
        Key of the predicted canvas after each step so far; None where it has no answer.
    steps : int, optional
        Steps of the whole run; default those given.
    weight : {"fixed", "linear", "exponential"}
        ``1``, ``(s + 1) / S``, ``exp(alpha s / S)``.
    alpha : float
        Growth of exponential weights.

    Examples
    --------
    >>> temporal_vote(list("AAAAABBB")).winner
    'B'
    >>> temporal_vote(list("AAAAABBB"), weight="fixed").sums
    {'A': 5.0, 'B': 3.0}
    """
    total = len(keys) if steps is None else steps
    if total < len(keys) or not 0 <= alpha < 700:
        raise InputError("steps, alpha: need at least the steps given, and alpha in [0, 700)")
    if weight not in ("fixed", "linear", "exponential"):
        raise InputError(f"weight: {weight!r} is unknown; choose fixed, linear or exponential")
    names: dict[str, int] = {}
    ids = [None if key is None else names.setdefault(key, len(names)) for key in keys]
    winner, sums, decided = _core.Voter.temporal_vote(ids, total, weight, float(alpha))
    spelled = list(names)
    by_name = {spelled[key]: value for key, value in sums}
    return TemporalVote(None if winner is None else spelled[winner], by_name, decided)


def temporal_confidence(keys: Sequence[str | None]) -> tuple[float, float]:
    """Temporal semantic entropy of the steps with an answer, and the confidence it stands for.

    ``(ln T - TSE) / ln T`` with `T` the number of such steps; 1 where all agree. A weight of the
    trace where several diffusion samples vote.

    Examples
    --------
    >>> [round(x, 10) for x in temporal_confidence(list("AABBBBBB"))]
    [0.5623351446, 0.7295739585]
    """
    names: dict[str, int] = {}
    ids = [None if key is None else names.setdefault(key, len(names)) for key in keys]
    return _core.Voter.temporal_entropy(ids)


class Probes:
    """Early answers of running traces: provisional ballots that a finish replaces.

    The host forces the answer delimiter on a copy of the trace at chosen positions and reads what
    follows. A later probe of a trace replaces the earlier one. Early answers favour early guesses,
    and every probe costs a fork.

    Parameters
    ----------
    weight : float
        What a provisional ballot counts, below 1.
    stable : int
        Equal probes in a row after which a trace may be taken as finished.
    """

    __slots__ = ("_final", "_said", "stable", "weight")

    def __init__(self, *, weight: float = 0.5, stable: int = 3) -> None:
        if not 0 < weight < 1 or stable < 1:
            raise InputError("weight, stable: need a weight in (0, 1) and a count from 1 on")
        self.weight, self.stable = weight, stable
        self._said: dict[int, list[str | None]] = {}
        self._final: dict[int, str | None] = {}

    def probe(self, trace: int, key: str | None) -> bool:
        """Report an early answer; returns whether the trace may be finished with it."""
        if trace in self._final:
            raise InputError(f"trace: {trace} has finished")
        said = self._said.setdefault(trace, [])
        said.append(key)
        last = said[-self.stable :]
        return key is not None and len(last) == self.stable and len(set(last)) == 1

    def finish(self, trace: int, key: str | None) -> None:
        """Report the final answer of a trace, which replaces its probes."""
        self._final[trace] = key

    def tally(self) -> dict[str, float]:
        """Weights by key: finished traces count 1, running ones by their last probe."""
        sums: Counter[str] = Counter()
        traces = sorted(self._said.keys() | self._final.keys())
        for trace in traces:
            final = trace in self._final
            key = self._final[trace] if final else self._said[trace][-1]
            if key is not None:
                sums[key] += 1.0 if final else self.weight  # type: ignore[assignment]
        return dict(sums)


def token_cover(
    tokens: Sequence[Sequence[int]],
    confidences: Sequence[float] | None = None,
    *,
    gamma: float = 0.95,
    k_min: int = 1,
    common: float = 0.9,
) -> list[int]:
    """Choose running traces that cover the tokens of all; cancel the others.

    Our reading of "Confidence-Weighted Token Set Cover for Early Hypothesis Pruning in
    Self-Consistency": greedily the trace with the largest ``confidence * newly covered tokens``.

    Parameters
    ----------
    tokens : sequence of int sequences
        Token ids of each running trace.
    confidences : sequence of float, optional
        In (0, 1], such as the exponential of the mean log-probability of the last tokens.
    gamma : float
        Share of the tokens to cover.
    k_min : int
        Least number of traces kept.
    common : float
        Tokens that this share of the traces has (of at least four) say nothing and are left out.

    Examples
    --------
    >>> token_cover([[1, 2, 3, 4], [3, 4, 5], [1, 2], [5, 6]], [0.9, 0.8, 0.95, 0.5])
    [0, 3]
    """
    conf = [1.0] * len(tokens) if confidences is None else [float(c) for c in confidences]
    if len(conf) != len(tokens) or any(not 0 <= c < float("inf") for c in conf):
        raise InputError(f"confidences: needs {len(tokens)} finite values from 0 on")
    if not 0 <= gamma <= 1 or k_min < 1:
        raise InputError("gamma, k_min: need a share in [0, 1] and a count from 1 on")
    sets = [sorted(set(row)) for row in tokens]
    if len(sets) >= 4:
        counts = Counter(token for row in sets for token in row)
        sets = [[t for t in row if counts[t] < common * len(sets)] for row in sets]
    return _core.Voter.token_cover(sets, conf, gamma, k_min)
