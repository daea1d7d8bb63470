"""PICARD's way through a costly constraint: test the most probable tokens, keep the first few.

Scholak et al., "PICARD: Parsing Incrementally for Constrained Auto-Regressive Decoding from
Language Models".
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import numpy as np

from trivium._grammar.arguments import count
from trivium.errors import DeadEnd, InputError

if TYPE_CHECKING:
    from trivium._grammar.matcher import Matcher

__all__ = ["apply_top"]


def apply_top(matcher: Matcher, logits: Any, k: int, timeout: float | None) -> list[int]:
    """See `Matcher.apply_top`."""
    most = count("k", k, 1)
    row = np.asarray(logits)
    if row.ndim != 1 or not np.issubdtype(row.dtype, np.floating) or not row.flags.writeable:
        raise InputError("logits: one writable row of floats is expected")
    if np.isnan(row).any() or np.isposinf(row).any():
        raise InputError("logits: NaN or plus infinity")
    until = None if timeout is None else time.monotonic() + timeout
    kept: list[int] = []
    tested = 0
    width = matcher._grammar.vocab.num_rows
    for token in np.argsort(-row, kind="stable").tolist():
        if len(kept) == most or row[token] == -np.inf:
            break
        if until is not None and time.monotonic() > until:
            break
        tested += 1
        if token < width and matcher.allows(token):
            kept.append(token)
    if not kept:
        raise DeadEnd(f"apply_top: none of {tested} tokens is allowed")
    values = row[kept].copy()
    row[:] = -np.inf
    row[kept] = values
    return kept
