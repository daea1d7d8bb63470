"""Laws of `Matcher`, and masks against Python's own `re` over all short texts."""

from __future__ import annotations

import itertools
import re
from typing import TYPE_CHECKING, Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from trivium import GrammarMask, Vocabulary, fill_batch
from trivium.errors import DeadEnd, UnsatisfiableError

if TYPE_CHECKING:
    from trivium.grammar import Matcher

TOKENS = [b"a", b"b", b"ab", b"ba", b"a", b"", b""]
VOCAB = Vocabulary(TOKENS, eos=[5, 6], special={5: "</s>", 6: "<end>"}, num_rows=40)
TEXTS = ["".join(t) for n in range(9) for t in itertools.product("ab", repeat=n)]

patterns = st.recursive(
    st.sampled_from(["a", "b", "ab", "[ab]", "", "."]),
    lambda inner: st.one_of(
        st.lists(inner, min_size=2, max_size=3).map("".join),
        st.lists(inner, min_size=2, max_size=3).map(lambda x: f"(?:{'|'.join(x)})"),
        st.tuples(inner, st.sampled_from(["*", "+", "?", "{2}", "{1,2}"])).map(
            lambda x: f"(?:{x[0]}){x[1]}"
        ),
    ),
    max_leaves=5,
)
ids = st.lists(st.integers(0, 6), max_size=5)


NESTED = GrammarMask.grammar('root ::= "a" root "b" root | "b" root | "ab" root | ""', VOCAB)
KINDS = st.sampled_from(["plain", "checked", "both"])


def build(pattern: str, kind: str) -> GrammarMask | None:
    """A grammar of a pattern, alone, with a checker, or beside rules; None if no text matches."""
    try:
        g = GrammarMask.regex(pattern, VOCAB)
    except UnsatisfiableError:
        return None
    if kind == "checked":
        return GrammarMask.checker(lambda text, complete: b"bb" not in text, grammar=g)
    return g.intersect(NESTED, on_unsupported="shadow") if kind == "both" else g


def mask(m: Matcher) -> list[int]:
    row = np.full(m.words, -1, np.int32)
    try:
        m.fill(row)
    except DeadEnd:
        return [-1]
    return np.flatnonzero(np.unpackbits(row.view(np.uint8), bitorder="little")).tolist()


def view(m: Matcher) -> tuple[Any, ...]:
    return m.tokens.tolist(), mask(m), m.is_accepting(), m.is_finished(), m.dead_at


@given(patterns, st.text("ab", max_size=2))
@settings(max_examples=60)
def test_a_mask_holds_exactly_the_tokens_with_a_completion(pattern: str, prefix: str) -> None:
    compiled = re.compile(pattern)
    language = {t for t in TEXTS if compiled.fullmatch(t)}
    try:
        g = GrammarMask.regex(pattern, VOCAB)
    except UnsatisfiableError:
        assert not language
        return
    m = g.matcher()
    tokens = [TOKENS.index(c.encode()) for c in prefix]
    if m.commit(tokens) < len(tokens):
        assert not any(t.startswith(prefix) for t in language)
        return
    got = mask(m)
    for i, token in enumerate(TOKENS[:5]):
        longer = prefix + token.decode()
        if any(t.startswith(longer) for t in language):
            assert i in got
        elif i in got:  # only a longer text than the list holds may explain it
            witness = g.completion(longer)
            assert witness is not None
            assert len(witness) > 8
            assert compiled.fullmatch(witness.decode())
    ends = [5, 6] if prefix in language else []
    assert [i for i in got if i >= 5] == ends


@given(patterns, KINDS, ids, ids)
@settings(max_examples=120)
def test_the_laws_of_sequences(pattern: str, kind: str, a: list[int], b: list[int]) -> None:
    g = build(pattern, kind)
    if g is None:
        return
    m = g.matcher()
    m.commit(a)
    before = view(m)
    fork = m.fork()
    n = m.commit(b)
    m.rollback(n)
    assert view(m) == before
    ok = fork.sync(b)
    fresh = g.matcher()
    assert fresh.commit(b) == ok
    if ok == len(b):
        assert view(fork) == view(fresh)
    else:
        assert fork.dead_at == ok
        assert mask(fork) == []
        fork.rollback(len(b) - ok)
        assert view(fork) == view(fresh)
    assert view(m) == before
    m.reset()
    assert view(m) == view(g.matcher())


@given(patterns, KINDS, st.lists(st.tuples(st.integers(0, 100), st.integers(0, 6)), max_size=8))
@settings(max_examples=120)
def test_trees_and_batches_equal_the_loop(
    pattern: str, kind: str, nodes: list[tuple[int, int]]
) -> None:
    g = build(pattern, kind)
    if g is None:
        return
    parents = [-1] + [p % (i + 1) for i, (p, _) in enumerate(nodes)]
    tokens = [0] + [t for _, t in nodes]
    paths: list[list[int]] = [[]]
    for p, t in zip(parents[1:], tokens[1:], strict=True):
        paths.append([*paths[p], t])
    m = g.matcher()
    tree = np.full((len(parents), m.words), -1, np.int32)
    alive = m.fill_tree(parents, tokens, tree)
    forks = [m.fork() for _ in paths]
    reached = [f.sync(p) == len(p) for f, p in zip(forks, paths, strict=True)]
    assert alive.tolist() == reached
    batch = np.zeros_like(tree)
    try:
        fill_batch(forks, batch)
    except DeadEnd:  # a tree has empty rows where the loop meets a dead end
        assert kind == "checked"
        return
    assert (tree == batch).all()
