"""A model that drafts for itself: the same weights, some sub-layers left out.

`skipped` makes a view of a Llama-like model whose chosen attention or feed-forward parts are the
identity; as the model of a `DraftModel` it is self-speculation, and the text stays that of the
whole model. `search_layers` finds what to leave out by SWIFT's search, `nearest_layers` by CLaSp's
dynamic programme on hidden states.
"""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from trivium.drafting import AnchorIndex, LayerDp, LayerSetSearch
from trivium.errors import InputError, UnsupportedError

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = [
    "LayerSets",
    "layers_of",
    "nearest_layers",
    "predicted",
    "search_layers",
    "skipped",
    "trimmed",
]

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


def layers_of(model: Any) -> Any:
    """Give the Llama-like layers of a model, or refuse it."""
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
    layers = layers_of(model)
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


def _hits(view: Any, text: Any, window: int) -> Any:
    """As `predicted`, with the whole text before the window in view."""
    window = min(window, len(text) - 1)
    rows = view(text[None], use_cache=False).logits[0, -window - 1 : -1]
    return rows.argmax(-1) == text[-window:]


def predicted(view: Any, text: Any, window: int) -> Any:
    """Whether the view, reading the last tokens of a text only, says each of them: bool [n]."""
    ids = torch.as_tensor(text, device=view.device)[-window - 1 :]
    with torch.inference_mode():
        rows = view(ids[None], use_cache=False).logits[0, :-1]
    return rows.argmax(-1) == ids[1:]


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
    ids : int sequence, or list of them
        Texts of the model's own, at least two tokens each; one forward pass over each a candidate.
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
        len(layers_of(model)), ratio=ratio, period=period, max_iterations=iterations, seed=seed
    )
    several = [ids] if not len(ids) or np.ndim(ids[0]) == 0 else list(ids)
    texts = [torch.as_tensor(list(text), device=model.device) for text in several]
    if not texts or min(map(len, texts)) < 2:
        raise InputError("ids: need two tokens")
    with torch.inference_mode():
        while (candidate := search.next_candidate()) is not None:
            view = skipped(model, candidate)
            hits = [_hits(view, text, window) for text in texts]
            search.report(float(torch.cat(hits).float().mean()))
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
    layers = layers_of(model)
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


class LayerSets:
    """Sets to skip by the kind of prompt (KNN-SSD): anchors of known prompts choose for a new one.

    Parameters
    ----------
    model : transformers causal language model
    prompts : list of int sequences
        Calibration prompts; their last hidden states are the anchors.
    texts : list of int sequences
        What the model makes of each prompt, prompt included: what the search scores.
    clusters : int
        Groups of anchors, by k-means; one search for each.
    seed : int
        Of the clustering and the searches.
    **search
        Settings of `search_layers`.

    "KNN-SSD: Enabling Dynamic Self-Speculative Decoding via Nearest Neighbor Layer Set
    Optimization".
    """

    def __init__(
        self,
        model: Any,
        prompts: Sequence[Sequence[int]],
        texts: Sequence[Sequence[int]],
        *,
        clusters: int,
        seed: int = 0,
        **search: Any,
    ) -> None:
        if len(prompts) != len(texts) or not 1 <= clusters <= len(prompts):
            raise InputError("prompts, texts: need one text a prompt, and a prompt a cluster")
        self._model = model
        vectors = np.stack([self.vector(p) for p in prompts])
        labels = _k_means(vectors, clusters, seed)
        self.sets: list[list[bool]] = []
        for c in range(clusters):
            mine = [list(t) for t, label in zip(texts, labels, strict=True) if label == c]
            self.sets.append(search_layers(model, mine or texts, seed=seed + c, **search)[0])
        self._index = AnchorIndex(vectors.shape[1])
        for vector, label in zip(vectors, labels, strict=True):
            self._index.insert(vector.tolist(), int(label))

    def vector(self, prompt: Sequence[int]) -> Any:
        """Give the model's last hidden state behind a prompt, float32 [hidden]."""
        ids = torch.as_tensor(list(prompt), device=self._model.device)[None]
        with torch.inference_mode():
            hidden = self._model.model(ids, use_cache=False).last_hidden_state[0, -1]
        return hidden.float().cpu().numpy()

    def choose(self, prompt: Sequence[int], k: int = 1) -> list[bool]:
        """Give the set that the `k` nearest anchors vote for."""
        label = self._index.vote(self.vector(prompt).tolist(), k)
        assert label is not None  # there are anchors
        return self.sets[label]


def _k_means(vectors: Any, clusters: int, seed: int, rounds: int = 20) -> Any:
    """Cluster of each vector by Lloyd's rounds on the sphere, from anchors far apart."""
    unit = vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
    first = [int(np.random.default_rng(seed).integers(len(unit)))]
    while len(first) < clusters:
        first.append(int((unit @ unit[first].T).max(1).argmin()))
    centres = unit[first]
    for _ in range(rounds):
        labels = (unit @ centres.T).argmax(1)
        sums = [
            unit[labels == c].sum(0) if (labels == c).any() else centres[c] for c in range(clusters)
        ]
        centres = np.stack([s / max(float(np.linalg.norm(s)), 1e-12) for s in sums])
    return (unit @ centres.T).argmax(1)
