"""RASD: what stores retrieved, judged by a draft model and fused with its tree.

Branches whose first token is not among the draft model's most likely are dropped; the others are
scored on its scale, the probability of the first token times the store's estimate below it. The
draft tree is then laid over them by longest prefix, and the best nodes of both stay. The stores go
on learning from the nodes that stay.

"RASD: Retrieval-Augmented Speculative Decoding".
"""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from trivium.speculator import TreeBatch

__all__ = ["cut", "pruned"]


def pruned(batch: TreeBatch, laws: Sequence[Sequence[Any]], top_k: int) -> TreeBatch:
    """Drop branches whose first token the draft model finds unlikely, rescore the others.

    ``laws[b][0]`` is the draft model's law at node 0 of request `b`; without one nothing changes.
    """
    cu, tokens, parents = batch.cu_nodes.tolist(), batch.tokens, batch.parents
    keep, scores = np.ones(len(tokens), bool), batch.scores.astype(np.float32).copy()
    for b, law in enumerate(laws):
        if not law:
            continue
        q = np.asarray(law[0])
        known = set(np.argpartition(-q, min(top_k, len(q)) - 1)[:top_k].tolist())
        scale: list[float] = [1.0]
        for node in range(cu[b] + 1, cu[b + 1]):
            parent = int(parents[node])
            if parent:
                scale.append(scale[parent])
            else:
                token = int(tokens[node])
                keep[node] = token in known and q[token] > 0
                scale.append(float(q[token]) / max(float(scores[node]), 1e-9))
            scores[node] = min(scores[node] * scale[-1], 1.0)
    return batch.select(keep.tolist(), scores.tolist())


def cut(batch: TreeBatch, max_nodes: int) -> TreeBatch:
    """Keep the best `max_nodes` of each tree, node 0 counted."""
    cu, scores = batch.cu_nodes.tolist(), batch.scores
    keep = np.zeros(len(scores), bool)
    for a, z in itertools.pairwise(cu):
        # A node scores no more than its parent, which comes before it.
        order = np.argsort(-scores[a + 1 : z], kind="stable")[: max_nodes - 1]
        keep[a], keep[a + 1 + order] = True, True
    return batch.select(keep.tolist(), scores.tolist())
