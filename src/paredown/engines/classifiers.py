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
    """Scores (rows, labels) of a batch; modules that are not of transformers take the values as their one argument."""
    column, values = inputs(batch)
    inner = getattr(module, "module", module)  # behind a wrapper for several processes
    if isinstance(inner, PreTrainedModel):
        found: Tensor = module(**{INPUTS[column]: values}).logits
        return found
    out: Tensor = module(values)
    return out
