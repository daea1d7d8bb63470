"""Replay of recorded token streams through a `Speculator`, without a model.

A trace is one JSON object a line, ``{"task", "id", "prompt": [ids], "output": [ids]}``;
``"siblings"`` may hold further outputs of the same prompt. Each step drafts a tree from the
committed text, accepts the longest path that equals the recording and commits it with one recorded
token: exact for greedy decoding. Requests run in file order, one at a time.
"""

from __future__ import annotations

import gzip
import json
import time
import zlib
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from trivium.errors import InputError
from trivium.speculator import Speculator

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from trivium.speculator import Request

_T = TypeVar("_T")
_CONTEXT = 64
"""Tokens of the prompt that a finished request brings along."""

__all__ = ["Config", "Result", "Trace", "load", "replay"]


@dataclass(frozen=True, slots=True)
class Trace:
    """One recorded request.

    Attributes
    ----------
    task : str
        Kind of request.
    prompt, output : list of int
        Token ids.
    siblings : list of list of int
        Other outputs of the same prompt.
    """

    task: str
    prompt: list[int]
    output: list[int]
    siblings: list[list[int]]


@dataclass(frozen=True, slots=True)
class Config:
    """What is replayed.

    Attributes
    ----------
    sources : tuple of str
        Draft sources; empty for the default mixture.
    nodes, depth : int
        Largest number of drafted nodes a step, and their largest depth.
    warm : bool
        Whether later requests draft from what earlier ones wrote.
    siblings : bool
        Whether a request drafts from its siblings, decoded before it in its group.
    policy : str
        Policy of tree sizes.
    cost : dict of int to float
        Seconds of a forward pass by number of nodes; the policy sees them, and speed-ups are
        computed from them.
    """

    sources: tuple[str, ...] = ()
    nodes: int = 16
    depth: int = 64
    warm: bool = True
    siblings: bool = False
    policy: str = "full"
    cost: dict[int, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Result:
    """Outcome of a replay.

    Attributes
    ----------
    mat : float
        Tokens committed a step.
    nodes_per_step : float
        Drafted nodes a step.
    hit_rate : float
        Share of steps that accepted a draft.
    draft_us, update_us : float
        Microseconds of a proposal and of committing one token: of each call the smaller of wall and
        processor time.
    steps, tokens : int
        Steps and committed tokens.
    memory : int
        Bytes of the shared stores at the end.
    stored : int
        Tokens that finished requests brought to them.
    calibration : dict
        As `Speculator.stats` reports it, over all speculators used.
    speedup : float or None
        Time of plain decoding over that of the replay under the cost table, drafts included.
    """

    mat: float
    nodes_per_step: float
    hit_rate: float
    draft_us: float
    update_us: float
    steps: int
    tokens: int
    memory: int
    stored: int
    calibration: dict[str, Any]
    speedup: float | None

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        return asdict(self)


def load(path: str | Path) -> list[Trace]:
    """Read a file of traces, gzipped or not.

    Raises
    ------
    InputError
        The file cannot be read, or a line is no trace.
    """
    try:
        raw = Path(path).read_bytes()
        if raw[:2] == b"\x1f\x8b":
            raw = gzip.decompress(raw)
        rows = [json.loads(line) for line in raw.decode("utf-8").splitlines() if line.strip()]
    except (OSError, EOFError, ValueError, zlib.error) as e:
        raise InputError(f"{path}: cannot be read as traces: {e}") from e
    traces = []
    for number, row in enumerate(rows, 1):
        try:
            trace = Trace(
                str(row.get("task", "all")),
                [int(t) for t in row["prompt"]],
                [int(t) for t in row["output"]],
                [[int(t) for t in s] for s in row.get("siblings", [])],
            )
        except (KeyError, TypeError, ValueError, AttributeError) as e:
            raise InputError(f"{path}: line {number} is no trace: {e!r}") from e
        if not trace.prompt or not trace.output:
            raise InputError(f"{path}: line {number} has an empty prompt or output")
        traces.append(trace)
    if not traces:
        raise InputError(f"{path}: holds no trace")
    return traces


def replay(
    traces: Sequence[Trace],
    config: Config,
    *,
    vocab_size: int = 0,
    step: Callable[[], None] = lambda: None,
) -> Result:
    """Replay traces in order.

    Parameters
    ----------
    traces : sequence of Trace
        Requests.
    config : Config
        What drafts.
    vocab_size : int, optional
        Width of the model; by default one more than the largest id.
    step : callable, optional
        Called after each request.

    Returns
    -------
    Result

    Raises
    ------
    InputError
        A budget or an id is out of range.
    """
    run = _Replay(config, vocab_size or _largest(traces) + 1)
    for number, trace in enumerate(traces):
        if not config.warm:
            run.renew()
        group = f"{number}" if config.siblings else None
        if group is not None:
            for sibling in trace.siblings:
                run.decode(trace.prompt, sibling, group, counted=False)
        run.decode(trace.prompt, trace.output, group, counted=True)
        step()
    return run.result()


def _largest(traces: Sequence[Trace]) -> int:
    return max(max(max(text) for text in (t.prompt, t.output, *t.siblings) if text) for t in traces)


class _Replay:
    """Counters of a replay, and the speculator in use."""

    def __init__(self, config: Config, vocab_size: int) -> None:
        self.config = config
        self.vocab_size = vocab_size
        self.steps = self.tokens = self.nodes = self.hits = self.stored = 0
        self.draft_ns = self.update_ns = 0
        self.clock_ns = sorted(_timed(lambda: None)[1] for _ in range(101))[50]
        self.forward = 0.0
        self.bins = np.zeros((3, 20))
        self.spec = self._fresh()

    def _fresh(self) -> Speculator:
        c = self.config
        spec = Speculator(
            self.vocab_size,
            sources=list(c.sources) if c.sources else "auto",
            max_nodes=c.nodes + 1,  # node 0 is not a draft
            max_depth=c.depth,
            policy=c.policy,
        )
        for nodes, seconds in c.cost.items():
            spec.observe_forward(nodes, seconds)
        return spec

    def renew(self) -> None:
        """Forget everything: the next request starts cold."""
        self._gather()
        self.spec = self._fresh()
        self.stored = 0

    def _gather(self) -> None:
        seen = self.spec.stats()["calibration"]
        self.bins += [seen["tried"], seen["expected"], seen["accepted"]]

    def decode(
        self, prompt: list[int], output: list[int], group: str | None, *, counted: bool
    ) -> None:
        """Replay one request; the store learns from it if the replay is warm or it has a group."""
        request = self.spec.start(np.asarray(prompt, dtype=np.int32), group=group)
        at = 0
        while at < len(output):
            at += self._step(request, output, at, counted=counted)
        request.finish(keep=self.config.warm or group is not None)
        self.stored += len(output) + min(len(prompt), _CONTEXT)

    def _step(self, request: Request, truth: list[int], at: int, *, counted: bool) -> int:
        batch, draft_ns = _timed(lambda: self.spec.propose([request]))
        tokens, parents = batch.tokens, batch.parents
        path = _path(parents.tolist(), tokens.tolist(), truth, at)
        if at + len(path) >= len(truth):  # the recording ends within the draft
            done, update_ns = len(truth) - at, 0
            request.commit(truth[at:])
        else:
            done = len(path) + 1
            sampled = np.full(len(tokens), -1, dtype=np.int64)  # rows off the path are not known
            sampled[[0, *path]] = truth[at : at + done]
            out = self.spec.verify(batch, sampled=sampled)
            _, update_ns = _timed(lambda: self.spec.commit(out))
        if counted:
            self.steps += 1
            self.tokens += done
            self.nodes += len(tokens) - 1
            self.hits += bool(path)
            self.draft_ns += max(draft_ns - self.clock_ns, 0)
            self.update_ns += max(update_ns - self.clock_ns, 0)
            if self.config.cost:
                self.forward += draft_ns * 1e-9 + _seconds(self.config.cost, len(tokens))
        return done

    def result(self) -> Result:
        self._gather()
        tried, expected, accepted = self.bins
        error = float(np.abs(expected - accepted).sum() / max(tried.sum(), 1))
        plain = _seconds(self.config.cost, 1) * self.tokens if self.config.cost else 0.0
        return Result(
            mat=self.tokens / self.steps,
            nodes_per_step=self.nodes / self.steps,
            hit_rate=self.hits / self.steps,
            draft_us=self.draft_ns / self.steps / 1e3,
            update_us=self.update_ns / self.tokens / 1e3,
            steps=self.steps,
            tokens=self.tokens,
            memory=self.spec.memory()["total"],
            stored=self.stored,
            calibration={
                "error": error,
                "tried": tried.astype(int).tolist(),
                "expected": expected.tolist(),
                "accepted": accepted.astype(int).tolist(),
            },
            speedup=plain / self.forward if self.forward else None,
        )


def _timed(call: Callable[[], _T]) -> tuple[_T, int]:
    """Return the result and nanoseconds, of wall and processor time the smaller."""
    cpu, wall = time.thread_time_ns(), time.perf_counter_ns()
    value = call()
    wall = time.perf_counter_ns() - wall
    return value, min(wall, time.thread_time_ns() - cpu)


def _path(parents: list[int], tokens: list[int], truth: list[int], at: int) -> list[int]:
    """Nodes of the longest path below node 0 whose tokens equal the recording from `at` on."""
    children = {(parents[node], tokens[node]): node for node in range(1, len(parents))}
    path: list[int] = []
    node: int | None = 0
    while at + len(path) < len(truth):
        node = children.get((node, truth[at + len(path)]))  # type: ignore[arg-type]
        if node is None:
            break
        path.append(node)
    return path


def _seconds(cost: dict[int, float], nodes: int) -> float:
    """Time of a forward pass, linear between the table's sizes."""
    sizes = sorted(cost)
    return float(np.interp(nodes, sizes, [cost[n] for n in sizes]))
