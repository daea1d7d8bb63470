"""Selection among free-form candidates: minimum Bayes risk, similarity, shared segments."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from trivium import _core
from trivium.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import numpy.typing as npt

__all__ = ["MbrResult", "mbr", "segment_vote", "similarity_scores"]


@dataclass(frozen=True, slots=True)
class MbrResult:
    """What `mbr` chose.

    Attributes
    ----------
    index : int
        The best text; the earliest of equals.
    text : str
        The text itself.
    score : float
        Its mean utility against the references.
    scores : tuple of float
        Mean utility of every text; empty when pruned.
    calls : int
        Utilities that an unpruned answer evaluates, or those that pruning did.
    """

    index: int
    text: str
    score: float
    scores: tuple[float, ...]
    calls: int


def mbr(
    texts: Sequence[str],
    utility: str | Callable[[list[tuple[str, str]]], Sequence[float]] = "chrf",
    *,
    weights: Sequence[float] | None = None,
    embeddings: Any = None,
    prune: float | None = None,
    references: int = 0,
    seed: int = 0,
) -> MbrResult:
    """Choose the text that agrees best with the others (minimum Bayes risk).

    Parameters
    ----------
    texts : sequence of str
        Candidates, which are the references too.
    utility : str or callable
        ``"chrf"``, ``"bleu"``, ``"rouge_1"``, ``"rouge_2"``, ``"rouge_l"``, ``"token_f1"``,
        ``"edit"``, ``"jaccard"``, ``"ucs"``, ``"exact"``; or a function that takes pairs
        (candidate, reference) and returns their scores: a model, a judge, shared test
        outputs. It is asked once for each pair of different texts.
    weights : sequence of float, optional
        Weight of each text as a reference, 1 by default.
    embeddings : float array, shape (texts, dimensions), optional
        In place of a utility: cosine similarity, linear in the number of texts.
    prune : float, optional
        Confidence of pruning, such as 0.99: candidates that hardly ever beat the best on resampled
        references are dropped early. Exact without it. For named utilities.
    references : int
        How many references pruning looks at; 0 for all of them.
    seed : int
        Seed of pruning.

    Returns
    -------
    MbrResult
        The best text with its score.

    Raises
    ------
    InputError
        No texts, an unknown utility, weights or scores that do not fit.

    Examples
    --------
    >>> from trivium import mbr
    >>> mbr(["kitten", "sitting", "mitten"], utility="edit").text
    'kitten'
    """
    if isinstance(texts, (str, bytes)):
        raise InputError("texts: needs a sequence of texts, not one text")
    texts = [_text(i, text) for i, text in enumerate(texts)]
    w = [] if weights is None else [float(weight) for weight in weights]
    if isinstance(utility, str) and embeddings is None:
        pruning = None if prune is None else (float(prune), 500, references, seed)
        index, scores, calls = _core.Voter.mbr(texts, w, utility, pruning)
        score = scores[index] if prune is None else scores[0]
        return MbrResult(index, texts[index], score, tuple(scores) if prune is None else (), calls)
    if prune is not None:
        raise InputError("prune: works with named utilities")
    if not texts:
        raise InputError("texts: an empty list has no best text")
    if w and (len(w) != len(texts) or not all(np.isfinite(w)) or min(w) < 0):
        raise InputError(f"weights: needs {len(texts)} finite weights from 0 on")
    share = np.array(w or [1.0] * len(texts))
    share = share / max(share.sum(), 1e-300)
    if embeddings is not None:
        means, calls = _cosine(embeddings, share), len(texts)
    else:
        assert callable(utility)
        means, calls = _called(utility, texts, share)
    index = int(np.argmax(means))
    return MbrResult(index, texts[index], float(means[index]), tuple(means.tolist()), calls)


def _text(i: int, text: Any) -> str:
    if not isinstance(text, str):
        raise InputError(f"texts[{i}]: needs a text, found {type(text).__name__}")
    return text.encode("utf-8", "replace").decode()


def _cosine(embeddings: Any, share: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    rows = np.asarray(embeddings, dtype=np.float64)
    if rows.ndim != 2 or len(rows) != len(share) or not np.isfinite(rows).all():
        raise InputError(f"embeddings: needs {len(share)} finite rows, found {rows.shape}")
    norms = np.linalg.norm(rows, axis=1, keepdims=True)
    rows = rows / np.where(norms > 0, norms, 1.0)
    return np.asarray(rows @ (rows.T @ share))


def _called(
    utility: Callable[[list[tuple[str, str]]], Sequence[float]],
    texts: list[str],
    share: npt.NDArray[np.float64],
) -> tuple[npt.NDArray[np.float64], int]:
    unique = list(dict.fromkeys(texts))
    place = {text: i for i, text in enumerate(unique)}
    pairs = [(h, r) for h in unique for r in unique]
    scores = np.asarray(utility(pairs), dtype=np.float64)
    if scores.shape != (len(pairs),):
        raise InputError(f"utility: returned shape {scores.shape} for {len(pairs)} pairs")
    table = _impute(scores.reshape(len(unique), len(unique)))
    weight = np.zeros(len(unique))
    for text, part in zip(texts, share, strict=True):
        weight[place[text]] += part
    return (table @ weight)[[place[text] for text in texts]], len(pairs)


def _impute(table: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Fill missing scores by row mean + column mean - grand mean."""
    missing = np.isnan(table)
    if not missing.any():
        return table
    if missing.all():
        raise InputError("utility: no pair has a score")
    grand = float(np.nanmean(table))

    def means(axis: int) -> npt.NDArray[np.float64]:
        known = (~missing).sum(axis=axis)
        sums = np.where(missing, 0.0, table).sum(axis=axis)
        return np.asarray(np.where(known > 0, sums / np.maximum(known, 1), grand))

    filled = means(1)[:, None] + means(0)[None, :] - grand
    return np.asarray(np.where(missing, filled, table))


def similarity_scores(
    candidates: Sequence[Sequence[str]],
    *,
    logprobs: Sequence[Sequence[float]] | None = None,
    consensus: bool = False,
) -> list[float]:
    """Score candidates by their mean similarity to the others, in linear time.

    Jain et al., "Lightweight reranking for language model generations" (self-consistency for
    open-ended generations). Without log-probabilities the similarity of two candidates is the share
    of all tokens that both contain (UCS); with them a token counts its mean probability in the
    candidate (WUCS); `consensus` multiplies by ``exp(mean log-probability)``.

    Parameters
    ----------
    candidates : sequence of sequences of str
        Tokens of each candidate.
    logprobs : sequence of sequences of float, optional
        Their log-probabilities.
    consensus : bool
        Whether to multiply by the candidate's own normalised probability.

    Returns
    -------
    list of float
        One score a candidate.

    Examples
    --------
    >>> [round(7 * x, 6) for x in similarity_scores(["abc", "abd", "xyz"])]
    [1.0, 1.0, 0.0]
    """
    if not candidates:
        raise InputError("candidates: an empty list has no scores")
    if logprobs is not None and [len(c) for c in candidates] != [len(p) for p in logprobs]:
        raise InputError("logprobs: needs one value a token")
    entries: list[dict[str, float]] = []
    for i, tokens in enumerate(candidates):
        sums: dict[str, list[float]] = {}
        for j, token in enumerate(tokens):
            p = 1.0 if logprobs is None else float(np.exp(logprobs[i][j]))
            sums.setdefault(token, []).append(p)
        entries.append({token: float(np.mean(ps)) for token, ps in sums.items()})
    total: dict[str, float] = {}
    for entry in entries:
        for token, value in entry.items():
            total[token] = total.get(token, 0.0) + value
    scale = max(len(total), 1) * max(len(candidates) - 1, 1)
    scores = [sum(v * (total[t] - v) for t, v in entry.items()) / scale for entry in entries]
    if consensus:
        if logprobs is None:
            raise InputError("consensus: needs logprobs")
        scores = [
            score * float(np.exp(np.mean(lps))) if len(lps) else 0.0
            for score, lps in zip(scores, logprobs, strict=True)
        ]
    return scores


def segment_vote(candidates: Sequence[Sequence[str]], *, share: float = 0.5) -> list[str]:
    """Keep the segments that at least a share of the candidates have, in their mean order.

    The part of fine-grained self-consistency that needs no model (Wang et al., "Integrate the
    Essence and Eliminate the Dross: Fine-Grained Self-Consistency for Free-Form Language
    Generation"). The result may be no candidate at all: validate it again.

    Examples
    --------
    >>> segment_vote([["a", "b", "c"], ["a", "c"], ["a", "b", "d"]])
    ['a', 'b', 'c']
    """
    support: dict[str, list[float]] = {}
    for segments in candidates:
        seen = dict.fromkeys(segments)
        for place, segment in enumerate(seen):
            support.setdefault(segment, []).append(place / max(len(seen), 1))
    need = share * len(candidates)
    kept = [segment for segment, places in support.items() if len(places) >= need]
    return sorted(kept, key=lambda segment: float(np.mean(support[segment])))
