"""Trainable weights in the groups that optimizers treat apart."""

from __future__ import annotations

from typing import Any

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
