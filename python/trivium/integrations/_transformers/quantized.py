"""A model that drafts for itself with rounded weights, as QuantSpec's draft has them.

Each linear layer but the output's is rounded to few bits, symmetrically, in groups along its input;
the rounded copies are kept dequantised, so this shows the draft's law and acceptance, not its
speed. QuantSpec's hierarchical cache and its kernels are the host's.

"QuantSpec: Self-Speculative Decoding with Hierarchical Quantized KV Cache".
"""

from __future__ import annotations

import copy
from typing import Any

import torch

from trivium.errors import InputError

__all__ = ["quantized"]


def quantized(model: Any, bits: int = 4, group: int = 64) -> Any:
    """Copy `model` with the weights of its linear layers rounded to `bits` bits.

    Parameters
    ----------
    model : transformers causal language model
    bits : int
        From 2 to 8.
    group : int
        Inputs that share a scale; the largest absolute weight of a group is kept.

    Raises
    ------
    InputError
        Bits or group out of range.
    """
    if not 2 <= bits <= 8 or group < 1:
        raise InputError(f"bits {bits}, group {group}: need 2..=8 and a positive number")
    rounded = copy.deepcopy(model)
    output = rounded.get_output_embeddings()
    most = 2 ** (bits - 1) - 1
    with torch.no_grad():
        for module in rounded.modules():
            if isinstance(module, torch.nn.Linear) and module is not output:
                for part in module.weight.split(group, dim=1):
                    scale = part.abs().amax(1, keepdim=True).clamp_min(1e-12) / most
                    part.copy_((part / scale).round() * scale)
    return rounded.eval()
