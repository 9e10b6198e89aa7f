"""What a classifier says of a batch of examples, whatever the module and the modality."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import PreTrainedModel

from paredown.artifacts.examples import Examples
from paredown.core.context import context
from paredown.core.errors import DataError, UserError
from paredown.engines.batches import example_rows
from paredown.engines.flops import Flops

SPAN = "label_span"  # entry of a batch: its lowest and highest label as plain numbers, since asking a device for them would wait
INPUTS = {"image": "pixel_values", "features": "inputs_embeds"}  # column of the examples -> what transformers' modules call it


class LabelledRows:
    """Examples with a `label`, whose batches say which labels they span.

    Raises:
        DataError: there is no example, or a value is missing or not finite.
        UserError: there is no column of numbers named label.
    """

    def __init__(self, examples: Examples) -> None:
        self.source = example_rows(examples)
        self.rows = self.source.rows
        if "label" not in self.source.columns:
            raise UserError("a classifier needs a column of whole numbers named label", where=str(examples.path))

    def column(self, name: str) -> np.ndarray[Any, Any]:
        return self.source.column(name)

    def fill(self, rows: np.ndarray[Any, Any], generator: np.random.Generator | None = None) -> dict[str, Any]:
        batch = self.source.fill(rows)
        label = batch["label"]
        return {**batch, SPAN: (int(label.min()), int(label.max()))} if len(label) else batch


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
        UserError: the model does not take such rows, or has no score for a label of the batch.
    """
    column, values = inputs(batch)
    inner = getattr(module, "module", module)  # behind a wrapper for several processes
    if isinstance(inner, PreTrainedModel):
        if column == "image" and inner.main_input_name != INPUTS[column]:
            raise UserError(f"{type(inner).__name__} reads {inner.main_input_name}, but the examples hold images")
        found: Tensor = module(**{INPUTS[column]: values}).logits
    else:
        found = module(values)
    if found.dim() != 2:
        raise UserError(f"{type(inner).__name__} gives {found.dim()}-dimensional scores: it is no classifier of rows")
    label, classes = batch.get("label"), found.shape[-1]
    if label is None or not len(label):
        return found
    lowest, highest = batch.get(SPAN) or (int(label.min()), int(label.max()))
    if lowest < 0 or highest >= classes:
        wrong = lowest if lowest < 0 else highest
        raise UserError(
            f"the examples have the label {wrong:,}, but the model tells {classes:,} labels apart, 0 to {classes - 1:,}",
            todo="leave out rows without a label" if lowest < 0 else f"set classes: {highest + 1}",
        )
    return found


@dataclass(frozen=True)
class Judged:
    """What a classifier made of each row."""

    correct: np.ndarray[Any, Any]  # 1 where the highest score is the label's (the first of equal ones counts), else 0; float64, (rows,)
    nats: np.ndarray[Any, Any]  # cross-entropy, float64, (rows,)
    flops: float


def judge(module: nn.Module, source: LabelledRows, batch_size: int) -> Judged:
    """Run every row through a module, which is in evaluation mode on its device.

    Raises:
        DataError: the loss on a row is not finite.
        UserError: the model does not take such rows, or has no score for a label.
    """
    where = next(module.parameters()).device
    counted, flops = Flops(), 0
    correct, nats = np.zeros(source.rows), np.zeros(source.rows)
    for begin in range(0, source.rows, batch_size):
        rows = np.arange(begin, min(begin + batch_size, source.rows))
        found = source.fill(rows)
        batch = {name: torch.from_numpy(value).to(where) if isinstance(value, np.ndarray) else value for name, value in found.items()}
        key = Flops.shape(batch, "evaluate")
        with torch.inference_mode(), counted.counted(key):
            scores = logits(module, batch).double()
        label = batch["label"].long()
        correct[rows] = (scores.argmax(dim=-1) == label).cpu().numpy()
        nats[rows] = functional.cross_entropy(scores, label, reduction="none").cpu().numpy()
        flops += counted.table[key]
        if not np.isfinite(nats[rows]).all():
            worst = int(rows[~np.isfinite(nats[rows])][0])
            raise DataError(
                f"the model's loss on row {worst:,} is not finite", todo="look at the model's weights: some are NaN or infinite"
            )
        context().progress(int(rows[-1]) + 1, source.rows, "examples")
    return Judged(correct, nats, float(flops))
