"""A small causal model that drafts for the target, over a cache of its own.

Each step the draft model continues every request by a chain of tokens, one pass a token; the rows
of the chain also name the runners-up, which become siblings for nothing. `drafter` lists the laws.

The cache law: entries are those of the longest prefix that the cached tokens share with the text,
at most all but its last token. A draft that was accepted whole leaves one token unread, which the
next step reads first. The draft model's text is the target's, in the words of the draft's
vocabulary where that is another one (`words`).
"""

from __future__ import annotations

from dataclasses import dataclass
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from trivium.errors import InputError
from trivium.integrations._transformers.drafter import (
    Drafter,
    Laws,
    Stopping,
    draft_law,
    drawn,
    hung,
)
from trivium.integrations._transformers.host import TreeHost, logits_width
from trivium.integrations._transformers.rasd import cut, pruned

if TYPE_CHECKING:
    from collections.abc import Sequence

    from trivium.integrations._transformers.drafter import Opening
    from trivium.integrations._transformers.loop import Row
    from trivium.integrations._transformers.settings import DraftModel, EarlyExit, LayerSkip
    from trivium.speculator import TreeBatch
    from trivium.words import Words

__all__ = ["Drafting", "Grown"]


@dataclass
class Grown:
    """A tree a request, and the laws along its chain: ``laws[b][i]`` is that of token ``i``."""

    tokens: list[list[int]]
    parents: list[list[int]]
    scores: list[list[float]]
    laws: list[list[Any]]


class Drafting(Drafter):
    """A draft model at work on the requests of one `generate` call."""

    def __init__(
        self, settings: DraftModel | EarlyExit | LayerSkip, opening: Opening, model: Any = None
    ) -> None:
        model = settings.model if model is None else model
        self._words: Words | None = settings.words
        width = logits_width(model)
        if self._words is not None:
            self._words.check(width, opening.vocab_size)
        elif width != opening.vocab_size:
            raise InputError(
                f"draft_model: has {width} logits, the target {opening.vocab_size}; "
                "other vocabularies need words="
            )
        if getattr(model, "training", False):
            raise InputError("draft_model: is in training mode; call model.eval()")
        self._host = TreeHost(model, opening.chunk)
        self._most = getattr(
            model.config.get_text_config(decoder=True), "max_position_embeddings", None
        )
        self._prompts, self._vocab_size = opening.prompts, opening.vocab_size
        self._num_tokens, self._width = settings.num_tokens, settings.width
        self._min_prob, self._min_top = settings.min_prob, 0.0
        self._min_node, self._always = settings.min_node, settings.always
        self._law = self.law = draft_law(settings.law, opening.verifier)
        self._laws = Laws(self._law, opening)
        self._retrieval = settings.retrieval
        self._replay = settings.replay
        self._stopping = None if settings.policy is None else Stopping(settings.policy)
        self._rows: list[int] = []  # request of each row of the cache
        self._cached: list[list[int]] = []
        self._agreement, self._pace = settings.agreement, settings.pace
        self._paced = False  # whether this step's times are known
        self._chains: list[list[int]] = []  # drafted in this step
        self._asked: list[list[float]] = []  # their probabilities under the draft, where known
        self.accepted: list[tuple[int, int]] = []  # tokens drafted and accepted in the last step
        self.calls = 0

    def draft(self, batch: TreeBatch, active: Sequence[Row]) -> tuple[TreeBatch, Any]:
        """Add the draft model's tokens to the trees; the draft law's rows where it has any."""
        self._paced = True
        self._pace.begin()
        # Drawn drafts stand alone: without them a step of the law verifiers has none.
        free = self._law != "iid" and self._retrieval is None and not self._always
        if free and not self._pace.pays([r.law for r in active], _expected(batch, len(active))):
            self._chains, self._asked = [[] for _ in active], []
            self._pace.end(0)
            return batch, None
        calls = self.calls
        grown = self.grown(active)
        self._pace.end(self.calls - calls)
        if self._law == "iid":
            return drawn(active, grown.tokens, grown.parents, grown.laws, self._vocab_size)
        if self._retrieval is not None:
            batch = pruned(batch, grown.laws, self._retrieval.top_k)
        if any(self._chains):
            batch = hung(batch, grown.tokens, grown.parents, grown.scores, self._law)
        return batch if self._retrieval is None else cut(batch, self._retrieval.max_nodes), None

    def grown(self, active: Sequence[Row]) -> Grown:
        """Draft for these requests."""
        self._asked = []
        texts = [self._text(r) for r in active]
        self._follow(active, texts)
        depth = self._num_tokens
        if self._most:
            depth = min([depth, *(self._most - len(t) for t in texts)])
        # The last token of a request cannot be a draft.
        depth = min(depth, max(r.limit - len(r.tokens) for r in active) - 1)
        return self._grow(active, texts, max(depth, 0))

    def learn(
        self,
        batch: TreeBatch,  # noqa: ARG002
        active: Sequence[Row],
        new: Sequence[list[int]],
        nodes: Sequence[Any],
        logits: Any,
    ) -> None:
        """Count what was emitted of each chain, tell the policy, and keep what was missed."""
        if self._paced:
            self._pace.verified()
        self.accepted = []
        each = zip(active, self._chains, self._asked or [[] for _ in active], new, strict=True)
        for (request, chain, asked, said), rows in zip(each, nodes, strict=True):
            for token, p, truth in zip(chain, asked, said, strict=False):
                self._agreement.report(request.law, p, emitted=token == truth)
                if token != truth:
                    break
            accepted = next(
                (i for i, (x, y) in enumerate(zip(chain, said, strict=False)) if x != y),
                min(len(chain), len(said)),
            )
            self.accepted.append((len(chain), accepted))
            if self._paced and chain:
                self._pace.report(request.law, accepted)
            if self._stopping is not None:
                self._stopping.report(request, len(chain), accepted)
            if self._replay is not None:
                self._replay.observe(request, chain, said, logits[torch.from_numpy(rows)])

    def report(self) -> dict[str, Any]:
        """Give the passes of the draft model."""
        return {"draft_calls": self.calls}

    def _text(self, row: Row) -> list[int]:
        """Give the committed text of a request in the draft's ids."""
        text = row.prompt + row.tokens
        return text if self._words is None else self._words.spell(text)

    def _said(self, row: Any) -> Any:
        assert self._words is not None
        return torch.from_numpy(self._words.row(row.numpy()))

    def _follow(self, active: Sequence[Row], texts: list[list[int]]) -> None:
        """Keep the rows of the requests that still run, cut to what their text begins with."""
        wanted = [r.index for r in active]
        if not self._rows:
            self._rows = wanted
            self._host.prefill(texts)
            self._cached = [list(t[:-1]) for t in texts]
        elif self._rows != wanted:
            rows = [self._rows.index(i) for i in wanted]
            self._host.only(rows)
            self._cached = [self._cached[b] for b in rows]
            self._rows = wanted
        for cached, text in zip(self._cached, texts, strict=True):
            same = next(
                (i for i, (x, y) in enumerate(zip(cached, text, strict=False)) if x != y),
                min(len(cached), len(text)),
            )
            del cached[min(same, len(text) - 1) :]
        self._host.crop([len(c) for c in self._cached])

    def _read(self, chains: list[list[int]]) -> Any:
        """Feed a chain a row; the logits of its last token, float32 [rows, vocab of the draft]."""
        counts = np.array([len(c) for c in chains])
        cu = np.concatenate([[0], np.cumsum(counts)])
        width = int(counts.max())
        within = np.arange(cu[-1]) - np.repeat(cu[:-1], counts)
        batch = SimpleNamespace(
            tokens=np.concatenate([np.array(c, np.int64) for c in chains]),
            cu_nodes=cu,
            positions=np.repeat([len(c) for c in self._cached], counts) + within,
            attention_mask=lambda: np.arange(width) <= within[:, None],
        )
        self.calls += 1
        ends = [2**31] * len(chains)
        logits = self._host.forward(batch, ends)  # type: ignore[arg-type]
        self._host.keep(within, cu, list(range(len(chains))))
        for cached, chain in zip(self._cached, chains, strict=True):
            cached += chain
        return logits[cu[1:] - 1].float().cpu()

    def _grow(self, active: Sequence[Row], texts: list[list[int]], depth: int) -> Grown:
        n = len(active)
        starts = [len(r.prompt) + len(r.tokens) for r in active]
        noise = [self._laws.noise(r) for r in active]
        tokens: list[list[int]] = [[(r.prompt + r.tokens)[-1]] for r in active]
        parents: list[list[int]] = [[-1] for _ in texts]
        scores: list[list[float]] = [[1.0] for _ in texts]
        laws: list[list[Any]] = [[] for _ in texts]  # rows of q along each chain
        self._chains = [[] for _ in texts]
        self._asked = [[] for _ in texts]
        tip = [0] * n
        most = [depth] * n
        if self._stopping is not None:
            most = [
                min(depth, self._stopping.begin(r, start, at))
                for r, start, at in zip(active, starts, noise, strict=True)
            ]
        going = [m > 0 for m in most]
        feed = [t[len(c) :] for t, c in zip(texts, self._cached, strict=True)]
        for level in range(max(most, default=0)):
            rows = self._read(feed)
            for b in range(n):
                if not going[b]:
                    continue
                row = rows[b] if self._words is None else self._said(rows[b])
                q = self._laws.process(row, active[b])
                if self._stopping is not None and not self._stopping.before(
                    active[b], level, q, starts[b], noise[b]
                ):
                    going[b] = False
                    continue
                above = scores[b][tip[b]]
                chosen = self._laws.choose(row, q, active[b], starts[b], level)
                branches = [chosen]
                if self._law != "iid" and self._width > 1:
                    best = np.argpartition(-q, self._width - 1)[: self._width]
                    branches += [int(t) for t in best if t != chosen and q[t] > 0]
                laws[b].append(q)
                parent, asked = tip[b], float(q[chosen])
                agreed = self._agreement(active[b].law, asked)
                tip[b] = len(tokens[b])
                for token in branches[: self._width]:
                    # Runners-up share what the chosen one leaves.
                    rest = (1 - agreed) * float(q[token]) / max(1 - asked, 1e-6)
                    p = agreed if token == chosen else min(1.0, rest)
                    if token != chosen and above * p < self._min_node:
                        continue
                    tokens[b].append(token)
                    parents[b].append(parent)
                    scores[b].append(above * p)
                self._chains[b].append(chosen)
                self._asked[b].append(asked)
                # Stopping looks at the row and at tokens that are included: legal for any law.
                sure = float(q.max()) if self._law == "iid" else scores[b][tip[b]]
                going[b] = sure >= self._min_prob and level + 1 < most[b]
                going[b] &= float(q.max()) >= self._min_top
                if self._stopping is not None and not self._stopping.after(
                    active[b], level + 1, float(q[chosen]), q, starts[b], noise[b]
                ):
                    going[b] = False
            if not any(going):
                break
            tips = [tokens[b][tip[b]] for b in range(n)]
            feed = [[t] if self._words is None else [self._words.word(t)] for t in tips]
        return Grown(tokens, parents, scores, laws)


def _expected(batch: TreeBatch, requests: int) -> list[float]:
    """Tokens expected of each request's tree."""
    cu, scores = batch.cu_nodes, batch.scores
    return [float(scores[cu[b] + 1 : cu[b + 1]].sum()) for b in range(requests)]
