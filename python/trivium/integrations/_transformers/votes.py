"""Votes over real traces: the voter says what to launch and to cancel, the loop does it.

Trace `t` of a question draws from stream `(seed of the question, t)`, so that traces are
independent whatever is drafted, and a vote does not depend on the batch it ran in. The traces of a
question are one draft group: ended ones teach the speculator's group store, and `GroupDrafts`
offers what the tally favours.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from trivium.errors import InputError
from trivium.speculator import TreeBatch
from trivium.voter import Cancel, Fork, Launch
from trivium.voting.drafts import GroupDrafts

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from trivium.integrations._transformers.loop import Row
    from trivium.voter import Action, Question, Result, Voter
    from trivium.voting.answers import AnswerGrammar

__all__ = ["Trace", "Votes"]

_TOP = 20
"""Log-probabilities that a token's confidence is the mean of (DeepConf)."""
_DEPTH = 8
"""Longest continuation drafted from siblings."""


@dataclass(frozen=True)
class Trace:
    """One trace of a vote.

    Attributes
    ----------
    prompt, trace : int
        Which prompt it continues, and its number.
    tokens : list of int
        Its new tokens.
    text : str
        The same as text.
    logprobs : list of float
        Natural log-probability of each token under the processed law.
    finish_reason : str
        ``"eos"``, ``"stop"``, ``"length"``, ``"cancelled"`` or ``"interrupted"``.
    """

    prompt: int
    trace: int
    tokens: list[int]
    text: str
    logprobs: list[float]
    finish_reason: str


class Votes:
    """The loop's `Control`: one question a prompt."""

    def __init__(
        self,
        voter: Voter,
        num_prompts: int,
        *,
        start: Callable[[int, int, str, int, Sequence[int]], Row],
        text_of: Callable[[Row], str],
        answers: AnswerGrammar | None,
        max_rows: int,
        drafts: bool,
    ) -> None:
        if max_rows < 1:
            raise InputError(f"max_traces: {max_rows} is below 1")
        self._voter, self._start, self._text_of = voter, start, text_of
        self._answers, self._most, self._drafts = answers, max_rows, drafts
        self._shown: dict[tuple[int, int], int] = {}
        self._stems: dict[tuple[int, int], Row] = {}
        self._waiting: list[tuple[Question, int]] = []
        self.rows: list[Row] = []
        self._who: dict[int, tuple[Question, int]] = {}
        self._running: dict[tuple[int, int], Row] = {}
        self._stores: dict[int, GroupDrafts] = {}
        self.questions: list[Question] = []
        self._prompt: dict[int, int] = {}
        for i in range(num_prompts):
            name = f"prompt {i}"
            taken = 0
            while voter.knows(name):
                taken += 1
                name = f"prompt {i} ({taken})"
            q = voter.open(name)
            self.questions.append(q)
            self._prompt[q] = i
            self._stores[q] = GroupDrafts()

    def first(self) -> list[Row]:
        """Rows of the first launches."""
        for q in self.questions:
            self._follow(self._voter.launch(q))
        return self._fill(0)

    def draft(self, batch: TreeBatch, active: Sequence[Row]) -> TreeBatch:
        """Graft what siblings wrote next onto the trees, as one chain a tree."""
        if not self._drafts:
            return batch
        chains = []
        for row in active:
            q, _ = self._who[row.index]
            store = self._stores[q]
            chain: list[int] = []
            if len(store):
                said = self._voter.result(q)
                room = min(_DEPTH, row.limit - len(row.tokens) - 1)
                tail = [*row.prompt[-8:], *row.tokens[-8:]]
                chain = store.propose(tail, room, leader=said.winner, share=said.share)
            chains.append(chain)
        return grafted(batch, chains) if any(chains) else batch

    def step(
        self, active: Sequence[Row], new: Sequence[list[int]], logits: Any, nodes: Sequence[Any]
    ) -> list[Row]:
        """Report tokens and ends; cancel and launch what the voter says."""
        self._tokens(active, new, logits, nodes)
        if self._voter.reads_text:
            self._texts(active)
        for row in active:
            key = self._who[row.index]
            if row.reason and key in self._running:
                del self._running[key]
                if row.reason != "cancelled":
                    self._finish(row)
        running = sum(not row.reason for row in active)
        return self._fill(running)

    def _tokens(
        self, active: Sequence[Row], new: Sequence[list[int]], logits: Any, nodes: Sequence[Any]
    ) -> None:
        if self._voter.reads_tokens:
            conf, entropy = _confidence(logits, np.concatenate(nodes))
        else:
            conf, entropy = None, None
        qs, ts, ids, lps = [], [], [], []
        for row, tokens in zip(active, new, strict=True):
            q, t = self._who[row.index]
            qs += [int(q)] * len(tokens)
            ts += [t] * len(tokens)
            ids += tokens
            lps += row.logprobs[len(row.logprobs) - len(tokens) :]
        if entropy is not None:
            ends = np.cumsum([len(tokens) for tokens in new])[:-1]
            for row, part in zip(active, np.split(entropy, ends), strict=True):
                row.entropy += float(part.sum())
        self._follow(self._voter.tokens(qs, ts, ids, lps, conf, entropy))

    def _texts(self, active: Sequence[Row]) -> None:
        """Report what running traces have written since the last step."""
        for row in active:
            q, t = self._who[row.index]
            if row.reason or (q, t) not in self._running:
                continue
            text = self._text_of(row)
            # A character of several tokens may be unfinished.
            whole = text.rstrip("\ufffd")
            chunk = whole[self._shown.get((q, t), 0) :]
            self._shown[q, t] = len(whole)
            if chunk:
                self._follow(self._voter.text(q, t, chunk))

    def _finish(self, row: Row) -> None:
        q, t = self._who[row.index]
        text = self._text_of(row)
        said: dict[str, Any] = {"text": text}
        if self._answers is not None:
            said = {"answer": self._answers.answer(text, cut=row.reason == "length")}
        entropy = row.entropy / max(len(row.tokens), 1) if self._voter.reads_tokens else None
        actions = self._voter.finish(
            q,
            t,
            **said,
            # A span that the grammar closed is whole wherever the text ends.
            reason="length" if row.reason == "length" and self._answers is None else "stop",
            entropy=entropy,
        )
        heard = any(v is not None for v in said.values())
        key = self._voter.key_of(**said) if heard else None
        self._stores[q].add([*row.prompt[-8:], *row.tokens], key)
        self._follow(actions)

    def _follow(self, actions: list[Action]) -> None:
        for action in actions:
            if isinstance(action, Fork):
                stem = self._running[action.q, action.trace]
                # As it is now, and open again where it has just ended.
                kept = len(stem.tokens) - bool(stem.reason)
                cut = replace(stem, tokens=stem.tokens[:kept], logprobs=stem.logprobs[:kept])
                self._stems |= {(action.q, t): cut for t in action.traces}
                self._waiting += [(action.q, t) for t in action.traces]
            elif isinstance(action, Launch):
                self._waiting += [(action.q, t) for t in action.traces]
            elif isinstance(action, Cancel):
                for t in action.traces:
                    row = self._running.pop((action.q, t), None)
                    if row is not None and not row.reason:
                        row.reason = "cancelled"
                        # What it has written is still evidence for its siblings.
                        said = self._text_of(row)
                        key = self._voter.key_of(text=said)
                        self._stores[action.q].add([*row.prompt[-8:], *row.tokens], key)
                gone = {(action.q, t) for t in action.traces}
                self._waiting = [w for w in self._waiting if w not in gone]

    def _fill(self, running: int) -> list[Row]:
        room = max(0, self._most - running)
        now, self._waiting = self._waiting[:room], self._waiting[room:]
        started = []
        for q, t in now:
            stem = self._stems.pop((q, t), None)
            written = [] if stem is None else stem.tokens
            row = self._start(len(self.rows), self._prompt[q], q.id, t, written)
            if stem is not None:
                row.logprobs, row.tail = list(stem.logprobs), stem.tail
                row.entropy = stem.entropy
            self.rows.append(row)
            self._who[row.index] = (q, t)
            self._running[q, t] = row
            started.append(row)
        return started

    def results(self) -> list[Result]:
        """One result a prompt; questions that an interrupt left open are closed."""
        out = []
        for q in self.questions:
            self._voter.close(q)
            out.append(self._voter.result(q))
        return out

    def traces(self) -> list[Trace]:
        """All traces, in the order in which they were started."""
        return [
            Trace(
                self._prompt[self._who[row.index][0]],
                self._who[row.index][1],
                row.tokens,
                self._text_of(row),
                row.logprobs,
                row.reason,
            )
            for row in self.rows
        ]

    def winners(self, results: Sequence[Result]) -> list[Row]:
        """Rows that stand for each prompt: its winner's representative, else trace 0."""
        by_name = {self._who[row.index]: row for row in self.rows}
        return [
            by_name[q, 0 if result.trace is None else result.trace]
            for q, result in zip(self.questions, results, strict=True)
        ]

    def forget(self) -> None:
        """Drop the questions from the voter."""
        for q in self.questions:
            self._voter.forget(q)


def _confidence(logits: Any, nodes: Any) -> tuple[Any, Any]:
    """DeepConf confidence and entropy of rows of raw logits."""
    import torch

    logs = torch.log_softmax(logits[torch.from_numpy(nodes).to(logits.device)].double(), dim=-1)
    top = logs.topk(min(_TOP, logs.shape[-1]), dim=-1).values
    finite = torch.where(torch.isfinite(top), top, torch.zeros_like(top))
    entropy = -(logs.exp() * torch.where(torch.isfinite(logs), logs, 0.0)).sum(-1)
    return (-finite.mean(-1)).cpu().numpy(), entropy.cpu().numpy()


def grafted(batch: TreeBatch, chains: Sequence[list[int]]) -> TreeBatch:
    """Trees of `batch`, each with a chain merged in from its root."""
    tokens: list[int] = []
    parents: list[int] = []
    cu = [0]
    for b, chain in enumerate(chains):
        span = slice(int(batch.cu_nodes[b]), int(batch.cu_nodes[b + 1]))
        ids, up = batch.tokens[span].tolist(), batch.parents[span].tolist()
        children = {(p, token): i for i, (p, token) in enumerate(zip(up, ids, strict=True))}
        node = 0
        for token in chain:
            child = children.get((node, token))
            if child is None:
                child = len(ids)
                ids.append(token)
                up.append(node)
                children[node, token] = child
            node = child
        tokens += ids
        parents += up
        cu.append(len(tokens))
    return TreeBatch.from_arrays(tokens, parents, cu, requests=batch.requests)
