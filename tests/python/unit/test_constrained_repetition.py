"""The grammar-based penalty against its detectors' definitions; exclusion against divergences."""

from __future__ import annotations

import itertools
import math
import re

import numpy as np
import pytest
from trivium import GrammarMask, Vocabulary
from trivium.constrained import StructuralPenalty, idle
from trivium.errors import DeadEnd, InputError, StateError, TokenError

EOS = 7
VOCAB = Vocabulary([b"x", b"y", b"=", b"1", b"2", b"\n", b"if ", b""], eos=[EOS])


def literal(tokens, longest):
    """Shortest r whose last block equals the one before; blocks before the last that do."""
    for r in range(1, longest + 1):
        if len(tokens) >= 2 * r and tokens[-r:] == tokens[-2 * r : -r]:
            n = 0
            while tokens[len(tokens) - r * (n + 2) : len(tokens) - r * (n + 1)] == tokens[-r:]:
                n += 1
                if len(tokens) < r * (n + 2):
                    break
            return tokens[-r], n
    return None


def types(line):
    kinds = {"x": "name", "y": "name", "1": "number", "2": "number", "if": "if", "=": "="}
    # Digits behind a letter belong to the name, and so on: as a lexer reads them.
    found = re.findall(r"\\d[\\w.]*|if\\b|[^\\W\\d]\\w*|=".replace("\\\\", "\\"), line)
    return tuple(kinds.get(f, "number" if f[0].isdigit() else "name") for f in found)


def structural(tokens, longest):
    """The token that began the shortest repeated unit of lines, by definition."""
    text, owner = "", []
    for i, t in enumerate(tokens):
        piece = VOCAB.token(t).decode()
        text += piece
        owner += [i] * len(piece)
    if not text.endswith("\n"):
        return None
    lines, at = [], 0
    for line in text.split("\n")[:-1]:
        if types(line):
            lines.append((types(line), owner[at]))
        at += len(line) + 1
    for r in range(1, longest + 1):
        kinds = [k for k, _ in lines]
        if len(kinds) >= 2 * r and kinds[-r:] == kinds[-2 * r : -r]:
            return tokens[lines[-r][1]]
    return None


def test_detectors_are_their_definitions():
    rng = np.random.default_rng(3)
    seen = {"literal": 0, "structural": 0}
    for _ in range(150):
        penalty = StructuralPenalty(VOCAB, max_tokens=8, max_lines=3)
        tokens = []
        for _ in range(40):
            if len(tokens) >= 4 and rng.random() < 0.3:
                size = int(rng.integers(1, 5))
                more = tokens[-size:]
            else:
                more = [int(rng.integers(0, 7))]
            penalty.commit(more)
            tokens += more
            found = {f.kind: f for f in penalty.found()}
            want = literal(tokens, 8)
            assert (None if want is None else found["literal"][:2]) == want
            unit = structural(tokens, 3)
            assert ("structural" in found) == (unit is not None)
            if unit is not None:
                assert found["structural"].token == unit
                assert found["structural"].times >= 1
            for kind in found:
                seen[kind] += 1
    assert min(seen.values()) > 100


def test_counts_grow_with_each_repetition_of_a_unit():
    penalty = StructuralPenalty(VOCAB)
    counts = []
    for i in range(5):
        penalty.commit([i % 2, 2, 3 + i % 2, 5])  # x=1, y=2, x=1, ..
        counts += [f.times for f in penalty.found() if f.kind == "structural"]
    assert counts == [1, 2, 3, 4]
    penalty.commit([6, 0, 5])  # another line: nothing repeats
    assert [f for f in penalty.found() if f.kind == "structural"] == []


def test_rows_are_lowered_on_log_probabilities_and_renormalised():
    rng = np.random.default_rng(0)
    penalty = StructuralPenalty(VOCAB, starters=[0, 1])
    row = rng.normal(size=8) - 20.0
    np.testing.assert_allclose(penalty.apply(row), row - np.logaddexp.reduce(row))
    penalty.commit([0, 2, 3, 5, 1, 2, 4, 5])
    [found] = penalty.found()
    assert (found.token, found.times) == (1, 1)
    want = row - np.logaddexp.reduce(row)
    want[1] += math.log(0.9)
    want[EOS] -= math.log(0.8)
    np.testing.assert_allclose(penalty.apply(row), want - np.logaddexp.reduce(want))
    assert penalty.apply(row)[1] < (row - np.logaddexp.reduce(row))[1]


def test_a_loop_ends_that_greedy_decoding_would_not_leave():
    line = [0, 2, 3, 5]

    def row(n):
        logits = np.zeros(8)
        logits[line[n % 4]] = 3.0
        logits[EOS] = 1.0
        return logits

    plain = [int(row(n).argmax()) for n in range(200)]
    assert EOS not in plain
    penalty = StructuralPenalty(VOCAB, starters=[0])
    tokens = []
    while len(tokens) < 200 and (not tokens or tokens[-1] != EOS):
        token = int(penalty.apply(row(len(tokens))).argmax())
        tokens.append(token)
        penalty.commit(token)
    assert tokens[-1] == EOS
    assert len(tokens) < 60


def test_verbs_obey_their_laws():
    rng = np.random.default_rng(1)
    for _ in range(30):
        tokens = rng.integers(0, 7, 30).tolist()
        penalty = StructuralPenalty(VOCAB)
        penalty.commit(tokens[:20])
        before = penalty.found()
        twin = penalty.fork()
        penalty.commit(tokens[20:])
        assert twin.found() == before
        penalty.rollback(10)
        assert penalty.found() == before
        penalty.sync(tokens)
        fresh = StructuralPenalty(VOCAB)
        fresh.commit(tokens)
        assert penalty.found() == fresh.found()
        assert len(penalty) == 30
        with pytest.raises(StateError):
            penalty.rollback(31)
        with pytest.raises(TokenError):
            penalty.commit([0, 99])
        assert penalty.found() == fresh.found()
    for bad in ({"decay": 0.0}, {"lexemes": [("a", "(")]}, {"max_lines": 0}):
        with pytest.raises(InputError):
            StructuralPenalty(VOCAB, **bad)
    with pytest.raises(InputError):
        StructuralPenalty(VOCAB).apply(np.zeros(3))


# ---- (G)I-DLE ------------------------------------------------------------------------------------


def divergence(q, p):
    return sum(a * math.log(a / b) for a, b in zip(q, p, strict=True) if a > 0)


def test_the_law_is_the_closest_on_the_allowed_tokens():
    rng = np.random.default_rng(0)
    for mask in itertools.product([False, True], repeat=4):
        mask = np.array(mask)
        p = rng.dirichlet(np.ones(4))
        if not mask.any():
            with pytest.raises(DeadEnd):
                idle(np.log(p), mask)
            continue
        out = idle(np.log(p), mask)
        q = np.exp(out.log_probs)
        assert divergence(q, p) == pytest.approx(out.divergence)
        for _ in range(50):
            other = np.where(mask, rng.dirichlet(np.ones(4)), 0)
            assert divergence(other / other.sum(), p) >= out.divergence - 1e-12


def top_p(share, temperature):
    def process(row):
        p = np.exp(row / temperature)
        p /= p.sum()
        order = np.argsort(-p, kind="stable")
        keep = order[np.cumsum(p[order]) - p[order] < share]
        out = np.full(len(row), -np.inf)
        out[keep] = row[keep] / temperature
        return out

    return process


def test_the_order_decides_what_truncation_sees():
    p = np.array([0.5, 0.2, 0.15, 0.1, 0.05])
    mask = np.array([False, True, True, True, True])
    process = top_p(0.7, 1.0)
    first = np.exp(idle(np.log(p), mask, process=process).log_probs)
    np.testing.assert_allclose(first, [0, 4 / 7, 3 / 7, 0, 0])  # 0.4 and 0.3 of what is allowed
    last = np.exp(idle(np.log(p), mask, process=process, order="last").log_probs)
    np.testing.assert_allclose(last, [0, 1, 0, 0, 0])
    with pytest.raises(DeadEnd, match="exclude first"):
        idle(np.log(p), mask, process=top_p(0.4, 1.0), order="last")
    warm = [idle(np.log(p), mask, process=lambda r: r / 2, order=o) for o in ("first", "last")]
    np.testing.assert_allclose(warm[0].log_probs, warm[1].log_probs)


def test_a_matcher_is_a_constraint_and_misuse_is_refused():
    m = GrammarMask.regex("x=[12]", VOCAB).matcher()
    m.commit([0, 2])
    out = idle(np.zeros(8), m)
    np.testing.assert_allclose(np.exp(out.log_probs)[[3, 4]], 0.5)
    assert out.divergence == pytest.approx(math.log(4))
    for bad in (np.ones(3, bool), np.ones(8)):
        with pytest.raises(InputError):
            idle(np.zeros(8), bad)
    with pytest.raises(InputError):
        idle(np.zeros(8), m, order="middle")
    with pytest.raises(InputError):
        idle(np.zeros(8), m, process=lambda r: r[:2])
