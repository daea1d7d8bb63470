"""The command ``trivium``.

===========  ==================================================================
`generate`   continue a prompt: with drafts, under a pattern or schema, by a vote
`demo`       the three objects on the shipped model, with a table of the gains
`check`      the exactness kit, on the built-in verifiers or on yours
`doctor`     versions, devices, extras and self-tests
`bench`      what the hot calls cost on this machine
`mask`       what a JSON Schema compiles to, what masks cost
`spec`       replay recorded token streams through draft sources
`vote`       replay stop rules on recorded answers
===========  ==================================================================

Every verb takes ``--json PATH`` (``-`` is standard output), ``--seed`` and ``--quiet``. Exit codes:

====  =============================================================
0     success
1     a check failed, or a run broke off
2     wrong usage: an argument or an input that cannot be served
3     an optional dependency is missing; the message installs it
130   interrupted; what was finished until then is printed
====  =============================================================

The parser needs the base package only. A verb imports what it needs when it runs.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import sys
from typing import TYPE_CHECKING

from trivium import __version__
from trivium.errors import InputError, MissingExtraError, TokenError, TriviumError, UnsupportedError

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["FAILED", "INTERRUPTED", "MISSING_EXTRA", "OK", "USAGE", "build_parser", "main"]

OK = 0
FAILED = 1
USAGE = 2
MISSING_EXTRA = 3
INTERRUPTED = 130

_VERBS = ("generate", "demo", "doctor", "check", "bench", "mask", "spec", "vote")


def build_parser() -> argparse.ArgumentParser:
    """Build the parser of every verb.

    Returns
    -------
    argparse.ArgumentParser
        Its results carry ``run``, the function of the chosen verb.
    """
    parser = argparse.ArgumentParser(
        prog="trivium",
        description="Draft, constrain, verify, sample and vote: decoding, exactly lossless.",
        epilog="exit codes: 0 success, 1 a check failed, 2 usage, 3 missing extra, 130 interrupted",
    )
    parser.add_argument("--version", action="version", version=f"trivium {__version__}")
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB")
    for name in _VERBS:
        if importlib.util.find_spec(f"trivium.cli.{name}") is not None:
            importlib.import_module(f"trivium.cli.{name}").add_parser(verbs)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command.

    Parameters
    ----------
    argv : sequence of str, optional
        Arguments; those of the process when absent.

    Returns
    -------
    int
        Exit code.
    """
    try:
        args = build_parser().parse_args(argv)
    except SystemExit as end:  # --help, --version and wrong usage
        return end.code if isinstance(end.code, int) else USAGE
    who = f"trivium {args.verb}"
    try:
        code: int = args.run(args)
        sys.stdout.flush()
    except KeyboardInterrupt:
        print(f"{who}: interrupted", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:
        # The reader has what it wanted; the interpreter's own flush at exit must not complain.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return OK
    except MissingExtraError as error:
        print(f"{who}: a package is missing; install it with\n    {error}", file=sys.stderr)
        return MISSING_EXTRA
    except (InputError, TokenError, UnsupportedError) as error:
        print(f"{who}: {error}", file=sys.stderr)
        return USAGE
    except TriviumError as error:
        print(f"{who}: {type(error).__name__}: {error}", file=sys.stderr)
        return FAILED
    return code
