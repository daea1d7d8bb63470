"""Draft trees in the forms other stacks read.

Each function takes a `TreeBatch` (flat arrays with offsets, node 0 of a request its last committed
token) and returns NumPy arrays. Where a form keeps the whole tree, its inverse is here too.

===========================  ====================================================================
`sglang`                     first-child / next-sibling tables, positions, and its three masks
`tensorrt_llm`               root-to-node paths, mask matrix, packed mask, position offsets
`arctic`                     lists whose parent -1 hangs off the committed text, without node 0
`additive_mask`              4-D mask for transformers, in logits of attention
`flashinfer`                 packed bits, little or big bit order
`parents_from_links`         inverse of the first-child / next-sibling tables
`parents_from_ancestors`     inverse of an ancestor matrix
===========================  ====================================================================

And trees from a drafter's rows (`trivium.builders`):

===========================  ====================================================================
`Builder`                    templates, chains, OPT-Tree, EAGLE-2, LongSpec, DySpec, RSD
`Template`, `Sequoia`        fixed shapes: choices, products, the best for measured acceptance
`ppd`                        PPD's trees, one a state
`retrieved`, `merge`         trees of stores laid over drafted ones (RASD), `prune_by_draft` first
`StateSpacePlan`             what hosts with a recurrent state need (STree)
`merge_attention`            long text and tree attended apart (LongSpec)
`to_batch`                   drafted trees as a `TreeBatch`
===========================  ====================================================================
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from trivium.builders import (
    Builder,
    DraftTree,
    Sequoia,
    StateSpacePlan,
    Template,
    builders,
    merge,
    merge_attention,
    ppd,
    prune_by_draft,
    retrieved,
    takes,
    to_batch,
)
from trivium.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from trivium.speculator import TreeBatch

__all__ = [
    "Builder",
    "DraftTree",
    "SGLangTree",
    "Sequoia",
    "StateSpacePlan",
    "Template",
    "TensorRTTree",
    "additive_mask",
    "arctic",
    "builders",
    "flashinfer",
    "merge",
    "merge_attention",
    "parents_from_ancestors",
    "parents_from_links",
    "ppd",
    "prune_by_draft",
    "retrieved",
    "sglang",
    "takes",
    "tensorrt_llm",
    "to_batch",
]


def _spans(batch: TreeBatch) -> list[tuple[int, int]]:
    cu = batch.cu_nodes.tolist()
    return list(itertools.pairwise(cu))


def _same_size(batch: TreeBatch, what: str) -> int:
    """Return the number of nodes of every request, for forms that are rectangular."""
    sizes = set(np.diff(batch.cu_nodes).tolist())
    if len(sizes) != 1:
        raise InputError(f"batch: {what} is rectangular, the trees have {sorted(sizes)} nodes")
    return int(sizes.pop())


@dataclass(frozen=True, slots=True)
class SGLangTree:
    """What SGLang's tree verification reads.

    Attributes
    ----------
    retrieve_next_token, retrieve_next_sibling : int64 array, shape (B, n)
        First child and next sibling of each node, local; -1 where none.
    retrieve_index : int64 array, shape (B, n)
        Row of each node in the flattened logits.
    positions : int64 array, shape (B * n,)
        Absolute positions.
    tree_mask : bool or unsigned array, flat
        By `mode`: ``"full"`` one n x (len + n) block a request, ``"qlen"`` the ancestor matrices,
        ``"packed"`` one unsigned word a node (n up to 32).
    """

    retrieve_next_token: NDArray[np.int64]
    retrieve_next_sibling: NDArray[np.int64]
    retrieve_index: NDArray[np.int64]
    positions: NDArray[np.int64]
    tree_mask: NDArray[Any]


def sglang(batch: TreeBatch, mode: Literal["full", "qlen", "packed"] = "full") -> SGLangTree:
    """Export to SGLang; all trees of the batch have the same number of nodes.

    In the ``"full"`` mask the committed text counts ``len(request) - 1`` columns: its last token is
    node 0.

    Raises
    ------
    InputError
        Trees of different sizes, or more than 32 nodes with ``mode="packed"``.
    """
    n = _same_size(batch, "this form")
    child, sibling = (x.reshape(-1, n) for x in batch.links())
    dense = batch.attention_mask()
    blocks = [dense[a:b, :n] for a, b in _spans(batch)]
    mask: NDArray[Any]
    if mode == "full":
        starts = batch.positions[batch.cu_nodes[:-1]].tolist()
        full = [
            np.concatenate([np.ones((n, s), bool), m], 1)
            for s, m in zip(starts, blocks, strict=True)
        ]
        mask = np.concatenate([f.ravel() for f in full])
    elif mode == "qlen":
        mask = np.concatenate([b.ravel() for b in blocks])
    else:
        if n > 32:
            raise InputError(f"batch: packed masks hold 32 nodes, the trees have {n}")
        kind = np.uint8 if n <= 8 else np.uint16 if n <= 16 else np.uint32
        mask = np.concatenate([_pack(b, 32)[:, 0] for b in blocks]).astype(kind)
    return SGLangTree(
        child,
        sibling,
        np.arange(len(batch) * n, dtype=np.int64).reshape(-1, n),
        batch.positions.astype(np.int64),
        mask,
    )


def _pack(dense: NDArray[np.bool_], bits: int) -> NDArray[np.uint32]:
    """Pack rows of booleans into words, least significant bit first."""
    rows, width = dense.shape
    padded = np.zeros((rows, -(-width // bits) * bits), bool)
    padded[:, :width] = dense
    return np.packbits(padded, axis=1, bitorder="little").view(np.uint32)


@dataclass(frozen=True, slots=True)
class TensorRTTree:
    """What TensorRT-LLM's explicit draft tokens read, one row a request.

    Attributes
    ----------
    eagle_paths : int32 array, shape (B, n, depth + 1)
        Path from node 0 to every node, padded with -1.
    spec_dec_mask_matrix : int32 array, shape (B, n, n)
        Ancestor matrix, self included, 0 or 1.
    spec_dec_packed_mask : int32 array, shape (B, n, ceil(n / 32))
        The same, packed.
    spec_dec_position_offsets : int32 array, shape (B, n)
        Depths.
    """

    eagle_paths: NDArray[np.int32]
    spec_dec_mask_matrix: NDArray[np.int32]
    spec_dec_packed_mask: NDArray[np.int32]
    spec_dec_position_offsets: NDArray[np.int32]


def tensorrt_llm(batch: TreeBatch) -> TensorRTTree:
    """Export to TensorRT-LLM; all trees of the batch have the same number of nodes.

    Raises
    ------
    InputError
        Trees of different sizes.
    """
    n = _same_size(batch, "this form")
    depths = batch.depths.reshape(-1, n)
    parents = batch.parents.reshape(-1, n)
    paths = np.full((len(depths), n, int(depths.max()) + 1), -1, np.int32)
    for b in range(len(depths)):
        for node in range(n):
            depth = depths[b, node]
            if node:
                paths[b, node, :depth] = paths[b, parents[b, node], :depth]
            paths[b, node, depth] = node
    dense = batch.attention_mask()[:, :n]
    return TensorRTTree(
        paths,
        dense.reshape(-1, n, n).astype(np.int32),
        _pack(dense, 32).view(np.int32).reshape(len(depths), n, -1),
        depths,
    )


def arctic(batch: TreeBatch) -> list[tuple[list[int], list[int], list[float]]]:
    """Export each tree as (token_ids, parents, probs) without node 0, as ArcticInference does."""
    out = []
    for a, b in _spans(batch):
        tokens, parents = batch.tokens[a + 1 : b], batch.parents[a + 1 : b] - 1
        out.append((tokens.tolist(), parents.tolist(), batch.scores[a + 1 : b].tolist()))
    return out


def additive_mask(
    batch: TreeBatch, request: int, past: int, dtype: Any = np.float32
) -> NDArray[Any]:
    """Mask of one tree for transformers: shape (1, 1, n, past + n), 0 to attend, else the minimum.

    Additive, because an eager attention adds a boolean mask to the scores instead of applying it.

    Parameters
    ----------
    batch : TreeBatch
    request : int
        Index in the batch.
    past : int
        Cache length before the pass; all of it is attended.
    dtype : NumPy floating dtype, optional
        The model's.
    """
    a, b = _spans(batch)[request]
    n = b - a
    out = np.zeros((1, 1, n, past + n), dtype)
    out[0, 0, :, past:][~batch.attention_mask()[a:b, :n]] = np.finfo(dtype).min
    return out


def flashinfer(
    batch: TreeBatch, past: Sequence[int], bitorder: Literal["little", "big"] = "little"
) -> tuple[NDArray[np.uint8], NDArray[np.int32]]:
    """Export packed custom masks: all requests' n x (past + n) bits, each padded to whole bytes.

    Returns
    -------
    bits : uint8 array
    offsets : int32 array, shape (B + 1,)
        First byte of each request.
    """
    if len(past) != len(batch):
        raise InputError(f"past: {len(past)} cache lengths for {len(batch)} requests")
    dense = batch.attention_mask()
    parts = []
    for (a, b), p in zip(_spans(batch), past, strict=True):
        block = np.concatenate([np.ones((b - a, p), bool), dense[a:b, : b - a]], 1)
        parts.append(np.packbits(block.ravel(), bitorder=bitorder))
    offsets = np.cumsum([0, *(len(p) for p in parts)], dtype=np.int32)
    return np.concatenate(parts), offsets


def parents_from_links(
    next_token: NDArray[np.int64], next_sibling: NDArray[np.int64]
) -> NDArray[np.int32]:
    """Parents of one tree from its first-child and next-sibling tables."""
    parents = np.full(len(next_token), -1, np.int32)
    for parent, first in enumerate(next_token.tolist()):
        child = first
        while child >= 0:
            parents[child] = parent
            child = int(next_sibling[child])
    return parents


def parents_from_ancestors(mask: NDArray[np.bool_]) -> NDArray[np.int32]:
    """Parents of one tree from its ancestor matrix: the largest ``j < i`` with ``mask[i, j]``."""
    n = len(mask)
    below = np.tril(mask[:, :n], -1)
    last = n - 1 - np.argmax(below[:, ::-1], axis=1)
    return np.where(below.any(1), last, -1).astype(np.int32)
