"""Voting beyond one question's tally: selection, rewards, calibration, budgets, ties to drafts.

==========================  ==================================================================
free-form answers
`mbr`                       the candidate that agrees best with the others
`n_by_s` ... `diverse_best` the same with fewer utilities (`trivium.voting.approximate`)
`StreamingMbr`              the same while candidates arrive, and when to stop
`similarity_scores`         UCS, weighted and consensus-weighted self-consistency of texts
`universal_choice`          a judge names the most consistent text; `filter_candidates`,
                            `group_candidates`, `segment_vote` plan fine-grained consistency
`Merger`, `cluster`         answers that a caller's test calls equal
parts of answers
`set_vote`, `field_vote`    elements of sets, fields of JSON objects; `hierarchical_vote`
rewards and search
`trace_reward`, `best_of`   best-of-N, log-odds of rewards, particles, trees of traces
                            (`trivium.voting.rewards`)
`step_law` ...              phi-decoding's votes on foresights (`trivium.voting.foresight`)
one trace over time
`token_confidence` ...      confidence, self-certainty and entropy of tokens, from the host's rows
`temporal_vote`, `Probes`   denoising steps, early answers; `token_cover` prunes running traces
`fuse_rows`                 one next-token row from several (integrative decoding)
`EntropySwitch`             when rolling entropy asks for a larger model or more traces
decisions
`Calibrator`                probability that the winner is right; `reliability` measures it
`risk_controlled`           the loosest threshold that keeps a promised accuracy
`isotonic`                  monotone calibration of a confidence
`bayes_decision`            actions under a utility; `best_set`, `weighted_median`
`majority_at`, `pass_at`    exact expected accuracy of a vote over k of n samples, and of the best
`learn_reliabilities`       weights of sources from labelled votes
`consensus_game`            equilibrium ranking of candidates
budgets
`allocate`                  a shared budget of samples over questions; `allocate_gains` by gains
`DifficultySchedule`        hard questions first, easy ones with a single sample
`window_cost`               samples and risk of a unanimous window; `choose_window` for a target
ties
`AnswerGrammar`             a grammar whose answer type selects the key and marks the span
`GroupDrafts`               drafts from sibling traces, weighed by the tally
==========================  ==================================================================
"""

from __future__ import annotations

from trivium._voting.merging import Merger, cluster
from trivium.voting.answers import AnswerGrammar, AnswerSpan
from trivium.voting.approximate import (
    aggregate_chrf,
    bernstein_leader,
    centroid_references,
    coarse_to_fine,
    complete_matrix,
    diverse_best,
    n_by_s,
)
from trivium.voting.budgets import WindowChoice, allocate_gains, choose_window, pass_at
from trivium.voting.calibration import (
    Calibrator,
    Reliability,
    bayes_decision,
    best_set,
    reliability,
    weighted_median,
)
from trivium.voting.confidence import self_certainty, token_confidence, token_entropy
from trivium.voting.decisions import (
    allocate,
    consensus_game,
    isotonic,
    learn_reliabilities,
    majority_at,
    risk_controlled,
)
from trivium.voting.difficulty import DifficultySchedule, WindowCost, mean_ranks, window_cost
from trivium.voting.drafts import GroupDrafts
from trivium.voting.foresight import foresight_stop, shingle_clusters, step_law, width_pruned
from trivium.voting.freeform import MbrResult, mbr, segment_vote, similarity_scores
from trivium.voting.fusion import EntropySwitch, fuse_rows
from trivium.voting.judges import (
    UniversalChoice,
    filter_candidates,
    group_candidates,
    universal_choice,
)
from trivium.voting.rewards import (
    accepts_step,
    best_of,
    design_effect,
    effective_size,
    frontier_order,
    leaf_weights,
    log_odds_of_rewards,
    particle_weights,
    self_evaluation,
    trace_reward,
    transfer_width,
)
from trivium.voting.steps import (
    Probes,
    TemporalVote,
    temporal_confidence,
    temporal_vote,
    token_cover,
)
from trivium.voting.streaming import StreamingMbr
from trivium.voting.structured import field_vote, hierarchical_vote, set_vote

__all__ = [
    "AnswerGrammar",
    "AnswerSpan",
    "Calibrator",
    "DifficultySchedule",
    "EntropySwitch",
    "GroupDrafts",
    "MbrResult",
    "Merger",
    "Probes",
    "Reliability",
    "StreamingMbr",
    "TemporalVote",
    "UniversalChoice",
    "WindowChoice",
    "WindowCost",
    "accepts_step",
    "aggregate_chrf",
    "allocate",
    "allocate_gains",
    "bayes_decision",
    "bernstein_leader",
    "best_of",
    "best_set",
    "centroid_references",
    "choose_window",
    "cluster",
    "coarse_to_fine",
    "complete_matrix",
    "consensus_game",
    "design_effect",
    "diverse_best",
    "effective_size",
    "field_vote",
    "filter_candidates",
    "foresight_stop",
    "frontier_order",
    "fuse_rows",
    "group_candidates",
    "hierarchical_vote",
    "isotonic",
    "leaf_weights",
    "learn_reliabilities",
    "log_odds_of_rewards",
    "majority_at",
    "mbr",
    "mean_ranks",
    "n_by_s",
    "particle_weights",
    "pass_at",
    "reliability",
    "risk_controlled",
    "segment_vote",
    "self_certainty",
    "self_evaluation",
    "set_vote",
    "shingle_clusters",
    "similarity_scores",
    "step_law",
    "temporal_confidence",
    "temporal_vote",
    "token_confidence",
    "token_cover",
    "token_entropy",
    "trace_reward",
    "transfer_width",
    "universal_choice",
    "weighted_median",
    "width_pruned",
    "window_cost",
]
