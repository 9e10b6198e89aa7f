"""Larger models from smaller ones: neurons copied so that the function stays, blocks stacked.

Legend: a dimension of a weight is of a kind: `hidden` (the residual stream), `heads` and `kv_heads` (whole heads), `channels`
(of a feed-forward). Each kind has one index map g for the whole model, or one a block, from new places to old ones.

A weight reads one dimension and writes another. Where it writes, neurons are copied: new[j] = old[g(j)]. Where it reads, copies share
what there was: new[i] = old[g(i)] / (how many copies of g(i) there are), so that the sum over all copies is what it was
(Chen et al. 2021, arXiv 2110.07143, section 3.2; Net2Net, Chen et al. 2016, arXiv 1511.05641).

The kinds are found by building the module without weights in four sizes and looking which dimensions follow which number of
the configuration, so no family of models is named here.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from paredown.artifacts.model import Model
from paredown.core.context import context
from paredown.core.errors import UserError
from paredown.engines.feed_forward import WIDTHS
from paredown.engines.layers import find_blocks
from paredown.engines.skeletons import architecture

HEADS, KV_HEADS, DEPTHS = ("num_attention_heads", "n_head"), "num_key_value_heads", ("num_hidden_layers", "n_layer")
HIDDEN = ("hidden_size", "n_embd", "d_model")
PROJECTED = "word_embed_proj_dim"  # OPT's width of embeddings, where it is that of the stream
Map = Tensor  # (new size,) old places


@dataclass(frozen=True)
class Size:
    """What grows; None stays as it is."""

    hidden_size: int | None = None
    heads: int | None = None
    intermediate_size: int | None = None
    layers: int | None = None


@dataclass(frozen=True)
class Axes:
    """Kinds of the dimensions of one tensor, and which of them is read (None: it only writes)."""

    kinds: tuple[str, ...]  # "" where a dimension stays
    reads: int | None


@dataclass(frozen=True)
class Grown:
    """The two modules and what became of what."""

    small: nn.Module
    large: nn.Module
    axes: dict[str, Axes]  # by parameter of the small module
    maps: dict[str, Map]  # by kind
    head: int  # places of a head
    blocks: int  # of the small module
    prefix: str  # of a block's parameters, such as `model.layers.`
    dtype: torch.dtype  # that the small model is stored in

    def block_of(self, name: str) -> int | None:
        rest = name.removeprefix(self.prefix)
        return int(rest.partition(".")[0]) if rest != name else None

    def in_block(self, name: str, number: int) -> str:
        """The same parameter in another block."""
        return f"{self.prefix}{number}.{name.removeprefix(self.prefix).partition('.')[2]}"


def even_map(new: int, old: int) -> Map:
    """g(i) = i mod old: every place is copied as often as any other, or once more."""
    return torch.arange(new) % old


def random_map(new: int, old: int, generator: torch.Generator) -> Map:
    """g(i) = i for the first ones, further ones drawn evenly (the published rule)."""
    return torch.cat([torch.arange(old), torch.randint(old, (new - old,), generator=generator)])


def counts(places: Map, old: int) -> Tensor:
    """How many copies each old place has, (old,)."""
    return torch.bincount(places, minlength=old)


def expand(weight: Tensor, axis: int, places: Map, *, reads: bool) -> Tensor:
    """A tensor with one axis grown: copied where it writes, copied and shared out where it reads."""
    grown = weight.index_select(axis, places)
    if not reads:
        return grown
    shape = [1] * weight.ndim
    shape[axis] = len(places)
    return grown / counts(places, weight.shape[axis])[places].to(weight.dtype).reshape(shape)


def prepare(model: Model, size: Size, mapping: str, seed: int) -> Grown:
    """The small module with its weights, the large one without a care for them, and how places correspond.

    Raises:
        UserError: something would shrink, heads would change their size, or the class refuses the shape.
    """
    kind, config = architecture(model)
    if not hasattr(config, "num_hidden_layers"):
        raise UserError(f"{kind.__name__} has no blocks that could be grown", where=str(model.path))
    names = _names(config)
    target = copy.deepcopy(config)
    _set(target, names, size, str(model.path))
    tied = bool(getattr(config, "tie_word_embeddings", False))
    axes = _axes(kind, config, names)
    small: nn.Module = model.load()
    dtype = next(small.parameters()).dtype
    small = small.float()
    if tied:  # as an embedding it writes, as a head it reads: after growth these are two matrices
        target.tie_word_embeddings = False
    try:
        large = kind(target)
    except (ValueError, RuntimeError, AssertionError) as error:
        raise UserError(f"{kind.__name__} refuses this size: {error}", where=str(model.path)) from None
    head = _head_size(config, names)
    generator = torch.Generator().manual_seed(seed)

    def places(new: int, old: int) -> Map:
        return even_map(new, old) if mapping == "even" else random_map(new, old, generator)

    def of_heads(new: int, old: int) -> Map:
        return (places(new, old)[:, None] * head + torch.arange(head)).flatten()

    heads, kv = getattr(config, names["heads"]), getattr(config, KV_HEADS, None)
    new_heads = getattr(target, names["heads"])
    maps = {
        "hidden": places(getattr(target, names["hidden"]), getattr(config, names["hidden"])),
        "channels": places(getattr(target, names["channels"]), getattr(config, names["channels"]))
        if names["channels"]
        else torch.arange(0),
    }
    if kv is None or kv == heads:
        maps["heads"] = maps["kv_heads"] = of_heads(new_heads, heads)
    else:  # queries go with the keys that they look at
        maps["kv_heads"] = of_heads(getattr(target, KV_HEADS), kv)
        groups, each = maps["kv_heads"].reshape(-1, head)[:, 0] // head, heads // kv
        maps["heads"] = ((groups[:, None] * each + torch.arange(each)).reshape(-1, 1) * head + torch.arange(head)).flatten()
    prefix = next(iter(find_blocks(small))).rpartition(".")[0] + "."
    return Grown(small, large, axes, maps, head, len(find_blocks(small)), prefix, dtype)


Widen = Callable[[Grown, str, dict[str, Tensor]], Tensor]


def widened(grown: Grown, name: str, state: dict[str, Tensor], *, reads_only: bool = False) -> Tensor:
    """One tensor of the small module in the large one's width; with `reads_only` in the width of what it reads alone."""
    axes, value = grown.axes[name], state[name]
    for axis, kind in enumerate(axes.kinds):
        if kind and (axis == axes.reads or not reads_only):
            value = expand(value, axis, grown.maps[kind], reads=axis == axes.reads)
    return value


def from_next(grown: Grown, name: str, state: dict[str, Tensor]) -> Tensor:
    """The same, with added neurons taken from the next block (AKI, Chen et al. 2021, section 3.3); norms, and the last block, keep to their own.

    The first neurons that it writes are this block's; those that are added are copies of the next block's.
    """
    own, block = widened(grown, name, state), grown.block_of(name)
    axes = grown.axes[name]
    writes = next((axis for axis, kind in enumerate(axes.kinds) if kind and axis != axes.reads), None)
    if (
        block is None
        or block + 1 >= grown.blocks
        or writes is None
        or (axes.reads is None and not name.endswith(".bias"))
        or is_norm(grown, name)
    ):
        return own
    other = widened(grown, grown.in_block(name, block + 1), state)
    old = state[name].shape[writes]
    return torch.cat([own.narrow(writes, 0, old), other.narrow(writes, old, own.shape[writes] - old)], writes)


def is_norm(grown: Grown, name: str) -> bool:
    module = grown.small.get_submodule(name.rpartition(".")[0])
    return "norm" in type(module).__name__.lower()


def stacked_from(small: int, large: int) -> list[int]:
    """The small model's block of each block of the large one: whole stacks from the bottom, then its uppermost ones again."""
    return [*range(small)] * (large // small) + [*range(small - large % small, small)] * (large % small > 0)


def fill(grown: Grown, widen: Widen) -> nn.Module:
    """The large module with every tensor made by `widen`, blocks stacked."""
    state = {name: p.detach() for name, p in grown.small.state_dict().items()}
    depth = len(find_blocks(grown.large))
    sources = stacked_from(grown.blocks, depth)
    own = dict(grown.large.named_parameters())
    with torch.no_grad():
        for name, parameter in own.items():
            block = grown.block_of(name)
            source = name if block is None else grown.in_block(name, sources[block])
            parameter.copy_(widen(grown, _known(grown, source), state))
    return grown.large.eval()


def _known(grown: Grown, name: str) -> str:
    """A head that shared its weights with the embedding has them under its own name too."""
    if name not in grown.axes:
        raise UserError(f"the small model has no {name}", where=type(grown.small).__name__)
    return name


def _names(config: Any) -> dict[str, str]:
    """What the configuration calls its numbers."""
    found = {
        "hidden": next((n for n in HIDDEN if hasattr(config, n)), ""),
        "heads": next((n for n in HEADS if hasattr(config, n)), ""),
        "channels": next((n for n in WIDTHS if getattr(config, n, None) is not None), ""),
        "depth": next((n for n in DEPTHS if hasattr(config, n)), ""),
    }
    missing = [what for what, name in found.items() if not name and what != "channels"]
    if missing:
        raise UserError(f"{type(config).__name__} does not say its {', '.join(missing)}")
    return found


def _head_size(config: Any, names: dict[str, str]) -> int:
    return int(getattr(config, "head_dim", None) or getattr(config, names["hidden"]) // getattr(config, names["heads"]))


def _set(target: Any, names: dict[str, str], size: Size, where: str) -> None:
    """Put the new numbers into a configuration."""
    wanted = {"hidden": size.hidden_size, "heads": size.heads, "channels": size.intermediate_size, "depth": size.layers}
    old: dict[str, Any] = {what: getattr(target, name) if name else None for what, name in names.items()}
    head = _head_size(target, names)
    if size.hidden_size is not None and size.heads is None and not size.hidden_size % head:
        wanted["heads"] = size.hidden_size // head
    for what, value in wanted.items():
        if value is None:
            continue
        if not names[what]:
            raise UserError(f"the model does not say its {what}", where=where)
        if value < old[what]:
            raise UserError(
                f"{names[what]}: {value:,} is smaller than the model's {old[what]:,}", where=where, todo="growing never shrinks"
            )
        if what == "hidden" and getattr(target, PROJECTED, None) == old["hidden"]:
            setattr(target, PROJECTED, value)
        setattr(target, names[what], value)
    heads, kv = getattr(target, names["heads"]), getattr(target, KV_HEADS, None)
    if kv is not None:
        each = old["heads"] // kv
        if heads % each:
            raise UserError(
                f"{heads} heads cannot be shared out: {each} look at the same keys", where=where, todo=f"take a multiple of {each}"
            )
        setattr(target, KV_HEADS, heads // each)
    if heads * head != getattr(target, names["hidden"]) and not hasattr(target, "head_dim"):
        raise UserError(
            f"{heads} heads of {head} do not make {getattr(target, names['hidden']):,}: heads keep their size", where=where,
            todo=f"set heads: {getattr(target, names['hidden']) // head}",
        )  # fmt: skip
    if hasattr(target, "head_dim"):
        target.head_dim = head


def _axes(kind: Any, config: Any, names: dict[str, str]) -> dict[str, Axes]:
    """Kinds of every parameter's dimensions: those that change with one number of the configuration alone.

    Where heads always make the hidden size, a class does not tell the two apart; there the projections of attention are told by
    which of their sides the residual stream is not on.
    """
    from accelerate import init_empty_weights

    def shapes(**changed: int) -> tuple[dict[str, tuple[int, ...]], nn.Module]:
        probe = copy.deepcopy(config)
        if hasattr(probe, "head_dim"):
            probe.head_dim = _head_size(config, names)
        for name, value in changed.items():
            if name == names["hidden"] and getattr(probe, PROJECTED, None) == getattr(probe, name):
                setattr(probe, PROJECTED, value)
            setattr(probe, name, value)
        probe.tie_word_embeddings = False
        with init_empty_weights():
            module = kind(probe)
        return {name: tuple(p.shape) for name, p in module.named_parameters()}, module

    head, heads = _head_size(config, names), getattr(config, names["heads"])
    base, module = shapes()
    free = hasattr(config, "head_dim")
    more = {"hidden": {names["hidden"]: getattr(config, names["hidden"]) + heads * head}}
    if not free:
        more["hidden"][names["heads"]] = 2 * heads
    if names["channels"]:
        more["channels"] = {names["channels"]: getattr(config, names["channels"]) + 1}
    kv = getattr(config, KV_HEADS, None)
    if free:
        more["heads"] = {names["heads"]: 2 * heads, **({KV_HEADS: kv} if kv else {})}
        if kv and kv != heads:
            more["kv_heads"] = {KV_HEADS: heads}
        elif kv:
            more["heads"] = {names["heads"]: 2 * heads, KV_HEADS: 2 * kv}
    elif kv and kv != heads:
        raise UserError(f"{kind.__name__} has shared keys and no head_dim: its heads cannot be told from its width")
    seen = {what: shapes(**changed)[0] for what, changed in more.items()}
    found = {}
    for name, shape in base.items():
        owner = module.get_submodule(name.rpartition(".")[0])
        kinds = tuple(next((what for what, other in seen.items() if other[name][axis] != shape[axis]), "") for axis in range(len(shape)))
        found[name] = Axes(kinds if free else _told_apart(name, owner, kinds), _reads(owner, len(shape)))
    return found


def _told_apart(name: str, owner: nn.Module, kinds: tuple[str, ...]) -> tuple[str, ...]:
    """Of a class whose heads make its hidden size: queries, keys and values write heads, what comes after them reads heads.

    Raises:
        UserError: queries, keys and values are one matrix.
    """
    last = name.split(".")[-2]
    if last in ("c_attn", "query_key_value", "qkv_proj", "Wqkv"):
        raise UserError(f"{name} holds queries, keys and values in one matrix: such models cannot be grown")
    writes = last in ("q_proj", "k_proj", "v_proj", "query", "key", "value", "q_lin", "k_lin", "v_lin")
    reads = last in ("o_proj", "out_proj", "out_lin") or ".attention.output.dense" in name
    if not isinstance(owner, nn.Linear):
        return kinds
    if writes:
        return ("heads", *kinds[1:])
    return (kinds[0], "heads") if reads and len(kinds) == 2 else kinds


def _reads(owner: nn.Module, dimensions: int) -> int | None:
    """Which axis of a module's weight its inputs run over; None of what only writes, such as embeddings, norms and biases."""
    if dimensions < 2 or isinstance(owner, nn.Embedding):
        return None
    if isinstance(owner, Conv1D):
        return 0
    if isinstance(owner, nn.Linear):
        return 1
    raise UserError(f"{type(owner).__name__}: it is not known what it reads and what it writes, so it cannot be grown")


def roughen(module: nn.Module, noise: float, seed: int) -> None:
    """Add noise to every matrix, of a standard deviation relative to the matrix's own."""
    if not noise:
        return
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in module.parameters():
            if parameter.ndim >= 2:
                parameter.add_(torch.randn(parameter.shape, generator=generator), alpha=noise * float(parameter.std()))


def save(grown: Grown, module: nn.Module, model: Model) -> Model:
    """The grown model in the number format that the small one had, with its processor."""
    step = context()
    made = Model.save(step.output("model"), module.to(grown.dtype), model)
    before, after = (sum(p.numel() for p in some.parameters()) for some in (grown.small, module))
    step.says = f"{before / 1e6:,.2f}M to {after / 1e6:,.2f}M weights"
    return made
