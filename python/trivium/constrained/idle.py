"""(G)I-DLE: exclude tokens first, so that truncation acts on the law closest to the model's.

"(G)I-DLE: Generative Inference via Distribution-preserving Logit Exclusion with KL Divergence
Minimization for Constrained Decoding".

Of all laws `q` on the allowed tokens `A` the one with the least ``KL(q || p)`` is ``p(v) / p(A)``,
at the distance ``-log p(A)``: logits of excluded tokens are set to minus infinity and nothing else
changes. What is left to choose is the order. Temperature, top-k, top-p, min-p and penalties act on
whatever law they see: *first* excludes, renormalises at temperature 1 and then processes; *last*
processes the model's law and excludes from what is left, which may leave nothing, and spends a
top-p on tokens that cannot be drawn. Without truncation and penalties both orders agree.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from trivium.constrained._chance import allowed, log_softmax
from trivium.errors import DeadEnd, InputError
from trivium.grammar import Matcher

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

__all__ = ["Excluded", "idle"]


@dataclass(frozen=True, slots=True)
class Excluded:
    """A law on the allowed tokens.

    Attributes
    ----------
    log_probs : float64 array, shape (V,)
        Normalised; ``-inf`` where a token cannot be drawn.
    divergence : float
        ``-log p(A)``, the least ``KL(q || p)`` of a law `q` on the allowed tokens, in nats.
    """

    log_probs: NDArray[np.float64]
    divergence: float


def idle(
    logits: Any,
    constraint: Matcher | NDArray[np.bool_],
    *,
    process: Callable[[NDArray[np.float64]], Any] | None = None,
    order: Literal["first", "last"] = "first",
) -> Excluded:
    """Exclude what a constraint forbids, before or after the law is processed.

    Parameters
    ----------
    logits : float array, shape (V,)
        The model's row.
    constraint : Matcher, or bool array, shape (V,)
        Which tokens are allowed.
    process : callable of float64 array (V,) to float array (V,), optional
        From log-probabilities to the logits of the processed law: temperature, truncation,
        penalties.
    order : {"first", "last"}, optional
        Whether the exclusion comes before `process`.

    Returns
    -------
    Excluded

    Raises
    ------
    DeadEnd
        No allowed token has mass; with ``"last"``, none is left by `process`.
    InputError
        Shapes, NaN, an unknown order.

    Examples
    --------
    >>> import numpy as np
    >>> def top1(row):
    ...     return np.where(row == row.max(), row, -np.inf)
    >>> row, mask = np.log([0.5, 0.3, 0.2]), np.array([False, True, True])
    >>> np.exp(idle(row, mask, process=top1).log_probs).round(3).tolist()
    [0.0, 1.0, 0.0]
    """
    law = log_softmax(logits)
    if law.ndim != 1:
        raise InputError(f"logits: shape {law.shape} is not one row")
    if order not in ("first", "last"):
        raise InputError(f'order: {order!r} is not "first" or "last"')
    if isinstance(constraint, Matcher):
        mask = allowed(constraint, len(law))
    else:
        mask = np.asarray(constraint)
        if mask.shape != law.shape or mask.dtype != np.bool_:
            raise InputError(f"constraint: needs a Matcher or bool, shape {law.shape}")
    kept = np.where(mask, law, -np.inf)
    mass = float(np.logaddexp.reduce(kept))
    if mass == -np.inf:
        raise DeadEnd("no allowed token has positive probability")
    if process is None:
        return Excluded(kept - mass, -mass)
    if order == "first":
        out = np.asarray(process(kept - mass), np.float64)
    else:
        out = np.asarray(process(law.copy()), np.float64)
    if out.shape != law.shape or np.isnan(out).any():
        raise InputError("process: returned another shape or NaN")
    out = np.where(mask, out, -np.inf)
    if out.max() == -np.inf:
        raise DeadEnd("what process keeps is forbidden; exclude first")
    return Excluded(log_softmax(out), -mass)
