"""Rebuild the shipped checkpoints: ``python -m trivium.tinylm.train``.

The target is trained on the mixture of `trivium.tinylm.material`; the draft is trained on the same
streams, first on the text and then also on the target's distribution. Hidden matrices are updated
by Muon, embeddings and norms by AdamW; the rate falls linearly to zero over the second half. The
number of tokens fixes the schedule; when a machine is too slow for the budget in minutes, the rest
of the schedule is compressed into the time that is left, so the rate always reaches zero.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import platform
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch.nn import functional
from transformers import AutoTokenizer, GenerationConfig, LlamaConfig, LlamaForCausalLM

from trivium.tinylm import material

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray
    from transformers import PreTrainedTokenizerFast

__all__ = ["Run", "build_model", "main", "save_checkpoint", "train_model"]

log = logging.getLogger("trivium.tinylm")

SHAPES: dict[str, dict[str, int]] = {
    "target": {
        "hidden_size": 192,
        "intermediate_size": 512,
        "num_hidden_layers": 6,
        "num_attention_heads": 6,
        "num_key_value_heads": 2,
    },
    "draft": {
        "hidden_size": 64,
        "intermediate_size": 128,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
    },
}
_CONTEXT = 512


@dataclass(frozen=True)
class Run:
    """Settings of one training run.

    Attributes
    ----------
    which : {"target", "draft"}
        Model to train.
    num_tokens : int
        Tokens of the whole schedule.
    minutes : float
        Wall-clock budget; the schedule is compressed when it would be exceeded.
    rows, row_len : int
        Batch shape of the last third; the part before it has rows of half the length, twice as
        many.
    seed : int
        Seed of weights, material and order.
    muon_rate, adam_rate : float
        Peak rates of hidden matrices and of embeddings and norms.
    distil_from : float
        Share of the schedule after which the draft also learns the target's distribution.
    save_minutes : float
        Time between intermediate checkpoints.
    peak : float
        Factor of both rates; below 1 for a run that continues an earlier one.
    fall : float
        Share of the schedule over which the rates fall to zero.
    compile : bool
        Whether the step is compiled by torch.
    """

    which: str
    num_tokens: int
    minutes: float
    rows: int = 8
    row_len: int = _CONTEXT
    seed: int = 0
    muon_rate: float = 0.02
    adam_rate: float = 4e-3
    distil_from: float = 1.0
    save_minutes: float = 6.0
    peak: float = 1.0
    fall: float = 0.6
    compile: bool = True


def build_model(which: str, seed: int) -> LlamaForCausalLM:
    """Create an untrained model of the shipped shape.

    Parameters
    ----------
    which : {"target", "draft"}
        Key of the shape.
    seed : int
        Seed of the weights.

    Returns
    -------
    transformers.LlamaForCausalLM
        Model in float32 with tied embeddings.
    """
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=material.VOCAB_SIZE,
        max_position_embeddings=_CONTEXT,
        tie_word_embeddings=True,
        rms_norm_eps=1e-5,
        bos_token_id=0,
        eos_token_id=0,
        pad_token_id=2,
        **SHAPES[which],
    )
    return LlamaForCausalLM(config)


def _save_tokenizer(tokenizer: PreTrainedTokenizerFast, folder: Path) -> None:
    """Write the tokenizer files in the form that every version of transformers reads."""
    tokenizer.backend_tokenizer.save(str(folder / "tokenizer.json"))
    config = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": material.EOS,
        "eos_token": material.EOS,
        "pad_token": material.PAD,
        "additional_special_tokens": [material.END],
        "model_input_names": ["input_ids", "attention_mask"],
        "clean_up_tokenization_spaces": False,
        "model_max_length": _CONTEXT,
    }
    text = json.dumps(config, indent=2) + "\n"
    (folder / "tokenizer_config.json").write_text(text, encoding="utf-8")


def save_checkpoint(
    model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, folder: Path, facts: dict[str, Any]
) -> None:
    """Write a checkpoint folder, each file replaced in one step.

    Parameters
    ----------
    model : transformers.LlamaForCausalLM
        Model whose weights are stored as float16.
    tokenizer : transformers.PreTrainedTokenizerFast
        Tokenizer stored beside it.
    folder : Path
        Destination.
    facts : dict
        Content of ``train_log.json``.
    """
    folder.mkdir(parents=True, exist_ok=True)
    config = LlamaConfig(**{**model.config.to_dict(), "dtype": "float16"})
    half = LlamaForCausalLM(config).half()
    half.load_state_dict({k: v.detach().cpu().half() for k, v in model.state_dict().items()})
    half.generation_config = GenerationConfig(bos_token_id=0, eos_token_id=[0, 1], pad_token_id=2)
    with tempfile.TemporaryDirectory(dir=folder.parent) as scratch:
        half.save_pretrained(scratch)
        _save_tokenizer(tokenizer, Path(scratch))
        text = json.dumps(facts, indent=1) + "\n"
        (Path(scratch) / "train_log.json").write_text(text, encoding="utf-8")
        for file in sorted(Path(scratch).iterdir()):
            file.chmod(0o644)
            file.replace(folder / file.name)


class _Batches:
    """Rows of the mixture: each stream is cut into rows and reshuffled in every epoch."""

    def __init__(self, streams: dict[str, NDArray[np.int16]], seed: int, question_end: int) -> None:
        self._streams = streams
        self._rng = np.random.default_rng(seed)
        self._queues: dict[tuple[str, int], list[int]] = {}
        self._question_end = question_end

    def _row(self, kind: str, row_len: int) -> NDArray[np.int16]:
        queue = self._queues.setdefault((kind, row_len), [])
        if not queue:
            last = len(self._streams[kind]) - row_len
            starts = np.arange(int(self._rng.integers(row_len)) % max(last, 1), last, row_len)
            queue.extend(self._rng.permutation(starts).tolist())
        at = queue.pop()
        return self._streams[kind][at : at + row_len]

    def draw(self, num_rows: int, row_len: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Token ids and loss weights, shape (num_rows, row_len)."""
        kinds = list(self._streams)
        shares = np.array([material.MIXTURE[kind] for kind in kinds])
        rows, weights = [], []
        for kind in map(str, self._rng.choice(kinds, size=num_rows, p=shares)):
            row = self._row(kind, row_len)
            rows.append(row)
            weights.append(material.loss_weights(kind, row[None], self._question_end)[0])
        ids = torch.from_numpy(np.stack(rows).astype(np.int64))
        return ids, torch.from_numpy(np.stack(weights))


def _loss(
    model: LlamaForCausalLM,
    ids: torch.Tensor,
    weights: torch.Tensor,
    teacher: torch.Tensor | None = None,
) -> torch.Tensor:
    logits = model(input_ids=ids, use_cache=False).logits[:, :-1].float()
    flat = logits.reshape(-1, logits.shape[-1])
    share = weights[:, 1:].reshape(-1)
    share = share / share.sum()
    loss = (functional.cross_entropy(flat, ids[:, 1:].reshape(-1), reduction="none") * share).sum()
    if teacher is None:
        return loss
    soft = functional.cross_entropy(flat, teacher.reshape(-1, teacher.shape[-1]), reduction="none")
    return 0.1 * loss + 0.9 * (soft * share).sum()


def heldout_losses(
    model: LlamaForCausalLM, streams: dict[str, NDArray[np.int16]], row_len: int = _CONTEXT
) -> dict[str, float]:
    """Mean loss in nats per token on held-out rows of each kind.

    Parameters
    ----------
    model : transformers.LlamaForCausalLM
        Model to judge.
    streams : dict of str to int16 array, shape (tokens,)
        Held-out tokens of each kind.
    row_len : int
        Row length.

    Returns
    -------
    dict of str to float
        Loss of each kind.
    """
    losses = {}
    for kind, stream in streams.items():
        num_rows = max(1, len(stream) // row_len)
        rows = torch.from_numpy(stream[: num_rows * row_len].astype(np.int64)).view(num_rows, -1)
        ones = torch.ones(1, row_len, device=model.device)
        with torch.no_grad():
            parts = [float(_loss(model, part.to(model.device), ones)) for part in rows.split(1)]
        losses[kind] = round(sum(parts) / len(parts), 4)
    return losses


def _optimizers(model: LlamaForCausalLM, run: Run) -> list[torch.optim.Optimizer]:
    hidden: list[torch.Tensor] = []
    other: list[torch.Tensor] = []
    for name, parameter in model.named_parameters():
        is_matrix = parameter.ndim == 2 and "embed" not in name and "lm_head" not in name
        (hidden if is_matrix else other).append(parameter)
    return [
        torch.optim.Muon(hidden, lr=run.muon_rate * run.peak, weight_decay=0.02, momentum=0.95),
        torch.optim.AdamW(
            other, lr=run.adam_rate * run.peak, betas=(0.9, 0.95), weight_decay=0.0, fused=True
        ),
    ]


def _rate(progress: float, fall: float) -> float:
    """Schedule: short rise, plateau, linear fall to zero over the share `fall`."""
    return min(1.0, progress / 0.01 + 0.02, (1.0 - progress) / fall + 1e-3)


def train_model(
    run: Run,
    streams: dict[str, NDArray[np.int16]],
    heldout: dict[str, NDArray[np.int16]],
    save: Callable[[LlamaForCausalLM, dict[str, Any]], None],
    device: str,
    question_end: int,
    teacher: LlamaForCausalLM | None = None,
    start: LlamaForCausalLM | None = None,
) -> tuple[LlamaForCausalLM, dict[str, Any]]:
    """Train one model.

    Parameters
    ----------
    run : Run
        Settings.
    streams, heldout : dict of str to int16 array, shape (tokens,)
        Tokens of each kind on both sides of the split.
    save : callable
        Receives the model and the facts so far at each checkpoint.
    device : str
        Torch device.
    question_end : int
        Token that ends the question of a word problem.
    teacher : transformers.LlamaForCausalLM, optional
        Model whose distribution is learned after `Run.distil_from` of the schedule.
    start : transformers.LlamaForCausalLM, optional
        Model to continue from; a fresh one when absent.

    Returns
    -------
    model : transformers.LlamaForCausalLM
        Trained model in float32.
    facts : dict
        Tokens, minutes, losses and the curve.
    """
    model = (start or build_model(run.which, run.seed)).to(device).train()
    loss_fn = torch.compile(_loss, dynamic=False) if run.compile else _loss
    optimizers = _optimizers(model, run)
    peaks = [group["lr"] for opt in optimizers for group in opt.param_groups]
    started = time.monotonic()
    seen, last_save, last_log, mean = 0, started, started, 0.0
    curve: list[dict[str, Any]] = []

    def facts() -> dict[str, Any]:
        return {
            "settings": asdict(run),
            "tokens_trained": seen,
            "minutes": round((time.monotonic() - started) / 60, 2),
            "curve": curve,
        }

    batches = _Batches(streams, run.seed, question_end)
    while True:
        now = time.monotonic()
        progress = max(seen / run.num_tokens, (now - started) / (60 * run.minutes))
        if progress >= 1.0:
            break
        groups = [group for opt in optimizers for group in opt.param_groups]
        for group, peak in zip(groups, peaks, strict=True):
            group["lr"] = peak * _rate(progress, run.fall)
        halves = 2 if progress < 2 / 3 else 1
        ids, weights = batches.draw(run.rows * halves, run.row_len // halves)
        ids, weights = ids.to(device), weights.to(device)
        with torch.autocast(device, torch.bfloat16):
            if teacher is not None and progress >= run.distil_from:
                with torch.no_grad():
                    soft = teacher(input_ids=ids, use_cache=False).logits[:, :-1].softmax(-1)
                loss = loss_fn(model, ids, weights, soft.float())
            else:
                loss = loss_fn(model, ids, weights)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for opt in optimizers:
            opt.step()
            opt.zero_grad()
        seen += ids.numel()
        value = float(loss.detach())
        mean = value if not mean else 0.95 * mean + 0.05 * value
        if now - last_log > 15:
            last_log = now
            speed = seen / (now - started)
            log.info("%s %5.1f %% loss %.3f, %.0f tokens/s", run.which, 100 * progress, mean, speed)
        if now - last_save > 60 * run.save_minutes:
            last_save = now
            few = {kind: stream[: 8 * _CONTEXT] for kind, stream in heldout.items()}
            with torch.autocast(device, torch.bfloat16):
                point = {"tokens": seen, "losses": heldout_losses(model, few)}
            curve.append(point)
            log.info("%s %s", run.which, point)
            save(model, facts())
    curve.append({"tokens": seen, "losses": heldout_losses(model, heldout)})
    log.info("%s %s", run.which, curve[-1])
    save(model, facts())
    return model, facts()


def _hardware(device: str) -> dict[str, Any]:
    name = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if device == "cuda":
        name = torch.cuda.get_device_name()
    elif info.exists():
        lines = [x for x in info.read_text().splitlines() if x.startswith("model name")]
        name = lines[0].split(":", 1)[1].strip() if lines else name
    return {
        "device": name,
        "threads": torch.get_num_threads(),
        "python": platform.python_version(),
        "torch": torch.__version__.split("+")[0],
    }


def _streams(
    tokenizer: PreTrainedTokenizerFast, seed: int, heldout_seed: int, size: int, *, smoke: bool
) -> tuple[dict[str, NDArray[np.int16]], dict[str, NDArray[np.int16]]]:
    """Training and held-out tokens of each kind."""
    heldout_tokens = 512 if smoke else 16_384
    train, heldout = {}, {}
    for kind, share in material.MIXTURE.items():
        train[kind] = material.encode(tokenizer, kind, seed, int(size * share * 1.1) + 4096)
        heldout[kind] = material.encode(tokenizer, kind, heldout_seed, heldout_tokens, heldout=True)
    return train, heldout


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m trivium.tinylm.train", description=__doc__)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent, help="output folder")
    parser.add_argument("--minutes", type=float, default=55.0, help="budget of the target")
    parser.add_argument("--draft-minutes", type=float, default=8.0, help="budget of the draft")
    parser.add_argument("--tokens", type=int, default=20_000_000, help="tokens of the target")
    parser.add_argument("--draft-tokens", type=int, default=8_000_000, help="tokens of the draft")
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto")
    parser.add_argument("--only", choices=("both", "target", "draft"), default="both")
    parser.add_argument("--resume", action="store_true", help="continue the target in --out")
    parser.add_argument("--no-compile", action="store_true", help="do not compile the step")
    parser.add_argument("--smoke", action="store_true", help="a few steps, for tests")
    return parser


def main(argv: list[str] | None = None) -> int:
    """Run the training command.

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
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", stream=sys.stdout)
    torch.set_num_threads(args.threads)
    device = args.device
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    tokens = {"target": args.tokens, "draft": args.draft_tokens}
    minutes = {"target": args.minutes, "draft": args.draft_minutes}
    common: dict[str, Any] = {"seed": args.seed, "compile": not args.no_compile}
    if args.smoke:
        tokens = {"target": 1024, "draft": 1024}
        common |= {"rows": 4, "row_len": 64, "compile": False}

    earlier: list[dict[str, Any]] = []
    if args.resume:
        facts = json.loads((args.out / "target" / "train_log.json").read_text(encoding="utf-8"))
        earlier = [*facts.pop("earlier", []), facts]
    if args.resume or args.only == "draft":
        tokenizer = AutoTokenizer.from_pretrained(args.out / "target")
    else:
        tokenizer = material.build_tokenizer(args.seed, num_documents=40 if args.smoke else 6000)
    largest = tokens["draft"] if args.only == "draft" else max(tokens.values())
    seed = args.seed + 1000 * len(earlier)
    streams, heldout = _streams(tokenizer, seed, args.seed, largest, smoke=args.smoke)
    question_end = tokenizer.encode("?\n", add_special_tokens=False)[-1]
    base = {
        "hardware": _hardware(device),
        "material_tokens": {kind: len(stream) for kind, stream in streams.items()},
        "mixture": material.MIXTURE,
        "num_heldout_files": len(material.code_files(heldout=True)),
    }
    log.info("material %s", base["material_tokens"])

    def save(which: str) -> Callable[[LlamaForCausalLM, dict[str, Any]], None]:
        before = {"earlier": earlier} if which == "target" and earlier else {}

        def write(model: LlamaForCausalLM, facts: dict[str, Any]) -> None:
            save_checkpoint(model, tokenizer, args.out / which, {**base, **facts, **before})

        return write

    def trained() -> LlamaForCausalLM:
        folder = args.out / "target"
        return LlamaForCausalLM.from_pretrained(folder, dtype=torch.float32).to(device).eval()

    if args.only != "draft":
        start = trained() if args.resume else None
        if args.resume:
            common |= {"peak": 0.4, "fall": 1.0}
        run = Run("target", tokens["target"], minutes["target"], **common)
        train_model(run, streams, heldout, save("target"), device, question_end, start=start)
    if args.only != "target":
        common |= {"peak": 1.0, "fall": 0.6, "distil_from": 0.4}
        run = Run("draft", tokens["draft"], minutes["draft"], **common)
        train_model(run, streams, heldout, save("draft"), device, question_end, trained())
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
