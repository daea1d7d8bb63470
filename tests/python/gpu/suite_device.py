"""Calls over CUDA arrays: the same answers as over host arrays, on the caller's stream; bad input.

``test_device.py`` runs this with the stand-in driver, and with torch's device where there is one.
"""

from __future__ import annotations

import re
import threading
import warnings
from typing import Any

import numpy as np
import pytest
import trivium
from trivium import Speculator, _device, sampling
from trivium.errors import InputError, StateError, TokenError, UnsupportedError
from trivium.speculator import TreeBatch
from trivium.vocabulary import Vocabulary

DTYPES = ("float32", "float16", "bfloat16")


def values(shape: Any, seed: int, spread: int = 12) -> Any:
    """Multiples of a half, exact in every dtype: ties are common; some are minus infinity."""
    rng = np.random.default_rng(seed)
    x = rng.integers(-spread, spread + 1, shape).astype(np.float32) / 2
    x[rng.random(shape) < 0.1] = -np.inf
    return x


@pytest.fixture
def only_stand_in(device: Any) -> Any:
    """What needs an exporter that lies."""
    if device.name != "stand-in":
        pytest.skip("arrays of the stand-in only")
    return device


# ---- Matcher.apply -----------------------------------------------------------------------------


def matcher(num_rows: int) -> Any:
    tokens = [bytes([b]) for b in range(256)] + [b"ab", b"bc", b"</s>"]
    vocab = Vocabulary(tokens, eos=[258], special={258: "</s>"}, num_rows=num_rows)
    return trivium.GrammarMask.regex("[ab]+c", vocab).matcher()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("width", [259, 264, 1000])
def test_apply_masks_in_place(device: Any, dtype: str, width: int) -> None:
    table = values((3, width), 1)
    array = device.rows(table, dtype, pad=3, lead=1)
    row = array[1:2] if device.name == "torch" else device.rows(table[1:2], dtype, pad=3, lead=5)
    want = table[1:2].copy()
    kept = matcher(260).apply(want) if width > 259 else None
    if kept is None:
        with pytest.raises(InputError):
            matcher(260).apply(row)
        assert np.array_equal(device.read(row), want)
        return
    assert matcher(260).apply(row) == pytest.approx(kept, abs=1e-4)
    assert np.array_equal(device.read(row), want)
    if device.name == "stand-in":
        assert (row.padding() == 99).all()


def test_apply_says_what_is_left(device: Any) -> None:
    m = matcher(259)
    flat = np.zeros(259, np.float32)
    flat[[97, 98, 256, 257]] = -np.inf
    assert m.apply(device.rows(flat)) == -np.inf
    assert m.apply(device.rows(np.full(259, -np.inf))) == -np.inf
    whole = np.full(259, -np.inf, np.float32)
    whole[97] = 3
    assert m.apply(device.rows(whole)) == 0.0


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_apply_leaves_a_bad_row_as_it_was(device: Any, bad: float) -> None:
    x = values(259, 2)
    x[7] = bad
    row = device.rows(x)
    with pytest.raises(InputError, match="logits"):
        matcher(259).apply(row)
    assert np.array_equal(device.read(row), x, equal_nan=True)


# ---- Pipeline.sample ---------------------------------------------------------------------------

PIPELINES: list[dict[str, Any]] = [
    {},
    {"temperature": 0.0},
    {"temperature": 0.7},
    {"temperature": 1.5, "top_k": 5},
    {"temperature": 0.9, "top_p": 0.8},
    {"min_p": 0.2},
    {"temperature": 1.2, "top_k": 40, "top_p": 0.95, "min_p": 0.01},
    {"repetition_penalty": 1.3, "temperature": 0.8},
    {"frequency_penalty": 0.4, "presence_penalty": 0.3},
    {
        "repetition_penalty": {"penalty": 1.4, "scope": "prompt"},
        "frequency_penalty": 0.5,
        "temperature": 0.8,
        "top_p": 0.9,
    },
]


@pytest.mark.parametrize("draw", ["cdf", "race"])
@pytest.mark.parametrize("number", range(len(PIPELINES)))
def test_sample_equals_the_host(device: Any, number: int, draw: str) -> None:
    pipeline = sampling.Pipeline(**PIPELINES[number])
    for dtype, (rows, width) in zip(DTYPES, [(5, 31), (3, 257), (2, 1500)], strict=True):
        x = values((rows, width), 10 * number + width)
        rng = np.random.default_rng(number)
        history = [rng.integers(0, width + 4, n).tolist() for n in range(0, 9 * rows, 9)]
        allowed = rng.random((rows, width)) < 0.7 if number % 2 else None
        call: dict[str, Any] = {
            "seed": list(range(rows)),
            "branch": [number] * rows,
            "history": history,
            "prompt_len": [len(h) // 2 for h in history],
            "allowed": allowed,
            "draw": draw,
        }
        tokens, logprobs = pipeline.sample(x, **call)
        array = device.rows(x, dtype, pad=number % 3, lead=number % 2)
        before = len(device.launches())
        found, found_logprobs = pipeline.sample(array, **call)
        assert found.tolist() == tokens.tolist()
        assert np.allclose(found_logprobs, logprobs, atol=1e-5)
        if device.name == "stand-in":
            launches = device.launches()[before:]
            assert launches, "nothing ran on the device"
            assert {stream for _, stream in launches} == {array.stream}
            assert set(array.asked) == {array.stream}
            suffix = {"float32": "_f32", "float16": "_f16", "bfloat16": "_bf16"}[dtype]
            assert all(name.endswith((suffix, "_merge")) for name, _ in launches)


def test_one_row_is_one_token(device: Any) -> None:
    x = values(40, 3)
    pipeline = sampling.Pipeline(temperature=0.6)
    want = pipeline.sample(x, seed=5)
    token, logprob = pipeline.sample(device.rows(x), seed=5)
    assert (token, type(token)) == (want[0], int)
    assert logprob == pytest.approx(want[1], abs=1e-5)


def test_rows_bring_their_own_values(device: Any) -> None:
    pipeline = sampling.Pipeline(temperature=1.0, top_k=9, top_p=0.9, min_p=0.1)
    x = values((4, 300), 4)
    call: dict[str, Any] = {
        "seed": 3,
        "index": [4, 5, 6, 7],
        "temperature": [0.0, 0.5, 1.0, 2.0],
        "top_k": [0, 1, 4, 300],
        "top_p": [1.0, 0.5, 0.9, 0.2],
        "min_p": [0.0, 0.3, 0.0, 1.0],
    }
    want = pipeline.sample(x, **call)
    found = pipeline.sample(device.rows(x), **call)
    assert found[0].tolist() == want[0].tolist()
    assert np.allclose(found[1], want[1], atol=1e-5)
    with pytest.raises(InputError, match="top_p"):
        pipeline.sample(device.rows(x), **{**call, "top_p": 2.0})


@pytest.mark.parametrize("spoil", ["nan", "inf", "empty", "masked", "overflow"])
def test_faults_are_the_hosts(device: Any, spoil: str) -> None:
    """A row that a kernel refuses is decided by the CPU, with its error or its answer."""
    x, allowed = values((3, 70), 5), None
    pipeline = sampling.Pipeline(temperature=0.5)
    if spoil in ("nan", "inf"):
        x[1, 9] = float(spoil)
    elif spoil == "empty":
        x[1] = -np.inf
    elif spoil == "masked":
        allowed = np.ones((3, 70), bool)
        allowed[1] = False
    else:
        x[1] = 3e38
    call: dict[str, Any] = {"seed": 1, "allowed": allowed}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        if spoil == "overflow":
            found, want = pipeline.sample(device.rows(x), **call), pipeline.sample(x, **call)
            assert found[0].tolist() == want[0].tolist()
            return
        with pytest.raises((InputError, StateError)) as host:
            pipeline.sample(x, **call)
        with pytest.raises(type(host.value)) as found_error:
            pipeline.sample(device.rows(x), **call)
    assert str(found_error.value) == str(host.value)


def test_other_rules_go_to_the_cpu_with_one_warning(device: Any) -> None:
    pipeline = sampling.Pipeline(typical=0.9)
    x = values((2, 50), 6)
    want = pipeline.sample(x, seed=2)
    array = device.rows(x)
    _device._warned.clear()
    with pytest.warns(RuntimeWarning, match="copied to the host"):
        found = pipeline.sample(array, seed=2)
    assert found[0].tolist() == want[0].tolist()
    assert (
        pipeline.sample(array, seed=2)[0].tolist() == want[0].tolist()
    )  # a second one would raise


# ---- Speculator.verify -------------------------------------------------------------------------

WIDTH = 300


def same(found: Any, want: Any) -> None:
    for name in ("tokens", "cu_tokens", "num_accepted", "kv_gather"):
        assert getattr(found, name).tolist() == getattr(want, name).tolist(), name
    assert np.allclose(found.logprobs, want.logprobs, atol=1e-5)


class Pair:
    """One speculator on the host, its twin on the device; they must never part."""

    def __init__(self, device: Any, seed: int, **start: Any) -> None:
        self.device, self.rng = device, np.random.default_rng(seed)
        self.specs = [
            Speculator(WIDTH, sources=["suffix", "recycle"], max_nodes=5, seed=3) for _ in range(2)
        ]
        prompts = [self.rng.integers(0, 12, n).tolist() for n in (9, 30, 2)]
        self.requests = [
            [s.start(p, branch=b, **start) for b, p in enumerate(prompts)] for s in self.specs
        ]

    def step(self, dtype: str, **params: Any) -> tuple[Any, Any]:
        """Verify the same rows on both sides and commit."""
        batches = [s.propose(r) for s, r in zip(self.specs, self.requests, strict=True)]
        assert batches[0].tokens.tolist() == batches[1].tokens.tolist(), "stores learned otherwise"
        n = len(batches[0].tokens)
        x = values((n, WIDTH), int(self.rng.integers(1 << 30)))
        x[:, :12] += 6  # few tokens, so that drafts are accepted
        want = self.specs[0].verify(batches[0], logits=x, **params)
        array = self.device.rows(x, dtype, pad=int(self.rng.integers(4)))
        found = self.specs[1].verify(batches[1], logits=array, **params)
        same(found, want)
        self.specs[0].commit(want)
        self.specs[1].commit(found)
        return array, found


@pytest.mark.parametrize("draw", ["cdf", "race"])
@pytest.mark.parametrize("dtype", DTYPES)
def test_verify_equals_the_host(device: Any, dtype: str, draw: str) -> None:
    pair = Pair(device, 1, draw=draw)
    accepted = 0
    for step in range(5 if dtype == "float32" else 2):
        params: dict[str, Any] = {"temperature": [0.0, 0.7, 1.0], "top_p": [1.0, 0.9, 1.0]}
        if step % 2:
            params = {"temperature": 0.3, "top_k": 8, "min_p": 0.01}
        array, found = pair.step(dtype, **params)
        accepted += int(found.num_accepted.sum())
        if device.name == "stand-in":
            assert set(array.asked) == {array.stream}
    assert accepted > 0 or dtype != "float32", "a walk that never moved shows little"
    stats = [s.stats() for s in pair.specs]
    assert stats[0] == stats[1]


def test_verify_under_constraints(device: Any) -> None:
    tokens = [bytes([b]) for b in range(256)] + [b"</s>"]
    vocab = Vocabulary(tokens, eos=[256], special={256: "</s>"}, num_rows=WIDTH)
    grammar = trivium.GrammarMask.regex(r"[\x00-\x0b]{1,9}", vocab)
    pair = Pair(device, 2, constraint=grammar.matcher())
    for _ in range(3):
        pair.step("float32", temperature=0.4)
    # Their own matchers advance with them, to the end of sequence at the latest.
    lengths = [[len(r) for r in side] for side in pair.requests]
    assert lengths[0] == lengths[1]


def test_verify_under_pipelines(device: Any) -> None:
    pipeline = sampling.Pipeline(
        repetition_penalty={"penalty": 1.2, "window": 6},
        frequency_penalty=0.3,
        presence_penalty=0.1,
        temperature=0.4,
        top_k=20,
    )
    pair = Pair(device, 3, pipeline=pipeline)
    for _ in range(2):
        pair.step("float16")


def test_a_fault_on_the_path_is_the_hosts(device: Any) -> None:
    specs = [Speculator(WIDTH, sources=[], seed=3) for _ in range(2)]
    requests = [s.start([1, 2]) for s in specs]
    x = values((1, WIDTH), 8)
    x[0, 3] = np.nan
    messages = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        for spec, request, rows in zip(specs, requests, [x, device.rows(x)], strict=True):
            with pytest.raises(InputError) as caught:
                spec.verify(spec.propose([request]), logits=rows)
            messages.append(str(caught.value))
            assert len(request) == 2
    assert messages[0] == messages[1]


def test_other_verifiers_go_to_the_cpu_with_one_warning(device: Any) -> None:
    spec = Speculator(20, sources=[], verifier="multi_round", seed=1)
    request = spec.start([1, 2])
    tokens, parents, cu = [2, 5, 5, 6], [-1, 0, 0, 1], [0, 4]
    q = np.full((4, 20), 0.05, np.float32)
    x = values((4, 20), 9)
    batch = TreeBatch.from_arrays(tokens, parents, cu, requests=[request], law="iid")
    want = spec.verify(batch, logits=x, q=q)
    _device._warned.clear()
    with pytest.warns(RuntimeWarning, match="copied to the host"):
        found = spec.verify(batch, logits=device.rows(x), q=device.rows(q))
    same(found, want)
    with pytest.raises(InputError, match="on the host"):
        spec.verify(batch, logits=device.rows(x), q=q)


@pytest.mark.parametrize("verifier", ["token", "block"])
@pytest.mark.parametrize("draw", ["cdf", "race"])
def test_chains_are_tested_where_they_are(device: Any, verifier: str, draw: str) -> None:
    """Drawn chains of several lengths; the residual is drawn by the host's own numbers."""
    width, lengths = 300, [4, 0, 6]
    accepted = 0
    for seed in range(4):
        rng = np.random.default_rng(seed)
        spec = Speculator(width, sources=["recycle"], verifier=verifier, seed=seed)
        requests = [spec.start([1, 2, 3], branch=b, draw=draw) for b in range(len(lengths))]
        n = sum(lengths) + len(lengths)
        x = values((n, width), seed, 4)
        weights = np.exp(0.8 * np.where(np.isinf(x), -9, x) + 0.4 * rng.random((n, width)))
        q = (weights / weights.sum(1, keepdims=True)).astype(np.float32)
        tokens, parents, cu = [], [], [0]
        for length in lengths:
            parents += range(-1, length)
            tokens.append(3)
            for law in q[len(tokens) - 1 : len(tokens) - 1 + length].astype(float):
                tokens += [int(rng.choice(width, p=law / law.sum()))]
            cu.append(len(tokens))
        batch = TreeBatch.from_arrays(tokens, parents, cu, requests=requests, law="iid")
        params: dict[str, Any] = {"temperature": [1.0, 0.7, 1.3], "top_p": [1.0, 0.9, 0.95]}
        want = spec.verify(batch, logits=x, q=q, **params)
        before = len(device.launches())
        dtype = DTYPES[seed % 3]
        found = spec.verify(batch, logits=device.rows(x, dtype), q=device.rows(q), **params)
        same(found, want)
        accepted += int(found.num_accepted.sum())
        if device.name == "stand-in":
            names = {name for name, _ in device.launches()[before:]}
            assert f"reject_chains_{dtype.replace('float', 'f')}" in names
        spoiled = q.copy()
        spoiled[0] *= 0.5
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)
            with pytest.raises(InputError) as host:
                spec.verify(batch, logits=x, q=spoiled, **params)
            with pytest.raises(InputError, match=re.escape(str(host.value))):
                spec.verify(batch, logits=device.rows(x), q=device.rows(spoiled), **params)
    assert accepted > 4


def test_wrong_shapes_are_the_hosts_errors(device: Any) -> None:
    spec = Speculator(WIDTH, sources=[], seed=3)
    request = spec.start([1, 2])
    batch = spec.propose([request])
    for shape in [(2, WIDTH), (1, WIDTH - 1), (1, WIDTH + 1)]:
        x = values(shape, 1)
        with pytest.raises(InputError) as host:
            spec.verify(batch, logits=x)
        with pytest.raises(InputError, match=re.escape(str(host.value))):
            spec.verify(batch, logits=device.rows(x))
    request.commit([3])
    with pytest.raises(StateError):
        spec.verify(batch, logits=device.rows(values((1, WIDTH), 1)))


def test_ids_are_still_the_hosts(device: Any) -> None:
    with pytest.raises((InputError, TokenError)):
        sampling.Pipeline().sample(values(9, 1), seed=1, index=2, history=device.rows([1.0, 2.0]))


# ---- bad input ---------------------------------------------------------------------------------


def calls(array: Any) -> list[Any]:
    """The three calls over one row of 300 logits."""
    spec = Speculator(WIDTH, sources=[], seed=3)
    batch = spec.propose([spec.start([1, 2])])
    return [
        lambda: matcher(259).apply(array),
        lambda: sampling.Pipeline().sample(array, seed=1),
        lambda: spec.verify(batch, logits=array),
    ]


LIES: dict[str, dict[str, Any]] = {
    "last axis not contiguous": {"shape": (1, 300), "strides": (600, 2)},
    "reversed rows": {"shape": (2, 300), "strides": (-300, 1)},
    "overlapping rows": {"shape": (2, 300), "strides": (1, 1)},
    "three axes": {"shape": (1, 1, 300), "strides": (300, 300, 1)},
    "negative shape": {"shape": (1, -300)},
    "beyond its allocation": {"shape": (1 << 20, 300)},
    "overflows": {"shape": (1 << 20, 1 << 44), "strides": (1 << 44, 1)},
    "misaligned": {"address": 1},
    "no memory of the device": {"address": None},
    "another device than its capsule's": {"capsule_device": (1, 0)},
    "of ROCm": {"device": (10, 0)},
    "of Metal": {"device": (8, 0)},
    "DLPack 2": {"major": 2},
}


@pytest.mark.parametrize("lie", LIES)
def test_arrays_that_lie_are_input_errors(only_stand_in: Any, lie: str) -> None:
    device = only_stand_in
    host = np.zeros(4096, np.float32)
    for number in range(3):
        array = device.rows(values((1, WIDTH), 1))
        before = array.numpy()
        for field, value in LIES[lie].items():
            if field == "address":
                value = host.ctypes.data if value is None else array.address + value
            setattr(array, field, value)
        with pytest.raises(InputError) as caught:
            calls(array)[number]()
        assert "logits" in str(caught.value)
        array.shape, array.address = (1, WIDTH), array.base
        array.strides = (WIDTH, 1)
        assert np.array_equal(array.numpy(), before)


def test_a_device_that_does_not_exist(only_stand_in: Any) -> None:
    """There is no driver for it: the CPU's path, with one warning."""
    x = values((1, WIDTH), 1)
    array = only_stand_in.rows(x)
    array.device = array.capsule_device = (2, 7)
    _device._warned.clear()
    with pytest.warns(RuntimeWarning, match="invalid device ordinal"):
        found = sampling.Pipeline().sample(array, seed=1)
    assert found[0].tolist() == sampling.Pipeline().sample(x, seed=1)[0].tolist()


@pytest.mark.parametrize("dtype", ["int32", "bool", "complex64"])
def test_other_dtypes_are_input_errors(only_stand_in: Any, dtype: str) -> None:
    import stand_in

    array = only_stand_in.rows(values((1, WIDTH), 1))
    stand_in.CODES[dtype] = {"int32": (0, 32), "bool": (6, 8), "complex64": (5, 64)}[dtype]
    array.dtype = dtype
    for call in calls(array):
        with pytest.raises(InputError, match="dtype"):
            call()


def test_float64_goes_to_the_cpu(only_stand_in: Any) -> None:
    x = values((1, WIDTH), 1)
    array = only_stand_in.rows(x, "float64")
    _device._warned.clear()
    with pytest.warns(RuntimeWarning, match="float32, float16, bfloat16"):
        found = sampling.Pipeline().sample(array, seed=1)
    assert found[0].tolist() == sampling.Pipeline().sample(x, seed=1)[0].tolist()


def test_a_consumed_capsule_is_an_input_error(only_stand_in: Any) -> None:
    class Consumed:
        def __init__(self, array: Any, name: bytes) -> None:
            self.array, self.name, self.shape = array, name, array.shape

        def __dlpack_device__(self) -> tuple[int, int]:
            return (2, 0)

        def __dlpack__(self, **options: Any) -> Any:
            import ctypes

            capsule = self.array.__dlpack__(**options)
            set_name = ctypes.pythonapi.PyCapsule_SetName
            set_name.argtypes = (ctypes.py_object, ctypes.c_char_p)
            set_name(capsule, self.name)
            return capsule

    for name in (b"used_dltensor_versioned", b"used_dltensor", b"something else"):
        array = only_stand_in.rows(values((1, WIDTH), 1))
        for call in calls(Consumed(array, name)):
            with pytest.raises(InputError, match="consumed"):
                call()


def test_memory_that_is_read_only_is_not_masked(only_stand_in: Any) -> None:
    x = values(WIDTH, 1)
    array = only_stand_in.rows(x)
    array.flags = 1
    with pytest.raises(InputError, match="read-only"):
        matcher(259).apply(array)
    assert np.array_equal(array.numpy(), x)
    sampling.Pipeline().sample(array, seed=1)  # reading is fine
    with pytest.raises(InputError, match="one row"):
        matcher(259).apply(only_stand_in.rows(values((2, WIDTH), 1)))


def test_mixed_devices_are_input_errors(only_stand_in: Any) -> None:
    spec = Speculator(WIDTH, sources=[], seed=3)
    batch = spec.propose([spec.start([1, 2])])
    logits = only_stand_in.rows(values((1, WIDTH), 1))
    q = np.full((1, WIDTH), 1 / WIDTH, np.float32)
    with pytest.raises(InputError, match="q: is on the host, the logits are on CUDA device 0"):
        spec.verify(batch, logits=logits, q=q)
    other = only_stand_in.rows(q)
    other.device = (2, 1)
    with pytest.raises(InputError, match="q: is on CUDA device 1"):
        spec.verify(batch, logits=logits, q=other)
    with pytest.raises(InputError):
        spec.verify(batch, logits=values((1, WIDTH), 1), q=only_stand_in.rows(q))


# ---- streams, memory, threads ------------------------------------------------------------------


def test_memory_is_held_until_the_stream_has_passed(only_stand_in: Any) -> None:
    for number in range(3):
        array = only_stand_in.rows(values((1, WIDTH), 1))
        before = len(only_stand_in.launches())
        calls(array)[number]()
        ran = len(only_stand_in.launches())
        assert ran > before
        # One capsule, let go after the last launch and when nothing was pending.
        assert array.released == [(ran, 0)]


@pytest.mark.parametrize("stream", [1, 2, None, 0])
def test_streams_of_the_driver(only_stand_in: Any, stream: int | None) -> None:
    array = only_stand_in.rows(values((1, WIDTH), 1))
    array.stream = stream
    before = len(only_stand_in.launches())
    sampling.Pipeline().sample(array, seed=1)
    # DLPack's name of the legacy default stream is 1; 0 and None mean it.
    assert {s for _, s in only_stand_in.launches()[before:]} == {stream or 1}
    assert array.asked == [stream or 1]


def test_a_stream_that_is_none_is_a_device_error(only_stand_in: Any) -> None:
    array = only_stand_in.rows(values((1, WIDTH), 1))
    array.stream = 0xDEAD0
    for call in calls(array):
        with pytest.raises(trivium.errors.DeviceError):
            call()
    array.stream = only_stand_in.stream
    for call in calls(array):
        call()


def test_nothing_is_allocated_after_warming_up(only_stand_in: Any) -> None:
    array = only_stand_in.rows(values((4, 2000), 1))
    pipeline = sampling.Pipeline(temperature=0.8, top_p=0.9, repetition_penalty=1.1)
    pipeline.sample(array, seed=1, history=[[1], [2], [3], [4]])
    held = only_stand_in.allocations()
    for seed in range(3):
        pipeline.sample(array, seed=seed, history=[[1], [2], [3], [4]])
        assert only_stand_in.allocations() == held


def test_threads_may_call_at_once(device: Any) -> None:
    if device.name == "stand-in":
        # The stand-in runs one launch at a time and says so; the calls themselves hold no lock.
        rows = [device.rows(values((1, WIDTH), i)) for i in range(2)]
        assert [sampling.Pipeline().sample(r, seed=1)[0].tolist() for r in rows]
        return
    want = [sampling.Pipeline().sample(values((1, WIDTH), i), seed=1)[0].tolist() for i in range(8)]
    rows, found = [device.rows(values((1, WIDTH), i)) for i in range(8)], [None] * 8

    def work(i: int) -> None:
        for _ in range(50):
            found[i] = sampling.Pipeline().sample(rows[i], seed=1)[0].tolist()

    threads = [threading.Thread(target=work, args=(i,)) for i in range(8)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert found == want


def test_doctor_says_what_it_found(device: Any) -> None:
    from trivium.cli import doctor

    gpu = doctor.examine()["gpu"]
    assert gpu["devices"]
    assert gpu["why_not"] is None
    assert gpu["driver_version"] >= 12000
    assert gpu["loads"] is True


def test_the_verifier_is_checked_before_any_row(device: Any) -> None:
    spec = Speculator(WIDTH, sources=["suffix"], verifier="block", seed=3)
    batch = spec.propose([spec.start([1, 2, 3, 1, 2])])
    with pytest.raises(UnsupportedError):
        spec.verify(batch, logits=device.rows(values((len(batch.tokens), WIDTH), 1)))
