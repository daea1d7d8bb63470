"""``trivium demo``: the three objects on the shipped model and its held-out prompts.

1. Code is completed by the plain loop and by the speculative one, greedily and at temperature 0.8.
2. Records are generated under the regular expression of their schema.
3. Arithmetic is answered by one sample and by a vote that stops early.

Everything in the table is measured in this run. Code runs interleave the two loops and report
medians; each pass over the prompts begins with a speculator that has seen nothing, so that no run
drafts from its own answer.
"""

from __future__ import annotations

import statistics
import time
from typing import TYPE_CHECKING, Any

from trivium import tinylm
from trivium.cli import extras, loop, models, records
from trivium.cli.output import Output, add_common
from trivium.cli.progress import Progress
from trivium.grammar import GrammarMask
from trivium.voter import Voter

if TYPE_CHECKING:
    import argparse

    from trivium.voter import Question

__all__ = ["add_parser", "run"]

TEMPERATURE = 0.8
STOP = "beta:0.95"
BUDGET = 20

_FULL = {"prompts": 10, "passes": 3, "new_tokens": 96, "records": 16, "questions": 60}
_QUICK = {"prompts": 2, "passes": 1, "new_tokens": 24, "records": 2, "questions": 3}


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add ``demo`` to the command line."""
    parser = subparsers.add_parser(
        "demo",
        help="the three objects on the shipped model, with a table of the gains",
        description="Run the shipped model on held-out prompts. Exit code 1 if speculation changed "
        "a text by more than rounding inside the model, or if a record is invalid.",
    )
    models.add_options(parser)
    parser.add_argument("--quick", action="store_true", help="a few prompts only, for tests")
    add_common(parser)
    # Identity is compared here: in float64 the model's own rounding cannot decide a draw.
    parser.set_defaults(run=run, dtype="float64")


def run(args: argparse.Namespace) -> int:
    """Run ``demo``; the exit code is 1 if something is not as promised."""
    out = Output(args)
    extras.need("demo", but=("rich", "matplotlib"))
    began = time.perf_counter()
    sizes = _QUICK if args.quick else _FULL
    loaded = models.load(args.model, args.dtype, threads=args.threads)
    result: dict[str, Any] = {}
    try:
        result["code"] = {}
        for name, temperature in (("greedy", 0.0), ("sampled", TEMPERATURE)):
            result["code"][name] = _code(loaded, temperature, sizes, args.seed, out)
        result["records"] = _records(loaded, sizes, args.seed, out)
        result["votes"] = _votes(loaded, sizes, args.seed, out)
    except KeyboardInterrupt:
        _report(out, result)
        out.json(result | {"interrupted": True})
        raise
    result["host_rounding"] = sum(c["host_rounding"] for c in result["code"].values())
    result["bugs"] = sum(c["bugs"] for c in result["code"].values())
    result["seconds"] = round(time.perf_counter() - began, 1)
    result["environment"] = models.environment(
        loaded, dtype=args.dtype, seed=args.seed, quick=args.quick
    )
    _report(out, result)
    out.json(result)
    return 1 if result["bugs"] or result["records"]["valid"] < 1 else 0


def _code(
    loaded: models.Loaded, temperature: float, sizes: dict[str, int], seed: int, out: Output
) -> dict[str, Any]:
    """Plain and speculative runs of the code prompts, interleaved."""
    prompts = [case["prompt"] for case in tinylm.prompts("code")[: sizes["prompts"]]]
    runner = loop.Loop(
        loaded,
        loop.Settings(max_new_tokens=sizes["new_tokens"], temperature=temperature, seed=seed),
    )
    label = f"code at temperature {temperature:g}"
    times: list[tuple[list[float], list[float]]] = [([], []) for _ in prompts]
    compared: list[Any] = []
    tokens = calls = 0
    with Progress(label, len(prompts) * sizes["passes"] + 1, quiet=out.quiet) as bar:
        runner.pair(prompts[-1], runner.fresh())
        bar.step(note="warm-up")
        for turn in range(sizes["passes"]):
            speculator = runner.fresh()
            for prompt, (plain_times, fast_times) in zip(prompts, times, strict=True):
                plain, fast, difference = runner.pair(prompt, speculator, plain_first=turn % 2 == 0)
                plain_times.append(loop.wall(plain))
                fast_times.append(loop.wall(fast))
                tokens += fast.num_tokens
                calls += fast.num_target_calls
                compared += [difference] if difference else []
                bar.step(note=f"{tokens / calls:.2f} tokens a call")
    medians = [sum(statistics.median(pair[i]) for pair in times) for i in (0, 1)]
    verdict = loop.Compared(not compared, compared, tokens / calls, medians[0] / medians[1])
    return verdict.as_dict() | {
        "prompts": len(prompts),
        "runs": len(prompts) * sizes["passes"],
        "tokens": tokens,
        "plain_seconds": medians[0],
        "speculative_seconds": medians[1],
    }


def _records(
    loaded: models.Loaded, sizes: dict[str, int], seed: int, out: Output
) -> dict[str, Any]:
    """Sample records with drafts, under their JSON Schema."""
    cases = tinylm.prompts("records")[: sizes["records"]]
    settings = loop.Settings(max_new_tokens=400, temperature=TEMPERATURE, seed=seed)
    runner = loop.Loop(loaded, settings)
    vocab = loop.vocabulary(loaded)
    grammars: dict[str, GrammarMask] = {}
    valid = exact = tokens = calls = 0
    with Progress("records", len(cases), quiet=out.quiet) as bar:
        for case in cases:
            if case["kind"] not in grammars:
                schema = records.bounded(case["schema"])
                grammar = GrammarMask.json_schema(schema, vocab, whitespace="compact")
                grammars[case["kind"]] = grammar
            runner.constraint = grammars[case["kind"]]
            # JSON has no white space before it, and the model writes one after the colon.
            made = runner.run([case["prompt"] + " "])
            [text] = made.texts or [""]
            valid += grammars[case["kind"]].matches(text) and records.is_valid(text, case["schema"])
            exact += text.strip() == case["reference"].strip()
            tokens, calls = tokens + made.num_tokens, calls + made.num_target_calls
            bar.step(note=f"{valid} valid")
    return {
        "valid": valid / len(cases),
        "count": len(cases),
        "exact": exact / len(cases),
        "tokens_per_call": tokens / calls,
        "kinds": sorted(grammars),
    }


def _votes(loaded: models.Loaded, sizes: dict[str, int], seed: int, out: Output) -> dict[str, Any]:
    """One sample and a vote on the same questions.

    The accuracy of one sample is the mean over the traces that every question launches first, whose
    number does not depend on what they say.
    """
    cases = tinylm.prompts("arithmetic")[: sizes["questions"]]
    settings = loop.Settings(
        max_new_tokens=96, temperature=TEMPERATURE, seed=seed, stop_strings=("\n",)
    )
    runner = loop.Loop(loaded, settings, sources=None)
    voter = Voter(key="number", stop=[STOP], budget=BUDGET, seed=seed)
    opened = {voter.open(case["id"]): case for case in cases}
    keys: dict[int, dict[int, str | None]] = {int(q): {} for q in opened}

    def seen(question: Question, trace: int, text: str) -> None:
        keys[question][trace] = voter.key_of(text=text)

    with Progress("votes", len(cases), quiet=out.quiet) as bar:
        prompts = {q: case["prompt"] for q, case in opened.items()}
        first = loop.vote(runner, voter, prompts, seen=seen, decided=lambda _: bar.step())
    said = {q: voter.result(q) for q in opened}
    wanted = {q: voter.key_of(str(case["answer"])) for q, case in opened.items()}
    once = [keys[q][t] == wanted[q] for q in opened for t in range(first)]
    return {
        "single": statistics.fmean(once),
        "voted": statistics.fmean(said[q].winner == wanted[q] for q in opened),
        "mean_samples": statistics.fmean(r.cost.samples for r in said.values()),
        "mean_launched": statistics.fmean(r.cost.launched for r in said.values()),
        "questions": len(cases),
        "budget": BUDGET,
        "stop": STOP,
        "single_samples": first,
    }


def _report(out: Output, result: dict[str, Any]) -> None:
    """Print the table of what has been measured so far."""
    rows = []
    for name, label in (("greedy", "temperature 0"), ("sampled", f"temperature {TEMPERATURE}")):
        code = result.get("code", {}).get(name)
        if code is None:
            continue
        what = f"code, {label}"
        rows += [
            (what, "tokens per target call", f"{code['tokens_per_call']:.2f}"),
            (what, "plain time / speculative time", f"{code['wall_ratio']:.2f}"),
            (what, "identical", _identical(code)),
        ]
    if "records" in result:
        valid, count = result["records"]["valid"], result["records"]["count"]
        rows.append(("records", "valid under their schema", f"{valid:.0%} of {count}"))
    if "votes" in result:
        votes = result["votes"]
        what = f"arithmetic, {votes['questions']} questions"
        samples = f"{votes['mean_samples']:.1f} of {votes['budget']}"
        rows += [
            (what, "right with one sample", f"{votes['single']:.1%}"),
            (what, "right by vote", f"{votes['voted']:.1%}"),
            (what, "samples used, mean", samples),
        ]
    if rows:
        out.table("trivium demo", ("job", "measure", "value"), rows)
    for code in result.get("code", {}).values():
        for difference in code["differences"]:
            out.line(f"{difference['kind']}: {difference}")


def _identical(code: dict[str, Any]) -> str:
    if code["identical"]:
        return "yes"
    kinds = [f"{code[k]} {name}" for k, name in (("host_rounding", "rounding"), ("bugs", "BUG"))]
    return f"no, of {code['runs']} runs: {', '.join(kinds)}"
