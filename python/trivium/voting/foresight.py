"""phi-decoding's votes over partial traces: foresights are clustered, and agreement is a signal.

Xu et al., "phi-Decoding: Adaptive Foresight Sampling for Balanced Inference-Time Exploration and
Exploitation". Clusters are deterministic here (shared shingles in place of k-means on TF-IDF).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from trivium.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt

__all__ = ["foresight_stop", "shingle_clusters", "step_law", "width_pruned"]


def shingle_clusters(
    texts: Sequence[Sequence[str]], *, size: int = 3, threshold: float = 0.5
) -> list[int]:
    """Cluster token sequences whose shingles overlap (Jaccard), by single link.

    Returns
    -------
    list of int
        Cluster of each text, numbered by first appearance.

    Examples
    --------
    >>> shingle_clusters([["a", "b", "c", "d"], ["x"], ["a", "b", "c", "d", "e"]])
    [0, 1, 0]
    """
    if size < 1 or not 0 <= threshold <= 1:
        raise InputError("size, threshold: need a size from 1 on and a share in [0, 1]")
    shingles = [{tuple(t[i : i + size]) for i in range(max(1, len(t) - size + 1))} for t in texts]
    parent = list(range(len(texts)))

    def root(i: int) -> int:
        while parent[i] != i:
            i = parent[i]
        return i

    for i in range(len(texts)):
        for j in range(i):
            union = shingles[i] | shingles[j]
            if len(shingles[i] & shingles[j]) >= threshold * len(union):
                low, high = sorted((root(i), root(j)))
                parent[high] = low
    names: dict[int, int] = {}
    return [names.setdefault(root(i), len(names)) for i in range(len(texts))]


def step_law(
    advantages: Sequence[float], clusters: Sequence[int], *, tau: float = 0.6
) -> npt.NDArray[np.float64]:
    """Law of the next step: half by advantage, half by the share of its foresight's cluster.

    ``(softmax(A / tau) + softmax(C / tau)) / 2`` with `A` the gain of the mean log-probability of
    the foresight over the step before.

    Examples
    --------
    >>> law = step_law([0.10, 0.05, 0.02, 0.12], [0, 0, 0, 1])
    >>> [round(float(p), 6) for p in law]
    [0.276156, 0.265716, 0.259856, 0.198272]
    """
    if len(advantages) != len(clusters) or not len(clusters) or not tau > 0:
        raise InputError("advantages, clusters, tau: need equal lengths above 0 and tau above 0")
    sizes = np.bincount(clusters)
    share = sizes[np.asarray(clusters)] / len(clusters)

    def softmax(x: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        e = np.exp((x - x.max()) / tau)
        return np.asarray(e / e.sum())

    return (softmax(np.asarray(advantages, dtype=np.float64)) + softmax(share)) / 2


def width_pruned(foresights: Sequence[float]) -> list[int]:
    """Keep the steps whose foresight is not more than a standard deviation below the mean."""
    scores = np.asarray(foresights, dtype=np.float64)
    if not scores.size or not np.isfinite(scores).all():
        raise InputError("foresights: need finite values")
    return [int(i) for i in np.flatnonzero(scores >= scores.mean() - scores.std())]


def foresight_stop(
    clusters: Sequence[int], step: int, *, share: float = 0.7, least: int = 4, most: int = 8
) -> bool:
    """Whether looking ahead may end: the largest cluster has this share after `least` steps.

    Examples
    --------
    >>> foresight_stop([0, 0, 0, 1], 4), foresight_stop([0, 0, 0, 1], 3), foresight_stop([0, 1], 8)
    (True, False, True)
    """
    if not len(clusters):
        raise InputError("clusters: an empty list has no largest cluster")
    if step >= most:
        return True
    return step >= least and bool(np.bincount(clusters).max() >= share * len(clusters))
