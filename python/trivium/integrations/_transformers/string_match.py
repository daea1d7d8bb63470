"""SLEM: a draft model of another tokenizer writes text, which becomes point masses of the target.

Its own most likely tokens are drafted, whatever the request's law: what is verified is the text.
The border between committed and drafted text is found by `words.StringMatch`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch

from trivium.errors import UnsupportedError
from trivium.integrations._transformers.draft_model import Drafting, Grown
from trivium.integrations._transformers.drafter import PATH
from trivium.words import StringMatch

if TYPE_CHECKING:
    from collections.abc import Sequence

    from trivium.integrations._transformers.drafter import Opening
    from trivium.integrations._transformers.loop import Row
    from trivium.integrations._transformers.settings import DraftModel

__all__ = ["StringMatching"]


class StringMatching(Drafting):
    """`Drafting` whose chains are re-encoded."""

    def __init__(self, settings: DraftModel, opening: Opening) -> None:
        super().__init__(settings, opening)
        self._law = self.law = "point_mass"
        if settings.law == "iid" or opening.verifier not in (*PATH, "law", "mixed"):
            raise UnsupportedError(
                f"StringMatch drafts point masses, which {opening.verifier!r} does not test"
            )

    def _grow(self, active: Sequence[Row], texts: list[list[int]], depth: int) -> Grown:
        words = self._words
        assert isinstance(words, StringMatch)
        n = len(active)
        written: list[list[int]] = [[] for _ in active]
        sure = [1.0] * n
        going = [depth > 0] * n
        feed = [t[len(c) :] for t, c in zip(texts, self._cached, strict=True)]
        for _ in range(depth):
            best = torch.softmax(self._read(feed), -1).max(-1)
            for b in range(n):
                if going[b]:
                    sure[b] *= float(best.values[b])
                    written[b].append(int(best.indices[b]))
                    going[b] = sure[b] >= self._min_prob
            if not any(going):
                break
            feed = [[int(t)] for t in best.indices]
        committed = [r.prompt + r.tokens for r in active]
        self._chains = [words.match(t, w)[:depth] for t, w in zip(committed, written, strict=True)]
        scores = [np.linspace(1.0, s, len(c) + 1) for c, s in zip(self._chains, sure, strict=True)]
        return Grown(
            [[t[-1], *c] for t, c in zip(committed, self._chains, strict=True)],
            [list(range(-1, len(c))) for c in self._chains],
            [s.tolist() for s in scores],
            [[] for _ in active],
        )
