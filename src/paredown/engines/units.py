"""Units that can be taken out of a model whole, as indices of its tensors; the cuts they mean, and the shapes that are left.

A unit (a feed-forward channel, an attention head, a filter) is of each layer that makes it some outputs, of each that uses it
some inputs, and of what scales it in between the same. From these indices follow the cuts of the stored tensors, which
`model_files.write_model` applies with one tensor in memory, and the shapes of what is left. Before anything is pruned those are
compared with the shapes of a model built anew from the new config.json, so what its own class could not load is refused at once.

`structure.py` finds the units, `removal.py` takes them out.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from paredown.artifacts.block_shapes import SHAPES, merged, shaped
from paredown.artifacts.model import OWN, Model
from paredown.core.errors import UserError
from paredown.engines.model_files import Cut, Cuts, Piece
from paredown.engines.skeletons import architecture

Shapes = dict[str, tuple[int, ...]]


@dataclass(frozen=True)
class Part:
    """What of a layer belongs to the units: row u of `indices` (units, width) to unit u."""

    layer: str
    dims: dict[str, int]  # tensor of the layer -> its dimension that the indices count along
    indices: Tensor


@dataclass(frozen=True)
class Group:
    """Units that compete with each other; `block` precedes the names of the layers, unless they are whole."""

    block: str
    makes: tuple[Part, ...]
    uses: tuple[Part, ...]
    between: tuple[Part, ...] = ()

    @property
    def units(self) -> int:
        return int((self.uses or self.makes)[0].indices.shape[0])

    def tensors(self) -> Iterable[tuple[str, int, Tensor]]:
        """(name, dimension, indices) of every tensor that is cut."""
        for part in (*self.makes, *self.uses, *self.between):
            for tensor, dim in part.dims.items():
                yield ".".join(filter(None, (self.block, part.layer, tensor))), dim, part.indices


@dataclass(frozen=True)
class Units:
    """All units of one kind; tensors are named as in the base module."""

    model: Model
    kind: Literal["channels", "heads", "filters", "experts"]
    groups: tuple[Group, ...]
    shapes: Shapes  # of all tensors, with every unit there
    entries: Callable[[Sequence[int]], dict[str, Any]]  # what config.json says where so many units of each group are left
    sets: int = 1  # a group's units lie in so many sets of neighbours, of which each keeps the same number
    fewest: int = 1  # so many of a group must stay

    def weights(self) -> list[float]:
        """How many weights a unit of each group has."""
        found = []
        for group in self.groups:
            one = left(self.shapes, [group], [group.units - 1]) if group.units > 1 else {}
            names = {name for name, _, _ in group.tensors()}
            gone = sum(math.prod(self.shapes[name]) - math.prod(one.get(name, (0,))) for name in names)
            found.append(float(gone))
        return found

    def check(self, kept: Sequence[int]) -> None:
        """Refuse numbers of units that the model's own class has no place for.

        Raises:
            UserError: the class refuses them, or makes other shapes; for heads with the nearest numbers that it takes.
        """
        if min(kept) < self.fewest:
            raise UserError(f"{class_name(self.model)} needs {self.fewest} {self.kind} in each block", where=str(self.model.path))
        entries = self.entries(kept)
        try:
            found = shapes(self.model, merged(self.model.config, entries))
        except UserError as error:
            raise UserError(error.what, where=str(self.model.path), todo=self._nearest(kept)) from None
        expected = left(self.shapes, self.groups, kept)
        odd = next((name for name in sorted(expected.keys() | found.keys()) if expected.get(name) != found.get(name)), None)
        if odd is not None:
            raise UserError(
                f"{class_name(self.model)} has no place for what is left: of {odd} it makes {found.get(odd)}, not {expected.get(odd)}",
                where=str(self.model.path),
            )

    def least(self, wanted: int) -> int:
        """The least number of units, from `wanted` on, that the class takes in all blocks alike.

        Raises:
            UserError: it takes none up to twice as many as there are.
        """
        tried = range(wanted, 2 * max(group.units for group in self.groups) + 1, self.sets)
        found = next((n for n in tried if accepts(self.model, self.entries([n]))), None)
        if found is None:
            raise UserError(
                f"{class_name(self.model)} takes no number of {self.kind} from {wanted} on in all blocks alike", where=str(self.model.path)
            )
        return found

    def _nearest(self, kept: Sequence[int]) -> str:
        """The shares nearest to a refused number of units that the class takes."""
        if self.kind != "heads" or len(set(kept)) > 1:
            return ""
        units = self.groups[0].units
        allowed = [n for n in range(self.sets, units + 1, self.sets) if accepts(self.model, self.entries([n]))]
        near = [max((n for n in allowed if n < kept[0]), default=0), min((n for n in allowed if n > kept[0]), default=0)]
        ways = [(math.ceil((1 - n / units) * 1e4) / 1e4, self.entries([n])["num_attention_heads"]) for n in near if n]
        return "set heads: " + " or ".join(f"{gone:g} ({stay} heads stay)" for gone, stay in ways) if ways else "set heads: 0"


def cuts(shapes: Shapes, groups: Iterable[Group], kept: Sequence[Tensor]) -> Cuts:
    """What stays of each tensor that loses something, given the kept units (ascending) of each group."""
    masks: dict[tuple[str, int], Tensor] = {}
    for group, rows in zip(groups, kept, strict=True):
        gone = torch.ones(group.units, dtype=torch.bool)
        gone[rows] = False
        for name, dim, indices in group.tensors():
            mask = masks.setdefault((name, dim), torch.ones(shapes[name][dim], dtype=torch.bool))
            mask[indices[gone].flatten()] = False
    found: Cuts = {}
    for (name, dim), mask in masks.items():
        if not mask.all():
            found.setdefault(name, []).append(Cut(dim, mask.nonzero().flatten()))
    return found


def filled(shapes: Shapes, groups: Sequence[Group], kept: Sequence[Tensor], units: int) -> Cuts:
    """The same, with zeros (index -1) where a group keeps fewer than so many `units`: what a tensor of that many units holds."""
    found = cuts(shapes, groups, kept)
    widest = max(groups, key=lambda group: group.units)
    if widest.units == 1 < units:
        raise UserError(f"which numbers of {widest.block} belong to its only unit in what order cannot be told", todo="leave uniform out")
    stretches = {(name.removeprefix(widest.block), dim): runs(owner) for (name, dim), owner in _owners(shapes, widest).items()}
    for group, rows in zip(groups, kept, strict=True):
        for name, dim in _owners(shapes, group) if len(rows) < units else ():
            old = next((cut.kept for cut in found.get(name, []) if cut.dim == dim), torch.arange(shapes[name][dim]))
            parts, begin = [], 0
            for run in stretches[name.removeprefix(group.block), dim]:
                parts += [old[begin : begin + len(rows) * run], old.new_full(((units - len(rows)) * run,), -1)]
                begin += len(rows) * run
            found[name] = [cut for cut in found.get(name, []) if cut.dim != dim] + [Cut(dim, torch.cat(parts))]
    return found


def _owners(shapes: Shapes, group: Group) -> dict[tuple[str, int], Tensor]:
    """For each tensor and dimension that a group cuts: the unit that each index belongs to."""
    found: dict[tuple[str, int], Tensor] = {}
    for name, dim, indices in group.tensors():
        owner = found.setdefault((name, dim), torch.full((shapes[name][dim],), -1))
        owner[indices] = torch.arange(group.units)[:, None]
    return found


def runs(owner: Tensor) -> list[int]:
    """How many neighbours a unit has in each stretch of a tensor that goes through all units once."""
    lengths = [(unit, len(list(same))) for unit, same in itertools.groupby(owner.tolist())]
    return [count for unit, count in lengths if unit == 0]


def stored(cuts: Cuts, pieces: dict[str, list[Piece]]) -> tuple[Cuts, dict[str, str | None]]:
    """The cuts of a transformers model by the names of the files' tensors, and the new names of those that hold one expert each.

    A tensor of an expert that goes has no new name; those behind it move up.
    """
    found: Cuts = {}
    names: dict[str, str | None] = {}
    for name, several in cuts.items():
        if not any(piece.index for piece in pieces[name]):
            found |= {piece.key: several for piece in pieces[name]}
            continue
        place = {expert: number for number, expert in enumerate(several[0].kept.tolist())}  # whole experts only: dimension 0
        keys = {(piece.index[0], str(piece.index[1:])): piece.key for piece in pieces[name]}
        for (expert, rows), key in keys.items():
            names[key] = keys[place[expert], rows] if expert in place else None
    return found, names


def left(shapes: Shapes, groups: Iterable[Group], kept: Sequence[int]) -> Shapes:
    """The shapes of all tensors where so many units of each group are left."""
    found = dict(shapes)
    for name, several in cuts(shapes, groups, [torch.arange(count) for count in kept]).items():
        sizes = list(shapes[name])
        for cut in several:
            sizes[cut.dim] = len(cut.kept)
        found[name] = tuple(sizes)
    return found


def whole(model: Model, config: dict[str, Any] | None = None) -> Any:
    """The model's module on the meta device, as its class makes it of its own or another config.json.

    Raises:
        UserError: a class of transformers refuses the configuration; what one of our own architectures raises goes on.
    """
    said = model.config if config is None else config
    if OWN in said:
        with torch.device("meta"):
            return model.empty(said[OWN]).eval()
    kind, configuration = architecture(model)
    try:
        if config is not None:
            configuration = type(configuration).from_dict(config)
        with torch.device("meta"):
            return shaped(kind, configuration)(configuration).eval()
    except Exception as error:
        new = {key: value for key, value in said.items() if key != SHAPES and value != model.config.get(key)}
        new |= {key: value for shapes in said.get(SHAPES, {}).values() for key, value in shapes.get("widths", {}).items()}
        reason = " ".join(str(error).split()).rpartition("Error: ")[2]
        told = ", ".join(f"{key}: {value}" for key, value in new.items())
        raise UserError(f"{class_name(model)} does not take {told}: {reason}", where=str(model.path)) from None


def hollow(model: Model, config: dict[str, Any] | None = None) -> Any:
    """The base module of `whole`."""
    made = whole(model, config)
    return getattr(made, "base_model", made)


def shapes(model: Model, config: dict[str, Any] | None = None) -> Shapes:
    """The shapes of all tensors of `hollow`."""
    return sizes(hollow(model, config))


def sizes(module: nn.Module) -> Shapes:
    """The shape of every tensor of a module."""
    return {name: tuple(value.shape) for name, value in module.state_dict().items()}


def class_name(model: Model) -> str:
    """What config.json calls the model's class."""
    return str((model.config.get("architectures") or ["the model"])[0])


def accepts(model: Model, entries: dict[str, Any]) -> bool:
    """Whether the model's configuration takes these entries."""
    try:
        type(architecture(model)[1]).from_dict(merged(model.config, entries))
    except Exception:  # each class refuses in its own way
        return False
    return True
