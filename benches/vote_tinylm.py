"""Arithmetic by vote on the shipped model: what one sample, a vote and early stops get right.

Run ``python benches/vote_tinylm.py --questions 60``. Trace `t` of a question is the same text
under every rule (its noise is addressed by seed and trace); rules differ in how many they ask for.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from pathlib import Path

from trivium import Speculator, Voter, tinylm
from trivium.integrations.transformers import generate

RULES = ("majority", "locked", "beta:0.95", "best", "beta:0.95 + answer")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--questions", type=int, default=60)
    parser.add_argument("--budget", type=int, default=20)
    parser.add_argument("--temperature", type=float, default=0.8)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--rules", nargs="*", default=["one sample", *RULES])
    parser.add_argument("--threads", type=int, default=0, help="threads of torch (0: its default)")
    parser.add_argument("--json", metavar="PATH")
    args = parser.parse_args()
    model, tokenizer = tinylm.load()
    cases = tinylm.prompts("arithmetic")[: args.questions]
    prompts = [tokenizer(case["prompt"])["input_ids"] for case in cases]
    if args.threads:
        import torch

        torch.set_num_threads(args.threads)
    rows = {}
    for rule in args.rules:
        budget = 1 if rule == "one sample" else args.budget
        bare = rule == "majority"
        # The last rule also stops each trace once its answer is whole.
        early = rule.endswith(" + answer")
        stop = "majority" if rule == "one sample" else rule.removesuffix(" + answer")
        voter = Voter(key="number", stop=stop, budget=budget, bare=bare, finish_on_answer=early)
        start = time.perf_counter()
        out = generate(
            model,
            prompts,
            voter=voter,
            tokenizer=tokenizer,
            speculator=Speculator(model.config.vocab_size),
            temperature=args.temperature,
            max_new_tokens=96,
            seed=args.seed,
        )
        wanted = [voter.key_of(str(case["answer"])) for case in cases]
        right = [r.winner == w for r, w in zip(out.votes, wanted, strict=True)]
        if rule == "majority":
            # Every trace is a sample of the model: their mean says more than trace 0 alone.
            hits = [voter.key_of(text=t.text) == wanted[t.prompt] for t in out.traces]
            rows["mean of single samples"] = {
                "accuracy": 100 * statistics.fmean(hits),
                "samples": 1.0,
                "tokens": out.num_tokens / len(out.traces),
                "tokens_per_call": out.tokens_per_call,
            }
        rows[rule] = {
            "accuracy": 100 * statistics.fmean(right),
            "samples": statistics.fmean(r.cost.samples for r in out.votes),
            "tokens": out.num_tokens / len(cases),
            "tokens_per_call": out.tokens_per_call,
            "seconds": time.perf_counter() - start,
        }
    print(f"{'rule':24s} {'accuracy':>8s} {'samples':>8s} {'tokens':>8s} {'a call':>7s}")
    for rule, row in rows.items():
        print(
            f"{rule:24s} {row['accuracy']:8.1f} {row['samples']:8.2f} {row['tokens']:8.0f} "
            f"{row['tokens_per_call']:7.2f}"
        )
    if args.json:
        text = json.dumps({"questions": len(cases), "rules": rows}, indent=1)
        Path(args.json).write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
