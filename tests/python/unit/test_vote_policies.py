"""Live votes under weights, pruning, ties, abstention and orders of finishing."""

from __future__ import annotations

import numpy as np
import pytest
from trivium import Voter
from trivium.errors import InputError
from trivium.voter import Cancel, Done, Launch


def run(v, ballots, **options):
    """Finish traces in order; each ballot is an answer or (answer, statistics)."""
    q = v.open("q", budget=len(ballots), **options)
    v.next()
    for trace, ballot in enumerate(ballots):
        answer, statistics = ballot if isinstance(ballot, tuple) else (ballot, {})
        if v.result(q).done:
            break
        v.finish(q, trace, answer=answer, **statistics)
    result = v.result(q)
    assert Voter.replay(v.log(q)) == result
    return result


def test_weights_can_overrule_counts():
    many = [("1", {"confidence": 0.1}), ("1", {"confidence": 0.1}), ("2", {"confidence": 0.9})]
    plain = run(Voter(stop="majority", latency="max"), many)
    assert plain.winner == "1"
    for weight in ("cisc:0.1", "borda:3", "deepconf:40"):
        v = Voter(weight=weight, stop="majority", latency="max")
        assert run(v, many).winner == "2"
    rewarded = [
        (a, {"reward": r}) for a, r in zip("12231", (0.9, 0.6, 0.55, 0.95, 0.1), strict=True)
    ]
    sums = run(Voter(weight="reward", stop="majority", latency="max"), rewarded)
    assert [(row.key, pytest.approx(row.weight)) for row in sums.tally] == [
        ("2", 1.15),
        ("1", 1.0),
        ("3", 0.95),
    ]
    assert run(Voter(weight="reward:0.001", stop="majority", latency="max"), rewarded).winner == "3"
    chains = [("1", {"entropy": 0.2}), ("2", {"entropy": 0.5}), ("2", {"entropy": 0.4})]
    assert (
        run(Voter(weight="inverse_entropy", stop="majority", latency="max"), chains).winner == "1"
    )
    user = [("1", {"weight": 1.0}), ("2", {"weight": 3.0}), ("1", {"weight": 1.0})]
    assert run(Voter(weight="user", stop="majority", latency="max"), user).winner == "2"


def test_reliable_sources_stop_early():
    v = Voter(weight="log_odds", log_odds=[0.5, 6.0], stop="posterior:1:0.99", latency="max")
    result = run(v, [("1", {"source": 0}), ("2", {"source": 1}), ("1", {"source": 0})])
    assert result.winner == "2"
    assert result.cost.samples == 2
    assert result.stop_reason == "rule:posterior:1:0.99"


def test_paths_that_are_equal_count_once():
    v = Voter(key="number", stop="rpc", latency="max")
    q = v.open("q", budget=3)
    v.next()
    for trace, (text, lp) in enumerate(
        [("so: The answer is 1.", -2.0), ("so: The answer is 1.", -2.0), ("The answer is 2.", -1.0)]
    ):
        v.finish(q, trace, text=text, sum_logprob=lp, num_tokens=2)
    assert v.result(q).winner == "2"


def test_a_ballot_without_what_the_weight_reads_is_refused_and_changes_nothing():
    v = Voter(weight="reward", stop="majority", latency="max", budget=2)
    q = v.open("q")
    v.next()
    before = v.result(q)
    with pytest.raises(InputError, match="reward"):
        v.finish(q, 0, answer="1")
    assert v.result(q) == before
    v.finish(q, 0, answer="1", reward=1.0)


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        ({"weight": "cisc", "stop": "dirichlet:0.9"}, ("dirichlet", "cisc")),
        ({"weight": "inverse_entropy", "stop": "beta:0.9"}, ("beta", "inverse_entropy")),
        ({"prune": "conf_floor:10", "stop": "beta:0.9"}, ("beta", "conf_floor")),
        ({"weight": "one", "stop": "posterior"}, ("posterior", "one")),
    ],
)
def test_contradictions_name_both_parts(arguments, parts):
    with pytest.raises(InputError) as caught:
        Voter(**arguments)
    assert all(part in str(caught.value) for part in parts)


def test_traces_below_the_floor_are_cancelled_at_the_first_full_window():
    v = Voter(
        weight="deepconf:100",
        stop="majority",
        prune="conf_floor:90",
        window=4,
        budget=18,
        latency="max",
    )
    q = v.open("q")
    v.next()
    for trace in range(16):
        assert v.tokens([q] * 4, [trace] * 4, conf=[10.0 + trace] * 4) == []
        v.finish(q, trace, answer="1")
    assert v.tokens([q] * 3, [16] * 3, conf=[1.0] * 3) == []
    assert v.tokens([q, q], [16, 16], conf=[1.0, 1.0]) == [Cancel(q, (16,))]
    actions = v.finish(q, 17, answer="1", confidence=20.0)
    assert isinstance(actions[-1], Done)
    assert v.result(q).cost.cancelled == 1
    assert Voter.replay(v.log(q)) == v.result(q)


def test_the_first_finishes_decide_by_arrival():
    v = Voter(stop="first_finish:1", budget=40)
    q = v.open("q")
    assert v.next() == [Launch(q, 4, 0)]
    assert v.finish(q, 3, answer="no number") == []
    cancel, done = v.finish(q, 2, answer="7")
    assert cancel == Cancel(q, (0, 1))
    assert done.result.winner == "7"
    last = Voter(stop="last_finish:1", budget=40)
    q = last.open("q")
    last.next()
    for trace in (2, 0, 1, 3):
        actions = last.finish(q, trace, answer=str(trace))
    assert actions[-1].result.winner == "3"


def test_ties_and_abstention():
    def winner(ties, **options):
        v = Voter(ties=ties, stop="majority", latency="max", **options)
        return run(
            v,
            [
                ("2", {"sum_logprob": -9.0, "num_tokens": 3}),
                ("1", {"sum_logprob": -1.0, "num_tokens": 3}),
            ],
        )

    assert winner("first").winner == winner("greedy").winner == winner("all").winner == "2"
    assert winner("weight").winner == "1"
    assert winner("all").tied == ("2", "1")
    abstained = winner("abstain")
    assert abstained.winner is None
    assert (abstained.abstained, abstained.abstain_reason) == (True, "ties")
    assert len({winner("random", seed=seed).winner for seed in range(20)}) == 2
    refused = winner("first", abstain={"min_share": 0.6}, bare=True)
    assert (refused.winner, refused.abstain_reason) == (None, "min_share")
    with pytest.raises(InputError, match="min_share"):
        Voter(abstain={"min_shares": 0.5})


@pytest.mark.parametrize(
    ("key", "same", "other"),
    [
        ("latex", ("\\frac{3}{4}", "0.75", "\\dfrac34"), "0.76"),
        ("json", ('{"a": 1, "b": 2}', '{"b":2.0,"a":1e0}'), '{"a": 1}'),
        ("python", ("{1, 2}", "{2,1}"), "(1, 2)"),
        ("date", ("03/05/2024", "2024-3-5", "March 5, 2024"), "2024-03-06"),
        ("bool", ("Yes", "true"), "no"),
        ("word", ("The cat.", "the  cat"), "a cat"),
        ("set:number", ("1, 2", "[2.0, 1]"), "1"),
    ],
)
def test_keys_join_what_is_equal(key, same, other):
    v = Voter(key)
    assert len({v.key_of(answer) for answer in same}) == 1
    assert v.key_of(other) not in {None, v.key_of(same[0])}


def test_hostile_answers_are_read_in_time():
    noise = bytes(np.random.default_rng(0).integers(0, 256, 65536, dtype=np.uint8)).decode("latin1")
    for key in ("latex", "json", "python", "date", "bool", "word", "set:number", "number", "text"):
        v = Voter(key)
        for text in (noise, "5^(5^(5^5))", "[" * 65536, "\\frac" * 9000, "\ud800", ""):
            v.key_of(text)
            v.key_of(text=text)


def test_json_keys_overlook_what_they_are_told_to():
    options = {"only": ["name", "arguments"], "round": {"arguments.x": 1}, "ignore": ["id"]}
    v = Voter("json", key_options={**options, "unordered": ["arguments.tags"]})
    one = '{"name": "f", "arguments": {"x": 1.04, "tags": ["a", "b"]}, "id": 1, "note": "?"}'
    two = '{"arguments": {"tags": ["b", "a"], "x": 1.0, "id": 2}, "name": "f"}'
    assert v.key_of(one) == v.key_of(two)
    assert v.key_of(one) != v.key_of(one.replace("1.04", "1.06"))
    assert v.key_of(one) != v.key_of(one.replace('"f"', '"g"'))
    for bad in ({"round": {"x": 99}}, {"round": ["x"]}, {"only": "x"}):
        with pytest.raises(InputError):
            Voter("json", key_options=bad)
    with pytest.raises(InputError, match="json"):
        Voter("number", key_options={"ignore": ["id"]})


def test_waves_are_launched_and_judged_together():
    v = Voter(stop="beta:0.75", order="wave:3", budget=8)
    q = v.open("q")
    assert v.next() == [Launch(q, 3, 0)]
    # (1, 0) would stop already; the wave has to end.
    assert v.finish(q, 0, answer="1") == []
    assert v.finish(q, 2, answer="2") == []
    assert v.finish(q, 1, answer="2") == [Launch(q, 3, 3)]
    for trace in (5, 3):
        v.finish(q, trace, answer="2")
    [done] = v.finish(q, 4, answer="2")
    assert (done.result.winner, done.result.cost.samples) == ("2", 6)
    assert Voter.replay(v.log(q)) == done.result
    with pytest.raises(InputError, match="order"):
        Voter(order="wave:0")


def test_open_questions_are_small():
    v = Voter(budget=40)
    for i in range(1000):
        v.open(f"q{i}")
    v.next()
    assert v.memory() / 1000 < 400


def test_bad_input_is_named_and_changes_nothing():
    v = Voter(budget=4, stop="majority", latency="max", bare=True)
    q = v.open("q")
    v.next()
    for bad in (
        lambda: v.finish(q, 9, answer="1"),
        lambda: v.finish("r", 0, answer="1"),
        lambda: v.finish(q, -1, answer="1"),
        lambda: v.finish(q, 0, answer="1", reward=float("inf")),
        lambda: v.finish(q, 0, answer="1", sum_logprob=float("nan")),
        lambda: v.finish(q, 0, answer="1", text="1"),
        lambda: v.finish(q, 0, answer="1", reason="tired"),
        lambda: v.tokens([q], [0], lps=[float("nan")]),
        lambda: v.tokens([q, q], [0], lps=[0.0]),
        lambda: v.tokens([q], [7]),
        lambda: v.open("q"),
    ):
        with pytest.raises(InputError):
            bad()
    assert v.result(q).num_cast == v.result(q).num_none == 0
    # Empty, noise, not UTF-8: abstentions or keys, never errors.
    noise = bytes(range(256)).decode("latin1") * 256
    for trace, answer in enumerate(["", noise, "\ud800 7", "7"]):
        v.finish(q, trace, answer=answer)
    assert v.result(q).winner == "7"


def test_a_batch_is_a_loop_and_refuses_as_a_whole():
    def fresh():
        v = Voter(budget=6, latency="max")
        qs = [v.open(name) for name in "abc"]
        v.next()
        return v, qs

    loop, qs = fresh()
    rows = [(q, t) for t in range(6) for q in qs]
    answers = [None if t == 1 else str(1 + (t * int(q)) % 2) for q, t in rows]
    actions = [
        a
        for (q, t), said in zip(rows, answers, strict=True)
        for a in loop.finish(q, t, answer=said)
    ]
    batch, _ = fresh()
    both = batch.finish_batch([q for q, _ in rows], [t for _, t in rows], answers=answers)
    assert [type(a) for a in both] == [type(a) for a in actions]
    assert [batch.result(q) for q in qs] == [loop.result(q) for q in qs]
    refused, qs = fresh()
    for ts in ([0, 0], [0, 9]):
        with pytest.raises(InputError):
            refused.finish_batch([qs[0]] * 2, ts, answers=["1", "1"])
    assert refused.result(qs[0]).num_cast == 0
    v = Voter(weight="reward", stop="majority", latency="max", budget=2)
    q = v.open("q")
    v.next()
    with pytest.raises(InputError, match="reward"):
        v.finish_batch([q], [0], answers=["1"])
