"""`Vocabulary` itself: construction, files, pickling, errors."""

from __future__ import annotations

import json
import pickle
from typing import TYPE_CHECKING

import numpy as np
import pytest
import trivium
from hypothesis import given
from hypothesis import strategies as st
from trivium import Vocabulary
from trivium.errors import InputError, TokenError, TriviumError

if TYPE_CHECKING:
    from pathlib import Path


def small() -> Vocabulary:
    return Vocabulary(
        [b"a", b"ab", b"", b"", b"\xff", b"a"], eos=[2], special={2: "<end>"}, num_rows=40
    )


def contents(vocab: Vocabulary) -> tuple[object, ...]:
    tokens = [vocab.token(i) for i in range(len(vocab))]
    return tokens, vocab.eos, vocab.special, vocab.num_rows, vocab.digest


def test_symbols_and_padding_are_not_text() -> None:
    vocab = small()
    assert len(vocab) == 6
    assert vocab.num_rows == 40
    assert vocab.eos == [2]
    assert vocab.special == {2: "<end>"}
    assert [vocab.token(i) for i in range(6)] == [b"a", b"ab", b"", b"", b"\xff", b"a"]
    assert vocab.decode([1, 2, 3, 4]) == b"ab\xff"
    assert vocab.decode([]) == b""
    assert repr(vocab) == "Vocabulary(6 tokens, 1 special, eos=[2], num_rows=40)"


def test_entry_of_a_symbol_is_ignored() -> None:
    vocab = Vocabulary([b"a", b"text"], eos=[1], special={1: "</s>"})
    assert vocab.token(1) == b""
    assert vocab.special == {1: "</s>"}


def test_end_ids_are_sorted_and_unique() -> None:
    assert Vocabulary([b"a", b"b", b"c"], eos=[2, 0, 2]).eos == [0, 2]
    assert Vocabulary([b"a"], eos=[]).eos == []
    assert Vocabulary([b"a"], eos=np.array([0])).eos == [0]  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("make", "error"),
    [
        (lambda: Vocabulary([], eos=[]), InputError),
        (lambda: Vocabulary(["a"], eos=[]), InputError),
        (lambda: Vocabulary([b"a", bytearray(b"b")], eos=[]), InputError),
        (lambda: Vocabulary([bytes(256)], eos=[]), InputError),
        (lambda: Vocabulary([b"a"], eos=[1]), TokenError),
        (lambda: Vocabulary([b"a"], eos=[-1]), TokenError),
        (lambda: Vocabulary([b"a"], eos=[2**70]), TokenError),
        (lambda: Vocabulary([b"a"], eos=["a"]), InputError),
        (lambda: Vocabulary([b"a"], eos=1.5), InputError),
        (lambda: Vocabulary([b"a"], eos=[], special={1: "x"}), TokenError),
        (lambda: Vocabulary([b"a"], eos=[], special={0: b"x"}), InputError),
        (lambda: Vocabulary([b"a", b"b"], eos=[], num_rows=1), InputError),
        (lambda: Vocabulary([b"a"], eos=[], num_rows=-1), InputError),
        (lambda: Vocabulary([b"a"], eos=[], num_rows=2**70), InputError),
        (lambda: Vocabulary([b"a"], eos=[], num_rows="2"), InputError),
        (lambda: small().token(6), TokenError),
        (lambda: small().token(-1), TokenError),
        (lambda: small().token(2**70), TokenError),
        (lambda: small().decode([0, 6]), TokenError),
        (lambda: small().decode([-1]), TokenError),
        (lambda: small().decode([2**70]), InputError),
        (lambda: small().decode(["a"]), InputError),
        (lambda: small().decode("ab"), InputError),
        (lambda: small().decode(None), InputError),
        (lambda: Vocabulary.load("/nonexistent/file"), InputError),
        (lambda: small().save("/nonexistent/file"), InputError),
    ],
)
def test_bad_input_is_a_typed_error(make, error) -> None:
    with pytest.raises(error) as caught:
        make()
    assert isinstance(caught.value, TriviumError)
    assert isinstance(caught.value, ValueError)


def test_error_names_token_and_size() -> None:
    for call in (small().token, lambda t: small().decode([t])):
        with pytest.raises(TokenError) as caught:
            call(17)
        assert (caught.value.token, caught.value.vocab) == (17, 6)


def test_file_and_pickle_keep_everything(tmp_path: Path) -> None:
    vocab = small()
    path = tmp_path / "v.safetensors"
    vocab.save(path)
    assert contents(Vocabulary.load(path)) == contents(vocab)
    assert contents(Vocabulary.load(str(path))) == contents(vocab)
    for protocol in range(2, pickle.HIGHEST_PROTOCOL + 1):
        assert contents(pickle.loads(pickle.dumps(vocab, protocol))) == contents(vocab)


@given(
    tokens=st.lists(st.binary(max_size=8), min_size=1, max_size=12),
    extra=st.integers(0, 40),
    data=st.data(),
)
def test_pickle_round_trip(tokens: list[bytes], extra: int, data: st.DataObject) -> None:
    ids = st.integers(0, len(tokens) - 1)
    vocab = Vocabulary(
        tokens,
        eos=data.draw(st.lists(ids)),
        special=data.draw(st.dictionaries(ids, st.text(max_size=5))),
        num_rows=len(tokens) + extra,
    )
    assert contents(pickle.loads(pickle.dumps(vocab))) == contents(vocab)


@given(st.lists(st.binary(max_size=4), min_size=1, max_size=8), st.data())
def test_decode_concatenates(tokens: list[bytes], data: st.DataObject) -> None:
    vocab = Vocabulary(tokens, eos=[])
    ids = data.draw(st.lists(st.integers(0, len(tokens) - 1)))
    assert vocab.decode(ids) == b"".join(tokens[i] for i in ids)


def test_digest_sees_every_part() -> None:
    base = Vocabulary([b"a", b"b", b""], eos=[1])
    others = [
        Vocabulary([b"a", b"c", b""], eos=[1]),
        Vocabulary([b"ab", b"", b""], eos=[1]),
        Vocabulary([b"a", b"b", b""], eos=[0]),
        Vocabulary([b"a", b"b", b""], eos=[1], special={2: "x"}),
        Vocabulary([b"a", b"b"], eos=[1]),
    ]
    digests = {v.digest for v in [base, *others]}
    assert len(digests) == 6
    assert Vocabulary([b"a", b"b", b""], eos=[1], num_rows=9).digest == base.digest


def test_damaged_file_is_an_input_error(tmp_path: Path) -> None:
    path = tmp_path / "v.safetensors"
    small().save(path)
    raw = path.read_bytes()
    for cut in range(0, len(raw), 7):
        path.write_bytes(raw[:cut])
        with pytest.raises(InputError):
            Vocabulary.load(path)


@pytest.mark.parametrize(
    ("name", "size", "special", "eos", "sample"),
    [
        ("gpt-2", 50_257, 1, [50_256], ([15496, 995], b"Hello world")),
        ("llama-bpe", 128_256, 256, [128_001, 128_008, 128_009], ([9906, 1917], b"Hello world")),
        ("qwen2", 151_936, 3, [151_643, 151_645], ([9707, 1879], b"Hello world")),
    ],
)
def test_real_vocabularies_round_trip(
    vocab_folder: Path,
    tmp_path: Path,
    name: str,
    size: int,
    special: int,
    eos: list[int],
    sample: tuple[list[int], bytes],
) -> None:
    vocab = Vocabulary.load(vocab_folder / f"{name}.safetensors")
    assert (len(vocab), len(vocab.special), vocab.eos) == (size, special, eos)
    assert vocab.decode(sample[0]) == sample[1]
    assert set(range(256)) == {t[0] for t in map(vocab.token, range(size)) if len(t) == 1}
    vocab.save(tmp_path / "copy")
    assert contents(Vocabulary.load(tmp_path / "copy")) == contents(vocab)
    raw = (tmp_path / "copy").read_bytes()
    head = json.loads(raw[8 : 8 + int.from_bytes(raw[:8], "little")])
    assert head["__metadata__"]["name"] == name  # foreign metadata survives
    tokens = [vocab.token(i) for i in range(size)]
    rebuilt = Vocabulary(tokens, eos=eos, special=vocab.special)
    assert rebuilt.digest == vocab.digest


def test_every_export_exists() -> None:
    for name in trivium.__all__:
        assert hasattr(trivium, name)
