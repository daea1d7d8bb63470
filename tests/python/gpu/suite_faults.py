"""Drivers that fail: typed errors, or the CPU's path with one warning; see ``test_device.py``."""

from __future__ import annotations

import os
import warnings
from typing import Any

import numpy as np
import pytest
from trivium import GrammarMask, Speculator, sampling
from trivium.cli import doctor
from trivium.errors import DeviceError
from trivium.vocabulary import Vocabulary

FAULT = os.environ["TRIVIUM_STAND_IN"]
WIDTH = 300
X = np.random.default_rng(1).standard_normal((1, WIDTH)).astype(np.float32)


class Elsewhere:
    """A CUDA array whose library can copy it to the host and back."""

    def __init__(self, values: Any) -> None:
        self.values, self.shape = values.copy(), values.shape

    def __dlpack_device__(self) -> tuple[int, int]:
        return (2, 0)

    def __dlpack__(self, *, dl_device: Any = None, copy: Any = None, **options: Any) -> Any:
        assert dl_device == (1, 0), "only the host can be served"
        return self.values.copy().__dlpack__(max_version=options.get("max_version"))

    def get(self) -> Any:
        return self.values.copy()

    def set(self, values: Any) -> None:
        self.values[...] = values


def matcher() -> Any:
    tokens = [bytes([b]) for b in range(256)] + [b"</s>"]
    vocab = Vocabulary(tokens, eos=[256], special={256: "</s>"}, num_rows=WIDTH)
    return GrammarMask.regex("[ab]+c", vocab).matcher()


def verify(rows: Any) -> Any:
    spec = Speculator(WIDTH, sources=[], seed=3)
    return spec.verify(spec.propose([spec.start([1, 2])]), logits=rows).tokens.tolist()


def sample(rows: Any) -> Any:
    return sampling.Pipeline(temperature=0.7).sample(rows, seed=1)[0].tolist()


REASONS = {"old": "unsupported toolchain", "broken": "symbol"}


@pytest.mark.skipif(FAULT not in REASONS, reason="the driver loads")
def test_the_cpu_serves_with_one_warning() -> None:
    want = (verify(X), sample(X))
    array = Elsewhere(X)
    row, host = Elsewhere(X[0]), X[0].copy()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        assert (verify(array), sample(array)) == want
        assert matcher().apply(row) == matcher().apply(host)
    assert [w.category for w in caught] == [RuntimeWarning]
    assert REASONS[FAULT] in str(caught[0].message)
    assert np.array_equal(row.values, host)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert (verify(array), sample(array)) == want


@pytest.mark.skipif(FAULT not in REASONS, reason="the driver loads")
def test_what_cannot_be_written_back_is_a_device_error() -> None:
    class OneWay(Elsewhere):
        get = set = property(lambda self: (_ for _ in ()).throw(AttributeError("no")))

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with pytest.raises(DeviceError):
            matcher().apply(OneWay(X[0]))


@pytest.mark.skipif(FAULT in REASONS, reason="the driver does not load")
def test_a_failing_call_is_a_device_error(device: Any) -> None:
    if FAULT == "full":
        with pytest.raises(AssertionError):
            device.rows(X)  # the host itself gets no memory either
        os.environ.pop("TRIVIUM_STAND_IN")
    array = device.rows(X)
    os.environ["TRIVIUM_STAND_IN"] = FAULT
    for call in (verify, sample, lambda rows: matcher().apply(rows)):
        with pytest.raises(DeviceError) as caught:
            call(array)
        assert caught.value.code == {"full": 2, "launch": 719}[FAULT]
    assert np.array_equal(array.numpy(), X)
    # The same process goes on when the device does.
    os.environ["TRIVIUM_STAND_IN"] = "none"
    assert (verify(array), sample(array)) == (verify(X), sample(X))


def test_doctor_names_the_reason() -> None:
    gpu = doctor.examine()["gpu"]
    if FAULT in REASONS:
        assert gpu["loads"] is False
        assert REASONS[FAULT] in gpu["why_not"]
    else:
        assert gpu["loads"] is True
