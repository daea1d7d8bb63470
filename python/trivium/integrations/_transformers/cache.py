"""A `DynamicCache` whose layers keep their entries in growing buffers.

Rows of a batch are left-aligned: row `b` has its entries in columns ``0 .. lengths[b]``, and what
stands to the right is junk that masks leave out. A forward pass appends its nodes behind the
longest row; `keep` then moves the entries of accepted nodes to the end of their row, in place, so
that a step copies only what it accepted.
"""

from __future__ import annotations

from typing import Any

from transformers.cache_utils import DynamicCache, DynamicLayer

__all__ = ["Slots", "slotted"]

_GROWTH = 256


class Slots(DynamicLayer):  # type: ignore[misc]
    """A full-attention layer over a buffer with room to append."""

    def lazy_initialization(self, key_states: Any, value_states: Any) -> None:
        """Take dtype, device and shape from the first states."""
        super().lazy_initialization(key_states, value_states)
        self._size = 0
        self._buffers = [_room(key_states, 0), _room(value_states, 0)]

    def update(self, key_states: Any, value_states: Any, *_: Any, **__: Any) -> tuple[Any, Any]:
        """Append states; return everything cached."""
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        size = self._size + key_states.shape[-2]
        for i, new in enumerate((key_states, value_states)):
            if self._buffers[i].shape[-2] < size:
                grown = _room(new, max(size, 2 * self._size))
                grown[:, :, : self._size] = self._buffers[i][:, :, : self._size]
                self._buffers[i] = grown
            self._buffers[i][:, :, self._size : size] = new
        self._view(size)
        return self.keys, self.values

    def _view(self, size: int) -> None:
        self._size = size
        self.keys, self.values = (buffer[:, :, :size] for buffer in self._buffers)

    def move(self, rows: Any, source: Any, target: Any) -> None:
        """Copy entries ``[rows[i], source[i]]`` to ``[rows[i], target[i]]``."""
        if self.is_initialized:
            # Layers may stand on several devices.
            rows, source, target = (x.to(self.device) for x in (rows, source, target))
            for buffer in self._buffers:
                # The right side is gathered before the left is written, so overlaps are safe.
                buffer[rows, :, target] = buffer[rows, :, source]

    def select(self, rows: Any) -> None:
        """Keep these rows of the batch, in this order."""
        if self.is_initialized:
            self._buffers = [buffer[rows.to(self.device)] for buffer in self._buffers]
            self._view(self._size)

    def join(self, other: Slots, rows: int, size: int) -> None:
        """Append the rows of another layer of the model, `rows` of them, to a width of `size`."""
        if not self.is_initialized:
            return
        more = other._buffers if other.is_initialized else [_rows(b, rows) for b in self._buffers]
        joined = []
        for mine, new in zip(self._buffers, more, strict=True):
            both = _room(_rows(mine, mine.shape[0] + new.shape[0]), size)
            both[:, :, :size] = 0  # junk is masked, but a NaN would survive the mask
            kept = min(self._size, size)
            both[: mine.shape[0], :, :kept] = mine[:, :, :kept]
            if other.is_initialized:
                kept = min(other._size, size)
                both[mine.shape[0] :, :, :kept] = new[:, :, :kept]
            joined.append(both)
        self._buffers = joined
        self._view(size)

    def shorten(self, size: int) -> None:
        """Forget the columns from `size` on."""
        if self.is_initialized:
            self._view(size)


def _rows(like: Any, rows: int) -> Any:
    """Make an empty buffer of another number of rows."""
    return like.new_empty((rows, *like.shape[1:]))


def _room(like: Any, size: int) -> Any:
    """Make a buffer for at least `size` columns."""
    columns = -(-size // _GROWTH) * _GROWTH
    return like.new_empty((*like.shape[:-2], columns, like.shape[-1]))


def slotted(config: Any) -> Any:
    """Make a cache for `config`, all of whose attention layers are full."""
    cache = DynamicCache(config=config)
    cache.layers = [Slots() if type(layer) is DynamicLayer else layer for layer in cache.layers]
    return cache
