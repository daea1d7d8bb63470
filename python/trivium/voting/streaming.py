"""Minimum Bayes risk while candidates still arrive, and when further ones would not change it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from trivium.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import numpy.typing as npt

__all__ = ["StreamingMbr"]


class StreamingMbr:
    """Candidates that arrive one at a time: candidate `n + 1` costs at most `2 n + 1` utilities.

    Equal texts are asked about once. Texts are candidates and references; the best one is that of
    `trivium.mbr` over the same list.

    Parameters
    ----------
    utility : callable
        Takes pairs (candidate, reference), returns their scores: a model, a judge, shared outputs.
    patience : int, optional
        Candidates in a row without a new best one after which `decided` is true.
    level : float
        `decided` is also true when the best wins against every other candidate on this share of
        resampled references.
    least : int
        Candidates below which nothing is decided.
    resamples : int
        Bootstrap samples of the references.
    seed : int
        Seed of the resampling.

    Examples
    --------
    >>> vote = StreamingMbr(lambda ps: [float(h == r) for h, r in ps])
    >>> for text in ("a", "b", "b"):
    ...     vote.add(text)
    >>> vote.best, vote.scores
    (1, [0.3333333333333333, 0.6666666666666666, 0.6666666666666666])
    """

    __slots__ = (
        "_counts",
        "_last",
        "_same",
        "_table",
        "_texts",
        "_unique",
        "_utility",
        "calls",
        "least",
        "level",
        "patience",
        "resamples",
        "seed",
    )

    def __init__(
        self,
        utility: Callable[[list[tuple[str, str]]], Sequence[float]],
        *,
        patience: int | None = None,
        level: float = 0.95,
        least: int = 4,
        resamples: int = 500,
        seed: int = 0,
    ) -> None:
        if not callable(utility):
            raise InputError("utility: needs a function of pairs")
        if (
            (patience is not None and patience < 1)
            or not 0 < level <= 1
            or min(least, resamples) < 1
        ):
            raise InputError("patience, level, least, resamples: are out of range")
        self._utility = utility
        self.patience, self.level, self.least = patience, level, least
        self.resamples, self.seed = resamples, seed
        self.calls = 0
        self._texts: list[int] = []
        self._unique: dict[str, int] = {}
        self._counts: list[int] = []
        self._table: npt.NDArray[np.float64] = np.zeros((0, 0))
        self._last: int | None = None
        self._same = 0

    def add(self, text: str) -> None:
        """Add a candidate."""
        if text in self._unique:
            place = self._unique[text]
            self._counts[place] += 1
        else:
            place = len(self._unique)
            known = list(self._unique)
            pairs = [(text, r) for r in known] + [(h, text) for h in known] + [(text, text)]
            scores = np.asarray(self._utility(pairs), dtype=np.float64)
            if scores.shape != (len(pairs),) or not np.isfinite(scores).all():
                raise InputError(f"utility: needs {len(pairs)} finite scores")
            table = np.zeros((place + 1, place + 1))
            table[:place, :place] = self._table
            table[place, :place] = scores[:place]
            table[:place, place] = scores[place : 2 * place]
            table[place, place] = scores[-1]
            self._table = table
            self._unique[text] = place
            self._counts.append(1)
            self.calls += len(pairs)
        self._texts.append(place)
        best = self._texts[self.best or 0]
        self._same = self._same + 1 if best == self._last else 0
        self._last = best

    def __len__(self) -> int:
        return len(self._texts)

    @property
    def scores(self) -> list[float]:
        """Mean utility of every candidate against all of them."""
        if not self._texts:
            return []
        means = self._table @ np.asarray(self._counts) / len(self._texts)
        return [float(means[place]) for place in self._texts]

    @property
    def best(self) -> int | None:
        """The best candidate, the earliest of equals; None before the first."""
        scores = self.scores
        return int(np.argmax(scores)) if scores else None

    @property
    def decided(self) -> bool:
        """Whether further candidates would hardly change the best one."""
        n = len(self._texts)
        if n < self.least or self._last is None:
            return False
        if self.patience is not None and self._same >= self.patience:
            return True
        return self.win_rate() >= self.level

    def win_rate(self) -> float:
        """Least share of resampled references on which the best wins against another candidate."""
        if self._last is None:
            return 0.0
        rng = np.random.default_rng([self.seed, len(self._texts)])
        p = np.asarray(self._counts) / len(self._texts)
        drawn = rng.multinomial(len(self._texts), p, size=self.resamples)
        means = drawn @ self._table.T
        wins = (means[:, [self._last]] >= means - 1e-12).mean(axis=0)
        return float(wins.min())
