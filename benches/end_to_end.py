"""tinylm end to end: trivium against transformers' own speculation, in one process.

    python benches/end_to_end.py [--prompts 4] [--warm 8] [--tokens 96] [--rounds 5] [--json PATH]

Every engine continues the same held-out prompts (code, records, arithmetic) with the same target
model, float32, one thread, one request at a time, at temperature 0 and 0.8. Rounds are interleaved:
each engine runs a prompt before any runs the next, and every engine goes first in turn. Reported:

- tokens per target pass, the prefill counted as a pass for all, and passes of the draft model per
  target pass, counted by hooks on the models;
- the plain loop's time over the engine's, medians over prompts of the fastest of the rounds, in
  processor time of the one thread, which other programs of the machine do not lengthen.

Engines: transformers' greedy or sampling loop (``plain``, the yardstick of time), its prompt lookup
(10 tokens) and its assisted generation with the shipped draft model (its defaults); trivium's loop
without drafts, with stores that start empty for every prompt (``cold``), with stores that the texts
of other prompts of the kind taught before (``warm``), and each with the draft model. Speculators
and draft settings live as long as the run, as in a server: they learn what passes cost. At
temperature 0 all texts are equal up to rounding of the model; how many were is in the JSON.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from pathlib import Path
from typing import Any

from trivium import Speculator, tinylm
from trivium.integrations.transformers import DraftModel, generate

ENGINES = (
    "transformers plain",
    "transformers prompt_lookup",
    "transformers assisted",
    "trivium plain",
    "trivium cold",
    "trivium warm",
    "trivium cold + draft model",
    "trivium warm + draft model",
)


class Passes:
    """Counts forward passes of a model."""

    def __init__(self, model: Any) -> None:
        self.count = 0
        model.register_forward_pre_hook(self._add)

    def _add(self, *_: Any) -> None:
        self.count += 1

    def take(self) -> int:
        count, self.count = self.count, 0
        return count


class Bench:
    """Models, stores and one run of one engine."""

    def __init__(self, tokens: int) -> None:
        import torch
        import transformers

        torch.set_num_threads(1)
        transformers.utils.logging.set_verbosity_error()
        self.torch, self.tokens = torch, tokens
        self.target, self.tokenizer = tinylm.load("target")
        self.draft, _ = tinylm.load("draft")
        self.passes, self.drafts = Passes(self.target), Passes(self.draft)
        self.stores: dict[float, Speculator] = {}
        self.cold: dict[float, Speculator] = {}
        self.drafters: dict[tuple[str, float], DraftModel] = {}

    def speculator(self, engine: str, temperature: float) -> Speculator | None:
        if "plain" in engine:
            return None
        if "cold" in engine:  # nothing is kept of any text
            return self.cold[temperature]
        return self.stores[temperature]

    def _fresh(self) -> Speculator:
        return Speculator(self.target.config.vocab_size, max_nodes=32)

    def teach(self, prompts: list[list[int]], temperature: float) -> None:
        """Fill stores with texts of prompts that are not measured."""
        self.drafters = {}
        self.cold[temperature], spec = self._fresh(), self._fresh()
        for i, prompt in enumerate(prompts):
            generate(
                self.target,
                [prompt],
                speculator=spec,
                max_new_tokens=self.tokens,
                temperature=temperature,
                seed=10_000 + i,
            )
        self.stores[temperature] = spec

    def run(self, engine: str, prompt: list[int], temperature: float, seed: int) -> Any:
        """New tokens, passes and seconds."""
        torch = self.torch
        self.passes.take()
        self.drafts.take()
        start = time.process_time()
        if engine.startswith("transformers"):
            torch.manual_seed(seed)
            options: dict[str, Any] = {"do_sample": temperature > 0}
            if temperature > 0:
                options.update(temperature=temperature, top_k=0, top_p=1.0)
            if "prompt_lookup" in engine:
                options["prompt_lookup_num_tokens"] = 10
            if "assisted" in engine:
                options["assistant_model"] = self.draft
            ids = torch.tensor([prompt])
            with torch.inference_mode():
                out = self.target.generate(
                    ids,
                    attention_mask=torch.ones_like(ids),
                    max_new_tokens=self.tokens,
                    pad_token_id=0,
                    **options,
                )
            new = out[0, len(prompt) :].tolist()
        else:
            drafts = None
            if "draft model" in engine:
                drafts = self.drafters.setdefault(
                    (engine, temperature), DraftModel(self.draft, num_tokens=20)
                )
            new = generate(
                self.target,
                [prompt],
                speculator=self.speculator(engine, temperature),
                draft_model=drafts,
                max_new_tokens=self.tokens,
                temperature=temperature,
                seed=seed,
                keep=False,  # a repeated prompt must not meet its own text
            ).new_tokens[0]
        seconds = time.process_time() - start
        return new, self.passes.take(), seconds, self.drafts.take()


def measure(prompts: int, warm: int, tokens: int, rounds: int) -> list[dict[str, Any]]:
    bench = Bench(tokens)
    results = []
    for temperature in (0.0, 0.8):
        for kind in tinylm.KINDS:
            cases = [case["prompt"] for case in tinylm.prompts(kind)[: prompts + warm]]
            room = 510 - tokens
            texts, others = (
                [bench.tokenizer(t)["input_ids"][-room:] for t in part]
                for part in (cases[:prompts], cases[prompts:])
            )
            bench.teach(others, temperature)
            runs: dict[str, list[list[Any]]] = {e: [[] for _ in texts] for e in ENGINES}
            for round_ in range(rounds + 1):
                for i, ids in enumerate(texts):
                    for j in range(len(ENGINES)):
                        engine = ENGINES[(i + round_ + j) % len(ENGINES)]
                        run = bench.run(engine, ids, temperature, seed=i)
                        if round_:  # the first warms up
                            runs[engine][i].append(run)
                print(
                    f"\r{kind} at {temperature}: round {round_}/{rounds}", end="", file=sys.stderr
                )
            print(file=sys.stderr)
            plain = runs["transformers plain"]
            for engine in ENGINES:
                fastest = [min(r[2] for r in runs_) for runs_ in runs[engine]]
                base = [min(r[2] for r in runs_) for runs_ in plain]
                count = sum(len(runs_[-1][0]) for runs_ in runs[engine])
                passes = sum(runs_[-1][1] for runs_ in runs[engine])
                results.append(
                    {
                        "temperature": temperature,
                        "kind": kind,
                        "engine": engine,
                        "tokens_per_pass": count / passes,
                        "draft_passes_per_pass": sum(r[-1][3] for r in runs[engine]) / passes,
                        "speedup": statistics.median(
                            b / f for b, f in zip(base, fastest, strict=True)
                        ),
                        "ms_per_token": 1e3 * sum(fastest) / count,
                        "equal_to_plain": sum(
                            a[-1][0] == b[-1][0] for a, b in zip(runs[engine], plain, strict=True)
                        ),
                        "prompts": len(texts),
                    }
                )
    return results


def table(results: list[dict[str, Any]]) -> str:
    """Tokens a pass and speed-up by engine, a column a temperature and kind."""
    columns = list(dict.fromkeys((r["temperature"], r["kind"]) for r in results))
    by = {(r["temperature"], r["kind"], r["engine"]): r for r in results}
    head = " | ".join(f"{kind}, T={t:g}" for t, kind in columns)
    lines = [f"| engine | {head} |", "|:--" * (1 + len(columns)) + "|"]
    for engine in ENGINES:
        cells = [
            f"{by[*c, engine]['tokens_per_pass']:.2f} / {by[*c, engine]['speedup']:.2f}x"
            f" / {by[*c, engine]['draft_passes_per_pass']:.1f}"
            for c in columns
        ]
        lines.append(f"| {engine} | {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--prompts", type=int, default=4, help="of each kind")
    parser.add_argument("--warm", type=int, default=8, help="other prompts that teach the stores")
    parser.add_argument("--tokens", type=int, default=96, help="new tokens a prompt")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    results = measure(args.prompts, args.warm, args.tokens, args.rounds)
    print("tokens a target pass / speed-up over transformers plain / draft passes a target pass")
    print(table(results))
    if args.json:
        options = vars(args) | {"json": None}
        args.json.write_text(json.dumps({"options": options, "results": results}))


if __name__ == "__main__":
    main()
