"""Blocks of one model that differ in shape, or have a bias their class knows no option for: what no class of transformers holds alone.

One number in a configuration describes all blocks. Where they differ, `block_shapes` in config.json says, by the name of the list
of blocks in the base module, what each of them has:

    "block_shapes": {"layers": {"widths": {"intermediate_size": [40, 32]}, "biases": ["mlp.down_proj"]}}

The class is the stock one, with each of its blocks built anew from the configuration as it reads for that block. So saving, training and
generating are transformers' own; its own `from_pretrained` refuses such a folder by the shapes, `Model.load` reads it.
"""

from __future__ import annotations

import inspect
from typing import Any

SHAPES = "block_shapes"


class OfBlock:
    """A configuration as it reads for one block: some entries of its own, all others those of the model's, whenever they are asked."""

    def __init__(self, config: Any, own: dict[str, Any]) -> None:
        self.__dict__.update(config=config, own=own)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") or "config" not in self.__dict__:  # a copy is asked for its methods before it has anything
            raise AttributeError(name)
        config, own = self.__dict__["config"], self.__dict__["own"]
        key = config.attribute_map.get(name, name)
        return own[key] if key in own else getattr(config, name)


def shaped(kind: Any, config: Any) -> Any:
    """The class itself, or one of its name that gives each block the shape that `block_shapes` of a configuration says."""
    if not getattr(config, SHAPES, None) or getattr(kind, "shaped", False):
        return kind

    def build(self: Any, config: Any, *args: Any, **kwargs: Any) -> None:
        kind.__init__(self, config, *args, **kwargs)
        if getattr(config, SHAPES, None):
            for name, shapes in getattr(config, SHAPES).items():
                _shape(self.base_model.get_submodule(name), config, **shapes)
            self.init_weights()  # those made just now; the others say that they have been

    return type(kind.__name__, (kind,), {"__init__": build, "__module__": kind.__module__, "shaped": True})


def entry(config: dict[str, Any], block: str, key: str) -> Any:
    """What a config.json says of one block (`layers.3`): its own value where it has one, otherwise the model's; None without either."""
    name, _, number = block.rpartition(".")
    own = config.get(SHAPES, {}).get(name, {}).get("widths", {})
    return own[key][int(number)] if key in own else config.get(key)


def merged(config: dict[str, Any], entries: dict[str, Any]) -> dict[str, Any]:
    """A config.json with other entries: what they say of all blocks ends what was said of each, what they say of each is added to it."""
    shapes: dict[str, dict[str, Any]] = {}
    for name, said in config.get(SHAPES, {}).items():
        left = {key: values for key, values in said.get("widths", {}).items() if key not in entries}
        shapes[name] = {"widths": left, "biases": said.get("biases", [])}
    for name, said in entries.get(SHAPES, {}).items():
        old = shapes.setdefault(name, {"widths": {}, "biases": []})
        old["widths"] = old["widths"] | said.get("widths", {})
        old["biases"] = sorted({*old["biases"], *said.get("biases", ())})
    found = {name: {kind: value for kind, value in said.items() if value} for name, said in shapes.items()}
    found = {name: said for name, said in found.items() if said}
    rest = {key: value for key, value in (config | entries).items() if key != SHAPES}
    return rest | ({SHAPES: found} if found else {})


def _shape(blocks: Any, config: Any, widths: dict[str, list[Any]] | None = None, biases: list[str] | None = None) -> None:
    """Build the blocks of a list anew, each with its widths, and give layers of them a bias, in place.

    Raises:
        ValueError: there are not as many widths as blocks.
    """
    for key, values in (widths or {}).items():
        if len(values) != len(blocks):
            raise ValueError(f"{SHAPES} names {len(values)} values of {key} for {len(blocks)} blocks")
    for number, old in enumerate(blocks if widths else ()):
        own = OfBlock(config, {key: values[number] for key, values in (widths or {}).items()})
        place = {"layer_idx": number} if "layer_idx" in inspect.signature(type(old).__init__).parameters else {}
        blocks[number] = type(old)(own, **place)
    for block in blocks:
        for name in biases or ():
            _add_bias(block.get_submodule(name))


def _add_bias(layer: Any) -> None:
    import torch

    if layer.bias is None:
        layer.bias = torch.nn.Parameter(torch.zeros(layer.out_features, dtype=layer.weight.dtype, device=layer.weight.device))
