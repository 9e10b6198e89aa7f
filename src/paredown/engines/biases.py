"""Constants added to what linear layers give: their biases, for which a model may have no place yet.

Some classes of transformers know an option for biases (Llama's `mlp_bias`), which gives more layers one than asked for; those get zeros.
Where there is none, or blocks differ anyway, `block_shapes` in config.json names the layers that have a bias.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from paredown.artifacts.block_shapes import SHAPES, merged
from paredown.artifacts.model import Model
from paredown.core.context import context
from paredown.core.errors import UserError
from paredown.engines.model_files import Files, Piece, layout
from paredown.engines.skeletons import skeleton
from paredown.engines.units import Units, class_name, shapes

OPTIONS = ("mlp_bias", "attention_bias")  # what configurations call it
Biases = dict[tuple[str, str], Tensor]  # (block, layer in it) -> what is added to its outputs, (outputs,)


def place(model: Model, config: dict[str, Any], wanted: Biases) -> dict[str, Any]:
    """config.json with a place for these biases.

    Raises:
        UserError: the class has none, and would read a model whose blocks are alike as if there were none.
    """

    def missing() -> list[tuple[str, str]]:
        there = shapes(model, config)
        return [(block, layer) for block, layer in wanted if f"{block}.{layer}.bias" not in there]

    alike = not any(said.get("widths") for said in config.get(SHAPES, {}).values())
    for option in OPTIONS if alike else ():
        lacking = missing()
        if lacking and config.get(option) is False:
            before, config = config, config | {option: True}
            config = config if len(missing()) < len(lacking) else before
    lacking = missing()
    if lacking and alike:
        raise UserError(
            f"{class_name(model)} has no place for a bias of {lacking[0][1]}: stock transformers would leave it out without a word",
            where=str(model.path),
            todo="let the blocks have different widths, or leave the bias out",
        )
    for block, layer in lacking:
        config = merged(config, {SHAPES: {block.rpartition(".")[0]: {"biases": [layer]}}})
    return config


def tensors(
    model: Model, files: Files, pieces: dict[str, list[Piece]], config: dict[str, Any], wanted: Biases
) -> tuple[dict[str, Path], dict[str, Path]]:
    """The changed and the added tensors of the files, by key, once config.json has a place for the biases."""
    path = context().scratch / "biases.safetensors"
    values = {f"{block}.{layer}.bias": value for (block, layer), value in wanted.items()}
    before, after = shapes(model), shapes(model, config)
    held: dict[str, Tensor] = {}
    for name in sorted({*values, *(after.keys() - before.keys())}):
        weight = pieces[name.removesuffix("bias") + "weight"][0].key
        key = pieces[name][0].key if name in before else weight.removesuffix("weight") + "bias"
        old = files.tensor(key).float() if name in before else torch.zeros(after[name])
        held[key] = (old + values.get(name, torch.zeros(())).cpu()).to(files.dtype(weight))
    save_file(held, path)
    return {key: path for key in held if key in files.where}, {key: path for key in held if key not in files.where}


def of_removed(model: Model, units: Units, rows: Sequence[Tensor], means: Sequence[Tensor]) -> Biases:
    """What the removed units gave on average: W_removed E[x_removed], given the mean of each input of the layers that use them."""
    found: Biases = {}
    with Files(model) as files:
        pieces = layout(skeleton(model).base_model, files)
        for group, kept, mean in zip(units.groups, rows, means, strict=True):
            gone = torch.ones(group.units, dtype=torch.bool)
            gone[kept] = False
            for part in group.uses:
                columns = part.indices[gone].flatten()
                weight = files.tensor(pieces[f"{group.block}.{part.layer}.weight"][0].key).float()
                weight = weight if part.dims["weight"] == 1 else weight.T
                found[group.block, part.layer] = weight[:, columns] @ mean.float()[columns]
    return found


def without_own(config: dict[str, Any]) -> tuple[dict[str, Any], list[tuple[str, str]]]:
    """config.json without the biases that `block_shapes` names, and (list of blocks, layer) of each of them."""
    own = [(name, layer) for name, said in config.get(SHAPES, {}).items() for layer in said.get("biases", ())]
    shapes_left = {name: {"widths": said["widths"]} for name, said in config.get(SHAPES, {}).items() if said.get("widths")}
    rest = {key: value for key, value in config.items() if key != SHAPES}
    return rest | ({SHAPES: shapes_left} if shapes_left else {}), own
