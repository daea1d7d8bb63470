"""Laws of the kit's own parts: strategies keep their promises, enumerator and draws agree."""

from __future__ import annotations

import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from trivium.errors import StateError
from trivium.sampling import Pipeline
from trivium.testing import (
    SampledRng,
    assert_law,
    enumerate_law,
    sampling_law,
    strategies,
    total_variation,
)
from trivium.testing.laws import FAMILIES
from trivium.testing.masks import _compiles
from trivium.testing.shrink import round_law


@given(strategies.vocabularies())
def test_vocabularies_hold_no_empty_token(vocabulary):
    assert vocabulary
    assert all(isinstance(t, bytes) and t for t in vocabulary)


@pytest.mark.parametrize("dtype", ["float64", "float32", "float16", "bfloat16"])
@given(st.data())
@settings(max_examples=40)
def test_rows_are_finite_or_forbidden(dtype, data):
    kind = data.draw(st.sampled_from(strategies.ROW_KINDS))
    row = data.draw(strategies.logits_rows(kind=kind, dtype=dtype))
    assert row.dtype == np.dtype("float32" if dtype == "bfloat16" else dtype)
    assert not np.isnan(row).any()
    assert not np.isposinf(row).any()
    assert np.isfinite(row).any()
    if dtype == "bfloat16":
        assert not (row.view(np.uint32) & 0xFFFF).any()


@given(strategies.laws())
def test_laws_have_mass_one(law):
    assert law.min() >= 0.0
    assert abs(law.sum() - 1.0) < 1e-12


@pytest.mark.parametrize("family", FAMILIES)
@given(data=st.data())
@settings(max_examples=20)
def test_families_are_laws(family, data):
    p, q = data.draw(strategies.law_pairs(family=family))
    for law in (p, q):
        assert law.min() >= 0.0
        assert abs(law.sum() - 1.0) < 1e-12
    assert len(p) == len(q) >= 2


@given(strategies.trees())
def test_trees_are_topological_without_duplicate_siblings(tree):
    tokens, parents = tree
    assert parents[0] == -1
    assert all(0 <= parent < i for i, parent in enumerate(parents) if i)
    siblings = list(zip(parents, tokens, strict=True))
    assert len(set(siblings)) == len(siblings)


@given(strategies.trees(chain=True, duplicates=True))
def test_chains_are_chains(tree):
    assert tree[1] == list(range(-1, len(tree[0]) - 1))


@given(strategies.seeds())
def test_seeds_have_64_bits(seed):
    assert 0 <= seed < 2**64


@given(strategies.logits_rows(), strategies.params())
def test_processed_laws_are_laws(row, params):
    law = sampling_law(row, **params.law())
    assert abs(law.sum() - 1.0) < 1e-9
    assert law[np.argmax(row)] > 0.0
    assert not law[np.isneginf(row)].any()
    shifted = sampling_law(row.astype(np.float64) + 3.0, **params.law())
    assert np.abs(np.sort(law) - np.sort(shifted)).max() < 1e-6 or params.top_p < 1 or params.min_p


@given(strategies.pipelines())
def test_pipelines_are_plain_data(steps):
    assert all(name in ("temperature", "top_k", "top_p", "min_p") for name, _ in steps)


@given(
    st.recursive(
        st.integers(0, 5),
        lambda inner: st.lists(st.tuples(st.integers(1, 5), inner), min_size=1, max_size=3),
        max_leaves=8,
    ),
    st.integers(0, 1000),
)
@settings(max_examples=30)
def test_enumerated_laws_are_those_of_draws(tree, seed):
    def walk(rng, node=tree):
        while isinstance(node, list):
            node = node[rng.categorical([w for w, _ in node])][1]
        return node

    law = enumerate_law(walk)
    assert abs(sum(law.values()) - 1.0) < 1e-12
    rng, counts = SampledRng(seed), {}
    for _ in range(300):
        out = walk(rng)
        counts[out] = counts.get(out, 0) + 1
    assert_law(counts, law)


@given(strategies.laws(), st.integers(1, 100))
def test_rounded_laws_are_laws_with_no_new_support(law, parts):
    rounded = round_law(tuple(law), parts)
    assert abs(sum(rounded) - 1.0) < 1e-9
    assert all(r == 0.0 for r, p in zip(rounded, law, strict=True) if p == 0.0)


@given(strategies.laws(3), strategies.laws(3))
def test_total_variation_is_a_metric_of_laws(a, b):
    a, b = dict(enumerate(a)), dict(enumerate(b))
    assert total_variation(a, b) == total_variation(b, a)
    assert 0.0 <= total_variation(a, b) <= 1.0 + 1e-12
    assert total_variation(a, a) == 0.0


@given(st.text("ab()*+?|[]", max_size=7))
def test_shrunk_patterns_are_patterns(pattern):
    if _compiles(pattern):
        re.compile(pattern)


@settings(max_examples=150)
@given(
    strategies.built_pipelines(vocab=12),
    strategies.logits_rows(size=12),
    st.lists(st.integers(0, 11), max_size=12),
    strategies.seeds(),
)
def test_built_pipelines_are_laws(pipeline, row, history, seed):
    """Any pipeline on any row: same data again, a law, nothing removed comes back, a kept token."""
    again = Pipeline.from_json(pipeline.to_json())
    assert (again, again.stable_hash) == (pipeline, pipeline.stable_hash)
    row = np.asarray(row, np.float32)
    call = {"history": history, "prompt_len": len(history) // 2, "seed": seed, "index": 7}
    try:
        out = pipeline.process(row, **call)
    except StateError:  # masks left nothing
        return
    assert not np.isnan(out).any()
    assert out.max() > -np.inf
    assert (out[np.isneginf(row)] == -np.inf).all()
    law = np.exp((out - out.max()).astype(np.float64))
    token, log_prob = pipeline.sample(row, **call)[:2]
    assert out[token] > -np.inf
    assert log_prob <= 1e-5
    if "mirostat" not in [step["rule"] for step in pipeline.steps]:
        assert log_prob == pytest.approx(np.log(law[token] / law.sum()), abs=1e-3)
