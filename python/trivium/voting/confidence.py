"""Confidence of single tokens from the host's rows: `conf` and `entropy` of `Voter.tokens`.

Use raw logits, before masks and temperature: both change the scale.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from trivium.errors import InputError

if TYPE_CHECKING:
    import numpy.typing as npt

__all__ = ["self_certainty", "token_confidence", "token_entropy"]


def _rows(logprobs: Any) -> npt.NDArray[np.float64]:
    rows = np.atleast_2d(np.asarray(logprobs, dtype=np.float64))
    if rows.ndim != 2 or not rows.size or np.isnan(rows).any() or (rows > 1e-6).any():
        raise InputError(f"logprobs: needs rows of values up to 0, found shape {rows.shape}")
    return rows


def token_confidence(logprobs: Any, *, k: int = 20) -> npt.NDArray[np.float64]:
    """Minus the mean of the `k` largest log-probabilities of each row (DeepConf).

    Fu et al., "Deep Think with Confidence". High where the law is peaked, because the others are
    very improbable then. Rows shorter than `k` are averaged whole, as servers that return fewer do.

    Parameters
    ----------
    logprobs : float array, shape (tokens, vocabulary) or (tokens, returned)
        Natural log-probabilities; values of −∞ are left out.
    k : int
        How many.

    Returns
    -------
    float array, shape (tokens,)

    Examples
    --------
    >>> [round(float(c), 8) for c in token_confidence(np.log([0.7, 0.2, 0.05, 0.05]), k=2)]
    [0.98305643]
    """
    rows = _rows(logprobs)
    if k < 1:
        raise InputError(f"k: {k} is below 1")
    k = min(k, rows.shape[1])
    top = -np.partition(-rows, k - 1, axis=1)[:, :k]
    finite = np.isfinite(top)
    sums = np.where(finite, top, 0.0).sum(axis=1)
    return np.asarray(-sums / np.maximum(finite.sum(axis=1), 1))


def self_certainty(logprobs: Any) -> npt.NDArray[np.float64]:
    """Divergence of each row from the uniform law, ``-(1/V) sum ln(V p)``.

    Kang et al., "Scalable Best-of-N Selection for Large Language Models via Self-Certainty". Needs
    all log-probabilities; a token of probability 0 makes it infinite, so none may be masked.

    Examples
    --------
    >>> [round(float(c), 8) for c in self_certainty(np.log([0.7, 0.2, 0.05, 0.05]))]
    [0.60309999]
    """
    rows = _rows(logprobs)
    if not np.isfinite(rows).all():
        raise InputError("logprobs: are not finite; self-certainty reads raw, unmasked rows")
    return np.asarray(-(rows.mean(axis=1) + np.log(rows.shape[1])))


def token_entropy(logprobs: Any, *, tail: str = "lump") -> npt.NDArray[np.float64]:
    """Entropy of each row in nats, from all or from the largest log-probabilities.

    Parameters
    ----------
    logprobs : float array, shape (tokens, returned)
        Natural log-probabilities.
    tail : {"lump", "renormalise"}
        What to do with the mass that was not returned: one symbol, or nothing.

    Examples
    --------
    >>> [round(float(h), 8) for h in token_entropy(np.log([0.7, 0.2, 0.05, 0.05]))]
    [0.87113327]
    >>> round(float(token_entropy(np.log([0.7, 0.2]))[0]), 8)
    0.80181855
    """
    rows = _rows(logprobs)
    if tail not in ("lump", "renormalise"):
        raise InputError(f"tail: {tail!r} is unknown; choose one of: lump, renormalise")
    p = np.exp(rows)
    total = p.sum(axis=1, keepdims=True)
    if tail == "renormalise" or (total > 1).any():
        p = p / np.where(total > 1, total, total if tail == "renormalise" else 1.0)
    rest = np.clip(1.0 - p.sum(axis=1), 0.0, 1.0)
    terms = np.where(p > 0, p * np.log(np.where(p > 0, p, 1.0)), 0.0).sum(axis=1)
    tails = np.where(rest > 1e-12, rest * np.log(np.where(rest > 1e-12, rest, 1.0)), 0.0)
    return np.asarray(np.maximum(-(terms + tails), 0.0))
