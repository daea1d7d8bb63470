"""`GrammarMask.grammar` at the border; the language itself is tested in Rust."""

from __future__ import annotations

import numpy as np
import pytest
from trivium import Vocabulary
from trivium.errors import InputError, InvalidGrammar, UnsatisfiableError
from trivium.grammar import GrammarMask


@pytest.fixture(scope="module")
def vocab() -> Vocabulary:
    tokens = [bytes([b]) for b in range(256)] + [b"((", b"", b""]
    return Vocabulary(tokens, eos=[258], special={257: "<|call|>"})


def test_masks_commit_and_roll_back(vocab: Vocabulary) -> None:
    g = GrammarMask.grammar('root ::= root "+" [0-9]+ | [0-9]+ | "(" root ")"', vocab)
    m = g.matcher()
    row = np.zeros(m.words, dtype=np.int32)
    assert m.fill(row)
    allowed = {t for t in range(259) if row[t >> 5] >> (t & 31) & 1}
    assert allowed == {*range(48, 58), 40, 256}
    assert m.commit([256, 49, 41, 43, 50, 41]) == 6
    assert m.is_accepting()
    m.rollback(1)
    assert not m.is_accepting()
    out = np.zeros((3, m.words), dtype=np.int32)
    assert m.fill_tree([-1, 0, 1], [0, 41, 41], out).tolist() == [True, True, False]
    assert GrammarMask.grammar('root ::= "ab" <|call|>', vocab).matcher().commit([97, 98, 257]) == 3


def test_lark_skips_and_prefers_keywords(vocab: Vocabulary) -> None:
    text = """
    start: "if" NAME ":" | NAME "=" NUMBER
    %import common.CNAME -> NAME
    %import common.NUMBER
    %ignore /[ \\t]+/
    """
    g = GrammarMask.grammar(text, vocab, syntax="lark")
    assert g.matches("if x :")
    assert g.matches("iff=1.5")
    assert not g.matches("if=1")
    assert not g.report().no_dead_end


@pytest.mark.parametrize(
    ("text", "syntax", "error", "part"),
    [
        ('root ::= "a" b', "ebnf", InvalidGrammar, "line 1, column 14"),
        ('root ::= "a" root', "gbnf", UnsatisfiableError, "matches no text"),
        ("start: A", "lark", InvalidGrammar, "A is not defined"),
        ('root ::= "a"', "abnf", InputError, "abnf"),
    ],
)
def test_mistakes_are_told(
    vocab: Vocabulary, text: str, syntax: str, error: type[Exception], part: str
) -> None:
    with pytest.raises(error, match=part):
        GrammarMask.grammar(text, vocab, syntax=syntax)  # type: ignore[arg-type]
