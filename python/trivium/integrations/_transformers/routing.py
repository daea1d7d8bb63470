"""Several draft models, each request served by the one that suits its class.

A router (`DraftRouter`) learns from the share of drafted tokens that each class accepted; it lives
with the caller, so later calls start from what earlier ones found.

"Towards Fast Multilingual LLM Inference: Speculative Decoding and Specialized Drafters"; "Online
Speculative Decoding" (clusters of queries).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from trivium.errors import InputError
from trivium.integrations._transformers.draft_model import Drafting
from trivium.integrations._transformers.drafter import Drafter, drawn, hung

if TYPE_CHECKING:
    from collections.abc import Sequence

    from trivium.integrations._transformers.drafter import Opening
    from trivium.integrations._transformers.loop import Row
    from trivium.integrations._transformers.settings import Routed
    from trivium.speculator import TreeBatch

__all__ = ["Routing"]


class Routing(Drafter):
    """Draft models and who is served by which, in one `generate` call."""

    def __init__(self, settings: Routed, opening: Opening) -> None:
        self._drafters: list[Drafting] = []
        for draft in settings.drafts:
            drafter = draft.open(opening)
            if not isinstance(drafter, Drafting):
                raise InputError("Routed: its drafts are draft models")
            self._drafters.append(drafter)
        if len({d.law == "iid" for d in self._drafters}) != 1:
            raise InputError("Routed: drawn drafts are not mixed with others")
        self._router, self._vocab_size = settings.router, opening.vocab_size
        classes = settings.classes
        named = [classes(p) for p in opening.prompts] if callable(classes) else list(classes)
        if len(named) != len(opening.prompts):
            raise InputError(f"classes: {len(named)} for {len(opening.prompts)} prompts")
        self._classes = [str(c) for c in named]
        self.chosen = [self._router.choose(c) for c in self._classes]
        if max(self.chosen) >= len(self._drafters):
            raise InputError("router: knows more drafts than there are")
        self._counts: dict[int, list[int]] = {}  # drafted and accepted, by request

    def _groups(self, active: Sequence[Row]) -> list[tuple[int, list[int]]]:
        members: dict[int, list[int]] = {}
        for b, request in enumerate(active):
            members.setdefault(self.chosen[request.index], []).append(b)
        return sorted(members.items())

    def draft(self, batch: TreeBatch, active: Sequence[Row]) -> tuple[TreeBatch, Any]:
        """Let each request's draft model add its chain."""
        laws: list[list[Any]] = [[] for _ in active]
        roots = [[(r.prompt + r.tokens)[-1]] for r in active]
        tokens, parents = list(roots), [[-1] for _ in active]
        for k, members in self._groups(active):
            drafter = self._drafters[k]
            grown = drafter.grown([active[b] for b in members])
            own = [list(r) for r in roots], [[-1] for _ in active], [[1.0] for _ in active]
            for i, b in enumerate(members):
                own[0][b], own[1][b], own[2][b] = (
                    grown.tokens[i],
                    grown.parents[i],
                    grown.scores[i],
                )
                tokens[b], parents[b], laws[b] = grown.tokens[i], grown.parents[i], grown.laws[i]
            if drafter.law != "iid":
                batch = hung(batch, *own, drafter.law)
        if self._drafters[0].law == "iid":
            return drawn(active, tokens, parents, laws, self._vocab_size)
        return batch, None

    def learn(
        self,
        batch: TreeBatch,
        active: Sequence[Row],
        new: Sequence[list[int]],
        nodes: Sequence[Any],
        logits: Any,
    ) -> None:
        """Count what was accepted; a request that ends tells the router."""
        for k, members in self._groups(active):
            drafter = self._drafters[k]
            drafter.learn(
                batch,
                [active[b] for b in members],
                [new[b] for b in members],
                [nodes[b] for b in members],
                logits,
            )
            for b, (drafted, accepted) in zip(members, drafter.accepted, strict=True):
                count = self._counts.setdefault(active[b].index, [0, 0])
                count[0] += drafted
                count[1] += accepted
                if active[b].reason and count[0]:
                    share = count[1] / count[0]
                    self._router.report(self._classes[active[b].index], k, share)

    def report(self) -> dict[str, Any]:
        """Give the passes of each draft model, and which served each request."""
        return {"draft_calls": [d.calls for d in self._drafters], "routes": list(self.chosen)}
