"""What drafters of `generate` have in common: contract, laws, and how trees are handed over.

A drafter adds nodes to the trees of a step and hears afterwards what was emitted. How it chose a
token is the draft's *law*, and with it who may verify:

==============  ===================================================  ==============================
law             token                                                verified by
==============  ===================================================  ==============================
"shared"        what the drafter itself would emit at that place     the path verifiers: equal noise
                under the request's noise                            makes equal laws equal tokens
"point_mass"    the most likely                                      any verifier of point masses
"iid"           drawn from the processed row with noise of its own   the law verifiers, with ``q``
                (purpose 7)
==============  ===================================================  ==============================
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from trivium import _core
from trivium.control import Controller
from trivium.errors import InputError
from trivium.sampling import Pipeline
from trivium.speculator import TreeBatch

if TYPE_CHECKING:
    from collections.abc import Sequence

    from trivium.control import Policy
    from trivium.integrations._transformers.host import Host
    from trivium.integrations._transformers.loop import Row

__all__ = ["GREEDY", "PATH", "Drafter", "Laws", "Opening", "Stopping", "draft_law", "drawn", "hung"]

PATH = ("auto", "sampled", "race")
GREEDY = 1e-5  # temperatures below are greedy


class Drafter:
    """Who drafts beside the stores."""

    #: Whether `run` gives log-laws, to which the request's temperature and truncation were applied.
    processed = False

    def draft(self, batch: TreeBatch, active: Sequence[Row]) -> tuple[TreeBatch, Any]:
        """Add nodes to the trees; with rows of ``q``, float32 [N, vocab], where they were drawn."""
        raise NotImplementedError

    def run(self, host: Host, batch: TreeBatch, active: Sequence[Row]) -> Any:
        """Run the target over the trees: float32 [N, vocab] on the CPU."""
        return host.forward(batch, [r.end for r in active])

    def learn(
        self,
        batch: TreeBatch,
        active: Sequence[Row],
        new: Sequence[list[int]],
        nodes: Sequence[Any],
        logits: Any,
    ) -> None:
        """Hear of a verified step.

        ``new[b]`` are the tokens that row `b` gained and ``nodes[b]`` the rows of `logits` that
        chose them. Rows that have ended are among `active`.
        """

    def report(self) -> dict[str, Any]:
        """Give figures for the call's statistics."""
        return {}


@dataclass(frozen=True)
class Opening:
    """What a drafter is opened on: one call of `generate`."""

    model: Any
    host: Host
    verifier: str
    prompts: Sequence[list[int]]
    vocab_size: int
    chunk: int
    noise: Sequence[tuple[int, int]]  # seed and branch of each request
    draw: str
    tokenizer: Any = None


def draft_law(law: str, verifier: str) -> str:
    """Resolve ``"auto"`` by the verifier."""
    if law == "auto":
        return "shared" if verifier in PATH else "iid"
    if law == "shared" and verifier not in PATH:
        raise InputError(
            f'law: "shared" drafts share the target\'s noise, which {verifier!r} would test again'
        )
    return law


class Laws:
    """Rows of a drafter's logits as laws, and tokens by them."""

    def __init__(self, law: str, opening: Opening) -> None:
        self.law, self._noise, self._draw = law, opening.noise, opening.draw
        self._pipelines: dict[tuple[float, int, float, float], Pipeline] = {}

    def _pipeline(self, law: tuple[float, int, float, float]) -> Pipeline:
        if law not in self._pipelines:
            temperature, top_k, top_p, min_p = law
            rules = {"top_k": top_k, "top_p": top_p, "min_p": min_p}
            off = {"top_k": 0, "top_p": 1.0, "min_p": 0.0}
            used: Any = {k: v for k, v in rules.items() if v != off[k]}
            self._pipelines[law] = Pipeline(temperature=temperature, **used)
        return self._pipelines[law]

    def process(self, row: Any, request: Row) -> Any:
        """Give the processed law of a row, float32 [vocab]; that of temperature 1 for greedy text.

        A greedy law would call every token certain: it says nothing of when to stop.
        """
        if request.law[0] < GREEDY and self.law != "iid":
            return torch.softmax(row, -1).numpy()
        scaled = torch.from_numpy(self._pipeline(request.law).process(row.numpy()))
        return torch.softmax(scaled, -1).numpy()

    def choose(self, row: Any, q: Any, request: Row, start: int, level: int) -> int:
        """Choose the token ``level`` places behind the first undecided one, which is `start`."""
        if self.law == "point_mass" or request.law[0] < GREEDY:
            return int(q.argmax())
        seed, branch = self._noise[request.index]
        if self.law == "iid":
            return _core.draw_draft(q[None], seed, start, level, branch)
        token, _ = self._pipeline(request.law).sample(
            row.numpy(), seed=seed, branch=branch, index=start + level, draw=self._draw
        )
        return int(token)

    def noise(self, request: Row) -> tuple[int, int]:
        """Seed and branch of a request."""
        return self._noise[request.index]


class Stopping:
    """One controller a request over a common one: when its chains end."""

    def __init__(self, policy: str | Policy | Controller) -> None:
        self._all = policy if isinstance(policy, Controller) else Controller(policy)
        self._own: dict[int, Controller] = {}
        self._allowed: dict[int, int] = {}
        self._paths: dict[int, list[tuple[float, float, float]]] = {}

    def begin(self, request: Row, start: int, noise: tuple[int, int]) -> int:
        """Longest chain of this step."""
        own = self._own.setdefault(request.index, self._all.fresh())
        most = own.length(seed=noise[0], index=start, branch=noise[1])
        self._allowed[request.index], self._paths[request.index] = most, []
        return most

    def before(self, request: Row, position: int, q: Any, start: int, at: tuple[int, int]) -> bool:
        """Whether to draft a token of the law `q` behind `position` tokens."""
        return self._own[request.index].before_sample(
            position, q, survival=self._survival(request), seed=at[0], index=start, branch=at[1]
        )

    def after(
        self, request: Row, position: int, p: float, q: Any, start: int, at: tuple[int, int]
    ) -> bool:
        """Whether to go on behind the `position`-th token."""
        positive = q[q > 0].astype(np.float64)
        entropy = float(-(positive * np.log(positive)).sum())
        self._paths[request.index].append((float(q.max()), entropy, p))
        return self._own[request.index].after_include(
            position, p, q, survival=self._survival(request), seed=at[0], index=start, branch=at[1]
        )

    def _survival(self, request: Row) -> float:
        own = self._own[request.index]
        return float(np.prod([own.calibrated(p) for _, _, p in self._paths[request.index]]))

    def report(self, request: Row, drafted: int, accepted: int) -> None:
        """Learn from a verified chain."""
        path = self._paths.get(request.index, [])
        tested = [(*x, i < accepted) for i, x in enumerate(path[: accepted + 1])]
        for one in (self._own[request.index], self._all):
            one.report(
                allowed=self._allowed[request.index],
                drafted=drafted,
                accepted=accepted,
                path=tested,
            )


def hung(
    batch: TreeBatch,
    tokens: Sequence[list[int]],
    parents: Sequence[list[int]],
    scores: Sequence[list[float]],
    law: str,
) -> TreeBatch:
    """Hang one tree a request, node 0 the common root, into the trees of the stores."""
    cu = np.concatenate([[0], np.cumsum([len(t) for t in tokens])])
    return batch.graft(
        np.concatenate([np.array(t) for t in tokens]),
        np.concatenate([np.array(p) for p in parents]),
        cu.tolist(),
        [s for row in scores for s in row],
        law="race" if law == "shared" else "point_mass",
    )


def drawn(
    active: Sequence[Row],
    tokens: Sequence[list[int]],
    parents: Sequence[list[int]],
    laws: Sequence[list[Any]],
    vocab_size: int,
) -> tuple[TreeBatch, Any]:
    """Make chains of drawn tokens a batch of their own, and the rows that they were drawn from."""
    batch = TreeBatch.from_arrays(
        np.concatenate([np.array(t) for t in tokens]),
        np.concatenate([np.array(p) for p in parents]),
        np.concatenate([[0], np.cumsum([len(t) for t in tokens])]),
        requests=[r.request for r in active],
        law="iid",
        pruning="shape",
    )
    # The last node of a chain has no children, and no law that they were drawn from.
    none = np.zeros(vocab_size, np.float32)
    return batch, np.stack([row for q in laws for row in [*q, none]])
