"""The store of positions to distil from: bounded, rejected ones first, saved and read again."""

from __future__ import annotations

import numpy as np
import pytest
from trivium import Vocabulary
from trivium.errors import InputError
from trivium.replay import ReplayStore


def filled(n=200, **settings):
    store = ReplayStore(**{"max_bytes": 8000, "context": 8, "top": 4, **settings})
    for i in range(n):
        store.add(list(range(i, i + 20)), [1, 2, 3, 4, 5], [0.1, 0.5, 0.2, 0.1, 0.1], accepted=True)
        store.add([i], [i], [1.0], accepted=False)
        assert store.memory <= 8000
    return store


def test_bytes_are_bounded_and_rejected_positions_come_first():
    store = filled()
    n = len(store)
    assert n == 8000 // (4 * (8 + 2 * 4) + 64)
    examples = store.take()
    assert len(examples) == n
    assert not len(store)
    half = -(-n // 2)
    assert not any(e.accepted for e in examples[:half])
    assert all(e.accepted for e in examples[half:])
    kept = examples[-1]
    assert len(kept.tokens) == 8
    assert kept.ids.tolist() == [2, 3, 1, 4]
    assert kept.probs == pytest.approx([0.5, 0.2, 0.1, 0.1])
    with pytest.raises(InputError, match="holds not two"):
        ReplayStore(100)
    for wrong in (([], [1], [1.0]), ([1], [1, 2], [1.0]), ([1], [], [])):
        with pytest.raises(InputError):
            store.add(*wrong, accepted=True)


def test_updates_are_due_by_count_or_by_a_fall():
    store = filled(3, interval=2)
    assert not store.is_due
    store.finish(0.9)
    store.finish(0.9)
    assert store.is_due
    store.take()
    store.add([1], [1], [1.0], accepted=False)
    assert not store.is_due


def test_files_give_the_examples_again_and_damage_is_refused(tmp_path):
    store = filled(20, seed=3)
    vocab = Vocabulary([b"a", b"b"], eos=[])
    path = tmp_path / "replay.npz"
    store.save(path, vocabulary=vocab)
    again = ReplayStore.load(path, vocabulary=vocab)

    def pairs(s):
        return [(e.tokens.tolist(), e.ids.tolist(), e.accepted) for e in s.take()]

    assert sorted(pairs(again)) == sorted(pairs(store))
    with pytest.raises(InputError, match="another vocabulary"):
        ReplayStore.load(path, vocabulary=Vocabulary([b"c"], eos=[]))
    data = path.read_bytes()
    for bad in (b"", data[: len(data) // 2], data[:100] + b"\0" * 40 + data[140:]):
        path.write_bytes(bad)
        with pytest.raises(InputError):
            ReplayStore.load(path)
    np.savez(path, header=np.frombuffer(b'{"format": "other"}', np.uint8))
    with pytest.raises(InputError, match="other"):
        ReplayStore.load(path.with_name("replay.npz"))
