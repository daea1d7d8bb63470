"""What a verb prints: lines and tables for people, one JSON object for programs.

Text goes to standard output, unless the JSON goes there (``--json -``): then text goes to the error
stream, so that the output stays one object. Colour and box drawing need a terminal, `rich`, and
neither ``NO_COLOR`` nor ``TERM=dumb``; everything else gets plain lines.
"""

from __future__ import annotations

import importlib.util
import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from trivium.errors import InputError

if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence

__all__ = ["Output", "add_common", "is_fancy"]


def add_common(parser: argparse.ArgumentParser) -> None:
    """Add the options that every verb has."""
    parser.add_argument("--json", metavar="PATH", help="write the result as JSON; - is stdout")
    parser.add_argument("--seed", type=int, default=0, help="seed of all randomness (default: 0)")
    parser.add_argument("--quiet", action="store_true", help="print the result only")


def is_fancy(stream: TextIO) -> bool:
    """Tell whether colour and cursor movement may be written to a stream."""
    return (
        stream.isatty()
        and not os.environ.get("NO_COLOR")
        and os.environ.get("TERM") != "dumb"
        and importlib.util.find_spec("rich") is not None
    )


class Output:
    """Where a verb writes.

    Parameters
    ----------
    args : argparse.Namespace
        With the options of `add_common`.

    Raises
    ------
    InputError
        A negative seed, or a JSON path in a folder that does not exist: better told before a long
        run than after it.
    """

    def __init__(self, args: argparse.Namespace) -> None:
        self.quiet: bool = args.quiet
        self.json_path: str | None = args.json
        if not 0 <= args.seed < 1 << 64:
            raise InputError(f"seed: {args.seed} is outside 0..2^64")
        if self.json_path not in (None, "-") and not Path(str(self.json_path)).parent.is_dir():
            raise InputError(f"json: the folder of {self.json_path} does not exist")

    @property
    def stream(self) -> TextIO:
        """Stream of text for people."""
        return sys.stderr if self.json_path == "-" else sys.stdout

    def result(self, text: str = "", *, end: str = "\n") -> None:
        """Print what was asked for, also with ``--quiet``."""
        print(text, end=end, file=self.stream, flush=True)

    def line(self, text: str = "") -> None:
        """Print something that ``--quiet`` leaves out."""
        if not self.quiet:
            self.result(text)

    def note(self, text: str) -> None:
        """Print a remark on the error stream, so that the output holds the text alone."""
        if not self.quiet:
            print(text, file=sys.stderr, flush=True)

    def table(self, title: str, header: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
        """Print a table; part of the result."""
        cells = [[str(cell) for cell in row] for row in rows]
        if is_fancy(self.stream):
            from rich.console import Console
            from rich.table import Table
            from rich.text import Text

            drawn = Table(title=title, title_justify="left")
            for name in header:
                drawn.add_column(name)
            for row in cells:
                drawn.add_row(*map(Text, row))
            Console(file=self.stream).print(drawn)
            return
        widths = [max(map(len, column)) for column in zip(header, *cells, strict=True)]
        self.result(title)
        for row in [list(header), ["-" * w for w in widths], *cells]:
            self.result("  ".join(c.ljust(w) for c, w in zip(row, widths, strict=True)).rstrip())

    def json(self, value: dict[str, Any]) -> None:
        """Write the JSON object where ``--json`` says, if it does.

        Raises
        ------
        InputError
            The file cannot be written.
        """
        if self.json_path is None:
            return
        text = json.dumps(value, indent=1, allow_nan=False) + "\n"
        if self.json_path == "-":
            sys.stdout.write(text)
            sys.stdout.flush()
            return
        try:
            Path(self.json_path).write_text(text, encoding="utf-8")
        except OSError as error:
            raise InputError(f"json: {error}") from error
