"""Self-speculation by leaving out sub-layers, over the target's cache, chosen as it runs.

What is left of a layer reads the keys and values that the whole model has written, so nothing is
read twice; what drafting appends stands where the verification pass writes next.

==================  ==============================================================================
``"swift"``         after each step one candidate of SWIFT's search is scored: the share of the last
                    tokens that the view predicts, in one pass; the best so far drafts
``"clasp"``         every few steps CLaSp's programme on the text of the first running request
`LayerSets`         KNN-SSD: the set of the nearest known prompt (that of most prompts of the call)
list of bool        a fixed set (Draft & Verify's, found before by `search_layers`)
==================  ==============================================================================

"SWIFT: On-the-Fly Self-Speculative Decoding for LLM Inference Acceleration"; "CLaSp: In-Context
Layer Skip for Self-Speculative Decoding".
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

from trivium.drafting import LayerSetSearch
from trivium.errors import InputError, UnsupportedError
from trivium.integrations._transformers.draft_model import Drafting
from trivium.integrations._transformers.host import TreeHost
from trivium.integrations._transformers.layers import (
    LayerSets,
    layers_of,
    nearest_layers,
    predicted,
    skipped,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from trivium.integrations._transformers.drafter import Opening
    from trivium.integrations._transformers.loop import Row
    from trivium.integrations._transformers.settings import LayerSkip
    from trivium.speculator import TreeBatch

__all__ = ["LayerSkipping"]


class LayerSkipping(Drafting):
    """The target with gaps at work on the requests of one `generate` call."""

    def __init__(self, settings: LayerSkip, opening: Opening) -> None:
        host, model = opening.host, opening.model
        if not isinstance(host, TreeHost):
            raise UnsupportedError(
                f"layer skipping of {type(model).__name__}: its trees do not run in one pass"
            )
        self._whole, self._settings = model, settings
        self._count = len(layers_of(model))
        super().__init__(settings, opening, model=model)
        self._target, self._steps = host, 0
        self._search: LayerSetSearch | None = None
        skip: list[bool] | None = None
        if settings.layers == "swift":
            self._search = settings.search or LayerSetSearch(self._count, ratio=settings.ratio)
            best = self._search.best
            skip = best[0] if best else None
        elif isinstance(settings.layers, LayerSets):
            sets = settings.layers
            votes = Counter(tuple(sets.choose(p)) for p in opening.prompts)
            skip = list(votes.most_common(1)[0][0])
        elif settings.layers != "clasp":
            if isinstance(settings.layers, str):
                raise InputError(f"LayerSkip: {settings.layers!r} chooses no layers")
            skip = list(settings.layers)
        self._skip = skip or [False] * (2 * self._count)
        self._view = skipped(model, self._skip)

    def draft(self, batch: TreeBatch, active: Sequence[Row]) -> tuple[TreeBatch, Any]:
        """Choose what to leave out, then add chains to the trees."""
        s = self._settings
        text = active[0].prompt + active[0].tokens
        if s.layers == "clasp" and self._steps % s.every == 0:
            skips = max(1, round(s.ratio * (self._count - 1)))
            self._use(nearest_layers(self._whole, text[-s.window :], min(skips, self._count - 2)))
        elif self._search is not None and len(text) > 1:
            candidate = self._search.next_candidate()
            if candidate is not None:
                self.calls += 1
                hits = predicted(skipped(self._whole, candidate), text, s.window)
                self._search.report(float(hits.float().mean()))
                best = self._search.best
                self._use(best[0] if best else self._skip)
        self._steps += 1
        try:
            return super().draft(batch, active)
        finally:
            self._target.crop(self._target.lengths.tolist())

    def _use(self, skip: Sequence[bool]) -> None:
        if list(skip) != self._skip:
            self._skip = list(skip)
            self._view = skipped(self._whole, self._skip)

    def _follow(self, active: Sequence[Row], texts: list[list[int]]) -> None:  # noqa: ARG002
        self._host = self._target.borrow(self._view, self._count)
        self._cached = [list(t[:-1]) for t in texts]

    def report(self) -> dict[str, Any]:
        """Give the passes with gaps, and the set that drafted last."""
        return {**super().report(), "skipped": sum(self._skip)}
