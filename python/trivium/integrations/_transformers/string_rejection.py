"""SLRS: chains of first target tokens of what a draft model of another vocabulary would write.

The law of each is summed over the texts of the draft model (`words.StringRejection`), one pass of
the draft over the whole text for every beginning: for byte and toy vocabularies. The token is drawn
from the law as it is told, so rejection is exact. Behind a token the draft reads its spelling, not
what it would have written on.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from trivium import _core
from trivium.errors import InputError
from trivium.integrations._transformers.drafter import GREEDY, Drafter, Laws, drawn, hung
from trivium.integrations._transformers.host import logits_width

if TYPE_CHECKING:
    from collections.abc import Sequence

    from trivium.integrations._transformers.drafter import Opening
    from trivium.integrations._transformers.loop import Row
    from trivium.integrations._transformers.settings import DraftModel
    from trivium.speculator import TreeBatch
    from trivium.words import StringRejection

__all__ = ["StringRejecting"]


class StringRejecting(Drafter):
    """A draft model of another vocabulary at work on the requests of one `generate` call."""

    def __init__(self, settings: DraftModel, opening: Opening) -> None:
        if settings.law == "shared":
            raise InputError('law: "shared" noise does not reach through another vocabulary')
        if settings.model.training:
            raise InputError("draft_model: is in training mode; call model.eval()")
        self._words: StringRejection = settings.words  # type: ignore[assignment]
        self._words.check(logits_width(settings.model), opening.vocab_size)
        self._model, self._num_tokens = settings.model, settings.num_tokens
        self._vocab_size = opening.vocab_size
        self._iid = settings.law == "iid" or (
            settings.law == "auto" and opening.verifier not in ("auto", "sampled", "race")
        )
        self._laws = Laws("iid", opening)
        self._read: dict[Any, Any] = {}  # laws of this step
        self.calls = 0

    def draft(self, batch: TreeBatch, active: Sequence[Row]) -> tuple[TreeBatch, Any]:
        """Add a chain a request."""
        self._read = {}
        tokens: list[list[int]] = []
        laws: list[list[Any]] = []
        scores: list[list[float]] = []
        for r in active:
            depth = min(self._num_tokens, r.limit - len(r.tokens) - 1)
            text = r.prompt + r.tokens
            chain, rows, score = [text[-1]], [], [1.0]
            for level in range(depth):
                q = self._row(text + chain[1:], r)
                if self._iid and r.law[0] >= GREEDY:
                    seed, branch = self._laws.noise(r)
                    token = _core.draw_draft(q[None], seed, len(text), level, branch)
                else:
                    token = int(q.argmax())
                    if self._iid:  # greedy text: the law is that of the token alone
                        q = np.eye(1, len(q), token, dtype=np.float32)[0]
                chain.append(token)
                rows.append(q)
                score.append(score[-1] * float(q[token]))
            tokens.append(chain)
            laws.append(rows)
            scores.append(score)
        parents = [list(range(-1, len(t) - 1)) for t in tokens]
        if self._iid:
            return drawn(active, tokens, parents, laws, self._vocab_size)
        if all(len(t) == 1 for t in tokens):
            return batch, None
        return hung(batch, tokens, parents, scores, "point_mass"), None

    def _row(self, text: list[int], request: Row) -> Any:
        """Law of the first target token behind a target text, float32 [vocab]."""
        context = self._words.spell(text)

        def following(ids: list[int]) -> Any:
            key = (tuple(context + ids), request.law)
            if key not in self._read:  # equal texts of a batch are read once
                self.calls += 1
                read = torch.tensor([context + ids], device=self._model.device)
                row = self._model(input_ids=read, use_cache=False).logits[0, -1]
                self._read[key] = self._laws.process(row.float().cpu(), request)
            return self._read[key]

        return self._words.law(following).astype(np.float32)
