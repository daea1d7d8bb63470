"""Drafts from the traces of one question, weighed by the tally.

Traces of one question write much the same in the same local context (Li et al., "Speculative
Decoding for Multi-Sample Inference"). The last tokens of a running trace are looked up in its
siblings; what followed there is counted, and a continuation from a trace that voted for the current
leader counts ``1 + mu * share``. So once a key leads, the spelling of its answer is drafted where
the answers part. Drafts never change a text: verification does not know where they came from.
"""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING

from trivium.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Hashable, Sequence

__all__ = ["GroupDrafts"]


class GroupDrafts:
    """Continuations seen in the traces of one question.

    Parameters
    ----------
    mu : float
        How much more a trace of the leader counts at full agreement; 0 is plain counting.
    context : int
        Largest number of tokens that must agree; shorter contexts, down to two, are tried after.
    max_tokens : int
        Tokens kept; of more, the oldest traces are forgotten.
    """

    __slots__ = ("_heard", "_keys", "_places", "_size", "_texts", "context", "max_tokens", "mu")

    def __init__(self, *, mu: float = 1.0, context: int = 6, max_tokens: int = 1 << 16) -> None:
        if not mu >= 0 or context < 2 or max_tokens < 1:
            raise InputError(
                "mu, context, max_tokens: need mu from 0 on and at least 2 and 1 tokens"
            )
        self.mu, self.context, self.max_tokens = float(mu), context, max_tokens
        self._texts: dict[int, Sequence[int]] = {}
        self._keys: dict[int, Hashable] = {}
        self._places: defaultdict[tuple[int, int], list[tuple[int, int]]] = defaultdict(list)
        self._size = 0
        self._heard = 0

    def __len__(self) -> int:
        return len(self._texts)

    def add(self, tokens: Sequence[int], key: Hashable = None) -> None:
        """Add an ended trace and the key it voted for; linear in its tokens."""
        trace, self._heard = self._heard, self._heard + 1
        self._texts[trace], self._keys[trace] = list(tokens), key
        self._size += len(tokens)
        for i in range(2, len(tokens)):
            self._places[tokens[i - 2], tokens[i - 1]].append((trace, i))
        while self._size > self.max_tokens and len(self._texts) > 1:
            oldest = next(iter(self._texts))
            self._size -= len(self._texts.pop(oldest))
            del self._keys[oldest]

    def propose(
        self, tail: Sequence[int], depth: int, *, leader: Hashable = None, share: float = 0.0
    ) -> list[int]:
        """Likeliest continuation of a text that ends in `tail`, at most `depth` tokens.

        The traces that share the longest context speak; token by token the heaviest continuation
        is followed (ties: the smaller id), and those that part from it fall silent.
        """
        if len(tail) < 2:
            return []
        known = self._places.get((tail[-2], tail[-1]), ())
        places = [(trace, at) for trace, at in known if trace in self._texts]
        for n in range(3, min(self.context, len(tail)) + 1):
            longer = [p for p in places if p[1] >= n and self._texts[p[0]][p[1] - n] == tail[-n]]
            if not longer:
                break
            places = longer
        out: list[int] = []
        while places and len(out) < depth:
            counts: defaultdict[int, float] = defaultdict(float)
            for trace, at in places:
                leads = leader is not None and self._keys[trace] == leader
                counts[self._texts[trace][at]] += 1.0 + (self.mu * share if leads else 0.0)
            best = min(counts, key=lambda token: (-counts[token], token))
            out.append(best)
            places = [
                (trace, at + 1)
                for trace, at in places
                if self._texts[trace][at] == best and at + 1 < len(self._texts[trace])
            ]
        return out
