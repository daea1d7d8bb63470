"""ASAp against exact masses of completions on toy models."""

from __future__ import annotations

import contextlib
import math

import numpy as np
import pytest
from trivium import GrammarMask, Vocabulary
from trivium.constrained import Asap
from trivium.errors import InputError, LimitExceeded, StateError
from trivium.testing import Enumerator

EOS = 3
VOCAB = Vocabulary([b"a", b"b", b"ab", b""], eos=[EOS])
TEXTS = ["b", "ab", "aab", "bba", "abab"]
GRAMMAR = GrammarMask.choices(TEXTS, VOCAB)
SEQUENCES = 10  # tokenisations of TEXTS, each with its end


def model(prefix):
    """A law in eighths that depends on the whole prefix; some tokens have probability 0."""
    rng = np.random.default_rng([7, *prefix, len(prefix)])
    return rng.multinomial(8, [0.3, 0.3, 0.2, 0.2]) / 8


def logits(prefix):
    with np.errstate(divide="ignore"):
        return np.log(model(prefix))


def followers(prefix):
    m = GRAMMAR.matcher()
    assert m.commit(list(prefix)) == len(prefix)
    return [t for t in range(4) if m.allows(t)]


def exact(prefix=()):
    if prefix and prefix[-1] == EOS:
        return 1.0
    return sum(model(prefix)[t] * exact((*prefix, t)) for t in followers(prefix))


def prefixes(prefix=()):
    yield prefix
    if not prefix or prefix[-1] != EOS:
        for t in followers(prefix):
            yield from prefixes((*prefix, t))


def sample(asap, rng):
    walk = asap.walk(rng=rng)
    while not walk.done:
        walk.step(logits(tuple(walk.tokens)))
    return walk


def law(asap, prefix=(), mass=1.0):
    """Law of the next sample by its definition, from the estimates alone."""
    if prefix and prefix[-1] == EOS:
        return {prefix: mass}
    weights = {t: model(prefix)[t] * asap.estimate((*prefix, t)) for t in followers(prefix)}
    total = sum(weights.values())
    found = {}
    for t, w in weights.items():
        if w > 0.0:
            found |= law(asap, (*prefix, t), mass * w / total)
    return found


def wanted():
    complete = [s for s in prefixes() if s and s[-1] == EOS]
    assert len(complete) == SEQUENCES
    p = {s: math.prod(model(s[:i])[t] for i, t in enumerate(s)) for s in complete}
    total = sum(p.values())
    assert total == pytest.approx(exact(), abs=1e-12)
    return {s: q / total for s, q in p.items() if q > 0.0}


def distance(a, b):
    return sum(abs(a.get(k, 0.0) - b.get(k, 0.0)) for k in a.keys() | b.keys()) / 2


def test_estimates_never_fall_below_the_exact_mass_and_meet_it():
    asap, rng = Asap(GRAMMAR), np.random.default_rng(0)
    truth = {s: exact(s) for s in prefixes()}
    before = {s: asap.estimate(s) for s in truth}
    assert set(before.values()) == {1.0}
    for _ in range(300):
        sample(asap, rng)
        now = {s: asap.estimate(s) for s in truth}
        assert all(now[s] >= truth[s] - 1e-12 for s in truth)
        assert all(now[s] <= before[s] + 1e-12 for s in truth)
        before = now
    # Complete: every prefix that the model can reach was visited.
    target = wanted()
    reached = {s[:i] for s in target for i in range(len(s) + 1)}
    for s in reached:
        assert asap.estimate(s) == pytest.approx(truth[s], abs=1e-12)
    assert distance(law(asap), target) == pytest.approx(0.0, abs=1e-12)


def test_every_sample_carries_what_it_learned_to_the_root():
    asap, rng, visited = Asap(GRAMMAR), np.random.default_rng(1), set()
    for _ in range(30):
        tokens = tuple(sample(asap, rng).tokens)
        visited |= {tokens[:i] for i in range(len(tokens))}
        for s in visited:
            parts = [model(s)[t] * asap.estimate((*s, t)) for t in followers(s)]
            assert asap.estimate(s) == pytest.approx(sum(parts), abs=1e-12)


def test_the_distance_to_the_wanted_law_falls_to_zero():
    target = wanted()
    means = []
    # The first few samples may move away: only the estimates are monotone.
    for samples in (0, 20, 200):
        distances = []
        for seed in range(10):
            asap, rng = Asap(GRAMMAR), np.random.default_rng(seed)
            for _ in range(samples):
                sample(asap, rng)
            distances.append(distance(law(asap), target))
        means.append(np.mean(distances))
    assert means[0] > 0.05
    assert means == sorted(means, reverse=True)
    assert means[-1] < 1e-12


@pytest.mark.parametrize("earlier", [0, 1, 3, 200])
def test_samples_have_their_law_and_weights_are_unbiased_by_enumeration(earlier):
    rng, found, weighed = Enumerator(), {}, {}
    expected = None
    while True:
        asap, seeds = Asap(GRAMMAR), np.random.default_rng(5)
        for _ in range(earlier):
            sample(asap, seeds)
        expected = law(asap) if expected is None else expected
        rng.begin()
        walk = sample(asap, rng)
        key = tuple(walk.tokens)
        found[key] = found.get(key, 0.0) + rng.probability
        if walk.finished:
            weighed[key] = weighed.get(key, 0.0) + rng.probability * math.exp(walk.log_weight)
        if not rng.advance():
            break
    assert distance({k: v for k, v in found.items() if k[-1] == EOS}, expected) < 1e-12
    target = wanted()
    assert weighed.keys() == target.keys()
    for s, q in target.items():
        assert weighed[s] == pytest.approx(q * exact(), abs=1e-12)


def test_a_prefix_without_mass_is_learned():
    asap = Asap(GrammarMask.choices(["ab", "b"], VOCAB))
    rows = {(): [0.5, 0.5, 0.0, 0.0], (0,): [1.0, 0.0, 0.0, 0.0], (1,): [0.0, 0.0, 0.0, 1.0]}
    with np.errstate(divide="ignore"):
        rows = {k: np.log(v) for k, v in rows.items()}
    for seed in range(20):
        walk = asap.walk(rng=seed)
        while not walk.done:
            walk.step(rows[tuple(walk.tokens)])
    assert asap.estimate([0]) == 0.0
    assert asap.estimate() == 0.5
    assert walk.tokens == [1, EOS]
    assert asap.estimate([EOS]) == 0.0


def test_the_trie_is_bounded_and_still_an_over_estimate():
    asap, rng = Asap(GRAMMAR, max_nodes=3), np.random.default_rng(0)
    for _ in range(50):
        sample(asap, rng)
    assert len(asap) == 3
    assert all(asap.estimate(s) >= exact(s) - 1e-12 for s in prefixes())


def test_misuse_is_refused():
    with pytest.raises(InputError):
        Asap("grammar")
    with pytest.raises(InputError):
        Asap(GRAMMAR, max_nodes=0)
    walk = Asap(GRAMMAR).walk(rng=0)
    for bad in ([[0.0] * 4], [np.nan] * 4, [-np.inf] * 4):
        with pytest.raises(InputError):
            walk.step(bad)
    assert walk.tokens == []
    walk.close()
    with pytest.raises(StateError):
        walk.step([0.0] * 4)


def test_a_saved_trie_goes_on_as_the_one_kept(tmp_path):
    kept = Asap(GRAMMAR)
    for i in range(40):
        sample(kept, i)
    kept.save(tmp_path / "trie.npz")
    again = Asap.load(tmp_path / "trie.npz", GRAMMAR)
    assert len(again) == len(kept)
    for prefix in prefixes():
        assert again.estimate(prefix) == kept.estimate(prefix)
    for i in range(100, 130):
        a, b = sample(kept, i), sample(again, i)
        assert (a.tokens, a.log_weight) == (b.tokens, b.log_weight)
    assert again.estimate() == kept.estimate()


def test_a_trie_of_another_vocabulary_or_a_damaged_one_is_refused(tmp_path):
    path = tmp_path / "trie.npz"
    asap = Asap(GRAMMAR)
    for i in range(10):
        sample(asap, i)
    asap.save(path)
    other = Vocabulary([b"a", b"b", b"abb", b""], eos=[3])
    with pytest.raises(InputError, match="vocabulary"):
        Asap.load(path, GrammarMask.choices(["a"], other))
    with pytest.raises(LimitExceeded):
        Asap.load(path, GRAMMAR, max_nodes=2)
    with pytest.raises(InputError):
        Asap.load(tmp_path / "none.npz", GRAMMAR)
    with pytest.raises(InputError):
        asap.save(tmp_path / "none" / "trie.npz")
    data = path.read_bytes()
    rng = np.random.default_rng(0)
    for _ in range(60):
        bad = bytearray(data)
        for at in rng.integers(0, len(bad), 4):
            bad[at] ^= int(rng.integers(1, 256))
        path.write_bytes(bytes(bad[: rng.integers(1, len(bad) + 1)]))
        with contextlib.suppress(InputError):
            assert Asap.load(path, GRAMMAR).estimate() <= 1.0
    asap.save(tmp_path / "good.npz")
    with np.load(tmp_path / "good.npz") as file:
        good = {name: file[name] for name in file}
    for name, value in (
        ("parents", good["parents"][::-1]),
        ("numbers", good["numbers"] + 1.5),
        ("numbers", good["numbers"] * np.nan),
        ("tokens", good["tokens"] + 100),
        ("format", np.array("other")),
        ("tokens", good["tokens"] * 0),
    ):
        np.savez(path, **{**good, name: value})
        with pytest.raises(InputError):
            Asap.load(path, GRAMMAR)
