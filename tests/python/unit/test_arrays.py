"""The array border: what crosses it, what is refused, and how the refusal is typed.

`Vocabulary.decode` takes integers, `GrammarMask` matchers take mask words and logits; they stand
for every other function, because all of them read arrays through the same module.
"""

from __future__ import annotations

import array
from typing import Any

import numpy as np
import pytest
import trivium
from hypothesis import given
from hypothesis import strategies as st
from trivium import Vocabulary
from trivium.errors import InputError, TokenError

VOCAB = Vocabulary([bytes([b]) for b in range(256)], eos=[])


class Exporter:
    """An object with nothing but DLPack, which counts its exports."""

    def __init__(self, inner: Any, *, old: bool = False) -> None:
        self.inner, self.old, self.exports = inner, old, 0

    def __dlpack_device__(self) -> Any:
        return self.inner.__dlpack_device__()

    def __dlpack__(self, **options: Any) -> Any:
        if self.old and options:
            raise TypeError("unexpected keyword argument")
        self.exports += 1
        return self.inner.__dlpack__(**options)


# ---- integers ---------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["int32", "int64", "uint32"])
@given(ids=st.lists(st.integers(0, 255), max_size=20), step=st.sampled_from([-2, -1, 1, 2, 3]))
def test_integer_arrays_of_any_stride(dtype: str, ids: list[int], step: int) -> None:
    x = np.array(ids, dtype=dtype)[::step]
    assert VOCAB.decode(x) == bytes(ids[::step])


def test_what_numpy_can_read_is_read() -> None:
    for ids in ([104, 105], (104, 105), range(104, 106), array.array("i", [104, 105])):
        assert VOCAB.decode(ids) == b"hi"
    assert VOCAB.decode(np.array([104, 105])) == b"hi"
    assert VOCAB.decode([np.int64(104), np.int32(105)]) == b"hi"
    assert VOCAB.decode(np.array([], dtype=np.int32)) == b""


def test_read_only_input_is_read() -> None:
    x = np.array([104, 105])
    x.flags.writeable = False
    assert VOCAB.decode(x) == b"hi"


def test_column_of_a_matrix() -> None:
    x = np.arange(97, 109, dtype=np.int64).reshape(4, 3)
    assert VOCAB.decode(x[:, 1]) == b"behk"
    assert VOCAB.decode(x[2]) == b"ghi"


@pytest.mark.parametrize("old", [False, True])
def test_any_exporter_serves(old: bool) -> None:
    x = Exporter(np.array([104, 105]), old=old)
    assert VOCAB.decode(x) == b"hi"
    assert x.exports == 1


@pytest.mark.parametrize(
    "bad",
    [
        np.array([1.0, 2.0]),
        np.array([1, 2], dtype=np.float16),
        np.array([1, 2], dtype=np.int8),
        np.array([1, 2], dtype=np.int16),
        np.array([1, 2], dtype=np.uint64),
        np.array([True, False]),
        np.array([1j]),
        np.array(["a"]),
        np.array([None]),
        np.array([1, 2], dtype=">i8"),
        np.zeros((1, 2), dtype=np.int64),
        np.zeros((2, 2, 2), dtype=np.int64),
        np.array(3),
        [1.5],
        [[1]],
        {"a": 1},
        object(),
        3,
        b"hi",
    ],
    ids=lambda x: repr(x)[:30],
)
def test_other_input_is_an_input_error(bad: Any) -> None:
    with pytest.raises(InputError) as caught:
        VOCAB.decode(bad)
    assert caught.value.what == "tokens"
    assert caught.value.why


def test_ids_outside_are_token_errors() -> None:
    for ids in (np.array([0, 256]), np.array([-1]), np.array([2**40]), np.array([2**32 + 1])):
        with pytest.raises(TokenError):
            VOCAB.decode(ids)


def test_memory_is_released() -> None:
    import sys

    x = np.array([104, 105])
    before = sys.getrefcount(x)
    for _ in range(50):
        VOCAB.decode(x)
        with pytest.raises(TokenError):
            VOCAB.decode(np.array([999]))
    assert sys.getrefcount(x) == before


# ---- torch ------------------------------------------------------------------------------------


def torch_module() -> Any:
    return pytest.importorskip("torch")


@pytest.mark.stack
@pytest.mark.parametrize("dtype", ["int32", "int64"])
def test_torch_integers(dtype: str) -> None:
    torch = torch_module()
    x = torch.tensor([104, 0, 105, 0], dtype=getattr(torch, dtype))
    assert VOCAB.decode(x[::2]) == b"hi"
    assert VOCAB.decode(x[1:1]) == b""
    assert VOCAB.decode(x.reshape(2, 2)[:, 0]) == b"hi"


@pytest.mark.stack
def test_torch_refusals_are_typed() -> None:
    torch = torch_module()
    bad = [
        torch.zeros(2, dtype=torch.bfloat16),
        torch.zeros(2, dtype=torch.float32),
        torch.zeros(2, dtype=torch.int16),
        torch.zeros(2, dtype=torch.bool),
        torch.zeros(2, requires_grad=True),
        torch.zeros((2, 2), dtype=torch.int64),
        torch.zeros(2, dtype=torch.int64, device="meta"),
        torch.zeros(4, dtype=torch.int64).to_sparse(),
        torch.zeros(2, dtype=torch.complex64).conj(),
    ]
    for x in bad:
        with pytest.raises(InputError) as caught:
            VOCAB.decode(x)
        assert caught.value.what == "tokens"


class Misbehaving:
    """An exporter that breaks the protocol in one place."""

    def __init__(self, device: Any = (1, 0), capsule: Any = None) -> None:
        self.device, self.capsule = device, capsule

    def __dlpack_device__(self) -> Any:
        return self.device

    def __dlpack__(self, **options: Any) -> Any:
        if isinstance(self.capsule, Exception):
            raise self.capsule
        return self.capsule


@pytest.mark.parametrize(
    "bad",
    [
        Misbehaving(),
        Misbehaving(device=None),
        Misbehaving(device=(2, 0)),
        Misbehaving(capsule=BufferError("no")),
        Misbehaving(capsule=RuntimeError("no")),
    ],
)
def test_broken_exporters_are_input_errors(bad: Any) -> None:
    with pytest.raises(InputError):
        VOCAB.decode(bad)


@pytest.mark.gpu
def test_page_locked_memory_is_host_memory(cuda: None) -> None:
    torch = torch_module()
    assert VOCAB.decode(torch.tensor([104, 105]).pin_memory()) == b"hi"


@pytest.mark.gpu
def test_cuda_integers_are_refused_by_the_cpu_path(cuda: None) -> None:
    torch = torch_module()
    with pytest.raises(InputError, match="device"):
        VOCAB.decode(torch.zeros(2, dtype=torch.int64, device="cuda"))


# ---- logits -----------------------------------------------------------------------------------

WIDTH = 12


def verify(rows: Any) -> list[int]:
    """Emitted tokens of one step whose tree has as many nodes as `rows`."""
    spec = trivium.Speculator(WIDTH, sources=["suffix"], seed=3)
    req = spec.start([1, 2, 3, 4, 1, 2])
    batch = spec.propose([req])
    return spec.verify(batch, logits=rows).tokens.tolist()


def num_nodes() -> int:
    spec = trivium.Speculator(WIDTH, sources=["suffix"], seed=3)
    return len(spec.propose([spec.start([1, 2, 3, 4, 1, 2])]).tokens)


# Small integers are exact in every float type, so every spelling must give the same tokens.
LOGITS = np.random.default_rng(5).integers(-3, 4, size=(num_nodes(), WIDTH)).astype(np.float32)


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_logits_of_any_float_type_give_the_same_tokens(dtype: str) -> None:
    assert verify(LOGITS.astype(dtype)) == verify(LOGITS)


def test_rows_may_be_strided_and_read_only() -> None:
    wide = np.full((len(LOGITS), WIDTH + 5), 99, dtype=np.float32)
    wide[:, :WIDTH] = LOGITS
    assert verify(wide[:, :WIDTH]) == verify(LOGITS)
    double = np.repeat(LOGITS, 2, axis=0)
    assert verify(double[::2]) == verify(LOGITS)
    LOGITS.flags.writeable = False
    try:
        assert verify(LOGITS) == verify(LOGITS.copy())
    finally:
        LOGITS.flags.writeable = True


@pytest.mark.parametrize(
    "bad",
    [
        LOGITS[:-1],
        LOGITS[:, :-1],
        LOGITS[0],
        LOGITS[None],
        np.asfortranarray(LOGITS),
        np.repeat(LOGITS, 2, axis=1)[:, ::2],
        LOGITS[::-1],
        np.broadcast_to(LOGITS[:1], LOGITS.shape),
        LOGITS.astype(np.int64),
        LOGITS.astype(bool),
        LOGITS.astype(np.complex64),
        LOGITS.astype(object),
        LOGITS.astype(">f4"),
        np.full_like(LOGITS, np.nan),
        np.full_like(LOGITS, np.inf),
        "rows",
    ],
    ids=lambda x: f"{getattr(x, 'dtype', type(x))} {getattr(x, 'shape', '')}",
)
def test_other_logits_are_input_errors(bad: Any) -> None:
    with pytest.raises(InputError):
        verify(bad)


def test_a_misaligned_array_is_an_input_error() -> None:
    raw = bytearray(LOGITS.nbytes + 1)
    x = np.frombuffer(raw, dtype=np.float32, offset=1).reshape(LOGITS.shape)
    with pytest.raises(InputError):
        verify(x)


def test_an_error_leaves_the_request_as_it_was() -> None:
    spec = trivium.Speculator(WIDTH, sources=["suffix"], seed=3)
    req = spec.start([1, 2, 3, 4, 1, 2])
    batch = spec.propose([req])
    with pytest.raises(InputError):
        spec.verify(batch, logits=np.full_like(LOGITS, np.nan))
    assert len(req) == 6
    assert spec.verify(batch, logits=LOGITS).tokens.tolist() == verify(LOGITS)


@pytest.mark.stack
@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "float64"])
def test_torch_logits(dtype: str) -> None:
    torch = torch_module()
    rows = torch.from_numpy(LOGITS.copy()).to(getattr(torch, dtype))
    assert verify(rows) == verify(LOGITS)
    wide = torch.cat([rows, rows], dim=1)
    assert verify(wide[:, :WIDTH]) == verify(LOGITS)


@pytest.mark.stack
def test_torch_logits_that_need_grad_are_refused_with_a_hint() -> None:
    torch = torch_module()
    rows = torch.from_numpy(LOGITS.copy()).requires_grad_()
    with pytest.raises(InputError, match="detach"):
        verify(rows)
    assert verify(rows.detach()) == verify(LOGITS)


@pytest.mark.stack
def test_torch_logits_elsewhere_are_refused() -> None:
    torch = torch_module()
    with pytest.raises(InputError):
        verify(torch.zeros(LOGITS.shape, device="meta"))
    with pytest.raises(InputError):
        verify(torch.zeros(LOGITS.shape).to_sparse())


# ---- masks: written in place ------------------------------------------------------------------

MASKED = Vocabulary(
    [*(bytes([b]) for b in range(256)), b""], eos=[256], special={256: "</s>"}, num_rows=260
)
WORDS = 9


def matcher() -> Any:
    return trivium.GrammarMask.regex("[ab]+c", MASKED).matcher()


def allowed(words: np.ndarray) -> list[int]:
    return [i for i in range(32 * WORDS) if words.view(np.uint32)[i // 32] >> (i % 32) & 1]


@pytest.mark.parametrize("dtype", ["int32", "uint32"])
def test_fill_writes_the_callers_words(dtype: str) -> None:
    row = np.full(WORDS, 7, dtype=dtype)
    matcher().fill(row)
    assert allowed(row) == [ord("a"), ord("b")]
    table = np.full((3, WORDS), 7, dtype=dtype)
    matcher().fill(table[1])
    assert allowed(table[1]) == [ord("a"), ord("b")]
    assert (table[[0, 2]] == 7).all()


@pytest.mark.parametrize(
    "bad",
    [
        np.zeros(WORDS - 1, dtype=np.int32),
        np.zeros(WORDS, dtype=np.int64),
        np.zeros(WORDS, dtype=np.float32),
        np.zeros(2 * WORDS, dtype=np.int32)[::2],
        np.zeros((2, WORDS), dtype=np.int32),
        np.zeros(WORDS, dtype=bool),
        None,
        "row",
    ],
    ids=lambda x: f"{getattr(x, 'dtype', type(x))} {getattr(x, 'shape', '')}",
)
def test_other_mask_rows_are_input_errors(bad: Any) -> None:
    with pytest.raises(InputError):
        matcher().fill(bad)


def test_what_is_wider_than_the_logits_is_masked() -> None:
    row = np.full(WORDS + 2, -1, dtype=np.int32)
    matcher().fill(row)
    assert allowed(row[:WORDS]) == [ord("a"), ord("b")]
    assert not row[WORDS:].any()
    logits = np.zeros(300, dtype=np.float32)
    matcher().apply(logits)
    assert np.isneginf(logits[257:]).all()


def test_what_cannot_be_written_in_place_is_refused() -> None:
    row = np.zeros(WORDS, dtype=np.int32)
    row.flags.writeable = False
    with pytest.raises(InputError):
        matcher().fill(row)
    logits = np.zeros(260, dtype=np.float32)
    logits.flags.writeable = False
    with pytest.raises(InputError):
        matcher().apply(logits)
    assert not row.any()
    assert not logits.any()
    with pytest.raises(InputError):
        matcher().apply([0.0] * 260)  # a list has no memory to write to


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_apply_writes_the_callers_logits(dtype: str) -> None:
    row = np.zeros(260, dtype=dtype)
    kept = matcher().apply(row)
    assert [i for i, x in enumerate(row) if x == 0] == [ord("a"), ord("b")]
    assert np.isneginf(row).sum() == 258
    assert kept == pytest.approx(np.log(2 / 260))
    table = np.zeros((3, 260), dtype=dtype)
    matcher().apply(table[1:2])
    assert np.isneginf(table[1]).sum() == 258
    assert not table[[0, 2]].any()


@pytest.mark.parametrize(
    "bad",
    [
        np.zeros(259, dtype=np.float32),
        np.zeros((2, 260), dtype=np.float32),
        np.zeros(520, dtype=np.float32)[::2],
        np.zeros(260, dtype=np.int32),
        np.zeros(260, dtype=np.complex64),
        np.float32(3),
        None,
    ],
    ids=lambda x: f"{getattr(x, 'dtype', type(x))} {getattr(x, 'shape', '')}",
)
def test_other_logits_to_mask_are_input_errors(bad: Any) -> None:
    with pytest.raises(InputError):
        matcher().apply(bad)


@pytest.mark.stack
@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "float64"])
def test_torch_tensors_are_masked_in_place(dtype: str) -> None:
    torch = torch_module()
    row = torch.zeros(260, dtype=getattr(torch, dtype))
    where = row.data_ptr()
    matcher().apply(row)
    assert row.data_ptr() == where
    assert torch.isneginf(row).sum() == 258
    words = torch.zeros((2, WORDS), dtype=torch.int32)
    matcher().fill(words[1])
    assert allowed(words[1].numpy()) == [ord("a"), ord("b")]
    assert not words[0].any()


@pytest.mark.stack
def test_torch_tensors_that_cannot_be_written_are_refused() -> None:
    torch = torch_module()
    for bad in (
        torch.zeros(260, requires_grad=True),
        torch.zeros(260, device="meta"),
        torch.zeros(260, dtype=torch.int64),
        torch.zeros(520)[::2],
        torch.zeros(1).expand(260),
    ):
        with pytest.raises(InputError):
            matcher().apply(bad)


def test_fill_batch_writes_one_row_each() -> None:
    out = np.full((2, WORDS), -1, dtype=np.int32)
    done = matcher()
    assert done.commit(ord("a"))
    trivium.fill_batch([matcher(), done], out)
    assert allowed(out[0]) == [ord("a"), ord("b")]
    assert allowed(out[1]) == [ord("a"), ord("b"), ord("c")]
    with pytest.raises(InputError):
        trivium.fill_batch([matcher()], np.zeros((1, WORDS - 1), dtype=np.int32))
