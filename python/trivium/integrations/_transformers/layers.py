"""A model that drafts for itself: the same weights, some sub-layers left out.

`skipped` makes a view of a Llama-like model whose chosen attention or feed-forward parts are the
identity; as the model of a `DraftModel` it is self-speculation, and the text stays that of the
whole model. `search_layers` finds what to leave out by SWIFT's search, `nearest_layers` by CLaSp's
dynamic programme on hidden states.
"""

from __future__ import annotations

import copy
from typing import Any

import torch

from trivium.drafting import LayerDp, LayerSetSearch
from trivium.errors import InputError, UnsupportedError

__all__ = ["nearest_layers", "search_layers", "skipped", "trimmed"]

_PARTS = ("input_layernorm", "self_attn", "post_attention_layernorm", "mlp")


class _Skipping(torch.nn.Module):  # type: ignore[misc]
    """A decoder layer without its attention, its feed-forward part, or both."""

    def __init__(self, layer: Any, attention: bool, feed_forward: bool) -> None:
        super().__init__()
        self.layer, self._attention, self._feed_forward = layer, attention, feed_forward
        self.attention_type = getattr(layer, "attention_type", "full_attention")

    def forward(self, hidden_states: Any, **options: Any) -> Any:
        layer = self.layer
        if not self._attention:
            normed = layer.input_layernorm(hidden_states)
            hidden_states = hidden_states + layer.self_attn(hidden_states=normed, **options)[0]
        if not self._feed_forward:
            hidden_states = hidden_states + layer.mlp(layer.post_attention_layernorm(hidden_states))
        return hidden_states


def _layers(model: Any) -> Any:
    layers = getattr(getattr(model, "model", None), "layers", None)
    if layers is None or not all(hasattr(layer, part) for layer in layers for part in _PARTS):
        raise UnsupportedError(f"{type(model).__name__} is not built of Llama-like layers")
    return layers


def skipped(model: Any, skip: Any) -> Any:
    """Give a view of `model` that leaves out sub-layers; weights are shared, nothing is copied.

    Parameters
    ----------
    model : transformers causal language model
        Built of Llama-like layers (norm, attention, norm, feed-forward part).
    skip : list of bool, length 2 * layers
        True to leave out: attention of layer ``i`` at ``2 * i``, its feed-forward part behind it.
        The attention of layer 0 stays, since the cache counts by it.

    Raises
    ------
    InputError
        Wrong length, or the first attention is skipped.
    UnsupportedError
        Another kind of model.
    """
    layers = _layers(model)
    skip = [bool(s) for s in skip]
    if len(skip) != 2 * len(layers) or skip[0]:
        raise InputError(f"skip: needs {2 * len(layers)} entries, the first of them False")
    view, inner = copy.copy(model), copy.copy(model.model)
    view._modules, inner._modules = dict(model._modules), dict(model.model._modules)
    inner.layers = torch.nn.ModuleList(
        _Skipping(layer, skip[2 * i], skip[2 * i + 1]) if any(skip[2 * i : 2 * i + 2]) else layer
        for i, layer in enumerate(layers)
    )
    view.model = inner
    return view.eval()


def trimmed(model: Any, kept: Any) -> Any:
    """Give a view of `model` whose head has the rows `kept` only, in this order (VocabTrim).

    Parameters
    ----------
    model : transformers causal language model
    kept : int array
        Target id of each row, as of `trivium.words.TrimmedHead`.
    """
    head = model.get_output_embeddings()
    rows = torch.as_tensor([int(t) for t in kept], device=head.weight.device)
    small = torch.nn.Linear(
        head.in_features, len(rows), head.bias is not None, head.weight.device, head.weight.dtype
    )
    with torch.no_grad():
        small.weight.copy_(head.weight[rows])
        if head.bias is not None:
            small.bias.copy_(head.bias[rows])
    view = copy.copy(model)
    view._modules = dict(model._modules)
    view.set_output_embeddings(small)
    return view.eval()


def search_layers(
    model: Any,
    ids: Any,
    *,
    ratio: float = 0.45,
    iterations: int = 60,
    period: int = 25,
    window: int = 32,
    seed: int = 0,
) -> tuple[list[bool], float]:
    """Find a set to skip by SWIFT's search: the share of the last tokens that the view predicts.

    Parameters
    ----------
    model : transformers causal language model
    ids : int sequence
        A text of the model's own, at least two tokens; one forward pass over it a candidate.
    ratio, period, seed
        As in `LayerSetSearch`.
    iterations : int
        Candidates scored.
    window : int
        Tokens at the end of the text that count.

    Returns
    -------
    (list of bool, float)
        The best set for `skipped`, and its score.
    """
    search = LayerSetSearch(
        len(_layers(model)), ratio=ratio, period=period, max_iterations=iterations, seed=seed
    )
    text = torch.as_tensor(list(ids), device=model.device)[None]
    if text.shape[1] < 2:
        raise InputError("ids: need two tokens")
    window = min(window, text.shape[1] - 1)
    with torch.inference_mode():
        while (candidate := search.next_candidate()) is not None:
            rows = skipped(model, candidate)(text, use_cache=False).logits[0, -window - 1 : -1]
            search.report(float((rows.argmax(-1) == text[0, -window:]).float().mean()))
    best = search.best
    assert best is not None  # at least one candidate was scored
    return best


def nearest_layers(model: Any, ids: Any, skips: int) -> list[bool]:
    """Choose whole layers to skip by CLaSp's programme at the last token of a text.

    Earlier tokens are those of the full model: only the last position is moved through the choices,
    each layer over the keys and values that the full model has there.

    Parameters
    ----------
    model : transformers causal language model
    ids : int sequence
        The text.
    skips : int
        Layers to skip.

    Returns
    -------
    list of bool
        For `skipped`; the first layer stays.
    """
    layers = _layers(model)
    n = len(layers)
    if not 1 <= skips < n - 1:
        raise InputError(f"skips: {skips} of {n} layers, of which the first stays")
    text = torch.as_tensor(list(ids), device=model.device)[None]
    with torch.inference_mode():
        hidden = model(text, output_hidden_states=True, use_cache=False).hidden_states
        position = torch.arange(text.shape[1], device=model.device)[None]
        rope = model.model.rotary_emb(hidden[0], position)
        length = text.shape[1]
        mask = torch.full((length, length), torch.finfo(model.dtype).min, dtype=model.dtype)
        mask = mask.triu(1)[None, None].to(model.device)

        def run(layer: int, vectors: Any) -> Any:
            # The rows differ in their last position alone.
            batch = hidden[layer].expand(len(vectors), -1, -1).clone()
            batch[:, -1] = vectors
            out = layers[layer](
                batch,
                attention_mask=mask,
                position_ids=position,
                position_embeddings=rope,
            )
            return (out[0] if isinstance(out, tuple) else out)[:, -1]

        dp = LayerDp(n - 1, skips)
        states = run(0, hidden[0][0, -1][None]).repeat(skips + 1, 1)
        for i in range(1, n):
            full = run(i, hidden[i][0, -1][None])[0]
            ran, copied = run(i, states), states.roll(1, 0)
            closeness = [
                torch.nn.functional.cosine_similarity(x, full[None], -1).double().tolist()
                for x in (ran, copied)
            ]
            copies = torch.tensor(dp.layer(*closeness), device=model.device)
            states = torch.where(copies[:, None], copied, ran)
    chosen = {layer + 1 for layer in dp.skip_set()}
    return [i in chosen for i in range(n) for _ in range(2)]
