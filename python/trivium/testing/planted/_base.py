"""What a planted bug is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

    from trivium.testing.results import CheckResult

__all__ = ["Planted", "first_line"]


@dataclass(frozen=True)
class Planted:
    """A wrong callable that the kit must reject.

    Attributes
    ----------
    name : str
        Short name of the bug class.
    kind : str
        ``"verifier"``, ``"sampler"``, ``"engine"`` or ``"mask"``.
    fn : callable
        The wrong callable; its docstring says what is wrong with it.
    check : callable
        ``check(fn, quick=..., seed=...)``: the public check, with the options the bug needs.
    released : bool
        Whether it was found in released code.
    """

    name: str
    kind: str
    fn: Callable[..., Any]
    check: Callable[..., CheckResult]
    released: bool = False

    @property
    def summary(self) -> str:
        """First line of the bug's docstring."""
        return first_line(self.fn)

    def run(self, *, quick: bool = True, seed: int = 0) -> CheckResult:
        """Put the bug to the kit; the result should not be ok."""
        return self.check(self.fn, quick=quick, seed=seed, name=self.name, shrink_seconds=0.3)


def first_line(fn: Callable[..., Any]) -> str:
    """Return the first line of a docstring."""
    return (fn.__doc__ or "").strip().split("\n")[0]
