"""Clusters by a caller's test: the partition, the number of calls, live votes and replays."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from trivium import Voter, vote
from trivium.errors import InputError, StateError
from trivium.voting import Merger, cluster

KEYS = st.lists(st.integers(0, 11), min_size=1, max_size=30)


def same_class(x, y):
    return int(x) % 3 == int(y) % 3


@given(KEYS, st.sampled_from(["representative", "single"]))
def test_merged_runs_equal_runs_with_merged_keys(keys, link):
    """P9, and the bounds on calls for a test that is an equivalence."""
    merger = Merger(same_class, link=link)
    for key in keys:
        merger.add(str(key))
    partition = {frozenset(members) for members in merger.clusters().values()}
    classes = [frozenset(str(k) for k in keys if k % 3 == c) for c in range(3)]
    assert partition == {c for c in classes if c}
    n, k = len(set(keys)), len(partition)
    assert merger.calls <= (n * k if link == "representative" else n * (n - 1) // 2)
    merged = vote([merger.find(str(key)) for key in keys])
    direct = vote([str(key % 3) for key in keys])
    assert [row.ballots for row in merged.tally] == [row.ballots for row in direct.tally]
    assert sum(merger.weight(key) for key in merger.clusters()) == len(keys)


def test_each_pair_is_asked_about_once_and_calls_are_bounded():
    asked = []

    def never(x, y):
        asked.append(frozenset((x, y)))
        return 0.0

    merger = Merger(never, max_calls=4)
    for key in "abcabcabc":
        merger.add(key)
    assert len(asked) == len(set(asked)) == merger.calls == 3
    merger.add("d")
    assert merger.calls == 4
    assert len(merger.clusters()) == 4


def test_late_answers_mean_different():
    merger = Merger(lambda x, y: True, deadline=-1.0)
    assert merger.add("a") == "a"
    assert merger.add("b") == "b"
    assert merger.timeouts == 1


@pytest.mark.parametrize("order", range(6))
def test_live_votes_merge_in_launch_order(order):
    answers = ["4", "10", "13", "7", "5", "2", "11", "1"]
    v = Voter(stop="majority", bare=True, latency="max", budget=len(answers), same=same_class)
    q = v.open("q")
    v.next()
    traces = list(range(len(answers)))
    random.Random(order).shuffle(traces)
    for trace in traces:
        v.finish(q, trace, answer=answers[trace])
    result = v.result(q)
    assert (result.winner, result.tally[0].ballots) == ("4", 5)
    assert result.answer == "4"
    assert Voter.replay(v.log(q)) == result
    with pytest.raises(StateError):
        v.finish(q, 0, answer="4")


def test_merging_checks_traces_at_once():
    v = Voter(stop="majority", latency="max", budget=3, same=same_class)
    q = v.open("q")
    v.next()
    v.finish(q, 2, answer="1")
    for bad in (2, 3):
        with pytest.raises((StateError, InputError)):
            v.finish(q, bad, answer="1")
    with pytest.raises(InputError, match="rpc"):
        Voter(stop="rpc", same=same_class)
    with pytest.raises(InputError, match="link"):
        Voter(same={"same": same_class, "link": "double"})


def test_lists_are_clustered_in_order():
    assert cluster(["3", None, "6", "1"], same_class) == ["3", None, "3", "1"]
