"""A small causal model that drafts for the target, over a cache of its own.

Each step the draft model continues every request by a chain of tokens, one pass a token; the rows
of the chain also name the runners-up, which become siblings for nothing. How a token is chosen is
the draft's law, and with it who may verify:

==============  ===================================================  ==============================
law             token                                                verified by
==============  ===================================================  ==============================
"shared"        what the draft model itself would emit at that       the path verifiers: equal noise
                place under the request's noise                      makes equal laws equal tokens
"point_mass"    the most likely                                      any verifier of point masses
"iid"           drawn from the processed row with noise of its own   the law verifiers, with ``q``
                (purpose 7)
==============  ===================================================  ==============================

The cache law: entries are those of the longest prefix that the cached tokens share with the text,
at most all but its last token. A draft that was accepted whole leaves one token unread, which the
next step reads first.
"""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from trivium import _core
from trivium.errors import InputError
from trivium.integrations._transformers.host import TreeHost, logits_width
from trivium.sampling import Pipeline
from trivium.speculator import TreeBatch

if TYPE_CHECKING:
    from collections.abc import Sequence

    from trivium.integrations._transformers.loop import Row

__all__ = ["Drafting", "draft_law"]

_PATH = ("auto", "sampled", "race")
_GREEDY = 1e-5  # temperatures below are greedy


def draft_law(law: str, verifier: str) -> str:
    """Resolve ``"auto"`` by the verifier."""
    if law == "auto":
        return "shared" if verifier in _PATH else "iid"
    if law == "shared" and verifier not in _PATH:
        raise InputError(
            f'law: "shared" drafts share the target\'s noise, which {verifier!r} would test again'
        )
    return law


class Drafting:
    """A draft model at work on the requests of one `generate` call."""

    def __init__(
        self,
        model: Any,
        *,
        prompts: Sequence[list[int]],
        vocab_size: int,
        chunk: int,
        law: str,
        num_tokens: int,
        width: int,
        min_prob: float,
        noise: Sequence[tuple[int, int]],
        draw: str,
    ) -> None:
        if logits_width(model) != vocab_size:
            raise InputError(
                f"draft_model: has {logits_width(model)} logits, the target {vocab_size}; "
                "other vocabularies need a map"
            )
        if getattr(model, "training", False):
            raise InputError("draft_model: is in training mode; call model.eval()")
        self._host = TreeHost(model, chunk)
        self._most = getattr(
            model.config.get_text_config(decoder=True), "max_position_embeddings", None
        )
        self._prompts, self._vocab_size = prompts, vocab_size
        self._law, self._num_tokens, self._width = law, num_tokens, width
        self._min_prob, self._noise, self._draw = min_prob, noise, draw
        self._rows: list[int] = []  # request of each row of the cache
        self._cached: list[list[int]] = []
        self._pipelines: dict[tuple[float, int, float, float], Pipeline] = {}
        self.calls = 0

    def draft(self, batch: TreeBatch, active: Sequence[Row]) -> tuple[TreeBatch, Any]:
        """Add the draft model's tokens to the trees; the draft law's rows where it has any."""
        self._follow(active)
        texts = [r.prompt + r.tokens for r in active]
        depth = self._num_tokens
        if self._most:
            depth = min([depth, *(self._most - len(t) for t in texts)])
        # The last token of a request cannot be a draft.
        depth = min(depth, max(r.limit - len(r.tokens) for r in active) - 1)
        if depth < 1:
            if self._law != "iid":
                return batch, None
            none = [[t[-1]] for t in texts]
            return self._drawn(active, none, [[-1] for _ in texts], [[] for _ in texts])
        return self._grow(batch, active, texts, depth)

    def _follow(self, active: Sequence[Row]) -> None:
        """Keep the rows of the requests that still run, cut to what their text begins with."""
        wanted = [r.index for r in active]
        if not self._rows:
            self._rows = wanted
            self._host.prefill([self._prompts[i] for i in wanted])
            self._cached = [list(self._prompts[i][:-1]) for i in wanted]
        elif self._rows != wanted:
            rows = [self._rows.index(i) for i in wanted]
            self._host.only(rows)
            self._cached = [self._cached[b] for b in rows]
            self._rows = wanted
        for b, row in enumerate(active):
            cached, text = self._cached[b], row.prompt + row.tokens
            same = next(
                (i for i, (x, y) in enumerate(zip(cached, text, strict=False)) if x != y),
                min(len(cached), len(text)),
            )
            del cached[min(same, len(text) - 1) :]
        self._host.crop([len(c) for c in self._cached])

    def _read(self, chains: list[list[int]]) -> Any:
        """Feed a chain a row; the logits of its last token, float32 [rows, vocab]."""
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
        return logits[cu[1:] - 1]

    def _grow(
        self, batch: TreeBatch, active: Sequence[Row], texts: list[list[int]], depth: int
    ) -> tuple[TreeBatch, Any]:
        n = len(active)
        tokens: list[list[int]] = [[t[-1]] for t in texts]
        parents: list[list[int]] = [[-1] for _ in texts]
        scores: list[list[float]] = [[1.0] for _ in texts]
        laws: list[list[Any]] = [[] for _ in texts]  # rows of q along each chain
        tip = [0] * n
        going = [True] * n
        feed = [t[len(c) :] for t, c in zip(texts, self._cached, strict=True)]
        for level in range(depth):
            rows = self._read(feed)
            for b in range(n):
                if not going[b]:
                    continue
                q = self._process(rows[b], active[b])
                above = scores[b][tip[b]]
                chosen = self._choose(rows[b], q, active[b], len(texts[b]), level)
                branches = [chosen]
                if self._law != "iid" and self._width > 1:
                    best = np.argpartition(-q, self._width - 1)[: self._width]
                    branches += [int(t) for t in best if t != chosen and q[t] > 0]
                laws[b].append(q)
                parent = tip[b]
                for token in branches[: self._width]:
                    if token == chosen:
                        tip[b] = len(tokens[b])
                    tokens[b].append(token)
                    parents[b].append(parent)
                    scores[b].append(above * float(q[token]))
                # Stopping looks at the row and at tokens that are included: legal for any law.
                sure = float(q.max()) if self._law == "iid" else scores[b][tip[b]]
                going[b] = sure >= self._min_prob
            if not any(going) or level + 1 == depth:
                break
            feed = [[tokens[b][tip[b]]] for b in range(n)]
        if self._law == "iid":
            return self._drawn(active, tokens, parents, laws)
        cu = np.concatenate([[0], np.cumsum([len(t) for t in tokens])])
        law = "race" if self._law == "shared" else "point_mass"
        grafted = batch.graft(
            np.concatenate([np.array(t) for t in tokens]),
            np.concatenate([np.array(p) for p in parents]),
            cu.tolist(),
            [s for row in scores for s in row],
            law=law,
        )
        return grafted, None

    def _drawn(
        self,
        active: Sequence[Row],
        tokens: list[list[int]],
        parents: list[list[int]],
        laws: list[list[Any]],
    ) -> tuple[TreeBatch, Any]:
        batch = TreeBatch.from_arrays(
            np.concatenate([np.array(t) for t in tokens]),
            np.concatenate([np.array(p) for p in parents]),
            np.concatenate([[0], np.cumsum([len(t) for t in tokens])]),
            requests=[r.request for r in active],
            law="iid",
            pruning="shape",
        )
        # The last node of a chain has no children, and no law that they were drawn from.
        none = np.zeros(self._vocab_size, np.float32)
        return batch, np.stack([row for q in laws for row in [*q, none]])

    def _pipeline(self, law: tuple[float, int, float, float]) -> Pipeline:
        if law not in self._pipelines:
            temperature, top_k, top_p, min_p = law
            rules = {"top_k": top_k, "top_p": top_p, "min_p": min_p}
            off = {"top_k": 0, "top_p": 1.0, "min_p": 0.0}
            used: Any = {k: v for k, v in rules.items() if v != off[k]}
            self._pipelines[law] = Pipeline(temperature=temperature, **used)
        return self._pipelines[law]

    def _process(self, row: Any, request: Row) -> Any:
        """Give the processed law of a row, float32 [vocab]; that of temperature 1 for greedy text.

        A greedy law would call every token certain: it says nothing of when to stop.
        """
        if request.law[0] < _GREEDY and self._law != "iid":
            return torch.softmax(row, -1).numpy()
        scaled = torch.from_numpy(self._pipeline(request.law).process(row.numpy()))
        return torch.softmax(scaled, -1).numpy()

    def _choose(self, row: Any, q: Any, request: Row, start: int, level: int) -> int:
        if self._law == "point_mass" or request.law[0] < _GREEDY:
            return int(q.argmax())
        seed, branch = self._noise[request.index]
        if self._law == "iid":
            return _core.draw_draft(q[None], seed, start, level, branch)
        token, _ = self._pipeline(request.law).sample(
            row.numpy(), seed=seed, branch=branch, index=start + level, draw=self._draw
        )
        return int(token)
