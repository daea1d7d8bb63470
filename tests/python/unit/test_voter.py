"""`Voter` through its Python surface: events, results, errors, and answers to published numbers."""

from __future__ import annotations

import asyncio
import threading

import numpy as np
import pytest
import trivium
from trivium import Voter
from trivium.errors import InputError, LimitError, StateError
from trivium.voter import Cancel, Done, Launch, TallyRow


def test_the_documented_exchange():
    v = Voter(key="number", weight="one", stop=["beta:0.95"], budget=40, ties="first", seed=0)
    q = v.open("q17")
    assert v.next() == [Launch(q, n=4)]
    assert v.next() == []
    assert v.tokens([q, q], [0, 3], [11, 12], [-0.5, -0.25], [3.0, 4.0]) == []
    assert v.finish(q, 2, text="3 + 11 = 14. The answer is 14.") == []
    assert v.finish("q17", 0, answer="14.0") == []
    assert v.finish(q, 1, text="\\boxed{28/2}", reason="stop", sum_logprob=-3.0) == []
    [done] = v.finish(q, 3, answer="$14", num_tokens=5, reward=0.5)
    assert isinstance(done, Done)
    result = done.result
    assert result == v.result(q) == Voter.replay(v.log(q))
    assert (result.winner, result.answer, result.trace) == ("14", "14.0", 0)
    assert (result.p_mode, result.share, result.confidence, result.margin) == (0.96875, 1, 1, 1)
    assert result.tally == (TallyRow("14", 4, 4.0),)
    assert (result.stop_reason, result.policy, result.seed) == ("rule:beta:0.95", "beta:0.95", 0)
    assert (result.cost.samples, result.cost.launched, result.cost.tokens) == (4, 4, 6)
    assert result.done
    assert not result.abstained


def test_a_split_launches_more_and_the_decision_cancels():
    v = Voter(stop="beta:0.95", budget=40, latency=1.0)
    q = v.open("q")
    [launch] = v.next()
    assert list(launch.traces) == list(range(8))  # 4 needed, each a hit with probability 1/2
    for trace in (1, 2, 3):
        assert v.finish(q, trace, answer="5") == []
    cancel, done = v.finish(q, 0, answer="5")
    assert cancel == Cancel(q, (4, 5, 6, 7))
    assert done.result.cost.cancelled == 4
    # Ends that race with the cancellation are booked and cause nothing.
    assert v.finish(q, 4, answer="6") == []
    assert v.finish(q, 5, reason="cancelled", num_tokens=9) == []
    late = v.result(q)
    assert late == done.result
    assert (late.cost.late, late.cost.cancelled, late.cost.tokens) == (1, 3, 9)


def test_unreadable_answers_abstain_and_are_paid_for():
    v = Voter(budget=3, stop="majority")
    q = v.open("q")
    assert v.next() == [Launch(q, 2)]
    assert v.finish(q, 0, text="no idea") == []
    assert v.finish(q, 1, answer="12 or 13") == [Launch(q, 1, first=2)]
    [done] = v.finish(q, 2)
    result = done.result
    assert (result.winner, result.answer, result.p_mode) == (None, None, None)
    assert (result.num_none, result.num_cast, result.stop_reason) == (3, 0, "budget")
    assert result.abstained
    assert result.cost.samples == 3


@pytest.mark.parametrize(
    ("arguments", "error", "exists"),
    [
        ({"key": "latecks"}, InputError, "text, number, choice"),
        ({"key": "numbr"}, InputError, "text, number, choice"),
        ({"weight": "board"}, InputError, "one"),
        ({"weight": "heavy"}, InputError, "one"),
        ({"stop": ["esc:0"]}, InputError, "whole number"),
        ({"stop": ["never"]}, InputError, "majority, locked, beta:C"),
        ({"stop": "beta:1.5"}, InputError, "(0, 1)"),
        ({"stop": []}, InputError, "majority"),
        ({"ties": "never"}, InputError, "first"),
        ({"order": "waves"}, InputError, "launch, arrival, wave:W"),
        ({"budget": -1}, InputError, "budget"),
        ({"budget": 0}, InputError, "budget"),
        ({"budget": 2.5}, InputError, "budget"),
        ({"budget": 10**30}, InputError, "budget"),
        ({"budget": 10**6}, LimitError, "budget"),
        ({"seed": -1}, InputError, "seed"),
        ({"latency": "slow"}, InputError, "latency"),
        ({"latency": float("nan")}, InputError, "latency"),
        ({"key_options": {"fallbak": "last"}}, InputError, "fallback"),
        ({"key_options": {"fallback": "middle"}}, InputError, "off"),
        ({"key_options": {"percent": "keep"}}, InputError, "strip"),
        ({"key_options": {"delimiters": ["a", ("b", "c", "d")]}}, InputError, "pair"),
        ({"key_options": {"delimiters": [""]}}, InputError, "empty"),
        ({"key": "choice", "key_options": {"letters": "AAB"}}, InputError, "repeats"),
    ],
)
def test_wrong_configurations_name_what_exists(arguments, error, exists):
    with pytest.raises(error) as caught:
        Voter(**arguments)
    assert exists in str(caught.value)


def test_refused_calls_change_nothing():
    v = Voter()
    q = v.open("q")
    v.next()
    v.finish(q, 0, answer="1")
    before = v.log(q)
    nan = float("nan")
    for error, call in [
        (StateError, lambda: v.finish(q, 0, answer="1")),
        (InputError, lambda: v.finish(q, 4, answer="1")),
        (InputError, lambda: v.finish(q, -1, answer="1")),
        (InputError, lambda: v.finish(q, 2**80, answer="1")),
        (InputError, lambda: v.finish(q, "1", answer="1")),
        (InputError, lambda: v.finish(q + 1, 1, answer="1")),
        (InputError, lambda: v.finish("p", 1, answer="1")),
        (InputError, lambda: v.finish(q, 1, answer="1", text="1")),
        (InputError, lambda: v.finish(q, 1, answer=1)),
        (InputError, lambda: v.finish(q, 1, answer="1", reason="tired")),
        (InputError, lambda: v.finish(q, 1, answer="1", reward=nan)),
        (InputError, lambda: v.finish(q, 1, answer="1", sum_logprob=nan)),
        (InputError, lambda: v.finish(q, 1, answer="1", num_tokens=-1)),
        (InputError, lambda: v.tokens([q, q], [1], [1, 2])),
        (InputError, lambda: v.tokens([q], [1], [1, 2])),
        (InputError, lambda: v.tokens([q], [1], [1], [nan])),
        (InputError, lambda: v.tokens([q], [1], [1], None, [nan])),
        (InputError, lambda: v.tokens([q], [1], [1], [0.0, 0.0])),
        (InputError, lambda: v.tokens([q], [1.5])),
        (InputError, lambda: v.tokens([[q]], [[1]])),
        (InputError, lambda: v.tokens([q], ["x"])),
        (InputError, lambda: v.tokens([q, q], [1, 7])),
        (StateError, lambda: v.tokens([q, q], [1, 0])),
        (InputError, lambda: v.open("q")),
        (InputError, lambda: v.open("r", budget=-3)),
        (InputError, lambda: v.open(7)),
        (InputError, lambda: v.result("r")),
        (InputError, lambda: v.result(17)),
        (InputError, lambda: v.log(-1)),
    ]:
        with pytest.raises(error):
            call()
        assert v.log(q) == before
    assert v.result(q).cost.tokens == 0
    assert len(v) == 1


def test_arrays_of_any_integer_type_and_device_library():
    v = Voter(latency="max")
    q, r = v.open("q"), v.open("r")
    v.next()
    qs = np.array([q, r, q], dtype=np.int32)
    ts = np.array([0, 9, 1, 9, 2, 9], dtype=np.uint8)[::2]
    lps = np.array([-1, -2, -np.inf], dtype=np.float32)
    assert v.tokens(qs, ts, None, lps) == []
    assert v.tokens([], [], [], [], []) == []
    assert (v.result(q).cost.tokens, v.result(r).cost.tokens) == (2, 1)


def test_results_name_what_stopped_them():
    reasons = {}
    for stop in ("majority", "locked", "beta:0.9"):
        v = Voter(stop=stop, budget=5, bare=stop == "majority", latency="max")
        q = v.open("q")
        v.next()
        for trace in range(5):
            if not v.result(q).done:
                v.finish(q, trace, answer="1")
        reasons[stop] = v.result(q).stop_reason, v.result(q).cost.samples
    assert reasons == {
        "majority": ("budget", 5),
        "locked": ("locked", 3),
        "beta:0.9": ("rule:beta:0.9", 3),
    }


def test_closing_decides_with_the_prefix():
    v = Voter(latency="max", budget=4)
    q = v.open("q")
    v.next()
    v.finish(q, 0, answer="3")
    v.finish(q, 2, answer="4")
    cancel, done = v.close("q")
    assert cancel.traces == (1, 3)
    assert (done.result.winner, done.result.stop_reason) == ("3", "cancelled")
    assert v.close(q) == []
    held = v.memory()
    v.forget(q)
    assert v.memory() < held
    assert len(v) == 0
    with pytest.raises(InputError):
        v.result(q)


def test_one_liner():
    result = trivium.vote(["1/2", "0.5", "3"], key="number")
    assert result.winner == "1/2"
    assert result.tally == (("1/2", 2, 2.0), ("3", 1, 1.0))
    assert trivium.vote(["3", "1/2", "0.5", "3.0"]).winner == "3"  # a tie: the first seen
    assert trivium.vote(["B", "(A)", "a."], key="choice").winner == "A"
    assert trivium.vote([None, "x"], key="number").winner is None
    assert trivium.vote([" a", "A", "a"], key="text").winner == "a"
    assert trivium.vote(["1/2", "0.5", "3", "\\frac12"], key="latex").winner == "Q:1/2"
    for wrong in ([], "1/2", [1, 2]):
        with pytest.raises(InputError):
            trivium.vote(wrong)


def test_keys_of_answers_and_texts():
    v = Voter(key_options={"delimiters": ["Result:", ("[[", "]]")], "percent": "scale"})
    assert v.key_of("10%") == "1/10"
    assert v.key_of(text="Result: 5\n") == "5"
    assert v.key_of(text="so [[ 7 ]] it is") == "7"
    assert v.key_of(text="The answer is 7.") is None
    assert v.key_of("\ud800") is None
    assert Voter(key="text").key_of("\ud800") == "?"
    listed = Voter(key="choice", key_options={"options": ["red", "blue"], "letters": "AB"})
    assert listed.key_of("Blue") == "B"


def test_damaged_logs_are_input_errors():
    v = Voter()
    q = v.open("q")
    v.next()
    log = v.log(q)
    for data in (b"", b"TVOTE\x02", log[:-1], log + b"\0", b"x" + log):
        with pytest.raises(InputError):
            Voter.replay(data)


def test_run_awaits_samples_and_cancels_the_rest():
    cancelled = []

    async def sample(i):
        try:
            await asyncio.sleep(0 if i < 4 else 3600)
        except asyncio.CancelledError:
            cancelled.append(i)
            raise
        return "The answer is 6."

    async def main():
        v = Voter(latency="max", budget=6)
        others = v.open("another question")
        result = await v.run(sample, "q")
        assert v.next() == [Launch(others, 6)]
        assert v.result("q") == result
        return result

    result = asyncio.run(main())
    assert (result.winner, result.stop_reason) == ("6", "locked")
    assert sorted(cancelled) == [4, 5]


def test_run_propagates_what_a_sample_raises():
    async def sample(i):
        if i == 2:
            raise OSError("no engine")
        await asyncio.sleep(3600)

    v = Voter()
    with pytest.raises(OSError, match="no engine"):
        asyncio.run(v.run(sample, "q"))
    assert len(v) == 0


def test_threads_get_an_error_or_an_answer():
    v = Voter(budget=60_000, latency="max", bare=True, stop="majority")
    q = v.open("q")
    v.next()
    n, failures, wrong = 20_000, [], []

    def work(offset):
        for trace in range(offset, n, 2):
            try:
                v.finish(q, trace, answer="1")
            except StateError:
                failures.append(trace)
            except Exception as e:
                wrong.append(e)

    threads = [threading.Thread(target=work, args=(k,)) for k in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
    for trace in failures:
        v.finish(q, trace, answer="1")
    assert v.result(q).num_cast == n
