"""Staged speculation: the draft model's own tokens are drafted by a cheaper source.

An inner `Speculator`, n-grams for instance, proposes for the draft model, which reads a tree where
it would read a token. The inner verifier is the path-lossless one, so the chain is the very chain
that the draft model would have written under the same noise, token by token; what the outer stage
is told of its law holds. Only the number of draft passes changes.

"Accelerating LLM Inference with Staged Speculative Decoding".
"""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np

from trivium.errors import InputError
from trivium.integrations._transformers.draft_model import Drafting, Grown

if TYPE_CHECKING:
    from collections.abc import Sequence

    from trivium._core import Request
    from trivium.integrations._transformers.drafter import Opening
    from trivium.integrations._transformers.loop import Row
    from trivium.integrations._transformers.settings import DraftModel
    from trivium.speculator import Speculator, TreeBatch

__all__ = ["Staging"]

_OWN_NOISE = 0x9E37_79B9_7F4A_7C15  # drawn drafts share no noise with the target


class Staging(Drafting):
    """A draft model over an inner speculator, in one `generate` call."""

    def __init__(self, settings: DraftModel, opening: Opening) -> None:
        super().__init__(settings, opening)
        inner = settings.inner
        assert inner is not None
        if self._words is not None or self._stopping is not None:
            raise InputError("inner: not together with words or policy")
        if inner.vocab_size != opening.vocab_size or inner.verifier not in ("auto", "sampled"):
            raise InputError(
                f"inner: must be {opening.vocab_size} wide with the verifier auto or sampled"
            )
        self._inner: Speculator = inner
        self._draw = opening.draw
        self._requests: dict[int, Request] = {}

    def _request(self, row: Row) -> Request:
        text = row.prompt + row.tokens
        if row.index not in self._requests:
            seed, branch = self._laws.noise(row)
            if self._law == "iid":
                seed = (seed + _OWN_NOISE) & (2**64 - 1)
            self._requests[row.index] = self._inner.start(
                text, seed=seed, branch=branch, draw=self._draw
            )
        self._requests[row.index].sync(np.array(text, np.int32))
        return self._requests[row.index]

    def _grow(self, active: Sequence[Row], texts: list[list[int]], depth: int) -> Grown:
        n = len(active)
        requests = [self._request(r) for r in active]
        laws: list[list[Any]] = [[] for _ in range(n)]
        chains: list[list[int]] = [[] for _ in range(n)]
        # The trees' node 0 is the last token; what the model has not read before stands in front.
        rest = [t[len(c) : -1] for t, c in zip(texts, self._cached, strict=True)]
        point = self._law == "point_mass"
        params = [(0.0, 0, 1.0, 0.0) if point else r.law for r in active]
        temperature, top_k, top_p, min_p = zip(*params, strict=True)
        while depth and min(map(len, chains)) < depth:
            batch = self._inner.propose(requests)
            rows = self._run(batch, rest)
            out = self._inner.verify(
                batch,
                logits=rows.numpy(),
                temperature=temperature,
                top_k=top_k,
                top_p=top_p,
                min_p=min_p,
            )
            cu, gather = out.cu_tokens, out.kv_gather.astype(np.int64)
            for b in range(n):
                nodes = int(batch.cu_nodes[b]) + gather[cu[b] : cu[b + 1]]
                said = out.tokens[cu[b] : cu[b + 1]].tolist()
                if len(chains[b]) < depth:
                    laws[b] += [self._laws.process(rows[int(i)], active[b]) for i in nodes]
                    chains[b] += said
                self._cached[b] += rest[b] + batch.tokens[nodes].tolist()
            self._inner.commit(out)
            self._keep(gather, cu, [len(r) for r in rest])
            rest = [[] for _ in range(n)]
        grown = Grown([[t[-1]] for t in texts], [[-1] for _ in texts], [[1.0] for _ in texts], laws)
        for b, chain in enumerate(chains):
            length = self._length(chain[:depth], laws[b])
            chains[b], laws[b] = chain[:length], laws[b][:length]
            self._hang(grown, b, chains[b])
        self._chains = chains
        return grown

    def _run(self, batch: TreeBatch, rest: list[list[int]]) -> Any:
        """Run trees behind chains of unread tokens; the rows of the trees."""
        cu = batch.cu_nodes.astype(np.int64)
        counts, before = np.diff(cu), np.array([len(r) for r in rest])
        ends = np.concatenate([[0], np.cumsum(counts + before)])
        width = int((counts + before).max())
        tokens, positions = np.zeros(ends[-1], np.int64), np.zeros(ends[-1], np.int64)
        mask, tree = np.zeros((ends[-1], width), bool), np.zeros(ends[-1], bool)
        dense = batch.attention_mask()
        for b, chain in enumerate(rest):
            a, middle, z = ends[b], ends[b] + before[b], ends[b + 1]
            own = slice(cu[b], cu[b + 1])
            tree[middle:z] = True
            tokens[a:middle], tokens[middle:z] = chain, batch.tokens[own]
            positions[a:middle] = batch.positions[cu[b]] - np.arange(before[b], 0, -1)
            positions[middle:z] = batch.positions[own]
            mask[a:middle, : before[b]] = np.tri(before[b], dtype=bool)
            mask[middle:z, : before[b]] = True
            mask[middle:z, before[b] : before[b] + counts[b]] = dense[own, : counts[b]]
        both = SimpleNamespace(
            tokens=tokens, positions=positions, cu_nodes=ends, attention_mask=lambda: mask
        )
        self.calls += 1
        rows = self._host.forward(both, [2**31] * len(rest))  # type: ignore[arg-type]
        return rows[np.flatnonzero(tree)]

    def _keep(self, gather: Any, cu: Any, before: list[int]) -> None:
        """Keep the entries of unread chains and of accepted nodes."""
        nodes = [
            np.concatenate([np.arange(n), n + gather[cu[b] : cu[b + 1]]])
            for b, n in enumerate(before)
        ]
        ends = np.concatenate([[0], np.cumsum([len(x) for x in nodes])])
        self._host.keep(np.concatenate(nodes), ends, list(range(len(before))))

    def _length(self, chain: list[int], laws: list[Any]) -> int:
        """Tokens up to the first behind which drafting ends, that one included."""
        above = 1.0
        for i, (token, q) in enumerate(zip(chain, laws, strict=False)):
            above *= float(q[token])
            sure = float(q.max()) if self._law == "iid" else above
            if sure < self._min_prob:
                return i + 1
        return len(chain)

    def _hang(self, grown: Grown, b: int, chain: list[int]) -> None:
        """Add the chain, and the runners-up where tokens were not drawn."""
        tip = 0
        for token, q in zip(chain, grown.laws[b], strict=True):
            branches = [token]
            if self._law != "iid" and self._width > 1:
                best = np.argpartition(-q, self._width - 1)[: self._width]
                branches += [int(t) for t in best if t != token and q[t] > 0]
            parent, tip = tip, len(grown.tokens[b])
            for branch in branches[: self._width]:
                grown.tokens[b].append(branch)
                grown.parents[b].append(parent)
                grown.scores[b].append(grown.scores[b][parent] * float(q[branch]))

    def learn(
        self,
        batch: TreeBatch,
        active: Sequence[Row],
        new: Sequence[list[int]],
        nodes: Sequence[Any],
        logits: Any,
    ) -> None:
        """Let the inner stores learn the texts of requests that end."""
        super().learn(batch, active, new, nodes, logits)
        for row in active:
            if row.reason and row.index in self._requests:
                request = self._request(row)
                request.finish(keep=True)
                del self._requests[row.index]
