"""The feed-forward network of each block, found by what it does: the last product of a block, and those that feed it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from transformers.pytorch_utils import Conv1D

from paredown.artifacts.block_shapes import entry
from paredown.artifacts.model import Model
from paredown.core.errors import UserError
from paredown.engines.blocks import find_blocks, is_experts
from paredown.engines.layers import order_of_use
from paredown.engines.skeletons import skeleton

WIDTHS = ("intermediate_size", "ffn_dim", "n_inner")  # what configurations call the number of channels


@dataclass(frozen=True)
class FeedForward:
    """In every block `up` layers (channels, hidden) make the channels and one `down` layer (hidden, channels) uses them."""

    model: Model
    blocks: tuple[str, ...]
    up: tuple[str, ...]  # names relative to the block
    down: str
    channels: tuple[int, ...]  # of each block
    width: str  # the configuration's entry that holds the number of channels


def find(model: Model) -> FeedForward:
    """The feed-forward network of a model's blocks, from a forward pass without data (on the meta device).

    Raises:
        UserError: a block has experts, the networks of the blocks differ, or their width stands nowhere in the configuration.
    """
    module = skeleton(model).base_model
    blocks = find_blocks(module)
    name = type(module).__name__
    if any(is_experts(child) for block in blocks.values() for child in block.modules()):
        raise UserError(f"{name} has experts: their channels cannot be removed like those of one network", where=str(model.path))
    order = order_of_use(model)
    if len(order) < 2:
        raise UserError(f"{name} has no feed-forward network that can be found", where=str(model.path))
    down, feeding = order[-1][0], order[-2][1]
    up = tuple(layer for layer, inputs in order[:-1] if inputs is feeding)
    transposed = isinstance(next(iter(blocks.values())).get_submodule(down), Conv1D)
    if not all(_has(block, layer) for block in blocks.values() for layer in (*up, down)):
        raise UserError(f"the blocks of {name} have different feed-forward networks", where=str(model.path))
    channels = tuple(int(block.get_submodule(down).weight.shape[0 if transposed else 1]) for block in blocks.values())
    said = {key: [entry(model.config, block, key) for block in blocks] for key in WIDTHS if key in model.config}
    width = next((key for key, values in said.items() if values in (list(channels), [None] * len(blocks))), "")
    if not width:
        raise UserError(f"the configuration of {name} does not say how many feed-forward channels there are", where=str(model.path))
    return FeedForward(model, tuple(blocks), up, down, channels, width)


def _has(block: Any, name: str) -> bool:
    return name in dict(block.named_modules())
