"""Adaptive weighted rejection sampling: every random choice enumerated."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from trivium.constrained import awrs
from trivium.errors import InputError
from trivium.testing import Enumerator

LAWS = [
    [0.5, 0.3, 0.2],
    [0.1, 0.2, 0.3, 0.4],
    [0.7, 0.1, 0.1, 0.1],
    [0.25, 0.0, 0.5, 0.25],
    [1.0, 0.0],
]


def expected_weights(p, mask, **options):
    """E[weight * 1(token = v)] for each v, over every path."""
    rng, means, total = Enumerator(), np.zeros(len(p)), 0.0
    with np.errstate(divide="ignore"):
        logits = np.log(p)
    while True:
        rng.begin()
        asked = []
        out = awrs(logits, lambda t, a=asked: a.append(t) or mask[t], rng=rng, **options)
        assert len(set(asked)) == len(asked) == out.tests
        total += rng.probability
        if out.token is None:
            assert out.log_weight == -math.inf
        else:
            assert mask[out.token]
            means[out.token] += rng.probability * math.exp(out.log_weight)
        if not rng.advance():
            break
    assert total == pytest.approx(1.0, abs=1e-12)
    return means


@pytest.mark.parametrize("p", LAWS)
@pytest.mark.parametrize(
    "options",
    [
        {"form": "recursive"},
        {"form": "recursive", "max_rejects": 1},
        {"form": "recursive", "max_rejects": 2},
        {"form": "geometric", "max_rejects": 1},
        {"form": "geometric", "max_rejects": 4},
        {"form": "geometric", "max_accepts": 3, "max_rejects": 3},
        {"max_rejects": 3},
    ],
    ids=str,
)
def test_weights_are_unbiased_by_enumeration(p, options):
    for mask in itertools.product([False, True], repeat=len(p)):
        means = expected_weights(p, mask, **options)
        np.testing.assert_allclose(means, np.where(mask, p, 0.0), atol=1e-12, err_msg=str(mask))


def test_tokens_that_cannot_pass_are_not_asked_and_still_weigh():
    p, mask = [0.4, 0.3, 0.2, 0.1], [True, False, True, True]
    keep = np.array([False, True, True, True])
    for form in ("recursive", "geometric"):
        means = expected_weights(p, mask, form=form, keep=keep, max_rejects=4)
        np.testing.assert_allclose(means, [0.0, 0.0, 0.2, 0.1], atol=1e-12)
    rng = np.random.default_rng(0)
    assert awrs(np.log(p), lambda t: True, rng=rng, keep=~keep).token == 0
    nothing = awrs([0.0, -np.inf], lambda t: True, rng=rng, keep=np.array([False, True]))
    assert nothing.token is None
    assert nothing.tests == 0


def test_auto_takes_the_form_that_asks_less():
    # One accepted token of mass 0.9: the geometric form asks once, the recursive one twice.
    logits = np.log([0.9, 0.1])
    rng = Enumerator()
    rng.begin()
    assert awrs(logits, lambda t: True, rng=rng).tests == 1
    rng.begin()
    rng = Enumerator()
    assert awrs(logits, lambda t: True, rng=rng, form="recursive").tests == 2


def test_a_generator_reproduces_and_never_draws_what_has_no_mass():
    logits = np.array([0.0, -np.inf, 1.0, -np.inf])
    draws = [
        [
            awrs(logits, lambda t: t in (0, 1, 3), rng=np.random.default_rng(s)).token
            for s in range(200)
        ]
        for _ in range(2)
    ]
    assert draws[0] == draws[1]
    assert set(draws[0]) <= {0, None}


@pytest.mark.parametrize(
    "bad",
    [
        {"logits": [[0.0, 1.0]]},
        {"logits": [0.0, np.nan]},
        {"logits": [-np.inf, -np.inf]},
        {"logits": "ab"},
        {"max_accepts": 1},
        {"max_rejects": 0},
        {"max_rejects": 1.5},
        {"form": "other"},
        {"keep": [True]},
        {"rng": -1},
        {"rng": "seed"},
    ],
    ids=str,
)
def test_bad_input_is_refused(bad):
    arguments = {"logits": [0.0, 1.0], "rng": np.random.default_rng(0), **bad}
    with pytest.raises(InputError):
        awrs(arguments.pop("logits"), lambda t: True, **arguments)
