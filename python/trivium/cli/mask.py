"""``trivium mask check`` and ``trivium mask bench``: what a schema compiles to, what masks cost.

``check`` compiles a JSON Schema, prints its report and tests texts against it, saying why one is
refused. ``bench`` walks the texts of a file of cases token by token and prints percentiles of the
time of one mask with the step after it.
"""

from __future__ import annotations

import gzip
import json
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from trivium.cli.output import Output, add_common
from trivium.errors import InputError, TriviumError
from trivium.grammar import GrammarMask
from trivium.vocabulary import Vocabulary

if TYPE_CHECKING:
    import argparse

__all__ = ["add_parser", "bench", "check"]


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add ``mask check`` and ``mask bench`` to the command line."""
    mask = subparsers.add_parser("mask", help="what a JSON Schema compiles to, what masks cost")
    verbs = mask.add_subparsers(dest="mask_verb", required=True)
    one = verbs.add_parser("check", help="compile a schema; test texts against it")
    one.add_argument(
        "file", nargs="*", metavar="FILE", help="texts to test; exit code 1 if refused"
    )
    one.add_argument("--schema", required=True, metavar="FILE", help="the JSON Schema")
    one.add_argument("--text", action="append", default=[], metavar="TEXT", help="a text to test")
    one.add_argument("--explain", action="store_true", help="say what could follow where it broke")
    _spelling(one)
    add_common(one)
    one.set_defaults(run=check)
    many = verbs.add_parser("bench", help="time of masks over a file of schemas and texts")
    many.add_argument(
        "--corpus",
        required=True,
        metavar="FILE",
        help='JSON lines {"schema", "tests": [{"data", "valid"}]}, may be gzipped',
    )
    many.add_argument("--limit", type=int, metavar="N", help="only the first N cases")
    _spelling(many)
    add_common(many)
    many.set_defaults(run=bench)


def _spelling(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--tokenizer", metavar="FILE", help="a Vocabulary file (default: bytes)")
    parser.add_argument("--order", choices=("schema", "any"), default="schema")
    parser.add_argument("--escapes", choices=("minimal", "any"), default="minimal")
    parser.add_argument("--numbers", choices=("plain", "any"), default="plain")
    parser.add_argument("--whitespace", default="flex", metavar="NAME", help="flex, compact, any")
    parser.add_argument("--on-unsupported", choices=("error", "relax"), default="error")


def _options(args: argparse.Namespace) -> dict[str, Any]:
    names = ("order", "escapes", "numbers", "whitespace", "on_unsupported")
    return {name: getattr(args, name) for name in names}


def _vocabulary(args: argparse.Namespace) -> Vocabulary:
    if args.tokenizer is not None:
        return Vocabulary.load(args.tokenizer)
    return Vocabulary([bytes([b]) for b in range(256)] + [b""], eos=[256])


def _read(option: str, path: str) -> bytes:
    try:
        data = Path(path).read_bytes()
        return gzip.decompress(data) if data[:2] == b"\x1f\x8b" else data
    except (OSError, EOFError) as e:
        raise InputError(f"{option}: {path} cannot be read: {e}") from None


def _text(option: str, path: str) -> str:
    try:
        return _read(option, path).decode()
    except UnicodeDecodeError as e:
        raise InputError(f"{option}: {path} is not UTF-8: {e}") from None


def check(args: argparse.Namespace) -> int:
    """Run ``mask check``; the exit code is 1 if a text is refused."""
    out = Output(args)
    vocab = _vocabulary(args)
    schema = _text("schema", args.schema)
    start = time.perf_counter()
    grammar = GrammarMask.json_schema(schema, vocab, **_options(args))
    millis = 1e3 * (time.perf_counter() - start)
    texts = [(text, text.encode()) for text in args.text]
    texts += [(name, _read("file", name).rstrip(b"\n")) for name in args.file]
    verdicts = []
    for name, text in texts:
        found = grammar.explain(text)
        ok = found.viable and found.accepting
        verdict: dict[str, Any] = {"text": name, "valid": ok}
        if not ok:
            verdict["at"] = found.accepted
            verdict["why"] = "the text ends too early" if found.viable else "no value goes on so"
            if args.explain:
                verdict["next"] = [_show(a, b) for a, b in found.next_bytes]
                end = grammar.completion(text[: found.accepted])
                verdict["completion"] = None if end is None else end.decode(errors="replace")
        verdicts.append(verdict)
    report = grammar.report()
    out.line(f"compiled in {millis:.2f} ms, {report.states} states, {report.automaton_bytes} bytes")
    out.line(
        f"sound: {report.sound}, complete: {report.complete}, no dead end: {report.no_dead_end}"
    )
    for text in [*report.relaxed, *report.warnings]:
        out.line(f"note: {text}")
    for v in verdicts:
        where = "" if v["valid"] else f" at byte {v['at']}: {v['why']}"
        out.result(f"{'valid  ' if v['valid'] else 'refused'} {v['text'][:60]}{where}")
        if "next" in v:
            out.result(f"        next: {' '.join(v['next'])}; completion: {v['completion']}")
    out.json(
        {
            "compile_ms": millis,
            "sound": report.sound,
            "complete": report.complete,
            "no_dead_end": report.no_dead_end,
            "relaxed": report.relaxed,
            "warnings": report.warnings,
            "states": report.states,
            "bytes": report.automaton_bytes,
            "texts": verdicts,
        }
    )
    return 0 if all(v["valid"] for v in verdicts) else 1


def _show(a: int, b: int) -> str:
    one, two = repr(chr(a))[1:-1], repr(chr(b))[1:-1]
    return one if a == b else f"{one}-{two}"


def _encode(text: bytes, ids: dict[bytes, int], longest: int) -> list[int]:
    """Tokens by greedy longest match."""
    tokens, at = [], 0
    while at < len(text):
        for end in range(min(len(text), at + longest), at, -1):
            token = ids.get(text[at:end])
            if token is not None:
                tokens.append(token)
                at = end
                break
        else:
            raise InputError(f"tokenizer: no token begins with byte {text[at]}")
    return tokens


def bench(args: argparse.Namespace) -> int:
    """Run ``mask bench``."""
    out = Output(args)
    vocab = _vocabulary(args)
    special = set(vocab.eos)
    pairs = ((vocab.token(t), t) for t in range(len(vocab)) if t not in special)
    ids = {text: token for text, token in pairs if text}
    longest = max(map(len, ids))
    lines = _text("corpus", args.corpus).splitlines()[: args.limit]
    row = np.zeros((vocab.num_rows + 31) // 32, dtype=np.int32)
    first: list[int] = []
    steps: list[int] = []
    refused: list[str] = []
    wrong = 0
    for line in lines:
        try:
            case = json.loads(line)
            schema, tests = case["schema"], case.get("tests", [])
        except (ValueError, KeyError, TypeError) as e:
            raise InputError(f"corpus: a line is no case: {e!r}") from None
        start = time.perf_counter_ns()
        try:
            grammar = GrammarMask.json_schema(json.dumps(schema), vocab, **_options(args))
        except TriviumError as e:
            refused.append(f"{type(e).__name__}: {e}")
            continue
        grammar.matcher().fill(row)
        first.append(time.perf_counter_ns() - start)
        for test in tests:
            try:
                text = json.dumps(test["data"], ensure_ascii=False).encode()
            except UnicodeEncodeError:
                continue
            m = grammar.matcher()
            alive = True
            for token in _encode(text, ids, longest):
                start = time.perf_counter_ns()
                m.fill(row)
                alive = bool(row[token >> 5] >> (token & 31) & 1) and bool(m.commit(token))
                steps.append(time.perf_counter_ns() - start)
                if not alive:
                    break
            wrong += (alive and m.is_accepting()) != test["valid"]
    result: dict[str, Any] = {
        "schemas": len(lines),
        "refused": refused,
        "wrong_verdicts": wrong,
        "first_mask_us": _percentiles(first),
        "mask_and_step_us": _percentiles(steps),
        "masks": len(steps),
    }
    header = ("microseconds", "mean", "p50", "p99", "p99.9", "max")
    rows = [
        (label, *(f"{result[key][c]:.1f}" for c in header[1:]))
        for label, key in (("first mask", "first_mask_us"), ("mask and step", "mask_and_step_us"))
        if result[key]
    ]
    out.table(f"{len(lines)} schemas, {len(steps)} masks", header, rows)
    out.result(f"refused {len(refused)}, verdicts unlike the labels {wrong}")
    for why in refused:
        out.line(f"refused: {why[:160]}")
    out.json(result)
    return 0


def _percentiles(nanoseconds: list[int]) -> dict[str, float]:
    if not nanoseconds:
        return {}
    x = np.asarray(nanoseconds) / 1e3
    p = np.percentile(x, [50, 99, 99.9])
    return {
        "mean": float(x.mean()),
        "p50": float(p[0]),
        "p99": float(p[1]),
        "p99.9": float(p[2]),
        "max": float(x.max()),
    }
