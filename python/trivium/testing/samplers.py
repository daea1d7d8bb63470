"""`check_sampler`: whether a sampler draws from the law that its parameters ask for."""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from trivium.testing.chance import EDGES, EdgeRng, Enumerator, NotEnumerable, SampledRng
from trivium.testing.laws import sampling_law
from trivium.testing.results import CheckResult, Counterexample
from trivium.testing.shrink import shrink
from trivium.testing.statistics import ERROR_PROBABILITY, law_evidence, total_variation

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

__all__ = ["Params", "SamplerProblem", "check_sampler"]

_STAGES = (1_000, 5_000, 20_000)
_CLEAR = 1e-4


@dataclass(frozen=True)
class Params:
    """Sampling parameters; also a mapping, so that ``**params`` works.

    Attributes
    ----------
    temperature : float
        0 is greedy, lowest id on ties.
    top_k : int
        0 is off. Ties at the k-th do not occur in the problems.
    top_p : float
        1 is off. Evaluated on what top-k kept.
    min_p : float
        0 is off. Relative to the largest probability.
    """

    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0
    min_p: float = 0.0

    def law(self) -> dict[str, Any]:
        """Return the arguments of `sampling_law`."""
        return {
            "temperature": self.temperature,
            "top_k": self.top_k,
            "top_p": self.top_p,
            "min_p": self.min_p,
        }

    def keys(self) -> list[str]:
        """Return the names of the parameters."""
        return [name for name in self.__dataclass_fields__ if not name.startswith("_")]

    def __getitem__(self, name: str) -> Any:
        return getattr(self, name)


@dataclass(frozen=True)
class SamplerProblem:
    """A row of logits and parameters.

    Attributes
    ----------
    logits : tuple of float
        Exact in the row's dtype.
    params : Params
        Parameters.
    dtype : str
        Of the array that the sampler receives.
    family : str
        Where the row comes from.
    """

    logits: tuple[float, ...]
    params: Params = field(default_factory=Params)
    dtype: str = "float32"
    family: str = ""

    def row(self) -> np.ndarray:
        """Return a fresh array of the logits."""
        return np.array(self.logits, dtype=self.dtype)

    def law(self) -> dict[Any, float]:
        """Return the law that is asked for."""
        p = sampling_law(self.row(), **self.params.law())
        return {t: float(x) for t, x in enumerate(p)}

    def is_clear(self) -> bool:
        """Tell whether no token sits on a boundary, where conventions and rounding decide."""
        z, c = np.asarray(self.logits, dtype=np.float64), self.params
        if c.temperature < 1e-5:
            return True
        if 0 < c.top_k < len(z):
            top = np.sort(z)[::-1]
            last, next_ = top[c.top_k - 1], top[c.top_k]
            if np.isfinite(next_) and last - next_ < _CLEAR:
                return False
        p = sampling_law(z, temperature=c.temperature, top_k=c.top_k)
        order = np.argsort(-p, kind="stable")
        if c.top_p < 1.0:
            sums = np.cumsum(p[order])
            if np.abs(sums - c.top_p).min() < _CLEAR:
                return False
            cut = int(np.searchsorted(sums, c.top_p))
            if cut + 1 < len(p) and p[order[cut]] - p[order[cut + 1]] < _CLEAR:
                return False
        return not (c.min_p > 0.0 and np.abs(p / p.max() - c.min_p).min() < _CLEAR)

    def describe(self) -> dict[str, Any]:
        """Return the problem as plain data for a report."""
        logits = "[" + ", ".join(f"{x:.10g}" for x in self.logits) + "]"
        plain = Params()
        changed = {k: v for k, v in self.params.law().items() if v != plain[k]}
        return {"logits": logits, "dtype": self.dtype, "params": changed or "all neutral"}

    def simpler(self) -> Iterator[SamplerProblem]:
        """Yield simpler problems, boldest first."""
        plain = Params()
        for name, value in self.params.law().items():
            if value != plain[name]:
                yield replace(self, params=replace(self.params, **{name: plain[name]}))
        if len(self.logits) > 1:
            if len(self.logits) > 4:
                yield replace(self, logits=self.logits[: len(self.logits) // 2])
            for i in reversed(range(len(self.logits))):
                yield replace(self, logits=self.logits[:i] + self.logits[i + 1 :])
        if self.dtype != "float32":
            yield replace(self, dtype="float32")
        for digits in (0, 1, 2):
            rounded = tuple(round(x, digits) + 0.0 for x in self.logits)
            if rounded != self.logits:
                yield replace(self, logits=rounded)


def _rows(rng: np.random.Generator, quick: bool) -> Iterator[tuple[str, np.ndarray, str]]:
    for n in (2, 3, 5, 8):
        yield "peaked", rng.normal(0.0, 3.0, n), "float32"
        yield "flat", rng.normal(0.0, 0.3, n), "float32"
        if quick and n in (2, 8):
            continue
        holes = rng.normal(0.0, 1.0, n)
        holes[rng.permutation(n)[: (n + 1) // 2 - (n == 2)]] = -np.inf
        yield "holes", holes, "float32"
        yield "tied", np.repeat(rng.normal(0.0, 1.0), n), "float32"
    first = rng.normal(0.0, 1.0, 4)
    first[0] = first[-1] = -np.inf
    yield "holes at both ends", first, "float32"
    yield "one token", np.zeros(1), "float32"
    yield "one allowed", np.array([-np.inf, -3.0, -np.inf]), "float32"
    yield "large", np.array([1000.0, 1001.0, 998.5, 990.0]), "float32"
    yield "very negative", np.array([-5000.0, -5001.0, -5002.5]), "float32"
    yield "denormal", np.array([0.0, -95.0, -100.0, -1.0]), "float32"
    yield "greedy tie", np.array([0.5, 2.0, 2.0, 1.0]), "float32"
    yield "half", rng.normal(0.0, 2.0, 6), "float16"
    many = np.full(300, -6.0)
    many[:3] = (3.0, 2.0, 1.0)
    yield "long tail", many + rng.normal(0.0, 0.2, 300), "float32"


_PARAMS = (
    Params(),
    Params(temperature=0.0),
    Params(temperature=0.5),
    Params(temperature=1.7),
    Params(top_k=1),
    Params(top_k=2),
    Params(top_k=2, top_p=0.6),
    Params(top_p=0.5),
    Params(top_p=0.8),
    Params(top_p=0.95),
    Params(min_p=0.2),
    Params(temperature=2.0, top_p=0.8),
    Params(temperature=0.6, top_k=3, top_p=0.7),
    Params(temperature=1.5, min_p=0.3),
    Params(top_k=3, top_p=0.9, min_p=0.05),
)


def sampler_problems(*, quick: bool, seed: int) -> Iterator[SamplerProblem]:
    """Yield the problems of a sampler check; a pure function of the arguments."""
    rng = np.random.default_rng(seed)
    # Rows whose truncation is known by heart come first.
    known = tuple(float(x) for x in np.log(np.array([0.5, 0.25, 0.15, 0.07, 0.03])))
    rows: list[tuple[str, tuple[float, ...], str]] = [("known", known, "float32")]
    for family, row, dtype in _rows(rng, quick):
        exact = row.astype(dtype).astype(np.float64)
        rows.append((family, tuple(float(x) for x in exact), dtype))
    for params in _PARAMS:
        for family, logits, dtype in rows:
            problem = SamplerProblem(logits, params, dtype, family)
            if problem.is_clear():
                yield problem


def _run(fn: Callable[..., Any], problem: SamplerProblem, rng: Any) -> Any:
    """Return a token, or a string that says what went wrong."""
    row = problem.row()
    try:
        token = int(fn(row, problem.params, rng))
    except NotEnumerable:
        raise
    except Exception as error:
        return f"raised {type(error).__name__}: {error}"
    if not 0 <= token < len(row):
        return f"returned {token}, which is no token of a vocabulary of {len(row)}"
    return token


def _enumerate(
    fn: Callable[..., Any], problem: SamplerProblem, tolerance: float
) -> tuple[float, Counterexample | None]:
    rng = Enumerator()
    law: dict[Any, float] = {}
    while True:
        rng.begin()
        token = _run(fn, problem, rng)
        if rng.continuous:
            raise NotEnumerable("continuous")
        law[token] = law.get(token, 0.0) + rng.probability
        if not rng.advance():
            break
    return _compare(problem, law, tolerance, exact=True)


def _compare(
    problem: SamplerProblem, law: dict[Any, float], tolerance: float, *, exact: bool
) -> tuple[float, Counterexample | None]:
    want = problem.law()
    tv = total_variation(want, law)
    wrong = next((k for k in law if isinstance(k, str)), None)
    if wrong is None and tv <= tolerance:
        return tv, None
    why = wrong or "the law of the token is not the one asked for"
    return tv, Counterexample(problem.describe(), why, want, law, tv, exact)


def _edges(fn: Callable[..., Any], problem: SamplerProblem, seed: int) -> Counterexample | None:
    want = problem.law()
    for edge in EDGES:
        for at in (None, 0):
            token = _run(fn, problem, EdgeRng(seed, len(problem.logits), edge, at))
            if isinstance(token, str) or want[token] <= 0.0:
                said = token if isinstance(token, str) else f"drew {token}, of probability 0"
                return Counterexample(
                    problem.describe(), f"{said}; a uniform was {edge!r}", want, exact=False
                )
    return None


def _sample(
    fn: Callable[..., Any],
    problem: SamplerProblem,
    seed: int,
    stages: tuple[int, ...],
    error: float,
) -> tuple[float, Counterexample | None]:
    rng = SampledRng(seed, len(problem.logits))
    want = problem.law()
    counts: Counter[Any] = Counter()
    tv, done = 0.0, 0
    for stage in stages:
        while done < stage:
            done += 1
            rng.begin()
            token = _run(fn, problem, rng)
            counts[token] += 1
            if isinstance(token, str):
                return 1.0, Counterexample(problem.describe(), token, want, exact=False)
        found = law_evidence(counts, want)
        tv = found.tv
        if found.p_value < error / len(stages):
            got = {k: c / done for k, c in counts.items()}
            why = (
                f"the law of the token is not the one asked for: {found.why} in {done} draws, "
                f"p <= {found.p_value:.1g}"
            )
            return tv, Counterexample(problem.describe(), why, want, got, tv, exact=False)
        if max(want.values()) >= 1.0 - 1e-12:
            break
    return tv, None


def check_sampler(
    fn: Callable[..., Any],
    *,
    tolerance: float = 1e-6,
    quick: bool = False,
    seed: int = 0,
    name: str | None = None,
    error: float = ERROR_PROBABILITY,
    shrink_seconds: float = 3.0,
) -> CheckResult:
    """Check that a sampler draws from the law that its parameters ask for.

    Parameters
    ----------
    fn : callable
        ``fn(logits, params, rng) -> token``. `logits` is a float32 or float16 array of shape
        ``(vocab,)``, ``-inf`` forbids; `params` a `Params`. The law is the softmax at the
        temperature, cut by top-k, then top-p, then min-p. Draws from ``rng.bernoulli`` and
        ``rng.categorical`` are enumerated, ``rng.random`` and ``rng.row`` are tested by draws and
        at the edges of the unit interval.
    tolerance : float, optional
        Largest total variation that counts as rounding, where the law is enumerated; the default
        admits a softmax in float32.
    quick : bool, optional
        Fewer rows and draws.
    seed : int, optional
        Seed of rows and draws.
    name : str, optional
        Name in the report.
    error : float, optional
        Bound on the probability of a wrong alarm, where draws are used.
    shrink_seconds : float, optional
        Time for making a counterexample smaller.

    Returns
    -------
    CheckResult

    Examples
    --------
    >>> from trivium.testing import check_sampler
    >>> from trivium.testing.reference import categorical_sampler
    >>> check_sampler(categorical_sampler).ok
    True
    """
    began = time.perf_counter()
    todo = list(sampler_problems(quick=quick, seed=seed))
    method, worst, cases = "enumerated", 0.0, 0
    found: Counterexample | None = None
    share = error / len(todo)
    problem = todo[0]
    with np.errstate(all="ignore"):  # rows under test overflow on purpose
        try:
            for number, problem in enumerate(todo):
                cases = number + 1
                tv, found = _enumerate(fn, problem, tolerance)
                worst = max(worst, tv)
                if found is not None:
                    if _hidden_randomness(fn, problem):
                        raise NotEnumerable("randomness of its own")  # noqa: TRY301
                    break
        except NotEnumerable:
            method = "sampled"
            problem, worst, found = _search(fn, todo, quick, seed, share)
            cases = len(todo) if found is None else todo.index(problem) + 1
        if found is not None:
            found = _shrunk(fn, problem, found, method, tolerance, seed, share, shrink_seconds)
    return CheckResult(
        "sampler",
        name or str(getattr(fn, "__name__", type(fn).__name__)),
        cases,
        worst,
        method,
        error if method == "sampled" else 0.0,
        found,
        time.perf_counter() - began,
    )


def _search(
    fn: Callable[..., Any], todo: list[SamplerProblem], quick: bool, seed: int, error: float
) -> tuple[SamplerProblem, float, Counterexample | None]:
    """Try the edges on all problems, then many draws on the known row and few on others."""
    for problem in todo:
        found = _edges(fn, problem, seed)
        if found is not None:
            return problem, 0.0, found
    worst = 0.0
    for number, problem in enumerate(todo):
        if problem.family == "known":
            stages = _STAGES[: 2 if quick else 3]
        elif number % (8 if quick else 4) == 0:
            stages = _STAGES[:1]
        else:
            continue
        tv, found = _sample(fn, problem, seed + number, stages, error)
        worst = max(worst, tv)
        if found is not None:
            return problem, worst, found
    return todo[-1], worst, None


def _hidden_randomness(fn: Callable[..., Any], problem: SamplerProblem) -> bool:
    seen = set()
    for _ in range(64):
        rng = Enumerator()
        rng.begin()
        seen.add(_run(fn, problem, rng))
        if len(seen) > 1:
            return True
    return False


def _shrunk(
    fn: Callable[..., Any],
    problem: SamplerProblem,
    found: Counterexample,
    method: str,
    tolerance: float,
    seed: int,
    error: float,
    seconds: float,
) -> Counterexample:
    least = min(found.tv, 1e-3) * 0.1

    def retry(candidate: SamplerProblem) -> Counterexample | None:
        if not candidate.is_clear() or not np.isfinite(candidate.row()).any():
            return None
        try:
            if method == "enumerated":
                again = _enumerate(fn, candidate, tolerance)[1]
            else:
                again = (
                    _edges(fn, candidate, seed) or (_sample(fn, candidate, seed, _STAGES, error)[1])
                )
        except NotEnumerable:
            return None
        return again if again is not None and again.tv >= least else None

    _, found, steps = shrink(problem, found, SamplerProblem.simpler, retry, seconds=seconds)
    return replace(found, shrunk=steps)
