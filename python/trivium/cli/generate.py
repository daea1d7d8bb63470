"""``trivium generate``: continue a prompt with drafts, under a pattern or schema, or by a vote."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trivium.cli import constraints, extras, loop, models
from trivium.cli.output import Output, add_common
from trivium.errors import InputError
from trivium.voter import Voter

if TYPE_CHECKING:
    import argparse

__all__ = ["add_parser", "run"]

_VOTE_SAMPLES = 20


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add ``generate`` to the command line."""
    parser = subparsers.add_parser(
        "generate",
        help="continue a prompt: with drafts, under a pattern, by a vote",
        description="Continue a prompt with a local transformers model. With --compare the exit "
        "code is 1 if speculation changed the text by more than rounding inside the model.",
    )
    models.add_options(parser)
    source = parser.add_mutually_exclusive_group()
    source.add_argument("--prompt", metavar="TEXT", help="the prompt (default: standard input)")
    source.add_argument("--prompt-file", metavar="FILE", help="file that holds the prompt")
    parser.add_argument("--max-new-tokens", type=int, default=128, metavar="N")
    parser.add_argument("--temperature", type=float, default=1.0, help="0 is greedy (default: 1)")
    parser.add_argument("--top-k", type=int, default=0, help="0 keeps all (default)")
    parser.add_argument("--top-p", type=float, default=1.0)
    parser.add_argument("--min-p", type=float, default=0.0)
    parser.add_argument("--stop", action="append", metavar="TEXT", help="end before this text")
    constraints.add_language(parser, required=False)
    constraints.add_spelling(parser)
    parser.add_argument("--samples", type=int, metavar="N", help="number of continuations")
    parser.add_argument(
        "--vote",
        metavar="KEY",
        help="let the samples vote by a key of Voter (number, choice, latex, json, ...); --samples "
        "bounds them (default: 20)",
    )
    parser.add_argument(
        "--vote-stop",
        metavar="RULE",
        nargs="+",
        default=["beta:0.95"],
        help="stop rules (default: beta:0.95)",
    )
    parser.add_argument(
        "--speculate",
        metavar="SOURCES",
        default="auto",
        help="draft sources, separated by commas; auto (default) or none",
    )
    parser.add_argument(
        "--compare", action="store_true", help="run the plain loop too and compare the texts"
    )
    add_common(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Run ``generate``; the exit code is 1 if `--compare` finds a defect."""
    out = Output(args)
    _refuse(args)
    prompt = _prompt(args)
    extras.need("transformers")
    loaded = models.load(args.model, args.dtype, threads=args.threads)
    settings = loop.Settings(
        max_new_tokens=args.max_new_tokens,
        temperature=args.temperature,
        top_k=args.top_k,
        top_p=args.top_p,
        min_p=args.min_p,
        seed=args.seed,
        stop_strings=tuple(args.stop or ()),
    )
    runner = loop.Loop(loaded, settings, sources=_sources(args.speculate))
    if (args.regex, args.schema, args.grammar) != (None, None, None):
        runner.constraint = constraints.compile_language(args, loop.vocabulary(loaded))
    result: dict[str, Any] = {
        "prompt": prompt,
        "environment": models.environment(loaded, dtype=args.dtype, seed=args.seed),
    }
    try:
        if args.vote is not None:
            _vote(args, out, runner, prompt, result)
        elif (args.samples or 1) > 1:
            _samples(args, out, runner, prompt, result)
        else:
            _one(args, out, runner, prompt, result)
    except KeyboardInterrupt:
        out.json(result | {"interrupted": True})
        raise
    out.json(result)
    return 1 if result.get("compare", {}).get("bugs") else 0


def _refuse(args: argparse.Namespace) -> None:
    """Check what argparse cannot, before anything heavy is loaded."""
    for option in ("schema", "grammar"):
        if getattr(args, option) is not None:
            constraints.read_text(option, getattr(args, option))
    for name in ("max_new_tokens", "samples"):
        value = getattr(args, name)
        if value is not None and value < 1:
            raise InputError(f"{name}: {value} is not positive")
    if args.compare and (args.vote or (args.samples or 1) > 1):
        raise InputError("compare: compares one continuation; leave out --samples and --vote")
    if args.compare and args.speculate == "none":
        raise InputError("compare: needs drafts, and --speculate is none")
    if args.model is not None and not Path(args.model).is_dir():
        raise InputError(f"model: {args.model} is no folder; nothing is downloaded")


def _prompt(args: argparse.Namespace) -> str:
    if args.prompt is not None:
        return str(args.prompt)
    if args.prompt_file is not None:
        try:
            return Path(args.prompt_file).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise InputError(f"prompt-file: {error}") from error
    if sys.stdin.isatty():
        raise InputError("prompt: give --prompt or --prompt-file, or pipe it in")
    return sys.stdin.read()


def _sources(text: str) -> str | list[str] | None:
    if text in ("auto", "none"):
        return "auto" if text == "auto" else None
    return [name.strip() for name in text.split(",") if name.strip()]


def _one(
    args: argparse.Namespace,
    out: Output,
    runner: loop.Loop,
    prompt: str,
    result: dict[str, Any],
) -> None:
    stream = loop.Stream(runner, lambda text: out.result(text, end=""))
    made = runner.run([prompt], token_callback=stream.feed, on_interrupt="return")
    [text] = made.texts or [""]
    stream.close(text)
    out.result()
    result |= loop.describe(made)
    if "interrupted" in made.finish_reasons:
        raise KeyboardInterrupt
    if args.compare:
        compared = runner.compare(prompt)
        result["compare"] = compared.as_dict()
        out.result(f"identical: {'yes' if compared.identical else 'no'}")
        out.line(f"tokens per call: {compared.tokens_per_call:.2f}")
        out.line(f"target calls: {compared.calls} instead of {compared.plain_calls}")
        if compared.forced:
            tried, accepted = compared.forced
            out.line(f"drafts of forced text: {accepted} accepted of {tried}")
        out.line(f"plain time / speculative time: {compared.wall_ratio:.2f}")
        for difference in result["compare"]["differences"]:
            out.result(f"difference: {json.dumps(difference)}")
        return
    calls = f"{made.num_tokens} tokens in {made.num_target_calls} target calls"
    out.note(f"[{calls}: {made.tokens_per_call:.2f} a call, {loop.wall(made):.2f} s]")


def _samples(
    args: argparse.Namespace,
    out: Output,
    runner: loop.Loop,
    prompt: str,
    result: dict[str, Any],
) -> None:
    made = runner.run([prompt] * args.samples, on_interrupt="return", group="samples")
    result |= loop.describe(made)
    for i, text in enumerate(made.texts or []):
        out.line(f"--- {i}")
        out.result(text)
    if "interrupted" in made.finish_reasons:
        raise KeyboardInterrupt


def _vote(
    args: argparse.Namespace,
    out: Output,
    runner: loop.Loop,
    prompt: str,
    result: dict[str, Any],
) -> None:
    budget = args.samples or _VOTE_SAMPLES
    voter = Voter(key=args.vote, stop=args.vote_stop, budget=budget, seed=args.seed)
    made = runner.run([prompt], voter=voter, on_interrupt="return")
    [said] = made.votes or []
    traces = sorted(made.traces or [], key=lambda t: t.trace)
    for trace in traces:
        ended = "cancelled" if trace.finish_reason == "cancelled" else "-"
        out.line(f"{trace.trace:4d}  {voter.key_of(text=trace.text) or ended}")
    result["texts"] = [t.text for t in traces]
    result["finish_reasons"] = [t.finish_reason for t in traces]
    result["tokens_per_call"] = made.tokens_per_call
    result["num_tokens"] = made.num_tokens
    result["vote"] = {
        "winner": said.winner,
        "answer": said.answer,
        "share": said.share,
        "p_mode": said.p_mode,
        "stop_reason": said.stop_reason,
        "samples": said.cost.samples,
        "launched": said.cost.launched,
        "cancelled": said.cost.cancelled,
        "budget": budget,
        "tally": [row._asdict() for row in said.tally],
    }
    out.result("no answer" if said.winner is None else said.winner)
    cost = f"{said.cost.samples} of at most {budget} samples"
    out.note(f"[{said.share:.0%} of the ballots, {cost}, {said.stop_reason}]")
    if any(t.finish_reason == "interrupted" for t in traces):
        raise KeyboardInterrupt
