"""Differential: each rule against transformers' own processor, and all of them in its order."""

from __future__ import annotations

import numpy as np
import pytest
from trivium.sampling import Pipeline

torch = pytest.importorskip("torch")
L = pytest.importorskip("transformers.generation.logits_process")

pytestmark = pytest.mark.stack

V = 200
EOS = 7
# Dense in the tokens of the histories, so that bigrams of it occur there.
ENCODER = np.random.default_rng(2).integers(0, 20, size=120).tolist()


def cases():
    rng = np.random.default_rng(0)
    for scale in (0.5, 2.0, 6.0):
        for length in (0, 1, 5, 40):
            row = (rng.normal(size=V) * scale).astype(np.float32)
            yield row, rng.integers(0, 20, size=length)


# Options, transformers' processors, and how many of the tokens are the prompt.
PAIRS = {
    "temperature": ({"temperature": 0.7}, lambda: [L.TemperatureLogitsWarper(0.7)]),
    "top_k": ({"top_k": 12}, lambda: [L.TopKLogitsWarper(12)]),
    "top_p": ({"top_p": 0.85}, lambda: [L.TopPLogitsWarper(0.85)]),
    "min_p": ({"min_p": 0.1}, lambda: [L.MinPLogitsWarper(0.1)]),
    "typical": (
        {"typical": {"mass": 0.8, "ties": True}},
        lambda: [L.TypicalLogitsWarper(0.8)],
    ),
    "epsilon": ({"epsilon": 0.01}, lambda: [L.EpsilonLogitsWarper(0.01)]),
    "eta": ({"eta": 0.02}, lambda: [L.EtaLogitsWarper(0.02, device="cpu")]),
    "top_h": ({"top_h": 0.4}, lambda: [L.TopHLogitsWarper(0.4)]),
    "repetition": (
        {"repetition_penalty": 1.3},
        lambda: [L.RepetitionPenaltyLogitsProcessor(1.3)],
    ),
    "ngram 2": ({"no_repeat_ngram": 2}, lambda: [L.NoRepeatNGramLogitsProcessor(2)]),
    "ngram 1": ({"no_repeat_ngram": 1}, lambda: [L.NoRepeatNGramLogitsProcessor(1)]),
    "bad words": (
        {"bad_words": [[3], [4, 5], [1, 2, 3]]},
        lambda: [L.NoBadWordsLogitsProcessor([[3], [4, 5], [1, 2, 3]], eos_token_id=None)],
    ),
    "sequence bias": (
        {"sequence_bias": [([3], 2.0), ([4, 5], -1.5)]},
        lambda: [L.SequenceBiasLogitsProcessor([[[3], 2.0], [[4, 5], -1.5]])],
    ),
    "encoder repetition": (
        {"encoder_repetition": {"penalty": 1.4, "tokens": [3, 9, 3, 150]}},
        lambda: [L.EncoderRepetitionPenaltyLogitsProcessor(1.4, torch.tensor([[3, 9, 3, 150]]))],
    ),
    "encoder ngram 1": (
        {"encoder_no_repeat_ngram": {"n": 1, "tokens": ENCODER}},
        lambda: [L.EncoderNoRepeatNGramLogitsProcessor(1, torch.tensor([ENCODER]))],
    ),
    "encoder ngram 2": (
        {"encoder_no_repeat_ngram": {"n": 2, "tokens": ENCODER}},
        lambda: [L.EncoderNoRepeatNGramLogitsProcessor(2, torch.tensor([ENCODER]))],
    ),
    "encoder ngram 3": (
        {"encoder_no_repeat_ngram": {"n": 3, "tokens": ENCODER}},
        lambda: [L.EncoderNoRepeatNGramLogitsProcessor(3, torch.tensor([ENCODER]))],
    ),
    "min length": (
        {"min_length": 20, "eos": EOS},
        lambda: [L.MinLengthLogitsProcessor(20, EOS, device="cpu")],
    ),
    "suppress": (
        {"suppress_tokens": [1, 5, 9]},
        lambda: [L.SuppressTokensLogitsProcessor([1, 5, 9], device="cpu")],
    ),
}


def theirs(processors, row, history) -> np.ndarray:
    ids = torch.tensor(np.asarray(history, dtype=np.int64)[None])
    scores = torch.tensor(row[None].copy())
    for processor in processors:
        scores = processor(ids, scores)
    return scores[0].numpy()


def close(got: np.ndarray, want: np.ndarray) -> None:
    np.testing.assert_array_equal(np.isfinite(got), np.isfinite(want))
    finite = np.isfinite(want)
    np.testing.assert_allclose(got[finite], want[finite], rtol=2e-6, atol=1e-6)


@pytest.mark.parametrize("name", PAIRS)
def test_rule_equals_the_processor(name) -> None:
    options, make = PAIRS[name]
    pipeline = Pipeline(**options)
    changed = False
    for row, history in cases():
        if len(history) == 0 and name in ("repetition", "ngram 1", "ngram 2"):
            continue
        got = pipeline.process(row, history=history)
        close(got, theirs(make(), row, history))
        changed = changed or not np.array_equal(got, row)
    assert changed


def test_forced_tokens_have_the_law_of_the_processors() -> None:
    """Theirs writes 0 where ours leaves the logit: the law is a point mass in both."""
    for row, history in cases():
        n = len(history)
        first = Pipeline(forced={0: 5})
        end = Pipeline(forced={n: EOS})
        for pipeline, processor, prompt in (
            (first, L.ForcedBOSTokenLogitsProcessor(5), 1),
            (end, L.ForcedEOSTokenLogitsProcessor(n + 1, EOS, device="cpu"), 0),
        ):
            if n == 0 or (prompt and n != 1):
                continue
            got = pipeline.process(row, history=history, prompt_len=prompt)
            want = theirs([processor], row, history)
            np.testing.assert_array_equal(np.isfinite(got), np.isfinite(want))
            assert np.isfinite(got).sum() == 1


def test_lengths_count_from_the_prompt() -> None:
    decay = Pipeline(length_decay={"start": 2, "factor": 1.3, "eos": [EOS]})
    least = Pipeline(min_new_tokens=4, eos=EOS)
    begin = Pipeline(begin_suppress_tokens=[2, 3])
    for row, history in cases():
        for prompt in range(0, len(history) + 1, 3):
            call = {"history": history, "prompt_len": prompt}
            d = L.ExponentialDecayLengthPenalty((2, 1.3), EOS, prompt)
            close(decay.process(row, **call), theirs([d], row, history))
            m = L.MinNewTokensLengthLogitsProcessor(prompt, 4, EOS, device="cpu")
            close(least.process(row, **call), theirs([m], row, history))
            b = L.SuppressTokensAtBeginLogitsProcessor([2, 3], prompt, device="cpu")
            close(begin.process(row, **call), theirs([b], row, history))


def test_all_of_them_in_transformers_order() -> None:
    pipeline = Pipeline(
        order="transformers",
        sequence_bias=[([3], 1.0)],
        encoder_repetition={"penalty": 1.1, "tokens": ENCODER[:9]},
        encoder_no_repeat_ngram={"n": 2, "tokens": ENCODER},
        repetition_penalty=1.2,
        no_repeat_ngram=3,
        bad_words=[[4, 5]],
        min_length=3,
        eos=EOS,
        suppress_tokens=[1],
        temperature=0.8,
        top_h=0.9,
        top_k=50,
        top_p=0.9,
        min_p=0.02,
        typical={"mass": 0.95, "ties": True},
        epsilon=1e-3,
        eta=1e-3,
    )
    for row, history in cases():
        if len(history) == 0:
            continue
        processors = [
            L.SequenceBiasLogitsProcessor([[[3], 1.0]]),
            L.EncoderRepetitionPenaltyLogitsProcessor(1.1, torch.tensor([ENCODER[:9]])),
            L.RepetitionPenaltyLogitsProcessor(1.2),
            L.NoRepeatNGramLogitsProcessor(3),
            L.EncoderNoRepeatNGramLogitsProcessor(2, torch.tensor([ENCODER])),
            L.NoBadWordsLogitsProcessor([[4, 5]], eos_token_id=None),
            L.MinLengthLogitsProcessor(3, EOS, device="cpu"),
            L.SuppressTokensLogitsProcessor([1], device="cpu"),
            L.TemperatureLogitsWarper(0.8),
            L.TopHLogitsWarper(0.9),
            L.TopKLogitsWarper(50),
            L.TopPLogitsWarper(0.9),
            L.MinPLogitsWarper(0.02),
            L.TypicalLogitsWarper(0.95),
            L.EpsilonLogitsWarper(1e-3),
            L.EtaLogitsWarper(1e-3, device="cpu"),
        ]
        close(pipeline.process(row, history=history), theirs(processors, row, history))
