"""Loading a transformers folder, and what a result should say about where it was measured."""

from __future__ import annotations

import importlib.metadata
import os
import platform
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from trivium import _core, tinylm
from trivium.errors import InputError

if TYPE_CHECKING:
    import argparse

__all__ = ["DTYPES", "Loaded", "add_options", "environment", "load"]

DTYPES = ("float32", "float64")
_SMALL = 50_000_000


class Loaded(NamedTuple):
    """A causal model in evaluation mode and its tokenizer."""

    model: Any
    tokenizer: Any
    folder: Path


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of every verb that runs a model."""
    parser.add_argument("--model", metavar="DIR", help="transformers folder (default: tinylm)")
    parser.add_argument(
        "--dtype",
        choices=DTYPES,
        default=DTYPES[0],
        help="of the model (demo: float64, so that rounding decides no draw; else float32)",
    )
    parser.add_argument(
        "--threads",
        type=int,
        metavar="N",
        help="threads of torch (default: 1 below 50 million parameters, else torch's choice)",
    )


def load(
    folder: str | None = None, dtype: str = "float32", *, threads: int | None = None
) -> Loaded:
    """Load a model from a local folder; nothing is downloaded.

    Parameters
    ----------
    folder : str, optional
        A transformers folder; the shipped target model when absent.
    dtype : str
        One of `DTYPES`.
    threads : int, optional
        Threads of torch. Where it is None, a small model gets one: its matrices are too small to
        share, and threads that wait for each other cost several times the work.

    Raises
    ------
    InputError
        No such folder, transformers cannot read it, or no thread.
    """
    if threads is not None and threads < 1:
        raise InputError(f"threads: {threads} is not positive")
    import torch
    import transformers

    where = Path(folder) if folder else tinylm.path("target")
    if not (where / "config.json").is_file():
        hint = "" if folder else "; python -m trivium.tinylm.train makes it"
        raise InputError(f"model: {where} holds no config.json{hint}")
    transformers.utils.logging.disable_progress_bar()
    try:
        tokenizer = transformers.AutoTokenizer.from_pretrained(where, local_files_only=True)
        model = transformers.AutoModelForCausalLM.from_pretrained(
            where, dtype=getattr(torch, dtype), local_files_only=True
        )
    except (OSError, ValueError, KeyError) as error:
        raise InputError(f"model: {where} cannot be loaded: {error}") from error
    if threads is None and model.num_parameters() < _SMALL:
        threads = 1
    if threads is not None:
        torch.set_num_threads(threads)
    return Loaded(model.eval(), tokenizer, where)


def environment(loaded: Loaded, **more: Any) -> dict[str, Any]:
    """Versions, machine, threads and model of a measurement."""
    import torch

    return {
        "trivium": _core.__version__,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "transformers": importlib.metadata.version("transformers"),
        "platform": platform.platform(),
        "cpus": os.cpu_count(),
        "torch_threads": torch.get_num_threads(),
        "device": str(loaded.model.device),
        "model": loaded.folder.name,
        "model_type": loaded.model.config.model_type,
        "parameters": loaded.model.num_parameters(),
        **more,
    }
