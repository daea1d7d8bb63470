"""Voting beyond one question's tally: free-form selection, calibration, fusion of logit rows.

=========================  ===================================================================
`mbr`                      the candidate that agrees best with the others
`similarity_scores`        UCS, weighted and consensus-weighted self-consistency of texts
`segment_vote`             the segments that half of the candidates share, in order
`fuse_rows`                one next-token row from several (integrative decoding)
`EntropySwitch`            when rolling entropy asks for a larger model or more traces
`AnswerGrammar`            a grammar whose answer type selects the key and marks the span
`GroupDrafts`              drafts from sibling traces, weighed by the tally
`majority_at`              exact expected accuracy of a vote over k of n samples
`learn_reliabilities`      log-odds weights of sources from labelled votes
`risk_controlled`          the loosest threshold that keeps a promised accuracy
`isotonic`                 monotone calibration of a confidence
`allocate`                 a shared budget of samples over questions
`consensus_game`           equilibrium ranking of candidates
=========================  ===================================================================
"""

from __future__ import annotations

from trivium.voting.answers import AnswerGrammar, AnswerSpan
from trivium.voting.decisions import (
    allocate,
    consensus_game,
    isotonic,
    learn_reliabilities,
    majority_at,
    risk_controlled,
)
from trivium.voting.drafts import GroupDrafts
from trivium.voting.freeform import MbrResult, mbr, segment_vote, similarity_scores
from trivium.voting.fusion import EntropySwitch, fuse_rows

__all__ = [
    "AnswerGrammar",
    "AnswerSpan",
    "EntropySwitch",
    "GroupDrafts",
    "MbrResult",
    "allocate",
    "consensus_game",
    "fuse_rows",
    "isotonic",
    "learn_reliabilities",
    "majority_at",
    "mbr",
    "risk_controlled",
    "segment_vote",
    "similarity_scores",
]
