"""What a check found."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["CheckResult", "Counterexample"]


def _law_table(expected: Mapping[Any, float], got: Mapping[Any, float], most: int = 24) -> str:
    keys = sorted({**expected, **got}, key=lambda k: -abs(expected.get(k, 0.0) - got.get(k, 0.0)))
    shown = keys[:most]
    try:
        shown = sorted(shown)
    except TypeError:
        shown = sorted(shown, key=repr)
    width = max([len("outcome"), *(len(_outcome(k)) for k in shown)])
    lines = [f"  {'outcome':{width}}  {'expected':>12}  {'came out':>12}  {'difference':>12}"]
    for key in shown:
        want, have = expected.get(key, 0.0), got.get(key, 0.0)
        lines.append(f"  {_outcome(key):{width}}  {want:12.9f}  {have:12.9f}  {have - want:+12.3e}")
    if len(keys) > most:
        lines.append(f"  ... and {len(keys) - most} outcomes that differ less")
    return "\n".join(lines)


def _outcome(key: Any) -> str:
    return " ".join(map(str, key)) or "(nothing)" if isinstance(key, tuple) else str(key)


@dataclass(frozen=True)
class Counterexample:
    """The smallest failing problem that the shrinker reached.

    Attributes
    ----------
    problem : dict
        The problem as plain data.
    why : str
        What is wrong, in a sentence.
    expected, got : dict
        Outcome to probability: the law asked for, and the one that came out (frequencies, when it
        was sampled).
    tv : float
        Total variation between them.
    exact : bool
        Whether `got` was enumerated.
    shrunk : int
        Simplifications that were made.
    """

    problem: dict[str, Any]
    why: str
    expected: dict[Any, float] = field(default_factory=dict)
    got: dict[Any, float] = field(default_factory=dict)
    tv: float = 0.0
    exact: bool = True
    shrunk: int = 0

    def report(self) -> str:
        """Return the problem, the law that was expected and the one that came out."""
        lines = [self.why, f"minimal problem, after {self.shrunk} simplifications:"]
        width = max((len(k) for k in self.problem), default=0)
        lines += [f"  {key:{width}}  {value}" for key, value in self.problem.items()]
        if self.got:
            how = "enumerated" if self.exact else "sampled"
            lines.append(f"laws ({how}; total variation {self.tv:.3g}):")
            lines.append(_law_table(self.expected, self.got))
        return "\n".join(lines)


@dataclass(frozen=True)
class CheckResult:
    """Outcome of a check; true when it passed.

    Attributes
    ----------
    kind : str
        ``"verifier"``, ``"sampler"``, ``"engine"`` or ``"mask"``.
    name : str
        Name of the callable.
    cases : int
        Problems that were put to it.
    worst_tv : float
        Largest total variation to the law asked for; of frequencies when `method` is sampled.
    method : str
        ``"enumerated"``, ``"sampled"`` or ``"compared"``.
    error_probability : float
        Bound on the probability that a correct callable fails; 0 for exact methods.
    counterexample : Counterexample or None
        None when the check passed.
    seconds : float
        Wall-clock time.
    """

    kind: str
    name: str
    cases: int
    worst_tv: float
    method: str
    error_probability: float
    counterexample: Counterexample | None
    seconds: float

    @property
    def ok(self) -> bool:
        """Whether nothing wrong was found."""
        return self.counterexample is None

    def __bool__(self) -> bool:
        return self.ok

    def report(self) -> str:
        """Return the finding as text for people."""
        head = (
            f"{self.kind} {self.name}: {'ok' if self.ok else 'FAILED'} "
            f"({self.cases} cases, {self.method}, worst total variation {self.worst_tv:.3g}, "
            f"{self.seconds:.1f} s"
        )
        if self.error_probability:
            head += f", wrong alarm with probability below {self.error_probability:.0e}"
        head += ")"
        return head if self.counterexample is None else f"{head}\n{self.counterexample.report()}"

    def raise_if_failed(self) -> None:
        """Raise `AssertionError` with the report if the check failed."""
        if not self.ok:
            raise AssertionError(self.report())

    def as_dict(self) -> dict[str, Any]:
        """Return the finding as JSON values."""
        found = self.counterexample
        return {
            "kind": self.kind,
            "name": self.name,
            "ok": self.ok,
            "cases": self.cases,
            "worst_tv": self.worst_tv,
            "method": self.method,
            "error_probability": self.error_probability,
            "seconds": round(self.seconds, 3),
            "counterexample": found
            and {
                "why": found.why,
                "problem": {k: _plain(v) for k, v in found.problem.items()},
                "expected": {_outcome(k): p for k, p in found.expected.items()},
                "got": {_outcome(k): p for k, p in found.got.items()},
                "tv": found.tv,
                "exact": found.exact,
            },
        }


def _plain(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return value if isinstance(value, str | bool | int | float) or value is None else str(value)
