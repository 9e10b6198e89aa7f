"""Which places of which weights are of the same width: of the residual stream, of the attention heads, of the feed-forward channels.

A weight reads one dimension and writes another, and each is of a kind: `hidden` (units are places of the residual stream), `heads` (units
are heads of keys and values with the queries that read them) or `channels`. What each is follows from the class itself, not from a
list of families: the module is built without weights with one number of its configuration changed, and the dimensions that follow are of
that kind. Where a class makes its heads of the hidden size the two change together; there the order in which a block uses its
layers tells them apart (`layers.order_of_use`): those that read what the first one reads make heads, the next one uses them.

Where one matrix makes queries, keys and values together, or gate and channel, gradients tell which of its rows belong to which unit:
those that reach the unit's inputs of the layer behind.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from paredown.artifacts.block_shapes import SHAPES, merged
from paredown.artifacts.model import OWN, Model
from paredown.core.errors import UserError
from paredown.engines import encoder_decoders, feed_forward
from paredown.engines.blocks import find_blocks, is_experts
from paredown.engines.layers import order_of_use
from paredown.engines.scoring import context_length
from paredown.engines.skeletons import architecture, skeleton
from paredown.engines.units import class_name, runs, whole

PROJECTED = "word_embed_proj_dim"  # OPT's width of embeddings; here it is always that of the stream
LOOKED_AT = 8  # tokens with which gradients are asked


@dataclass(frozen=True)
class Width:
    """The numbers of a model that growth is about, and what its configuration calls them."""

    hidden: int
    heads: int  # of queries
    groups: int  # of keys and values
    head: int  # places of a head
    channels: int
    depth: int
    free: bool  # the class takes heads that do not make its hidden size
    keys: dict[str, str]

    def entries(self, hidden: int, heads: int, channels: int) -> dict[str, Any]:
        """config.json of other widths; heads keep their size."""
        found = {self.keys["hidden"]: hidden, self.keys["heads"]: heads, self.keys["channels"]: channels}
        if "groups" in self.keys:
            found[self.keys["groups"]] = heads * self.groups // self.heads
        if PROJECTED in self.keys:
            found[PROJECTED] = hidden
        return found | ({"head_dim": self.head} if self.free else {})


@dataclass(frozen=True)
class Dimension:
    """One dimension of one weight: its units, and where they lie."""

    kind: str  # hidden, heads or channels
    stretches: tuple[Tensor, ...]  # (units, width) places; each stretch goes through all units once
    reads: bool  # the weight reads it; otherwise it writes it

    def places(self, units: Tensor) -> Tensor:
        """The old place of each new one, given the old unit of each new one."""
        return torch.cat([stretch[units].flatten() for stretch in self.stretches])

    def added(self, units: Tensor) -> Tensor:
        """True where a new place belongs to a unit that was not there."""
        new = torch.arange(len(units)) >= len(self.stretches[0])
        return torch.cat([new.repeat_interleave(stretch.shape[1]) for stretch in self.stretches])


Dimensions = dict[str, dict[int, Dimension]]  # parameter -> axis -> what it is; axes that stay are left out


def check_stacks(model: Model) -> None:
    """
    Raises:
        UserError: it is no decoder or encoder of one list of blocks.
    """
    if OWN in model.config:
        raise UserError("a network of our own has no blocks that could be grown", where=str(model.path))
    module = skeleton(model)
    encoder_decoders.refuse(module, "growing")
    lists = {name.rpartition(".")[0] for name in find_blocks(module)}
    if len(lists) != 1:
        raise UserError(f"the blocks of {class_name(model)} stand in several lists, or there are none", where=str(model.path))


def width(model: Model) -> Width:
    """The widths of a model whose blocks are alike.

    Raises:
        UserError: blocks differ or have experts, or the configuration does not say a width.
    """
    module = skeleton(model)
    if any(said.get("widths") for said in model.config.get(SHAPES, {}).values()):
        raise UserError(f"the blocks of {class_name(model)} differ: it can be made deeper but not wider", where=str(model.path))
    if any(is_experts(child) for child in module.modules()):
        raise UserError(f"{class_name(model)} has experts: it can be made deeper but not wider", where=str(model.path))
    config, network = architecture(model)[1], feed_forward.find(model)
    named = {"hidden": "hidden_size", "heads": "num_attention_heads", "groups": "num_key_value_heads", PROJECTED: PROJECTED}
    keys = {what: config.attribute_map.get(name, name) for what, name in named.items() if isinstance(getattr(config, name, None), int)}
    if not {"hidden", "heads"} <= keys.keys():
        raise UserError(f"the configuration of {class_name(model)} does not say its hidden size and its heads", where=str(model.path))
    hidden, heads = config.hidden_size, config.num_attention_heads
    if getattr(config, PROJECTED, hidden) != hidden:
        raise UserError(
            f"{class_name(model)} has embeddings of another width than its stream: it cannot be made wider", where=str(model.path)
        )
    head = int(getattr(config, "head_dim", None) or hidden // heads)
    groups = getattr(config, "num_key_value_heads", None) or heads
    return Width(
        hidden, heads, groups, head, network.channels[0], len(network.blocks), _free(model, keys["hidden"], head, heads),
        keys | {"channels": network.width},
    )  # fmt: skip


def _free(model: Model, key: str, head: int, heads: int) -> bool:
    """Whether a wider stream leaves the heads as they are."""
    first = order_of_use(model)[0][0]
    try:
        wider = merged(model.config, {key: model.config[key] + heads * head, "head_dim": head})
        before, after = (next(iter(find_blocks(whole(model, config)).values())).get_submodule(first) for config in (model.config, wider))
    except UserError:
        return False
    return bool(_outputs(before) == _outputs(after))


def find(model: Model, size: Width, module: Any) -> Dimensions:
    """What each dimension of each parameter is; `module` has the weights, and its head may share those of the embedding.

    Raises:
        UserError: a weight is not understood.
    """
    untied = merged(model.config, {"tie_word_embeddings": False})
    base = whole(model, untied)

    def follow(hidden: int, heads: int, channels: int) -> dict[str, tuple[int, ...]]:
        changed = whole(model, merged(untied, size.entries(hidden, heads, channels)))
        return {name: tuple(p.shape) for name, p in changed.named_parameters()}

    seen = {
        "channels": follow(size.hidden, size.heads, size.channels + 1),
        "hidden": follow(size.hidden + size.heads * size.head, size.heads * (1 if size.free else 1 + size.hidden // (size.heads * size.head)), size.channels),
    }  # fmt: skip
    if size.free:
        seen["heads"] = follow(size.hidden, 2 * size.heads, size.channels)
    roles = _Roles(model, size, module)
    found: Dimensions = {}
    for name, parameter in base.named_parameters():
        owner = base.get_submodule(name.rpartition(".")[0])
        reads = _reads(owner, parameter.dim())
        for axis, length in enumerate(parameter.shape):
            kind = next((what for what, other in seen.items() if other[name][axis] != length), "")
            if kind == "hidden" and not size.free and roles.is_heads(name, reading=axis == reads):
                kind = "heads"
            if kind:
                found.setdefault(name, {})[axis] = Dimension(kind, roles.stretches(kind, name, length), axis == reads)
    return found


class _Roles:
    """What the layers of a block do, and where the units of those lie that hold several products."""

    def __init__(self, model: Model, size: Width, module: Any) -> None:
        self.model, self.size, self.module = model, size, module
        order = order_of_use(model)
        self.makes = [name for name, _ in itertools.takewhile(lambda used: used[1] is order[0][1], order)]
        self.uses = order[len(self.makes)][0]
        self.network = feed_forward.find(model)
        self.stem = next(iter(find_blocks(module))).rpartition(".")[0]
        self.known: dict[str, tuple[Tensor, ...]] = {}

    def is_heads(self, name: str, *, reading: bool) -> bool:
        layer = self._layer(name)
        return layer == self.uses if reading else layer in self.makes

    def _layer(self, name: str) -> str:
        """A parameter's layer, relative to its block; empty outside of blocks."""
        inside = name.removeprefix(f"{self.stem}.")
        return inside.partition(".")[2].rpartition(".")[0] if inside != name else ""

    def stretches(self, kind: str, name: str, length: int) -> tuple[Tensor, ...]:
        """
        Raises:
            UserError: it is several products in one, and what belongs to a unit cannot be told.
        """
        size, layer = self.size, self._layer(name)
        units, widths = {
            "hidden": (size.hidden, (1,)),
            "channels": (size.channels, (1,)),
            "heads": (size.groups, (size.heads // size.groups * size.head, size.head)),
        }[kind]
        if any(length == units * each for each in widths):
            return (torch.arange(length).reshape(units, -1),)
        if layer not in self.known:
            used, makes = (self.uses, self.makes) if kind == "heads" else (self.network.down, self.network.up)
            known = layer in makes and units > 1
            owner = self._owner(layer, used, units) if known else torch.empty(0)
            lengths = runs(owner) if known else []
            expected = torch.cat([torch.arange(units).repeat_interleave(n) for n in lengths]) if lengths else owner
            if len(owner) != length or not torch.equal(owner, expected):
                raise UserError(f"what of {name} belongs to one of {units} {kind} cannot be told", where=str(self.model.path))
            parts = torch.split(torch.arange(length), [units * n for n in lengths])
            self.known[layer] = tuple(part.reshape(units, -1) for part in parts)
        return self.known[layer]

    def _owner(self, made: str, used: str, units: int) -> Tensor:
        """The unit that each output of `made` reaches, in the first block; -1 where it reaches none or several."""
        block = self.module.get_submodule(f"{self.stem}.0")
        output, inputs = _between(self.module, block.get_submodule(made), block.get_submodule(used))
        of = torch.arange(units).repeat_interleave(inputs.shape[-1] // units)
        weight = torch.linspace(1, 2, inputs.numel(), dtype=inputs.dtype).reshape(
            inputs.shape
        )  # uneven, so that softmax's own sum does not hide what it adds up
        number, bad = torch.zeros(output.shape[-1], dtype=torch.long), torch.zeros(output.shape[-1], dtype=torch.bool)
        for bit in range(max(1, (units - 1).bit_length())):
            reached = []
            for side in (0, 1):
                (gradient,) = torch.autograd.grad((inputs * weight * (of >> bit & 1 == side)).sum(), output, retain_graph=True)
                reached.append((gradient != 0).flatten(0, -2).any(0))
            number += reached[1].long() << bit
            bad |= reached[0] == reached[1]
        return torch.where(bad, -1, number)


class _Reached(Exception):
    """Ends a pass at the layer that was waited for."""


def _between(module: Any, made: nn.Module, used: nn.Module) -> tuple[Tensor, Tensor]:
    """What `made` gives and what `used` gets, one after the other in one graph."""
    found: list[Tensor] = []

    def start(_layer: nn.Module, _inputs: Any, output: Tensor) -> Tensor:
        found.append(output.detach().requires_grad_())
        return found[0]

    def stop(_layer: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        found.append(inputs[0])
        raise _Reached

    hooks = [made.register_forward_hook(start), used.register_forward_pre_hook(stop)]
    try:
        with torch.enable_grad():
            run(module)
    except _Reached:
        pass
    finally:
        for hook in hooks:
            hook.remove()
    return found[0], found[1]


def run(module: Any) -> Tensor:
    """What a module makes of some tokens: logits, or its stream where it has no head."""
    config = module.config.get_text_config()
    ids = torch.arange(min(LOOKED_AT, context_length(config)))[None] % int(config.vocab_size)
    made: Tensor = module(input_ids=ids)[0]
    return made


def _outputs(layer: Any) -> int:
    return int(layer.weight.shape[1 if isinstance(layer, Conv1D) else 0])


def _reads(owner: nn.Module, dimensions: int) -> int | None:
    """Which axis of a module's parameter its inputs run over; None of what only writes, such as embeddings, norms and biases.

    Raises:
        UserError: it is not known of such modules.
    """
    if dimensions < 2 or isinstance(owner, nn.Embedding):
        return None
    if isinstance(owner, Conv1D):
        return 0
    if isinstance(owner, nn.Linear):
        return 1
    raise UserError(f"{type(owner).__name__}: it is not known what it reads and what it writes, so it cannot be made wider")


def scaling_norm(module: Any, blocks: Sequence[str]) -> str:
    """The norm outside of blocks whose output is what the head reads, if its weights scale that output; otherwise nothing."""
    head = module.get_output_embeddings()
    outputs: dict[str, tuple[Tensor, Tensor]] = {}
    read: list[Tensor] = []
    hooks = [head.register_forward_pre_hook(lambda _, inputs: read.append(inputs[0]))]
    for name, child in module.named_modules():
        own = list(child.parameters(recurse=False))
        if own and all(p.dim() == 1 for p in own) and not name.startswith(tuple(f"{block}." for block in blocks)):
            hooks.append(child.register_forward_hook(lambda _, i, o, name=name: outputs.__setitem__(name, (i[0], o))))
    try:
        with torch.no_grad():
            run(module)
    finally:
        for hook in hooks:
            hook.remove()
    for name, (given, output) in outputs.items():
        if read and output.data_ptr() == read[0].data_ptr() and output.shape == read[0].shape:
            norm = module.get_submodule(name)
            with torch.no_grad():
                halved = torch.func.functional_call(norm, {key: p / 2 for key, p in norm.named_parameters()}, (given,))
            return name if torch.allclose(halved, output / 2) else ""
    return ""
