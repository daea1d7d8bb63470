"""`GrammarMask` and `Matcher` at the Python border: values, arrays, errors, threads."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import trivium
from trivium import GrammarMask, Vocabulary, fill_batch
from trivium.errors import (
    InputError,
    InvalidGrammar,
    LimitError,
    LimitExceeded,
    StateError,
    TokenError,
    TriviumError,
    UnsatisfiableError,
    UnsupportedError,
    UnsupportedPattern,
)
from trivium.grammar import Matcher

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from numpy.typing import NDArray

EOS = 258

# For calls that no type checker would let through.
LOOSE: Any = GrammarMask
LOOSE_MATCHER: Any = Matcher


@pytest.fixture(scope="module")
def vocab() -> Vocabulary:
    """Hold every byte, two words, a symbol, an end and a row of padding."""
    tokens = [bytes([b]) for b in range(256)] + [b"ab", b"", b"", b"aa"]
    return Vocabulary(tokens, eos=[EOS], special={257: "<s>", EOS: "</s>"}, num_rows=300)


def bits(row: NDArray[Any]) -> list[int]:
    raw = np.ascontiguousarray(row).view(np.uint8)
    return np.flatnonzero(np.unpackbits(raw, bitorder="little")).tolist()


def mask(m: Matcher) -> list[int]:
    row = np.full(m.words, -1, np.int32)
    assert m.fill(row) == bool(row.any())
    return bits(row)


def test_a_loop_spells_a_text_of_the_language(vocab: Vocabulary) -> None:
    g = GrammarMask.regex("(ab|é){2}c?", vocab)
    m = g.matcher()
    assert mask(m) == sorted([ord("a"), 0xC3, 256])
    assert m.commit(256)
    assert not m.commit(ord("b"))
    assert m.commit(np.int64(0xC3))
    assert mask(m) == [0xA9]
    assert m.forced_bytes() == b"\xa9"
    assert m.commit([0xA9, ord("c"), ord("c")]) == 2
    assert m.is_accepting()
    assert mask(m) == [EOS]
    assert m.commit(EOS)
    assert m.is_finished()
    assert mask(m) == []
    assert not m.commit(EOS)
    assert m.tokens.tolist() == [256, 0xC3, 0xA9, ord("c"), EOS]
    m.rollback(1)
    assert not m.is_finished()
    m.reset()
    assert len(m) == 0


def test_search_and_choices(vocab: Vocabulary) -> None:
    g = GrammarMask.regex("b+", vocab, full=False)
    assert g.matches("xxbbyy")
    assert not g.matches("xx")
    c = GrammarMask.choices(("yes", "no", "naïve"), vocab)
    assert [c.matches(t) for t in ("yes", b"no", "naïve", "nai")] == [True, True, True, False]
    assert c.completion("na") == "naïve".encode()
    assert c.completion("x") is None
    assert c.explain("yen").accepted == 2
    assert c.vocab is vocab


def test_report_states_the_guarantees(vocab: Vocabulary) -> None:
    report = GrammarMask.regex("a{0,100000}", vocab).report()
    assert (report.sound, report.complete, report.no_dead_end) == (True, True, True)
    assert report.relaxed == []
    assert report.states < 10
    small = Vocabulary([b"a", b""], eos=[1])
    report = GrammarMask.regex("a|b", small).report()
    assert not report.no_dead_end
    assert "single bytes" in report.warnings[0]


@pytest.mark.parametrize("kind", ["torch", "row of two axes", "int32", "uint32", "long"])
def test_rows_of_every_kind_are_filled(vocab: Vocabulary, kind: str) -> None:
    m = GrammarMask.regex("[ab]+", vocab).matcher()
    want = mask(m)
    if kind == "torch":
        torch = pytest.importorskip("torch")
        row = torch.full((m.words,), -1, dtype=torch.int32)
        assert m.fill(row)
        assert bits(row.numpy()) == want
        return
    shape = {"row of two axes": (1, m.words), "long": (m.words + 3,)}.get(kind, (m.words,))
    row = np.full(shape, 7, np.uint32 if kind == "uint32" else np.int32)
    assert m.fill(row)
    assert bits(row) == want


def bad_rows() -> list[Any]:
    read_only = np.zeros(10, np.int32)
    read_only.flags.writeable = False
    return [
        np.zeros(9, np.int32),
        np.zeros(10, np.int64),
        np.zeros(10, np.float32),
        np.zeros(20, np.int32)[::2],
        np.zeros((2, 10), np.int32),
        np.zeros((1, 1, 10), np.int32),
        read_only,
        "row",
        None,
    ]


@pytest.mark.parametrize("i", range(len(bad_rows())))
def test_bad_rows_are_refused(vocab: Vocabulary, i: int) -> None:
    m = GrammarMask.regex("a", vocab).matcher()
    with pytest.raises(InputError):
        m.fill(bad_rows()[i])


def test_a_row_on_a_device_is_refused(vocab: Vocabulary) -> None:
    class Elsewhere:
        def __dlpack_device__(self) -> tuple[int, int]:
            return (2, 0)

        def __dlpack__(self, **_: object) -> object:
            raise AssertionError

    m = GrammarMask.regex("a", vocab).matcher()
    with pytest.raises(InputError, match="device"):
        m.fill(Elsewhere())


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_apply_forbids_in_place(vocab: Vocabulary, dtype: type) -> None:
    m = GrammarMask.regex("[ab]", vocab).matcher()
    logits = np.zeros(304, dtype)
    kept = m.apply(logits)
    assert kept == pytest.approx(np.log(2 / 304), abs=1e-5)
    assert np.flatnonzero(np.isfinite(logits)).tolist() == [97, 98]
    with pytest.raises(InputError):
        m.apply(np.zeros(299, dtype))
    nan = np.full(300, np.nan, dtype)
    with pytest.raises(InputError):
        m.apply(nan)
    assert np.isnan(nan).all()
    with pytest.raises(InputError):
        m.apply(np.zeros(300, np.int32))


def test_apply_works_on_torch_rows(vocab: Vocabulary) -> None:
    torch = pytest.importorskip("torch")
    m = GrammarMask.regex("[ab]", vocab).matcher()
    for dtype in (torch.bfloat16, torch.float16, torch.float32):
        logits = torch.zeros(300, dtype=dtype)
        m.apply(logits)
        assert torch.isfinite(logits).nonzero().flatten().tolist() == [97, 98]


def test_sync_follows_prefixes_back_and_forth(vocab: Vocabulary) -> None:
    m = GrammarMask.regex("(ab)*c", vocab).matcher()
    assert m.sync([256, 97]) == 2
    assert m.sync([256, 256, 99]) == 3
    assert m.sync([256, 99, 99, 5]) == 2
    assert (m.dead_at, len(m), mask(m)) == (2, 4, [])
    assert "dead at 2" in repr(m)
    assert not m.commit(97)
    with pytest.raises(StateError):
        m.forced_bytes()
    assert m.sync(np.array([256], np.int32)) == 1
    assert m.dead_at is None
    assert m.sync(range(0)) == 0


def test_a_tree_is_masked_without_moving_the_matcher(vocab: Vocabulary) -> None:
    m = GrammarMask.regex("(ab)*c", vocab).matcher()
    m.commit(256)
    out = np.full((7, m.words), -1, np.int32)
    parents = np.array([-1, 0, 1, 0, 3, 3], np.int32)
    tokens = np.array([-7, 97, 98, 99, 97, EOS], np.int64)
    alive = m.fill_tree(parents, tokens, out)
    assert alive.tolist() == [True, True, True, True, False, True]
    assert bits(out[0]) == mask(m)
    assert [bits(r) for r in out[1:6]] == [[98], bits(out[0]), [EOS], [], []]
    assert (out[6] == -1).all()
    assert len(m) == 1
    for bad in (
        lambda: m.fill_tree([0], [0], out),
        lambda: m.fill_tree([-1, 1], [0, 97], out),
        lambda: m.fill_tree([-1, 0], [0], out),
        lambda: m.fill_tree([-1] + [0] * 7, [97] * 8, out),
        lambda: m.fill_tree([-1], [0], out[:, :-1].copy()),
    ):
        with pytest.raises(InputError):
            bad()
    with pytest.raises(TokenError):
        m.fill_tree([-1, 0], [0, 300], out)


def test_a_batch_fills_the_named_rows(vocab: Vocabulary) -> None:
    a = GrammarMask.regex("a+", vocab).matcher()
    b = GrammarMask.regex("b", vocab).matcher()
    out = np.full((4, a.words), 5, np.int32)
    fill_batch([a, b, a], out, rows=[3, 0, 1], threads=2)
    assert [bits(out[i]) for i in (3, 0, 1)] == [mask(a), [98], mask(a)]
    assert (out[2] == 5).all()
    trivium.fill_batch([], out)
    for rows in ([0, 0], [0, 4], [0], [0, -1]):
        with pytest.raises(InputError):
            fill_batch([a, b], out, rows=rows)
    with pytest.raises(InputError):
        fill_batch([a, None], out)  # type: ignore[list-item]
    with pytest.raises(InputError):
        fill_batch([a], out, threads=0)


@pytest.mark.parametrize(
    ("make", "error", "match"),
    [
        (lambda v: LOOSE.regex("a(b", v), InvalidGrammar, "byte 1"),
        (lambda v: LOOSE.regex("(?=a)", v), InvalidGrammar, "look-around"),
        (lambda v: LOOSE.regex(r"(a)\1", v), InvalidGrammar, "regular"),
        (lambda v: LOOSE.regex("(?>a)", v, dialect="ecma"), UnsupportedPattern, "atomic"),
        (lambda v: LOOSE.regex("a", v, dialect="pcre"), InputError, "pcre"),
        (lambda v: LOOSE.regex(b"a", v), InputError, "str"),
        (lambda v: LOOSE.regex("\ud800", v), InputError, "surrogate"),
        (lambda v: LOOSE.regex("a", None), InputError, "Vocabulary"),
        (lambda v: LOOSE.regex("a", v, max_states=0), InputError, "max_states"),
        (lambda v: LOOSE.regex("a", v, max_ms=1.5), InputError, "max_ms"),
        (lambda v: LOOSE.regex(r"\w{9}" * 99, v, max_bytes=9999), LimitExceeded, "max_byt"),
        (lambda v: LOOSE.regex("(" * 999 + ")" * 999, v), LimitExceeded, "nesting"),
        (lambda v: LOOSE.regex(r"a\bb", v), UnsatisfiableError, "no text"),
        (lambda v: LOOSE.choices([], v), UnsatisfiableError, "no text"),
        (lambda v: LOOSE.choices("abc", v), InputError, "list"),
        (lambda v: LOOSE.choices([b"a"], v), InputError, "str"),
        (lambda _: LOOSE(), InputError, "regex"),
        (lambda _: LOOSE_MATCHER(), InputError, "matcher"),
    ],
)
def test_bad_grammars_are_typed_errors(
    vocab: Vocabulary,
    make: Callable[[Vocabulary], Any],
    error: type[TriviumError],
    match: str,
) -> None:
    with pytest.raises(error, match=match) as info:
        make(vocab)
    assert isinstance(info.value, TriviumError)


def test_errors_carry_their_fields(vocab: Vocabulary) -> None:
    with pytest.raises(ValueError, match="pattern") as bad:
        GrammarMask.regex("ab)", vocab)
    assert (bad.value.offset, bad.value.what) == (2, "pattern")  # type: ignore[attr-defined]
    m = GrammarMask.regex("(a|b)*a(a|b){15}", vocab, max_states=50).matcher()
    rng = np.random.default_rng(1)
    tokens = rng.integers(97, 99, 2000)
    with pytest.raises(LimitError) as over:
        m.commit(tokens)
    assert len(m) == 0
    assert over.value.limit == "max_states"  # type: ignore[attr-defined]
    assert over.value.budget == 50  # type: ignore[attr-defined]
    m.reset()
    assert m.commit(97)


def test_bad_tokens_change_nothing(vocab: Vocabulary) -> None:
    m = GrammarMask.regex("a*", vocab).matcher()
    m.commit(97)
    for token in (-1, 300, 1 << 80, -(1 << 80)):
        with pytest.raises(TokenError):
            m.commit(token)
        with pytest.raises(TokenError):
            m.allows(token)
    for call in (m.commit, m.sync, m.validate):
        with pytest.raises(TokenError):
            call([97, 300])
        with pytest.raises(InputError):
            call(np.zeros((1, 1), np.int32))
        with pytest.raises(InputError):
            call([97.5])
    for special in (257, 299):
        assert not m.commit(special)
    with pytest.raises(StateError):
        m.rollback(2)
    with pytest.raises(InputError):
        m.rollback(-1)
    with pytest.raises(UnsupportedError):
        m.forced_tokens(mode="stable")
    with pytest.raises(InputError):
        m.forced_tokens(mode="other")  # type: ignore[arg-type]
    assert m.tokens.tolist() == [97]


def test_forced_tokens_are_a_draft(vocab: Vocabulary) -> None:
    m = GrammarMask.regex("ababaa?", vocab).matcher()
    assert m.forced_bytes() == b"ababa"
    assert m.forced_tokens().tolist() == [256, 256]  # "aa" could span the end
    m = GrammarMask.regex("ababac", vocab).matcher()
    assert m.forced_tokens().tolist() == [256, 256, 97, 99]


def test_a_request_takes_a_matcher_as_constraint(vocab: Vocabulary) -> None:
    spec = trivium.Speculator(300, sources=["suffix"], max_nodes=4)
    m = GrammarMask.regex("(ab)*c", vocab).matcher()
    req = spec.start([1, 2], constraint=m)
    with pytest.raises(TokenError):
        req.commit([5])
    req.commit([256])
    assert len(m) == 0  # the request holds a fork
    with pytest.raises(InputError):
        spec.start([1, 2], constraint=object())


def test_two_threads_on_one_matcher_never_break_it(vocab: Vocabulary) -> None:
    g = GrammarMask.regex(r"(\w+ )*\w+", vocab)
    shared = g.matcher()
    words = shared.words
    others: list[BaseException] = []
    clashes = []

    def work(seed: int) -> None:
        rng = np.random.default_rng(seed)
        row = np.empty(words, np.int32)
        own = g.matcher()
        try:
            for _ in range(300):
                try:
                    shared.fill(row)
                    shared.commit(int(rng.integers(97, 122)))
                except StateError as e:
                    clashes.append(e)
                own.commit([97, 98])
                assert own.fill(row)
        except BaseException as e:
            others.append(e)

    threads = [threading.Thread(target=work, args=(i,)) for i in range(4)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert not others
    assert len(shared) <= 1200
    assert all("one thread at a time" in str(e) for e in clashes)


def test_masks_on_a_real_vocabulary_equal_the_definition(vocab_folder: Path) -> None:
    vocab = Vocabulary.load(vocab_folder / "gpt-2.safetensors")
    tokens = [vocab.token(i) for i in range(len(vocab))]
    for pattern, prefix in [
        (r'[^"\\]*', "a"),
        (r"\d{4}-\d\d-\d\d", "20"),
        (r"[a-z]{0,7}[A-Z]+", "abc"),
        (r"(?s).*", ""),
    ]:
        g = GrammarMask.regex(pattern, vocab)
        m = g.matcher()
        index = {t: i for i, t in enumerate(tokens)}
        assert m.commit([index[bytes([b])] for b in prefix.encode()]) == len(prefix)
        got = set(mask(m))
        raw = prefix.encode()
        want = {
            i
            for i, t in enumerate(tokens)
            if t and i not in vocab.eos and g.explain(raw + t).viable
        } | (set(vocab.eos) if m.is_accepting() else set())
        assert got == want
