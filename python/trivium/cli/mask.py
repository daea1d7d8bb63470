"""``trivium mask check`` and ``trivium mask bench``: what a grammar compiles to, what masks cost.

``check`` compiles a JSON Schema, rules or a pattern, prints its report and tests texts and token
streams against it, saying why one is refused. ``bench`` walks the texts of a file of cases token by
token and prints percentiles of the time of one mask with the step after it, beside installed peers
if asked.
"""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any

import numpy as np

from trivium.cli import constraints
from trivium.cli.mask_engines import PEERS, Trivium, peer
from trivium.cli.output import Output, add_common
from trivium.errors import InputError, TokenError
from trivium.vocabulary import Vocabulary

if TYPE_CHECKING:
    import argparse

    from trivium.cli.mask_engines import Engine
    from trivium.grammar import GrammarMask

__all__ = ["add_parser", "bench", "check"]


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add ``mask check`` and ``mask bench`` to the command line."""
    mask = subparsers.add_parser("mask", help="what a grammar compiles to, what masks cost")
    verbs = mask.add_subparsers(dest="mask_verb", required=True)
    one = verbs.add_parser("check", help="compile a schema, rules or a pattern; test texts")
    one.add_argument(
        "file", nargs="*", metavar="FILE", help="texts to test; exit code 1 if refused"
    )
    constraints.add_language(one, required=True)
    one.add_argument("--text", action="append", default=[], metavar="TEXT", help="a text to test")
    one.add_argument(
        "--tokens",
        action="append",
        default=[],
        metavar="IDS",
        help="a stream of token ids to test, separated by commas or spaces; an end id ends it",
    )
    one.add_argument("--explain", action="store_true", help="say what could follow where it broke")
    _common(one)
    one.set_defaults(run=check)
    many = verbs.add_parser("bench", help="time of masks over a file of schemas and texts")
    many.add_argument(
        "--corpus",
        required=True,
        metavar="FILE",
        help='JSON lines {"schema", "tests": [{"data", "valid"}]}, may be gzipped',
    )
    many.add_argument("--limit", type=int, metavar="N", help="only the first N cases")
    many.add_argument(
        "--against",
        metavar="NAMES",
        default="",
        help=f"installed engines to run too, separated by commas: {', '.join(PEERS)}",
    )
    _common(many)
    many.set_defaults(run=bench)


def _common(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--tokenizer", metavar="FILE", help="a Vocabulary file (default: bytes)")
    constraints.add_spelling(parser)
    add_common(parser)


def _vocabulary(args: argparse.Namespace) -> Vocabulary:
    if args.tokenizer is not None:
        return Vocabulary.load(args.tokenizer)
    return Vocabulary([bytes([b]) for b in range(256)] + [b""], eos=[256])


def check(args: argparse.Namespace) -> int:
    """Run ``mask check``; the exit code is 1 if a text is refused."""
    out = Output(args)
    vocab = _vocabulary(args)
    start = time.perf_counter()
    grammar = constraints.compile_language(args, vocab)
    millis = 1e3 * (time.perf_counter() - start)
    if grammar is None:
        raise InputError("check: needs --schema, --grammar or --regex")
    texts = [(text, text.encode()) for text in args.text]
    texts += [(name, constraints.read("file", name).rstrip(b"\n")) for name in args.file]
    verdicts = [_judge_text(grammar, name, text, args.explain) for name, text in texts]
    verdicts += [_judge_tokens(grammar, given, args.explain) for given in args.tokens]
    report = grammar.report()
    out.line(f"compiled in {millis:.2f} ms, {report.states} states, {report.automaton_bytes} bytes")
    out.line(
        f"sound: {report.sound}, complete: {report.complete}, no dead end: {report.no_dead_end}"
    )
    for text in report.relaxed:
        out.line(f"not enforced: {text}")
    for text in report.warnings:
        out.line(f"note: {text}")
    for v in verdicts:
        where = "" if v["valid"] else f" at {v['unit']} {v['at']}: {v['why']}"
        out.result(f"{'valid  ' if v['valid'] else 'refused'} {v['text'][:60]}{where}")
        if "next" in v:
            out.result(f"        next: {' '.join(v['next'])}; completion: {v['completion']}")
    out.json(
        {
            "compile_ms": millis,
            "kind": report.kind,
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


def _judge_text(grammar: GrammarMask, name: str, text: bytes, explain: bool) -> dict[str, Any]:
    found = grammar.explain(text)
    ok = found.viable and found.accepting
    verdict: dict[str, Any] = {"text": name, "valid": ok, "unit": "byte"}
    if not ok:
        verdict["at"] = found.accepted
        verdict["why"] = "the text ends too early" if found.viable else "no text goes on so"
        if explain:
            verdict |= _continuations(grammar, text[: found.accepted], found.next_bytes)
    return verdict


def _judge_tokens(grammar: GrammarMask, given: str, explain: bool) -> dict[str, Any]:
    try:
        tokens = [int(t) for t in given.replace(",", " ").split()]
    except ValueError:
        raise InputError(f"tokens: {given!r} is no list of ids") from None
    matcher = grammar.matcher()
    accepted = matcher.commit(tokens)
    verdict: dict[str, Any] = {
        "text": given,
        "valid": accepted == len(tokens) and matcher.is_accepting(),
        "unit": "token",
    }
    if not verdict["valid"]:
        verdict["at"] = accepted
        if accepted < len(tokens):
            verdict["why"] = str(matcher.why(tokens[accepted]))
        else:
            verdict["why"] = "the text ends too early"
        if explain:
            try:
                text = grammar.vocab.decode(tokens[:accepted])
            except TokenError:
                text = b""
            verdict |= _continuations(grammar, text, grammar.explain(text).next_bytes)
    return verdict


def _continuations(
    grammar: GrammarMask, text: bytes, next_bytes: list[tuple[int, int]]
) -> dict[str, Any]:
    end = None if grammar.report().kind == "checked" else _completion(grammar, text)
    return {"next": [_show(a, b) for a, b in next_bytes], "completion": end}


def _completion(grammar: GrammarMask, text: bytes) -> str | None:
    try:
        end = grammar.completion(text)
    except NotImplementedError:  # a shadow judges whole texts
        return None
    return None if end is None else end.decode(errors="replace")


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


class _Times:
    """What one engine took over the corpus."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.first: list[int] = []
        self.steps: list[int] = []
        self.refused: list[str] = []
        self.wrong = 0

    def run(self, schema: str, tests: list[tuple[list[int], bool]]) -> None:
        """Compile a schema and walk its texts."""
        engine = self.engine
        start = time.perf_counter_ns()
        try:
            compiled = engine.compile(schema)
            engine.fill(engine.start(compiled))
        except Exception as e:
            self.refused.append(f"{type(e).__name__}: {e}")
            return
        self.first.append(time.perf_counter_ns() - start)
        row = engine.row
        for tokens, valid in tests:
            matcher = engine.start(compiled)
            alive = True
            for token in tokens:
                start = time.perf_counter_ns()
                engine.fill(matcher)
                alive = bool(row[token >> 5] >> (token & 31) & 1)
                alive = alive and engine.advance(matcher, token)
                self.steps.append(time.perf_counter_ns() - start)
                if not alive:
                    break
            self.wrong += (alive and engine.ends(matcher)) != valid

    def result(self) -> dict[str, Any]:
        """Return counts and percentiles."""
        return {
            "refused": self.refused,
            "wrong_verdicts": self.wrong,
            "first_mask_us": _percentiles(self.first),
            "mask_and_step_us": _percentiles(self.steps),
            "masks": len(self.steps),
        }


def bench(args: argparse.Namespace) -> int:
    """Run ``mask bench``."""
    out = Output(args)
    vocab = _vocabulary(args)
    names = [name.strip() for name in args.against.split(",") if name.strip()]
    own = _Times(Trivium(vocab, **constraints.spelling(args)))
    engines = [own, *(_Times(peer(name, vocab)) for name in names)]
    special = set(vocab.eos)
    pairs = ((vocab.token(t), t) for t in range(len(vocab)) if t not in special)
    ids = {text: token for text, token in pairs if text}
    longest = max(map(len, ids))
    lines = constraints.read_text("corpus", args.corpus).splitlines()[: args.limit]
    for line in lines:
        try:
            case = json.loads(line)
            schema, given = case["schema"], case.get("tests", [])
            tests = [(json.dumps(t["data"], ensure_ascii=False), bool(t["valid"])) for t in given]
        except (ValueError, KeyError, TypeError) as e:
            raise InputError(f"corpus: a line is no case: {e!r}") from None
        encoded = []
        for text, valid in tests:
            try:
                encoded.append((_encode(text.encode(), ids, longest), valid))
            except UnicodeEncodeError:
                continue
        # In turn on each case, so that a busy machine slows all alike.
        for engine in engines:
            engine.run(json.dumps(schema), encoded)
    result: dict[str, Any] = {"schemas": len(lines), **own.result()}
    result["peers"] = {engine.engine.name: engine.result() for engine in engines[1:]}
    header = ("microseconds", "mean", "p50", "p99", "p99.9", "max")
    rows = []
    for engine in engines:
        found = engine.result()
        for label, key in (("first mask", "first_mask_us"), ("mask and step", "mask_and_step_us")):
            if found[key]:
                title = f"{engine.engine.name}: {label}"
                rows.append((title, *(f"{found[key][c]:.1f}" for c in header[1:])))
    out.table(f"{len(lines)} schemas, {result['masks']} masks", header, rows)
    for engine in engines:
        refused = f"refused {len(engine.refused)}, verdicts unlike the labels {engine.wrong}"
        out.result(f"{engine.engine.name}: {refused}")
    for why in own.refused:
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
