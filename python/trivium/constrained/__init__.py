"""Sampling under a constraint that keeps the model's own distribution.

Masked decoding draws each token from the allowed ones. That is not the model's law given the
language: prefixes whose completions are unlikely are drawn too often. Here the difference is
weighed, learned or computed.

====================  ==========================================================================
`Asap`                samples that approach the law given the language, learned in a trie
`Canvas`              which canvases of masked positions context-free rules can complete
`idle`                exclusion before or after truncation, the closest law in divergence
`StructuralPenalty`   a penalty on repeating the structure of code (RPG)
`awrs`, `Weighted`    one token under a costly checker, with an unbiased weight
`Particles`           sequential Monte Carlo over masks or a checker
`dingo`               the most probable block of a diffusion model under a regular language
`dingo_sample`        exact draws from the block's law given the language
`TokenAutomaton`      the transitions both run on
`extract_span`        the most probable span of a source, from tables
`extract_best_first`  the same, reading the model along promising prefixes only
====================  ==========================================================================

Masks come from `GrammarMask` and are computed in Rust; what stands here is the arithmetic on top,
in NumPy, a few passes over a row.
"""

from __future__ import annotations

from trivium.constrained.asap import Asap, AsapWalk
from trivium.constrained.automaton import TokenAutomaton
from trivium.constrained.awrs import Weighted, awrs
from trivium.constrained.canvas import Canvas, Placed
from trivium.constrained.dingo import Block, dingo, dingo_sample
from trivium.constrained.extract import Span, extract_best_first, extract_span
from trivium.constrained.idle import Excluded, idle
from trivium.constrained.repetition import Repetition, StructuralPenalty
from trivium.constrained.smc import Particles

__all__ = [
    "Asap",
    "AsapWalk",
    "Block",
    "Canvas",
    "Excluded",
    "Particles",
    "Placed",
    "Repetition",
    "Span",
    "StructuralPenalty",
    "TokenAutomaton",
    "Weighted",
    "awrs",
    "dingo",
    "dingo_sample",
    "extract_best_first",
    "extract_span",
    "idle",
]
