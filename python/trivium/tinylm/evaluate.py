"""Measure a checkpoint: ``python -m trivium.tinylm.evaluate``.

Reports the loss on held-out rows of each kind, the share of held-out arithmetic problems whose
sampled answer is right, the same share after a plurality vote over several samples, and the share
of records that are copied without an error. The output is one JSON object.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from transformers import AutoTokenizer, LlamaForCausalLM

from trivium import tinylm
from trivium.tinylm import material, problems
from trivium.tinylm.train import heldout_losses

if TYPE_CHECKING:
    from collections.abc import Iterable

    import numpy as np
    from numpy.typing import NDArray
    from transformers import PreTrainedTokenizerFast

__all__ = ["agreement", "arithmetic_accuracy", "main", "record_accuracy", "sample"]

_STOP = (0, 1)


def _vote(answers: Iterable[int | None]) -> int | None:
    counts = Counter(answer for answer in answers if answer is not None)
    return counts.most_common(1)[0][0] if counts else None


def sample(
    model: LlamaForCausalLM,
    tokenizer: PreTrainedTokenizerFast,
    texts: list[str],
    *,
    max_new_tokens: int,
    temperature: float,
    generator: torch.Generator,
    num_samples: int = 1,
) -> list[list[str]]:
    """Sample continuations of several prompts in one batch.

    Rows that have ended leave the batch, so the cost follows the text that is produced.

    Parameters
    ----------
    model : transformers.LlamaForCausalLM
        Model in evaluation mode.
    tokenizer : transformers.PreTrainedTokenizerFast
        Its tokenizer.
    texts : list of str
        Prompts.
    max_new_tokens : int
        Limit of the continuation.
    temperature : float
        Sampling temperature; 0 takes the most likely token.
    generator : torch.Generator
        Source of randomness.
    num_samples : int
        Continuations of each prompt.

    Returns
    -------
    list of list of str
        For each prompt its continuations, without the end token.
    """
    encoded = [tokenizer(text, add_special_tokens=False)["input_ids"] for text in texts]
    width = max(map(len, encoded))
    ids = torch.tensor([[2] * (width - len(row)) + row for row in encoded])
    mask = torch.tensor([[0] * (width - len(row)) + [1] * len(row) for row in encoded])
    ids = ids.repeat_interleave(num_samples, 0).to(model.device)
    mask = mask.repeat_interleave(num_samples, 0).to(model.device)
    produced: list[list[int]] = [[] for _ in range(len(ids))]
    alive = torch.arange(len(ids))
    cache = None
    positions = (mask.cumsum(1) - 1).clamp_min(0)
    for _ in range(max_new_tokens):
        with torch.inference_mode():
            out = model(
                input_ids=ids,
                attention_mask=mask,
                position_ids=positions,
                past_key_values=cache,
                use_cache=True,
                logits_to_keep=1,
            )
        cache = out.past_key_values
        logits = out.logits[:, -1].float().cpu()
        if temperature > 0:
            law = (logits / temperature).softmax(-1)
            chosen = torch.multinomial(law, 1, generator=generator)[:, 0]
        else:
            chosen = logits.argmax(-1)
        keep = [i for i, token in enumerate(chosen.tolist()) if token not in _STOP]
        for i in keep:
            produced[int(alive[i])].append(int(chosen[i]))
        if not keep:
            break
        rows = torch.tensor(keep)
        alive, ids = alive[rows], chosen[rows, None].to(model.device)
        rows = rows.to(model.device)
        mask = torch.cat([mask[rows], mask.new_ones(len(keep), 1)], 1)
        positions = positions[rows, -1:] + 1
        cache.batch_select_indices(rows)
    decoded = [tokenizer.decode(row) for row in produced]
    return [decoded[i : i + num_samples] for i in range(0, len(decoded), num_samples)]


def arithmetic_accuracy(
    model: LlamaForCausalLM,
    tokenizer: PreTrainedTokenizerFast,
    cases: list[problems.Problem],
    *,
    num_samples: int,
    temperature: float,
    seed: int,
) -> dict[str, Any]:
    """Share of right answers on problems, alone and after a vote.

    Parameters
    ----------
    model : transformers.LlamaForCausalLM
        Model in evaluation mode.
    tokenizer : transformers.PreTrainedTokenizerFast
        Its tokenizer.
    cases : list of Problem
        Problems with gold answers.
    num_samples : int
        Samples of each problem.
    temperature : float
        Sampling temperature.
    seed : int
        Seed of the sampling.

    Returns
    -------
    dict
        ``num_problems``, ``num_samples``, ``single`` (mean over all samples), ``vote``
        (plurality of all samples of a problem) and ``greedy``.
    """
    generator = torch.Generator().manual_seed(seed)
    single, voted, greedy = 0.0, 0, 0
    chunk = max(1, 160 // num_samples)
    for at in range(0, len(cases), chunk):
        part = cases[at : at + chunk]
        texts = [case.prompt for case in part]
        sampled = sample(
            model,
            tokenizer,
            texts,
            max_new_tokens=96,
            temperature=temperature,
            generator=generator,
            num_samples=num_samples,
        )
        best = sample(
            model, tokenizer, texts, max_new_tokens=96, temperature=0.0, generator=generator
        )
        for case, answers, top in zip(part, sampled, best, strict=True):
            read = [problems.extract_answer(answer) for answer in answers]
            single += sum(answer == case.answer for answer in read) / num_samples
            voted += _vote(read) == case.answer
            greedy += problems.extract_answer(top[0]) == case.answer
    return {
        "num_problems": len(cases),
        "num_samples": num_samples,
        "single": round(single / len(cases), 4),
        "vote": round(voted / len(cases), 4),
        "greedy": round(greedy / len(cases), 4),
    }


def record_accuracy(
    model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, *, temperature: float, seed: int
) -> dict[str, Any]:
    """Share of the shipped record prompts that give a JSON text, and the expected record.

    Parameters
    ----------
    model : transformers.LlamaForCausalLM
        Model in evaluation mode.
    tokenizer : transformers.PreTrainedTokenizerFast
        Its tokenizer.
    temperature : float
        Sampling temperature.
    seed : int
        Seed of the sampling.

    Returns
    -------
    dict
        ``num_prompts``, ``parses`` and ``exact``.
    """
    cases = tinylm.prompts("records")
    texts = sample(
        model,
        tokenizer,
        [case["prompt"] for case in cases],
        max_new_tokens=160,
        temperature=temperature,
        generator=torch.Generator().manual_seed(seed),
    )
    parses = exact = 0
    for case, [text] in zip(cases, texts, strict=True):
        try:
            value = json.loads(text.strip().split("\n")[0])
        except ValueError:
            continue
        parses += 1
        exact += value == json.loads(case["reference"])
    return {
        "num_prompts": len(cases),
        "parses": round(parses / len(cases), 4),
        "exact": round(exact / len(cases), 4),
    }


def agreement(
    draft: LlamaForCausalLM,
    target: LlamaForCausalLM,
    streams: dict[str, NDArray[np.int16]],
    row_len: int = 512,
) -> dict[str, dict[str, float]]:
    """How far a draft law agrees with a target law on held-out text.

    ``overlap`` is the mean of ``Σ min(p, q)``, the chance that one drafted token is accepted at
    temperature 1; ``top`` is the share of positions where both have the same most likely token.

    Parameters
    ----------
    draft, target : transformers.LlamaForCausalLM
        Models with the same tokenizer.
    streams : dict of str to int16 array, shape (tokens,)
        Held-out tokens of each kind.
    row_len : int
        Row length.

    Returns
    -------
    dict of str to dict
        ``overlap`` and ``top`` of each kind.
    """
    result = {}
    for kind, stream in streams.items():
        rows = torch.from_numpy(stream[: len(stream) // row_len * row_len].astype("int64"))
        overlap, top = [], []
        for row in rows.view(-1, row_len).split(1):
            with torch.inference_mode():
                p, q = target(row).logits.softmax(-1), draft(row).logits.softmax(-1)
            overlap.append(float(torch.minimum(p, q).sum(-1).mean()))
            top.append(float((p.argmax(-1) == q.argmax(-1)).float().mean()))
        result[kind] = {
            "overlap": round(sum(overlap) / len(overlap), 4),
            "top": round(sum(top) / len(top), 4),
        }
    return result


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m trivium.tinylm.evaluate", description=__doc__)
    parser.add_argument("--model", type=Path, default=tinylm.path("target"), help="checkpoint")
    parser.add_argument("--num-problems", type=int, default=100, help="problems of each level")
    parser.add_argument("--num-samples", type=int, default=20, help="samples of each problem")
    parser.add_argument("--levels", type=int, nargs="*", default=list(problems.LEVELS))
    parser.add_argument("--temperature", type=float, default=0.8)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--heldout-tokens", type=int, default=16_384)
    parser.add_argument("--target", type=Path, default=None, help="judge agreement with this one")
    parser.add_argument("--json", type=Path, default=None, help="output file; standard output")
    return parser


def main(argv: list[str] | None = None) -> int:
    """Run the evaluation command.

    Parameters
    ----------
    argv : list of str, optional
        Arguments; those of the process when absent.

    Returns
    -------
    int
        Exit code.
    """
    args = _parser().parse_args(argv)
    torch.set_num_threads(args.threads)
    started = time.monotonic()
    tokenizer = AutoTokenizer.from_pretrained(args.model)
    model = LlamaForCausalLM.from_pretrained(args.model, dtype=torch.float32).eval()
    heldout = {
        kind: material.encode(tokenizer, kind, 0, args.heldout_tokens, heldout=True)
        for kind in material.MIXTURE
    }
    result: dict[str, Any] = {
        "num_parameters": model.num_parameters(),
        "temperature": args.temperature,
        "losses": heldout_losses(model, heldout),
        "arithmetic": {
            str(level): arithmetic_accuracy(
                model,
                tokenizer,
                problems.generate(args.seed + 77, args.num_problems, "heldout", level),
                num_samples=args.num_samples,
                temperature=args.temperature,
                seed=args.seed,
            )
            for level in args.levels
        },
    }
    if args.num_problems and (Path(tinylm.__file__).parent / "prompts" / "records.json").exists():
        result["records"] = {
            str(t): record_accuracy(model, tokenizer, temperature=t, seed=args.seed)
            for t in (0.0, args.temperature)
        }
    if args.target is not None:
        target = LlamaForCausalLM.from_pretrained(args.target, dtype=torch.float32).eval()
        result["agreement"] = agreement(model, target, heldout)
    result["minutes"] = round((time.monotonic() - started) / 60, 2)
    text = json.dumps(result, indent=1) + "\n"
    if args.json:
        args.json.write_text(text, encoding="utf-8")
    else:
        sys.stdout.write(text)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
