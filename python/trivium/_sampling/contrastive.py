"""Contrastive search: likely tokens whose hidden state is unlike those of the text.

Su, Lan, Wang, Yogatama, Kong, Collier, "A Contrastive Framework for Neural Text Generation"
(NeurIPS 2022). The host runs the model: one batched forward of the k candidates gives their hidden
states, and the branch of the chosen one goes on. Dense products of [k, d] and [t, d] are NumPy's.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from trivium.errors import InputError

if TYPE_CHECKING:
    from numpy.typing import NDArray


@dataclass(frozen=True)
class Contrastive:
    """Choose among the k best by ``(1 - alpha) p(v) - alpha max_j cos(h_v, h_j)``.

    Parameters
    ----------
    k : int, optional
        Candidates; 1 is greedy.
    alpha : float, optional
        Weight of the degeneration penalty, in [0, 1]; 0 is greedy.

    Raises
    ------
    InputError
        A parameter is out of range.

    Examples
    --------
    >>> search = Contrastive(k=2, alpha=0.5)
    >>> ids, p = search.candidates([2.0, 1.9, -4.0])
    >>> ids.tolist()
    [0, 1]
    >>> int(ids[search.choose(p, hidden=[[1.0, 0.0], [0.0, 1.0]], past=[[2.0, 0.0]])])
    1
    """

    k: int = 5
    alpha: float = 0.6

    def __post_init__(self) -> None:
        if self.k < 1:
            raise InputError(f"k: {self.k} is outside 1..")
        if not 0 <= self.alpha <= 1:
            raise InputError(f"alpha: {self.alpha} is outside [0, 1]")

    def candidates(self, logits: Any) -> tuple[NDArray[np.int32], NDArray[np.float64]]:
        """Find the tokens to run the model on.

        Parameters
        ----------
        logits : float array, shape (vocab,)
            One row; `Pipeline.process` gives one with masks and penalties.

        Returns
        -------
        ids : int32 array, at most k
            Most likely first, lowest id first of equals; fewer where the row has fewer.
        probabilities : float64 array
            Under the softmax of the whole row. O(vocab).
        """
        z = np.asarray(logits, dtype=np.float64)
        if z.ndim != 1 or z.size == 0:
            raise InputError(f"logits: has shape {z.shape}; one row is expected")
        if np.isnan(z).any() or (top := z.max()) == np.inf:
            raise InputError("logits: hold NaN or +inf")
        if top == -np.inf:
            raise InputError("logits: nothing is left")
        k = min(self.k, z.size)
        # Every equal of the k-th, then the best of these by (logit, id).
        near = np.flatnonzero(z >= np.partition(z, z.size - k)[z.size - k])
        near = near[z[near] > -np.inf]
        ids = near[np.lexsort((near, -z[near]))][:k]
        return ids.astype(np.int32), np.exp(z[ids] - top) / np.exp(z - top).sum()

    def choose(self, probabilities: Any, hidden: Any, past: Any) -> int:
        """Choose one of the candidates.

        Parameters
        ----------
        probabilities : float array, shape (k,)
            As `candidates` gave them.
        hidden : float array, shape (k, d)
            The last hidden state after each candidate.
        past : float array, shape (t, d)
            Hidden states of the text so far; with t = 0 the choice is greedy.

        Returns
        -------
        int
            Position among the candidates; the first of equals. O(k t d).

        Raises
        ------
        InputError
            Shapes do not fit, or a number is not finite.
        """
        p = np.asarray(probabilities, dtype=np.float64)
        h, past = _matrix(hidden, "hidden"), _matrix(past, "past")
        if p.ndim != 1 or len(p) == 0 or len(p) != len(h):
            raise InputError(f"probabilities: has shape {p.shape} for hidden states {h.shape}")
        if not np.isfinite(p).all():
            raise InputError("probabilities: hold numbers that are not finite")
        if len(past) == 0:
            return int(p.argmax())
        if past.shape[1] != h.shape[1]:
            raise InputError(f"past: has {past.shape[1]} dimensions, hidden {h.shape[1]}")
        likeness = (_unit(h) @ _unit(past).T).max(axis=1)
        return int(((1 - self.alpha) * p - self.alpha * likeness).argmax())


def _matrix(x: Any, what: str) -> NDArray[np.float32]:
    array = np.asarray(x, dtype=np.float32)
    if array.size == 0 and array.ndim < 2:
        array = array.reshape(0, 0)
    if array.ndim != 2:
        raise InputError(f"{what}: has shape {array.shape}; [tokens, dimensions] is expected")
    if not np.isfinite(array).all():
        raise InputError(f"{what}: holds numbers that are not finite")
    return array


def _unit(x: NDArray[np.float32]) -> NDArray[np.float32]:
    """Rows of length one; a row of zeros is like nothing."""
    # Scaled by the largest entry first: squares of float32 overflow early.
    scale = np.abs(x).max(axis=1, keepdims=True, initial=0.0)
    y = x / np.where(scale > 0, scale, 1)
    length = np.sqrt((y * y).sum(axis=1, keepdims=True))
    return np.asarray(y / np.where(length > 0, length, 1), dtype=np.float32)
