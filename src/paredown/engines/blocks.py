"""The blocks of a module and the linear layers in them, found by looking: no table of architectures is needed."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor


def find_blocks(module: Any) -> dict[str, Any]:
    """The items of the outermost ModuleLists that hold linear layers, by name and in order."""
    found: dict[str, Any] = {}
    for name, child in module.named_modules():
        inside = any(name.startswith(outer + ".") for outer in found)
        if isinstance(child, torch.nn.ModuleList) and not inside and any(next(linear_layers(item), None) for item in child):
            found |= {f"{name}.{number}": item for number, item in enumerate(child)}
    return found


def linear_layers(block: Any) -> Iterator[tuple[str, str, Tensor]]:
    """(name, parameter, weight as (out_features, in_features)) of every linear layer of a block."""
    from transformers.pytorch_utils import Conv1D

    stacks = {name for name, child in block.named_modules() if is_experts(child)}
    beside = {name.rpartition(".")[0] for name in stacks}  # where routers and gates stand
    for name, child in block.named_modules():
        if isinstance(child, (torch.nn.Linear, Conv1D)):
            if not stacks or name.rpartition(".")[0] not in beside:
                yield name, joined(name, "weight"), child.weight.T if isinstance(child, Conv1D) else child.weight
        elif isinstance(child, torch.nn.Conv2d):
            yield name, joined(name, "weight"), child.weight.view(child.weight.shape[0], -1)
        elif name in stacks:
            for parameter, value in child.named_parameters(recurse=False):
                if value.dim() == 3:
                    yield from ((f"{name}.{parameter}[{e}]", f"{name}.{parameter}", value[e]) for e in range(value.shape[0]))


def joined(name: str, inner: str) -> str:
    """A name inside a module; either may be empty: a block may itself be a layer."""
    return f"{name}.{inner}" if name and inner else name or inner


def is_experts(module: Any) -> bool:
    """Whether a module holds the weights of several experts in stacked parameters (experts, out, in)."""
    convolution = isinstance(module, torch.nn.modules.conv._ConvNd)
    return not convolution and any(parameter.dim() == 3 for parameter in module.parameters(recurse=False))
