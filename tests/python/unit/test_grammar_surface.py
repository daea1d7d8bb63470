"""Around masks: cancel, cache, holes, reasons, forced text, weights, states, progress."""

from __future__ import annotations

import itertools
import json
import os
import subprocess
import sys
import threading
import time

import numpy as np
import pytest
from trivium import GrammarMask, Vocabulary
from trivium.constrained import TokenAutomaton
from trivium.errors import (
    Cancelled,
    InputError,
    InvalidGrammar,
    LimitExceeded,
    UnsupportedError,
)
from trivium.grammar import Cancel, GrammarCache, GrammarTemplate

BYTES = Vocabulary([bytes([b]) for b in range(256)] + [b""], eos=[256])
EOS = 5
SMALL = Vocabulary([b"a", b"b", b"ab", b"ba", b"abb", b""], eos=[EOS])

# Subsets of keys that exclude each other in pairs: a product of many cells.
SLOW = json.dumps(
    {"anyOf": [{"required": [f"k{i}", f"k{i + 1}"], "minProperties": i} for i in range(14)],
     "oneOf": [{"required": [f"m{i}"], "maxProperties": 20 + i} for i in range(14)]}
)  # fmt: skip


def allowed(matcher, width=6):
    row = np.zeros(matcher.words, np.int32)
    matcher.fill(row)
    return [t for t in range(width) if row[t >> 5] >> (t & 31) & 1]


# ---- cancel and time -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "compile_",
    [
        lambda **b: GrammarMask.regex("a{2,30}b", BYTES, **b),
        lambda **b: GrammarMask.grammar('root ::= "a" root | "b"', BYTES, **b),
        lambda **b: GrammarMask.json_schema({"type": "array"}, BYTES, **b),
        lambda **b: GrammarMask.choices(["a", "b"], BYTES, **b),
        lambda **b: GrammarMask.phrases(BYTES, must=["a"], **b),
        lambda **b: GrammarMask.spans("abc", BYTES, **b),
        lambda **b: GrammarMask.after("x", GrammarMask.regex("a", BYTES), **b),
    ],
)
def test_a_set_flag_ends_every_constructor(compile_):
    flag = Cancel()
    assert compile_(cancel=flag) is not None
    flag.set()
    assert flag.is_set()
    with pytest.raises(Cancelled) as error:
        compile_(cancel=flag)
    assert isinstance(error.value, LimitExceeded)
    assert compile_(cancel=None) is not None
    with pytest.raises(InputError, match="cancel"):
        compile_(cancel=True)
    with pytest.raises(TypeError, match="max_moments"):
        compile_(max_moments=3)


def test_a_schema_stops_at_its_time_and_at_the_flag():
    options = {"max_cells": 10_000_000, "max_bytes": 1 << 30}
    start = time.perf_counter()
    with pytest.raises(LimitExceeded, match="max_ms") as error:
        GrammarMask.json_schema(SLOW, BYTES, max_ms=50, **options)
    assert not isinstance(error.value, Cancelled)
    assert time.perf_counter() - start < 2.0
    flag = Cancel()
    threading.Timer(0.05, flag.set).start()
    start = time.perf_counter()
    with pytest.raises(Cancelled):
        GrammarMask.json_schema(SLOW, BYTES, max_ms=60_000, cancel=flag, **options)
    assert time.perf_counter() - start < 5.0


# ---- the cache -----------------------------------------------------------------------------------


def test_equal_grammars_are_compiled_once():
    cache = GrammarCache()
    a = cache.json_schema({"type": "integer"}, BYTES)
    assert cache.json_schema({"type": "integer"}, BYTES) is a
    assert cache.json_schema('{"type": "integer"}', BYTES) is a
    assert cache.json_schema({"type": "integer"}, BYTES, order="any") is not a
    assert cache.regex("a+", BYTES) is not cache.regex("a+", SMALL)
    assert cache.regex("a+", BYTES) is not cache.regex("a+", BYTES, max_ms=5)
    assert cache.regex("a+", BYTES, cancel=Cancel()) is cache.regex("a+", BYTES)
    assert cache.choices(["a"], BYTES) is cache.choices(["a"], BYTES)
    assert (len(cache), cache.misses) == (6, 6)
    assert cache.memory() > 0
    cache.clear()
    assert len(cache) == 0


def test_the_order_of_members_is_part_of_the_key():
    cache = GrammarCache()
    one = cache.json_schema({"properties": {"a": {}, "b": {}}}, BYTES)
    two = cache.json_schema({"properties": {"b": {}, "a": {}}}, BYTES)
    assert one is not two
    assert two.matches('{"b": 1, "a": 2}')
    assert not one.matches('{"b": 1, "a": 2}')


def test_the_least_recent_go_at_the_bound():
    size = 2 * GrammarCache().regex("a{50}", BYTES).report().automaton_bytes
    cache = GrammarCache(max_bytes=3 * size)
    kept = cache.regex("a{50}", BYTES)
    for n in range(20):
        cache.regex(f"b{{{n + 50}}}", BYTES)
        assert cache.regex("a{50}", BYTES) is kept  # asked for again and again
    assert cache.memory() <= 3 * size
    assert 1 < len(cache) < 21
    # What grows by use counts, too.
    m = kept.matcher()
    while not m.is_accepting():
        m.fill(np.zeros(m.words, np.int32))
        m.commit(ord("a"))
    before = len(cache)
    assert cache.memory() <= 3 * size
    assert len(cache) < before


def test_threads_wait_for_one_compile():
    cache = GrammarCache()
    schema = {"type": "array", "items": {"enum": list(range(300))}}
    found, errors = [], []
    barrier = threading.Barrier(6)

    def work(pattern):
        barrier.wait()
        found.append(cache.json_schema(schema, BYTES))
        try:
            cache.regex(pattern, BYTES)
        except InvalidGrammar as e:
            errors.append(e)

    threads = [threading.Thread(target=work, args=("(",)) for _ in range(6)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert len(set(map(id, found))) == 1
    assert len(errors) == 6
    assert len(cache) == 1  # errors are not kept


# ---- holes ---------------------------------------------------------------------------------------

RULES = {
    "ebnf": """root ::= "@choices(no)" ":" @choices(city) tail?   # @choices(comment)
               tail ::= [@choices(x)] @choices(city)""",
    "lark": """start: "@choices(no)" ":" @choices(city) tail?   // @choices(comment)
               tail: /[@choices(x)]/ @choices(city)""",
}


@pytest.mark.parametrize("syntax", ["ebnf", "lark"])
def test_holes_take_exactly_the_lists(syntax):
    template = GrammarTemplate(RULES[syntax], BYTES, syntax=syntax)
    assert template.holes == ("city",)
    awkward = ['Pa"ris', "a\\b", "Zü\nrich", "x y", "\U0001f600]", "a"]
    g = template.bind(city=awkward)
    for city in awkward:
        assert g.matches(f"@choices(no):{city}")
        assert g.matches(f"@choices(no):{city}x{awkward[0]}")
        assert not g.matches(f"@choices(no):{city}?")
    assert not g.matches("@choices(no):")
    assert template.bind(city=reversed(awkward)) is g
    assert template.bind(city=["b"]) is not g
    assert template.matcher(city=["b"]).commit(list(b"@choices(no):b")) == 14


def test_holes_need_their_lists():
    template = GrammarTemplate("root ::= @choices(a) | @choices( b )", BYTES)
    for lists in ({}, {"a": ["x"]}, {"a": ["x"], "b": ["y"], "c": ["z"]}, {"a": [], "b": ["y"]},
                  {"a": "xy", "b": ["y"]}, {"a": [1], "b": ["y"]}):  # fmt: skip
        with pytest.raises(InputError):
            template.bind(**lists)
    with pytest.raises(InputError, match="no @choices"):
        GrammarTemplate('root ::= "a"', BYTES)


# ---- reasons -------------------------------------------------------------------------------------


def test_a_refusal_names_the_byte_and_what_could_stand_there():
    g = GrammarMask.regex("ab(ab)*", SMALL)
    m = g.matcher()
    m.commit(2)
    why = m.why(4)
    assert (why.allowed, why.at, why.next_bytes, why.may_end) == (False, 2, [(97, 97)], True)
    assert (
        str(why)
        == "token 4 b'abb' is refused at its byte 2, b'b': allowed there are b'a' or the end"
    )
    assert m.why(2).allowed
    m.commit(0)
    assert m.why(EOS).cause == "the text may not end here"
    m.commit([1, EOS])
    assert "nothing may follow" in m.why(0).cause
    m.sync([1, 1])
    assert "dead" in m.why(0).cause
    # Every refusal is a refusal, and its place is where the language ends.
    for tokens in itertools.product(range(5), repeat=2):
        m.reset()
        if m.commit(list(tokens)) == 2:
            for t in range(6):
                why = m.why(t)
                assert why.allowed == m.allows(t)
                if not why.allowed and t != EOS:
                    text = SMALL.decode([*tokens, t])
                    assert g.explain(text).accepted == len(text) - len(why.text) + why.at


# ---- forced text ---------------------------------------------------------------------------------


def encode(raw: bytes):
    """A canonical encoder: longest match."""
    ids, at = [], 0
    while at < len(raw):
        size = max(n for n in (1, 2, 3) if raw[at : at + n] in TEXTS and at + n <= len(raw))
        ids.append(TEXTS.index(raw[at : at + size]))
        at += size
    return ids


TEXTS = [SMALL.token(t) for t in range(5)]


@pytest.mark.parametrize("pattern", ["abbab(ab|b)", "ababa", "ab{1,3}a", "(ab|abb)ba", "abbabb"])
def test_stable_tokens_begin_the_canonical_encoding_of_every_completion(pattern):
    g = GrammarMask.regex(pattern, SMALL)
    texts = [
        "".join(t)
        for n in range(1, 9)
        for t in itertools.product("ab", repeat=n)
        if g.matches("".join(t))
    ]
    m = g.matcher()
    found = m.forced_tokens("stable", encode=encode).tolist()
    for text in texts:
        assert encode(text.encode())[: len(found)] == found
    assert m.forced_bytes().startswith(SMALL.decode(found))
    # Behind committed canonical tokens as well.
    canonical = encode(texts[0].encode())
    for n in range(len(canonical) + 1):
        m.sync(canonical[:n])
        more = m.forced_tokens("stable", encode=encode).tolist()
        for text in texts:
            ids = encode(text.encode())
            if ids[:n] == canonical[:n]:
                assert ids[n : n + len(more)] == more


def test_stable_tokens_are_none_where_committed_ones_are_not_canonical():
    m = GrammarMask.choices(["abba"], SMALL).matcher()
    m.commit([0, 1])
    assert m.is_forced()
    assert m.forced_tokens("stable", encode=encode).tolist() == []
    with pytest.raises(UnsupportedError, match="encode"):
        m.forced_tokens("stable")
    with pytest.raises(InputError, match="spell"):
        m.forced_tokens("stable", encode=lambda raw: [0])
    with pytest.raises(InputError, match="mode"):
        m.forced_tokens("maybe")


# ---- weights -------------------------------------------------------------------------------------


def test_logw_is_the_product_of_kept_masses():
    rng = np.random.default_rng(1)
    g = GrammarMask.regex("(ab|b)*a", SMALL)
    m = g.matcher()
    want = []
    for _ in range(6):
        row = rng.normal(size=6)
        p = np.exp(row) / np.exp(row).sum()
        kept = p[allowed(m)].sum()
        assert m.apply(row.copy()) == pytest.approx(np.log(kept), abs=1e-6)
        assert m.logw == pytest.approx(sum(want))  # the token is not committed yet
        m.commit(allowed(m)[0])
        want.append(np.log(kept))
        assert m.logw == pytest.approx(sum(want), abs=1e-5)
    twin = m.fork()
    twin.rollback(2)
    assert twin.logw == pytest.approx(sum(want[:4]), abs=1e-5)
    assert m.logw == pytest.approx(sum(want), abs=1e-5)
    tokens = m.tokens.tolist()
    m.sync([*tokens[:3], 0])
    assert m.logw == pytest.approx(sum(want[:4]), abs=1e-5)  # `apply` was used before token 3, too
    m.reset()
    assert m.logw == 0.0


# ---- states --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "grammar",
    [
        GrammarMask.regex("(ab|b)*a", SMALL),
        GrammarMask.grammar('root ::= "a" root "b" | "ab"', SMALL),
        GrammarMask.json_schema({"enum": [[], [[]]]}, BYTES),
    ],
)
def test_equal_states_go_on_alike(grammar):
    width = grammar.vocab.num_rows
    seen = {}
    todo = [()]
    for tokens in todo:
        m = grammar.matcher()
        m.commit(list(tokens))
        follow = allowed(m, width)
        assert m.state_id is not None
        if m.state_id in seen:
            assert seen[m.state_id] == follow
        elif len(tokens) < 6:
            todo += [(*tokens, t) for t in follow if t not in grammar.vocab.eos]
        seen[m.state_id] = follow
    assert len(todo) > len(seen)  # some were met twice
    other = GrammarMask.regex("a", SMALL).matcher().state_id
    assert other not in seen
    m.sync([1, 1, 1, 0, 0])
    assert (m.state_id is None) == (m.dead_at is not None)


def test_an_automaton_of_a_regular_grammar_is_finite():
    g = GrammarMask.regex("(ab|b)*a", SMALL)
    auto = TokenAutomaton.from_grammar(g)
    for n in range(7):
        for tokens in itertools.product(range(6), repeat=n):
            state = auto.start
            for i, t in enumerate(tokens):
                state = int(auto.table[state, auto.classes[t]])
                if state < 0:
                    break
                if t == EOS:
                    assert i == n - 1 or tokens[i + 1] == EOS or auto.table[
                        state, auto.classes[tokens[i + 1]]
                    ] < 0  # fmt: skip
            m = g.matcher()
            body = list(itertools.takewhile(lambda t: t != EOS, tokens))
            legal = m.commit(body) == len(body) and (len(body) == n or m.is_accepting())
            legal = legal and all(t == EOS for t in tokens[len(body) :])
            assert (state >= 0) == legal
    nested = GrammarMask.grammar('root ::= "a" root "b" | "ab"', SMALL)
    with pytest.raises(LimitExceeded):
        TokenAutomaton.from_grammar(nested, max_states=50)
    assert TokenAutomaton.from_grammar(nested, 4).num_states < 20
    checked = GrammarMask.checker(lambda text, complete: True, SMALL)
    with pytest.raises(UnsupportedError, match="checker"):
        TokenAutomaton.from_grammar(checked, 2)


# ---- phrases -------------------------------------------------------------------------------------


def test_progress_counts_phrases_and_their_tokens():
    g = GrammarMask.phrases(SMALL, must=[["abb", "bab"], "ba"], never=["aaa"])
    m = g.matcher()
    start = m.progress()
    assert (start.bank, start.total, start.done, start.inside) == (0, 2, (False, False), "")
    m.commit([0, 1])
    at = m.progress()
    assert (at.inside, at.rest, at.done, at.bank) == ("ab", "b", (False, False), 1)
    m.commit([0])
    at = m.progress()
    assert at.done == (False, True)
    assert (at.inside, at.rest) == ("ba", "b")
    m.commit([1])
    at = m.progress()
    assert at.done == (True, True)
    assert (at.bank, at.inside) == (3, "")  # "bab" is two tokens, "ba" one
    assert m.is_accepting()
    with pytest.raises(UnsupportedError):
        GrammarMask.regex("a", SMALL).matcher().progress()


@pytest.mark.parametrize("options", [{}, {"ignore_case": True}, {"whole_words": True}])
def test_all_groups_are_done_exactly_where_the_text_may_end(options):
    g = GrammarMask.phrases(BYTES, must=[["ab", "b c"], ["a"]], **options)
    for n in range(6):
        for text in itertools.product("abAc ", repeat=n):
            m = g.matcher()
            m.commit(list("".join(text).encode()))
            assert all(m.progress().done) == m.is_accepting(), text


# ---- the slow twin -------------------------------------------------------------------------------

WALK = """
import json, numpy as np
from trivium import GrammarMask, Vocabulary
texts = [bytes([b]) for b in range(256)] + [b'": ', b'", "', b'}, {', b'true', b'12', b'']
vocab = Vocabulary(texts, eos=[261])
grammars = [
    GrammarMask.regex(r"[a-c]+(, [a-c]+)*", vocab),
    GrammarMask.json_schema({"type": "array", "items": {"properties": {"a": {"type": "integer"}}}},
                            vocab),
    GrammarMask.grammar('root ::= "(" root ")" | "12"', vocab),
]
rng, out = np.random.default_rng(0), []
for g in grammars:
    m = g.matcher()
    for _ in range(40):
        row = np.zeros(m.words, np.int32)
        if not m.fill(row):
            break
        out.append(row.tobytes().hex())
        bits = np.unpackbits(row.view(np.uint8), bitorder="little")
        m.commit(int(rng.choice(np.flatnonzero(bits))))
    out.append(g.report().masks)
print(json.dumps(out))
"""


def test_the_slow_switch_computes_by_definition_and_keeps_nothing():
    runs = []
    for value in ("0", "1"):
        env = {**os.environ, "TRIVIUM_MASK_SLOW": value}
        done = subprocess.run(
            [sys.executable, "-c", WALK], capture_output=True, text=True, env=env, timeout=120
        )
        assert done.returncode == 0, done.stderr
        runs.append(json.loads(done.stdout))
    fast, slow = runs
    assert [x for x in fast if isinstance(x, str)] == [x for x in slow if isinstance(x, str)]
    assert all(x > 0 for x in fast if isinstance(x, int))
    assert all(x == 0 for x in slow if isinstance(x, int))
