"""Every rule against its definition in numpy float64, on random rows."""

from __future__ import annotations

import numpy as np
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st
from trivium.sampling import Pipeline

LOGIT = st.one_of(
    st.floats(-10, 10, width=32),
    st.sampled_from([-np.inf, 0.0, 1.0, 1e-42]),
)
ROWS = st.lists(LOGIT, min_size=1, max_size=150).filter(lambda r: max(r) > -np.inf)


def law(z):
    z = np.asarray(z, dtype=np.float64)
    with np.errstate(divide="ignore"):
        p = np.exp(z - z.max())
    return p / p.sum()


def entropy(p):
    q = p[p > 0]
    return float(-(q * np.log(q)).sum())


def prefix(p, order, share):
    """Boolean mask of the smallest prefix of `order` with `share` of the mass."""
    n = int(np.searchsorted(np.cumsum(p[order]), share) + 1)
    mask = np.zeros(len(p), bool)
    mask[order[:n]] = True
    return mask


def top_k(z, k):
    return z >= np.sort(z)[::-1][min(k, len(z)) - 1]


def top_p(z, share):
    return prefix(law(z), np.lexsort((np.arange(len(z)), -z)), share)


def min_p(z, m):
    p = law(z)
    return p >= m * p.max()


def typical(z, mass):
    p = law(z)
    with np.errstate(divide="ignore"):
        deviation = np.abs(-np.log(p) - entropy(p))
    return prefix(p, np.lexsort((np.arange(len(z)), -z, deviation)), mass)


def epsilon(z, eps):
    p = law(z)
    return (p >= eps) | (z == z.max())


def eta(z, eps):
    p = law(z)
    return (p >= min(eps, np.sqrt(eps) * np.exp(-entropy(p)))) | (z == z.max())


def top_n_sigma(z, n):
    return z >= z.max() - n * z[np.isfinite(z)].std()


def top_h(z, h):
    best = np.lexsort((np.arange(len(z)), -z))[:100]
    p = law(z[best])
    with np.errstate(divide="ignore", invalid="ignore"):
        terms = np.where(p > 0, -p * np.log(p), 0)
    n = max(1, int((np.cumsum(terms) <= h * terms.sum()).sum()))
    mask = np.zeros(len(z), bool)
    mask[best[:n]] = True
    return mask


TWINS = {
    "top_p": top_p,
    "min_p": min_p,
    "typical": typical,
    "epsilon": epsilon,
    "eta": eta,
    "top_n_sigma": top_n_sigma,
    "top_h": top_h,
}


@example([-0.0, 0.0], "top_p", 0.25)  # equals, whatever their sign
@example([-0.0, 0.0], "top_h", 0.25)
@given(ROWS, st.sampled_from(sorted(TWINS)), st.floats(0.03125, 0.9375, width=32))
@settings(max_examples=400)
def test_truncations_equal_their_definitions(row, name, value) -> None:
    z = np.array(row, dtype=np.float32).astype(np.float64)
    got = np.isfinite(Pipeline(**{name: value}).process(np.float32(z)))
    # A boundary within float32 rounding may go either way: the answer lies between two nudged
    # definitions wherever those are nested.
    masks = [TWINS[name](z, value * f) & np.isfinite(z) for f in (1 - 1e-5, 1.0, 1 + 1e-5)]
    if (masks[0] == masks[1]).all() and (masks[1] == masks[2]).all():
        if name in ("typical", "top_h", "top_p") and len(np.unique(z)) < len(z):
            # Equals in rounding may swap: compare the values that are kept, not the ids.
            np.testing.assert_allclose(np.sort(z[got]), np.sort(z[masks[1]]), atol=1e-4)
        else:
            np.testing.assert_array_equal(got, masks[1])
    assert got.any()


@given(ROWS, st.integers(1, 160))
def test_top_k_keeps_ties(row, k) -> None:
    z = np.array(row, dtype=np.float32)
    got = np.isfinite(Pipeline(top_k=k).process(z))
    np.testing.assert_array_equal(got, top_k(z, k) & np.isfinite(z))
    strict = np.isfinite(Pipeline(top_k={"k": k, "ties": False}).process(z))
    assert strict.sum() == min(k, np.isfinite(z).sum())


@given(ROWS, st.integers(0, 2**64 - 1), st.integers(0, 2**31 - 1), st.integers(0, 2**31 - 1))
def test_cdf_draw_equals_its_definition(row, seed, index, branch) -> None:
    z = np.array(row, dtype=np.float32)
    token, logprob = Pipeline().sample(z, seed=seed, index=index, branch=branch)
    p = law(z)
    u = uniform(seed, index, branch)
    cumulative = np.cumsum(p)
    assume(np.abs(cumulative - u).min() > 1e-6)
    assert token == int(np.searchsorted(cumulative, u, side="right"))
    np.testing.assert_allclose(logprob, np.log(p[token]), atol=2e-6)


def uniform(seed: int, index: int, branch: int) -> float:
    """Scalar 0 of purpose 0: Philox4x32-10, written from the specification."""
    c = [0, index, 0, branch]
    k = [seed & 0xFFFFFFFF, seed >> 32]
    for step in range(10):
        if step:
            k = [(k[0] + 0x9E3779B9) & 0xFFFFFFFF, (k[1] + 0xBB67AE85) & 0xFFFFFFFF]
        p0, p1 = c[0] * 0xD2511F53, c[2] * 0xCD9E8D57
        c = [
            (p1 >> 32) ^ c[1] ^ k[0],
            p1 & 0xFFFFFFFF,
            (p0 >> 32) ^ c[3] ^ k[1],
            p0 & 0xFFFFFFFF,
        ]
    return ((c[0] >> 5) * 2**26 + (c[1] >> 6)) * 2.0**-53


HISTORY = st.lists(st.integers(0, 9), max_size=80)


@given(HISTORY, st.integers(0, 80), st.floats(0.5, 2, width=32), st.data())
def test_penalties_equal_their_definitions(history, split, r, data) -> None:
    z = np.array(data.draw(st.lists(st.floats(-9, 9, width=32), min_size=10, max_size=10)))
    split = min(split, len(history))
    call = {"history": history, "prompt_len": split}
    want = z.copy()
    for t in set(history):
        want[t] = want[t] * r if want[t] < 0 else want[t] / r
    got = Pipeline(repetition_penalty=r).process(z, **call)
    np.testing.assert_allclose(got, want, rtol=1e-6, atol=1e-6)
    f, g = data.draw(st.floats(-1, 1, width=32)), data.draw(st.floats(-1, 1, width=32))
    counts = np.bincount(history[split:], minlength=10)[:10]
    got = Pipeline(frequency_penalty=f, presence_penalty=g).process(z, **call)
    np.testing.assert_allclose(got, z - counts * f - (counts > 0) * g, rtol=1e-5, atol=1e-5)
    w = data.draw(st.integers(0, 90))
    forgetting = {"penalty": r, "window": w, "length": 0.7, "target": 30, "eos": [0]}
    want = z.copy()
    for t in set(history[split:][max(0, len(history) - split - w) :]) if w else set():
        want[t] = want[t] * r if want[t] < 0 else want[t] / r
    want[0] -= 0.7 * max(0, 1 - (len(history) - split) / 30)
    got = Pipeline(penalty_decoding=forgetting).process(z, **call)
    np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-5)
