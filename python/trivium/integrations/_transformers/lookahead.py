"""Lookahead decoding's window, run in the target's own pass.

Behind the nodes of each tree stand the nodes of a window (`LookaheadWindow`): W guesses that
advance in parallel and see the committed text, not the drafts. They are never verified; their most
likely tokens make n-grams, which enter a pool and are drafted when their key is the last committed
token again. A pass grows by W * (N - 1) nodes a request: worth it where passes are bound by memory.

"Break the Sequential Dependency of LLM Inference Using Lookahead Decoding".
"""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np

from trivium.drafting import LookaheadWindow, PhrasePool
from trivium.errors import UnsupportedError
from trivium.integrations._transformers.drafter import Drafter, hung
from trivium.integrations._transformers.host import TreeHost

if TYPE_CHECKING:
    from collections.abc import Sequence

    from trivium.integrations._transformers.drafter import Opening
    from trivium.integrations._transformers.host import Host
    from trivium.integrations._transformers.loop import Row
    from trivium.integrations._transformers.settings import Lookahead
    from trivium.speculator import TreeBatch

__all__ = ["LookingAhead"]

_SCORE = 0.5  # of a guess, and again of each token behind it


class LookingAhead(Drafter):
    """Windows and pools of the requests of one `generate` call."""

    def __init__(self, settings: Lookahead, opening: Opening) -> None:
        if not isinstance(opening.host, TreeHost):
            raise UnsupportedError(
                f"lookahead on {type(opening.model).__name__}: its trees do not run in one pass"
            )
        self._settings, self._noise = settings, opening.noise
        self._states: dict[int, tuple[LookaheadWindow, PhrasePool]] = {}
        self._best: list[list[int]] = []
        self._last: list[int] = []
        self._window_nodes = 0

    def _state(self, request: Row) -> tuple[LookaheadWindow, PhrasePool]:
        if request.index not in self._states:
            s, (seed, _) = self._settings, self._noise[request.index]
            text = request.prompt + request.tokens
            window = LookaheadWindow(s.width, s.ngram, text, seed=seed + request.index)
            pool = PhrasePool(s.ngram - 1, s.guesses)
            for i in range(len(text) - s.ngram + 1 if s.from_prompt else 0):
                pool.insert(text[i], text[i + 1 : i + s.ngram])
            self._states[request.index] = window, pool
        return self._states[request.index]

    def draft(self, batch: TreeBatch, active: Sequence[Row]) -> tuple[TreeBatch, Any]:
        """Hang the phrases after each last committed token into the trees."""
        self._last = [(r.prompt + r.tokens)[-1] for r in active]
        tokens: list[list[int]] = []
        parents: list[list[int]] = []
        scores: list[list[float]] = []
        for request, last in zip(active, self._last, strict=True):
            _, pool = self._state(request)
            ids, above, score = [last], [-1], [1.0]
            children: dict[tuple[int, int], int] = {}
            for phrase in pool.get(last):
                at = 0
                for token in phrase:
                    if (at, token) not in children:
                        children[at, token] = len(ids)
                        ids.append(token)
                        above.append(at)
                        score.append(score[at] * _SCORE)
                    at = children[at, token]
            tokens.append(ids)
            parents.append(above)
            scores.append(score)
        if any(len(t) > 1 for t in tokens):
            batch = hung(batch, tokens, parents, scores, "point_mass")
        return batch, None

    def run(self, host: Host, batch: TreeBatch, active: Sequence[Row]) -> Any:
        """Run trees and windows in one pass."""
        cu = batch.cu_nodes.astype(np.int64)
        layouts = [self._state(r)[0].layout() for r in active]
        counts = np.diff(cu)
        sizes = np.array([len(layout[0]) for layout in layouts])
        ends = np.concatenate([[0], np.cumsum(counts + sizes)])
        dense = batch.attention_mask()
        mask = np.zeros((ends[-1], int((counts + sizes).max())), bool)
        tokens, positions = np.zeros(ends[-1], np.int64), np.zeros(ends[-1], np.int64)
        tree = np.zeros(ends[-1], bool)
        for b, (ids, offsets, seen, _) in enumerate(layouts):
            a, middle, z = ends[b], ends[b] + counts[b], ends[b + 1]
            own = slice(cu[b], cu[b + 1])
            tree[a:middle] = True
            tokens[a:middle], tokens[middle:z] = batch.tokens[own], ids
            positions[a:middle] = batch.positions[own]
            positions[middle:z] = batch.positions[cu[b]] + np.array(offsets)
            mask[a:middle, : counts[b]] = dense[own, : counts[b]]
            mask[middle:z, 0] = True  # the last committed token
            square = np.array(seen, bool).reshape(sizes[b], sizes[b])
            mask[middle:z, counts[b] : counts[b] + sizes[b]] = square
        self._window_nodes += int(sizes.sum())
        both = SimpleNamespace(
            tokens=tokens, positions=positions, cu_nodes=ends, attention_mask=lambda: mask
        )
        logits = host.forward(both, [r.end for r in active])  # type: ignore[arg-type]
        best = logits.argmax(-1).numpy()
        self._best = [
            [int(best[ends[b] if w < 0 else ends[b] + counts[b] + w]) for w in layout[3]]
            for b, layout in enumerate(layouts)
        ]
        return logits[np.flatnonzero(tree)]

    def learn(
        self,
        batch: TreeBatch,  # noqa: ARG002
        active: Sequence[Row],
        new: Sequence[list[int]],  # noqa: ARG002
        nodes: Sequence[Any],  # noqa: ARG002
        logits: Any,  # noqa: ARG002
    ) -> None:
        """Move the windows on and keep what their columns spell."""
        for request, last, best in zip(active, self._last, self._best, strict=True):
            window, pool = self._states[request.index]
            for key, phrase in window.harvest(last, best):
                pool.insert(key, phrase)
            if request.reason:
                del self._states[request.index]

    def report(self) -> dict[str, Any]:
        """Give the nodes that windows added to the passes."""
        return {"window_nodes": self._window_nodes}
