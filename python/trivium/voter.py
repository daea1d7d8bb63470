"""`Voter`: samples vote on an answer, and sampling stops when more of it would not pay.

The voter never runs a model. The host reports events and carries out the actions it gets back:

* `Launch`: start these traces,
* `Cancel`: stop these running traces, their ballots cannot matter any more,
* `Done`: the vote is decided,
* `Fork` and `Regenerate`, where a policy of forks or of step rewards asks for them.

Every decision is a function of *launch order*. The stop rule sees trace 0, then trace 1, and so on,
however they finish: under concurrency short traces finish first, and a rule that counted arrivals
would favour short answers. The same answers therefore give the same result under every schedule,
and `Voter.log` replays bit for bit.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from trivium import _core
from trivium._voting.arguments import (
    ALONE,
    abstain_of,
    array_of,
    budget_of,
    config_of,
    integer_of,
    list_of,
    number_of,
    optional_of,
    string_of,
    text_of,
)
from trivium._voting.events import (
    Action,
    Cancel,
    Cost,
    Done,
    Fork,
    Launch,
    Question,
    Regenerate,
    Result,
    TallyRow,
    result_of,
)
from trivium._voting.merging import Merger, Merging
from trivium._voting.remote import RemoteSamples
from trivium._voting.running import RunningEvents
from trivium.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from trivium.voting.calibration import Calibrator

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
    "Voter",
    "vote",
]


class Voter(RunningEvents, RemoteSamples):
    """A pool of questions, each answered by several traces, under one policy.

    Parameters
    ----------
    key : str
        When two answers are one: ``"number"`` as exact rationals (``1/2`` and ``0.5``; currency,
        thousands commas, per cent, units), ``"choice"`` as letters, ``"text"`` trimmed, and
        ``"latex"``, ``"python"``, ``"json"``, ``"word"``, ``"bool"``, ``"date"``, or ``"set:KEY"``,
        ``"multiset:KEY"``, ``"seq:KEY"``. An answer that the key cannot read is an abstention: paid
        for, no ballot, never an error.
    key_options : mapping, optional
        ``delimiters`` : list of str or (str, str)
            Marks before an answer inside a `text`, with closing marks. Default for numbers and
            choices: a LaTeX box, ``<answer>...</answer>``, ``####``, ``answer is``, ``answer:``.
        ``fallback`` : {"off", "first", "last"}
            Which stand-alone number or letter to take where no mark tells. Default "off":
            unfinished reasoning shall not vote.
        ``percent`` : {"strip", "scale"}
            Whether ``10%`` is 10 (default) or 1/10.
        ``letters`` : str
            Letters of a choice, default ``"ABCDE"``.
        ``options`` : list of str
            Texts of the options, in the order of the letters; a unique match counts as its letter.
        ``ignore``, ``only``, ``unordered`` : list of str; ``round`` : mapping of str to int
            Under ``"json"``: members that do not count wherever they stand, paths that alone count,
            arrays whose order does not matter, digits of numbers at a path. A path joins member
            names by dots.
    weight : str
        Weight of a ballot: ``"one"``; by probability ``"normalised"``, ``"unnormalised"``, each
        with ``:mean`` to compare keys by their mean, ``"ppl"`` (best path), ``"pc"`` and ``"rpc"``
        (distinct paths); by confidence ``"cisc:TAU"``, ``"borda:P"``, ``"deepconf:ETA:HOW"`` (`HOW`
        the trace confidence: ``lowest``, ``tail``, ``bottom``, ``mean``), ``"soft:HOW"`` (the one
        trace of largest ``mean``, ``min`` or ``prod`` of its tokens' probabilities);
        ``"inverse_entropy"``, ``"leaf"`` (branches of a fork share a weight of 1),
        ``"length:BETA"``, ``"reward"``, ``"reward:TAU"``, ``"log_odds"`` (of the sources, see
        `log_odds`), ``"user"`` (given to `finish`).
    log_odds : sequence of float
        Log-odds by source, for ``weight="log_odds"``; `trivium.voting.learn_reliabilities` makes
        them from labelled votes.
    window : int
        Tokens of a confidence group.
    prune : str or sequence of str, optional
        Running traces that `tokens` cancels. ``"conf_floor:ETA"``: after 16 complete traces, those
        whose group confidence falls below that of the best `ETA` per cent (DeepConf online).
        ``"cover:GAMMA:EVERY:KEEP"``: each `EVERY` tokens a trace, those whose tokens the others
        cover. ``"loop:R:LEAST"``: those whose last tokens, at least `LEAST`, repeat a period of at
        most 64 tokens `R` times. The last two read token ids.
    abstain : mapping, optional
        ``min_share``, ``min_margin``, ``min_ballots``, ``max_none_rate``, and with a `calibrator`
        ``min_p_correct``: a decided vote that fails one has no winner, and `Result.abstain_reason`
        names it.
    stop : str or sequence of str
        Stop rules; the vote stops when any fires. Rules joined by ``&`` must all fire.
        ``"majority"`` never stops by itself, ``"locked"`` stops when nothing can change the winner,
        ``"beta:C"`` when the leader is the sampler's mode with posterior probability `C`
        (Adaptive-Consistency), ``"dirichlet:C"`` the same among all answers, ``"predictive:C"``
        when it will probably lead at the end of the budget, ``"best"`` where another sample is not
        worth its price under what the votes of questions that have ended taught, ``"urn"`` the same
        for one question by itself, ``"esc:W"`` after a unanimous window, ``"ppr:A"`` anytime-valid,
        ``"double:S"`` and ``"share:S:N"`` by share, ``"posterior:T:C"`` under ``log_odds``,
        ``"first_finish:K"`` and ``"last_finish:K"`` by order of finishing, ``"agree:K"`` when the
        last `K` traces agree, ``"least:N"`` after `N` ballots, ``"rpc"`` at the budget with its
        weights. Every vote is also wrapped by ``locked``, which changes no answer.
    budget : int
        Largest number of traces a question may launch.
    ties : {"first", "weight", "random", "greedy", "more", "abstain", "all"}
        Equal counts go to the key whose first ballot was launched earliest (default), to the one
        with the larger mean log-probability, to one drawn by seed, to the key of trace 0; or more
        is asked for while the budget lasts, nobody wins, or `Result.tied` lists them.
    seed : int
        Seed of random decisions: ties under ``"random"``.
    order : {"launch", "arrival", "wave:W"}
        In which order ballots count. By arrival short answers come first and bias every rule.
        Waves of `W` traces are launched and judged together, in launch order.
    late : {"drop", "count"}
        Whether ballots beyond the prefix of launch order that a decision rests on count too. Then
        the vote also stops as soon as all known ballots together lock it, and its tally (though
        never a locked winner) depends on timing.
    latency : float in [0, 1] or "max"
        Launch control: 0 launches the fewest traces that could decide, 1 expects some misses,
        ``"max"`` launches the whole budget at once and cancels.
    bare : bool
        Without the lossless wrapper, and ``locked`` without its tie rule: replays of published
        numbers.
    finish_on_answer : bool
        Whether `text` finishes a running trace once its answer is marked and whole. Contradicts
        weights that read the whole text.
    probe : str, optional
        What the early answers given to `probe` do. ``"provisional:RHO:K"``: the last one of a
        running trace counts `RHO` in `Result.provisional`, and `K` equal ones in a row (0: never)
        finish the trace. ``"temporal:WEIGHT:ALPHA:STEPS"``: they are the denoising steps of a
        diffusion model, and a trace that finishes without an answer votes with the winner of its
        steps, weighed ``fixed``, ``linear`` or ``exponential``; with `STEPS` in all it is finished
        as soon as no remaining step can change the winner. Its temporal confidence is the
        confidence that weights read.
    steps : {"last", "min", "prod", "mean"}
        How the rewards given to `segment` become that of their trace.
    accept : float, optional
        Least reward of a step: below it, `segment` asks to `Regenerate` it and forgets it.
    fork : str, optional
        ``"entropy:TAU:WINDOW:N"``: `tokens` forks a trace into `N` more where the mean entropy of
        its last `WINDOW` tokens exceeds `TAU` nats.
    max_tokens : int, optional
        Tokens after which a question is decided with what has been counted.
    pool : {"free", "fifo", "deadline", "difficulty", "marginal"}
        Whose traces are launched first where they are scarce: in the order of opening, by earliest
        deadline, the hardest first (with a first wave as large as questions of its difficulty
        needed), or where one more ballot is worth most to the decision. The last three read what
        `open` is given. Any event may then return launches of other questions.
    slots : int, optional
        Largest number of traces in flight, all questions together.
    total, total_tokens : int, optional
        Traces and tokens of all questions together. Once they are spent, questions are decided with
        what they have.
    log : bool
        Whether questions keep the events that `log` returns: three or four bytes for a plain
        ballot. Without it a plain question takes about 256 bytes, however many ballots it has.
    unchecked : bool
        Allows parts that contradict each other, such as sequential tests of dependent ballots.
    calibrator : Calibrator, optional
        Sets `Result.p_correct`.
    same : callable or mapping, optional
        Says whether two different keys are one answer after all: a truth value or a probability. A
        mapping holds the arguments of `trivium.voting.Merger`. Each pair of keys of a question is
        asked about at most once, in launch order; ballots join the cluster of the heaviest key that
        they equal. Logs hold the merged keys, so that they replay without the function.

    Raises
    ------
    UnsupportedError
        A key, weight, rule, tie or order that is specified but does not exist yet.
    InputError
        Any other name, or a value out of range. Both list what exists.
    LimitError
        A budget above 65,536.

    Notes
    -----
    One ballot costs constant time. A question holds its distinct answers and its log until
    `forget`; `memory` reports the bytes. Calls from several threads at once raise `StateError`.

    Examples
    --------
    >>> from trivium import Voter
    >>> v = Voter(key="number", stop=["beta:0.95"], budget=40)
    >>> q = v.open("q17")
    >>> v.next()
    [Launch(q=Question(0, 'q17'), n=4, first=0)]
    >>> for trace in range(3):
    ...     _ = v.finish(q, trace, text="3 + 11 = 14. The answer is 14.")
    >>> [done] = v.finish(q, 3, answer="14.0")
    >>> done.result.winner, done.result.p_mode, done.result.stop_reason
    ('14', 0.96875, 'rule:beta:0.95')
    """

    __slots__ = (
        "_calibrator",
        "_core",
        "_forks",
        "_left",
        "_mail",
        "_merging",
        "_min_correct",
        "_reads_text",
        "_reads_tokens",
        "_same",
    )

    _core: _core.Voter
    _calibrator: Calibrator | None
    _min_correct: float
    _same: Mapping[str, Any] | None
    _merging: dict[int, Merging]
    _mail: dict[int, tuple[list[Action], Any]]
    _left: list[Action]
    _reads_tokens: bool
    _reads_text: bool
    _forks: bool

    def __init__(
        self,
        key: str = "number",
        *,
        key_options: Mapping[str, Any] | None = None,
        weight: str = "one",
        log_odds: Sequence[float] = (),
        window: int = 2048,
        prune: str | Sequence[str] | None = None,
        abstain: Mapping[str, float] | None = None,
        stop: str | Sequence[str] = ("beta:0.95",),
        budget: int = 40,
        ties: str = "first",
        seed: int = 0,
        order: str = "launch",
        late: str = "drop",
        latency: float | str = 0.0,
        bare: bool = False,
        finish_on_answer: bool = False,
        probe: str | None = None,
        steps: str = "last",
        accept: float | None = None,
        fork: str | None = None,
        max_tokens: int | None = None,
        pool: str = "free",
        slots: int | None = None,
        total: int | None = None,
        total_tokens: int | None = None,
        log: bool = True,
        unchecked: bool = False,
        calibrator: Calibrator | None = None,
        same: Callable[[str, str], float] | Mapping[str, Any] | None = None,
    ) -> None:
        if isinstance(latency, str) and latency != "max":
            raise InputError(f'latency: {latency!r} is neither "max" nor a number in [0, 1]')
        if late not in ("drop", "count"):
            raise InputError(f"late: {late!r} is unknown; choose one of: drop, count")
        self._min_correct = float((abstain or {}).get("min_p_correct", 0.0))
        if self._min_correct and calibrator is None:
            raise InputError("min_p_correct: needs a calibrator")
        config = config_of(key, key_options, weight, ties, seed)
        config["stop"] = list_of("stop", stop)
        config["budget"] = budget_of(budget)
        config["order"] = string_of("order", order)
        config["latency"] = None if isinstance(latency, str) else float(latency)
        config["bare"] = bool(bare)
        config["log_odds"] = [float(w) for w in log_odds]
        config["window"] = min(integer_of("window", window, 63), 2**32 - 1)
        config["prune"] = list_of("prune", prune)
        config["abstain"] = abstain_of(abstain)
        config["finish_on_answer"] = bool(finish_on_answer)
        config["probe"] = None if probe is None else string_of("probe", probe)
        config["steps"] = string_of("steps", steps)
        config["accept"] = number_of("accept", accept)
        config["fork"] = None if fork is None else string_of("fork", fork)
        config["count_late"] = late == "count"
        config["max_tokens"] = optional_of("max_tokens", max_tokens, 63)
        config["pool"] = string_of("pool", pool)
        config["slots"] = optional_of("slots", slots, 32)
        config["total"] = optional_of("total", total, 63)
        config["total_tokens"] = optional_of("total_tokens", total_tokens, 63)
        config["log"] = bool(log)
        config["unchecked"] = bool(unchecked)
        self._core = _core.Voter(config)
        self._calibrator = calibrator
        self._merging = {}
        self._mail = {}
        self._left = []
        self._same = {"same": same} if callable(same) else same
        if self._same is not None:
            Merger(**self._same)
            if weight in ("pc", "rpc") or "rpc" in config["stop"]:
                raise InputError("same: merged answers contradict rpc, which compares their texts")
            if finish_on_answer or probe is not None:
                raise InputError("same: contradicts finish_on_answer and probe, which do not merge")
        self._reads_text = bool(finish_on_answer)
        self._forks = fork is not None
        by_token = ("cisc", "borda", "deepconf", "inverse_entropy", "soft")
        self._reads_tokens = (
            bool(config["prune"]) or fork is not None or weight.split(":")[0] in by_token
        )

    def open(
        self,
        id: str,
        *,
        budget: int | None = None,
        seed: int | None = None,
        max_tokens: int | None = None,
        deadline: float | None = None,
        difficulty: float | None = None,
        chance: float | None = None,
    ) -> Question:
        """Open a question; `next` returns its first launches.

        Parameters
        ----------
        id : str
            Its id, unique among the open questions.
        budget, seed, max_tokens : int, optional
            In place of the voter's.
        deadline : float, optional
            When the answer is due, in the host's time: a rank under ``pool="deadline"``, and what
            `expire` reads.
        difficulty : float, optional
            How hard the question looks, in any unit: a rank under ``pool="difficulty"``.
        chance : float, optional
            Predicted chance that one sample succeeds: under ``pool="marginal"`` the `k`-th trace is
            worth ``chance (1 - chance)^(k - 1)``, in place of what the tally says.

        Returns
        -------
        Question
            A handle. All methods take the id as well.

        Raises
        ------
        InputError
            The id is in use, or a value is out of range.
        """
        name = text_of("id", id)
        limit = None if budget is None else budget_of(budget)
        handle = self._core.open(
            name,
            limit,
            optional_of("seed", seed, 64),
            optional_of("max_tokens", max_tokens, 63),
            number_of("deadline", deadline),
            number_of("difficulty", difficulty),
            number_of("chance", chance),
        )
        return Question(handle, name)

    def next(self) -> list[Action]:
        """Fetch the launches of questions opened since the last call, in the order of opening.

        Later launches are returned by the `finish` that causes them. Under a `pool` that ranks
        questions, what its limits allow now, and what `run` has caused for questions that it does
        not drive.
        """
        left, self._left = self._left, []
        return left + self._actions(self._core.launches())

    def launch(self, q: int | str) -> list[Action]:
        """Fetch the first launches of one question, if `next` has not returned them.

        Under a `pool` that ranks questions, what its limits allow now, for any question.
        """
        return self._actions(self._core.launch(self._handle(q)))

    def knows(self, id: str) -> bool:
        """Whether a question of this id is open."""
        try:
            self._core.find(text_of("id", id))
        except InputError:
            return False
        return True

    @property
    def reads_tokens(self) -> bool:
        """Whether weight or pruning reads confidences or entropies of single tokens."""
        return self._reads_tokens

    @property
    def reads_text(self) -> bool:
        """Whether texts of running traces are read: `finish_on_answer`."""
        return self._reads_text

    @property
    def forks(self) -> bool:
        """Whether `tokens` may ask to fork traces."""
        return self._forks

    def finish(
        self,
        q: int | str,
        trace: int,
        *,
        text: str | None = None,
        answer: str | None = None,
        reason: str = "stop",
        sum_logprob: float | None = None,
        num_tokens: int | None = None,
        reward: float | None = None,
        confidence: float | None = None,
        entropy: float | None = None,
        source: int | None = None,
        weight: float | None = None,
    ) -> list[Action]:
        """Report that a trace has ended.

        Parameters
        ----------
        q : Question, int or str
            The question.
        trace : int
            The trace.
        text : str, optional
            Its whole output; the answer is extracted.
        answer : str, optional
            The answer alone. Without either the trace abstains.
        reason : {"stop", "length", "cancelled", "error"}
            Why it ended. After ``"length"`` an answer that runs into the end of the text may be
            truncated and does not count; the last two cast no ballot.
        sum_logprob, num_tokens : optional
            Override what `tokens` gathered.
        reward : float, optional
            A reward, for the weights of that name.
        confidence : float, optional
            Overrides what `tokens` gathered: the lowest group under ``deepconf``, else the mean.
        entropy : float, optional
            Mean entropy of its token distributions.
        source : int, optional
            Which model, prompt or tool it came from: an index into `log_odds`.
        weight : float, optional
            Its weight, under ``weight="user"``.

        Returns
        -------
        list of Action
            Nothing, or a launch, or what to cancel and the decision. A trace that ends after the
            decision is booked as cost and causes nothing.

        Raises
        ------
        InputError
            An unknown question or trace, both `text` and `answer`, a value that is not finite.
        StateError
            The trace has ended already.
        """
        raw = self._finish(
            q,
            trace,
            text=text,
            answer=answer,
            reason=reason,
            sum_logprob=sum_logprob,
            num_tokens=num_tokens,
            reward=reward,
            confidence=confidence,
            entropy=entropy,
            source=source,
            weight=weight,
        )
        return self._actions(raw)

    def _finish(
        self,
        q: int | str,
        trace: int,
        *,
        text: str | None = None,
        answer: str | None = None,
        reason: str = "stop",
        sum_logprob: float | None = None,
        num_tokens: int | None = None,
        reward: float | None = None,
        confidence: float | None = None,
        entropy: float | None = None,
        source: int | None = None,
        weight: float | None = None,
    ) -> list[tuple[str, int, str, Any]]:
        if text is not None and answer is not None:
            raise InputError("text, answer: give one of them")
        tokens = None if num_tokens is None else integer_of("num_tokens", num_tokens, 63)
        handle, number = self._handle(q), integer_of("trace", trace, 63)
        end = (
            None if text is None else text_of("text", text),
            None if answer is None else text_of("answer", answer),
            string_of("reason", reason),
            None if sum_logprob is None else float(sum_logprob),
            tokens,
            None if reward is None else float(reward),
            None if confidence is None else float(confidence),
            None if entropy is None else float(entropy),
            None if source is None else integer_of("source", source, 32),
            None if weight is None else float(weight),
        )
        if self._same is None:
            return self._core.finish(handle, number, *end)
        if handle not in self._merging:
            self._merging[handle] = Merging(Merger(**self._same))
        return self._merging[handle].finish(self._core, handle, number, end)

    def finish_batch(
        self,
        qs: Any,
        ts: Any,
        *,
        texts: Sequence[str | None] | None = None,
        answers: Sequence[str | None] | None = None,
    ) -> list[Action]:
        """Report that many traces have ended by themselves, one after the other.

        Parameters
        ----------
        qs, ts : int array, shape (n,)
            Handle of the question and number of each trace.
        texts, answers : sequence of str or None
            What they said, as in `finish`; exactly one of the two.

        Returns
        -------
        list of Action
            Those of `finish`, joined.

        Raises
        ------
        InputError
            Lengths that differ, an unknown question or trace, a trace that stands twice, a weight
            that reads more than answers, or `same`. Nothing counts then.
        StateError
            A trace that has ended.
        """
        if (texts is None) == (answers is None):
            raise InputError("texts, answers: give one of them")
        if self._same is not None:
            raise InputError("finish_batch: does not merge answers; use finish under same")
        what, said = ("texts", texts) if answers is None else ("answers", answers)
        assert said is not None
        said = [
            a if a is None or (type(a) is str and a.isascii()) else text_of(what, a) for a in said
        ]
        rows = array_of("qs", qs, np.int64), array_of("ts", ts, np.int64)
        return self._actions(self._core.finish_batch(*rows, said, answers is None))

    def close(self, q: int | str) -> list[Action]:
        """Decide a question with what has been counted; nothing if it is decided already."""
        return self._actions(self._core.close(self._handle(q)))

    def forget(self, q: int | str) -> None:
        """Drop a question and everything it holds."""
        handle = self._handle(q)
        self._core.forget(handle)
        self._merging.pop(handle, None)

    def result(self, q: int | str) -> Result:
        """State of the vote on a question."""
        return self._result(self._core.result(self._handle(q)))

    def log(self, q: int | str) -> bytes:
        """Events of a question, with the policy, as bytes for `replay`."""
        return self._core.log(self._handle(q))

    @staticmethod
    def replay(data: bytes) -> Result:
        """Run a log again.

        Returns
        -------
        Result
            Equal to the `result` that the question had when the log was taken.

        Raises
        ------
        InputError
            The bytes are no log, are damaged, or this version decides otherwise.

        Notes
        -----
        `p_correct` is not part of a log, and neither are tokens of traces that never ended.
        """
        return result_of(_core.Voter.replay(bytes(data)))

    def key_of(self, answer: str | None = None, *, text: str | None = None) -> str | None:
        """Key of an answer, or of the answer in a text; None for an abstention."""
        if (text is None) == (answer is None):
            raise InputError("text, answer: give one of them")
        return self._core.key_of(
            None if text is None else text_of("text", text),
            None if answer is None else text_of("answer", answer),
            False,
        )

    def memory(self) -> int:
        """Bytes held, roughly."""
        return self._core.memory()

    def __len__(self) -> int:
        return len(self._core)

    def _handle(self, q: int | str) -> int:
        if isinstance(q, str):
            return self._core.find(text_of("q", q))
        return integer_of("q", q, 63)

    def _result(self, raw: dict[str, Any]) -> Result:
        result = result_of(raw)
        if self._calibrator is None:
            return result
        p_correct = self._calibrator.p_correct(result)
        result = replace(result, p_correct=p_correct)
        if result.done and result.winner is not None and p_correct < self._min_correct:
            result = replace(
                result,
                abstain_reason="min_p_correct",
                winner=None,
                answer=None,
                trace=None,
                p_mode=None,
                p_final=None,
            )
        return result

    def _actions(self, raw: list[tuple[str, int, str, Any]]) -> list[Action]:
        out: list[Action] = []
        for kind, handle, id, payload in raw:
            q = Question(handle, id)
            if kind == "launch":
                first, n = payload
                out.append(Launch(q, n, first))
            elif kind == "fork":
                trace, first, n = payload
                out.append(Fork(q, trace, n, first))
            elif kind == "regenerate":
                out.append(Regenerate(q, payload))
            elif kind == "cancel":
                out.append(Cancel(q, tuple(payload)))
            else:
                out.append(Done(q, self._result(payload)))
        return out


def vote(
    answers: Sequence[str | None],
    *,
    key: str = "number",
    key_options: Mapping[str, Any] | None = None,
    weight: str = "one",
    ties: str = "first",
    seed: int = 0,
) -> Result:
    """Majority of a list of answers.

    Parameters
    ----------
    answers : sequence of str or None
        The answers, each alone; None abstains.
    key, key_options, weight, ties, seed
        As for `Voter`.

    Returns
    -------
    Result
        That of a voter told of each answer in turn, all of them counted.

    Examples
    --------
    >>> from trivium import vote
    >>> result = vote(["1/2", "0.5", "3"], key="number")
    >>> result.winner, [(row.key, row.ballots) for row in result.tally]
    ('1/2', [('1/2', 2), ('3', 1)])
    """
    if isinstance(answers, (str, bytes)):
        raise InputError("answers: needs a sequence of answers, not one text")
    config = config_of(key, key_options, weight, ties, seed) | ALONE
    said = [None if a is None else text_of(f"answers[{i}]", a) for i, a in enumerate(answers)]
    return result_of(_core.vote(said, config))
