"""The kit: enumerator, statistics, checks, shrinking; planted bugs are caught, no false alarms."""

from __future__ import annotations

import doctest
import importlib
import json
import math
import pkgutil
import random
import sys
from functools import partial

import numpy as np
import pytest
from trivium import testing
from trivium.errors import InputError, LimitError, MissingExtraError
from trivium.testing import (
    EngineParams,
    EngineProblem,
    MaskProblem,
    NotEnumerable,
    Params,
    SampledRng,
    allowed_tokens,
    assert_law,
    check_engine,
    check_mask,
    check_sampler,
    check_verifier,
    chi_square,
    engine_law,
    enumerate_law,
    law_evidence,
    models,
    planted,
    reference,
    sampling_law,
    total_variation,
    tv_bound,
)
from trivium.testing.chance import Enumerator
from trivium.testing.statistics import chi_square_tail


class TestEnumerator:
    def test_a_two_step_procedure_has_its_product_law(self):
        def run(rng):
            a = rng.categorical([1.0, 0.0, 3.0])
            return a, a == 2 and rng.bernoulli(1, 5)

        law = enumerate_law(run)
        want = {(0, False): 0.25, (2, True): 0.15, (2, False): 0.6}
        assert total_variation(law, want) < 1e-15
        assert len(law) == 3, "impossible branches are not walked"

    def test_certain_choices_do_not_branch(self):
        assert enumerate_law(lambda r: r.bernoulli(2, 1)) == {True: 1.0}
        assert enumerate_law(lambda r: r.bernoulli(0, 1)) == {False: 1.0}
        assert enumerate_law(lambda r: r.bernoulli(1, 0)) == {True: 1.0}
        assert enumerate_law(lambda r: r.bernoulli(0, 0)) == {False: 1.0}

    @pytest.mark.parametrize("draw", [lambda r: r.random(), lambda r: r.row(0).argmin()])
    def test_continuous_draws_are_refused(self, draw):
        with pytest.raises(NotEnumerable):
            enumerate_law(draw)

    def test_a_swallowed_refusal_is_noticed(self):
        def run(rng):
            try:
                return rng.random() < 0.5
            except Exception:
                return False

        with pytest.raises(NotEnumerable):
            enumerate_law(run)

    def test_randomness_from_elsewhere_is_noticed(self):
        other = random.Random(1)
        with pytest.raises(NotEnumerable):
            enumerate_law(lambda rng: [rng.bernoulli(other.random()) for _ in range(4)] and 0)

    def test_work_is_bounded(self):
        with pytest.raises(LimitError):
            enumerate_law(lambda r: sum(r.bernoulli(1, 2) for _ in range(20)), max_paths=1000)

    @pytest.mark.parametrize(
        "draw",
        [
            lambda r: r.categorical([]),
            lambda r: r.categorical([0.0, 0.0]),
            lambda r: r.categorical([1.0, -1.0]),
            lambda r: r.categorical([math.nan, 1.0]),
            lambda r: r.categorical([math.inf, 1.0]),
            lambda r: r.bernoulli(math.nan, 1.0),
            lambda r: r.bernoulli(-1.0, 1.0),
            lambda r: r.bernoulli(1.0, math.inf),
        ],
    )
    @pytest.mark.parametrize("make", [Enumerator, partial(SampledRng, 0, 3)])
    def test_bad_weights_are_typed_errors(self, draw, make):
        with pytest.raises(InputError):
            draw(make())

    def test_sampled_draws_repeat_and_have_their_law(self):
        first, second = SampledRng(7, 4), SampledRng(7, 4)
        weights = [0.0, 1.0, 2.0, 0.0, 5.0]
        draws = [first.categorical(weights) for _ in range(20_000)]
        assert draws == [second.categorical(weights) for _ in range(20_000)]
        counts = {k: draws.count(k) for k in set(draws)}
        assert_law(counts, {k: w / 8 for k, w in enumerate(weights)})

    def test_rows_repeat_within_a_run_only(self):
        rng = SampledRng(0, 5)
        first = rng.row("x")
        assert np.array_equal(first, rng.row("x"))
        first[:] = 0.0
        assert rng.row("x").min() > 0.0
        before = rng.row("x")
        rng.begin()
        assert not np.array_equal(before, rng.row("x"))


class TestStatistics:
    def test_chi_square_tail_matches_tables(self):
        for statistic, free, tail in [
            (3.841458820694124, 1, 0.05),
            (18.307038053275146, 10, 0.05),
            (23.209251158954356, 10, 0.01),
            (1.0, 2, math.exp(-0.5)),
            (60.0, 2, math.exp(-30.0)),
        ]:
            assert chi_square_tail(statistic, free) == pytest.approx(tail, rel=1e-9)

    def test_impossible_outcomes_are_certain(self):
        found = law_evidence({0: 1000, 2: 1}, {0: 0.5, 1: 0.5})
        assert found.p_value == 0.0
        assert found.worst == 2
        assert chi_square({0: 1000, 2: 1}, {0: 0.5, 1: 0.5})[2] == 0.0

    def test_the_bound_is_a_bound(self):
        # Exact binomial tails of one cell: the p-value must never be below the truth.
        n, p = 40, 0.3
        pmf = [math.comb(n, k) * p**k * (1 - p) ** (n - k) for k in range(n + 1)]
        p_values = [law_evidence({0: k, 1: n - k}, {0: p, 1: 1 - p}).p_value for k in range(n + 1)]
        for threshold in p_values:
            size = sum(w for w, v in zip(pmf, p_values, strict=True) if v <= threshold)
            assert size <= threshold * (1 + 1e-9)

    def test_a_bias_of_two_per_cent_is_found(self):
        n = 100_000
        with pytest.raises(AssertionError, match="worst outcome 0"):
            assert_law({0: int(0.52 * n), 1: int(0.48 * n)}, {0: 0.5, 1: 0.5})
        assert_law({0: int(0.503 * n), 1: int(0.497 * n)}, {0: 0.5, 1: 0.5})

    def test_no_draws_and_no_law_are_errors(self):
        with pytest.raises(InputError):
            law_evidence({}, {0: 1.0})
        with pytest.raises(InputError):
            law_evidence({0: 1}, {0: 0.5})

    def test_tv_bound_covers(self):
        rng = SampledRng(3)
        law = dict.fromkeys(range(4), 0.25)
        for _ in range(20):
            counts = dict.fromkeys(range(4), 0)
            for _ in range(500):
                counts[rng.categorical([1, 1, 1, 1])] += 1
            assert law_evidence(counts, law).tv < tv_bound(500, 4)


class TestLaws:
    def test_sampling_law_fixture(self):
        p = np.array([0.5, 0.25, 0.15, 0.07, 0.03])
        z = np.log(p)
        for options, kept in [
            ({"top_k": 2}, 2),
            ({"top_p": 0.8}, 3),
            ({"min_p": 0.2}, 3),
            ({"temperature": 2.0, "top_p": 0.8}, 4),
            ({"temperature": 0.0}, 1),
        ]:
            assert (sampling_law(z, **options) > 0).sum() == kept, options

    def test_engine_law_of_end_tokens(self):
        model = models.target()
        problem = EngineProblem((1,), EngineParams(max_new_tokens=3, eos_token_id=2))
        law = engine_law(model, problem)
        assert sum(law.values()) == pytest.approx(1.0, abs=1e-12)
        assert all(2 not in text[:-1] for text in law)
        assert min(map(len, law)) == 1


CORRECT = [
    reference.leviathan,
    reference.block,
    reference.sampled,
    reference.multi_round,
    reference.recursive_rejection,
]


@pytest.mark.parametrize("fn", CORRECT, ids=lambda f: f.__name__)
def test_correct_verifiers_pass_by_enumeration(fn):
    result = check_verifier(fn, quick=True)
    assert result.ok, result.report()
    assert result.method == "enumerated"
    assert result.error_probability == 0.0
    assert result.worst_tv < 1e-12


def test_sampled_verify_suits_every_draft():
    for draft in ("chain", "with_replacement", "without_replacement", "deterministic"):
        assert check_verifier(reference.sampled, draft=draft, quick=True), draft


def test_a_race_and_uniforms_pass_by_draws():
    for fn in (reference.leviathan_uniform, reference.shared_race):
        result = check_verifier(fn, quick=True)
        assert result.ok, result.report()
        assert result.method == "sampled"
        assert result.error_probability == 1e-9


def test_a_verifier_with_its_own_randomness_is_sampled():
    own = np.random.default_rng(5)

    def verifier(tree, p, q, rng):
        out, at = [], 0
        while at is not None:
            out.append(int(own.choice(len(p[at]), p=p[at])))
            at = tree.child(at, out[-1])
        return out

    result = check_verifier(verifier, quick=True)
    assert result.ok, result.report()
    assert result.method == "sampled"


@pytest.mark.parametrize(
    "fn", [reference.categorical_sampler, reference.cdf_sampler, reference.race_sampler]
)
def test_correct_samplers_pass(fn):
    result = check_sampler(fn, quick=True)
    assert result.ok, result.report()


def test_correct_engines_pass():
    target, draft = models.target(), models.draft()
    for engine in (
        partial(reference.plain_engine, target),
        partial(reference.speculative_engine, target, draft),
    ):
        result = check_engine(engine, quick=True)
        assert result.ok, result.report()


def _our_engine(sources, draw, prompt, seed, params):
    """Generate with this library's own speculator on the kit's model."""
    from trivium import Speculator

    model = models.target()
    spec = Speculator(model.vocab, sources=sources, max_nodes=8, policy="full")
    req = spec.start(prompt, seed=seed, draw=draw)
    out = []
    while len(out) < params.max_new_tokens and params.eos_token_id not in out:
        batch = spec.propose([req])
        rows = model.tree([*prompt, *out][:-1], batch.tokens, batch.parents)
        step = spec.verify(batch, logits=rows, **params.law())
        spec.commit(step)
        out += step.tokens.tolist()
    out = out[: params.max_new_tokens]
    if params.eos_token_id in out:
        out = out[: out.index(params.eos_token_id) + 1]
    return out


@pytest.mark.parametrize("draw", ["cdf", "race"])
def test_our_own_engine_passes_and_keeps_the_path(draw):
    result = check_engine(
        partial(_our_engine, ["suffix", "recycle"], draw),
        plain=partial(_our_engine, [], draw),
        texts=1000,
        name="speculator",
    )
    assert result.ok, result.report()


@pytest.mark.parametrize(
    ("name", "law", "draft"),
    [
        ("sampled", "point_mass", "deterministic"),
        ("token", "iid", "chain"),
        ("block", "iid", "chain"),
        ("multi_round", "iid", "with_replacement"),
        ("k_seq", "iid", "with_replacement"),
        ("recursive", "without_replacement", "without_replacement"),
        ("traversal", "without_replacement", "without_replacement"),
    ],
)
def test_our_own_verifiers_pass_from_outside(name, law, draft):
    """The shipped build, with its own noise; the enumeration in Rust is the stronger test."""
    from trivium import _core

    verify_tree = _core.verify_tree

    def verifier(tree, p, q, rng):
        seed = int(rng.random() * 2**53)
        rows = None if law == "point_mass" else q.astype(np.float32)
        out = verify_tree(name, tree.tokens, tree.parents, p.astype(np.float32), rows, law, seed, 1)
        return out[0].tolist(), out[2].tolist()

    result = check_verifier(verifier, draft=draft, smallest=1e-30, quick=True, name=name)
    assert result.ok, result.report()


def test_path_equality_of_an_engine():
    plain = partial(reference.plain_engine, models.target())
    assert check_engine(plain, plain=plain, texts=200)
    other = partial(reference.speculative_engine, models.target(), models.draft())
    result = check_engine(other, plain=plain, texts=200)
    assert not result
    assert "in the plain loop" in result.report()


def test_brute_force_masks_pass_in_every_form():
    def booleans(problem, prefix):
        row = np.zeros(len(problem.vocabulary), dtype=bool)
        row[sorted(allowed_tokens(problem))] = True
        return row

    def words(problem, prefix):
        row = np.zeros((len(problem.vocabulary) + 31) // 32, dtype=np.uint32)
        for t in allowed_tokens(problem):
            row[t // 32] |= np.uint32(1 << (t % 32))
        return row.view(np.int32)

    assert check_mask(booleans)
    assert check_mask(words)


def test_our_own_masks_pass():
    from trivium import GrammarMask, Vocabulary

    def mask(problem, prefix):
        vocab = Vocabulary(list(problem.vocabulary), eos=[problem.eos])
        matcher = GrammarMask.regex(problem.pattern, vocab).matcher()
        assert matcher.commit(list(prefix)) == len(prefix)
        row = np.zeros((len(problem.vocabulary) + 31) // 32, dtype=np.int32)
        matcher.fill(row)
        return row

    result = check_mask(mask, quick=True)
    assert result.ok, result.report()


def test_a_language_of_ones_own():
    def even(text):
        return len(text) % 2 == 0

    words = [b"a", b"aa", b""]
    right = check_mask(
        lambda prefix: {0, 1} | ({2} if sum(1 + (t == 1) for t in prefix) % 2 == 0 else set()),
        language=even,
        vocabulary=words,
        eos=2,
        alphabet=b"a",
    )
    assert right.ok, right.report()
    wrong = check_mask(lambda _: {0, 1, 2}, language=even, vocabulary=words, eos=2, alphabet=b"a")
    assert not wrong


@pytest.mark.parametrize("bug", planted.catalogue(), ids=lambda b: f"{b.kind}-{b.name}")
def test_every_planted_bug_is_caught(bug):
    result = bug.run()
    assert not result.ok, f"{bug.name} survived: {bug.summary}"
    assert bug.summary.endswith((".", ":")), "a docstring names the bug class"
    json.dumps(result.as_dict(), allow_nan=False)
    assert result.counterexample.why in result.report()


def test_the_catalogue_holds_every_released_bias():
    assert sum(bug.released for bug in planted.VERIFIERS) >= 15
    names = [bug.name for bug in planted.catalogue()]
    assert len(set(names)) == len(names)


def test_counterexamples_are_minimal_and_show_both_laws():
    result = check_verifier(planted.VERIFIERS[0].fn)
    found = result.counterexample
    assert found.problem["vocabulary"] == 2
    assert found.problem["widths"] == (1,)
    assert found.tv == pytest.approx(0.5)
    assert sum(found.expected.values()) == pytest.approx(1.0)
    assert sum(found.got.values()) == pytest.approx(1.0)
    assert "expected" in result.report()
    assert "came out" in result.report()
    with pytest.raises(AssertionError):
        result.raise_if_failed()


def test_results_are_a_function_of_the_seed():
    bug = next(b for b in planted.SAMPLERS if b.name == "cdf_of_unsorted_ids")
    first, second = (
        check_sampler(bug.fn, quick=True, seed=3, shrink_seconds=0.0) for _ in range(2)
    )
    assert first.counterexample.got == second.counterexample.got


@pytest.mark.parametrize(
    ("fn", "why"),
    [
        (lambda tree, p, q, rng: [], "emitted nothing"),
        (lambda tree, p, q, rng: [0] * 9, "emitted 9 tokens"),
        (lambda tree, p, q, rng: [99], "outside the vocabulary"),
        (lambda tree, p, q, rng: 1 / 0, "raised ZeroDivisionError"),
        (lambda tree, p, q, rng: p.fill(0) or [0], "changed the target rows"),
    ],
)
def test_broken_contracts_are_named(fn, why):
    result = check_verifier(fn, quick=True)
    assert not result
    assert why in result.counterexample.why


def test_bad_options_are_typed_errors():
    with pytest.raises(InputError):
        check_verifier(reference.leviathan, draft="nope")
    with pytest.raises(InputError):
        check_verifier(reference.leviathan, seed=-1)
    with pytest.raises(InputError):
        check_engine(lambda *_: [], features=("wings",))
    with pytest.raises(InputError):
        check_engine(lambda *_: [], texts=0)
    with pytest.raises(InputError):
        check_mask(lambda _: set(), language=bool)


def test_params_work_as_a_mapping():
    assert dict(**Params(top_k=3)) == {
        "temperature": 1.0,
        "top_k": 3,
        "top_p": 1.0,
        "min_p": 0.0,
    }
    assert EngineParams()["max_new_tokens"] == 3


def test_models_agree_with_themselves():
    model = models.target()
    rows = model.forward([3, 1, 4])
    assert np.array_equal(rows[1], model.logits([3, 1]))
    tree = model.tree([3], [1, 4, 0], [-1, 0, 0])
    assert np.array_equal(tree[1], model.logits([3, 1, 4]))
    with pytest.raises(InputError):
        model.logits([])


def test_strategies_need_hypothesis_only_when_made(monkeypatch):
    monkeypatch.setitem(sys.modules, "hypothesis", None)
    with pytest.raises(MissingExtraError, match="pip install"):
        testing.strategies.seeds()


def test_allowed_tokens_of_a_known_language():
    problem = MaskProblem("a(a|b)*b", (b"a", b"b", b"ab", b"<eos>"), 3)
    assert allowed_tokens(problem) == {0, 2}
    after = MaskProblem("a(a|b)*b", (b"a", b"b", b"ab", b"<eos>"), 3, (2,))
    assert allowed_tokens(after) == {0, 1, 2, 3}


@pytest.mark.parametrize("name", [m.name for m in pkgutil.walk_packages(testing.__path__)])
def test_examples_in_docstrings(name):
    module = importlib.import_module(f"trivium.testing.{name}")
    assert doctest.testmod(module).failed == 0


@pytest.mark.parametrize(
    "seed", [0, *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(1, 12))]
)
def test_no_false_alarms(seed):
    for fn in (*CORRECT, reference.leviathan_uniform, reference.shared_race):
        assert check_verifier(fn, seed=seed, quick=True), (fn, seed)
    for fn in (reference.categorical_sampler, reference.cdf_sampler, reference.race_sampler):
        assert check_sampler(fn, seed=seed, quick=True), (fn, seed)
    target, draft = models.target(seed), models.draft(seed)
    for engine in (
        partial(reference.plain_engine, target),
        partial(reference.speculative_engine, target, draft),
    ):
        assert check_engine(engine, model=target, seed=seed, quick=True), seed
    assert check_mask(lambda problem, _: allowed_tokens(problem), seed=seed)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(1, 4))
def test_planted_bugs_are_caught_whatever_the_seed(seed):
    survivors = [bug.name for bug, result in planted.run_all(seed=seed) if result.ok]
    assert survivors == []
