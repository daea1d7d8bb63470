"""The model and its cache, in the two forms that the loop drives.

`TreeHost` runs the trees of a whole batch in one forward pass: explicit positions, and an additive
4-D mask in the model's dtype, since eager attention adds what it is given. `ChainHost` is for
models whose attention is not full in every layer or that take no such mask: one request at a time,
chains only, masked by the model itself.

Both keep one law: after `keep`, request `b` has cache entries for exactly its committed tokens but
the last, which is node 0 of the next tree.
"""

from __future__ import annotations

import copy
import inspect
import warnings
from typing import TYPE_CHECKING, Any, Protocol
from weakref import WeakKeyDictionary

import numpy as np
import torch
from transformers.cache_utils import DynamicCache, DynamicLayer

from trivium.errors import InputError, UnsupportedError
from trivium.integrations._transformers.cache import Slots, slotted
from trivium.speculator import Speculator, TreeBatch

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["ChainHost", "Host", "TreeHost", "host_for", "logits_width"]


class Host(Protocol):
    """What the loop asks of a model."""

    calls: int

    def prefill(self, prompts: list[list[int]]) -> None:
        """Cache all but the last token of each prompt; rows of the batch follow their order."""

    def join(self, prompts: list[list[int]]) -> None:
        """Append rows to the batch, with all but the last token of each prompt cached."""

    def only(self, rows: list[int]) -> None:
        """Keep these rows of the batch."""

    def fit(self, batch: TreeBatch) -> TreeBatch:
        """Cut the trees to what the model can run."""

    def forward(self, batch: TreeBatch, ends: list[int]) -> Any:
        """Logits of all nodes, [N, vocab]; ``ends[b]`` is the last position of row b.

        On a CUDA device they stay there; elsewhere they are float32 on the CPU.
        """

    def keep(self, gather: Any, cu: Any, rows: list[int]) -> None:
        """Keep the entries of accepted nodes, then only these rows of the batch."""


def logits_width(model: Any) -> int:
    """Width of the model's logits."""
    head = model.get_output_embeddings() if hasattr(model, "get_output_embeddings") else None
    width = getattr(head, "out_features", None)
    return int(
        width if width is not None else model.config.get_text_config(decoder=True).vocab_size
    )


def _rows_of(logits: Any) -> Any:
    """Rows as verification takes them: where they are on a CUDA device, on the CPU otherwise."""
    if logits.device.type != "cuda":
        return logits.float().cpu()
    kernels_read = (torch.float32, torch.float16, torch.bfloat16)
    return logits if logits.dtype in kernels_read else logits.float()


def _prefill_chunks(model: Any, ids: Any, cache: Any, chunk: int) -> None:
    extra = {"logits_to_keep": 1} if "logits_to_keep" in _parameters(model) else {}
    for start in range(0, ids.shape[1], chunk):
        part = ids[:, start : start + chunk]
        model(input_ids=part, past_key_values=cache, use_cache=True, return_dict=True, **extra)
        if any(cache.is_sliding):
            cache.crop(0)  # drops what has left the window


def _parameters(model: Any) -> frozenset[str]:
    return frozenset(inspect.signature(model.forward).parameters)


def _is_wrapper(model: Any) -> bool:
    """Whether `forward` passes on arguments that it does not name, as adapters of weights do."""
    parameters = inspect.signature(model.forward).parameters
    passes_on = any(p.kind is p.VAR_KEYWORD for p in parameters.values())
    return passes_on and "past_key_values" not in parameters


def _keeper(outputs: dict[str, Any], name: str) -> Any:
    """Make a hook that keeps a module's first output."""

    def keep(_module: Any, _args: Any, output: Any) -> None:
        outputs[name] = output if torch.is_tensor(output) else output[0]

    return keep


class TreeHost:
    """One forward pass a step for the trees of all requests."""

    def __init__(self, model: Any, chunk: int) -> None:
        self._model, self._chunk = model, chunk
        self._device, self._dtype = model.device, model.dtype
        self._cache: Any = None
        self._size = 0  # columns of the cache
        self.lengths = np.zeros(0, np.int64)
        self.calls = 0
        self._watched: dict[str, Any] = {}
        self.seen: dict[str, Any] = {}  # by name: output at every node of the last pass, [N, dim]

    def watch(self, name: str, module: Any) -> None:
        """Keep what a module of the model gives for the nodes of each pass, in `seen`."""
        self._watched[name] = module

    def borrow(self, model: Any, layers: int) -> TreeHost:
        """Make a host for the first layers of the model, over the same cache entries.

        What it appends stands where the next pass of this host will write; `crop` it to its first
        lengths before that.
        """
        other = TreeHost(model, self._chunk)
        other._cache = copy.copy(self._cache)
        other._cache.layers = self._cache.layers[:layers]
        other.lengths, other._size = self.lengths.copy(), self._size
        return other

    def prefill(self, prompts: list[list[int]]) -> None:
        """Cache all but the last token of each prompt; equal prompts run once."""
        self._cache = slotted(self._model.config)
        unique = {p: i for i, p in enumerate(dict.fromkeys(map(tuple, prompts)))}
        self.lengths = np.array([len(p) - 1 for p in prompts], np.int64)
        self._size = int(self.lengths.max())
        if self._size == 0:
            return
        ids = np.zeros((len(unique), self._size), np.int64)
        for prompt, i in unique.items():
            ids[i, : len(prompt) - 1] = prompt[:-1]
        # Junk stands to the right of every row, where causal attention does not look.
        _prefill_chunks(
            self._model, torch.from_numpy(ids).to(self._device), self._cache, self._chunk
        )
        if len(unique) < len(prompts):
            self._select([unique[tuple(p)] for p in prompts])

    def join(self, prompts: list[list[int]]) -> None:
        """Prefill the new rows by themselves, then stand them below the others."""
        if not len(self.lengths):
            self.prefill(prompts)
            return
        fresh = TreeHost(self._model, self._chunk)
        fresh.prefill(prompts)
        self._size = max(self._size, fresh._size)
        pairs = zip(self._cache.layers, fresh._cache.layers, strict=True)
        for mine, new in pairs:
            if isinstance(mine, Slots):
                mine.join(new, len(prompts), self._size)
        self.lengths = np.concatenate([self.lengths, fresh.lengths])

    def only(self, rows: list[int]) -> None:
        """Drop the other rows, and the columns that only they used."""
        self._select(rows)
        self.lengths = self.lengths[rows]
        self._size = int(self.lengths.max()) if len(self.lengths) else 0
        for layer in self._slots():
            layer.shorten(self._size)

    def fit(self, batch: TreeBatch) -> TreeBatch:
        """Any tree runs."""
        return batch

    def forward(self, batch: TreeBatch, ends: list[int]) -> Any:
        """Logits of all nodes, [N, vocab]."""
        cu = batch.cu_nodes.astype(np.int64)
        counts = np.diff(cu)
        rows, width = len(counts), int(counts.max())
        row = np.repeat(np.arange(rows), counts)
        node = np.arange(cu[-1]) - cu[row]
        ids = np.zeros((rows, width), np.int64)
        ids[row, node] = batch.tokens
        positions = np.zeros((rows, width), np.int64)
        # Nodes beyond the last position are never emitted, but must not leave the position table.
        positions[row, node] = np.minimum(batch.positions, np.asarray(ends)[row])
        mask = None
        if width > 1 or (self.lengths != self._size).any():
            tree = np.zeros((rows, width, width), bool)
            tree[:, np.arange(width), np.arange(width)] = True  # padding sees itself: no NaN
            tree[row, node] = batch.attention_mask()
            mask = self._mask(tree)
        self.calls += 1
        outputs: dict[str, Any] = {}
        hooks = [
            module.register_forward_hook(_keeper(outputs, name))
            for name, module in self._watched.items()
        ]
        try:
            logits = self._model(
                input_ids=torch.from_numpy(ids).to(self._device),
                attention_mask=mask,
                position_ids=torch.from_numpy(positions).to(self._device),
                past_key_values=self._cache,
                use_cache=True,
                return_dict=True,
            ).logits
        finally:
            for hook in hooks:
                hook.remove()
        rows_of, nodes_of = (torch.from_numpy(x).to(logits.device) for x in (row, node))
        self.seen = {
            name: out[rows_of.to(out.device), nodes_of.to(out.device)]
            for name, out in outputs.items()
        }
        return _rows_of(logits[rows_of, nodes_of])

    def _mask(self, tree: Any) -> Any:
        """Additive mask [B, 1, n, size + n]: own cache entries and ancestors."""
        rows, width, _ = tree.shape
        lengths = torch.from_numpy(self.lengths).to(self._device)
        cached = torch.arange(self._size, device=self._device) < lengths[:, None]
        seen = torch.cat(
            [
                cached[:, None].expand(rows, width, self._size),
                torch.from_numpy(tree).to(self._device),
            ],
            dim=-1,
        )
        low = torch.finfo(self._dtype).min
        mask = torch.zeros(seen.shape, dtype=self._dtype, device=self._device)
        return mask.masked_fill_(~seen, low)[:, None]

    def keep(self, gather: Any, cu: Any, rows: list[int]) -> None:
        """Move accepted entries to the end of their row, then drop rows and columns."""
        counts = np.diff(cu.astype(np.int64))
        row = np.repeat(np.arange(len(counts)), counts)
        target = self.lengths[row] + np.arange(len(row)) - cu[row]
        source = self._size + gather.astype(np.int64)
        moved = np.flatnonzero(source != target)
        if len(moved):
            where = [torch.from_numpy(x[moved]).to(self._device) for x in (row, source, target)]
            for layer in self._slots():
                layer.move(*where)
        self.lengths = self.lengths + counts
        if len(rows) < len(counts):
            self.only(rows)
            return
        self._size = int(self.lengths.max()) if len(self.lengths) else 0
        for layer in self._slots():
            layer.shorten(self._size)

    def crop(self, lengths: Sequence[int]) -> None:
        """Forget the entries of each row beyond its length."""
        self.lengths = np.minimum(self.lengths, np.asarray(lengths, np.int64))
        self._size = int(self.lengths.max()) if len(self.lengths) else 0
        for layer in self._slots():
            layer.shorten(self._size)

    def _slots(self) -> list[Any]:
        return [layer for layer in self._cache.layers if isinstance(layer, Slots)]

    def _select(self, rows: list[int]) -> None:
        index = torch.tensor(rows, dtype=torch.long, device=self._device)
        for layer in self._slots():
            layer.select(index)

    def entries(self, row: int) -> list[tuple[Any, Any]]:
        """Give the cached keys and values of a row, [heads, length, dim] a layer."""
        n = int(self.lengths[row])
        return [
            (layer.keys[row, :, :n], layer.values[row, :, :n])
            for layer in self._slots()
            if layer.is_initialized
        ]


class ChainHost:
    """A forward pass a request, over the likeliest chain of its tree."""

    def __init__(self, model: Any, chunk: int) -> None:
        self._model, self._chunk = model, chunk
        self._caches: list[Any] = []
        self._counts = np.zeros(0, np.int64)
        self.calls = 0

    def prefill(self, prompts: list[list[int]]) -> None:
        """Cache all but the last token of each prompt, one by one."""
        self._caches = []
        self.join(prompts)

    def only(self, rows: list[int]) -> None:
        """Drop the other caches."""
        self._caches = [self._caches[b] for b in rows]

    def join(self, prompts: list[list[int]]) -> None:
        """Append a cache a prompt."""
        for prompt in prompts:
            cache = DynamicCache(config=self._model.config)
            for layer in cache.layers:
                if hasattr(layer, "activate_past_recording"):
                    layer.activate_past_recording()
            if len(prompt) > 1:
                ids = torch.tensor([prompt[:-1]], device=self._model.device)
                _prefill_chunks(self._model, ids, cache, self._chunk)
            self._caches.append(cache)

    def fit(self, batch: TreeBatch) -> TreeBatch:
        """Cut each tree to its likeliest chain."""
        cu, parents = batch.cu_nodes, batch.parents
        chains: list[list[int]] = []
        for b in range(len(batch)):
            local = parents[cu[b] : cu[b + 1]]
            scores = batch.scores[cu[b] : cu[b + 1]]
            chain = [0]
            while len(children := np.flatnonzero(local == chain[-1])):
                chain.append(int(children[np.argmax(scores[children])]))
            chains.append(chain)
        if sum(map(len, chains)) == cu[-1]:
            return batch
        nodes = np.concatenate([cu[b] + np.array(c) for b, c in enumerate(chains)])
        return TreeBatch.from_arrays(
            batch.tokens[nodes],
            np.concatenate([np.arange(-1, len(c) - 1) for c in chains]),
            np.cumsum([0, *map(len, chains)]),
            requests=batch.requests,
        )

    def forward(self, batch: TreeBatch, ends: list[int]) -> Any:
        """Logits of all nodes, [N, vocab]."""
        cu = batch.cu_nodes
        # Nodes beyond the last position are never emitted and may have no position: they repeat
        # the row before them.
        self._counts = np.diff(cu)
        self._ran = [
            min(int(n), end - (int(batch.positions[cu[b]]) - 1))
            for b, (n, end) in enumerate(zip(self._counts, ends, strict=True))
        ]
        rows = []
        for b, cache in enumerate(self._caches):
            ids = batch.tokens[cu[b] : cu[b] + self._ran[b]]
            self.calls += 1
            logits = self._model(
                input_ids=torch.from_numpy(ids[None].astype(np.int64)).to(self._model.device),
                past_key_values=cache,
                use_cache=True,
                return_dict=True,
            ).logits[0]
            missing = int(self._counts[b]) - self._ran[b]
            rows.append(torch.cat([logits, logits[-1:].expand(missing, -1)]))
        return _rows_of(torch.cat(rows))

    def keep(self, gather: Any, cu: Any, rows: list[int]) -> None:  # noqa: ARG002
        """Crop each cache to its accepted nodes, which are the first of the chain."""
        kept = np.diff(cu)
        for b in rows:
            self._caches[b].crop(-max(0, self._ran[b] - int(kept[b])))
        self._caches = [self._caches[b] for b in rows]


# ---- which host a model gets --------------------------------------------------------------------

_VERDICTS: WeakKeyDictionary[Any, dict[tuple[str, str], str]] = WeakKeyDictionary()


def host_for(model: Any, *, drafts: bool, chunk: int) -> Host:
    """Make a host for `model`; one warning a model when its drafts are limited to chains.

    Raises
    ------
    UnsupportedError
        The model is not a causal language model over a `DynamicCache`.
    InputError
        The model is in training mode.
    """
    if getattr(model, "training", False):
        raise InputError(
            "model: is in training mode, where dropout changes its logits; call model.eval()"
        )
    attention = str(getattr(model.config, "_attn_implementation", None) or "eager")
    verdicts = _VERDICTS.setdefault(model, {})
    key = (attention, str(model.dtype))
    if key not in verdicts:
        verdicts[key] = _tree_obstacle(model, attention, chunk)
    if not verdicts[key]:
        return TreeHost(model, chunk)
    if drafts and ("warned", attention) not in verdicts:
        verdicts["warned", attention] = "yes"
        warnings.warn(
            f"{type(model).__name__}: {verdicts[key]}; trees of drafts are cut to chains and "
            "requests run one by one. The text is the same.",
            stacklevel=3,
        )
    return ChainHost(model, chunk)


def _tree_obstacle(model: Any, attention: str, chunk: int) -> str:
    """Why the model cannot verify trees; empty if it can.

    What no signature tells is probed on a few random tokens: masks that are ignored, positions that
    are counted instead of read, attention to later tokens.
    """
    name = type(model).__name__
    if model.config.is_encoder_decoder:
        raise UnsupportedError(f"{name} is an encoder-decoder; generate drives decoders only")
    if getattr(model, "_is_stateful", False):
        raise UnsupportedError(
            f"{name} keeps a recurrent state, which cannot go back to before a refused draft"
        )
    parameters = _parameters(model)
    supports = getattr(model, "_supports_default_dynamic_cache", lambda: True)
    wrapper = _is_wrapper(model)  # the probes tell what it is
    if not (wrapper or "past_key_values" in parameters) or not supports():
        raise UnsupportedError(f"{name} does not run over a DynamicCache")
    layers = DynamicCache(config=model.config).layers
    kinds = {type(layer) for layer in layers if type(layer).__name__ != "DummyLayer"}
    for kind in sorted(kinds, key=lambda k: k.__name__):
        if not issubclass(kind, DynamicLayer) or "LinearAttention" in kind.__name__:
            raise UnsupportedError(
                f"{name} has layers of kind {kind.__name__}, whose state cannot go back to before "
                "a refused draft"
            )
    if not _chains_agree(model, chunk):
        raise UnsupportedError(
            f"{name} computes other logits over its cache than for the same text at once; is it "
            "causal (is_decoder=True)?"
        )
    if kinds != {DynamicLayer}:
        names = ", ".join(sorted(k.__name__ for k in kinds - {DynamicLayer}))
        return f"not every layer has full attention ({names})"
    if not (wrapper or "position_ids" in parameters):
        return "its forward takes no position_ids"
    if attention not in ("eager", "sdpa"):
        return f"attention {attention!r} takes no 4-D mask; load it with eager or sdpa"
    if not _trees_agree(model, chunk):
        return "its logits on a probe tree differ from those of the same text in sequence"
    return ""


def _chains_agree(model: Any, chunk: int) -> bool:
    """Whether a chain over a cache, before and after a crop, has the logits of its text."""
    text = _probe_text(model)
    host = ChainHost(model, chunk)
    spec = Speculator(logits_width(model), sources=[], policy="full")
    request = spec.start(text[:5])
    gap = _Gap(model)
    with torch.inference_mode():
        host.prefill([text[:5]])
        for kept in (2, 3):
            path = request.tokens.tolist()
            drafts = text[8 + kept : 11 + kept]
            chain = TreeBatch.from_arrays(
                [path[-1], *drafts], [-1, 0, 1, 2], [0, 4], requests=[request]
            )
            rows = host.forward(chain, [_FAR])
            gap.add(rows, path + drafts)
            host.keep(np.arange(kept), np.array([0, kept]), [0])
            request.commit([*drafts[: kept - 1], text[30]])
    return gap.closed()


def _trees_agree(model: Any, chunk: int) -> bool:
    """Whether a ragged batch of trees, before and after compaction, has the logits of its paths."""
    text = _probe_text(model)
    prompts = [text[:5], text[5:8]]
    shapes = [[-1, 0, 0, 1, 2], [-1, 0, 0]]  # node 0, two siblings and a child of each
    accepted = [[2, 4], [2]]
    cu = [0, 5, 8]
    spec = Speculator(logits_width(model), sources=[], policy="full")
    requests = [spec.start(p) for p in prompts]
    host = TreeHost(model, chunk)
    gap = _Gap(model)
    try:
        with torch.inference_mode():
            host.prefill(prompts)
            for step in range(2):
                paths = [r.tokens.tolist() for r in requests]
                drafts = text[8 + 8 * step :]
                tokens = [paths[0][-1], *drafts[:4], paths[1][-1], *drafts[4:6]]
                trees = TreeBatch.from_arrays(
                    tokens, [p for shape in shapes for p in shape], cu, requests=requests
                )
                rows = host.forward(trees, [_FAR, _FAR])
                for b, shape in enumerate(shapes):
                    for leaf in set(range(len(shape))) - set(shape):
                        way = [leaf]
                        while way[-1]:
                            way.append(shape[way[-1]])
                        nodes = [cu[b] + n for n in reversed(way)]
                        gap.add(rows[nodes], paths[b][:-1] + [tokens[n] for n in nodes])
                host.keep(np.array([0, 2, 4, 0, 2]), np.array([0, 3, 5]), [0, 1])
                for b, request in enumerate(requests):
                    request.commit([*(tokens[cu[b] + n] for n in accepted[b]), text[30]])
    except Exception:  # a model may refuse a 4-D mask in any way it likes
        return False
    return gap.closed()


_FAR = 1 << 30


def _probe_text(model: Any) -> list[int]:
    # Neighbours differ: they stand as siblings in the probe tree.
    vocab = logits_width(model)
    steps = np.random.default_rng(1).integers(1, max(2, vocab), 32)
    return [int(t) for t in steps.cumsum() % vocab]


class _Gap:
    """How far rows of logits are from those of the same text without a cache."""

    def __init__(self, model: Any) -> None:
        self._model = model
        self._gaps: list[float] = []
        self._scale = 0.0

    def add(self, rows: Any, text: list[int]) -> None:
        """Compare rows with those of the last tokens of `text`."""
        ids = torch.tensor([text], device=self._model.device)
        want = self._model(input_ids=ids, use_cache=False, return_dict=True).logits[0, -len(rows) :]
        want, rows = want.float().cpu(), rows.float().cpu()
        if torch.isfinite(want).all():  # otherwise verification will name the row
            self._gaps += (want - rows).abs().nan_to_num(torch.inf).amax(-1).tolist()
            self._scale = max(self._scale, float(want.abs().max()))

    def closed(self) -> bool:
        """Whether rounding explains the differences."""
        if not self._gaps:
            return True
        if self._model.dtype not in (torch.float32, torch.float64):
            # Half precision may flip a router here and there; a wrong mask shows in most rows.
            return float(np.median(self._gaps)) <= 0.1 * self._scale
        slack = 1e-4 if self._model.device.type == "cpu" else 5e-3
        return max(self._gaps) <= slack * self._scale
