"""Take units out of a model: of a transformers model block by block, of one of our own networks group by group.

Two ways lead through a transformers model. `from_blocks` chooses in each block when the calibration pass is there, and what uses the
chosen units is set to zero, so that later blocks are calibrated on what is really left. `observe` changes nothing: every block is
seen as it is in the dense model, and what was noted of all of them decides together; `take` then writes what stays.

The strategy chooses, the engine does the rest: it brings each group of units with the weights that make and use them, and writes
the smaller tensors with the config.json that belongs to them.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from paredown.artifacts.block_shapes import merged
from paredown.artifacts.model import Model
from paredown.core.context import context
from paredown.core.errors import DataError
from paredown.engines import biases as bias
from paredown.engines.blocks import find_blocks
from paredown.engines.layers import REPORT, Block, Inputs, Layer, store, walk
from paredown.engines.model_files import Cuts, Files, layout, write_model
from paredown.engines.skeletons import skeleton
from paredown.engines.units import Group, Units, cuts, filled, stored

Slice = tuple[Tensor, Tensor]  # a weight (outputs, inputs, ...), and (units, width) which of its outputs, or inputs, are each unit's
NAMES = {"channels": "feed-forward channels", "heads": "heads", "filters": "filters", "experts": "experts"}


@dataclass(frozen=True)
class Candidates:
    """The units of a group, and what is known of them."""

    units: Units
    group: Group
    name: str  # of the block, or of the layer that makes the units
    makes: list[Slice]
    uses: list[Slice]
    inputs: Inputs | None  # what the layer that uses the units gets from the calibration tokens


Choose = Callable[[Candidates], Tensor]  # the indices of the units that stay, ascending, as many as were checked
Note = Callable[[Candidates], Any]  # what is to be known of a group of units, as JSON
Seen = Callable[[Tensor, Tensor], Any]  # of the hidden states (rows, length, width) before and after a block, as JSON


def from_blocks(model: Model, kinds: Sequence[Units], kept: Sequence[Sequence[int]], ids: Tensor | None, choose: Choose) -> Model:
    """Keep of each kind so many units of each block, calibrated on `ids` (rows, length) where they are given.

    Raises:
        DataError: a weight or an input is not finite.
        UserError: the model's class has no place for what would be left; nothing has been pruned then.
    """
    for units, counts in zip(kinds, kept, strict=True):
        units.check(counts)
    by_layer = {units.groups[0].uses[0].layer: units for units in kinds}

    def edit(layer: Layer, inputs: Inputs) -> None:
        units = by_layer.get(layer.name)
        if units is None:
            return
        found = _candidates(units, layer, inputs)
        stays = choose(found).cpu()
        gone = torch.ones(found.group.units, dtype=torch.bool)
        gone[stays] = False
        # from here on the block computes what it will without these units
        layer.weight[:, found.group.uses[0].indices[gone].flatten().to(layer.weight.device)] = 0
        layer.block.notes[units.kind] = stays.tolist()

    walked = walk(model, ids, edit)
    config, kept_tensors = model.config, Cuts()
    for units, counts in zip(kinds, kept, strict=True):
        config = merged(config, units.entries(counts))
        rows = [torch.tensor(block["notes"][units.kind]) for block in walked.blocks]
        kept_tensors |= stored(cuts(units.shapes, units.groups, rows), walked.pieces)[0]
    _say(kinds, kept)
    return store(model, walked, config=config, cuts=kept_tensors)


def observe(model: Model, kinds: Sequence[Units], ids: Tensor | None, note: Note, seen: Seen | None = None) -> list[dict[str, Any]]:
    """Of each block what `note` says of its units, by their kind, and as `block` what `seen` says of it; no weight is changed.

    Raises:
        DataError: a weight or an input is not finite.
    """
    by_layer = {units.groups[0].uses[0].layer: units for units in kinds}

    def look(layer: Layer, inputs: Inputs) -> None:
        units = by_layer.get(layer.name)
        if units is not None:
            layer.block.notes[units.kind] = note(_candidates(units, layer, inputs))

    def see(block: Block, before: Tensor, after: Tensor) -> None:
        if seen is not None:
            block.notes["block"] = seen(before, after)

    walked = walk(model, ids, look, see=see if seen is not None else None, writes=False)
    return [block["notes"] for block in walked.blocks]


def observe_experts(model: Model, units: Units, ids: Tensor | None, note: Callable[[Tensor, Inputs], float]) -> list[Tensor]:
    """Of each block with experts what `note` says of the weight and the inputs of each stacked matrix of each expert, (experts, matrices).

    An expert that no token reached has inputs of no tokens.

    Raises:
        DataError: a weight or an input is not finite.
    """
    place = {group.block: group for group in units.groups}

    def look(layer: Layer, inputs: Inputs) -> None:
        stem, _, number = layer.name.removesuffix("]").rpartition("[")
        if layer.block.name in place and stem:
            matrices = layer.block.notes.setdefault(stem, {})
            matrices[number] = note(layer.weight, inputs)

    walked = walk(model, ids, look, writes=False)
    noted = [block["notes"] for block in walked.blocks if block["name"] in place]
    return [
        torch.tensor([[of[str(e)] for of in found.values()] for e in range(g.units)]) for found, g in zip(noted, units.groups, strict=True)
    ]


def take(
    model: Model, kinds: Sequence[Units], rows: Sequence[Sequence[Tensor]], *, uniform: bool = False, biases: bias.Biases | None = None,
    report: Sequence[dict[str, Any]] = (),
) -> Model:  # fmt: skip
    """Keep these units of each kind and block; the weights stay as they are. Memory holds one tensor.

    With `uniform`, blocks that keep fewer units than the widest get zeros in their place, so that one number describes all blocks and
    stock transformers loads the same function. `biases` are added to what linear layers give. Beside the model stands `pruning.json`:
    of each block with such units which are kept, and what `report` says of it.

    Raises:
        DataError: a weight is not finite.
        UserError: the model's class has no place for what would be left; nothing has been written then.
    """
    config, kept_tensors, names = model.config, Cuts(), dict[str, str | None]()
    folder = context().output("model")
    counts = [[len(row) for row in kept] for kept in rows]
    with Files(model) as files:
        module = skeleton(model).base_model
        pieces = layout(module, files)
        for units, kept, count in zip(kinds, rows, counts, strict=True):
            if uniform and len(set(count)) > 1 and units.kind != "experts":  # an expert of zeros would still be chosen
                widest = units.least(max(count))
                entries, found = units.entries([widest] * len(count)), filled(units.shapes, units.groups, kept, widest)
            else:
                units.check(count)
                entries, found = units.entries(count), cuts(units.shapes, units.groups, kept)
            config = merged(config, entries)
            held, renamed = stored(found, pieces)
            kept_tensors, names = kept_tensors | held, names | renamed
        changed, added, wanted = dict[str, Path](), dict[str, Path](), dict(biases or {})
        if uniform:  # biases without an option of the class would be lost in stock transformers
            config, own = bias.without_own(config)
            for name, layer in own:
                blocks = [block for block in find_blocks(module) if block.startswith(f"{name}.")]
                wanted = {(block, layer): torch.zeros(()) for block in blocks} | wanted
        if wanted:
            config = bias.place(model, config, wanted)
            changed, added = bias.tensors(model, files, pieces, config, wanted)
        written = write_model(folder, files, changed, config, kept_tensors, names, added)
    told: dict[str, dict[str, Any]] = {group.block: {"name": group.block} for units in kinds for group in units.groups}
    for units, kept in zip(kinds, rows, strict=True):
        for group, row in zip(units.groups, kept, strict=True):
            told[group.block] |= {units.kind: group.units, f"{units.kind}_kept": row.tolist()}
    lines = list(told.values())
    for line, more in zip(lines, report, strict=False):
        line |= more
    (folder / REPORT).write_text(json.dumps(lines, indent=1) + "\n")
    _say(kinds, counts)
    return written


def shares(model: Model) -> list[float]:
    """What `report` of `take` said under `share` of each block of a model.

    Raises:
        DataError: the model does not say.
    """
    told = model.read_json(REPORT) if (model.path / REPORT).exists() else []
    found = [line["share"] for line in told if "share" in line]
    if not found or len(found) != len(told):
        raise DataError(
            f"Model: no {REPORT} in the folder that says what each block is worth", where=str(model.path), todo="give what prune.cfsp made"
        )
    return found


def _say(kinds: Sequence[Units], kept: Sequence[Sequence[int]]) -> None:
    """Tell the ledger and the user how many units stay, over all blocks."""
    said = []
    for units, counts in zip(kinds, kept, strict=True):
        total, left = sum(group.units for group in units.groups), sum(counts)
        context().facts.update({units.kind: total, f"{units.kind}_kept": left})
        said.append(f"{left:,} of {total:,} {NAMES[units.kind]}")
    context().says = " and ".join(said) + " kept" if said else "nothing removed"


def _candidates(units: Units, layer: Layer, inputs: Inputs) -> Candidates:
    group = units.groups[layer.block.number]
    makes = [(layer.block.weight(part.layer), part.indices) for part in group.makes]
    return Candidates(units, group, layer.block.name, makes, [(layer.weight, part.indices) for part in group.uses], inputs)


def from_network(units: Units, kept: Sequence[int], choose: Choose) -> Model:
    """Keep so many units of each group; beside the model stands `pruning.json`, which names them. Memory holds the layers of one group.

    Raises:
        DataError: a weight is not finite.
        UserError: the model's architecture has no knob for what would be left.
    """
    units.check(kept)
    folder = context().output("model")
    rows = []
    with Files(units.model) as files:
        for group in units.groups:
            makes, uses = (
                [(files.tensor(f"{part.layer}.weight").float(), part.indices) for part in parts] for parts in (group.makes, group.uses)
            )
            rows.append(choose(Candidates(units, group, group.makes[0].layer, makes, uses, None)).cpu())
        config = units.model.config | units.entries(kept)
        written = write_model(folder, files, {}, config, cuts(units.shapes, units.groups, rows))
    report = [
        {"name": group.makes[0].layer, units.kind: group.units, "kept": row.tolist()} for group, row in zip(units.groups, rows, strict=True)
    ]
    (folder / REPORT).write_text(json.dumps(report, indent=1) + "\n")
    _say([units], [kept])
    return written
