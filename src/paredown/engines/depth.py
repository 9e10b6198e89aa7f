"""Take whole blocks out of a transformers model: the later ones move up, and what the configuration says of each block goes with it.

Everything that depends on a block's place is asked for before anything is written: the model that its class makes of the new config.json must
have the shapes that are left, and in each block the same settings (a window, a scale, a kind of attention) as the old one in its place.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from paredown.artifacts.block_shapes import SHAPES, merged
from paredown.artifacts.model import OWN, Model
from paredown.core.context import context
from paredown.core.errors import UserError
from paredown.engines.blocks import find_blocks
from paredown.engines.layers import REPORT
from paredown.engines.model_files import Files, layout, write_model
from paredown.engines.skeletons import architecture, skeleton
from paredown.engines.units import class_name, hollow, sizes

COUNTS = ("num_hidden_layers", "n_layer", "n_layers", "num_layers")  # what configurations call the number of blocks
PLACES = ("mlp_only_layers",)  # entries that hold numbers of blocks
FIRST = ("first_k_dense_replace",)  # entries that hold how many of the first blocks are of another kind
BY_PLACE = ("scale_attn_by_inverse_layer_idx",)  # entries that make a block compute with its own number
WITHOUT = ("layer_idx", "training")  # settings of a module that say nothing of what it computes


def block_names(model: Model) -> list[str]:
    """The names of a model's blocks in the base module, in order.

    Raises:
        UserError: it is a network of our own, or its blocks stand in several lists.
    """
    if OWN in model.config:
        raise UserError("a network of our own has no blocks that can be removed", where=str(model.path))
    names = list(find_blocks(skeleton(model).base_model))
    if len({name.rpartition(".")[0] for name in names}) != 1:
        raise UserError(f"the blocks of {class_name(model)} stand in several lists, or there are none", where=str(model.path))
    return names


def take(model: Model, kept: Sequence[int], report: Sequence[dict[str, Any]] = ()) -> Model:
    """Keep these blocks, ascending. Memory holds one tensor; beside the model stands `pruning.json`, with what `report` says of each old block.

    Raises:
        DataError: a weight is not finite.
        UserError: a block would compute something else in its new place; nothing has been written then.
    """
    names = block_names(model)
    config = arranged(model, names, kept)
    stem = names[0].rpartition(".")[0]
    place = {old: new for new, old in enumerate(kept)}
    renamed: dict[str, str | None] = {}
    folder = context().output("model")
    with Files(model) as files:
        for name, pieces in layout(skeleton(model).base_model, files).items():
            if not name.startswith(f"{stem}."):
                continue
            old = int(name.removeprefix(f"{stem}.").partition(".")[0])
            for piece in pieces:
                head, here, rest = piece.key.partition(f"{stem}.{old}.")
                if not here:
                    raise UserError(
                        f"Model: {piece.key} is stored under a name that block-by-block work does not know", where=str(model.path)
                    )
                renamed[piece.key] = f"{head}{stem}.{place[old]}.{rest}" if old in place else None
        written = write_model(folder, files, {}, config, names=renamed)
    lines = [{"name": name, "kept": number in place} for number, name in enumerate(names)]
    for line, more in zip(lines, report, strict=False):
        line |= more
    (folder / REPORT).write_text(json.dumps(lines, indent=1) + "\n")
    context().facts.update(blocks=len(names), blocks_kept=len(kept))
    context().says = f"{len(kept)} of {len(names)} blocks kept"
    return written


def arranged(model: Model, names: Sequence[str], sources: Sequence[int]) -> dict[str, Any]:
    """config.json of a model whose blocks are, from the bottom to the top, these of the given one, which are called `names`.

    Raises:
        UserError: a block would compute something else in its new place.
    """
    config = _config(model, len(names), sources)
    _check(model, config, names, sources)
    return config


def _config(model: Model, count: int, kept: Sequence[int]) -> dict[str, Any]:
    """config.json of the model with these blocks: lists with a value for each block have those of the blocks in their new places."""
    config = dict(model.config)
    for key, value in model.config.items():
        if key in PLACES:
            config[key] = [place for place, number in enumerate(kept) if number in value]
        elif key in FIRST:
            config[key] = sum(number < value for number in kept)
        elif key in COUNTS:
            config[key] = len(kept)
        elif isinstance(value, list) and len(value) == count:
            config[key] = [value[number] for number in kept]
    shapes = config.pop(SHAPES, {})
    for name, said in shapes.items():
        for key, values in said.get("widths", {}).items():
            left = [values[number] for number in kept]
            alike = len(set(left)) == 1
            config = merged(config, {key: left[0]} if alike else {SHAPES: {name: {"widths": {key: left}}}})
        config = merged(config, {SHAPES: {name: {"biases": said.get("biases", [])}}})
    return config


def _check(model: Model, config: dict[str, Any], names: Sequence[str], kept: Sequence[int]) -> None:
    """Refuse what would compute something else."""
    said = architecture(model)[1]
    odd = next((key for key in BY_PLACE if getattr(said, key, False)), None)
    if odd:
        raise UserError(f"blocks of {class_name(model)} compute with their number ({odd})", where=str(model.path))
    before, after = hollow(model), hollow(model, config)
    blocks = list(find_blocks(after))
    if len(blocks) != len(kept):
        raise UserError(f"{class_name(model)} makes {len(blocks)} blocks of {len(kept)}", where=str(model.path))
    for name, old in zip(blocks, kept, strict=True):
        new_block, old_block = after.get_submodule(name), before.get_submodule(names[old])
        if sizes(new_block) != sizes(old_block) or _settings(new_block) != _settings(old_block):
            raise UserError(f"{names[old]} of {class_name(model)} would be another kind of block as {name}", where=str(model.path))


def _settings(block: Any) -> dict[str, Any]:
    plain = (bool, int, float, str, type(None))
    return {
        f"{name}.{key}": value
        for name, child in block.named_modules()
        for key, value in vars(child).items()
        if isinstance(value, plain) and key not in WITHOUT and not key.startswith("_")
    }
