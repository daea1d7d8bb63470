"""Drafts of a network that the host runs, in `generate`: its proposals under their declared law."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from trivium.errors import InputError, UnsupportedError
from trivium.integrations._transformers.drafter import Drafter, hung
from trivium.integrations._transformers.host import TreeHost

if TYPE_CHECKING:
    from collections.abc import Sequence

    from trivium.integrations._transformers.drafter import Opening
    from trivium.integrations._transformers.loop import Row
    from trivium.integrations._transformers.settings import HostDrafter
    from trivium.speculator import TreeBatch

__all__ = ["HostDrafting"]


class HostDrafting(Drafter):
    """A host's network at work on the requests of one `generate` call."""

    def __init__(self, settings: HostDrafter, opening: Opening) -> None:
        self._declared, self._propose = settings.declared, settings.propose
        self._declared.check(opening.verifier)
        host = opening.host
        self._host: TreeHost | None = None
        if settings.states:
            if not isinstance(host, TreeHost):
                raise UnsupportedError("states: this model's trees do not run in one pass")
            self._host = host
            host.watch("hidden", getattr(opening.model, opening.model.base_model_prefix))
        self._vocab_size = opening.vocab_size
        self._states: dict[int, Any] = {}

    def draft(self, batch: TreeBatch, active: Sequence[Row]) -> tuple[TreeBatch, Any]:
        """Ask the host's network for a tree a request."""
        texts = [r.prompt + r.tokens for r in active]
        proposals = list(self._propose(texts, [self._states.get(r.index) for r in active]))
        if len(proposals) != len(active):
            raise InputError(f"propose: {len(proposals)} proposals for {len(active)} requests")
        cu = np.concatenate([[0], np.cumsum([len(p[0]) for p in proposals])])
        if self._declared.law in ("point_mass", "race"):
            law = "shared" if self._declared.law == "race" else "point_mass"
            tokens = [list(map(int, p[0])) for p in proposals]
            parents = [list(map(int, p[1])) for p in proposals]
            scores = [_scores(p) for p in proposals]
            return hung(batch, tokens, parents, scores, law), None
        rows = [np.asarray(p[2], np.float64).reshape(len(p[0]), -1) for p in proposals]
        return self._declared.batch(
            np.concatenate([np.asarray(p[0]) for p in proposals]),
            np.concatenate([np.asarray(p[1]) for p in proposals]),
            cu,
            np.concatenate(rows),
            requests=[r.request for r in active],
        )

    def learn(
        self,
        batch: TreeBatch,  # noqa: ARG002
        active: Sequence[Row],
        new: Sequence[list[int]],  # noqa: ARG002
        nodes: Sequence[Any],
        logits: Any,  # noqa: ARG002
    ) -> None:
        """Keep the hidden states that chose the last tokens, where they are wanted."""
        if self._host is None:
            return
        for request, rows in zip(active, nodes, strict=True):
            if request.reason:
                self._states.pop(request.index, None)
            elif len(rows):
                self._states[request.index] = self._host.seen["hidden"][int(rows[-1])]


def _scores(proposal: Any) -> list[float]:
    """Chances of the paths, 1 at the root; half as much a level where the host names none."""
    if len(proposal) > 2 and proposal[2] is not None:
        return [float(np.clip(s, 0.0, 1.0)) for s in proposal[2]]
    scores = [1.0]
    for parent in list(proposal[1])[1:]:
        scores.append(scores[int(parent)] / 2)
    return scores
