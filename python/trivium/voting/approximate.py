"""Minimum Bayes risk for dear utilities: fewer references, fewer pairs, earlier stops.

Exact n-gram utilities need none of this (`trivium.mbr`). Every approximation equals the exact
answer when its parameter is at its largest, and seeds reproduce.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from trivium.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import numpy.typing as npt

    Pairs = Callable[[list[tuple[str, str]]], Sequence[float]]

__all__ = [
    "aggregate_chrf",
    "bernstein_leader",
    "centroid_references",
    "coarse_to_fine",
    "complete_matrix",
    "diverse_best",
    "n_by_s",
]


def n_by_s(texts: Sequence[str], utility: Pairs, *, references: int, seed: int = 0) -> int:
    """Index of the best text against `references` random texts (N-by-S).

    Eikema and Aziz, "Sampling-Based Approximations to Minimum Bayes Risk Decoding for Neural
    Machine Translation".

    Examples
    --------
    >>> n_by_s(["a", "b", "a"], lambda ps: [float(h == r) for h, r in ps], references=3)
    0
    """
    if not texts or not 1 <= references <= len(texts):
        raise InputError(f"references: {references} is not in 1 .. {len(texts)}")
    chosen = np.random.default_rng(seed).permutation(len(texts))[:references]
    return int(np.argmax(_table(texts, [texts[i] for i in sorted(chosen)], utility).mean(axis=1)))


def coarse_to_fine(texts: Sequence[str], cheap: Pairs, dear: Pairs, *, keep: int) -> int:
    """Index of the best text by `dear` among the `keep` best by `cheap`; references are all texts.

    Fernandes et al., "Quality-Aware Decoding for Neural Machine Translation" (its two stages).
    """
    if not texts or keep < 1:
        raise InputError("texts, keep: need at least one each")
    scores = _table(texts, texts, cheap).mean(axis=1)
    left = sorted(sorted(range(len(texts)), key=lambda i: (-scores[i], i))[:keep])
    fine = _table([texts[i] for i in left], texts, dear).mean(axis=1)
    return left[int(np.argmax(fine))]


def centroid_references(
    embeddings: Any, *, centroids: int = 8, rounds: int = 5, seed: int = 0
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Centres of the references' embeddings by k-means++, and the share of texts each stands for.

    Deguchi et al., "Centroid-Based Efficient Minimum Bayes Risk Decoding". Score candidates against
    the centres, weighted by the shares.

    Returns
    -------
    centres : float array, shape (at most centroids, dimensions)
    shares : float array
    """
    rows = np.asarray(embeddings, dtype=np.float64)
    if rows.ndim != 2 or not len(rows) or not np.isfinite(rows).all() or centroids < 1:
        raise InputError("embeddings, centroids: need finite rows and at least one centroid")
    rng = np.random.default_rng(seed)
    centres = rows[[int(rng.integers(len(rows)))]]
    while len(centres) < min(centroids, len(rows)):
        gap = ((rows[:, None] - centres[None]) ** 2).sum(-1).min(axis=1)
        if gap.sum() <= 0:
            break
        centres = np.vstack([centres, rows[rng.choice(len(rows), p=gap / gap.sum())]])
    for _ in range(rounds):
        nearest = ((rows[:, None] - centres[None]) ** 2).sum(-1).argmin(axis=1)
        centres = np.array(
            [
                rows[nearest == c].mean(axis=0) if (nearest == c).any() else centre
                for c, centre in enumerate(centres)
            ]
        )
    nearest = ((rows[:, None] - centres[None]) ** 2).sum(-1).argmin(axis=1)
    return centres, np.bincount(nearest, minlength=len(centres)) / len(rows)


def complete_matrix(
    n: int,
    utility: Callable[[list[tuple[int, int]]], Sequence[float]],
    *,
    reduction: int = 8,
    rank: int = 8,
    ridge: float = 0.1,
    rounds: int = 10,
    seed: int = 0,
) -> npt.NDArray[np.float64]:
    """Utilities of all pairs from a random ``1 / reduction`` of them, by alternating least squares.

    Trabelsi et al., "Efficient Minimum Bayes Risk Decoding using Low-Rank Matrix Completion
    Algorithms". `utility` is asked about pairs of indices; reduction 1 asks about all and is exact.
    """
    if n < 1 or reduction < 1 or rank < 1:
        raise InputError("n, reduction, rank: need at least 1")
    rng = np.random.default_rng(seed)
    order = rng.permutation(n * n)[: max(n, n * n // reduction)]
    if reduction == 1:
        order = np.arange(n * n)
    pairs = [(int(i) // n, int(i) % n) for i in order]
    table = np.zeros((n, n))
    known = np.zeros((n, n), dtype=bool)
    for (h, r), score in zip(pairs, utility(pairs), strict=True):
        table[h, r], known[h, r] = score, True
    if known.all():
        return table
    mean = table[known].mean()
    left = rng.normal(0, 0.1, (n, rank))
    right = rng.normal(0, 0.1, (n, rank))
    for _ in range(rounds):
        for mine, other, seen, values in (
            (left, right, known, table),
            (right, left, known.T, table.T),
        ):
            for i in range(n):
                basis = other[seen[i]]
                gram = basis.T @ basis + ridge * np.eye(rank)
                mine[i] = np.linalg.solve(gram, basis.T @ (values[i, seen[i]] - mean))
    return np.where(known, table, left @ right.T + mean)


def aggregate_chrf(texts: Sequence[str], *, groups: int = 1) -> list[float]:
    """ChrF of each text against pseudo-references of averaged n-gram counts.

    Vamvas and Sennrich, "Linear-time Minimum Bayes Risk Decoding with Reference Aggregation".
    Linear in the texts for one group; with a group a text it is the exact mean.

    Examples
    --------
    >>> scores = aggregate_chrf(["the cat sat", "the cat sits", "dogs"])
    >>> max(range(3), key=scores.__getitem__) < 2
    True
    """
    n = len(texts)
    if not n or not 1 <= groups <= n:
        raise InputError(f"groups: {groups} is not in 1 .. {n}")
    counts = [_ngrams(text) for text in texts]
    means: list[list[dict[str, float]]] = []
    for part in np.array_split(np.arange(n), groups):
        mean: list[dict[str, float]] = [{} for _ in range(6)]
        for i in part:
            for order in range(6):
                for gram, count in counts[i][order].items():
                    mean[order][gram] = mean[order].get(gram, 0.0) + count / len(part)
        means.append(mean)
    sizes = [len(part) / n for part in np.array_split(np.arange(n), groups)]
    return [
        sum(size * _chrf(mine, mean) for size, mean in zip(sizes, means, strict=True))
        for mine in counts
    ]


def _ngrams(text: str) -> list[dict[str, float]]:
    chars = "".join(text.split())
    out: list[dict[str, float]] = []
    for n in range(1, 7):
        grams: dict[str, float] = {}
        for i in range(len(chars) - n + 1):
            gram = chars[i : i + n]
            grams[gram] = grams.get(gram, 0.0) + 1.0
        out.append(grams)
    return out


def _chrf(hyp: list[dict[str, float]], ref: list[dict[str, float]]) -> float:
    precision = recall = 0.0
    orders = 0
    for h, r in zip(hyp, ref, strict=True):
        total_h, total_r = sum(h.values()), sum(r.values())
        if total_h > 0 and total_r > 0:
            matches = sum(min(count, r.get(gram, 0.0)) for gram, count in h.items())
            precision += matches / total_h
            recall += matches / total_r
            orders += 1
    if not orders or not precision + recall:
        return 0.0
    p, r_ = precision / orders, recall / orders
    return 100 * 5 * p * r_ / (4 * p + r_)


def diverse_best(quality: Sequence[float], similarity: Any, k: int, *, penalty: float) -> list[int]:
    """Choose `k` texts of high quality that are not alike: greedy, then swaps while they gain.

    Maximises ``sum quality - penalty * sum of pairwise similarity`` (Jinnai et al., "Generating
    Diverse and High-Quality Texts by Minimum Bayes Risk Decoding").

    Examples
    --------
    >>> diverse_best([3.0, 2.9, 1.0], [[1, 1, 0], [1, 1, 0], [0, 0, 1]], 2, penalty=5.0)
    [0, 2]
    """
    table = np.asarray(similarity, dtype=np.float64)
    n = len(quality)
    if table.shape != (n, n) or not 0 <= k <= n:
        raise InputError(f"similarity, k: need shape ({n}, {n}) and k in 0 .. {n}")

    def value(chosen: list[int]) -> float:
        block = table[np.ix_(chosen, chosen)]
        alike = (block.sum() - np.trace(block)) / 2
        return float(sum(quality[i] for i in chosen) - penalty * alike)

    chosen: list[int] = []
    for _ in range(k):
        rest = [i for i in range(n) if i not in chosen]
        chosen.append(max(rest, key=lambda i: (value([*chosen, i]), -i)))
    for _ in range(n):
        swaps = [
            [*(j for j in chosen if j != out), into]
            for out in chosen
            for into in range(n)
            if into not in chosen
        ]
        better = max(swaps, key=value, default=chosen)
        if value(better) <= value(chosen) + 1e-12:
            break
        chosen = better
    return sorted(chosen)


def bernstein_leader(
    utilities: Any, *, delta: float = 0.05, look: int = 1, tolerance: float = 0.0
) -> tuple[int, list[int]]:
    """Leader of candidates on common references, and the rivals that cannot be told from it yet.

    Empirical Bernstein bound on paired differences (Maurer and Pontil), paid for by the number of
    rivals and by ``look (look + 1)`` earlier looks: drop rivals, draw more references, look again.

    Parameters
    ----------
    utilities : float array, shape (candidates, references)
        In [0, 1].
    delta : float
        Chance that the best candidate is ever dropped.
    look : int
        Number of this look, from 1.
    tolerance : float
        Rivals that are at most this much better are dropped too.

    Returns
    -------
    (int, list of int)
    """
    table = np.asarray(utilities, dtype=np.float64)
    if table.ndim != 2 or table.size == 0 or table.min() < 0 or table.max() > 1:
        raise InputError("utilities: needs rows in [0, 1]")
    if not 0 < delta < 1 or look < 1:
        raise InputError("delta, look: need a chance in (0, 1) and a look from 1 on")
    n, refs = table.shape
    leader = int(table.mean(axis=1).argmax())
    if refs < 2 or n < 2:
        return leader, [i for i in range(n) if i != leader]
    log = math.log(3 * (n - 1) * look * (look + 1) / delta)
    open_rivals = []
    for rival in range(n):
        gap = table[leader] - table[rival]
        radius = math.sqrt(2 * gap.var(ddof=1) * log / refs) + 6 * log / refs
        if rival != leader and gap.mean() + tolerance <= radius:
            open_rivals.append(rival)
    return leader, open_rivals


def _table(
    hypotheses: Sequence[str], references: Sequence[str], utility: Pairs
) -> npt.NDArray[np.float64]:
    pairs = [(h, r) for h in hypotheses for r in references]
    scores = np.asarray(utility(pairs), dtype=np.float64)
    if scores.shape != (len(pairs),) or not np.isfinite(scores).all():
        raise InputError(f"utility: needs {len(pairs)} finite scores, found shape {scores.shape}")
    return scores.reshape(len(hypotheses), len(references))
