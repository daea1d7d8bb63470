"""Exact extraction against all spans."""

from __future__ import annotations

import math

import numpy as np
import pytest
from trivium import GrammarMask, Vocabulary
from trivium.constrained import extract_best_first, extract_span
from trivium.errors import DeadEnd, InputError, LimitExceeded

WIDTH, EOS = 6, [4, 5]


def law(seed, prefix):
    """A law that depends on the whole prefix, with zeros."""
    rng = np.random.default_rng([seed, *prefix, len(prefix)])
    p = rng.dirichlet([0.4] * WIDTH)
    p[rng.random(WIDTH) < 0.15] = 0.0
    p[0] += 0.01
    return p / p.sum()


def spans(seed, source, longest):
    """Probability of every span with its end, by definition."""
    found = {}
    for i in range(len(source)):
        for j in range(i + 1, min(len(source), i + longest) + 1):
            p = math.prod(law(seed, source[i:k])[source[k]] for k in range(i, j))
            found[i, j] = p * sum(law(seed, source[i:j])[EOS])
    return found


def tables(seed, source, longest):
    tokens = np.full((len(source), longest), np.nan)
    ends = tokens.copy()
    with np.errstate(divide="ignore"):
        for i in range(len(source)):
            for k in range(min(longest, len(source) - i)):
                tokens[i, k] = np.log(law(seed, source[i : i + k])[source[i + k]])
                ends[i, k] = np.log(sum(law(seed, source[i : i + k + 1])[EOS]))
    return tokens, ends


def model(seed):
    def rows(prefixes):
        with np.errstate(divide="ignore"):
            return np.log(np.array([law(seed, p) for p in prefixes]))

    return rows


@pytest.mark.parametrize("seed", range(40))
def test_the_best_span_is_that_of_all_spans(seed):
    rng = np.random.default_rng(seed)
    n = int(rng.integers(1, 12))
    longest = int(rng.integers(1, n + 1))
    source = tuple(rng.integers(0, 4, n).tolist())  # few tokens: equal spans at many places
    truth = spans(seed, source, longest)
    best = max(truth.values())
    if best == 0.0:
        with pytest.raises(DeadEnd):
            extract_span(*tables(seed, source, longest))
        with pytest.raises(DeadEnd):
            extract_best_first(source, model(seed), eos=EOS, max_tokens=longest)
        return
    found = extract_span(*tables(seed, source, longest))
    assert truth[found.start, found.stop] == pytest.approx(best, rel=1e-12)
    assert found.log_prob == pytest.approx(math.log(best), abs=1e-12)
    asked = []
    for batch in (1, 3):
        prefixes = []
        span = extract_best_first(
            source,
            lambda p, seen=prefixes: seen.extend(p) or model(seed)(p),
            eos=EOS,
            max_tokens=longest,
            batch=batch,
        )
        assert truth[span.start, span.stop] == pytest.approx(best, rel=1e-12)
        assert span.log_prob == pytest.approx(math.log(best), abs=1e-12)
        assert len(set(prefixes)) == len(prefixes) == span.rows
        asked.append(span.rows)
        # The first place where these tokens occur.
        text = source[span.start : span.stop]
        assert all(source[i : i + len(text)] != text for i in range(span.start))
    assert asked[0] <= len({source[i:j] for i, j in truth}) + 1
    assert asked[0] <= asked[1]


@pytest.mark.parametrize("seed", range(20))
def test_normalised_scores_are_those_of_all_spans(seed):
    source = tuple(np.random.default_rng(seed).integers(0, 4, 9).tolist())
    truth = spans(seed, source, 5)
    scores = {(i, j): math.log(p) / (j - i + 1) for (i, j), p in truth.items() if p > 0.0}
    if not scores:
        pytest.fail("choose another seed: no span has mass")
    found = extract_span(*tables(seed, source, 5), normalise=True)
    assert scores[found.start, found.stop] == pytest.approx(max(scores.values()), abs=1e-12)


def test_a_peaked_model_is_asked_little():
    """The search reads rows along the answer; the tables take one pass a start."""
    source = tuple(range(4)) * 5

    def peaked(prefixes):
        rows = np.full((len(prefixes), WIDTH), -9.0)
        for row, prefix in zip(rows, prefixes, strict=True):
            row[EOS[0] if prefix == (2, 3, 0) else (2, 3, 0)[len(prefix) % 3]] = 9.0
        return rows

    span = extract_best_first(source, peaked, eos=EOS)
    assert source[span.start : span.stop] == (2, 3, 0)
    assert span.rows == 4


def test_the_spans_are_those_of_the_grammar():
    vocab = Vocabulary([b"a", b"b", b"c", b"d", b"", b""], eos=EOS)
    source = (0, 1, 0, 2)
    grammar = GrammarMask.spans("abac", vocab)
    for i, j in spans(0, source, 4):
        assert grammar.matches(vocab.decode(list(source[i:j])))


def test_misuse_is_refused():
    good = np.zeros((2, 2))
    for tokens, ends in [
        (np.zeros(2), np.zeros(2)),
        (good, np.zeros((2, 1))),
        (np.zeros((0, 2)), np.zeros((0, 2))),
        (good + 1.0, good),
        (good, good * np.nan),
        ([["a"]], [["b"]]),
    ]:
        with pytest.raises(InputError):
            extract_span(tokens, ends)
    for arguments in [
        ([], model(0), EOS),
        ([0], model(0), []),
        ([9], model(0), EOS),
        ([-1], model(0), EOS),
    ]:
        with pytest.raises(InputError):
            extract_best_first(arguments[0], arguments[1], eos=arguments[2])
    with pytest.raises(InputError):
        extract_best_first([0], lambda prefixes: np.zeros(WIDTH), eos=EOS)
    with pytest.raises(LimitExceeded):
        extract_best_first([0, 1, 2], model(0), eos=EOS, max_rows=1)
