"""Groups of a module's weights: those that optimizers treat apart, and those that train while all others are frozen."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from transformers.pytorch_utils import Conv1D

from paredown.core.errors import UserError


def decay_groups(module: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """Two groups: matrices and convolutions decay, vectors (biases, norms) do not."""
    trained = [p for p in module.parameters() if p.requires_grad]
    groups = [
        {"params": [p for p in trained if p.ndim >= 2], "weight_decay": weight_decay},
        {"params": [p for p in trained if p.ndim < 2], "weight_decay": 0.0},
    ]
    return [group for group in groups if group["params"]]


def width_groups(module: nn.Module, groups: list[dict[str, Any]], base_width: int) -> list[dict[str, Any]]:
    """The same groups with the weights of linear layers apart, at `lr_scale` base_width / width of the residual stream.

    Embeddings, and an output head that shares their weights, keep the whole rate (Yang et al. 2022, arXiv 2203.03466, table 3).

    Raises:
        UserError: the module has no embeddings that tell its width.
    """
    asked: Any = getattr(module, "get_input_embeddings", None)
    embeddings = asked() if asked is not None else None
    if not isinstance(embeddings, nn.Embedding):
        raise UserError(
            f"{type(module).__name__} has no token embeddings that tell its width", where="optimizer.base_width", todo="leave it out"
        )
    linear = {id(child.weight) for child in module.modules() if isinstance(child, (nn.Linear, Conv1D))} - {id(embeddings.weight)}
    found = []
    for group in groups:
        inside = [p for p in group["params"] if id(p) in linear]
        found.append({**group, "params": [p for p in group["params"] if id(p) not in linear]})
        found.append({**group, "params": inside, "lr_scale": base_width / embeddings.embedding_dim})
    return [group for group in found if group["params"]]


NORMS = (nn.LayerNorm, nn.RMSNorm, nn.GroupNorm, nn.modules.batchnorm._NormBase)


def biases(module: nn.Module) -> dict[str, nn.Parameter]:
    """The vectors called bias, those of norms among them, by name."""
    return {name: p for name, p in module.named_parameters() if p.ndim == 1 and name.rpartition(".")[2].endswith("bias")}


def norms(module: nn.Module) -> dict[str, nn.Parameter]:
    """Weights and biases of norms, by name: torch's own, and classes that are called so (LlamaRMSNorm)."""
    found = {name for name, child in module.named_modules() if isinstance(child, NORMS) or type(child).__name__.lower().endswith("norm")}
    return {name: p for name, p in module.named_parameters() if name.rpartition(".")[0] in found}


@dataclass(frozen=True)
class Head:
    """The output head of a language model."""

    name: str
    layer: nn.Module
    tied: nn.Module | None  # the input embeddings, where they share its weight


def head_of(module: nn.Module) -> Head | None:
    """The output head, where the module is one of transformers and has one."""
    asked: Any = getattr(module, "get_output_embeddings", None)
    layer = asked() if asked is not None else None
    if layer is None:
        return None
    name = next(name for name, child in module.named_modules() if child is layer)
    embeddings: Any = module.get_input_embeddings()  # type: ignore[operator]
    return Head(name, layer, embeddings if embeddings.weight is layer.weight else None)


def train_only(module: nn.Module, chosen: Iterable[nn.Parameter]) -> None:
    """Freeze all weights but these, in place.

    Raises:
        UserError: one of them is in half precision, where small steps are rounded away and training diverges.
    """
    wanted = list(chosen)
    if any(p.dtype in (torch.float16, torch.bfloat16) for p in wanted):
        raise UserError("weights that train are in half precision", todo="load the model in fp32; precision: bf16 then computes in bf16")
    module.requires_grad_(False)
    for p in wanted:
        p.requires_grad_(True)
