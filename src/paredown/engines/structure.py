"""Where the units of a model are: feed-forward channels, attention heads, filters, experts.

Where their indices come from:

- Feed-forward channels of a transformers model: from `feed_forward.find`, the order in which a block uses its layers. That needs
  no graph and no extra. Only where one matrix holds several products, which the order cannot tell apart, is the graph asked.
- Attention heads, and the filters of our own networks: from the dependency graph (`dependencies.py`), built once without
  weights. Which keys a query reads, what normalizes in between and what else reads a filter stands in no configuration.

- Experts: every tensor that has one dimension less of one where the class is asked for one expert less.

The graph's word is checked: the indices of all units cover each layer exactly once, and `Units.check` compares the shapes.

The blocks of a transformers model may lose different numbers of units. One number in its configuration describes all blocks, so what
is left then has `block_shapes` (`artifacts/block_shapes.py`); where all lose the same, stock transformers loads it.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Literal

import torch
from torch import nn
from transformers.pytorch_utils import Conv1D

from paredown.artifacts.block_shapes import SHAPES, entry, merged
from paredown.artifacts.model import OWN, Model
from paredown.core import catalog
from paredown.core.errors import UserError
from paredown.engines import dependencies, feed_forward
from paredown.engines.blocks import find_blocks, is_experts
from paredown.engines.layers import order_of_use
from paredown.engines.skeletons import architecture
from paredown.engines.units import Group, Part, Shapes, Units, accepts, class_name, hollow, left, shapes, sizes

EXPERTS = ("num_local_experts", "num_experts", "n_routed_experts", "moe_num_experts")  # what configurations call their number
ROLES = ("makes", "uses", "between")
NORM = ("weight", "bias", "running_mean", "running_var")  # what a batch norm holds of each channel


def channels(model: Model) -> Units:
    """The feed-forward channels of every block of a transformers model.

    Raises:
        MissingExtra: one matrix makes several products of a channel, and Torch-Pruning is not installed.
        UserError: there are none that can be removed.
    """
    network = feed_forward.find(model)
    module = hollow(model)

    def parts(name: str) -> tuple[tuple[Part, ...], Part]:
        block = module.get_submodule(name)
        down = block.get_submodule(network.down)
        count = _inputs(down)
        every = torch.arange(count)[:, None]
        made = [block.get_submodule(layer) for layer in network.up]
        uses = Part(network.down, _dims(down, makes=False), every)
        if all(_outputs(layer) == count for layer in made):
            return tuple(Part(up, _dims(layer, makes=True), every) for up, layer in zip(network.up, made, strict=True)), uses
        members = dependencies.of_block(module, name, network.down).group(network.down, "uses", every.flatten().tolist())
        return tuple(part for member in members if member.role == "makes" for part in _columns(block, member, count)), uses

    return _in_every_block(model, "channels", module, network.blocks, parts, lambda kept: {network.width: kept})


def heads(model: Model, whole: bool) -> Units:
    """The attention heads of every block of a transformers model.

    A unit is a head of keys and values with all queries that read it where `whole`, otherwise one query, and as many queries go
    from each head of keys and values. The width of a head stays.

    Raises:
        MissingExtra: Torch-Pruning is not installed.
        UserError: the model's class cannot hold fewer heads of the same width, or what belongs to a head cannot be told.
    """
    name = class_name(model)
    _, config = architecture(model)
    module = hollow(model)
    blocks = tuple(find_blocks(module))
    config_key = config.attribute_map.get("num_attention_heads", "num_attention_heads")
    counts = {block: entry(model.config, block, config_key) for block in blocks}
    count = max(counts.values(), key=lambda said: said if isinstance(said, int) else 0)
    if not isinstance(count, int):
        raise UserError(f"the configuration of {name} does not say how many heads each block has", where=str(model.path))
    grouped = hasattr(config, "num_key_value_heads")
    keys = {block: (entry(model.config, block, "num_key_value_heads") or counts[block]) if grouped else counts[block] for block in blocks}
    width = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    per = count // keys[blocks[0]]
    if not whole and len(set(keys.values())) > 1:
        raise UserError(f"the blocks of {name} have different numbers of heads of keys", where=str(model.path), todo="set grouped: whole")

    def entries(kept: int) -> dict[str, Any]:
        queries, read = (kept * per, kept) if whole else (kept, keys[blocks[0]])
        return {"num_attention_heads": queries} | ({"num_key_value_heads": read} if grouped else {})

    before = sizes(module)
    least = {**entries(1 if whole else keys[blocks[0]]), "head_dim": width}
    if count > 1 and accepts(model, least) and shapes(model, merged(model.config, least)) == before:
        raise UserError(
            f"{name} divides its hidden size by the number of heads: the stock class cannot hold fewer heads of the same width",
            where=str(model.path),
            todo="set heads: 0; feed-forward channels can be removed",
        )
    order = order_of_use(model)
    reading = list(itertools.takewhile(lambda used: used[1] is order[0][1], order))
    out = order[len(reading)][0] if len(reading) < len(order) else ""
    for block in blocks:
        layer = dict(module.get_submodule(block).named_modules()).get(out) if out else None
        if not isinstance(layer, nn.Linear) or layer.in_features != counts[block] * width:
            raise UserError(f"the layer that puts the heads of {name} together cannot be found", where=str(model.path))

    def parts(block: str) -> tuple[tuple[Part, ...], Part]:
        queries = [range(n * width, (n + 1) * width) for n in range(counts[block])]
        return _queries(model, module, block, out, queries, per, whole)

    sets = 1 if whole else keys[blocks[0]]
    return _in_every_block(model, "heads", module, blocks, parts, entries, sets=sets, always={"head_dim": width})


def _queries(model: Model, module: Any, name: str, out: str, queries: list[range], per: int, whole: bool) -> tuple[tuple[Part, ...], Part]:
    """The parts of the units in the first block, given the inputs of `out` that come from each query."""
    block = module.get_submodule(name)
    graph = dependencies.of_block(module, name, out)
    found: dict[str, list[set[int]]] = {}
    for number, inputs in enumerate(queries):
        for member in graph.group(out, "uses", list(inputs)):
            if member.role == "makes" or member.name == out:
                found.setdefault(member.name, [set() for _ in queries])[number] |= set(member.indices)
            elif member.role != "between" or _numbers(block, member.name) > len(inputs):
                raise UserError(
                    f"{class_name(model)} handles several heads together in {member.name}: what is left would compute something else",
                    where=str(model.path),
                )
    parts = {}
    for layer, sets in found.items():
        size = len(queries) * len(queries[0]) if layer == out else _outputs(block.get_submodule(layer))
        groups = [set().union(*sets[first : first + per]) for first in range(0, len(queries), per)]
        units = groups if whole else [own - set().union(*(s for s in sets if s is not own)) for own in sets]
        if sorted(itertools.chain(*groups)) != list(range(size)) or len({len(unit) for unit in units}) != 1:
            raise UserError(f"what of {layer} belongs to a head of {class_name(model)} cannot be told", where=str(model.path))
        if units[0]:
            indices = torch.tensor([sorted(unit) for unit in units])
            parts[layer] = Part(layer, _dims(block.get_submodule(layer), makes=layer != out), indices)
    uses = parts.pop(out)
    return tuple(parts.values()), uses


def experts(model: Model) -> Units:
    """The experts of every block that has some, of a mixture-of-experts model of transformers, with their share of the router.

    Raises:
        UserError: there are none, or they are routed in groups.
    """
    name, module = class_name(model), hollow(model)
    blocks = list(find_blocks(module))
    mixed = [block for block in blocks if any(is_experts(child) for child in module.get_submodule(block).modules())]
    key = next((key for key in EXPERTS if isinstance(model.config.get(key), int)), "")
    if not mixed or not key:
        raise UserError(f"{name} has no experts that its configuration counts", where=str(model.path))
    if (model.config.get("n_group") or 1) > 1:
        raise UserError(f"{name} routes to groups of experts, which must stay of one size", where=str(model.path))
    asked = next((model.config[k] for k in ("num_experts_per_tok", "moe_k") if isinstance(model.config.get(k), int)), 1)
    count = {block: int(entry(model.config, block, key)) for block in mixed}

    def entries(kept: Sequence[int]) -> dict[str, Any]:
        left = dict(zip(mixed, kept, strict=len(kept) > 1))  # of a block without experts the number says nothing
        return of_blocks(blocks, [{key: left.get(block, kept[0])} for block in blocks])

    before = sizes(module)
    fewer = shapes(model, merged(model.config, of_blocks(blocks, [{key: count.get(block, 2) - 1} for block in blocks])))
    groups = []
    for block in mixed:
        parts: dict[bool, list[Part]] = {True: [], False: []}
        for tensor, size in before.items():
            changed = [dim for dim, (old, new) in enumerate(zip(size, fewer[tensor], strict=True)) if old != new]
            if not tensor.startswith(f"{block}.") or not changed:
                continue
            if len(changed) > 1 or size[changed[0]] != count[block]:
                raise UserError(f"what of {tensor} belongs to an expert of {name} cannot be told", where=str(model.path))
            layer, _, inner = tensor.removeprefix(f"{block}.").rpartition(".")
            stacked = is_experts(module.get_submodule(f"{block}.{layer}"))
            parts[stacked].append(Part(layer, {inner: changed[0]}, torch.arange(count[block])[:, None]))
        groups.append(Group(block, tuple(parts[True]), (), tuple(parts[False])))
    return Units(model, "experts", tuple(groups), before, entries, fewest=asked)


def filters(model: Model) -> Units:
    """The filters and hidden units of one of our own networks that only the next layers read: not those of a residual stream.

    Raises:
        MissingExtra: Torch-Pruning is not installed.
        UserError: there are none.
    """
    module = hollow(model)
    graph = dependencies.of_network(module)
    groups = []
    for name, layer in module.named_modules():
        if not isinstance(layer, dependencies.PRODUCTS):
            continue
        members = graph.group(name, "makes", list(range(_outputs(layer))))
        roles = [member.role for member in members]
        norms = [module.get_submodule(member.name) for member in members if member.role == "between" and _is_module(module, member.name)]
        if "output" in roles or roles.count("makes") != 1 or "uses" not in roles or len(norms) != roles.count("between"):
            continue
        if all(isinstance(norm, nn.modules.batchnorm._BatchNorm) for norm in norms):
            parts = [tuple(p for m in members if m.role == role for p in _columns(module, m, _outputs(layer))) for role in ROLES]
            groups.append(Group("", *parts))
    if not groups:
        raise UserError(f"{class_name(model)} has no filters that only the next layer reads", where=str(model.path))
    before = sizes(module)

    def entries(kept: Sequence[int]) -> dict[str, Any]:
        return _architecture(model, left(before, groups, kept), kept, before)

    return Units(model, "filters", tuple(groups), before, entries)


def _architecture(model: Model, wanted: Shapes, kept: Sequence[int], before: Shapes) -> dict[str, Any]:
    """The architecture's knobs with one list of widths changed, so that a network built of them has the wanted shapes."""
    if wanted == before:
        return {}
    spec = model.config[OWN]
    for knob, value in catalog.build(spec).knobs().items():
        if value is None or isinstance(value, list):
            entries = {OWN: {**spec, knob: list(kept)}}
            try:
                if shapes(model, model.config | entries) == wanted:
                    return entries
            # Another list, that these widths are no values for: its knobs are refused (pydantic's error is a ValueError), lists do
            # not fit each other (ValueError, IndexError), or torch cannot make a layer of the size (RuntimeError).
            except (ValueError, IndexError, RuntimeError):
                continue
    raise UserError(f"no knob of {spec['use']} holds the number of filters of each layer", where=str(model.path))


def _in_every_block(
    model: Model, kind: Literal["channels", "heads"], module: Any, blocks: Sequence[str], parts: Callable[[str], tuple[tuple[Part, ...], Part]],
    entries: Callable[[int], dict[str, Any]], sets: int = 1, always: dict[str, Any] | None = None,
) -> Units:  # fmt: skip
    """The units of each block; `entries` says what the configuration calls so many of them, `parts` looks at a block, once for each shape."""
    known: dict[tuple[Any, ...], tuple[tuple[Part, ...], Part]] = {}
    groups = []
    for block in blocks:
        shape = tuple(sizes(module.get_submodule(block)).items())
        if shape not in known:
            known[shape] = parts(block)
        makes, uses = known[shape]
        groups.append(Group(block, makes, (uses,)))
    return Units(
        model, kind, tuple(groups), sizes(module), lambda kept: (always or {}) | of_blocks(blocks, [entries(n) for n in kept]), sets
    )


def of_blocks(blocks: Sequence[str], said: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The entries of config.json where it is to say this of each block: of all alike, or of each its own."""
    if all(one == said[0] for one in said):
        return said[0]
    found: dict[str, Any] = {}
    for block, one in zip(blocks, said, strict=True):
        widths = found.setdefault(block.rpartition(".")[0], {"widths": {key: [] for key in one}})["widths"]
        for key, value in one.items():
            widths[key].append(value)
    return {SHAPES: found}


def _columns(module: Any, member: dependencies.Member, units: int) -> Iterable[Part]:
    """A layer's indices by the unit that they were found for, as parts of one index a unit.

    Raises:
        UserError: they do not cover the layer, or not evenly.
    """
    layer = module.get_submodule(member.name)
    of: list[list[int]] = [[] for _ in range(units)]
    for index, root in zip(member.indices, member.roots, strict=True):
        if root is not None:
            of[root].append(index)
    size = units if member.role == "between" else _outputs(layer) if member.role == "makes" else _inputs(layer)
    if len({len(unit) for unit in of}) != 1 or sorted(itertools.chain(*of)) != list(range(size)):
        raise UserError(f"what of {member.name} belongs to a channel cannot be told")
    indices = torch.tensor([sorted(unit) for unit in of])
    dims = {name: 0 for name in NORM if name in layer.state_dict()} if member.role == "between" else _dims(layer, member.role == "makes")
    return [Part(member.name, dims, column) for column in torch.split(indices, 1, dim=1)]


def _outputs(layer: Any) -> int:
    return int(layer.weight.shape[1 if isinstance(layer, Conv1D) else 0])


def _inputs(layer: Any) -> int:
    return int(layer.weight.shape[0 if isinstance(layer, Conv1D) else 1])


def _dims(layer: Any, makes: bool) -> dict[str, int]:
    """The tensors that hold a layer's outputs (or its inputs), and the dimension of each."""
    if makes:
        return {"weight": 1 if isinstance(layer, Conv1D) else 0} | ({"bias": 0} if layer.bias is not None else {})
    return {"weight": 0 if isinstance(layer, Conv1D) else 1}


def _is_module(module: nn.Module, name: str) -> bool:
    return name in dict(module.named_modules())


def _numbers(block: nn.Module, name: str) -> int:
    """The most numbers in a parameter, or in one of a module."""
    found = dict(block.named_parameters())
    own = [found[name]] if name in found else list(block.get_submodule(name).parameters())
    return max((parameter.numel() for parameter in own), default=0)
