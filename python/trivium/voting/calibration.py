"""Confidence that may be acted on: calibrators, their errors, and decisions under a utility."""

from __future__ import annotations

import json
from collections.abc import Hashable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self, TypeVar

import numpy as np

from trivium.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import numpy.typing as npt

    from trivium.voter import Result

__all__ = [
    "Calibrator",
    "Reliability",
    "bayes_decision",
    "best_set",
    "reliability",
    "weighted_median",
]

_Action = TypeVar("_Action", bound=Hashable)

_FEATURES = ("share", "margin", "log_ballots", "entropy", "none_rate")


def _features(result: Result) -> list[float]:
    seen = result.num_cast + result.num_none
    return [
        result.share,
        result.margin,
        float(np.log(max(result.num_cast, 1))),
        result.entropy,
        result.num_none / max(seen, 1),
    ]


class Calibrator:
    """Probability that the winner of a vote is right, from labelled votes.

    Logistic regression with a ridge on share, margin, logarithm of the ballots, entropy and rate of
    abstentions, all standardised. Fitted to one policy: another stop rule has other shares.

    Examples
    --------
    >>> from trivium import vote
    >>> sure, split = vote(["1"] * 8), vote(["1", "2", "3", "1"])
    >>> made = Calibrator.fit([sure, split] * 30, [True, False] * 30)
    >>> made.p_correct(sure) > 0.9 > 0.1 > made.p_correct(split)
    True
    """

    __slots__ = ("mean", "policy", "scale", "weights")

    def __init__(
        self,
        weights: Sequence[float],
        mean: Sequence[float],
        scale: Sequence[float],
        policy: str,
    ) -> None:
        self.weights = [float(w) for w in weights]
        self.mean, self.scale = [float(x) for x in mean], [float(x) for x in scale]
        self.policy = policy
        sizes = (len(self.weights), len(self.mean), len(self.scale))
        if sizes != (len(_FEATURES) + 1, len(_FEATURES), len(_FEATURES)):
            raise InputError(f"weights, mean, scale: are of other features than {_FEATURES}")

    @classmethod
    def fit(
        cls,
        results: Sequence[Result],
        right: Sequence[bool],
        *,
        ridge: float = 1.0,
        force: bool = False,
    ) -> Self:
        """Fit labelled results of one policy.

        Raises
        ------
        InputError
            Fewer than 50 labels without `force`, lengths that differ, results of several policies.
        """
        if len(results) != len(right):
            raise InputError("results, right: need equal lengths")
        if len(results) < 50 and not force:
            raise InputError(f"right: {len(right)} labels are too few; 50 are needed")
        policies = {result.policy for result in results}
        if len(policies) != 1:
            raise InputError(f"results: are of several policies: {sorted(policies)}")
        x = np.array([_features(result) for result in results])
        y = np.array(right, dtype=np.float64)
        mean = x.mean(axis=0)
        scale = np.where(x.std(axis=0) > 1e-12, x.std(axis=0), 1.0)
        z = np.hstack([np.ones((len(x), 1)), (x - mean) / scale])
        w = np.zeros(z.shape[1])
        pull = ridge * np.eye(len(w))
        pull[0, 0] = 1e-9
        for _ in range(50):
            p = 1 / (1 + np.exp(-np.clip(z @ w, -30, 30)))
            gradient = z.T @ (p - y) + pull @ w
            hessian = (z * (p * (1 - p))[:, None]).T @ z + pull + 1e-9 * np.eye(len(w))
            step = np.linalg.solve(hessian, gradient)
            w -= step
            if np.abs(step).max() < 1e-10:
                break
        return cls(list(w), list(mean), list(scale), policies.pop())

    def p_correct(self, result: Result) -> float:
        """Probability that the winner is right; 0 without a winner.

        Raises
        ------
        InputError
            A result of another policy.
        """
        if result.policy != self.policy:
            raise InputError(f"result: has policy {result.policy!r}, not {self.policy!r}")
        if result.winner is None:
            return 0.0
        x = (np.array(_features(result)) - self.mean) / self.scale
        return float(1 / (1 + np.exp(-np.clip(self.weights[0] + x @ self.weights[1:], -30, 30))))

    def to_json(self) -> str:
        """Give the calibrator as JSON."""
        return json.dumps(
            {
                "format": "calibrator-v1",
                "features": _FEATURES,
                "policy": self.policy,
                "weights": self.weights,
                "mean": self.mean,
                "scale": self.scale,
            }
        )

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Read a calibrator.

        Raises
        ------
        InputError
            The text is none, or of other features.
        """
        try:
            data: dict[str, Any] = json.loads(text)
            if data["format"] != "calibrator-v1" or tuple(data["features"]) != _FEATURES:
                raise InputError("calibrator: is of another version")
            return cls(data["weights"], data["mean"], data["scale"], str(data["policy"]))
        except (ValueError, KeyError, TypeError) as e:
            if isinstance(e, InputError):
                raise
            raise InputError(f"calibrator: cannot be read: {e}") from e


@dataclass(frozen=True, slots=True)
class Reliability:
    """How well a confidence means what it says.

    Attributes
    ----------
    calibration_error : float
        Expected calibration error over ten bins (lower, upper].
    brier : float
        Mean squared error.
    risk_coverage : float
        Area under the error of what is answered, the most confident first, against coverage.
    """

    calibration_error: float
    brier: float
    risk_coverage: float


def reliability(confidence: Sequence[float], right: Sequence[bool]) -> Reliability:
    """Measure a confidence against labels.

    Examples
    --------
    >>> reliability([1.0, 1.0, 0.0], [True, True, False])
    Reliability(calibration_error=0.0, brier=0.0, risk_coverage=0.1111111111111111)
    """
    p, y = np.asarray(confidence, dtype=np.float64), np.asarray(right, dtype=np.float64)
    if p.shape != y.shape or p.ndim != 1 or not len(p) or not ((p >= 0) & (p <= 1)).all():
        raise InputError("confidence, right: need equal lengths above 0 and values in [0, 1]")
    bins = np.clip(np.ceil(p * 10) - 1, 0, 9).astype(int)
    error = 0.0
    for b in range(10):
        inside = bins == b
        if inside.any():
            error += abs(y[inside].mean() - p[inside].mean()) * inside.mean()
    order = np.argsort(-p, kind="stable")
    risk = np.cumsum(1 - y[order]) / np.arange(1, len(y) + 1)
    return Reliability(float(error), float(((p - y) ** 2).mean()), float(risk.mean()))


def bayes_decision(
    posterior: Mapping[str, float], utility: Mapping[_Action, Mapping[str, float]]
) -> _Action:
    """Choose the action of largest expected utility under a posterior over keys; the first on ties.

    Examples
    --------
    >>> sure = {"a": {"a": 1.0}, "b": {"b": 1.0}, "abstain": {"a": 0.6, "b": 0.6}}
    >>> bayes_decision({"a": 0.5, "b": 0.5}, sure), bayes_decision({"a": 0.9, "b": 0.1}, sure)
    ('abstain', 'a')
    """
    if not posterior or not utility:
        raise InputError("posterior, utility: are empty")

    def expected(action: _Action) -> float:
        return sum(p * utility[action].get(key, 0.0) for key, p in posterior.items())

    best = max(map(expected, utility))
    return next(action for action in utility if expected(action) >= best - 1e-12)


def best_set(marginals: Mapping[str, float]) -> list[str]:
    """Set of largest expected F1 where elements are present independently.

    Elements are sorted by probability and a cut-off is tried at each length, by the exact law of
    the number of hits and of elements outside (Poisson-binomial). Cubic in the elements.

    Examples
    --------
    >>> best_set({"a": 0.9, "b": 0.6, "c": 0.3})
    ['a', 'b']
    """
    if any(not 0 <= p <= 1 for p in marginals.values()):
        raise InputError("marginals: are not in [0, 1]")
    names = sorted(marginals, key=lambda name: -marginals[name])
    best, chosen = float(np.prod([1 - p for p in marginals.values()])), 0
    for size in range(1, len(names) + 1):
        inside = _law([marginals[name] for name in names[:size]])
        outside = _law([marginals[name] for name in names[size:]])
        value = sum(
            float(p * q) * 2 * hits / (size + hits + others)
            for hits, p in enumerate(inside)
            for others, q in enumerate(outside)
        )
        if value > best + 1e-12:
            best, chosen = value, size
    return names[:chosen]


def _law(ps: Sequence[float]) -> npt.NDArray[np.float64]:
    law = np.ones(1)
    for p in ps:
        law = np.convolve(law, [1 - p, p])
    return law


def weighted_median(values: Sequence[float], weights: Sequence[float] | None = None) -> float:
    """Least value with at least half of the weight at or below it: optimal for absolute loss.

    Examples
    --------
    >>> weighted_median([1, 2, 2, 9])
    2.0
    """
    w = np.ones(len(values)) if weights is None else np.asarray(weights, dtype=np.float64)
    x = np.asarray(values, dtype=np.float64)
    if x.ndim != 1 or x.shape != w.shape or not len(x) or (w < 0).any() or not w.sum() > 0:
        raise InputError("values, weights: need equal lengths above 0 and weights from 0 on")
    if not np.isfinite(x).all():
        raise InputError("values: are not finite")
    order = np.argsort(x, kind="stable")
    reached = np.cumsum(w[order]) >= w.sum() / 2 - 1e-12
    return float(x[order][reached.argmax()])
