"""Policies of drafts that a model makes: which layers, which exit, which draft, which vocabulary.

The host runs the networks (`trivium.integrations.transformers` runs skipped ones); these objects
decide.

=================  ================================================================================
`LayerSetSearch`   the sub-layers that a self-drafting model skips (SWIFT, Draft & Verify)
`LayerDp`          the same by dynamic programming on hidden states (CLaSp)
`AnchorIndex`      the layer set that suits a prompt, by its nearest neighbours (KNN-SSD)
`ExitChooser`      exit layer, draft length and confidence threshold (DEL)
`skippy`           layers to skip and mask tokens to append (S3D)
`VocabMap`         a draft of another vocabulary (TLI) or with a pruned head (VocabTrim)
`seam`             what a re-encoded draft has behind the committed tokens (SLEM)
`ReplayBuffer`     what to distil the draft from, and when (online speculative decoding)
`DraftRouter`      which of several drafts serves a language, domain or cluster
`LookaheadWindow`  W guesses that advance in parallel and leave n-grams (lookahead decoding)
`PhrasePool`       phrases seen after a token, the least recently seen leaving first
`NgramScorer`      interpolated n-grams that rank candidates (Superposed Decoding)
`HostDraft`        drafts of a host's own network under a declared law (EAGLE, MTP, QuantSpec)
=================  ================================================================================

Examples
--------
>>> search = LayerSetSearch(6, ratio=0.5, seed=1)
>>> sum(search.next_candidate())
4
>>> VocabMap.trim([5, 0, 9], 2).law([0.25, 0.75])
[0.25, 0.0, 0.75]
>>> seam([1, 2, 3], [9, 2, 3, 4, 5])
[4, 5]
"""

from __future__ import annotations

from trivium._core import (
    AnchorIndex,
    DraftRouter,
    ExitChooser,
    LayerDp,
    LayerSetSearch,
    LookaheadWindow,
    NgramScorer,
    PhrasePool,
    ReplayBuffer,
    VocabMap,
    seam,
    skippy,
)
from trivium.host_drafts import HostDraft

__all__ = [
    "AnchorIndex",
    "DraftRouter",
    "ExitChooser",
    "HostDraft",
    "LayerDp",
    "LayerSetSearch",
    "LookaheadWindow",
    "NgramScorer",
    "PhrasePool",
    "ReplayBuffer",
    "VocabMap",
    "seam",
    "skippy",
]
