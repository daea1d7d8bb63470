"""Maps between vocabularies: what is read, what is said, and the laws in between."""

from __future__ import annotations

import numpy as np
import pytest
from trivium import Vocabulary
from trivium.errors import InputError
from trivium.words import (
    Intersection,
    StringMatch,
    StringRejection,
    TrimmedHead,
    Words,
    count_tokens,
)

LETTERS, WORDS = [b"a", b"b"], [b"a", b"b", b"ab", b"ba"]


def softmax(x):
    e = np.exp(np.asarray(x, np.float64) - np.max(x))
    return e / e.sum()


def test_equal_bytes_are_one_token_and_their_probabilities_add_up():
    words = Intersection([b"a", b"\xe2", b" b", b"", b"a"], [b" b", b"a", b"c", b"", b" bac"])
    words.check(6, 7)
    assert len(words) == 2
    logits = np.log([0.1, 0.3, 0.2, 0.2, 0.1, 0.1])
    law = softmax(words.row(logits))
    assert law.shape == (7,)
    assert law == pytest.approx([0.5, 0.5, 0, 0, 0, 0, 0], abs=1e-6)
    # Temperature acts on the merged rows, which is a law like any other.
    assert np.isneginf(words.row(logits)[2:]).all()
    assert [words.word(t) for t in (0, 1)] == [2, 0]
    # " bac" is spelled " b", "a"; "c" and control tokens cannot be.
    assert words.spell([4, 1, 2, 3]) == [2, 0, 0]
    assert words.spell([2]) == [0]
    with pytest.raises(InputError, match="wide"):
        words.check(4, 5)
    with pytest.raises(InputError, match="share"):
        Intersection([b"x"], [b"y"])


def test_a_trimmed_head_says_what_is_counted():
    counts = count_tokens([[0, 0, 2, 2, 2], [3, 3, 0]], 5)
    assert counts == [3, 0, 3, 2, 0]
    words = TrimmedHead.of_counts(counts, 2, keep=[4])
    assert words.kept.tolist() == [0, 2, 4]
    words.check(3, 6)
    row = words.row(np.array([1.0, 2.0, 3.0]))
    assert row.tolist() == [1.0, -np.inf, 2.0, -np.inf, 3.0, -np.inf]
    assert words.spell([1, 4]) == [1, 4]
    assert words.word(4) == 4
    with pytest.raises(InputError, match="kept"):
        words.check(4, 6)
    for bad in ([], [1, 1], [-1]):
        with pytest.raises(InputError):
            TrimmedHead(bad)


def test_a_drafted_text_is_encoded_behind_the_window():
    def encode(tokens):
        def run(text):
            data, out = text.encode(), []
            while data:
                best = max((t for t in tokens if t and data.startswith(t)), key=len)
                out.append(tokens.index(best))
                data = data[len(best) :]
            return out

        return run

    target = [b"a", b"b", b"ab", "é".encode(), b"\xc3"]
    draft = [b"b", b"a", b"\xc3", b"\xa9"]
    words = StringMatch(
        Vocabulary(draft, eos=[]),
        Vocabulary(target, eos=[]),
        encode(draft),
        encode(target),
        window=2,
    )
    assert words.spell([2, 3]) == [1, 0, 2, 3]
    assert words.match([2, 1], [0, 1, 0]) == [1, 2]
    assert words.match([2, 1], [1, 0, 2]) == [2], "an unfinished character waits"
    assert words.match([2, 1], [0, 2, 3]) == [1, 3]
    assert words.match([1, 0], [0, 0]) == [], "a and b join across the border"
    with pytest.raises(InputError, match="window"):
        StringMatch(*[Vocabulary(draft, eos=[])] * 2, list, list, window=0)


def test_the_law_of_first_tokens():
    words = StringRejection(LETTERS, WORDS)
    words.check(3, 5)
    asked = []

    def following(ids):
        asked.append(ids)
        return [0.3, 0.7, 0.0] if not ids else [0.5, 0.5, 0.0]

    assert words.law(following) == pytest.approx([0.15, 0.35, 0.15, 0.35, 0.0], abs=1e-12)
    assert sorted(asked) == [[], [0], [1]]
    with pytest.raises(InputError, match="more than 3"):
        StringRejection(LETTERS, WORDS, max_texts=3).law(following)
    with pytest.raises(ZeroDivisionError):
        words.law(lambda _: 1 / 0)
    with pytest.raises(InputError, match="entries"):
        words.law(lambda _: [1.0])


def test_every_map_has_all_parts():
    for name in ("check", "spell", "word", "row"):
        with pytest.raises(NotImplementedError):
            getattr(Words(), name)(*[[]] * (2 if name == "check" else 1))
