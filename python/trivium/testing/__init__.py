"""A kit with which any engine's developer checks theirs.

===================  ==========================================================================
`check_verifier`     ``(tree, p, q, rng) -> tokens``: the law of the text is that of the target
`check_sampler`      ``(logits, params, rng) -> token``: the law is the one asked for
`check_engine`       ``(prompt, seed, params) -> tokens``: whole texts, on a model of 8 tokens
`check_mask`         ``(problem, prefix) -> mask``: exactly the tokens that can lead to a member
`enumerate_law`      the exact law of a procedure that draws through an `Rng`
`assert_law`         draws against a law, with a proved error probability
`strategies`         hypothesis strategies of vocabularies, rows, laws, trees, seeds, pipelines
`planted`            a catalogue of wrong callables; the checks reject every one
`models`             tiny models for engines to run
`reference`          plain, correct verifiers, samplers and engines
===================  ==========================================================================

A failed check carries a counterexample: the smallest problem that still fails, the law that was
expected and the one that came out. Checks need the base package; `strategies` needs hypothesis.
"""

from __future__ import annotations

from trivium.testing import models, planted, reference, strategies
from trivium.testing.chance import Enumerator, NotEnumerable, Rng, SampledRng, enumerate_law
from trivium.testing.engines import EngineParams, EngineProblem, check_engine, engine_law
from trivium.testing.laws import sampling_law
from trivium.testing.masks import MaskProblem, allowed_tokens, check_mask
from trivium.testing.results import CheckResult, Counterexample
from trivium.testing.samplers import Params, SamplerProblem, check_sampler
from trivium.testing.statistics import (
    ERROR_PROBABILITY,
    assert_law,
    chi_square,
    law_evidence,
    total_variation,
    tv_bound,
)
from trivium.testing.trees import Draft, Tree, VerifierProblem
from trivium.testing.verifiers import check_verifier

__all__ = [
    "ERROR_PROBABILITY",
    "CheckResult",
    "Counterexample",
    "Draft",
    "EngineParams",
    "EngineProblem",
    "Enumerator",
    "MaskProblem",
    "NotEnumerable",
    "Params",
    "Rng",
    "SampledRng",
    "SamplerProblem",
    "Tree",
    "VerifierProblem",
    "allowed_tokens",
    "assert_law",
    "check_engine",
    "check_mask",
    "check_sampler",
    "check_verifier",
    "chi_square",
    "engine_law",
    "enumerate_law",
    "law_evidence",
    "models",
    "planted",
    "reference",
    "sampling_law",
    "strategies",
    "total_variation",
    "tv_bound",
]
