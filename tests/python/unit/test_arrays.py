"""The array border: what crosses it, what is refused, and how the refusal is typed.

`Vocabulary.decode` takes integers, `GrammarMask` matchers take mask words and logits; they stand
for every other function, because all of them read arrays through the same module.
"""

from __future__ import annotations

import array
from typing import Any

import numpy as np
import pytest
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
