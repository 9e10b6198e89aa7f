"""What a classifier says of a batch of examples, whatever the module and the modality."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from paredown.core.errors import UserError

INPUTS = {"image": "pixel_values", "features": "inputs_embeds"}  # column of the examples -> what transformers' modules call it


def inputs(batch: dict[str, Any]) -> tuple[str, Tensor]:
    """(column, values in fp32): images of bytes become numbers from -1 to 1.

    Raises:
        UserError: the batch has none of the agreed columns.
    """
    column = next((name for name in INPUTS if name in batch), None)
    if column is None:
        raise UserError(f"the examples have none of the columns {', '.join(INPUTS)}", todo="let the reader name its input so")
    values: Tensor = batch[column]
    return column, (values.float() / 127.5 - 1 if values.dtype == torch.uint8 else values.float())


def logits(module: nn.Module, batch: dict[str, Any]) -> Tensor:
    """Scores (rows, labels) of a batch; modules that are not of transformers take the values as their one argument.

    Raises:
        UserError: the model does not take such rows, or (on a CPU, where asking costs nothing) has no score for a label of the batch.
    """
    column, values = inputs(batch)
    inner = getattr(module, "module", module)  # behind a wrapper for several processes
    found: Tensor = module(**{INPUTS[column]: values}).logits if isinstance(inner, PreTrainedModel) else module(values)
    label = batch.get("label")
    if isinstance(label, Tensor) and label.device.type == "cpu" and label.numel():
        check_labels(int(label.min()), int(label.max()), found.shape[-1])
    return found


def check_labels(lowest: int, highest: int, classes: int) -> None:
    """Refuse labels that a model with so many scores cannot have.

    Raises:
        UserError: a label is negative or too high.
    """
    if lowest < 0 or highest >= classes:
        wrong = lowest if lowest < 0 else highest
        raise UserError(
            f"the examples have the label {wrong:,}, but the model tells {classes:,} labels apart, 0 to {classes - 1:,}",
            todo="leave out rows without a label" if lowest < 0 else f"set classes: {highest + 1}",
        )
