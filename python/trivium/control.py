"""How long to draft: policies for ``Speculator(policy=...)``, controllers for hosts with a drafter.

A policy is a name, ``"svip:0.3"``, or one of these objects, ``Svip(h=0.3)``; its text form is what
configurations and files hold. Within `Speculator` a policy bounds the nodes of each request's next
tree and may end it earlier; ``"auto"`` (trees cut where the host's timings pay best) stays the
default. None can change the text under the default verifier.

====================  ===========================================================================
`Fixed`               always the same length
`Heuristic`           two more after success, one fewer after failure (assisted generation)
`Confidence`          stop behind a token whose law was unsure; `Kangaroo` and `Swift` are its
                      published settings
`DraftVerify`         the same with a threshold that follows the matches (Draft & Verify)
`Svip`                stop where the draft law is too flat (SVIP)
`SpecDecPP`           stop once some pending token is probably wrong (SpecDec++)
`Disco`               a classifier that learns online says whether the next one will do (DISCO)
`Ucb`, `Exp3`         bandits over lengths (BanditSpec); `UcbRate` counts tokens over time
`Thompson`            go on with a probability drawn from a posterior (EESD)
`Pearl`               chunks, one more after every round that was accepted whole (PEARL)
`Adaptive`            the length that pays best by measured acceptance and times
====================  ===========================================================================

`Hedge` weighs experts whose losses are all known after a step, as those of sources in one tree are;
`pearl_gamma`, `spec_branch_gamma` and `best_length` choose lengths from measured times.

A host that runs its own drafter asks a `Controller` token by token. Both hooks are legal by
construction: `before_sample` never sees the token, and what `after_include` sees is in the draft.

>>> c = Controller(Svip(h=0.3))
>>> c.after_include(1, 0.9, [0.9, 0.05, 0.05])
True
>>> c.after_include(2, 0.4, [0.4, 0.3, 0.3])
False
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, ClassVar

from trivium import _core
from trivium._core import (
    Hedge,
    best_length,
    control_names,
    pearl_gamma,
    spec_branch_gamma,
    ucb_radius,
)
from trivium.errors import UnsupportedError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

__all__ = [
    "Adaptive",
    "Confidence",
    "Controller",
    "Disco",
    "DraftVerify",
    "Exp3",
    "Fixed",
    "Hedge",
    "Heuristic",
    "Kangaroo",
    "Pearl",
    "Policy",
    "SpecDecPP",
    "Svip",
    "Swift",
    "Thompson",
    "Ucb",
    "UcbRate",
    "best_length",
    "names",
    "pearl_gamma",
    "spec_branch_gamma",
    "ucb_radius",
]


def names() -> list[str]:
    """Every name that ``policy=`` takes."""
    return ["auto", "full", *control_names()]


@dataclass(frozen=True)
class Policy:
    """A controller and its settings."""

    name: ClassVar[str] = ""

    def __str__(self) -> str:
        """Text form: ``name:key=value,key=value``."""
        if not self.name:
            raise UnsupportedError("Policy has no name; use one of its subclasses")
        settings = []
        for field in fields(self):
            value = getattr(self, field.name)
            text = "/".join(map(str, value)) if isinstance(value, tuple | list) else str(value)
            settings.append(f"{field.name}={text}")
        return ":".join(filter(None, [self.name, ",".join(settings)]))


@dataclass(frozen=True)
class Fixed(Policy):
    """Always `length` tokens, 0 for none."""

    name: ClassVar[str] = "fixed"
    length: int = 4


@dataclass(frozen=True)
class Heuristic(Policy):
    """The schedule of transformers' assisted generation; each request starts at `start`."""

    name: ClassVar[str] = "heuristic"
    start: int = 5
    max: int = 63


@dataclass(frozen=True)
class Confidence(Policy):
    """Stop behind a token whose law had no probability of `threshold` or more."""

    name: ClassVar[str] = "confidence"
    threshold: float = 0.4
    max: int = 20


@dataclass(frozen=True)
class Kangaroo(Confidence):
    """`Confidence` with the settings of Kangaroo."""

    name: ClassVar[str] = "kangaroo"
    threshold: float = 0.6
    max: int = 6


@dataclass(frozen=True)
class Swift(Confidence):
    """`Confidence` with the settings of SWIFT."""

    name: ClassVar[str] = "swift"
    threshold: float = 0.8
    max: int = 25


@dataclass(frozen=True)
class DraftVerify(Policy):
    """`Confidence` whose threshold moves so that nine drafts of ten are accepted."""

    name: ClassVar[str] = "draft_verify"
    threshold: float = 0.5
    max: int = 8


@dataclass(frozen=True)
class Svip(Policy):
    """Stop behind a token once ``sqrt(c * H) > h``, ``H`` the entropy of its law in nats."""

    name: ClassVar[str] = "svip"
    h: float = 0.3
    c: float = 0.15
    max: int = 40


@dataclass(frozen=True)
class SpecDecPP(Policy):
    """Stop once a pending token is wrong with probability above `h`, from `min` to `max` tokens."""

    name: ClassVar[str] = "specdec++"
    h: float = 0.7
    min: int = 2
    max: int = 20


@dataclass(frozen=True)
class Disco(Policy):
    """Stop before a token that is accepted with probability below `threshold`, learned online."""

    name: ClassVar[str] = "disco"
    threshold: float = 0.4
    max: int = 20


@dataclass(frozen=True)
class Ucb(Policy):
    """UCBSpec over the lengths `arms`, confidence `delta`; the reward is tokens a step."""

    name: ClassVar[str] = "ucb"
    arms: tuple[int, ...] = (1, 2, 4, 8, 16, 32)
    delta: float = 0.05


@dataclass(frozen=True)
class UcbRate(Policy):
    """UCB on tokens over time; needs `observe_forward`, old sums times `forget` a round."""

    name: ClassVar[str] = "ucb_rate"
    arms: tuple[int, ...] = (1, 2, 4, 8, 16, 32)
    delta: float = 0.05
    forget: float = 0.995


@dataclass(frozen=True)
class Exp3(Policy):
    """EXP3Spec over the lengths `arms`."""

    name: ClassVar[str] = "exp3"
    arms: tuple[int, ...] = (1, 2, 4, 8, 16, 32)


@dataclass(frozen=True)
class Thompson(Policy):
    """Go on with probability ``theta ~ Beta``; `prior` observations' worth of drafter confidence.

    Counts are multiplied by `forget` a step and kept for each of `depths` depths.
    """

    name: ClassVar[str] = "thompson"
    max: int = 20
    forget: float = 0.98
    depths: int = 1
    prior: float = 0.0


@dataclass(frozen=True)
class Pearl(Policy):
    """`gamma` tokens, `gamma` more after every round that was accepted whole."""

    name: ClassVar[str] = "pearl"
    gamma: int = 4
    max: int = 63


@dataclass(frozen=True)
class Adaptive(Policy):
    """The length of most tokens a time, from acceptance by depth and the host's timings.

    `cost` is the time of a drafted token in target passes where there are no timings.
    """

    name: ClassVar[str] = "adaptive"
    max: int = 16
    cost: float = 0.0


class Controller:
    """One request's controller, for hosts that run a drafter.

    Parameters
    ----------
    policy : str or Policy
        ``"svip:0.3"`` or ``Svip(h=0.3)``; see `names`.

    Notes
    -----
    Noise is addressed by ``seed``, ``index`` (the absolute index of the step's first undecided
    token) and ``branch``: a step asked twice answers alike. Learns only by `report`.

    Raises
    ------
    UnsupportedError
        The policy does not exist.
    InputError
        A setting is out of range.
    """

    __slots__ = ("_core",)

    def __init__(self, policy: str | Policy) -> None:
        self._core = _core.Controller(str(policy))

    @property
    def policy(self) -> str:
        """Name and settings."""
        return self._core.policy

    def length(self, *, seed: int = 0, index: int = 1, branch: int = 0, requests: int = 1) -> int:
        """Most tokens to draft in this step; `requests` share the pass."""
        return self._core.length(seed=seed, index=index, branch=branch, requests=requests)

    def before_sample(
        self,
        position: int,
        q: Any | None = None,
        *,
        top: float | None = None,
        entropy: float | None = None,
        survival: float = 1.0,
        seed: int = 0,
        index: int = 1,
        branch: int = 0,
    ) -> bool:
        """Whether to draft another token of the law `q` behind `position` tokens.

        `q` is a row of probabilities (or weights), shape (vocab,); a host that has them passes its
        largest probability and its entropy in nats instead. O(vocab) with a row.
        """
        q = None if q is None else _row(q)
        return self._core.before_sample(
            position, q, top=top, entropy=entropy, survival=survival, seed=seed, index=index,
            branch=branch,
        )  # fmt: skip

    def after_include(
        self,
        position: int,
        p: float,
        q: Any | None = None,
        *,
        top: float | None = None,
        entropy: float | None = None,
        survival: float = 1.0,
        seed: int = 0,
        index: int = 1,
        branch: int = 0,
    ) -> bool:
        """Whether to go on behind the `position`-th token (from 1), of probability `p` under `q`.

        `survival` is the product of `calibrated` probabilities of the tokens so far, this one
        counted.
        """
        q = None if q is None else _row(q)
        return self._core.after_include(
            position, p, q, top=top, entropy=entropy, survival=survival, seed=seed, index=index,
            branch=branch,
        )  # fmt: skip

    def calibrated(self, p: float) -> float:
        """Estimate the acceptance of a drafted token of draft probability `p`."""
        return self._core.calibrated(p)

    def report(
        self,
        *,
        allowed: int,
        drafted: int,
        accepted: int,
        depth: int | None = None,
        cost: float | None = None,
        path: Sequence[tuple[float, float, float, bool]] = (),
    ) -> None:
        """Learn from a verified step.

        Parameters
        ----------
        allowed : int
            What `length` said.
        drafted, accepted : int
            Tokens drafted and accepted.
        depth : int, optional
            Deepest drafted node of a tree; default `drafted`, a chain.
        cost : float, optional
            Time of the step, in any unit that stays.
        path : sequence of (top, entropy, p, accepted), optional
            One for each tested token, first to last; what classifiers and calibrators learn from.
        """
        self._core.report(
            allowed=allowed, drafted=drafted, accepted=accepted, depth=depth, cost=cost,
            path=list(path),
        )  # fmt: skip

    def observe_forward(self, nodes: int, seconds: float) -> None:
        """Report that a pass over `nodes` nodes took `seconds`."""
        self._core.observe_forward(nodes, seconds)

    def fork(self) -> Controller:
        """Copy it, state included."""
        return self._of(self._core.fork())

    def fresh(self) -> Controller:
        """Make one for another request: what was learned stays, the schedule starts anew."""
        return self._of(self._core.fresh())

    @classmethod
    def _of(cls, core: _core.Controller) -> Controller:
        self = cls.__new__(cls)
        self._core = core
        return self

    def __repr__(self) -> str:
        return f"Controller({self.policy!r})"


def _row(q: Any) -> Any:
    """One row as the extension reads it."""
    import numpy as np

    return np.ascontiguousarray(np.asarray(q, dtype=np.float32).reshape(1, -1))
