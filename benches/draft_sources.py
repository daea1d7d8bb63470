"""Tokens a target pass of every drafter of `generate` on the shipped model, same prompts and seed.

Counts are exact for the seed and do not depend on the machine. Trained parts are missing: early
exits read the model's own output layer, and heads are left out.
Run: ``python benches/draft_sources.py [TOKENS]``.
"""

from __future__ import annotations

import sys

import torch
from trivium import Speculator, tinylm
from trivium.integrations._transformers.quantized import quantized
from trivium.integrations.transformers import (
    DraftModel,
    EarlyExit,
    LayerSkip,
    Lookahead,
    Retrieval,
    generate,
)


def main(tokens: int) -> None:
    """Print one row a drafter."""
    torch.set_num_threads(1)
    target, tokenizer = tinylm.load("target")
    draft, _ = tinylm.load("draft")
    vocab = target.config.vocab_size
    prompts = [
        tokenizer(case["prompt"])["input_ids"]
        for kind in tinylm.KINDS
        for case in tinylm.prompts(kind)[:4]
    ]
    inner = Speculator(vocab, sources=["suffix"], max_nodes=6, policy="full")
    rows = {
        "no drafter": None,
        "draft model": DraftModel(draft),
        "draft model, staged": DraftModel(draft, inner=inner),
        "draft model, RASD over the stores": DraftModel(draft, retrieval=Retrieval(max_nodes=16)),
        "rounded weights (4 bits)": DraftModel(quantized(target)),
        "early exit after 4 layers": EarlyExit(4, policy=None),
        "early exit after 5 layers, Kangaroo's stop": EarlyExit(5),
        "early exit, DEL over 3, 4, 5": EarlyExit([3, 4, 5], policy=None),
        "layers left out, SWIFT": LayerSkip("swift", ratio=0.3),
        "layers left out, CLaSp": LayerSkip("clasp", ratio=0.2),
        "lookahead window 7, N = 5": Lookahead(),
    }
    print(f"{len(prompts)} prompts, {tokens} tokens")
    for name, settings in rows.items():
        cells = []
        for temperature in (0.0, 0.8):
            for sources in ([], "auto"):
                spec = Speculator(vocab, sources=sources, max_nodes=16, policy="full")
                out = generate(
                    target,
                    prompts,
                    speculator=spec,
                    draft_model=settings,
                    temperature=temperature,
                    max_new_tokens=tokens,
                    eos_token_id=[],
                    keep=False,
                    seed=1,
                )
                cells.append(f"{out.tokens_per_call:.2f}")
        print("|", " | ".join([name, *cells]), "|", flush=True)


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 48)
