"""Keys and values of a language model as layers of transformers' cache: kept as they come, or with room for more.

Legend: n = texts or rows, H = heads, P = slots that were filled before, T = slots of a forward pass, D = width of a head.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor
from transformers.cache_utils import DynamicCache

Pair = tuple[Tensor, Tensor]  # keys and values, each (n, H, slots, D)

if TYPE_CHECKING:

    class DynamicLayer:
        """What is used here of the class of transformers, which has no types of its own."""

        keys: Tensor
        values: Tensor
        dtype: torch.dtype
        device: torch.device
        is_initialized: bool
else:
    from transformers.cache_utils import DynamicLayer


class _Kept(DynamicLayer):
    """What one forward pass makes, behind what was there before; copied only where there was something."""

    def __init__(self, before: Pair | None = None) -> None:
        super().__init__()
        if before is not None:
            self._hold(*before)

    def _hold(self, keys: Tensor, values: Tensor) -> None:
        self.keys, self.values = keys, values
        self.dtype, self.device, self.is_initialized = keys.dtype, keys.device, True

    def update(self, key_states: Tensor, value_states: Tensor, *_: Any, **__: Any) -> Pair:
        if self.is_initialized:
            shape = (len(key_states), -1, -1, -1)
            key_states = torch.cat([self.keys.expand(shape), key_states], -2)
            value_states = torch.cat([self.values.expand(shape), value_states], -2)
        self._hold(key_states, value_states)
        return self.keys, self.values


class _Roomy(DynamicLayer):
    """Buffers (n, H, room, D) whose first slots are in use: a new token is written into its slot, where a stock layer copies
    everything for every token."""

    def __init__(self, keys: Tensor, values: Tensor, used: int) -> None:
        super().__init__()
        self.buffers, self.used = (keys, values), used
        self.dtype, self.device, self.is_initialized = keys.dtype, keys.device, True
        self._show()

    def _show(self) -> None:
        self.keys, self.values = (buffer[:, :, : self.used] for buffer in self.buffers)

    def update(self, key_states: Tensor, value_states: Tensor, *_: Any, **__: Any) -> Pair:
        new = key_states.shape[-2]
        if self.used + new > self.buffers[0].shape[-2]:
            grown = [each.new_zeros(*each.shape[:2], 2 * (self.used + new), each.shape[3]) for each in self.buffers]
            for target, source in zip(grown, self.buffers, strict=True):
                target[:, :, : self.used] = source[:, :, : self.used]
            self.buffers = (grown[0], grown[1])
        for buffer, states in zip(self.buffers, (key_states, value_states), strict=True):
            buffer[:, :, self.used : self.used + new] = states
        self.used += new
        self._show()
        return self.keys, self.values

    def batch_select_indices(self, indices: Tensor) -> None:
        self.buffers = (self.buffers[0][indices], self.buffers[1][indices])
        self._show()


def kept(before: Sequence[Pair] = ()) -> DynamicCache:
    """An empty cache, or one that begins with these keys and values (1, H, P, D) of every layer, for a single forward pass."""
    empty: Any = DynamicCache()
    empty.layer_class_to_replicate = _Kept
    empty.layers = [_Kept(pair) for pair in before]
    cache: DynamicCache = empty
    return cache


def pairs(cache: DynamicCache) -> list[Pair]:
    """Keys and values of every layer; of no layer where the model keeps something else, such as the state of a recurrence."""
    layers: list[Any] = list(cache.layers)
    plain = all(isinstance(layer, DynamicLayer) and layer.is_initialized for layer in layers)
    return [(layer.keys, layer.values) for layer in layers] if plain else []


def _zeros(like: Tensor, shape: tuple[int, ...]) -> Tensor:
    """Zeros like a tensor. On a CPU they are asked of numpy, which takes them from the system as they are: a page that nobody
    writes costs no memory and no time, where torch writes every zero."""
    if like.device.type != "cpu":
        return like.new_zeros(shape)
    return torch.from_numpy(np.zeros(math.prod(shape) * like.element_size(), dtype=np.uint8)).view(like.dtype).view(shape)


class Slots:
    """A cache for n texts, filled pass by pass; each text ends at slot `width`, and what stands before it must be masked.

    There is room for `more` tokens.
    """

    def __init__(self, count: int, width: int, more: int) -> None:
        self.count, self.width, self.more = count, width, more
        self.buffers: list[Pair] = []

    def take(self, texts: Sequence[int], source: Sequence[Pair], places: Sequence[tuple[int, Sequence[tuple[int, int]]]]) -> None:
        """Copy what a pass says of its texts to the end of their slots; `places` gives each its row and stretches of slots.

        A pass that holds all texts in order and ends each where it must, as one padded on the left does, is taken as it is.
        """
        ends = [(row, stretches[-1][1]) for row, stretches in places]
        if source and list(texts) == list(range(self.count)) and ends == [(row, self.width) for row in range(self.count)]:
            self.buffers = list(source)
            return
        if not self.buffers:
            for pair in source:
                keys, values = (_zeros(each, (self.count, each.shape[1], self.width + self.more, each.shape[3])) for each in pair)
                self.buffers.append((keys, values))
        for pair, targets in zip(source, self.buffers, strict=True):
            for each, target in zip(pair, targets, strict=True):
                for text, (row, stretches) in zip(texts, places, strict=True):
                    at = self.width - sum(end - start for start, end in stretches)
                    for start, end in stretches:
                        target[text, :, at : at + end - start] = each[row, :, start:end]
                        at += end - start

    def cache(self) -> DynamicCache:
        """What decoding goes on from."""
        empty: Any = DynamicCache()
        if self.width:
            empty.layers = [_Roomy(keys, values, self.width) for keys, values in self.buffers]
        cache: DynamicCache = empty
        return cache
