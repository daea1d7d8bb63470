"""Rules that are *not* lossless, each with its error reported.

Nothing here is used unless it is asked for by name. Rules over a tree go to
``spec.verify(..., lossy=)``; `RewardGate` and `EntropySwitch` decide over more than a token and are
called by the host; `transform` makes another target law of two rows, which any verifier then serves
exactly. ``trivium check`` enumerates each of them and compares the distance with the report.

================  ===========================================================================
`Typical`         Medusa's typical acceptance
`Threshold`       acceptance thresholds of serving stacks
`TopK`            relaxed blockwise decoding: among the most likely
`Distance`        the same for ordinal tokens: near the most likely
`MinBlock`        the same: blocks of at least a length
`ConfidentPrefix` lexical units: the tokens that the drafter was sure of
`RewardGate`      reward-guided speculative decoding: steps kept by their reward
`EntropySwitch`   entropy adaptive decoding: a small model writes where entropy is low
`transform`       reflective verification, contrast, cascades
================  ===========================================================================
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from trivium import _core
from trivium.errors import InputError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = [
    "ConfidentPrefix",
    "Distance",
    "EntropySwitch",
    "MinBlock",
    "RewardGate",
    "Threshold",
    "TopK",
    "Typical",
    "transform",
]


@dataclass(frozen=True, slots=True)
class Typical:
    """Take a child ``c`` where ``p(c) > min(epsilon, alpha * exp(-H(p)))``; the longest path wins.

    "Medusa: Simple LLM Inference Acceleration Framework with Multiple Decoding Heads". The token
    behind the accepted path is drawn, not taken greedily as in the release.
    """

    epsilon: float = 0.3
    alpha: float = 0.09

    def _core(self) -> tuple[str, list[float]]:
        return "typical", [self.epsilon, self.alpha]


@dataclass(frozen=True, slots=True)
class Threshold:
    """Take a child of probability ``single``, or at which the siblings' add up to ``acc``."""

    single: float = 0.5
    acc: float = 0.9

    def _core(self) -> tuple[str, list[float]]:
        return "threshold", [self.single, self.acc]


@dataclass(frozen=True, slots=True)
class TopK:
    """Take a child among the ``k`` most likely tokens.

    "Blockwise Parallel Decoding for Deep Autoregressive Models", its relaxed criterion.
    """

    k: int = 3

    def _core(self) -> tuple[str, list[float]]:
        return "top_k", [float(self.k)]


@dataclass(frozen=True, slots=True)
class Distance:
    """Take a child whose id is at most ``epsilon`` from the most likely one's.

    For tokens whose ids are in the order of what they mean, such as intensities. "Blockwise
    Parallel Decoding for Deep Autoregressive Models".
    """

    epsilon: int = 2

    def _core(self) -> tuple[str, list[float]]:
        return "distance", [float(self.epsilon)]


@dataclass(frozen=True, slots=True)
class MinBlock:
    """Take the first ``length`` tokens of a draft whatever they are, then the most likely ones.

    "Blockwise Parallel Decoding for Deep Autoregressive Models".
    """

    length: int = 2

    def _core(self) -> tuple[str, list[float]]:
        return "min_block", [float(self.length)]


@dataclass(frozen=True, slots=True)
class ConfidentPrefix:
    """Take the leading tokens of draft probability ``alpha`` or more: a lexical unit.

    ``verify`` then needs ``q``, the drafter's laws; the target only writes the token behind the
    unit. "Decoding at the Speed of Thought: Harnessing Parallel Decoding of Lexical Units for
    LLMs".
    """

    alpha: float = 0.9

    def _core(self) -> tuple[str, list[float]]:
        return "confident", [self.alpha]


class RewardGate:
    """Keep a drafted step of text by its reward; otherwise the target writes the step.

    "Reward-Guided Speculative Decoding for Efficient LLM Reasoning". The host cuts text into steps
    and calls its reward model.

    Parameters
    ----------
    delta : float, optional
        Smallest reward of a step that stays.

    Raises
    ------
    InputError
        ``delta`` is NaN.
    """

    def __init__(self, delta: float = 0.7) -> None:
        if delta != delta:
            raise InputError("delta: is NaN")
        self._gate = _core.RewardGate(delta)

    def accept(self, reward: float) -> bool:
        """Whether the step stays. Raises `InputError` for NaN."""
        return self._gate.accept(reward)

    @property
    def deviation(self) -> float:
        """Share of steps that the draft model wrote: bounds the mean total variation of a step."""
        return self._gate.deviation


class EntropySwitch:
    """Which of two models writes the next token, by a rolling mean of entropy.

    "Entropy Adaptive Decoding: Dynamic Model Switching for Efficient Inference".

    Parameters
    ----------
    window : int
        Tokens of the mean; until so many were seen the large model writes.
    low, high : float
        Nats. Below ``low`` the small model takes over, above ``high`` the large one.

    Raises
    ------
    InputError
        An empty window, or ``low > high``.
    """

    def __init__(self, window: int = 5, low: float = 0.5, high: float = 1.0) -> None:
        if window < 1:
            raise InputError(f"window: {window} is not from 1 up")
        self._switch = _core.EntropySwitch(window, low, high)

    def observe(self, entropy: float) -> bool:
        """Count the entropy of the row the last token came from; True if the small model is next.

        Raises
        ------
        InputError
            ``entropy`` is not finite.
        """
        return self._switch.observe(entropy)

    @property
    def deviation(self) -> float:
        """Share of tokens of the small model: bounds the mean total variation of a token."""
        return self._switch.deviation


def transform(
    p: Any,
    other: Any,
    kind: Literal["reflective", "contrastive", "cascade", "defer"] = "reflective",
    *,
    weight: float = 0.5,
    beta: float = 0.5,
    alpha: float = 0.1,
    share: float = 0.5,
    below: float = 0.5,
) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
    """Another target law, made of two rows a position.

    Verified like any target (``logits=numpy.log(pi)``), the text has the law of ``pi`` exactly;
    what that costs against ``p`` is returned beside it.

    Parameters
    ----------
    p, other : float array, shape (n, vocab)
        Probabilities of the target, and of the second row: after a reflection prompt
        (``"reflective"``), of the amateur, untruncated (``"contrastive"``), of the drafter
        (``"cascade"``, ``"defer"``).
    kind : str, optional
        ``p^(1-weight) other^weight``; ``p^(1+beta) / other^beta`` where ``p >= alpha max p``;
        ``(1-share) other + share p``; ``p`` where the drafter's best is below ``below``, else its.

    Returns
    -------
    pi : float32 array, shape (n, vocab)
        The new law.
    apart : float64 array, shape (n,)
        Total variation between ``p`` and ``pi`` at each position; the sum over a text's positions
        bounds the text's.

    Raises
    ------
    InputError
        Rows that are no laws, shapes that differ, a parameter out of its range.

    Notes
    -----
    "Think Before You Accept: Semantic Reflective Verification for Faster Speculative Decoding",
    "Speculative Contrastive Decoding", "Faster Cascades via Speculative Decoding".
    """
    numbers = {
        "reflective": [weight],
        "contrastive": [beta, alpha],
        "cascade": [share],
        "defer": [below],
    }.get(kind)
    if numbers is None:
        raise InputError(f"kind: {kind!r} is none of reflective, contrastive, cascade, defer")
    pi, apart = _core.transform_rows(kind, numbers, p, other)
    return pi.reshape(len(apart), -1), apart
