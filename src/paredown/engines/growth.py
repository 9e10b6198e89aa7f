"""Larger models from smaller ones: neurons copied so that the function stays, blocks stacked.

Each kind of width (the residual stream, heads with their keys, feed-forward channels: `dimensions.py`) has one map g for the whole model, from
new units to old ones. A weight reads one dimension and writes another. Where it writes, units are copied: new[j] = old[g(j)]. Where it
reads, copies share what there was: new[i] = old[g(i)] / (how many copies g(i) has), so that the sum over all copies is what it was.

An embedding that the head shares writes the stream and is read by the head. It stays shared where what the head reads comes from
a norm whose weights scale it: then those are divided by the number of copies, otherwise the head gets a matrix of its own.

Source: Chen et al. 2021, arXiv 2110.07143, section 3; Net2Net, Chen et al. 2016, arXiv 1511.05641.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from paredown.artifacts.block_shapes import merged, shaped
from paredown.artifacts.model import Model, quiet
from paredown.core.context import context
from paredown.core.errors import UserError
from paredown.engines import depth, dimensions
from paredown.engines.blocks import find_blocks
from paredown.engines.dimensions import Dimensions, Width
from paredown.engines.processes import private_randomness, reseed
from paredown.engines.skeletons import architecture, skeleton
from paredown.engines.units import whole

Map = Tensor  # (new units,) old units
TIED = "tie_word_embeddings"


@dataclass(frozen=True)
class Size:
    """What is wanted; None stays as it is."""

    hidden_size: int | None = None
    heads: int | None = None
    intermediate_size: int | None = None
    layers: int | None = None


@dataclass(frozen=True)
class Grown:
    """The small module, the large one with random weights, and what of the one becomes what of the other."""

    small: nn.Module  # in fp32, or in float64 where it is stored so
    large: nn.Module
    dimensions: Dimensions  # by parameter of the small module; without what stays as wide as it is
    maps: dict[str, Map]  # by kind
    sources: list[int]  # the small model's block of each block of the large one
    stem: str  # of the blocks' names
    scaled: str  # the norm whose output the head reads, where it stays shared with the embedding; otherwise empty
    dtype: torch.dtype  # that the small model is stored in
    outside: set[str]  # parameters of norms

    def source(self, name: str) -> str:
        """The small module's parameter that one of the large module is made of."""
        number = self.block(name)
        return name if number is None else self.in_block(name, self.sources[number])

    def block(self, name: str) -> int | None:
        rest = name.removeprefix(f"{self.stem}.")
        return int(rest.partition(".")[0]) if rest != name else None

    def in_block(self, name: str, number: int) -> str:
        """The same parameter in another block."""
        return f"{self.stem}.{number}.{name.removeprefix(f'{self.stem}.').partition('.')[2]}"


def even_map(new: int, old: int) -> Map:
    """g(i) = i mod old: every unit is copied as often as any other, or once more."""
    return torch.arange(new) % old


def random_map(new: int, old: int, generator: torch.Generator) -> Map:
    """g(i) = i for the first ones, further ones drawn evenly (the published rule)."""
    return torch.cat([torch.arange(old), torch.randint(old, (new - old,), generator=generator)])


def expand(weight: Tensor, axis: int, chosen: Map, *, reads: bool) -> Tensor:
    """A tensor with one axis grown: copied where it writes, copied and shared out where it reads."""
    grown = weight.index_select(axis, chosen)
    if not reads:
        return grown
    shape = [1] * weight.ndim
    shape[axis] = len(chosen)
    copies = torch.bincount(chosen, minlength=weight.shape[axis])[chosen]
    return grown / copies.to(weight.dtype).reshape(shape)


def stacked(small: int, large: int) -> list[int]:
    """The small model's block of each block of the large one: whole stacks from the bottom, then its uppermost ones again."""
    return [*range(small)] * (large // small) + [*range(small - large % small, small)] * (large % small > 0)


def prepare(model: Model, size: Size, mapping: str, seed: int, *, exact: bool = True) -> Grown:
    """Everything that filling a larger model needs. What is wanted is checked before a weight is read.

    Where it need not be `exact`, a head that shares its weights with the embedding goes on doing so whatever comes of it.

    Raises:
        DataError: a checkpoint is a pickle.
        UserError: something would shrink, heads would change their size, or the class refuses the shape or cannot hold it.
    """
    dimensions.check_stacks(model)
    names = list(find_blocks(skeleton(model)))
    sources = stacked(len(names), _larger("layers", size.layers, len(names), str(model.path)))
    base = depth.block_names(model)
    config = depth.arranged(model, base, sources) if len(sources) > len(base) else model.config
    now = wanted = None
    if any(value is not None for value in (size.hidden_size, size.heads, size.intermediate_size)):
        now = dimensions.width(model)
        wanted = _wanted(now, size, str(model.path))
        if wanted == (now.hidden, now.heads, now.channels):
            wanted = None
        else:
            config = merged(config, now.entries(*wanted))
    whole(model, config)  # refuses what the class does not take
    small: Any = model.load()
    dtype = next(small.parameters()).dtype
    small = small.to(dtype if dtype == torch.float64 else torch.float32)
    found: Dimensions = {}
    maps: dict[str, Map] = {}
    scaled = ""
    if now is not None and wanted is not None:
        found = dimensions.find(model, now, small)
        maps = _maps(now, wanted, mapping, seed)
        if exact and _tied(small) and wanted[0] > now.hidden:
            scaled = dimensions.scaling_norm(small, names)
            config = config | {TIED: bool(scaled)}
    large = _fresh(model, config, next(small.parameters()).dtype, seed)
    return Grown(small, large, found, maps, sources, names[0].rpartition(".")[0], scaled, dtype, _norms(small))


def _larger(what: str, value: int | None, old: int, where: str) -> int:
    if value is not None and value < old:
        raise UserError(f"{what}: {value:,} is smaller than the model's {old:,}", where=where, todo="growing never shrinks")
    return value or old


def _wanted(now: Width, size: Size, where: str) -> tuple[int, int, int]:
    """(hidden size, heads, channels); heads that are not asked for are as many as make the hidden size, where they did before."""
    hidden = _larger("hidden_size", size.hidden_size, now.hidden, where)
    made = hidden // now.head if now.heads * now.head == now.hidden and hidden % now.head == 0 else now.heads
    each = now.heads // now.groups
    heads = _larger("heads", size.heads if size.heads is not None else max(now.heads, made), now.heads, where)
    if not now.free and heads * now.head != hidden:
        fits = f"hidden_size: {-(-hidden // now.head) * now.head}" if hidden % now.head else f"heads: {hidden // now.head}"
        raise UserError(
            f"{heads} heads of {now.head} do not make a hidden size of {hidden:,}: heads keep their size", where=where, todo=f"set {fits}"
        )
    if heads % each:
        near = [n for n in (heads - heads % each, heads - heads % each + each) if n >= now.heads]
        raise UserError(
            f"{heads} heads cannot be shared out: {each} look at the same keys",
            where=where,
            todo=f"set heads: {' or '.join(map(str, near))}",
        )
    return hidden, heads, _larger("intermediate_size", size.intermediate_size, now.channels, where)


def _maps(now: Width, wanted: tuple[int, int, int], mapping: str, seed: int) -> dict[str, Map]:
    generator = torch.Generator().manual_seed(seed)
    old = {"hidden": now.hidden, "heads": now.groups, "channels": now.channels}
    new = {"hidden": wanted[0], "heads": wanted[1] * now.groups // now.heads, "channels": wanted[2]}
    return {
        kind: even_map(new[kind], units) if mapping == "even" else random_map(new[kind], units, generator) for kind, units in old.items()
    }


def _fresh(model: Model, config: dict[str, Any], dtype: torch.dtype, seed: int) -> nn.Module:
    """A module of another configuration, its weights drawn as its class draws them."""
    kind, known = architecture(model)
    configuration = type(known).from_dict(config)
    with private_randomness(), quiet():
        reseed(seed, "weights")
        made: nn.Module = shaped(kind, configuration)(configuration)
    return made.to(dtype).eval()


def _tied(module: Any) -> bool:
    head = module.get_output_embeddings()
    return head is not None and head.weight is module.get_input_embeddings().weight


def _norms(module: nn.Module) -> set[str]:
    """Parameters of modules that hold nothing but vectors: they are of the places that they scale, not neurons of their own."""
    found = set()
    for name, child in module.named_modules():
        own = dict(child.named_parameters(recurse=False))
        if own and all(p.dim() == 1 for p in own.values()):
            found |= {f"{name}.{key}" for key in own}
    return found


Widen = Callable[[Grown, str, dict[str, Tensor]], Tensor]


def widened(grown: Grown, name: str, state: dict[str, Tensor]) -> Tensor:
    """One tensor of the small module in the large one's width (FPI, section 3.2)."""
    value = state[name]
    for axis, dimension in grown.dimensions.get(name, {}).items():
        shares = dimension.reads or (grown.scaled != "" and name.rpartition(".")[0] == grown.scaled)
        value = expand(value, axis, dimension.places(grown.maps[dimension.kind]), reads=shares)
    return value


def from_next(grown: Grown, name: str, state: dict[str, Tensor]) -> Tensor:
    """The same, with added neurons taken from the next block (AKI, section 3.3); norms, the last block and what is outside keep to their own.

    Of what a weight writes, the units that were there are this block's; those that are added are copies of the next block's.
    """
    own, block = widened(grown, name, state), grown.block(name)
    writes = next((item for item in grown.dimensions.get(name, {}).items() if not item[1].reads), None)
    if block is None or block == max(grown.sources) or writes is None or name in grown.outside:
        return own
    axis, dimension = writes
    added = dimension.added(grown.maps[dimension.kind]).nonzero().flatten()
    other = widened(grown, grown.in_block(name, block + 1), state)
    return own.index_copy(axis, added, other.index_select(axis, added))


def fill(grown: Grown, widen: Widen) -> nn.Module:
    """The large module with every parameter made by `widen`, blocks stacked."""
    state = {name: value.detach() for name, value in grown.small.state_dict().items()}
    with torch.no_grad():
        for name, parameter in grown.large.named_parameters():
            parameter.copy_(widen(grown, grown.source(name), state))
    return grown.large


def corner(grown: Grown, put: Callable[[Tensor, Tensor, dict[int, Tensor]], Tensor]) -> nn.Module:
    """The large module with what `put` makes of its own random values, the small module's, and by axis the places of these; further blocks stay."""
    state = {name: value.detach() for name, value in grown.small.state_dict().items()}
    with torch.no_grad():
        for name, parameter in grown.large.named_parameters():
            block = grown.block(name)
            if block is not None and block > max(grown.sources):
                continue
            there = {axis: ~of.added(grown.maps[of.kind]) for axis, of in grown.dimensions.get(name, {}).items()}
            parameter.copy_(put(parameter.detach(), state[name], {axis: kept.nonzero().flatten() for axis, kept in there.items()}))
    return grown.large


def roughen(module: nn.Module, noise: float, seed: int) -> None:
    """Add noise to every matrix, of a standard deviation relative to the matrix's own."""
    if not noise:
        return
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in module.parameters():
            if parameter.ndim >= 2:
                parameter.add_(torch.randn(parameter.shape, generator=generator), alpha=noise * float(parameter.std()))


def save(grown: Grown, module: Any, model: Model) -> Model:
    """The larger model in the number format of the small one, with its processor and what it says of generation."""
    step, small = context(), grown.small
    before, after = (sum(p.numel() for p in some.parameters()) for some in (small, module))
    with torch.no_grad():
        new, old = dimensions.run(module), dimensions.run(small)
    apart = float((new - old).abs().max()) if new.shape == old.shape else None  # a model without a head gives its stream
    step.facts.update(weights_before=before, weights_after=after, outputs_apart=apart, shares_embedding=_tied(module))
    if getattr(module, "generation_config", None) is not None:
        module.generation_config = getattr(small, "generation_config", module.generation_config)
    made = Model.save(step.output("model"), module.to(grown.dtype), model)
    moved = f"; outputs move by up to {apart:.2g}" if apart is not None else ""
    step.says = f"{before / 1e6:,.2f}M to {after / 1e6:,.2f}M weights{moved}"
    return made
