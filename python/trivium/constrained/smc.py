"""Sequential Monte Carlo under a constraint: particles, weights, resampling.

Loula et al., "Syntactic and Semantic Control of Large Language Models via Sequential Monte Carlo".

Each of `n` texts draws its next token from the allowed ones; its weight is multiplied by the
allowed mass ``Z``, exact from a `GrammarMask`, or by the unbiased estimate of `awrs` from a
checker. Where the weights grow unequal, texts are resampled in proportion to them. Weighted texts
approximate the model's law given the language, and the mean weight estimates its mass without bias:
``E[mean weight of complete texts] = P(L)``.

Resampling is systematic. Its single uniform number selects one of at most ``n + 1`` outcomes, and
is drawn as such, so that tests can walk every path.

Cost of a step: one call for all masks, a few passes over ``n`` rows; with a checker, its tests.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

import numpy as np

from trivium.constrained._chance import allowed, at_least, chance, log_softmax
from trivium.constrained.awrs import awrs
from trivium.errors import DeadEnd, InputError, StateError
from trivium.grammar import GrammarMask, fill_batch

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from trivium.constrained._chance import Chance, Rng
    from trivium.grammar import Matcher

__all__ = ["Particles"]


class Particles:
    """Weighted texts of one prompt; the host gives rows of logits and moves its cache rows.

    Parameters
    ----------
    constraint : GrammarMask, or callable of (tuple of int, int) to bool
        A checker says whether a token may follow the tokens before it, its end-of-sequence ids
        included.
    n : int
    rng : numpy.random.Generator, int, or an object with ``categorical(weights) -> int``
        An int is a seed.
    resample_below : float, optional
        Resample where the effective sample size ``(sum w)^2 / sum w^2`` is below this share of `n`;
        0 never does.
    eos : sequence of int, optional
        End-of-sequence ids, for a checker only; a grammar knows its own.
    max_rejects : int, optional
        Of `awrs`, for a checker.

    Attributes
    ----------
    tokens : list of list of int, length n
        The texts so far.
    log_weights : float array, shape (n,)
        ``-inf`` where a text cannot go on.
    finished : bool array, shape (n,)
        Which texts are complete; they keep their weights and take part in resampling.

    Examples
    --------
    >>> import numpy as np
    >>> from trivium import GrammarMask, Vocabulary
    >>> vocab = Vocabulary([b"a", b"b", b""], eos=[2])
    >>> particles = Particles(GrammarMask.choices(["a", "b"], vocab), 4, rng=0)
    >>> while not particles.done:
    ...     ancestors = particles.step(np.zeros((4, 3)))  # then gather the cache by ancestors
    >>> round(float(np.exp(particles.log_evidence)), 4)  # (2/3) * (1/3)
    0.2222
    """

    __slots__ = (
        "_accepts", "_chance", "_eos", "_matchers", "_max_rejects", "_share", "finished",
        "log_weights", "tokens",
    )  # fmt: skip

    _accepts: Callable[[tuple[int, ...], int], bool] | None
    _chance: Chance
    _matchers: list[Matcher]
    tokens: list[list[int]]
    log_weights: NDArray[np.float64]
    finished: NDArray[np.bool_]

    def __init__(
        self,
        constraint: GrammarMask | Callable[[tuple[int, ...], int], bool],
        n: int,
        *,
        rng: Rng,
        resample_below: float = 0.5,
        eos: Sequence[int] | None = None,
        max_rejects: int = 1_000,
    ) -> None:
        count = at_least("n", n, 1)
        if not 0.0 <= resample_below <= 1.0:
            raise InputError(f"resample_below: {resample_below!r} is not in 0 .. 1")
        self._max_rejects = at_least("max_rejects", max_rejects, 1)
        self._matchers, self._accepts = [], None
        if isinstance(constraint, GrammarMask):
            if eos is not None:
                raise InputError("eos: a grammar has those of its vocabulary")
            self._matchers = [constraint.matcher() for _ in range(count)]
            ends = constraint.vocab.eos
        elif callable(constraint):
            if not eos:
                raise InputError("eos: a checker needs end-of-sequence ids")
            self._accepts, ends = constraint, [int(t) for t in eos]
        else:
            raise InputError(f"constraint: {type(constraint).__name__} is no grammar or callable")
        self._eos = frozenset(ends)
        self._chance = chance(rng)
        self._share = float(resample_below)
        self.tokens = [[] for _ in range(count)]
        self.log_weights = np.zeros(count)
        self.finished = np.zeros(count, np.bool_)

    def __len__(self) -> int:
        return len(self.tokens)

    @property
    def done(self) -> bool:
        """Whether no text can go on."""
        return not self._active().size

    @property
    def log_evidence(self) -> float:
        """Log of the mean weight, texts that are not complete counted as 0.

        An unbiased estimate (of the mass, not of its logarithm) of the model's mass of the texts
        in the language of at most as many tokens as there were steps.
        """
        return self._log_mean(np.where(self.finished, self.log_weights, -np.inf))

    @property
    def ess(self) -> float:
        """Effective sample size, 0 if all weights are 0."""
        top = self.log_weights.max()
        if top == -np.inf:
            return 0.0
        w = np.exp(self.log_weights - top)
        return float(w.sum() ** 2 / (w * w).sum())

    def step(self, logits: Any) -> NDArray[np.int64]:
        """Draw one token for every text that can go on, then resample if the weights ask for it.

        Parameters
        ----------
        logits : float array, shape (n, V)
            Row ``i`` is the model's after ``tokens[i]``; rows of complete texts are not read.

        Returns
        -------
        int64 array, shape (n,)
            The text that each one continues: gather cache rows by it. ``0 .. n-1`` if nothing was
            resampled.

        Raises
        ------
        StateError
            No text can go on.
        InputError
            Shape, NaN, a row of minus infinity.
        """
        active = self._active()
        if not active.size:
            raise StateError("step: no text can go on")
        rows = np.asarray(logits)
        if rows.ndim != 2 or len(rows) != len(self):
            raise InputError(f"logits: shape {rows.shape}, needs ({len(self)}, V)")
        law = log_softmax(rows[active])
        if self._accepts is None:
            self._draw_masked(active, law)
        else:
            self._draw_checked(self._accepts, active, law)
        return self._resample()

    def _active(self) -> NDArray[np.intp]:
        return np.flatnonzero(~self.finished & (self.log_weights > -np.inf))

    def _draw_masked(self, active: NDArray[np.intp], law: NDArray[np.float64]) -> None:
        masks = self._masks([self._matchers[i] for i in active], law.shape[1])
        weights = np.where(masks, np.exp(law), 0.0)
        for i, row in zip(active.tolist(), weights, strict=True):
            mass = float(row.sum())
            if mass > 0.0:
                token = self._chance.categorical(row)
                self._matchers[i].commit(token)
                self._push(i, token, float(np.log(mass)))
            else:
                self.log_weights[i] = -np.inf

    def _masks(self, matchers: list[Matcher], width: int) -> NDArray[np.bool_]:
        words = np.zeros((len(matchers), matchers[0].words), np.int32)
        try:
            fill_batch(matchers, words)
        except DeadEnd:  # of some; their texts cannot go on
            return np.stack([allowed(m, width) for m in matchers])
        bits = np.unpackbits(words.view(np.uint8), axis=1, bitorder="little").astype(np.bool_)
        masks = np.zeros((len(matchers), width), np.bool_)
        masks[:, : bits.shape[1]] = bits[:, :width]
        return masks

    def _draw_checked(
        self,
        accepts: Callable[[tuple[int, ...], int], bool],
        active: NDArray[np.intp],
        law: NDArray[np.float64],
    ) -> None:
        # All answers before any change: a checker may raise.
        drawn = []
        for i, row in zip(active.tolist(), law, strict=True):
            follows = functools.partial(accepts, tuple(self.tokens[i]))
            out = awrs(row, follows, rng=self._chance, max_rejects=self._max_rejects)
            drawn.append((i, out))
        for i, out in drawn:
            if out.token is None:
                self.log_weights[i] = -np.inf
            else:
                self._push(i, out.token, out.log_weight)

    def _push(self, i: int, token: int, log_mass: float) -> None:
        self.tokens[i].append(token)
        self.log_weights[i] += log_mass
        self.finished[i] = token in self._eos

    def _resample(self) -> NDArray[np.int64]:
        n = len(self)
        same = np.arange(n, dtype=np.int64)
        ess = self.ess
        # Rounding alone must not count as unequal.
        if ess == 0.0 or ess >= self._share * n * (1.0 - 1e-12):
            return same
        ancestors = _systematic(self.log_weights, self._chance)
        if self._matchers:
            # The first heir takes the matcher, the others forks of it.
            taken: set[int] = set()
            heirs = []
            for a in ancestors.tolist():
                heirs.append(self._matchers[a].fork() if a in taken else self._matchers[a])
                taken.add(a)
            self._matchers = heirs
        self.tokens = [list(self.tokens[a]) for a in ancestors]
        self.finished = self.finished[ancestors]
        self.log_weights = np.full(n, self._log_mean(self.log_weights))
        return ancestors

    def _log_mean(self, log_weights: NDArray[np.float64]) -> float:
        return float(np.logaddexp.reduce(log_weights) - np.log(len(log_weights)))


def _systematic(log_weights: NDArray[np.float64], source: Chance) -> NDArray[np.int64]:
    """Ancestors at ``u, u + 1, ..`` on the weights stacked up to `n`, `u` uniform in [0, 1).

    They change only where `u` passes a fractional part of a partial sum, so one of the intervals
    between these is drawn.
    """
    w = np.exp(log_weights - log_weights.max())
    n = len(w)
    ends = np.cumsum(w) * (n / w.sum())
    cuts = np.unique(np.concatenate([[0.0], ends % 1.0, [1.0]]))
    k = source.categorical(np.diff(cuts))
    points = (cuts[k] + cuts[k + 1]) / 2 + np.arange(n)
    last = int(np.flatnonzero(w)[-1])
    found: NDArray[np.int64] = np.searchsorted(ends, points, side="right").astype(np.int64)
    found[found > last] = last
    return found
