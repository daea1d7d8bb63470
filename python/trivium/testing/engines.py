"""`check_engine`: whether a whole engine draws texts from the law of ancestral sampling."""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from trivium.errors import InputError
from trivium.testing import models
from trivium.testing.results import CheckResult, Counterexample
from trivium.testing.samplers import Params
from trivium.testing.shrink import shrink
from trivium.testing.statistics import ERROR_PROBABILITY, law_evidence, project

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

__all__ = ["FEATURES", "EngineParams", "EngineProblem", "check_engine", "engine_law"]

Path = tuple[int, ...]

FEATURES = ("temperature", "top_k", "top_p", "eos")
"""Features of an engine that `check_engine` exercises unless told otherwise."""


@dataclass(frozen=True)
class EngineParams(Params):
    """Parameters of a generation; also a mapping.

    Attributes
    ----------
    max_new_tokens : int
        Tokens to generate.
    eos_token_id : int or None
        The text ends with this token, where it occurs.
    """

    max_new_tokens: int = 3
    eos_token_id: int | None = None


@dataclass(frozen=True)
class EngineProblem:
    """A prompt and parameters."""

    prompt: tuple[int, ...]
    params: EngineParams = field(default_factory=EngineParams)

    def describe(self) -> dict[str, Any]:
        """Return the problem as plain data for a report."""
        plain = EngineParams()
        changed = {k: self.params[k] for k in plain.keys() if self.params[k] != plain[k]}  # noqa: SIM118
        changed["max_new_tokens"] = self.params.max_new_tokens
        return {"prompt": list(self.prompt), "params": changed}

    def simpler(self) -> Iterator[EngineProblem]:
        """Yield simpler problems, boldest first."""
        plain, params = EngineParams(), self.params
        if params.max_new_tokens > 1:
            yield replace(self, params=replace(params, max_new_tokens=1))
            if params.max_new_tokens > 2:
                fewer = replace(params, max_new_tokens=params.max_new_tokens - 1)
                yield replace(self, params=fewer)
        for name in ("temperature", "top_k", "top_p", "min_p", "eos_token_id"):
            if params[name] != plain[name]:
                yield replace(self, params=replace(params, **{name: plain[name]}))
        if len(self.prompt) > 1:
            yield replace(self, prompt=self.prompt[:1])
            yield replace(self, prompt=self.prompt[:-1])
        if any(self.prompt):
            yield replace(self, prompt=(0,) * len(self.prompt))


def engine_law(model: Any, problem: EngineProblem) -> dict[Path, float]:
    """Return the law of the texts of ancestral sampling.

    Parameters
    ----------
    model : object
        Has ``law(prefix, params)``.
    problem : EngineProblem
        Prompt and parameters.
    """
    params = problem.params
    done: dict[Path, float] = {}
    live: dict[Path, float] = {(): 1.0}
    for _ in range(params.max_new_tokens):
        longer: dict[Path, float] = {}
        for text, mass in live.items():
            for token, p in enumerate(model.law((*problem.prompt, *text), params)):
                if p > 0.0:
                    into = done if token == params.eos_token_id else longer
                    into[(*text, token)] = mass * float(p)
        live = longer
    return {**done, **live}


def engine_problems(
    model: Any, *, features: Sequence[str], quick: bool, seed: int
) -> list[EngineProblem]:
    """Return the problems of an engine check; a pure function of the arguments."""
    unknown = set(features) - {*FEATURES, "min_p", "greedy"}
    if unknown:
        raise InputError(f"features: {', '.join(sorted(unknown))} is none of {', '.join(FEATURES)}")
    rng = np.random.default_rng(seed)

    def prompt(n: int) -> tuple[int, ...]:
        return tuple(int(t) for t in rng.integers(0, model.vocab, n))

    out = [EngineProblem(prompt(4), EngineParams(max_new_tokens=3))]
    if "temperature" in features:
        out.append(EngineProblem(prompt(3), EngineParams(temperature=0.6, max_new_tokens=3)))
        out.append(EngineProblem(prompt(2), EngineParams(temperature=0.0, max_new_tokens=5)))
    if "eos" in features:
        # A likely end token, so that texts of all lengths are frequent.
        start = prompt(3)
        eos = int(np.argmax(model.law(start, EngineParams())))
        out.append(EngineProblem(start, EngineParams(max_new_tokens=4, eos_token_id=eos)))
    if "top_k" in features:
        out.append(EngineProblem(prompt(5), EngineParams(top_k=3, max_new_tokens=3)))
    if "top_p" in features:
        out.append(EngineProblem(prompt(3), EngineParams(top_p=0.7, max_new_tokens=4)))
    if "min_p" in features:
        out.append(EngineProblem(prompt(3), EngineParams(min_p=0.2, max_new_tokens=4)))
    if {"temperature", "top_p"} <= set(features):
        mixed = EngineParams(temperature=1.6, top_p=0.6, max_new_tokens=3)
        out.append(EngineProblem(prompt(6), mixed))
    if not quick:
        out.append(EngineProblem(prompt(1), EngineParams(max_new_tokens=2)))
        out.append(EngineProblem(prompt(7), EngineParams(max_new_tokens=1)))
    return out


class _Runner:
    def __init__(
        self, fn: Callable[..., Any], model: Any, plain: Callable[..., Any] | None, error: float
    ) -> None:
        self.fn = fn
        self.model = model
        self.plain = plain
        self.error = error

    def run(self, problem: EngineProblem, seed: int) -> Path | str:
        """Return a text, or what went wrong."""
        params, vocab = problem.params, self.model.vocab
        try:
            text = tuple(int(t) for t in self.fn(list(problem.prompt), seed, params))
        except Exception as error:
            return f"raised {type(error).__name__}: {error}"
        if not all(0 <= t < vocab for t in text):
            return f"returned {list(text)}: a token outside the vocabulary"
        eos = params.eos_token_id
        if eos in text[:-1]:
            return f"returned {list(text)}, which goes on after the end token {eos}"
        if len(text) > params.max_new_tokens:
            return f"returned {len(text)} tokens; {params.max_new_tokens} were asked for"
        if len(text) < params.max_new_tokens and (not text or text[-1] != eos):
            return f"returned {list(text)}, which ends early and not with an end token"
        return text

    def find(
        self, problem: EngineProblem, seed: int, texts: int
    ) -> tuple[float, Counterexample | None]:
        """Draw texts and compare their law."""
        want = engine_law(self.model, problem)
        length = problem.params.max_new_tokens
        views: list[tuple[int, ...] | None] = [None, *((i,) for i in range(length))]
        views += [(i, i + 1) for i in range(length - 1)]
        counts: Counter[Any] = Counter()
        tv, done = 0.0, 0
        # Seeds of problems are apart; within one they are consecutive, as careless hosts have them.
        while done < texts:
            number = seed * 1_000_003 + done
            text = self.run(problem, number)
            if isinstance(text, str):
                return 1.0, self._wrong(problem, text, number)
            if done < 8 and self.run(problem, number) != text:
                return 1.0, self._wrong(problem, "one seed gave two texts", number)
            if self.plain is not None:
                other = self.plain(list(problem.prompt), number, problem.params)
                if tuple(int(t) for t in other) != text:
                    why = f"one seed gave {list(text)} here and {list(other)} in the plain loop"
                    return 1.0, self._wrong(problem, why, number)
            counts[text] += 1
            done += 1
            if done == 50 and max(want.values()) >= 1.0 - 1e-12:
                break
        for view in views:
            seen = counts if view is None else project(counts, view)
            law = want if view is None else project(want, view)
            found = law_evidence(seen, law)
            tv = found.tv if view is None else tv
            if found.p_value < self.error / len(views):
                got = {k: c / done for k, c in seen.items()}
                place = "" if view is None else f" at positions {list(view)}"
                why = (
                    f"the law of the text{place} is not that of ancestral sampling: "
                    f"{found.why} in {done} texts, p <= {found.p_value:.1g}"
                )
                return found.tv, Counterexample(
                    problem.describe(), why, dict(law), got, found.tv, exact=False
                )
        return tv, None

    def _wrong(self, problem: EngineProblem, why: str, seed: int) -> Counterexample:
        return Counterexample({**problem.describe(), "seed": seed}, why, exact=False)


def check_engine(
    fn: Callable[..., Any],
    *,
    model: Any = None,
    plain: Callable[..., Any] | None = None,
    features: Sequence[str] = FEATURES,
    problems: Sequence[EngineProblem] | None = None,
    texts: int = 6_000,
    quick: bool = False,
    seed: int = 0,
    name: str | None = None,
    error: float = ERROR_PROBABILITY,
    shrink_seconds: float = 3.0,
) -> CheckResult:
    """Check that an engine draws texts from the law of ancestral sampling.

    The engine runs `trivium.testing.models.target`, a network over eight tokens, so that the law of
    whole texts is known and a few thousand of them tell.

    Parameters
    ----------
    fn : callable
        ``fn(prompt, seed, params) -> tokens``: generated tokens only. `prompt` is a list of int,
        `params` an `EngineParams`.
    model : object, optional
        What the engine runs: has ``vocab`` and ``law(prefix, params)``. Default ``target()``.
    plain : callable, optional
        The engine's plain loop, called alike. Texts of equal seeds must then be identical.
    features : sequence of str, optional
        Which parameters the engine knows: ``"temperature"``, ``"top_k"``, ``"top_p"``,
        ``"min_p"``, ``"eos"``.
    problems : sequence of EngineProblem, optional
        Problems to run instead of the kit's own.
    texts : int, optional
        Texts a problem.
    quick : bool, optional
        Half of the texts.
    seed : int, optional
        Seed of prompts and first seed of texts.
    name : str, optional
        Name in the report.
    error : float, optional
        Bound on the probability of a wrong alarm.
    shrink_seconds : float, optional
        Time for making a counterexample smaller.

    Returns
    -------
    CheckResult

    Examples
    --------
    >>> from functools import partial
    >>> from trivium.testing import check_engine, models
    >>> from trivium.testing.reference import plain_engine
    >>> check_engine(partial(plain_engine, models.target()), texts=500, name="plain loop").ok
    True
    """
    began = time.perf_counter()
    model = model if model is not None else models.target()
    todo = list(
        problems
        if problems is not None
        else engine_problems(model, features=features, quick=quick, seed=seed)
    )
    if not todo or texts < 1:
        raise InputError("problems, texts: nothing to do")
    texts = max(1, texts // 2) if quick else texts
    sizes = sorted({max(1, texts // 10), texts})
    runner = _Runner(fn, model, plain, error / len(todo) / len(sizes))
    worst, cases = 0.0, 0
    found: Counterexample | None = None
    # Few texts of every problem first: most mistakes show in them.
    for number, problem, size in ((i, x, n) for n in sizes for i, x in enumerate(todo)):
        cases = max(cases, number + 1)
        tv, found = runner.find(problem, seed + number, size)
        worst = tv if size < sizes[-1] else max(worst, tv)
        if found is not None:
            least = min(found.tv, 0.01) * 0.1

            def retry(
                candidate: EngineProblem,
                number: int = number,
                size: int = size,
                least: float = least,
            ) -> Counterexample | None:
                again = runner.find(candidate, seed + number, size)[1]
                return again if again is not None and again.tv >= least else None

            _, smaller, steps = shrink(
                problem, found, EngineProblem.simpler, retry, seconds=shrink_seconds
            )
            found = replace(smaller, shrunk=steps)
            worst = max(worst, found.tv)
            break
    return CheckResult(
        "engine",
        name or str(getattr(fn, "__name__", type(fn).__name__)),
        cases,
        worst,
        "sampled",
        error,
        found,
        time.perf_counter() - began,
    )
