"""Decoding for language models: draft, constrain, verify, sample and vote.

trivium stands between "the model has produced logits" and "tokens leave the server". It never runs
a model, never owns a key/value cache and never opens a socket: the host does.

=================  ==========================================================================
`Vocabulary`       the bytes of every token id, end ids, logits width
`Speculator`       drafts token trees and verifies them; the text is that of the plain loop
`GrammarMask`      allows exactly the tokens that keep the text in a language
`Voter`            lets samples vote and stops sampling as early as the evidence allows
=================  ==========================================================================
"""

from __future__ import annotations

from trivium import (
    constrained,
    control,
    drafting,
    errors,
    grammar,
    lossy,
    replay,
    sampling,
    sources,
    trees,
    voting,
    words,
)
from trivium._core import __version__
from trivium.grammar import GrammarMask, fill_batch
from trivium.speculator import Speculator
from trivium.vocabulary import Vocabulary
from trivium.voter import Voter, vote
from trivium.voting import mbr

__all__ = [
    "GrammarMask",
    "Speculator",
    "Vocabulary",
    "Voter",
    "__version__",
    "constrained",
    "control",
    "drafting",
    "errors",
    "fill_batch",
    "grammar",
    "lossy",
    "mbr",
    "replay",
    "sampling",
    "sources",
    "trees",
    "vote",
    "voting",
    "words",
]
