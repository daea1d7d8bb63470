"""Running traces and pools through Python: events, actions, limits, and what contradicts what."""

from __future__ import annotations

import asyncio

import numpy as np
import pytest
from trivium import Voter, vote, voting
from trivium.errors import InputError, StateError
from trivium.voter import Cancel, Done, Fork, Launch, Regenerate


def plain(budget, stop="majority", **options):
    return Voter(stop=stop, bare=True, budget=budget, latency="max", **options)


def test_a_shared_budget_goes_where_it_is_published_to_go():
    v = Voter(pool="marginal", total=10, stop="majority", bare=True)
    chances = [0.9, 0.5, 0.1, 0.02]
    questions = [v.open(str(c), chance=c) for c in chances]
    launched = {a.q: a.n for a in v.next() if isinstance(a, Launch)}
    assert [launched.get(q, 0) for q in questions] == [2, 3, 5, 0] == voting.allocate(chances, 10)
    assert v.result(questions[3]).stop_reason == "pool"


def test_deadlines_rank_and_expire():
    v = Voter(pool="deadline", slots=4, stop="beta:0.95")
    late, soon, never = v.open("late", deadline=9.0), v.open("soon", deadline=1.0), v.open("never")
    assert v.next() == [Launch(soon, 4)]
    # The slot that is free goes to the next in rank.
    assert v.finish(soon, 0, answer="5") == [Launch(late, 1)]
    [cancel, done, launch] = v.expire(1.5)
    assert cancel == Cancel(soon, (1, 2, 3))
    assert (done.result.winner, done.result.stop_reason) == ("5", "deadline")
    assert launch == Launch(late, 3, first=1)
    assert [a.q for a in v.expire(10.0)] == [late, late, never]
    assert not v.result(never).done


def test_traces_in_flight_are_limited_and_remote_samples_wait_for_each_other():
    flying, most = set(), 0

    async def sample(name, t):
        nonlocal most
        flying.add((name, t))
        most = max(most, len(flying))
        await asyncio.sleep(0)
        flying.discard((name, t))
        return f"The answer is {len(name)}."

    async def main(pool):
        v = Voter(pool=pool, slots=3)
        names = ["a", "bb", "ccc", "dddd", "eeeee"]
        work = [v.run(lambda t, n=n: sample(n, t), n) for n in names]
        results = await asyncio.wait_for(asyncio.gather(*work), 30)
        assert [r.winner for r in results] == ["1", "2", "3", "4", "5"]
        assert all(r.stop_reason == "rule:beta:0.95" for r in results)

    for pool in ("fifo", "marginal"):
        asyncio.run(main(pool))
        assert most == 3


def test_remote_samples_leave_launches_of_others_to_next():
    async def sample(_):
        return "The answer is 3."

    v = Voter(pool="fifo", slots=8)
    waits = v.open("waits")
    assert asyncio.run(v.run(sample, "first")).winner == "3"
    assert Launch(waits, 4) in v.next()


def test_a_pool_that_is_spent_decides_what_is_open():
    v = Voter(pool="fifo", total=3, stop="majority", bare=True, budget=2)
    q, r = v.open("q"), v.open("r")
    assert v.next() == [Launch(q, 2), Launch(r, 1)]
    assert v.finish(r, 0, answer="1")[0].result.stop_reason == "pool"
    v.finish(q, 0, answer="1")
    assert v.finish(q, 1, answer="1")[0].result.stop_reason == "budget"
    v = Voter(pool="fifo", total_tokens=5, stop="majority", bare=True, budget=4, slots=1)
    q = v.open("q")
    v.next()
    assert v.finish(q, 0, answer="1", num_tokens=3) == [Launch(q, 1, first=1)]
    assert v.finish(q, 1, answer="1", num_tokens=3)[0].result.stop_reason == "pool"


def test_texts_probes_segments_and_forks():
    v = plain(2, finish_on_answer=True)
    q = v.open("q")
    v.next()
    assert v.text(q, 0, "so the answer is 1") == []
    assert v.text(q, 0, "4. And") == [Cancel(q, (0,))]
    with pytest.raises(StateError):
        v.text(q, 0, "more")
    v.finish(q, 1, answer="14")
    assert v.result(q).num_cast == 2

    v = plain(2, probe="provisional:0.5:2")
    q = v.open("q")
    v.next()
    v.probe(q, 0, answer="7")
    assert v.result(q).provisional == (("7", 0.5),)
    assert v.probe(q, 0, text="The answer is 7.") == [Cancel(q, (0,))]
    other = plain(1)
    p = other.open("p")
    other.next()
    with pytest.raises(InputError, match="probe="):
        other.probe(p, 0, answer="1")

    v = plain(1, weight="reward", steps="prod", accept=0.7)
    q = v.open("q")
    v.next()
    step = voting.self_evaluation(0.8, 0.01 ** (1 / 10))
    assert v.segment(q, 0, step) == []
    assert v.segment(q, 0, 0.1) == [Regenerate(q, 0)]
    assert v.segment(q, 0, 0.9) == []
    [done] = v.finish(q, 0, answer="1")
    assert done.result.tally[0].weight == pytest.approx(0.9 * 0.7104687718)

    v = Voter(weight="leaf", stop="share:0.9", budget=4, pool="fifo", slots=1)
    q = v.open("q")
    assert v.next() == [Launch(q, 1)]
    assert v.fork(q, 0, 1) == [Fork(q, 0, 1, 1)]
    for t in (0, 1):
        assert v.fork(q, t) == [Fork(q, t, 1, 2 + t)]
    for t, key in enumerate("1123"):
        v.finish(q, t, answer=key)
    assert [row.weight for row in v.result(q).tally] == [0.5, 0.25, 0.25]
    assert Voter.replay(v.log(q)) == v.result(q)
    strict = Voter()
    p = strict.open("p")
    strict.next()
    with pytest.raises(InputError, match=r"beta.*branches"):
        strict.fork(p, 0)


def test_tokens_prune_and_fork():
    v = plain(3, prune=["loop:4:16", "cover:0.9:64"])
    q = v.open("q")
    v.next()
    ids = np.array([5, 6] * 8)
    out = v.tokens([q] * 16, [1] * 16, ids, [-0.1] * 16)
    assert out == [Cancel(q, (1,))]
    assert v.reads_tokens
    v = Voter(weight="leaf", stop="share", fork="entropy:1:4", budget=40, pool="fifo", slots=1)
    q = v.open("q")
    v.next()
    assert v.tokens([q] * 4, [0] * 4, entropy=[2.0] * 4) == [Fork(q, 0, 1, 1)]
    with pytest.raises(InputError):
        v.tokens([q], [0], entropy=[-1.0])


def test_late_ballots_count_if_asked():
    results = {}
    for late in ("drop", "count"):
        v = plain(4, stop="locked", late=late)
        q = v.open("q")
        v.next()
        for t in (3, 1, 2):
            v.finish(q, t, answer="1")
        results[late] = v.result(q)
    assert not results["drop"].done
    assert (results["count"].stop_reason, results["count"].num_cast) == ("locked", 3)


def test_a_calibrator_says_how_likely_the_winner_is_right():
    sure, split = ["1"] * 8, ["1", "2", "3", "1"]
    made = voting.Calibrator.fit([vote(sure), vote(split)] * 30, [True, False] * 30)
    for answers, right in ((sure, True), (split, False)):
        v = plain(len(answers), calibrator=made, abstain={"min_p_correct": 0.5})
        q = v.open("q")
        v.next()
        for t, answer in enumerate(answers):
            v.finish(q, t, answer=answer)
        result = v.result(q)
        assert (result.p_correct > 0.5) is right
        assert (result.winner is not None) is right
        assert result.abstain_reason == (None if right else "min_p_correct")
    with pytest.raises(InputError, match="calibrator"):
        Voter(abstain={"min_p_correct": 0.5})


def test_without_a_log_there_is_none():
    v = plain(1, log=False)
    q = v.open("q")
    v.next()
    [done] = v.finish(q, 0, answer="1")
    assert isinstance(done, Done)
    with pytest.raises(StateError, match="log"):
        v.log(q)


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        ({"weight": "cisc", "stop": "dirichlet:0.9"}, ["cisc", "dirichlet"]),
        ({"weight": "inverse_entropy", "stop": "beta:0.9"}, ["inverse_entropy", "beta"]),
        ({"weight": "leaf", "stop": "beta:0.9"}, ["leaf", "beta"]),
        ({"weight": "reward", "stop": "rpc"}, ["reward", "rpc"]),
        ({"weight": "one", "stop": "posterior"}, ["one", "posterior"]),
        ({"prune": "conf_floor:10", "stop": "beta:0.9"}, ["conf_floor", "beta"]),
        ({"prune": "cover", "stop": "predictive:0.9"}, ["cover", "predictive"]),
        ({"fork": "entropy:1", "stop": "best"}, ["fork", "best"]),
        (
            {"finish_on_answer": True, "weight": "reward", "stop": "share"},
            ["finish_on_answer", "reward"],
        ),
        ({"finish_on_answer": True, "probe": "temporal"}, ["finish_on_answer", "temporal"]),
        ({"slots": 4}, ["slots", "free"]),
        ({"same": lambda x, y: x == y, "stop": "rpc"}, ["same", "rpc"]),
        ({"same": lambda x, y: x == y, "probe": "provisional"}, ["same", "probe"]),
    ],
)
def test_contradictions_name_both_parts(arguments, parts):
    with pytest.raises(InputError) as caught:
        Voter(**arguments)
    assert all(part in str(caught.value) for part in parts)
    if "same" not in arguments and parts[1] not in ("rpc", "free"):
        Voter(**arguments, unchecked=True)


@pytest.mark.parametrize(
    "arguments",
    [
        {"prune": "luck"},
        {"prune": ["loop:1"]},
        {"prune": 3},
        {"probe": "often"},
        {"steps": "sum"},
        {"accept": "much"},
        {"fork": "entropy:x"},
        {"late": "never"},
        {"max_tokens": 0},
        {"max_tokens": -1},
        {"pool": "lifo"},
        {"pool": "fifo", "slots": 0},
        {"pool": "fifo", "total": 2.5},
        {"stop": "beta&"},
        {"stop": "agree:0"},
        {"weight": "soft:max"},
        {"weight": "deepconf:10:best"},
    ],
)
def test_wrong_options_are_refused(arguments):
    with pytest.raises(InputError):
        Voter(**arguments)


def test_wrong_events_are_refused():
    v = plain(2, fork="entropy:1", weight="leaf", accept=0.5)
    q = v.open("q")
    v.next()
    before = v.log(q)
    for call in (
        lambda: v.open("r", deadline=float("nan")),
        lambda: v.open("r", difficulty="hard"),
        lambda: v.open("r", chance=1.5),
        lambda: v.open("r", max_tokens=0),
        lambda: v.fork(q, 0, 1),
        lambda: v.fork(q, 9, 1),
        lambda: v.fork(q, 0, -1),
        lambda: v.segment(q, 0, float("nan")),
        lambda: v.segment(q, 7, 0.5),
        lambda: v.text(q, 5, "a"),
        lambda: v.text(q, 0, b"a"),
        lambda: v.probe(q, 0, answer="1"),
        lambda: v.expire(float("nan")),
        lambda: v.tokens([q], [0], [1, 2]),
        lambda: v.tokens([q], [0], ["x"]),
    ):
        with pytest.raises(InputError):
            call()
        assert v.log(q) == before
        assert len(v) == 1
