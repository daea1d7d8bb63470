"""Biases of released verifiers and draft protocols, and a few that nearly were.

Each pair of a draft protocol and a verifier is a small model of the bug class, written for the kit.
A protocol hangs on its verifier as the attribute ``draft``.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from trivium.testing.laws import softmax
from trivium.testing.planted._base import Planted
from trivium.testing.reference import leviathan, residual
from trivium.testing.trees import Draft, VerifierProblem
from trivium.testing.verifiers import check_verifier

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy.typing as npt

    from trivium.testing.chance import Rng
    from trivium.testing.trees import Tree

    Rows = npt.NDArray[np.float64]
    Protocol = Callable[[VerifierProblem, Rng], Draft]

__all__ = ["VERIFIERS"]


def _drafted_by(protocol: Protocol | str) -> Callable[[Any], Any]:
    def mark(fn: Any) -> Any:
        fn.draft = protocol
        return fn

    return mark


def _chain(protocol: Any) -> Any:
    protocol.chain = True
    return protocol


# --- the draft protocol is wrong, the rule is the textbook's -----------------------------------


@_chain
def _argmax_draft(problem: VerifierProblem, rng: Rng) -> Draft:  # noqa: ARG001
    draft, at = Draft(problem), 0
    for _ in problem.widths:
        at = draft.add(at, int(np.argmax(draft.q(at))))
    return draft


@_drafted_by(_argmax_draft)
def argmax_draft_softmax_law(tree: Tree, p: Rows, q: Rows, rng: Rng) -> list[int]:
    """Draft by argmax, verify as if the draft were drawn from the softmax."""
    return leviathan(tree, p, q, rng)


@_chain
def _truncated_draft(problem: VerifierProblem, rng: Rng) -> Draft:
    draft, at = Draft(problem), 0
    for _ in problem.widths:
        q = np.array(draft.q(at))
        q[np.argsort(-q, kind="stable")[max(1, len(q) - 1) :]] = 0.0
        at = draft.add(at, rng.categorical(q))
    return draft


@_drafted_by(_truncated_draft)
def truncated_draft_raw_law(tree: Tree, p: Rows, q: Rows, rng: Rng) -> list[int]:
    """Draft from the top-k law, verify with the law before truncation."""
    return leviathan(tree, p, q, rng)


@_chain
def _drop_unlikely(problem: VerifierProblem, rng: Rng) -> Draft:
    draft, at = Draft(problem), 0
    for _ in problem.widths:
        q = draft.q(at)
        token = rng.categorical(q)
        if q[token] < 0.4:
            break
        at = draft.add(at, token)
    return draft


@_drafted_by(_drop_unlikely)
def unlikely_draft_dropped(tree: Tree, p: Rows, q: Rows, rng: Rng) -> list[int]:
    """Stop drafting when the drawn token is unlikely, and throw that token away."""
    return leviathan(tree, p, q, rng)


def _prune_by_identity(problem: VerifierProblem, rng: Rng) -> Draft:
    draft = Draft(problem)
    left = list(draft.q(0))
    drawn: list[int] = []
    for _ in range(problem.widths[0] + 1):
        if sum(left) <= 0.0:
            break
        token = rng.categorical(left)
        left[token] = 0.0
        drawn.append(token)
    q = draft.q(0)
    kept = sorted(drawn, key=lambda t: -q[t])[: problem.widths[0]]
    for token in drawn:
        if token in kept:
            draft.add(0, token)
    return draft


@_drafted_by(_prune_by_identity)
def siblings_pruned_by_identity(tree: Tree, p: Rows, q: Rows, rng: Rng) -> list[int]:
    """Draw siblings without replacement, keep the likeliest of them, verify as if all were kept."""
    from trivium.testing.reference import recursive_rejection

    return recursive_rejection(tree, p, q, rng)


def _best_branch(problem: VerifierProblem, rng: Rng) -> Draft:
    draft = Draft(problem)
    drawn = [rng.categorical(draft.q(0)) for _ in range(max(2, problem.widths[0]))]
    p = draft.p(0)
    draft.add(0, max(drawn, key=lambda t: p[t]))
    return draft


@_drafted_by(_best_branch)
def best_branch_by_target(tree: Tree, p: Rows, q: Rows, rng: Rng) -> list[int]:
    """Keep the drawn branch that the target likes best, then apply the ratio test to it."""
    return leviathan(tree, p, q, rng)


@_chain
def _half_precision_draft(problem: VerifierProblem, rng: Rng) -> Draft:
    draft, at = Draft(problem), 0
    for _ in problem.widths:
        rounded = np.array(draft.q(at), dtype=np.float16).astype(np.float64)
        at = draft.add(at, rng.categorical(rounded))
    return draft


@_drafted_by(_half_precision_draft)
def half_precision_draft(tree: Tree, p: Rows, q: Rows, rng: Rng) -> list[int]:
    """Draw drafts from half-precision probabilities, verify with those of full precision."""
    return leviathan(tree, p, q, rng)


@_chain
def _stop_by_uniform(problem: VerifierProblem, rng: Rng) -> Draft:
    draft, at, known = Draft(problem), 0, 1.0
    below: dict[int, float] = draft.notes.setdefault("below", {})
    for depth in range(problem.depth):
        if depth and not rng.bernoulli(known):  # "u < known" goes on
            break
        q = draft.q(at)
        token = rng.categorical(q)
        at = draft.add(at, token)
        below[at], known = known, q[token]
    return draft


@_drafted_by(_stop_by_uniform)
def stop_shares_uniform(tree: Tree, p: Rows, q: Rows, rng: Rng) -> list[int]:
    """Accept with the uniform by which drafting went on to this token."""
    out: list[int] = []
    at = 0
    for node in tree.chain():
        token = int(tree.tokens[node])
        # The law of "u < accept" for the u that already answered "u < below".
        below = tree.notes["below"][node]
        if not rng.bernoulli(min(below, p[at, token] / q[at, token]), below):
            return [*out, rng.categorical(residual(p[at], q[at]))]
        out.append(token)
        at = node
    return [*out, rng.categorical(p[at])]


# --- the rule is wrong ---------------------------------------------------------------------------


def raw_bonus(tree: Tree, p: Rows, q: Rows, rng: Rng) -> list[int]:
    """Draw the token after a fully accepted draft from the raw softmax."""
    raw = p.copy()
    last = tree.chain()[-1]
    raw[last] = softmax(tree.logits[last])
    return leviathan(tree, raw, q, rng)


@_drafted_by("deterministic")
def resampled_per_candidate(tree: Tree, p: Rows, q: Rows, rng: Rng) -> list[int]:  # noqa: ARG001
    """Draw a target token anew for every candidate, and take a candidate that matches its own."""
    children = tree.children(0)
    for child in children:
        token = rng.categorical(p[0])
        if token == tree.tokens[child]:
            return [token, rng.categorical(p[child])]
    return [rng.categorical(p[0])]


def first_draft_unverified(tree: Tree, p: Rows, q: Rows, rng: Rng) -> list[int]:
    """Start the acceptance loop at the second draft token."""
    first, *rest = tree.chain()
    out, at = [int(tree.tokens[first])], first
    for node in rest:
        token = int(tree.tokens[node])
        if not rng.bernoulli(p[at, token], q[at, token]):
            return [*out, rng.categorical(residual(p[at], q[at]))]
        out.append(token)
        at = node
    return [*out, rng.categorical(p[at])]


def uncapped_final_ratio(tree: Tree, p: Rows, q: Rows, rng: Rng) -> list[int]:
    """Verify a block, but test its last position with the product of ratios, never capped."""
    chain = tree.chain()
    path = [0, *chain]
    capped, product = [1.0], 1.0
    for parent, node in zip(path, chain, strict=False):
        ratio = p[parent, tree.tokens[node]] / q[parent, tree.tokens[node]]
        capped.append(min(1.0, capped[-1] * ratio))
        product *= ratio
    best = 0
    for i in range(1, len(chain) + 1):
        if i == len(chain):
            accept = rng.bernoulli(min(1.0, product))
        else:
            left = float(np.maximum(capped[i] * p[path[i]] - q[path[i]], 0.0).sum())
            rest = left + 1.0 - capped[i]
            accept = rng.bernoulli(left, rest) if rest > 0.0 else True
        best = i if accept else best
    at = path[best]
    row = p[at] if best == len(chain) else np.maximum(capped[best] * p[at] - q[at], 0.0)
    if row.sum() <= 0.0:
        row = p[at]
    return [*(int(tree.tokens[n]) for n in path[1 : best + 1]), rng.categorical(row)]


@_drafted_by("race")
def shared_noise_ratio_test(tree: Tree, p: Rows, q: Rows, rng: Rng) -> list[int]:
    """Draw the residual with the race noise that drew the draft, after a ratio test."""
    out: list[int] = []
    at = 0
    for node in tree.chain():
        token = int(tree.tokens[node])
        if not rng.bernoulli(p[at, token], q[at, token]):
            left = residual(p[at], q[at])
            arrival = np.full(len(left), np.inf)
            np.divide(rng.row(len(out)), left, out=arrival, where=left > 0.0)
            return [*out, int(arrival.argmin())]
        out.append(token)
        at = node
    return [*out, rng.categorical(p[at])]


def residual_with_epsilon(tree: Tree, p: Rows, q: Rows, rng: Rng) -> list[int]:
    """Normalise the residual by its sum plus 1e-6; the missing mass falls to the last token."""
    out: list[int] = []
    at = 0
    for node in tree.chain():
        token = int(tree.tokens[node])
        if not rng.bernoulli(p[at, token], q[at, token]):
            left = np.maximum(p[at] - q[at], 0.0)
            law = left / (left.sum() + 1e-6)
            # An inverse-CDF draw that runs past the end returns its last index.
            drawn = rng.categorical([*law, max(0.0, 1.0 - law.sum())])
            return [*out, min(drawn, len(law) - 1)]
        out.append(token)
        at = node
    return [*out, rng.categorical(p[at])]


def zero_residual_stops(tree: Tree, p: Rows, q: Rows, rng: Rng) -> list[int]:
    """Compute the residual in half precision; where it vanishes, divide by 0 and stop."""
    out: list[int] = []
    at = 0
    for node in tree.chain():
        token = int(tree.tokens[node])
        if not rng.bernoulli(p[at, token], q[at, token]):
            left = np.maximum(p[at].astype(np.float16) - q[at].astype(np.float16), np.float16(0))
            law = left / left.sum()
            if np.isnan(law).any():
                return out
            return [*out, rng.categorical(np.maximum(p[at] - q[at], 0.0))]
        out.append(token)
        at = node
    return [*out, rng.categorical(p[at])]


def penalties_ignored(tree: Tree, p: Rows, q: Rows, rng: Rng) -> list[int]:
    """Verify against rows to which penalties, bias and masks were never applied."""
    return leviathan(tree, np.array([softmax(row) for row in tree.logits[: len(p)]]), q, rng)


def draft_logprobs(tree: Tree, p: Rows, q: Rows, rng: Rng) -> tuple[list[int], list[float]]:
    """Report the drafter's log-probabilities as those of the emitted tokens."""
    tokens = leviathan(tree, p, q, rng)
    path = [0, *tree.chain()]
    return tokens, [float(np.log(q[path[i], t])) for i, t in enumerate(tokens)]


# --- more of the same kind ----------------------------------------------------------------------


def swapped_laws(tree: Tree, p: Rows, q: Rows, rng: Rng) -> list[int]:
    """Accept with ``q / p``."""
    out: list[int] = []
    at = 0
    for node in tree.chain():
        token = int(tree.tokens[node])
        if not rng.bernoulli(q[at, token], p[at, token]):
            return [*out, rng.categorical(residual(p[at], q[at]))]
        out.append(token)
        at = node
    return [*out, rng.categorical(p[at])]


def row_of_the_child(tree: Tree, p: Rows, q: Rows, rng: Rng) -> list[int]:
    """Read the target's rows one node too late."""
    late = np.concatenate([p[1:], p[-1:]])
    return leviathan(tree, late, q, rng)


def target_after_rejection(tree: Tree, p: Rows, q: Rows, rng: Rng) -> list[int]:
    """Draw from the target itself after a rejection, not from the residual."""
    out: list[int] = []
    at = 0
    for node in tree.chain():
        token = int(tree.tokens[node])
        if not rng.bernoulli(p[at, token], q[at, token]):
            return [*out, rng.categorical(p[at])]
        out.append(token)
        at = node
    return [*out, rng.categorical(p[at])]


def accept_at_equality(tree: Tree, p: Rows, q: Rows, rng: Rng) -> list[int]:
    """Accept when ``u <= p / q``: a uniform of 0 accepts what has probability 0."""
    out: list[int] = []
    at = 0
    for node in tree.chain():
        token = int(tree.tokens[node])
        if not np.float32(rng.random()) <= p[at, token] / q[at, token]:
            return [*out, rng.categorical(residual(p[at], q[at]))]
        out.append(token)
        at = node
    return [*out, rng.categorical(p[at])]


@_drafted_by("with_replacement")
def siblings_not_renormalised(tree: Tree, p: Rows, q: Rows, rng: Rng) -> list[int]:
    """Test the second sibling against a residual that was not normalised."""
    left = p[0]
    for child in tree.children(0):
        token = int(tree.tokens[child])
        if rng.bernoulli(left[token], q[0, token]):
            return [token, rng.categorical(p[child])]
        left = residual(left, q[0])
    return [rng.categorical(left)]


@_drafted_by("with_replacement")
def duplicate_draws_tested_as_distinct(tree: Tree, p: Rows, q: Rows, rng: Rng) -> list[int]:
    """Keep duplicates of draws with replacement, verify them as draws without."""
    from trivium.testing.reference import recursive_rejection

    return recursive_rejection(tree, p, q, rng)


@_drafted_by("with_replacement")
def one_uniform_for_all_siblings(tree: Tree, p: Rows, q: Rows, rng: Rng) -> list[int]:
    """Test all siblings of a node with one uniform."""
    above, left = 0.0, p[0]  # the uniform is known to be at least `above`
    for child in tree.children(0):
        token = int(tree.tokens[child])
        accept = min(1.0, left[token] / q[0, token])
        if above < 1.0 and rng.bernoulli(max(0.0, accept - above), 1.0 - above):
            return [token, rng.categorical(p[child])]
        above = max(above, accept)
        left = residual(left, q[0])
        left = left / left.sum()
    return [rng.categorical(left)]


def kept_under_a_new_law(tree: Tree, p: Rows, q: Rows, rng: Rng) -> list[int]:
    """Keep draft tokens of the last iteration, but test them with this iteration's draft law."""
    newer = np.array([0.5 * row + 0.5 / len(row) for row in q])
    return leviathan(tree, p, newer, rng)


def _planted(fn: Any, *, released: bool = False, **options: Any) -> Planted:
    check = partial(check_verifier, **options) if options else check_verifier
    return Planted(fn.__name__, "verifier", fn, check, released)


VERIFIERS: tuple[Planted, ...] = (
    _planted(argmax_draft_softmax_law, released=True),
    _planted(truncated_draft_raw_law, released=True),
    _planted(unlikely_draft_dropped, released=True),
    _planted(siblings_pruned_by_identity, released=True),
    _planted(best_branch_by_target, released=True),
    _planted(raw_bonus, released=True),
    _planted(resampled_per_candidate, released=True),
    _planted(first_draft_unverified, released=True),
    _planted(uncapped_final_ratio, released=True),
    _planted(shared_noise_ratio_test, released=True),
    _planted(stop_shares_uniform, released=True),
    _planted(residual_with_epsilon, released=True),
    _planted(zero_residual_stops, released=True),
    _planted(penalties_ignored, released=True),
    _planted(draft_logprobs, released=True),
    _planted(half_precision_draft, released=True),
    _planted(accept_at_equality, released=True),
    _planted(swapped_laws),
    _planted(row_of_the_child),
    _planted(target_after_rejection),
    _planted(siblings_not_renormalised),
    _planted(duplicate_draws_tested_as_distinct),
    _planted(one_uniform_for_all_siblings),
    _planted(kept_under_a_new_law),
)
"""Wrong verifiers, those of released code first."""
