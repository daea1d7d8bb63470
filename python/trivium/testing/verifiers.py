"""`check_verifier`: whether a verifier leaves the law of the text as it was."""

from __future__ import annotations

import time
from collections import Counter
from typing import TYPE_CHECKING, Any

import numpy as np

from trivium.errors import InputError
from trivium.testing.chance import EDGES, EdgeRng, Enumerator, NotEnumerable, SampledRng
from trivium.testing.results import CheckResult, Counterexample
from trivium.testing.shrink import shrink
from trivium.testing.statistics import ERROR_PROBABILITY, law_evidence, project, total_variation
from trivium.testing.trees import DRAFTS, Draft, VerifierProblem, problems

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

__all__ = ["check_verifier"]

Path = tuple[int, ...]
_STAGES = (1_000, 5_000, 25_000)


class _Wrong(Exception):  # noqa: N818 - internal signal
    """A run that no verifier may produce."""


class _Runner:
    """One verifier with its draft protocol."""

    def __init__(self, fn: Callable[..., Any], draft: Callable[..., Draft], tol: float) -> None:
        self.fn = fn
        self.draft = draft
        self.tolerance = tol

    def run(self, problem: VerifierProblem, rng: Any) -> Path:
        """Draft, verify, and return what was emitted."""
        tree, p, q = self.draft(problem, rng).build()
        rows = p.copy()
        try:
            out = self.fn(tree, p, q, rng)
            logprobs = None
            if isinstance(out, tuple) and len(out) == 2 and np.ndim(out[0]) == 1:
                out, logprobs = out
            tokens = tuple(int(t) for t in out)
        except NotEnumerable:
            raise
        except Exception as error:
            raise _Wrong(f"raised {type(error).__name__}: {error}") from error
        if not tokens:
            raise _Wrong("emitted nothing; the accepted drafts and one more token are due")
        if len(tokens) > problem.depth + 1:
            raise _Wrong(f"emitted {len(tokens)} tokens from a tree of depth {problem.depth}")
        if not all(0 <= t < problem.vocab for t in tokens):
            raise _Wrong(f"emitted {list(tokens)}: a token outside the vocabulary")
        if not np.array_equal(rows, p):
            raise _Wrong("changed the target rows it was given")
        if logprobs is not None:
            self._check_logprobs(problem, tokens, list(logprobs))
        return tokens

    def _check_logprobs(self, problem: VerifierProblem, tokens: Path, got: list[Any]) -> None:
        if len(got) != len(tokens):
            raise _Wrong(f"returned {len(got)} log-probabilities for {len(tokens)} tokens")
        for i, token in enumerate(tokens):
            p = problem.p(tokens[:i])[token]
            if p > 0.0 and abs(float(got[i]) - np.log(p)) > 1e-5 * max(1.0, abs(np.log(p))):
                raise _Wrong(
                    f"log-probability of token {i} of {list(tokens)} is {float(got[i]):.6g}; "
                    f"under the target it is {np.log(p):.6g}"
                )

    def enumerate(self, problem: VerifierProblem) -> tuple[float, Counterexample | None]:
        """Compare laws exactly."""
        rng = Enumerator()
        law: dict[Path, float] = {}
        wrong: str | None = None
        while True:
            rng.begin()
            try:
                tokens = self.run(problem, rng)
            except _Wrong as signal:
                if rng.continuous:
                    raise NotEnumerable("continuous") from signal
                wrong, tokens = wrong or str(signal), (-1,) * (problem.depth + 1)
            if rng.continuous:
                raise NotEnumerable("continuous")
            law[tokens] = law.get(tokens, 0.0) + rng.probability
            if not rng.advance():
                break
        bad = law.pop((-1,) * (problem.depth + 1), 0.0)
        want, got = problem.law(), problem.extend(law)
        tv = total_variation(want, got)
        if wrong is None and tv <= self.tolerance:
            return tv, None
        if bad:
            got[(wrong or "").split(":")[0].split(";")[0]] = bad  # type: ignore[index]
        why = wrong or "the law of the emitted text is not that of ancestral sampling"
        return tv, Counterexample(problem.describe(), why, dict(want), dict(got), tv, exact=True)

    def sample(
        self, problem: VerifierProblem, seed: int, stages: Iterable[int], error: float
    ) -> tuple[float, Counterexample | None]:
        """Compare laws by draws; `error` bounds the wrong alarms of all stages together."""
        stages = tuple(stages)
        want = problem.law()
        marginals = [(i,) for i in range(problem.depth + 1)] if problem.depth else []
        tests = len(stages) * (1 + len(marginals))
        rng = SampledRng(seed, problem.vocab)
        counts: Counter[Any] = Counter()
        tv, done = 0.0, 0
        for stage in stages:
            while done < stage:
                done += 1
                rng.begin()
                try:
                    tokens = self.run(problem, rng)
                except _Wrong as signal:
                    return 1.0, Counterexample(problem.describe(), str(signal), exact=False)
                while len(tokens) <= problem.depth:
                    tokens = (*tokens, rng.categorical(problem.p(tokens)))
                counts[tokens] += 1
            for keep in [None, *marginals]:
                seen = counts if keep is None else project(counts, keep)
                law = want if keep is None else project(want, keep)
                found = law_evidence(seen, law)
                if keep is None:
                    tv = found.tv
                if found.p_value < error / tests:
                    why = (
                        "the law of the emitted text is not that of ancestral sampling: "
                        f"{found.why} in {done} draws, p <= {found.p_value:.1g}"
                    )
                    got = {k: c / done for k, c in seen.items()}
                    return found.tv, Counterexample(
                        problem.describe(), why, dict(law), got, found.tv, exact=False
                    )
        return tv, None

    def edges(self, problem: VerifierProblem, seed: int) -> Counterexample | None:
        """Look for impossible outcomes at the uniforms where released code broke."""
        for edge in EDGES:
            for at in (None, 0, 1, 2):
                for k in range(4):
                    rng = EdgeRng(seed + k, problem.vocab, edge, at)
                    try:
                        tokens = self.run(problem, rng)
                    except _Wrong as signal:
                        why = f"{signal}; a uniform was {edge!r}"
                        return Counterexample(problem.describe(), why, exact=False)
                    for i, token in enumerate(tokens):
                        if problem.p(tokens[:i])[token] <= 0.0:
                            why = (
                                f"emitted {list(tokens)}, where token {i} has probability 0; "
                                f"a uniform was {edge!r}"
                            )
                            return Counterexample(problem.describe(), why, exact=False)
        return None


def check_verifier(
    fn: Callable[..., Any],
    *,
    draft: str | Callable[..., Draft] | None = None,
    tolerance: float = 1e-12,
    smallest: float = 0.0,
    quick: bool = False,
    seed: int = 0,
    name: str | None = None,
    error: float = ERROR_PROBABILITY,
    shrink_seconds: float = 3.0,
) -> CheckResult:
    """Check that a verifier leaves the law of the text as it was.

    Parameters
    ----------
    fn : callable
        ``fn(tree, p, q, rng) -> tokens``: the accepted drafts and one more token, or a pair
        ``(tokens, logprobs)``. `tree` is a `Tree`; ``p`` and ``q`` are float64 arrays of shape
        ``(N, vocab)``: row `i` is the target's (the drafter's) law of the children of node `i`.
        When it draws from ``rng.bernoulli`` and ``rng.categorical`` only, the law is enumerated;
        with ``rng.random`` or ``rng.row`` it is tested by draws.
    draft : str or callable, optional
        How trees are drafted: ``"chain"`` (drawn from `q`), ``"with_replacement"`` and
        ``"without_replacement"`` (trees drawn from `q`), ``"deterministic"`` (the likeliest
        children), ``"race"`` (first arrivals of ``rng.row(depth)``), or a protocol
        ``draft(problem, rng) -> Draft`` of the engine's own, which is the better test. Default:
        the attribute ``draft`` of `fn`, else ``"chain"``.
    tolerance : float, optional
        Largest total variation that counts as rounding, where the law is enumerated. A verifier
        that computes in float32 needs about 1e-6.
    smallest : float, optional
        Leave out problems with a positive probability below it; float32 ends near 1e-38.
    quick : bool, optional
        About a third of the problems.
    seed : int, optional
        Seed of problems and draws; the verdict is a function of it.
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
    >>> from trivium.testing import check_verifier
    >>> def naive(tree, p, q, rng):  # keeps what the target would draw, forgets the residual
    ...     out = []
    ...     for parent, node in zip([0, *tree.chain()], tree.chain()):
    ...         token = tree.tokens[node]
    ...         if not rng.bernoulli(p[parent, token], q[parent, token]):
    ...             return [*out, rng.categorical(p[parent])]
    ...         out.append(token)
    ...     return [*out, rng.categorical(p[tree.chain()[-1]])]
    >>> result = check_verifier(naive)
    >>> result.ok, result.counterexample.problem["widths"]
    (False, (1,))
    """
    began = time.perf_counter()
    draft = draft if draft is not None else getattr(fn, "draft", "chain")
    if isinstance(draft, str):
        if draft not in DRAFTS:
            raise InputError(f"draft: {draft!r} is none of {', '.join(DRAFTS)}")
        chain, protocol = draft == "chain", DRAFTS[draft]
    else:
        chain, protocol = bool(getattr(draft, "chain", False)), draft
    runner = _Runner(fn, protocol, tolerance)
    todo = [
        problem
        for problem in problems(chain=chain, quick=quick, seed=seed)
        if not any(0.0 < x < smallest for pair in problem.rows.values() for x in sum(pair, ()))
    ]
    method, worst, cases = "enumerated", 0.0, 0
    found: Counterexample | None = None
    share = error / len(todo)
    problem = todo[0]
    with np.errstate(all="ignore"):
        try:
            for number, problem in enumerate(todo):
                cases = number + 1
                tv, found = runner.enumerate(problem)
                worst = max(worst, tv)
                if found is not None:
                    if _hidden_randomness(runner, problem):
                        raise NotEnumerable("randomness of its own")  # noqa: TRY301
                    if 0.0 < found.tv < 1e-4:
                        problem, found = _clearer(runner, problem, found, todo[number + 1 :])
                    break
        except NotEnumerable:
            method, worst = "sampled", 0.0
            problem, tv, found = _search(runner, todo, quick, seed, share)
            worst = max(worst, tv)
            cases = len(todo) if found is None else todo.index(problem) + 1
        if found is not None:
            worst = max(worst, found.tv)
            found = _shrunk(runner, problem, found, method, seed, share, shrink_seconds)
    return CheckResult(
        "verifier",
        name or str(getattr(fn, "__name__", type(fn).__name__)),
        cases,
        worst,
        method,
        error if method == "sampled" else 0.0,
        found,
        time.perf_counter() - began,
    )


def _search(
    runner: _Runner, todo: list[VerifierProblem], quick: bool, seed: int, error: float
) -> tuple[VerifierProblem, float, Counterexample | None]:
    """Try the edges on all problems, then draws on some of them."""
    for problem in todo:
        found = runner.edges(problem, seed)
        if found is not None:
            return problem, found.tv, found
    worst = 0.0
    for number, problem in enumerate(todo):
        stages = _stages(number, quick)
        if stages:
            tv, found = runner.sample(problem, seed + number, stages, error)
            worst = max(worst, tv)
            if found is not None:
                return problem, worst, found
    return todo[-1], worst, None


def _clearer(
    runner: _Runner, problem: VerifierProblem, found: Counterexample, others: list[VerifierProblem]
) -> tuple[VerifierProblem, Counterexample]:
    """Look for a problem that shows the failure better than by a hair."""
    end = time.monotonic() + 1.0
    for other in others:
        try:
            again = runner.enumerate(other)[1]
        except NotEnumerable:
            break
        if again is not None and again.tv > found.tv:
            problem, found = other, again
        if found.tv > 1e-3 or time.monotonic() > end:
            break
    return problem, found


def _stages(number: int, quick: bool) -> tuple[int, ...]:
    """Draws for a problem: many for some, few for others; the edges are tried on all."""
    if number < 3 or (not quick and number % 60 == 3):
        return _STAGES
    return _STAGES[:1] if number % (9 if quick else 5) == 0 else ()


def _hidden_randomness(runner: _Runner, problem: VerifierProblem) -> bool:
    """Whether equal draws give unequal outcomes: the callable has randomness of its own."""
    seen = set()
    for _ in range(64):
        rng = Enumerator()
        rng.begin()
        try:
            seen.add(runner.run(problem, rng))
        except _Wrong as signal:
            seen.add((str(signal),))  # type: ignore[arg-type]
        if len(seen) > 1:
            return True
    return False


def _shrunk(
    runner: _Runner,
    problem: VerifierProblem,
    found: Counterexample,
    method: str,
    seed: int,
    error: float,
    seconds: float,
) -> Counterexample:
    least = min(found.tv, 1e-3) * 0.1

    def retry(candidate: VerifierProblem) -> Counterexample | None:
        try:
            if method == "enumerated":
                again = runner.enumerate(candidate)[1]
            else:
                again = (
                    runner.edges(candidate, seed)
                    or (runner.sample(candidate, seed, _STAGES, error)[1])
                )
        except NotEnumerable:
            return None
        return again if again is not None and again.tv >= least else None

    _, found, steps = shrink(problem, found, VerifierProblem.simpler, retry, seconds=seconds)
    return Counterexample(
        found.problem, found.why, found.expected, found.got, found.tv, found.exact, steps
    )
