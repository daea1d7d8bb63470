"""Early exit: the first layers of the target draft, over the target's own cache.

A draft token runs through the first ``k`` layers, then through the final norm (behind an adapter,
where there is one) and the output layer. The committed text's entries of these layers are the
target's, so nothing is read twice and no second cache is kept; what drafting appends stands where
the verification pass writes next. (That pass runs all layers on all nodes again: hidden states at
the exit are not handed on.)

====================  =============================================================================
LayerSkip             ``EarlyExit(k, policy=None)``
Kangaroo              ``EarlyExit(k, adapter=module)``: its second exit, the policy ``"kangaroo"``,
                      ends a chain behind the first token that was unsure
EESD                  ``EarlyExit(k, policy="thompson")``
DEL                   ``EarlyExit([k1, k2, ...])``: exit layer, length and threshold are chosen from
                      what each exit would have said of the verified tokens
====================  =============================================================================

"LayerSkip: Enabling Early Exit Inference and Self-Speculative Decoding"; "Kangaroo: Lossless
Self-Speculative Decoding via Double Early Exiting"; "DEL: Context-Aware Dynamic Exit Layer for
Efficient Self-Speculative Decoding".
"""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

import torch

from trivium.drafting import ExitChooser
from trivium.errors import InputError, UnsupportedError
from trivium.integrations._transformers.draft_model import Drafting
from trivium.integrations._transformers.host import TreeHost
from trivium.integrations._transformers.layers import layers_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from trivium.integrations._transformers.drafter import Opening
    from trivium.integrations._transformers.loop import Row
    from trivium.integrations._transformers.settings import EarlyExit
    from trivium.speculator import TreeBatch

__all__ = ["Exiting", "exited"]


def exited(model: Any, layers: int, adapter: Any | None = None) -> Any:
    """Give a view of `model` that ends after its first layers; weights are shared.

    Parameters
    ----------
    model : transformers causal language model
        Built of Llama-like layers.
    layers : int
        Layers that run, from 1 to one fewer than there are.
    adapter : torch.nn.Module, optional
        From hidden states to hidden states, token by token, before the final norm.

    Raises
    ------
    InputError
        No such number of layers.
    UnsupportedError
        Another kind of model.
    """
    most = len(layers_of(model)) - 1
    if not 1 <= layers <= most:
        raise InputError(f"layers: {layers} is outside 1..={most}")
    view, inner = copy.copy(model), copy.copy(model.model)
    view._modules, inner._modules = dict(model._modules), dict(model.model._modules)
    inner.layers = model.model.layers[:layers]
    if adapter is not None:
        inner.norm = torch.nn.Sequential(adapter, model.model.norm)
    view.model = inner
    return view.eval()


class Exiting(Drafting):
    """The first layers of the target at work on the requests of one `generate` call."""

    def __init__(self, settings: EarlyExit, opening: Opening) -> None:
        host, model = opening.host, opening.model
        if not isinstance(host, TreeHost):
            raise UnsupportedError(
                f"early exit of {type(model).__name__}: its trees do not run in one pass"
            )
        exits = [settings.layers] if isinstance(settings.layers, int) else list(settings.layers)
        self._views = {k: exited(model, k, settings.adapter) for k in sorted(set(exits))}
        super().__init__(settings, opening, model=next(iter(self._views.values())))
        self._target, self._exit = host, min(self._views)
        self._most_tokens = settings.num_tokens
        self._chooser: ExitChooser | None = None
        if len(self._views) > 1:
            total = len(layers_of(model))
            self._chooser = ExitChooser(total, list(self._views), max_depth=settings.num_tokens)
            for k in self._views:
                host.watch(f"layer {k}", model.model.layers[k - 1])

    def draft(self, batch: TreeBatch, active: Sequence[Row]) -> tuple[TreeBatch, Any]:
        """Add the chains of the chosen exit to the trees."""
        if self._chooser is not None:
            self._exit, depth, self._min_top = self._chooser.choose()
            self._num_tokens = min(depth, self._most_tokens)
        try:
            return super().draft(batch, active)
        finally:
            self._target.crop(self._target.lengths.tolist())

    def _follow(self, active: Sequence[Row], texts: list[list[int]]) -> None:  # noqa: ARG002
        self._host = self._target.borrow(self._views[self._exit], self._exit)
        self._cached = [list(t[:-1]) for t in texts]

    def learn(
        self,
        batch: TreeBatch,
        active: Sequence[Row],
        new: Sequence[list[int]],
        nodes: Sequence[Any],
        logits: Any,
    ) -> None:
        """Tell DEL what each exit would have said of the emitted tokens."""
        super().learn(batch, active, new, nodes, logits)
        if self._chooser is None:
            return
        rows = torch.tensor([int(n) for span in nodes for n in span])
        said = torch.tensor([t for tokens in new for t in tokens])
        hits, sure = [], []
        for k, view in self._views.items():
            hidden = self._target.seen[f"layer {k}"][rows]
            laws = torch.softmax(view.lm_head(view.model.norm(hidden)).float().cpu(), -1)
            best = laws.max(-1)
            hits.append((best.indices == said).tolist())
            sure.append(best.values.double().tolist())
        self._chooser.observe(hits, sure)
