"""Canvases against all their fillings on small vocabularies."""

from __future__ import annotations

import itertools
import re

import numpy as np
import pytest
from trivium import GrammarMask, Vocabulary
from trivium.constrained import Canvas
from trivium.errors import InputError, LimitExceeded, TokenError, UnsupportedPattern
from trivium.testing import Enumerator

EOS = 4
VOCAB = Vocabulary([b"(", b")", b"a", b"()", b""], eos=[EOS])
MASK = -1

RULES = {
    "brackets": 'root ::= "(" root ")" root | ""',
    "left": 'root ::= root "a" | "("',
    "palindrome": 'root ::= "(" root "(" | ")" root ")" | "a" | ""',
    "ambiguous": 'root ::= root root | "a" | "(" root ")"',
    "empty": 'root ::= x "a" x   x ::= "" | "(" x',
}
GRAMMARS = {name: GrammarMask.grammar(rules, VOCAB) for name, rules in RULES.items()}
GRAMMARS["regular"] = GrammarMask.regex(r"(\(a*\))+", VOCAB)
GRAMMARS["union"] = GRAMMARS["brackets"] | GrammarMask.choices(["a(a", "aa"], VOCAB)
GRAMMARS["sequence"] = GRAMMARS["palindrome"].then(GrammarMask.regex("a?", VOCAB))


def fillings(canvas):
    """Everything that the masked positions can be, ends included."""
    choices = [range(5) if t == MASK else [t] for t in canvas]
    return itertools.product(*choices)


def text_of(tokens):
    """The text of full tokens, None if something stands behind its end."""
    body = list(itertools.takewhile(lambda t: t != EOS, tokens))
    if any(t != EOS for t in tokens[len(body) :]):
        return None
    return VOCAB.decode(body)


@pytest.fixture(scope="module")
def languages():
    """Membership of every text of at most 8 bytes."""
    return {
        name: {
            text
            for n in range(9)
            for text in map(bytes, itertools.product(b"()a", repeat=n))
            if g.matches(text)
        }
        for name, g in GRAMMARS.items()
    }


@pytest.mark.parametrize("name", GRAMMARS)
def test_exact_canvases_are_those_with_a_filling(name, languages):
    canvas = Canvas(GRAMMARS[name], lengths="exact")
    bytes_canvas = Canvas(GRAMMARS[name], lengths="bytes")
    free_canvas = Canvas(GRAMMARS[name])
    open_canvas = Canvas(GRAMMARS[name], lengths="exact", open_end=True)
    language = languages[name]
    prefixes = {t[:i] for t in language for i in range(len(t) + 1)}
    rng = np.random.default_rng(0)
    yes = no = 0
    for n in range(5):
        cases = list(itertools.product(range(-1, 5), repeat=n))
        if len(cases) > 200:
            cases = [cases[i] for i in rng.choice(len(cases), 200, replace=False)]
        for tokens in cases:
            texts = [text_of(full) for full in fillings(tokens)]
            want = any(t in language for t in texts if t is not None)
            assert canvas.completable(tokens) == want, tokens
            if want:  # what can be filled is never refused
                assert bytes_canvas.completable(tokens)
                assert free_canvas.completable(tokens)
            # Behind the canvas a text may go on, unless it has ended.
            going = [VOCAB.decode(list(full)) for full in fillings(tokens) if EOS not in full]
            longer = any(t in prefixes for t in going if len(t) <= 4)
            if EOS in tokens or longer or want:
                assert open_canvas.completable(tokens) == (want or (longer and EOS not in tokens))
            yes, no = yes + want, no + (not want)
    assert yes > 20
    assert no > 20


@pytest.mark.parametrize("name", GRAMMARS)
def test_free_canvases_are_those_with_a_text(name, languages):
    canvas = Canvas(GRAMMARS[name], lengths="free")
    rng = np.random.default_rng(1)
    checked = 0
    for _ in range(250):
        tokens = rng.choice(
            [MASK, 0, 1, 2, 3], size=rng.integers(0, 6), p=[0.4, 0.2, 0.2, 0.1, 0.1]
        )
        # As a pattern over texts: words in order, anything in the gaps.
        parts = [".*" if t == MASK else VOCAB.token(int(t)).decode() for t in tokens]
        pattern = "".join(p if p == ".*" else "".join(f"[{c}]" for c in p) for p in parts)
        want = any(re.fullmatch(pattern, t.decode()) for t in languages[name])
        found = canvas.completable(tokens.astype(np.int32))
        if want:
            assert found, tokens
        elif found:
            # Only a text longer than those enumerated can be meant; the words leave room for it.
            assert MASK in tokens
            longest = max(map(len, languages[name]), default=0)
            assert longest == 8 or name in ("left", "empty")
        checked += want != found
    assert checked < 25


def test_bytes_need_a_byte_a_position_and_at_most_a_token(languages):
    g = GrammarMask.choices(["(a)", "(aaaaaaaa)"], VOCAB)
    canvas = Canvas(g, lengths="bytes")
    assert canvas.completable([0, MASK, 1])
    assert not canvas.completable([0, MASK, MASK, 1])  # free length would say yes
    assert Canvas(g, lengths="free").completable([0, MASK, MASK, 1])
    assert canvas.completable([0, *[MASK] * 8, 1])
    assert canvas.completable([0, *[MASK] * 4, 1])  # two bytes a token, though no token is "aa"
    assert not Canvas(g, lengths="exact").completable([0, *[MASK] * 4, 1])
    assert not canvas.completable([0, *[MASK] * 3, 1])


@pytest.mark.parametrize("seed", range(3))
def test_unmasking_in_any_order_ends_in_the_language(seed):
    rng = np.random.default_rng(seed)
    g = GRAMMARS["ambiguous"]
    canvas = Canvas(g, lengths="exact")
    for size in (1, 3, 6, 9):
        tokens = [MASK] * size
        assert canvas.completable(tokens)
        for position in rng.permutation(size).tolist():
            placed = canvas.place(tokens, position, rng.normal(size=5), rng=rng)
            assert placed.token is not None
            tokens[position] = placed.token
            assert canvas.completable(tokens)
        assert g.matches(text_of(tokens))


def test_draws_have_the_law_given_completability_by_enumeration():
    canvas = Canvas(GRAMMARS["brackets"], lengths="exact")
    tokens = [0, MASK, MASK, 1]
    p = np.array([0.1, 0.2, 0.4, 0.2, 0.1])
    good = [canvas.completable([0, t, MASK, 1]) for t in range(5)]
    assert 0 < sum(good) < 5
    law, rng = np.zeros(5), Enumerator()
    while True:
        rng.begin()
        token = canvas.place(tokens, 1, np.log(p), rng=rng).token
        law[token] += rng.probability
        if not rng.advance():
            break
    np.testing.assert_allclose(law, np.where(good, p, 0) / p[good].sum())
    best = canvas.place(tokens, 1, np.log(p))
    assert best.token == max((t for t in range(5) if good[t]), key=lambda t: p[t])
    assert best.mass == pytest.approx(
        sum(p[t] for t in range(5) if not good[t] and p[t] > p[best.token])
    )


def test_a_position_that_nothing_fits_is_reported():
    canvas = Canvas(GrammarMask.choices(["aa"], VOCAB), lengths="exact")
    placed = canvas.place([2, MASK], 1, [0.0, 0.0, -np.inf, 0.0, 0.0], rng=0)
    assert placed.token is None
    assert placed.mass == pytest.approx(1.0)
    placed = canvas.place([2, MASK], 1, [5.0, 4.0, 0.0, 0.0, 0.0], cap=2)
    assert (placed.token, placed.tests) == (None, 2)


def test_special_tokens_are_symbols():
    vocab = Vocabulary([b"a", b"", b"b", b""], eos=[3], special={1: "<|call|>"})
    g = GrammarMask.grammar('root ::= "a" <|call|> "b" | "ab"', vocab)
    for lengths in ("free", "bytes", "exact"):
        canvas = Canvas(g, lengths=lengths)
        assert canvas.completable([0, 1, 2])
        assert canvas.completable([0, MASK, 2])
        assert canvas.completable([0, 2])
        assert not canvas.completable([1, MASK, 2])
        assert not canvas.completable([0, 1, MASK, MASK, 1])


def test_misuse_and_limits():
    canvas = Canvas(GRAMMARS["brackets"])
    for position in (0, 5, -1):
        with pytest.raises(InputError, match="masked"):
            canvas.place([0, MASK], position, np.zeros(5))
    with pytest.raises(TokenError):
        canvas.completable([7])
    with pytest.raises(InputError, match="lengths"):
        Canvas(GRAMMARS["brackets"], lengths="some")
    with pytest.raises(InputError):
        Canvas("grammar")
    with pytest.raises(UnsupportedPattern, match="JSON"):
        Canvas(GrammarMask.json_schema({}, VOCAB))
    with pytest.raises(UnsupportedPattern, match="Lark"):
        Canvas(GrammarMask.grammar('start: "(" start ")" | "a"', VOCAB, syntax="lark"))
    with pytest.raises(UnsupportedPattern, match="checker"):
        Canvas(GrammarMask.checker(lambda text, complete: True, VOCAB))
    with pytest.raises(LimitExceeded, match="max_items"):
        Canvas(GRAMMARS["ambiguous"], lengths="bytes", max_items=20).completable([MASK] * 9)
    with pytest.raises(LimitExceeded, match="max_states"):
        Canvas(GRAMMARS["ambiguous"], lengths="exact", max_states=30).completable([MASK] * 30)


def test_a_long_canvas_is_decided():
    vocab = Vocabulary([bytes([b]) for b in range(256)] + [b""], eos=[256])
    rules = """root ::= item ("," item)*   item ::= "[" root "]" | "{" root "}" | [a-z]+ | [0-9]+"""
    canvas = Canvas(GrammarMask.grammar(rules, vocab))
    text = list(b"[a,[b,{c,1}],dd],{[1,2],x}")
    tokens = ([*text, ord(",")]) * 8 + text
    rng = np.random.default_rng(0)
    hidden = rng.choice(len(tokens), len(tokens) // 2, replace=False)
    for i in hidden:
        tokens[i] = MASK
    assert canvas.completable(tokens)
    known = [i for i, t in enumerate(tokens) if t == ord("[")]
    tokens[known[0] : known[0] + 2] = list(b"[]")
    assert not canvas.completable(tokens)
