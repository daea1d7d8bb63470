"""Plain, correct verifiers, samplers and engines, one for each kind of check.

They are what the kit must never reject, and templates to read. Each is the textbook rule with the
edge cases settled: strict ``u * q < p``, residuals sampled without normalising, a residual of no
mass replaced by the target's row.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from trivium.testing.laws import sampling_law

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt

    from trivium.testing.chance import Rng
    from trivium.testing.samplers import Params
    from trivium.testing.trees import Tree

    Rows = npt.NDArray[np.float64]

__all__ = [
    "block",
    "categorical_sampler",
    "cdf_sampler",
    "leviathan",
    "leviathan_uniform",
    "multi_round",
    "race_sampler",
    "recursive_rejection",
    "sampled",
    "shared_race",
]


def residual(p: Rows, q: Rows) -> Rows:
    """Return ``(p - q)+``, or `p` where nothing is left of it."""
    left = np.maximum(p - q, 0.0)
    return left if left.sum() > 0.0 else p


def leviathan(tree: Tree, p: Rows, q: Rows, rng: Rng) -> list[int]:
    """Accept drafts of a chain one by one with ``p / q``; emit from ``(p - q)+`` on rejection."""
    out: list[int] = []
    at = 0
    for node in tree.chain():
        token = int(tree.tokens[node])
        if not rng.bernoulli(p[at, token], q[at, token]):
            return [*out, rng.categorical(residual(p[at], q[at]))]
        out.append(token)
        at = node
    return [*out, rng.categorical(p[at])]


def _cdf(weights: Rows, u: float) -> int:
    """Return the first index whose cumulative weight exceeds ``u * sum``, of positive weight."""
    edges = np.cumsum(weights)
    i = int(np.searchsorted(edges, u * edges[-1], side="right"))
    return min(i, int(np.flatnonzero(weights)[-1]))


def leviathan_uniform(tree: Tree, p: Rows, q: Rows, rng: Rng) -> list[int]:
    """Do as `leviathan` with uniforms, the way engines are written."""
    out: list[int] = []
    at = 0
    for node in tree.chain():
        token = int(tree.tokens[node])
        if not rng.random() * q[at, token] < p[at, token]:
            return [*out, _cdf(residual(p[at], q[at]), rng.random())]
        out.append(token)
        at = node
    return [*out, _cdf(p[at], rng.random())]


def block(tree: Tree, p: Rows, q: Rows, rng: Rng) -> list[int]:
    """Verify a chain as a block: the longest prefix whose own test passes."""
    chain = tree.chain()
    path = [0, *chain]
    ratio = [1.0]
    for parent, node in zip(path, chain, strict=False):
        t = tree.tokens[node]
        ratio.append(min(1.0, ratio[-1] * p[parent, t] / q[parent, t]))
    best = 0
    for i in range(1, len(chain) + 1):
        if i == len(chain):
            accept = rng.bernoulli(ratio[i])
        else:
            left = float(np.maximum(ratio[i] * p[path[i]] - q[path[i]], 0.0).sum())
            rest = left + 1.0 - ratio[i]
            accept = rng.bernoulli(left, rest) if rest > 0.0 else True
        best = i if accept else best
    at = path[best]
    row = p[at]
    if best < len(chain):
        left_row = np.maximum(ratio[best] * p[at] - q[at], 0.0)
        row = left_row if left_row.sum() > 0.0 else p[at]
    return [*(int(tree.tokens[n]) for n in path[1 : best + 1]), rng.categorical(row)]


def sampled(tree: Tree, p: Rows, q: Rows, rng: Rng) -> list[int]:  # noqa: ARG001
    """Draw from the target at every reached node and walk while the draw is a child."""
    out: list[int] = []
    at: int | None = 0
    while at is not None:
        token = rng.categorical(p[at])
        out.append(token)
        at = tree.child(at, token)
    return out


def multi_round(tree: Tree, p: Rows, q: Rows, rng: Rng) -> list[int]:
    """Test siblings drawn with replacement in draw order, each against the last residual."""
    out: list[int] = []
    at = 0
    while True:
        left, nxt = p[at], None
        for child in tree.children(at):
            token = int(tree.tokens[child])
            if rng.bernoulli(left[token], q[at, token]):
                nxt = child
                break
            left = residual(left, q[at])
            left = left / left.sum()
        if nxt is None:
            token = rng.categorical(left)
            nxt = tree.child(at, token)
            if nxt is None:
                return [*out, token]
        out.append(int(tree.tokens[nxt]))
        at = nxt


def recursive_rejection(tree: Tree, p: Rows, q: Rows, rng: Rng) -> list[int]:
    """Test siblings drawn without replacement, taking each out of the draft law."""
    out: list[int] = []
    at = 0
    while True:
        left, law, nxt = p[at], q[at].copy(), None
        for child in tree.children(at):
            token = int(tree.tokens[child])
            if rng.bernoulli(left[token], law[token]):
                nxt = child
                break
            left = residual(left, law)
            left = left / left.sum()
            law[token] = 0.0
            if law.sum() > 0.0:
                law = law / law.sum()
        if nxt is None:
            return [*out, rng.categorical(left)]
        out.append(int(tree.tokens[nxt]))
        at = nxt


def shared_race(tree: Tree, p: Rows, q: Rows, rng: Rng) -> list[int]:  # noqa: ARG001
    """Let the target run the race that the draft ran, and walk while its winner is a child."""
    out: list[int] = []
    at: int | None = 0
    while at is not None:
        noise = rng.row(len(out))
        arrival = np.full(p.shape[1], np.inf)
        np.divide(noise, p[at], out=arrival, where=p[at] > 0.0)
        token = int(arrival.argmin())
        out.append(token)
        at = tree.child(at, token)
    return out


leviathan.draft = "chain"  # type: ignore[attr-defined]
leviathan_uniform.draft = "chain"  # type: ignore[attr-defined]
block.draft = "chain"  # type: ignore[attr-defined]
sampled.draft = "deterministic"  # type: ignore[attr-defined]
multi_round.draft = "with_replacement"  # type: ignore[attr-defined]
recursive_rejection.draft = "without_replacement"  # type: ignore[attr-defined]
shared_race.draft = "race"  # type: ignore[attr-defined]


def categorical_sampler(logits: Any, params: Params, rng: Rng) -> int:
    """Draw from the processed law."""
    return rng.categorical(sampling_law(logits, **params.law()))


def cdf_sampler(logits: Any, params: Params, rng: Rng) -> int:
    """Draw from the processed law by one uniform."""
    return _cdf(sampling_law(logits, **params.law()), rng.random())


def race_sampler(logits: Any, params: Params, rng: Rng) -> int:
    """Draw from the processed law by an exponential race."""
    law = sampling_law(logits, **params.law())
    arrival = np.full(len(law), np.inf)
    np.divide(rng.row("token"), law, out=arrival, where=law > 0.0)
    return int(arrival.argmin())


def plain_engine(model: Any, prompt: Sequence[int], seed: int, params: Any) -> list[int]:
    """Generate one token a pass: the loop that speculation must not change.

    Parameters
    ----------
    model : object
        Has ``law(prefix, params)``.
    prompt : sequence of int
        Prompt.
    seed : int
        Seed of the request.
    params : EngineParams
        Sampling parameters.
    """
    from trivium.testing.chance import SampledRng

    rng = SampledRng(seed)
    out: list[int] = []
    while len(out) < params.max_new_tokens:
        out.append(_cdf(model.law((*prompt, *out), params), rng.random()))
        if out[-1] == params.eos_token_id:
            break
    return out


def speculative_engine(
    model: Any, draft: Any, prompt: Sequence[int], seed: int, params: Any, *, length: int = 2
) -> list[int]:
    """Generate with a draft model and the rule of `leviathan`.

    Parameters
    ----------
    model, draft : object
        Have ``law(prefix, params)``.
    prompt, seed, params
        As for `plain_engine`.
    length : int, optional
        Drafted tokens a step.
    """
    from trivium.testing.chance import SampledRng

    rng = SampledRng(seed)
    out: list[int] = []
    while len(out) < params.max_new_tokens and params.eos_token_id not in out:
        text = [*prompt, *out]
        drafted: list[int] = []
        rows = []
        for _ in range(length):
            rows.append(draft.law((*text, *drafted), params))
            drafted.append(_cdf(rows[-1], rng.random()))
        for i, token in enumerate([*drafted, None]):
            p = model.law((*text, *drafted[:i]), params)
            if token is None:
                out.append(_cdf(p, rng.random()))
            elif rng.random() * rows[i][token] < p[token]:
                out.append(token)
                continue
            else:
                out.append(_cdf(residual(p, rows[i]), rng.random()))
            break
    out = out[: params.max_new_tokens]
    if params.eos_token_id in out:
        out = out[: out.index(params.eos_token_id) + 1]
    return out
