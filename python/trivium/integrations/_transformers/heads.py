"""Multi-token heads on the target's last hidden state: Medusa and Hydra.

Head ``k`` predicts the token ``k`` places behind the next one, from the hidden state of the place
that chose the last committed token (the last committed token itself has not been through the model
yet). Medusa's heads read the hidden state alone; Hydra's also the embeddings of the tokens from the
last committed one down to their node, so its rows differ from node to node.

A `Builder` of `trivium.builders` grows the tree level by level, one small batch of head rows a
level for all requests; its law and pruning are those of the tree. Under the path verifiers a chain
of what the heads would emit under the request's noise is hung beside it. A request's first step
drafts nothing: there is no hidden state yet.

Files are safetensors in the layouts of the releases:

====================================  ============================================================
Medusa: block ``j`` of head ``k``     ``k.j.linear.weight``, ``k.j.linear.bias``
Medusa: output of head ``k``          ``k.L.weight``, behind its L blocks; else the target's head
Hydra: block ``j`` of head ``k``      ``hydra_mlp.k.(2j+1).linear.*``, ``.res_connection.*``
Hydra: output of head ``k``           ``hydra_lm_head.k.1.weight``, ``.bias``; else the target's
====================================  ============================================================

"Medusa: Simple LLM Inference Acceleration Framework with Multiple Decoding Heads"; "Hydra:
Sequentially-Dependent Draft Heads for Medusa Decoding". Hydra++'s attention over the prefix is not
read.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import nn

from trivium.builders import Builder, DraftTree, builders, takes, to_batch
from trivium.errors import InputError, UnsupportedError
from trivium.integrations._transformers.drafter import GREEDY, PATH, Drafter, Laws, hung
from trivium.integrations._transformers.host import TreeHost

if TYPE_CHECKING:
    import os
    from collections.abc import Sequence

    from trivium.integrations._transformers.drafter import Opening
    from trivium.integrations._transformers.loop import Row
    from trivium.integrations._transformers.settings import Heads
    from trivium.speculator import TreeBatch

__all__ = ["HeadDrafting", "HeadStack", "load_heads"]


class _Block(nn.Module):  # type: ignore[misc]
    """``x + silu(linear(x))``; where the width shrinks, the rest is a linear map too."""

    def __init__(self, wide: int, hidden: int) -> None:
        super().__init__()
        self.linear = nn.Linear(wide, hidden)
        self.res_connection = nn.Linear(wide, hidden) if wide != hidden else nn.Identity()

    def forward(self, x: Any) -> Any:
        return self.res_connection(x) + nn.functional.silu(self.linear(x))


class HeadStack(nn.Module):  # type: ignore[misc]
    """Heads of one kind.

    Parameters
    ----------
    heads, blocks, hidden : int
        Number of heads, residual blocks a head, width of the hidden state.
    vocab : int or None
        Width of their own outputs; None shares the target's output layer.
    sequential : bool
        Hydra: the first block also reads the tokens on the way.
    bias : bool
        Whether their own outputs have one.
    """

    def __init__(
        self,
        heads: int,
        blocks: int,
        hidden: int,
        vocab: int | None = None,
        *,
        sequential: bool = False,
        bias: bool = False,
    ) -> None:
        super().__init__()
        self.sequential = sequential
        self.blocks = nn.ModuleList(
            nn.ModuleList(
                _Block(hidden * (k + 2) if sequential and not j else hidden, hidden)
                for j in range(blocks)
            )
            for k in range(heads)
        )
        self.outputs = nn.ModuleList(
            nn.Linear(hidden, vocab, bias=bias) for _ in range(heads if vocab else 0)
        )

    def __len__(self) -> int:
        return len(self.blocks)

    def rows(self, k: int, hidden: Any, way: Any, shared: Any) -> Any:
        """Logits of head `k`, [n, vocab]; `way` is [n, k + 1, hidden], `shared` the target's head.

        ``way[:, 0]`` embeds the last committed token, the others the drafted ones down to the node.
        """
        x = torch.cat([hidden[:, None], way], 1).flatten(1) if self.sequential else hidden
        for block in self.blocks[k]:
            x = block(x)
        return self.outputs[k](x) if len(self.outputs) else shared(x)


_MEDUSA = re.compile(r"(?:medusa_head\.|heads\.)?(\d+)\.(\d+)\.(linear\.)?(weight|bias)")
_HYDRA = re.compile(
    r"hydra_(mlp|lm_head)\.(\d+)\.(\d+)\.(?:(linear|res_connection)\.)?(weight|bias)"
)


def load_heads(path: str | os.PathLike[str]) -> HeadStack:
    """Read heads from a safetensors file.

    Raises
    ------
    InputError
        The file cannot be read, or its tensors are of neither layout.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        tensors = load_file(path)
    except (OSError, SafetensorError) as e:
        raise InputError(f"heads: cannot be read: {e}") from e
    sequential = any(name.startswith("hydra_") for name in tensors)
    state: dict[str, Any] = {}
    if sequential:
        for name, tensor in tensors.items():
            if not (m := _HYDRA.fullmatch(name)):
                raise InputError(
                    f"heads: {name} belongs to no Hydra head (prefix layers are not read)"
                )
            part, k, j, of, what = m.groups()
            if part == "lm_head":
                state[f"outputs.{k}.{what}"] = tensor
            else:
                state[f"blocks.{k}.{(int(j) - 1) // 2}.{of}.{what}"] = tensor
    else:
        for name, tensor in tensors.items():
            if not (m := _MEDUSA.fullmatch(name)):
                raise InputError(f"heads: {name} belongs to no Medusa head")
            k, j, linear, what = m.groups()
            state[f"blocks.{k}.{j}.linear.{what}" if linear else f"outputs.{k}.{what}"] = tensor
    return _stack(state, sequential)


def _stack(state: dict[str, Any], sequential: bool) -> HeadStack:
    indices = [
        [int(n) for n in m.groups()]
        for m in (re.match(r"blocks\.(\d+)\.(\d+)", name) for name in state)
        if m
    ]
    if not indices or "blocks.0.0.linear.weight" not in state:
        raise InputError("heads: no block of head 0")
    own = state.get("outputs.0.weight")
    stack = HeadStack(
        1 + max(k for k, _ in indices),
        1 + max(j for _, j in indices),
        state["blocks.0.0.linear.weight"].shape[0],
        None if own is None else own.shape[0],
        sequential=sequential,
        bias="outputs.0.bias" in state,
    )
    try:
        stack.load_state_dict(state)
    except RuntimeError as e:
        raise InputError(f"heads: {e}") from e
    stack.eval()
    return stack


class HeadDrafting(Drafter):
    """Heads at work on the requests of one `generate` call."""

    def __init__(self, settings: Heads, opening: Opening) -> None:
        heads, host, model = settings.heads, opening.host, opening.model
        self._heads: HeadStack = (heads if isinstance(heads, HeadStack) else load_heads(heads)).to(
            model.device, model.dtype
        )
        self._embed, self._output = model.get_input_embeddings(), model.get_output_embeddings()
        hidden = self._output.in_features
        if self._heads.blocks[0][-1].linear.out_features != hidden:
            raise InputError(f"heads: not {hidden} wide as the target's hidden states")
        if len(self._heads.outputs) and self._heads.outputs[0].out_features != opening.vocab_size:
            raise InputError(f"heads: their logits are not {opening.vocab_size} wide")
        if not isinstance(host, TreeHost):
            raise UnsupportedError(
                f"heads on {type(model).__name__}: its trees do not run in one pass"
            )
        self._host = host
        host.watch("hidden", getattr(model, model.base_model_prefix))
        self._verifier, self._vocab_size = opening.verifier, opening.vocab_size
        self._depth = min(len(self._heads), settings.max_depth)
        self._settings = settings
        if not takes(settings.builder, opening.verifier):
            raise UnsupportedError(
                f"trees of the builder {settings.builder!r} under the verifier {opening.verifier!r}"
            )
        if settings.template is not None and max(settings.template.depths) > len(self._heads):
            raise InputError(f"template: is deeper than the {len(self._heads)} heads")
        self._drawn = builders()[settings.builder][0] != "point_mass"
        chosen = "shared" if opening.verifier in PATH else "point_mass"
        self._laws = Laws("iid" if self._drawn else chosen, opening)
        self._states: dict[int, Any] = {}  # hidden state that chose the last token, by request
        self.calls = 0

    def learn(
        self,
        batch: TreeBatch,  # noqa: ARG002
        active: Sequence[Row],
        new: Sequence[list[int]],  # noqa: ARG002
        nodes: Sequence[Any],
        logits: Any,  # noqa: ARG002
    ) -> None:
        """Keep the hidden state that the next step starts from."""
        for request, rows in zip(active, nodes, strict=True):
            if request.reason:
                self._states.pop(request.index, None)
            elif len(rows):
                self._states[request.index] = self._host.seen["hidden"][int(rows[-1])]

    def draft(self, batch: TreeBatch, active: Sequence[Row]) -> tuple[TreeBatch, Any]:
        """Grow the trees of the heads; drawn ones stand alone and bring their rows."""
        growing = [self._builder(r) for r in active]
        while True:
            wanted = [
                (b, node)
                for b, (r, g) in enumerate(zip(active, growing, strict=True))
                if self._ready(r)
                for node in g.frontier.tolist()
            ]
            if not wanted:
                break
            ways = [growing[b].path(node).tolist() for b, node in wanted]
            rows = self._rows([active[b] for b, _ in wanted], ways)
            laws = [
                self._laws.process(x, active[b]) for x, (b, _) in zip(rows, wanted, strict=True)
            ]
            for b in sorted({b for b, _ in wanted}):
                growing[b].push(
                    np.stack([q for q, w in zip(laws, wanted, strict=True) if w[0] == b])
                )
        if self._drawn:
            trees = [g.finish() for g in growing]
            q = [
                np.zeros((len(t), self._vocab_size), np.float32) if t.q is None else t.q
                for t in trees
            ]
            return to_batch(trees, [r.request for r in active]), np.concatenate(q)
        trees = [
            g.finish() if self._ready(r) else _alone(r)
            for r, g in zip(active, growing, strict=True)
        ]
        if any(len(t) > 1 for t in trees):
            batch = hung(
                batch,
                [t.tokens.tolist() for t in trees],
                [t.parents.tolist() for t in trees],
                [np.clip(t.values, 0, 1).tolist() for t in trees],
                "point_mass",
            )
        return self._chained(batch, active), None

    def _ready(self, request: Row) -> bool:
        return request.index in self._states or self._drawn

    def _builder(self, request: Row) -> Builder:
        text = request.prompt + request.tokens
        seed, branch = self._laws.noise(request)
        depth = max(1, min(self._depth, request.limit - len(request.tokens) - 1))
        options: dict[str, Any] = {"max_nodes": self._settings.max_nodes, "max_depth": depth}
        if self._settings.builder in ("eagle2",):
            options["top_k"] = self._settings.width
        if self._settings.builder in ("rsd_s",):
            options = {"width": self._settings.width, "max_depth": depth}
        if self._settings.template is not None:
            options = {"template": self._settings.template}
        if self._settings.builder in ("chain", "chain_chosen"):
            options = {"max_depth": depth, "policy": f"fixed:{depth}"}
        return Builder(
            self._settings.builder,
            text[-1],
            self._vocab_size,
            seed=seed,
            index=len(text),
            branch=branch,
            **options,
        )

    def _rows(self, requests: Sequence[Row], ways: Sequence[list[int]]) -> Any:
        """Rows of the heads below nodes of one depth a request, float32 [n, vocab] on the CPU."""
        rows: list[Any] = [None] * len(ways)
        for k in sorted({len(way) for way in ways}):
            which = [i for i, way in enumerate(ways) if len(way) == k]
            self.calls += 1
            hidden = torch.stack([self._state(requests[i]) for i in which])
            last = [(requests[i].prompt + requests[i].tokens)[-1] for i in which]
            ids = torch.tensor([[t, *ways[i]] for t, i in zip(last, which, strict=True)])
            way = self._embed(ids.to(hidden.device)) if self._heads.sequential else None
            out = self._heads.rows(k, hidden, way, self._output)
            for i, row in zip(which, out.float().cpu(), strict=True):
                rows[i] = row
        return rows

    def _state(self, request: Row) -> Any:
        # A drawn tree has rows from the first step on: what they are is told, so it is legal.
        state = self._states.get(request.index)
        if state is None:
            return torch.zeros(
                self._output.in_features, dtype=self._output.weight.dtype, device=self._host._device
            )
        return state

    def _chained(self, batch: TreeBatch, active: Sequence[Row]) -> TreeBatch:
        """Hang what the heads would emit under each request's noise, where that is random."""
        if self._laws.law != "shared":
            return batch
        ready = [self._ready(r) and r.law[0] >= GREEDY for r in active]
        tokens = [[(r.prompt + r.tokens)[-1]] for r in active]
        scores = [[1.0] for _ in active]
        for level in range(self._depth if any(ready) else 0):
            going = [b for b, yes in enumerate(ready) if yes]
            rows = self._rows([active[b] for b in going], [tokens[b][1:] for b in going])
            for b, row in zip(going, rows, strict=True):
                r = active[b]
                q = self._laws.process(row, r)
                token = self._laws.choose(row, q, r, len(r.prompt) + len(r.tokens), level)
                tokens[b].append(token)
                scores[b].append(scores[b][-1] * float(q[token]))
        if not any(ready):
            return batch
        return hung(batch, tokens, [list(range(-1, len(t) - 1)) for t in tokens], scores, "shared")


def _alone(request: Row) -> DraftTree:
    return DraftTree.from_arrays([(request.prompt + request.tokens)[-1]], [-1], [1.0])
