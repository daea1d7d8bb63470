"""Rewards, and what search leaves behind, as votes: step rewards, particles, trees, acceptance."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from trivium.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Hashable, Sequence

    import numpy.typing as npt

__all__ = [
    "accepts_step",
    "best_of",
    "design_effect",
    "effective_size",
    "frontier_order",
    "leaf_weights",
    "log_odds_of_rewards",
    "particle_weights",
    "self_evaluation",
    "trace_reward",
    "transfer_width",
]


def trace_reward(steps: Sequence[float], how: str = "last") -> float:
    """Reward of a trace from those of its steps: ``"min"``, ``"prod"``, ``"last"`` or ``"mean"``.

    Examples
    --------
    >>> [round(trace_reward([0.9, 0.8, 0.95], how), 6) for how in ("min", "prod", "last", "mean")]
    [0.8, 0.684, 0.95, 0.883333]
    """
    if not len(steps):
        raise InputError("steps: a trace without steps has no reward")
    rules = {"min": min, "prod": math.prod, "last": lambda s: s[-1], "mean": np.mean}
    if how not in rules:
        raise InputError(f"how: {how!r} is unknown; choose one of: {', '.join(rules)}")
    return float(rules[how](list(steps)))  # type: ignore[operator]


def best_of(
    keys: Sequence[Hashable | None], rewards: Sequence[float | None]
) -> tuple[int | None, float]:
    """Trace of largest reward (best-of-N), and the vote share of its key.

    Ties go to the key with more votes, then to the earlier trace; traces without a reward take no
    part. A small share beside a large reward is what an over-optimised reward looks like.

    Examples
    --------
    >>> best_of(["A", "B", "B", "C", "A"], [0.9, 0.6, 0.55, 0.95, 0.1])
    (3, 0.2)
    """
    if len(keys) != len(rewards):
        raise InputError("keys, rewards: need equal lengths")
    cast = [key for key in keys if key is not None]
    scored = [i for i, reward in enumerate(rewards) if reward is not None]
    if not scored:
        return None, 0.0
    best = max(scored, key=lambda i: (rewards[i], cast.count(keys[i]), -i))
    return best, cast.count(keys[best]) / len(cast) if cast else 0.0


def log_odds_of_rewards(rewards: Sequence[float], *, clip: float = 1e-6) -> list[float]:
    """Rewards that are probabilities of correctness as log-odds, for ``weight="user"``.

    Summed by key they enter the posterior stop exactly; a verifier that is never wrong stops at the
    first success. Negative log-odds count 0.
    """
    p = np.clip(np.asarray(rewards, dtype=np.float64), clip, 1 - clip)
    if not np.isfinite(p).all():
        raise InputError("rewards: are not finite")
    return [float(w) for w in np.maximum(np.log(p) - np.log1p(-p), 0.0)]


def accepts_step(reward: float, *, threshold: float = 0.7) -> bool:
    """Whether a draft step of this process reward stays, or the large model writes it again.

    Liao et al., "Reward-Guided Speculative Decoding for Efficient LLM Reasoning": biased on
    purpose.
    """
    return reward >= threshold


def self_evaluation(confidence: float, probability: float, *, balance: float = 0.5) -> float:
    """Score of a step: ``c^r p^(1-r)`` with the model's own belief `c` that the step is right.

    Xie et al., "Decomposition Enhances Reasoning via Self-Evaluation Guided Decoding". The product
    over steps is a weight of the trace; beams are no independent ballots.

    Examples
    --------
    >>> round(self_evaluation(0.8, 0.01 ** (1 / 10)), 8)
    0.71046877
    """
    if not (0 <= confidence <= 1 and 0 <= probability <= 1 and 0 <= balance <= 1):
        raise InputError("confidence, probability, balance: are not in [0, 1]")
    return float(confidence**balance * probability ** (1 - balance))


def particle_weights(rewards: Sequence[float]) -> npt.NDArray[np.float64]:
    """Weights of particles, ``softmax(logit(reward))``: each reward's odds, normalised.

    Puri et al., "A Probabilistic Inference Approach to Inference-Time Scaling of LLMs using
    Particle-Based Monte Carlo Methods".

    Examples
    --------
    >>> [round(float(w), 6) for w in particle_weights([0.9, 0.5, 0.2])]
    [0.878049, 0.097561, 0.02439]
    """
    p = np.clip(np.asarray(rewards, dtype=np.float64), 1e-12, 1 - 1e-12)
    if not p.size or not np.isfinite(p).all():
        raise InputError("rewards: need finite values")
    odds = p / (1 - p)
    return np.asarray(odds / odds.sum())


def effective_size(weights: Sequence[float]) -> float:
    """Kish's effective number of samples ``(sum w)^2 / sum w^2``: what a stop rule may believe.

    Examples
    --------
    >>> effective_size([1.0] * 5), effective_size([1.0, 0.0])
    (5.0, 1.0)
    """
    w = np.asarray(weights, dtype=np.float64)
    if w.size == 0 or (w < 0).any() or not 0 < w.sum() < np.inf:
        raise InputError("weights: need finite values from 0 on, not all 0")
    return float(w.sum() ** 2 / (w**2).sum())


def frontier_order(rewards: Sequence[float]) -> float:
    """Priority of a partial solution in A*-decoding: its reward plus the rises along its path.

    Chatziveroglou, "A*-Decoding: Token-Efficient Inference Scaling".

    Examples
    --------
    >>> round(frontier_order([0.5, 0.6, 0.55, 0.7]), 6)
    0.95
    """
    if not len(rewards):
        raise InputError("rewards: an empty path has no priority")
    rises = sum(max(0.0, b - a) for a, b in pairwise(rewards))
    return float(rewards[-1] + rises)


def leaf_weights(paths: Sequence[Sequence[int]]) -> list[float]:
    """Weight of each leaf of a tree of traces: the product of 1 / branching along its path.

    Li et al., "TreePO: Bridging the Gap of Policy Optimization and Efficacy and Inference
    Efficiency with Heuristic Tree-based Modeling" grows such trees; leaves share prefixes, and with
    these weights each root-to-leaf path counts by its own law.

    Parameters
    ----------
    paths : sequence of sequences of int
        The branch taken at each fork; no path may begin another.

    Examples
    --------
    >>> leaf_weights([[0], [1, 0], [1, 1]])
    [0.5, 0.25, 0.25]
    """
    children: dict[tuple[int, ...], set[int]] = {}
    for path in paths:
        for i, branch in enumerate(path):
            children.setdefault(tuple(path[:i]), set()).add(branch)
    if len({tuple(p) for p in paths}) < len(paths) or any(tuple(p) in children for p in paths):
        raise InputError("paths: a path is listed twice, or begins another")
    return [
        float(math.prod(1 / len(children[tuple(path[:i])]) for i in range(len(path))))
        for path in paths
    ]


def design_effect(n: float, cluster: float, correlation: float) -> float:
    """Independent ballots that `n` clustered ones are worth: ``n / (1 + (m - 1) rho)``.

    Examples
    --------
    >>> design_effect(20, 5, 0.25)
    10.0
    """
    if n < 0 or cluster < 1 or not 0 <= correlation <= 1:
        raise InputError("n, cluster, correlation: need n >= 0, m >= 1 and rho in [0, 1]")
    return n / (1 + (cluster - 1) * correlation)


def transfer_width(
    extra: int, step_width: int, active: Sequence[float], left: int, *, temperature: float = 0.0
) -> list[int]:
    """Share the width of ended paths among the active ones (TreePO's budget transfer).

    ``min(left, extra + step_width * active)`` continuations in all, evenly, or by
    ``softmax(logprob / temperature)`` of the active paths; remainders go to the first.

    Examples
    --------
    >>> transfer_width(3, 2, [0.0, 0.0], 16)
    [4, 3]
    """
    if extra < 0 or step_width < 0 or left < 0:
        raise InputError("extra, step_width, left: are not negative")
    if not len(active):
        return []
    total = min(left, extra + step_width * len(active))
    if temperature > 0:
        tilt = np.asarray(active, dtype=np.float64) / temperature
        shares = np.exp(tilt - tilt.max())
        shares /= shares.sum()
    else:
        shares = np.full(len(active), 1 / len(active))
    out = [int(x) for x in np.floor(shares * total + 1e-9)]
    order = sorted(range(len(out)), key=lambda i: (out[i] - shares[i] * total, i))
    for i in order[: total - sum(out)]:
        out[i] += 1
    return out
