"""The zeros of one model in the weights of another, tensor by tensor."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from paredown.artifacts.model import Model
from paredown.core.context import context
from paredown.core.errors import UserError
from paredown.engines.layers import REPORT
from paredown.engines.masks import clear
from paredown.engines.model_files import Files, from_file, layout, read, save_block, write_model
from paredown.engines.skeletons import skeleton
from paredown.engines.sparse_training import maskable

CPU = torch.device("cpu")


def masked(model: Model, weights: Model) -> Model:
    """A copy of `weights` with a zero wherever a linear layer or a convolution of `model` holds one; memory holds one parameter.

    Raises:
        UserError: the two models are of different shapes.
        DataError: a weight is NaN or infinite.
    """
    step = context()
    scratch = step.scratch / "masked"
    scratch.mkdir(parents=True, exist_ok=True)
    shape, other = skeleton(model), skeleton(weights)
    check_same(shape, other, str(weights.path))
    like = shape.state_dict(keep_vars=True)
    rows: list[dict[str, Any]] = []
    changed: dict[str, Path] = {}
    with Files(model) as pruned, Files(weights) as given:
        theirs, ours = layout(shape, pruned), layout(other, given)
        names = list(maskable(shape))
        for number, name in enumerate(names):
            zeros = read(pruned.tensor, theirs[name], like[name], pruned.dtype(theirs[name][0].key), CPU) == 0
            if zeros.any():
                path = scratch / f"{number:05d}.safetensors"
                if not path.exists():
                    save_block(path, {piece.key: _cleared(given.tensor(piece.key), zeros[piece.index]) for piece in ours[name]})
                changed |= {piece.key: path for piece in ours[name]}
                held = sum(int((from_file(path, piece.key) == 0).sum()) for piece in ours[name])
                rows.append({"name": name.removesuffix(".weight"), "weights": zeros.numel(), "zeros": held})
            step.progress(number + 1, len(names), "parameters")
        folder = step.output("model")
        written = write_model(folder, given, changed, weights.config)
    (folder / REPORT).write_text(json.dumps(rows, indent=1) + "\n")
    count, zero = sum(row["weights"] for row in rows), sum(row["zeros"] for row in rows)
    step.facts.update(linear_weights=count, linear_zeros=zero)
    step.says = f"{zero / count:.1%} of {count / 1e6:,.2f}M weights zero, the others as given" if count else "no zeros to hand on"
    return written


def _cleared(weight: Tensor, mask: Tensor) -> Tensor:
    weight = weight.clone()
    clear(weight, mask)
    return weight


def check_same(a: nn.Module, b: nn.Module, where: str) -> None:
    """Refuse two modules whose parameters or buffers differ in name or shape.

    Raises:
        UserError: it names the first difference.
    """
    shapes = [{name: tuple(value.shape) for name, value in module.state_dict(keep_vars=True).items()} for module in (a, b)]
    for name in dict.fromkeys([*shapes[0], *shapes[1]]):
        first, second = (of.get(name) for of in shapes)
        if first != second:
            said = [f"{name} is of shape {of}" if of is not None else f"there is no {name}" for of in (first, second)]
            raise UserError(
                f"the two models are of different shapes: in the pruned one {said[0]}, in the other {said[1]}",
                where=where,
                todo="give weights of the same architecture, such as those that the training began from",
            )
