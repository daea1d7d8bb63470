"""Options that name a constraint, the same for every verb."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from trivium.errors import InputError
from trivium.grammar import GrammarMask

if TYPE_CHECKING:
    import argparse

    from trivium.vocabulary import Vocabulary

__all__ = ["add_language", "add_spelling", "compile_language", "read", "read_text", "spelling"]

Syntax: TypeAlias = Literal["ebnf", "gbnf", "lark"]

_SYNTAX: dict[str, Syntax] = {".gbnf": "gbnf", ".lark": "lark"}


def add_language(parser: argparse.ArgumentParser, *, required: bool) -> None:
    """Add ``--schema``, ``--grammar`` and ``--regex``, of which one may be given."""
    rule = parser.add_mutually_exclusive_group(required=required)
    rule.add_argument("--regex", metavar="PATTERN", help="the whole text matches this")
    rule.add_argument(
        "--schema", metavar="FILE", help="the text is JSON that satisfies this JSON Schema"
    )
    rule.add_argument("--grammar", metavar="FILE", help="the text follows these rules")
    parser.add_argument(
        "--syntax",
        choices=("ebnf", "gbnf", "lark"),
        help="of --grammar (default: by the file's name, else ebnf)",
    )


def add_spelling(parser: argparse.ArgumentParser) -> None:
    """Add the options of JSON Schema."""
    parser.add_argument("--order", choices=("schema", "any"), default="schema")
    parser.add_argument("--escapes", choices=("minimal", "any"), default="minimal")
    parser.add_argument("--numbers", choices=("plain", "any"), default="plain")
    parser.add_argument("--whitespace", default="flex", metavar="NAME", help="flex, compact, any")
    parser.add_argument("--on-unsupported", choices=("error", "shadow", "relax"), default="error")


def spelling(args: argparse.Namespace) -> dict[str, Any]:
    """Keyword arguments of `GrammarMask.json_schema`."""
    names = ("order", "escapes", "numbers", "whitespace", "on_unsupported")
    return {name: getattr(args, name) for name in names if hasattr(args, name)}


def compile_language(args: argparse.Namespace, vocab: Vocabulary) -> GrammarMask | None:
    """Compile what the options name; None if they name nothing."""
    if args.regex is not None:
        return GrammarMask.regex(args.regex, vocab)
    if args.schema is not None:
        return GrammarMask.json_schema(read_text("schema", args.schema), vocab, **spelling(args))
    if args.grammar is not None:
        syntax: Syntax = args.syntax or _SYNTAX.get(Path(args.grammar).suffix, "ebnf")
        return GrammarMask.grammar(read_text("grammar", args.grammar), vocab, syntax=syntax)
    return None


def read(option: str, path: str) -> bytes:
    """Read a file, gzipped or not."""
    try:
        data = Path(path).read_bytes()
        return gzip.decompress(data) if data[:2] == b"\x1f\x8b" else data
    except (OSError, EOFError) as e:
        raise InputError(f"{option}: {path} cannot be read: {e}") from None


def read_text(option: str, path: str) -> str:
    """Read a file of text."""
    try:
        return read(option, path).decode()
    except UnicodeDecodeError as e:
        raise InputError(f"{option}: {path} cannot be read: not UTF-8: {e}") from None
