"""Consistency at the logit level: several rows become one, entropy says when to look again."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any

import numpy as np

from trivium.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt

__all__ = ["EntropySwitch", "fuse_rows"]


def fuse_rows(
    rows: Any, *, weights: Sequence[float] | None = None, mix: str = "logit"
) -> npt.NDArray[np.float64]:
    """Fuse next-token rows of one continuation under several prompts.

    Cheng et al., "Integrative Decoding: Improve Factuality via Implicit Self-consistency": the mean
    of the logits, which is the geometric mean of the laws. Apply grammar masks and truncation once,
    to the result: a token that a single row forbids would be lost to all.

    Parameters
    ----------
    rows : float array, shape (prompts, vocabulary)
        Logits.
    weights : sequence of float, optional
        Weight of each row; equal by default.
    mix : {"logit", "prob"}
        Geometric mean, or the arithmetic mean of the laws (returned as log-probabilities).

    Returns
    -------
    float array, shape (vocabulary,)
        The fused row. The order of the rows does not change a bit of it.

    Examples
    --------
    >>> fuse_rows([[2.0, 1.0, 0.0], [0.0, 1.5, 1.0]]).tolist()
    [1.0, 1.25, 0.5]
    """
    array = np.asarray(rows, dtype=np.float64)
    if array.ndim != 2 or array.size == 0 or np.isnan(array).any():
        raise InputError(f"rows: needs rows of logits without NaN, found shape {array.shape}")
    share = np.ones(len(array)) if weights is None else np.asarray(weights, dtype=np.float64)
    if share.shape != (len(array),) or not (share >= 0).all() or not 0 < share.sum() < np.inf:
        raise InputError(f"weights: needs {len(array)} weights from 0 on")
    share = share / share.sum()
    if mix == "logit":
        # Sorted by column, so that no order of the rows shows in the last bit.
        terms = np.where(share[:, None] > 0, array * share[:, None], 0.0)
        return np.asarray(np.sort(terms, axis=0).sum(axis=0))
    if mix != "prob":
        raise InputError(f"mix: {mix!r} is unknown; choose one of: logit, prob")
    top = array.max(axis=1, keepdims=True)
    law = np.exp(array - top)
    law /= law.sum(axis=1, keepdims=True)
    with np.errstate(divide="ignore"):
        return np.asarray(np.log(np.sort(law * share[:, None], axis=0).sum(axis=0)))


class EntropySwitch:
    """Rolling entropy of a trace against a threshold: a signal to switch models or to fork.

    Simonds, "Entropy Adaptive Decoding: Dynamic Model Switching for Efficient Inference". The
    switch is on while the mean entropy of the last `window` tokens exceeds the threshold.

    Parameters
    ----------
    threshold : float
        In nats.
    window : int
        Tokens.
    """

    __slots__ = ("_ring", "threshold", "window")

    def __init__(self, threshold: float, *, window: int = 16) -> None:
        if window < 1 or not np.isfinite(threshold):
            raise InputError("threshold, window: need a finite number and at least one token")
        self.threshold = float(threshold)
        self.window = window
        self._ring: deque[float] = deque(maxlen=window)

    def push(self, entropy: float) -> bool:
        """Add a token's entropy; whether the switch is on now."""
        if not np.isfinite(entropy) or entropy < 0:
            raise InputError(f"entropy: {entropy} is not a finite number from 0 on")
        self._ring.append(float(entropy))
        return len(self._ring) == self.window and self.mean > self.threshold

    @property
    def mean(self) -> float:
        """Mean entropy of the window."""
        return sum(self._ring) / len(self._ring) if self._ring else 0.0
