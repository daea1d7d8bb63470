"""Laws of a vote: launch order decides, logs replay, lists equal loops."""

from __future__ import annotations

import random
from collections import Counter
from fractions import Fraction

import trivium
from hypothesis import given
from hypothesis import strategies as st
from trivium import Voter
from trivium.voter import Cancel, Done, Launch

ANSWERS = st.sampled_from(["1", "1.0", "2", "4/2", "3", "none", ""])
POLICIES = st.fixed_dictionaries(
    {
        "stop": st.sampled_from(["majority", "locked", "beta:0.8", ["beta:0.95", "locked"]]),
        "latency": st.sampled_from([0.0, 0.5, 1.0, "max"]),
        "bare": st.booleans(),
        "budget": st.integers(1, 20),
    }
)


def drive(policy, answers, pick):
    """Run a vote in which `pick` chooses the running trace that ends next."""
    v = Voter(**policy)
    q = v.open("q")
    running, actions = [], v.next()
    while True:
        for action in actions:
            if isinstance(action, Launch):
                running += action.traces
            elif isinstance(action, Cancel):
                running = [t for t in running if t not in action.traces]
            else:
                assert isinstance(action, Done)
                assert not running
                assert action.result == v.result(q)
                return v, q
        trace = running.pop(pick(len(running)))
        v.tokens([q], [trace], [0], [-1.0])
        actions = v.finish(q, trace, answer=answers[trace])


@given(POLICIES, st.lists(ANSWERS, min_size=20, max_size=20), st.randoms(use_true_random=False))
def test_the_order_of_finishing_changes_no_result(policy, answers, rng):
    ordered, q = drive(policy, answers, lambda _: 0)
    shuffled, r = drive(policy, answers, rng.randrange)
    assert ordered.result(q) == shuffled.result(r)
    for v, question in ((ordered, q), (shuffled, r)):
        replayed, result = Voter.replay(v.log(question)), v.result(question)
        assert replayed == result
        assert replayed.cost.tokens == result.cost.tokens


@given(st.lists(st.one_of(st.none(), ANSWERS), min_size=1, max_size=20))
def test_a_list_equals_a_loop_and_counting(answers):
    listed = trivium.vote(answers)
    policy = {"stop": "majority", "latency": "max", "bare": True, "budget": len(answers)}
    v, q = drive(policy, ["" if a is None else a for a in answers], lambda _: 0)
    looped = v.result(q)
    assert (listed.winner, listed.tally, listed.share) == (
        looped.winner,
        looped.tally,
        looped.share,
    )
    # Counter.most_common keeps the order of first appearance on ties, as `first` does.
    keys = [Fraction(a) for a in answers if a not in (None, "", "none")]
    expected = Counter(keys).most_common()
    assert [(Fraction(row.key), row.ballots) for row in listed.tally] == expected
    assert listed.winner == (str(expected[0][0]) if expected else None)


@given(st.lists(st.tuples(st.integers(0, 2), st.integers(0, 3)), max_size=30), st.randoms())
def test_a_batch_of_tokens_equals_single_tokens(rows, rng):
    batched, single = Voter(latency="max"), Voter(latency="max")
    for v in (batched, single):
        for name in "abc":
            v.open(name)
        v.next()
    batched.tokens([q for q, _ in rows], [t for _, t in rows], None, [-1.0] * len(rows))
    rng.shuffle(rows)
    for q, t in rows:
        single.tokens([q], [t], [5], [-1.0])
    for name in "abc":
        for v in (batched, single):
            v.finish(name, 0, answer="1")
        assert batched.log(name) == single.log(name)


@given(st.fractions(max_denominator=10**6), st.integers(0, 10**6))
def test_number_keys_are_exact_rationals(x, whole):
    v = Voter()
    assert v.key_of(str(x)) == str(x)
    assert v.key_of(f"The total is {x} km.") == str(x)
    assert v.key_of(text=f"so\nThe answer is {x}.") == str(x)
    assert v.key_of(f"${whole:,}") == str(whole)
    proper = abs(x) % 1
    if proper:
        assert v.key_of(f"-{whole} {proper}") == str(-(whole + proper))


@given(
    st.decimals(allow_nan=False, allow_infinity=False, places=6, min_value=-1000, max_value=1000)
)
def test_decimals_and_exponents_agree(x):
    v = Voter()
    assert v.key_of(f"{x:f}") == v.key_of(f"{x:.12e}") == str(Fraction(x))


@given(st.text(max_size=200))
def test_no_text_makes_a_key_fail(text):
    for name in ("text", "number", "choice"):
        for fallback in ("off", "first", "last"):
            v = Voter(name, key_options={"fallback": fallback})
            key = v.key_of(text)
            v.key_of(text=text)
            if key is not None:
                assert v.key_of(key) == key


@given(st.lists(st.sampled_from("AB"), min_size=1, max_size=40), st.integers(0, 2**32))
def test_locked_never_differs_from_the_full_vote(answers, seed):
    rng = random.Random(seed)
    policy = {"key": "choice", "budget": len(answers)}
    full, q = drive(
        {**policy, "stop": "majority", "bare": True, "latency": "max"}, answers, rng.randrange
    )
    live, r = drive({**policy, "stop": "locked"}, answers, rng.randrange)
    assert full.result(q).winner == live.result(r).winner
    assert full.result(q).trace == live.result(r).trace
