"""Cascades: another target law, made of the target's and the draft model's, served exactly.

A chain is drafted, and the draft model also reads its last token, so that its law is known at every
node. The pass gives the target's law there; both, processed as the request asks, become the
cascade's (`lossy.transform`), which is what is verified: under the path verifiers the text is the
seeded text of plain sampling from it, under the law verifiers it has its law.

"Faster Cascades via Speculative Decoding"; "Speculative Contrastive Decoding".
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from trivium import lossy
from trivium.integrations._transformers.draft_model import Drafting, Grown
from trivium.integrations._transformers.drafter import GREEDY, drawn
from trivium.speculator import TreeBatch

if TYPE_CHECKING:
    from collections.abc import Sequence

    from trivium.integrations._transformers.drafter import Opening
    from trivium.integrations._transformers.host import Host
    from trivium.integrations._transformers.loop import Row
    from trivium.integrations._transformers.settings import Cascade

__all__ = ["Cascading"]


class Cascading(Drafting):
    """A draft model that is part of the target of one `generate` call."""

    processed = True

    def __init__(self, settings: Cascade, opening: Opening) -> None:
        super().__init__(settings, opening)  # type: ignore[arg-type]
        self._kind: Any = settings.kind
        self._numbers = settings.numbers()
        self._rows_of: list[Any] = []  # the draft model's logits at the nodes, in their order
        self._apart, self._positions = 0.0, 0
        self._gaps: Any = None

    def draft(self, batch: TreeBatch, active: Sequence[Row]) -> tuple[TreeBatch, Any]:  # noqa: ARG002
        """Draft a chain a request, alone: the law of other nodes is not known."""
        grown = self.grown(active)
        self._chains = [t[1:] for t in grown.tokens]
        if self._law == "iid":
            return drawn(active, grown.tokens, grown.parents, grown.laws, self._vocab_size)
        alone = TreeBatch.from_arrays(
            np.concatenate([np.array(t) for t in grown.tokens]),
            np.concatenate([np.array(p) for p in grown.parents]),
            np.concatenate([[0], np.cumsum([len(t) for t in grown.tokens])]),
            requests=[r.request for r in active],
        )
        return alone, None

    def _grow(self, active: Sequence[Row], texts: list[list[int]], depth: int) -> Grown:
        starts = [len(r.prompt) + len(r.tokens) for r in active]
        tokens = [[(r.prompt + r.tokens)[-1]] for r in active]
        scores: list[list[float]] = [[1.0] for _ in active]
        laws: list[list[Any]] = [[] for _ in active]
        levels: list[Any] = []
        feed = [t[len(c) :] for t, c in zip(texts, self._cached, strict=True)]
        for level in range(depth + 1):
            rows = self._read(feed)
            levels.append(rows)
            if level == depth:
                break
            for b, request in enumerate(active):
                q = self._laws.process(rows[b], request)
                token = self._laws.choose(rows[b], q, request, starts[b], level)
                tokens[b].append(token)
                scores[b].append(scores[b][-1] * float(q[token]))
                laws[b].append(q)
            feed = [[t[-1]] for t in tokens]
        self._rows_of = list(torch.stack(levels, 1).flatten(0, 1))  # request by request
        return Grown(tokens, [list(range(-1, depth)) for _ in active], scores, laws)

    def run(self, host: Host, batch: TreeBatch, active: Sequence[Row]) -> Any:
        """Give the logarithm of the cascade's law at every node."""
        logits = super().run(host, batch, active)
        rows = np.repeat(np.arange(len(active)), np.diff(batch.cu_nodes)).tolist()
        p, q = [], []
        for row, other, b in zip(logits, self._rows_of, rows, strict=True):
            p.append(self._law_of(row, active[b]))
            # The contrast is with the untruncated amateur.
            raw = torch.softmax(other, -1).numpy()
            q.append(raw if self._kind == "contrastive" else self._law_of(other, active[b]))
        law, self._gaps = lossy.transform(np.stack(p), np.stack(q), self._kind, **self._numbers)
        return torch.log(torch.from_numpy(np.array(law, np.float32)))

    def _law_of(self, row: Any, request: Row) -> Any:
        if request.law[0] < GREEDY:
            law = np.zeros(len(row), np.float32)
            law[int(row.argmax())] = 1.0
            return law
        return self._laws.process(row, request)

    def learn(
        self,
        batch: TreeBatch,
        active: Sequence[Row],
        new: Sequence[list[int]],
        nodes: Sequence[Any],
        logits: Any,
    ) -> None:
        """Add up how far the cascade was from the target."""
        super().learn(batch, active, new, nodes, logits)
        for rows in nodes:
            self._apart += float(np.asarray(self._gaps)[rows].sum())
            self._positions += len(rows)

    def report(self) -> dict[str, Any]:
        """Give the mean total variation between target and cascade a position."""
        mean = self._apart / self._positions if self._positions else 0.0
        return {**super().report(), "cascade_deviation": mean}
