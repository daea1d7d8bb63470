"""A small Llama checkpoint that ships with the package.

The folder holds a target model, a draft model with the same tokenizer and held-out prompts of three
kinds: code, records and arithmetic. Importing the module costs nothing; `load` imports torch and
transformers when it is called.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

__all__ = ["KINDS", "MODELS", "load", "path", "prompts"]

MODELS: tuple[str, ...] = ("target", "draft")
KINDS: tuple[str, ...] = ("code", "records", "arithmetic")

_HERE = Path(__file__).resolve().parent


def path(which: str = "target") -> Path:
    """Folder of a shipped checkpoint.

    Parameters
    ----------
    which : {"target", "draft"}
        The model.

    Returns
    -------
    Path
        Folder with ``config.json``, ``model.safetensors`` and the tokenizer files.

    Raises
    ------
    ValueError
        If `which` names no shipped model.

    Examples
    --------
    >>> path("draft").name
    'draft'
    """
    if which not in MODELS:
        msg = f"which must be one of {MODELS}, got {which!r}"
        raise ValueError(msg)
    return _HERE / which


def load(
    which: str = "target", dtype: str = "float32"
) -> tuple[LlamaForCausalLM, PreTrainedTokenizerFast]:
    """Load a shipped checkpoint and its tokenizer.

    Parameters
    ----------
    which : {"target", "draft"}
        The model.
    dtype : str
        Name of the torch dtype of the weights in memory; stored are float16 values.

    Returns
    -------
    model : transformers.LlamaForCausalLM
        Model in evaluation mode.
    tokenizer : transformers.PreTrainedTokenizerFast
        Tokenizer shared by both models.

    Raises
    ------
    ValueError
        If `which` names no shipped model.
    """
    import torch
    from transformers import AutoTokenizer, LlamaForCausalLM

    folder = path(which)
    model = LlamaForCausalLM.from_pretrained(folder, dtype=getattr(torch, dtype))
    return model.eval(), AutoTokenizer.from_pretrained(folder)


def prompts(kind: str) -> list[dict[str, Any]]:
    """Held-out prompts of one kind.

    Parameters
    ----------
    kind : {"code", "records", "arithmetic"}
        The kind.

    Returns
    -------
    list of dict
        One dictionary for each prompt; every one has ``id`` and ``prompt``, code and records have
        ``reference``, records have ``schema``, arithmetic has ``answer``, ``solution``, ``level``.

    Raises
    ------
    ValueError
        If `kind` is unknown.
    """
    if kind not in KINDS:
        msg = f"kind must be one of {KINDS}, got {kind!r}"
        raise ValueError(msg)
    text = (_HERE / "prompts" / f"{kind}.json").read_text(encoding="utf-8")
    cases: list[dict[str, Any]] = json.loads(text)
    return cases
