"""The loop: propose, one forward pass, verify, cut, commit, hand out."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from trivium.integrations._transformers.drafter import Drafter
    from trivium.integrations._transformers.host import Host
    from trivium.integrations._transformers.stops import Stops
    from trivium.speculator import Request, Speculator, TreeBatch

__all__ = ["Control", "Row", "Totals", "decode"]


@dataclass(slots=True)
class Row:
    """One request on its way."""

    index: int
    request: Request
    prompt: list[int]
    limit: int  # new tokens
    law: tuple[float, int, float, float]  # temperature, top_k, top_p, min_p
    eos: frozenset[int]
    tokens: list[int] = field(default_factory=list)
    logprobs: list[float] = field(default_factory=list)
    logit_rows: list[Any] = field(default_factory=list)
    tail: bytes = b""
    reason: str = ""
    entropy: float = 0.0  # summed over tokens, where a vote reads it

    @property
    def end(self) -> int:
        """Last position whose logits choose a token."""
        return len(self.prompt) + self.limit - 2

    def cut(self, new: list[int], stops: Stops) -> tuple[int, str]:
        """How many of the emitted tokens stay, and why the request ends there, if it does."""
        room = self.limit - len(self.tokens)
        ends = [(i + 1, "eos") for i, token in enumerate(new) if token in self.eos][:1]
        stop, self.tail = stops.scan(self.tail, new)
        if stop is not None:
            ends.append((stop, "stop"))
        if len(new) >= room:
            ends.append((room, "length"))
        # At one place the end of sequence goes before a stop string, and that before the length.
        return min(ends, key=lambda end: end[0]) if ends else (len(new), "")


@dataclass(slots=True)
class Totals:
    """Work of a call after prefill."""

    steps: int = 0  # requests times steps


class Control(Protocol):
    """Who may change the batch between steps: a vote that launches and cancels traces."""

    def draft(self, batch: TreeBatch, active: Sequence[Row]) -> TreeBatch:
        """Add drafts of its own to the trees."""

    def step(
        self, active: Sequence[Row], new: Sequence[list[int]], logits: Any, nodes: Sequence[Any]
    ) -> list[Row]:
        """Hear of a step; rows to cancel get their reason, rows to start are returned.

        ``new[b]`` are the tokens that row `b` gained and ``nodes[b]`` the rows of `logits` that
        chose them.
        """


def decode(
    host: Host,
    spec: Speculator,
    rows: list[Row],
    *,
    stops: Stops,
    callback: Callable[[int, list[int]], object] | None,
    keep: bool,
    record: bool,
    totals: Totals,
    control: Control | None = None,
    drafting: Drafter | None = None,
) -> None:
    """Run every request to its end."""
    active = list(rows)
    sizes = _first_sizes(spec)
    timed = False
    while active:
        bound = next(sizes, None)
        start = time.perf_counter()
        batch = spec.propose(
            [r.request for r in active], None if bound is None else bound * len(active)
        )
        if control is not None:
            batch = control.draft(batch, active)
        q, drafted = None, 0.0
        if drafting is not None:
            before = time.perf_counter()
            batch, q = drafting.draft(batch, active)
            drafted = time.perf_counter() - before
        batch = host.fit(batch)
        if drafting is None:
            logits = host.forward(batch, [r.end for r in active])
        else:
            logits = drafting.run(host, batch, active)
        done = drafting is not None and drafting.processed
        laws = [(1.0, 0, 1.0, 0.0) if done else r.law for r in active]
        temperature, top_k, top_p, min_p = zip(*laws, strict=True)
        out = spec.verify(
            batch,
            # Draft probabilities are on the host: rows beside them must be too.
            logits=logits if q is None else logits.float().cpu(),
            q=q,
            temperature=temperature,
            top_k=top_k,
            top_p=top_p,
            min_p=min_p,
        )
        tokens, cu, logprobs = out.tokens, out.cu_tokens, out.logprobs
        gather = out.kv_gather
        assert logprobs is not None  # logits were verified
        ends = [r.cut(tokens[cu[b] : cu[b + 1]].tolist(), stops) for b, r in enumerate(active)]
        for b, (n, reason) in enumerate(ends):
            if reason:
                out.truncate(b, n)
        spec.commit(out)
        host.keep(out.kv_gather, out.cu_tokens, [b for b, end in enumerate(ends) if not end[1]])
        # The whole step, not the pass alone: masks and cache rows cost by the node too. A drafter's
        # own passes do not depend on how many nodes the stores add.
        if timed:  # the first step of a call pays for warming up
            spec.observe_forward(int(batch.cu_nodes[-1]), time.perf_counter() - start - drafted)
        timed = True
        totals.steps += len(active)
        for b, (r, (n, reason)) in enumerate(zip(active, ends, strict=True)):
            span = slice(cu[b], cu[b] + n)
            r.tokens += tokens[span].tolist()
            r.logprobs += logprobs[span].tolist()
            if record:
                nodes = int(batch.cu_nodes[b]) + gather[span].astype(np.int64)
                r.logit_rows += list(logits[nodes].float().cpu().numpy())
            r.reason = reason
            if reason:
                r.request.finish(keep=keep)
        if callback is not None:
            for b, (r, (n, _)) in enumerate(zip(active, ends, strict=True)):
                callback(r.index, tokens[cu[b] : cu[b] + n].tolist())
        spans = [
            int(batch.cu_nodes[b]) + gather[cu[b] : cu[b] + n].astype(np.int64)
            for b, (n, _) in enumerate(ends)
        ]
        said = [tokens[cu[b] : cu[b] + n].tolist() for b, (n, _) in enumerate(ends)]
        if drafting is not None:
            drafting.learn(batch, active, said, spans, logits)
        if control is None:
            active = [r for r in active if not r.reason]
            continue
        alive = [r for r in active if not r.reason]
        started = control.step(active, said, logits, spans)
        for row in alive:
            if row.reason:
                row.request.finish(keep=keep)  # its text is still evidence for its siblings
        active = [r for r in alive if not r.reason]
        if len(active) < len(alive):
            host.only([b for b, r in enumerate(alive) if not r.reason])
        if started:
            host.join([r.prompt + r.tokens for r in started])  # a branch begins with its stem
            active += started


def _first_sizes(spec: Speculator) -> Any:
    """Nodes a request of the first steps, so that the policy learns what sizes cost.

    A speculator that has timed nothing yet would use its whole budget for ever. Each of these steps
    is a step like any other; only its tree is small.
    """
    config = spec.config
    if config["policy"] != "auto" or not config["sources"] or spec.stats()["steps"]:
        return iter(())
    most = config["max_nodes"]
    trees = [most, max(1, most // 4), max(1, most // 16)]
    return iter([1, 1, *trees, 1, *trees])
