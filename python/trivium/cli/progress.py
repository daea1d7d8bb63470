"""Progress of a part of a run that may take longer than two seconds.

On a terminal it is a bar that disappears at the end; elsewhere it is a plain line now and then. It
goes to the error stream, and nothing is shown before two seconds have passed.
"""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING, Any, Self

from trivium.cli.output import is_fancy

if TYPE_CHECKING:
    from types import TracebackType

__all__ = ["Progress"]

_PATIENCE = 2.0
_EVERY = 5.0


class Progress:
    """Shows how far a counted job has come; a context manager.

    Parameters
    ----------
    label : str
        What is done.
    total : int
        Number of steps.
    quiet : bool
        Show nothing.
    """

    def __init__(self, label: str, total: int, *, quiet: bool = False) -> None:
        self.label = label
        self.total = total
        self.done = 0
        self._quiet = quiet
        self._fancy = not quiet and is_fancy(sys.stderr)
        self._bar: Any = None
        self._task: Any = None
        self._began = self._shown = time.monotonic()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._bar is not None:
            self._bar.stop()

    def step(self, n: int = 1, note: str = "") -> None:
        """Count `n` finished steps; `note` says what is going on."""
        self.done += n
        now = time.monotonic()
        if self._quiet or now - self._began < _PATIENCE:
            return
        if self._fancy:
            self._draw(note)
        elif now - self._shown >= (_EVERY if self._shown > self._began else _PATIENCE):
            self._shown = now
            spent = f"{now - self._began:.0f} s"
            text = f"{self.label}: {self.done}/{self.total}, {spent}{note and ', ' + note}"
            print(text, file=sys.stderr, flush=True)

    def _draw(self, note: str) -> None:
        if self._bar is None:
            from rich.console import Console
            from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn
            from rich.progress import Progress as Bar

            self._bar = Bar(
                TextColumn("{task.description}"),
                BarColumn(),
                MofNCompleteColumn(),
                TimeElapsedColumn(),
                TextColumn("{task.fields[note]}", markup=False),
                console=Console(file=sys.stderr),
                transient=True,
            )
            self._task = self._bar.add_task(self.label, total=self.total, note=note)
            self._bar.start()
        self._bar.update(self._task, completed=self.done, note=note)
