"""Drafts that hosts declare: which verifiers are exact, and what is refused."""

from __future__ import annotations

import numpy as np
import pytest
from trivium import Speculator, _core
from trivium.errors import InputError, UnsupportedError
from trivium.host_drafts import SYSTEMS, HostDraft, systems


@pytest.mark.parametrize("system", systems())
def test_every_system_declares_a_law_that_verifiers_take(system):
    draft = HostDraft.of(system)
    assert {"auto", "law", "sampled"} <= set(draft.verifiers)
    for name in set(draft.verifiers) - {"auto", "law"}:
        assert _core.verifier_takes(name, draft.law, draft.pruning)
        draft.check(name)
    if draft.law == "point_mass":
        with pytest.raises(UnsupportedError, match="point_mass"):
            draft.check("block")
    if SYSTEMS[system][2] == "chain":
        draft.check("block")


def test_drawn_drafts_come_with_their_law():
    spec = Speculator(4, sources=[], max_nodes=8, verifier="block")
    requests = [spec.start([1, 2]), spec.start([3])]
    draft = HostDraft.of("mtp")
    q = np.array([[0.5, 0.25, 0.25, 0.0]] * 5)
    with np.errstate(divide="ignore"):
        log_q = np.log(q)
    log_q[[2, 4]] = np.nan  # leaves
    batch, told = draft.batch(
        [2, 0, 1, 3, 2], [-1, 0, 1, -1, 0], [0, 3, 5], log_q, requests=requests
    )
    assert told[[0, 1, 3]] == pytest.approx(q[[0, 1, 3]])
    rows = np.random.default_rng(0).normal(size=(5, 4)).astype(np.float32)
    out = spec.verify(batch, logits=rows, q=told)
    spec.commit(out)
    assert len(requests[0]) >= 3
    wrong = [
        ({"log_q": None}, "need the law"),
        ({"log_q": log_q[:4]}, "shape"),
        ({"log_q": log_q + 0.1}, "no law"),
        ({"tokens": [2, 0, 3, 3, 2]}, "probability 0"),
        ({"parents": [-1, 0, 0, -1, 0]}, "siblings"),
    ]
    for change, why in wrong:
        fresh = [spec.start([1, 2]), spec.start([3])]
        given = {
            "tokens": [2, 0, 1, 3, 2],
            "parents": [-1, 0, 1, -1, 0],
            "cu_nodes": [0, 3, 5],
            "log_q": log_q,
        } | change
        with pytest.raises(InputError, match=why):
            draft.batch(**given, requests=fresh)


def test_chosen_drafts_have_none():
    spec = Speculator(4, sources=[], max_nodes=8)
    draft = HostDraft.of("eagle2")
    request = spec.start([1])
    batch, q = draft.batch([1, 0, 2], [-1, 0, 0], [0, 3], requests=[request])
    assert q is None
    assert len(batch.tokens) == 3
    with pytest.raises(InputError, match="not drawn"):
        draft.batch([1, 0], [-1, 0], [0, 2], np.zeros((2, 4)), requests=[request])
    with pytest.raises(UnsupportedError, match="none of"):
        HostDraft.of("?")
    with pytest.raises(UnsupportedError):
        HostDraft("?")
    with pytest.raises(UnsupportedError, match="shape"):
        HostDraft("iid", "shape", "bush")
