"""What a voter hands out: questions, results and the actions it asks of the host."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, NamedTuple, Self

__all__ = [
    "Action",
    "Cancel",
    "Cost",
    "Done",
    "Fork",
    "Launch",
    "Question",
    "Regenerate",
    "Result",
    "TallyRow",
    "result_of",
]


class Question(int):
    """Handle of an open question: an integer for arrays, with the `id` it was opened by."""

    id: str

    def __new__(cls, handle: int, id: str) -> Self:
        """Make a handle; only `Voter.open` has use for this."""
        self = super().__new__(cls, handle)
        self.id = id
        return self

    def __repr__(self) -> str:
        return f"Question({int(self)}, {self.id!r})"

    def __str__(self) -> str:
        return self.id


class TallyRow(NamedTuple):
    """One key of a tally with its ballots and their weight."""

    key: str
    ballots: int
    weight: float


@dataclass(frozen=True, slots=True)
class Cost:
    """What a vote has cost.

    Only `samples` depends on launch order alone and takes part in comparisons; the other fields
    depend on timing too.

    Attributes
    ----------
    samples : int
        Traces counted, abstentions included: the prefix of launch order that the decision rests on.
        This is what published savings count.
    launched : int
        Traces launched: all of them are paid for.
    cancelled : int
        Traces cancelled by the decision or by the host.
    late : int
        Traces that ended by themselves but too late to be counted.
    tokens : int
        Tokens of all traces, as far as they were reported.
    """

    samples: int
    launched: int = field(compare=False)
    cancelled: int = field(compare=False)
    late: int = field(compare=False)
    tokens: int = field(compare=False)


@dataclass(frozen=True, slots=True)
class Result:
    """State of a vote, final once `stop_reason` is set.

    Attributes
    ----------
    question : str
        Id of the question.
    winner : str or None
        The winning key in canonical form; None if no trace cast a ballot.
    answer : str or None
        The winner as its representative wrote it: the first ballot for the key.
    trace : int or None
        The representative's trace.
    p_mode : float or None
        Posterior probability that the winner is the most probable answer *of the sampler*. It says
        nothing about truth: a model that is consistently wrong has a `p_mode` near 1.
    share : float
        Share of the ballots that the winner has.
    margin : float
        Lead over the runner-up as a share of the ballots.
    tally : tuple of TallyRow
        Keys by falling weight, the older first on ties.
    num_tied : int
        Number of keys that share the winner's count or weight, itself included.
    tied : tuple of str
        The tied keys, the older first; empty without a tie.
    abstain_reason : str or None
        The condition that left a decided vote without a winner: ``"ties"``, ``"min_share"`` ...
    p_final : float or None
        Probability that the winner still leads when the whole budget is spent; None under weights.
    entropy : float
        Entropy of the keys' shares, in nats.
    p_correct : float or None
        Calibrated probability that the winner is right, from the voter's `calibrator`.
    provisional : tuple of (str, float)
        Under ``probe="provisional:RHO"``: weights by key with the early answers of running traces,
        by falling weight. Decisions do not read them.
    num_cast, num_none : int
        Counted traces with and without a ballot.
    stop_reason : str or None
        ``"rule:<name>"``, ``"locked"``, ``"budget"``, ``"tokens"`` (the question's are spent),
        ``"pool"`` (the voter's traces or tokens are), ``"deadline"`` or ``"cancelled"``; None while
        it runs.
    cost : Cost
        What it cost so far.
    policy : str
        The stop rules.
    seed : int
        The seed.
    """

    question: str
    winner: str | None
    answer: str | None
    trace: int | None
    p_mode: float | None
    share: float
    margin: float
    tally: tuple[TallyRow, ...]
    num_tied: int
    num_cast: int
    num_none: int
    stop_reason: str | None
    cost: Cost
    policy: str
    seed: int
    tied: tuple[str, ...] = ()
    abstain_reason: str | None = None
    p_final: float | None = None
    entropy: float = 0.0
    p_correct: float | None = None
    provisional: tuple[tuple[str, float], ...] = ()

    @property
    def confidence(self) -> float:
        """What the votes alone support: `share`. Neither `p_mode` nor a probability of truth."""
        return self.share

    @property
    def done(self) -> bool:
        """Whether the vote is decided."""
        return self.stop_reason is not None

    @property
    def abstained(self) -> bool:
        """Whether a decided vote has no winner."""
        return self.done and self.winner is None


@dataclass(frozen=True, slots=True)
class Launch:
    """Start `n` traces of question `q`: those of `traces`."""

    q: Question
    n: int
    first: int = 0

    @property
    def traces(self) -> range:
        """Numbers of the traces to start."""
        return range(self.first, self.first + self.n)


@dataclass(frozen=True, slots=True)
class Fork:
    """Continue trace `trace` of question `q` in `n` further ones, those of `traces`.

    They begin with what it has written so far; noise is their own from there on.
    """

    q: Question
    trace: int
    n: int
    first: int

    @property
    def traces(self) -> range:
        """Numbers of the new traces."""
        return range(self.first, self.first + self.n)


@dataclass(frozen=True, slots=True)
class Regenerate:
    """Write the last step of trace `trace` of question `q` again, by the larger model."""

    q: Question
    trace: int


@dataclass(frozen=True, slots=True)
class Cancel:
    """Stop these running traces of question `q`: the decision is made, or their ballots are known.

    Ends that race with it may still be reported.
    """

    q: Question
    traces: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Done:
    """The vote on question `q` is decided."""

    q: Question
    result: Result


Action = Launch | Fork | Regenerate | Cancel | Done
"""What the host is asked to do."""


def result_of(raw: dict[str, Any]) -> Result:
    """Make a `Result` of what the core returns."""
    raw["tally"] = tuple(TallyRow(*row) for row in raw["tally"])
    raw["cost"] = Cost(*raw["cost"])
    raw["tied"] = tuple(raw["tied"])
    raw["provisional"] = tuple(raw["provisional"])
    return Result(**raw)
