"""Sequential Monte Carlo: the mean weight by enumeration of every draw and resampling."""

from __future__ import annotations

import math

import numpy as np
import pytest
from trivium import GrammarMask, Vocabulary
from trivium.constrained import Particles
from trivium.constrained.smc import _systematic
from trivium.errors import InputError, StateError
from trivium.testing import Enumerator

EOS = 2
VOCAB = Vocabulary([b"a", b"b", b""], eos=[EOS])
GRAMMAR = GrammarMask.choices(["a", "ab", "bb"], VOCAB)
TEXTS = {(0, EOS), (0, 1, EOS), (1, 1, EOS)}


def model(prefix):
    return np.random.default_rng([3, *prefix, len(prefix)]).multinomial(8, [0.3, 0.4, 0.3]) / 8


def rows(particles):
    with np.errstate(divide="ignore"):
        logs = [np.log(model(tuple(t))) for t in particles.tokens]
    # Rows of complete texts are not read.
    ends = particles.finished
    return np.stack([np.full(3, np.nan) if f else r for r, f in zip(logs, ends, strict=True)])


def probability(text):
    return math.prod(model(text[:i])[t] for i, t in enumerate(text))


def checker(prefix, token, texts=TEXTS):
    return any(text[: len(prefix) + 1] == (*prefix, token) for text in texts)


SHORT = {(0, EOS), (1, EOS)}


def short_checker(prefix, token):
    return checker(prefix, token, SHORT)


def expectations(make, steps=4):
    """E[mean weight], E[mean weight of each text], share of paths that resampled."""
    rng, evidence, by_text, resampled, total = Enumerator(), 0.0, {}, 0.0, 0.0
    while True:
        rng.begin()
        particles, again = make(rng), False
        for _ in range(steps):
            if not particles.done:
                ancestors = particles.step(rows(particles))
                again |= ancestors.tolist() != list(range(len(particles)))
        total += rng.probability
        resampled += rng.probability * again
        evidence += rng.probability * math.exp(particles.log_evidence)
        for i in np.flatnonzero(particles.finished):
            text, share = particles.tokens[i], rng.probability / len(particles)
            share *= math.exp(particles.log_weights[i])
            by_text[tuple(text)] = by_text.get(tuple(text), 0.0) + share
        if not rng.advance():
            break
    assert total == pytest.approx(1.0, abs=1e-9)
    return evidence, by_text, resampled


@pytest.mark.parametrize(
    ("n", "share", "constraint"),
    [(1, 0.5, GRAMMAR), (2, 1.0, GRAMMAR), (3, 1.0, GRAMMAR), (3, 0.6, GRAMMAR), (2, 0.0, GRAMMAR),
     (1, 0.5, checker), (2, 1.0, short_checker)],
    ids=lambda v: getattr(v, "__name__", None) or str(v)[:12],
)  # fmt: skip
def test_the_mean_weight_is_the_mass_of_the_language_by_enumeration(n, share, constraint):
    options = {} if constraint is GRAMMAR else {"eos": [EOS]}
    texts = SHORT if constraint is short_checker else TEXTS
    evidence, by_text, resampled = expectations(
        lambda rng: Particles(constraint, n, rng=rng, resample_below=share, **options)
    )
    truth = {t: probability(t) for t in texts if probability(t) > 0.0}
    assert len(truth) > 1
    assert evidence == pytest.approx(sum(truth.values()), abs=1e-12)
    assert by_text.keys() == truth.keys()
    for text, p in truth.items():
        assert by_text[text] == pytest.approx(p, abs=1e-12)
    assert (resampled > 0.0) == (n > 1 and share > 0.0)


def test_a_limit_of_steps_counts_complete_texts_only():
    evidence, by_text, _ = expectations(
        lambda rng: Particles(GRAMMAR, 2, rng=rng, resample_below=1.0), steps=2
    )
    assert by_text.keys() == {(0, EOS)}
    assert evidence == pytest.approx(probability((0, EOS)), abs=1e-12)


@pytest.mark.parametrize("seed", range(20))
def test_systematic_resampling_has_its_expectation_by_enumeration(seed):
    seeds = np.random.default_rng(seed)
    n = int(seeds.integers(1, 9))
    w = seeds.integers(0, 5, n) / 4 + (np.arange(n) == 0)
    with np.errstate(divide="ignore"):
        log_weights = np.log(w)
    rng, counts = Enumerator(), np.zeros(n)
    while True:
        rng.begin()
        heirs = np.bincount(_systematic(log_weights, rng), minlength=n)
        assert (np.abs(heirs - n * w / w.sum()) < 1.0 + 1e-9).all()
        counts += rng.probability * heirs
        if not rng.advance():
            break
    np.testing.assert_allclose(counts, n * w / w.sum(), atol=1e-12)


def test_many_particles_meet_the_law_and_seeds_reproduce():
    """The estimate's relative error falls as 1/sqrt(n): 5 standard errors of its own spread."""
    truth = sum(probability(t) for t in TEXTS)
    runs = []
    for seed in range(30):
        particles = Particles(GRAMMAR, 64, rng=seed)
        while not particles.done:
            particles.step(rows(particles))
        runs.append(math.exp(particles.log_evidence))
        assert all(tuple(particles.tokens[i]) in TEXTS for i in np.flatnonzero(particles.finished))
    error = abs(np.mean(runs) - truth)
    assert error <= 5 * np.std(runs, ddof=1) / math.sqrt(len(runs)) + 1e-12
    again = Particles(GRAMMAR, 64, rng=29)
    while not again.done:
        again.step(rows(again))
    assert math.exp(again.log_evidence) == runs[-1]


@pytest.mark.parametrize("seed", range(5))
def test_heirs_of_one_text_go_separate_ways(seed):
    grammar = GrammarMask.regex("(ab|ba){4}", VOCAB)
    particles = Particles(grammar, 16, rng=seed, resample_below=1.0)
    resampled = 0
    while not particles.done:
        before = [list(t) for t in particles.tokens]
        ancestors = particles.step(rows(particles) * 0.1)
        resampled += len(set(ancestors.tolist())) < 16
        for text, a in zip(particles.tokens, ancestors, strict=True):
            assert text[: len(before[a])] == before[a]
    assert resampled >= 2
    assert particles.finished.any()
    for i in np.flatnonzero(particles.finished):
        assert grammar.matches(VOCAB.decode(particles.tokens[i]))


def test_texts_without_mass_die_and_are_replaced():
    with np.errstate(divide="ignore"):
        start, dead, end = np.log([[0.5, 0.5, 0.0], [1.0, 0.0, 0.0], [0.0, 1.0, 0.0]])
    particles = Particles(GrammarMask.choices(["ab", "bb"], VOCAB), 8, rng=0)
    particles.step(np.tile(start, (8, 1)))
    assert {t[0] for t in particles.tokens} == {0, 1}
    particles.step(np.stack([dead if t[0] == 0 else end for t in particles.tokens]))
    survivors = np.flatnonzero(particles.log_weights > -np.inf)
    assert len(survivors)
    assert all(particles.tokens[i] == [1, 1] for i in survivors)
    particles = Particles(GrammarMask.choices(["ab"], VOCAB), 2, rng=0)
    particles.step(np.tile(end, (2, 1)))
    assert particles.done
    assert particles.log_evidence == -math.inf
    assert particles.ess == 0.0
    with pytest.raises(StateError):
        particles.step(np.tile(end, (2, 1)))


def test_misuse_is_refused_and_changes_nothing():
    for arguments, options in [
        (("grammar", 2), {}),
        ((GRAMMAR, 0), {}),
        ((GRAMMAR, 2), {"resample_below": 1.5}),
        ((GRAMMAR, 2), {"eos": [2]}),
        ((checker, 2), {}),
        ((checker, 2), {"eos": [2], "max_rejects": 0}),
    ]:
        with pytest.raises(InputError):
            Particles(*arguments, rng=0, **options)

    def fails(prefix, token):
        raise ZeroDivisionError

    particles = Particles(fails, 2, rng=0, eos=[2])
    with pytest.raises(ZeroDivisionError):
        particles.step(np.zeros((2, 3)))
    for bad in (np.zeros(3), np.zeros((3, 3)), np.full((2, 3), np.nan)):
        with pytest.raises(InputError):
            particles.step(bad)
    assert particles.tokens == [[], []]
