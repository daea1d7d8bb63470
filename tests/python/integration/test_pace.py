"""What a draft model learns of itself: how often it is right, and whether its passes pay."""

from __future__ import annotations

import pytest

pytest.importorskip("transformers")

from trivium.integrations._transformers import pace as module
from trivium.integrations._transformers.agreement import Agreement
from trivium.integrations._transformers.pace import Pace

GREEDY = (0.0, 0, 1.0, 0.0)
WARM = (0.8, 0, 1.0, 0.0)


def test_a_drafter_is_believed_until_it_is_measured() -> None:
    agreement = Agreement()
    assert agreement(GREEDY, 0.3) == pytest.approx(0.3)
    for i in range(2000):
        agreement.report(GREEDY, 0.3, emitted=i % 10 != 0)
    assert agreement(GREEDY, 0.3) == pytest.approx(0.9, abs=0.02)
    assert agreement(GREEDY, 0.9) == pytest.approx(0.9), "other classes keep the drafter's word"
    assert agreement(WARM, 0.3) == pytest.approx(0.3), "other laws too"


def test_the_newest_tokens_count_most() -> None:
    agreement = Agreement()
    for emitted in (True, False):
        for _ in range(4000):
            agreement.report(GREEDY, 1.0, emitted=emitted)
    assert agreement(GREEDY, 1.0) < 0.05


class _Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def perf_counter(self) -> float:
        return self.now


def _step(pace: Pace, clock: _Clock, *, passes: int, seconds: float, rest: float) -> None:
    pace.begin()
    clock.now += passes * seconds
    pace.end(passes)
    clock.now += rest
    pace.verified()


def _pace(monkeypatch: pytest.MonkeyPatch, *, accepted: int, seconds: float) -> Pace:
    clock = _Clock()
    monkeypatch.setattr(module, "time", clock)
    pace = Pace()
    for _ in range(40):
        _step(pace, clock, passes=4, seconds=seconds, rest=1.0)
        pace.report(GREEDY, accepted)
    return pace


def test_without_experience_or_stores_the_draft_model_is_asked(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert Pace().pays([GREEDY], [9.0])
    assert _pace(monkeypatch, accepted=0, seconds=1.0).pays([GREEDY], [0.0])


def test_it_is_left_out_where_the_stores_do_better(monkeypatch: pytest.MonkeyPatch) -> None:
    # Five tokens in 1 + 4 * 0.1 seconds against five in one: asked every eighth time only.
    pace = _pace(monkeypatch, accepted=4, seconds=0.1)
    assert [pace.pays([GREEDY], [4.0]) for _ in range(16)] == ([False] * 7 + [True]) * 2
    assert pace.pays([GREEDY], [1.0]), "five in 1.4 seconds against two in one"
    # Passes that cost as much as the target's never pay for what they give.
    assert not _pace(monkeypatch, accepted=4, seconds=1.0).pays([GREEDY], [1.0])


def test_a_law_without_experience_is_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    pace = _pace(monkeypatch, accepted=0, seconds=0.1)
    assert not pace.pays([GREEDY], [1.0])
    assert pace.pays([WARM], [1.0])
