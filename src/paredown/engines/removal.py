"""Take units out of a model: of a transformers model block by block, of one of our own networks group by group.

The strategy chooses, the engine does the rest: it brings each group of units with the weights that make and use them, sets what uses
the chosen ones to zero, so that later blocks are calibrated on what is really left, and writes the smaller tensors with
the config.json that belongs to them.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from paredown.artifacts.model import Model
from paredown.core.context import context
from paredown.engines.layers import REPORT, Inputs, Layer, store, walk
from paredown.engines.model_files import Cuts, Files, write_model
from paredown.engines.units import Group, Units, cuts, stored

Slice = tuple[Tensor, Tensor]  # a weight (outputs, inputs, ...), and (units, width) which of its outputs, or inputs, are each unit's
NAMES = {"channels": "feed-forward channels", "heads": "heads", "filters": "filters"}


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


def from_blocks(model: Model, kinds: Sequence[Units], kept: Sequence[int], ids: Tensor | None, choose: Choose) -> Model:
    """Keep in each block so many units of each kind, calibrated on `ids` (rows, length) where they are given.

    Raises:
        DataError: a weight or an input is not finite.
        UserError: the model's class has no place for what would be left; nothing has been pruned then.
    """
    for units, count in zip(kinds, kept, strict=True):
        units.check([count] * len(units.groups))
    by_layer = {units.groups[0].uses[0].layer: units for units in kinds}

    def edit(layer: Layer, inputs: Inputs) -> None:
        units = by_layer.get(layer.name)
        if units is None:
            return
        group = units.groups[layer.block.number]
        makes = [(layer.block.weight(part.layer), part.indices) for part in group.makes]
        uses = [(layer.weight, part.indices) for part in group.uses]
        stays = choose(Candidates(units, group, layer.block.name, makes, uses, inputs)).cpu()
        gone = torch.ones(group.units, dtype=torch.bool)
        gone[stays] = False
        # from here on the block computes what it will without these units
        layer.weight[:, group.uses[0].indices[gone].flatten().to(layer.weight.device)] = 0
        layer.block.notes[units.kind] = stays.tolist()

    walked = walk(model, ids, edit)
    config, kept_tensors, said = model.config, Cuts(), []
    for units, count in zip(kinds, kept, strict=True):
        entries = units.entries([count] * len(units.groups))
        config = config | entries
        rows = [torch.tensor(block["notes"][units.kind]) for block in walked.blocks]
        kept_tensors |= stored(cuts(units.shapes, units.groups, rows), walked.pieces)
        left = entries.get("num_attention_heads", count)
        total = units.groups[0].units * left // count
        context().facts.update({units.kind: total, f"{units.kind}_kept": left})
        said.append(f"{left:,} of {total:,} {NAMES[units.kind]}")
    context().says = " and ".join(said) + " kept"
    return store(model, walked, config=config, cuts=kept_tensors)


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
    total = sum(group.units for group in units.groups)
    context().facts.update({units.kind: total, f"{units.kind}_kept": sum(kept)})
    context().says = f"{sum(kept):,} of {total:,} {NAMES[units.kind]} kept"
    return written
