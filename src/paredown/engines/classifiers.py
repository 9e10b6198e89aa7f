"""What a classifier says of a batch of examples, whatever the module and the modality."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import PreTrainedModel

from paredown.artifacts.examples import Examples
from paredown.artifacts.tables import same_labels
from paredown.core.context import context
from paredown.core.errors import DataError, UserError
from paredown.engines.batches import example_rows, on_device
from paredown.engines.flops import Flops
from paredown.engines.table_rows import TableRows

ROW = "row"  # column of a batch: the place of each of its rows among all
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
        if isinstance(self.source, TableRows):
            same_labels(self.source.tables, str(examples.path))

    def column(self, name: str) -> np.ndarray[Any, Any]:
        return self.source.column(name)

    def classes(self) -> int:
        """One more than the highest label, at least two.

        Raises:
            UserError: a label is negative.
        """
        label = self.column("label")
        if label.min() < 0:
            raise UserError(f"the examples have the label {int(label.min())}", todo="leave out rows without a label")
        return max(2, int(label.max()) + 1)

    def fill(self, rows: np.ndarray[Any, Any], generator: np.random.Generator | None = None) -> dict[str, Any]:
        batch = {**self.source.fill(rows), ROW: rows}
        label = batch["label"]
        return {**batch, SPAN: (int(label.min()), int(label.max()))} if len(label) else batch


class UnlabelledRows(LabelledRows):
    """The same without their labels, for what does not ask whether the model knows them."""

    def fill(self, rows: np.ndarray[Any, Any], generator: np.random.Generator | None = None) -> dict[str, Any]:
        return {name: value for name, value in super().fill(rows).items() if name not in ("label", SPAN)}


def inputs(batch: dict[str, Any]) -> tuple[str, Tensor]:
    """(column, values in fp32): images of bytes become numbers from -1 to 1.

    Raises:
        UserError: the batch has none of the agreed columns.
    """
    column = next((name for name in INPUTS if name in batch), None)
    if column is None:
        todo = "put corpus.tokenize.features before" if "numbers" in batch else "let the reader name its input so"
        raise UserError(f"the examples have none of the columns {', '.join(INPUTS)}", todo=todo)
    values: Tensor = batch[column]
    return column, (values.float() / 127.5 - 1 if values.dtype == torch.uint8 else values.float())


def logits(module: nn.Module, batch: dict[str, Any]) -> Tensor:
    """Scores (rows, labels) of a batch; modules that are not of transformers take the values as their one argument, or what they say that they read.

    Raises:
        UserError: the model does not take such rows, or has no score for labels or for one of the batch.
    """
    inner = getattr(module, "module", module)  # behind a wrapper for several processes
    if hasattr(inner, "reads"):
        if not hasattr(inner.head, "linear"):
            raise UserError(f"{type(inner).__name__} projects rows and scores no labels", todo="put tune.new_head before, or set classes")
        return fitting(module(**entries(inner, batch)), batch)
    column, values = inputs(batch)
    if isinstance(inner, PreTrainedModel):
        if column == "image" and inner.main_input_name != INPUTS[column]:
            raise UserError(f"{type(inner).__name__} reads {inner.main_input_name}, but the examples hold images")
        found: Tensor = module(**{INPUTS[column]: values}).logits
    else:
        found = module(values)
    if found.dim() != 2:
        raise UserError(f"{type(inner).__name__} gives {found.dim()}-dimensional scores: it is no classifier of rows")
    return fitting(found, batch)


def entries(module: Any, batch: dict[str, Any]) -> dict[str, Any]:
    """What a module of ours says that it reads.

    Raises:
        UserError: the batch has none of it.
    """
    if module.reads[0] not in batch:
        raise UserError(f"{type(module).__name__} reads tables, but the examples are none", todo="read some with corpus.read.tables")
    return {name: batch[name] for name in module.reads}


def fitting(found: Tensor, batch: dict[str, Any]) -> Tensor:
    """The scores, where they are of every label of the batch.

    Raises:
        UserError: a label has no score.
    """
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
    correct, nats, flops = np.zeros(source.rows), np.zeros(source.rows), 0
    for rows, batch, scores, spent in passes(module, source, batch_size):
        label = batch["label"].long()
        correct[rows] = (scores.argmax(dim=-1) == label).cpu().numpy()
        nats[rows] = functional.cross_entropy(scores, label, reduction="none").cpu().numpy()
        flops += spent
        if not np.isfinite(nats[rows]).all():
            worst = int(rows[~np.isfinite(nats[rows])][0])
            raise DataError(
                f"the model's loss on row {worst:,} is not finite", todo="look at the model's weights: some are NaN or infinite"
            )
    return Judged(correct, nats, float(flops))


def passes(module: nn.Module, source: LabelledRows, batch_size: int) -> Iterator[tuple[np.ndarray[Any, Any], dict[str, Any], Tensor, int]]:
    """(rows, their batch on the device, scores (rows, labels) in float64, FLOPs counted) of one forward pass over all rows.

    Raises:
        UserError: the model does not take such rows, or has no score for a label.
    """
    counted = Flops()
    for rows, batch in batches(module, source, batch_size):
        key = Flops.shape(batch, "evaluate")
        with torch.inference_mode(), counted.counted(key):
            scores = logits(module, batch).double()
        yield rows, batch, scores, counted.table[key]


def batches(module: nn.Module, source: LabelledRows, batch_size: int) -> Iterator[tuple[np.ndarray[Any, Any], dict[str, Any]]]:
    """All rows in order, on the module's device; progress is said after each batch."""
    where = next(module.parameters()).device
    for begin in range(0, source.rows, batch_size):
        rows = np.arange(begin, min(begin + batch_size, source.rows))
        yield rows, on_device(source.fill(rows), where)
        context().progress(int(rows[-1]) + 1, source.rows, "examples")


def probabilities(module: nn.Module, source: LabelledRows, batch_size: int) -> tuple[np.ndarray[Any, Any], float]:
    """(probability of every label (rows, labels) in float64, FLOPs).

    Raises:
        DataError: a score is not finite.
        UserError: the model does not take such rows.
    """
    found: list[np.ndarray[Any, Any]] = []
    flops = 0
    for rows, _, scores, spent in passes(module, source, batch_size):
        finite = torch.isfinite(scores).all(dim=1)
        if not bool(finite.all()):
            worst = int(rows[int((~finite).float().argmax())])
            raise DataError(
                f"the model's scores of row {worst:,} are not finite", todo="look at the model's weights: some are NaN or infinite"
            )
        found.append(scores.softmax(dim=1).cpu().numpy())
        flops += spent
    return np.concatenate(found), float(flops)


def features(module: nn.Module, source: LabelledRows, batch_size: int) -> tuple[np.ndarray[Any, Any], float]:
    """(what enters the module's last linear layer, (rows, features) in float32; FLOPs).

    Raises:
        UserError: there is no linear layer, or the model does not take such rows.
    """
    last = next((child for child in reversed(list(module.modules())) if isinstance(child, nn.Linear)), None)
    if last is None:
        raise UserError(f"{type(module).__name__} has no linear layer whose inputs could stand for its rows")
    seen: list[Tensor] = []
    handle = last.register_forward_pre_hook(lambda _, given: seen.append(given[0].detach()))
    found, flops = [], 0
    try:
        for _, _, _, spent in passes(module, source, batch_size):
            found.append(seen.pop().flatten(1).float().cpu().numpy())
            flops += spent
    finally:
        handle.remove()
    return np.concatenate(found), float(flops)


def gradient_norms(module: nn.Module, source: LabelledRows, batch_size: int) -> tuple[np.ndarray[Any, Any], float]:
    """(L2 norm, over all weights, of the gradient of every row's cross-entropy; FLOPs: three forward passes).

    A batch takes as many copies of the gradient as it has rows.

    Raises:
        UserError: the model does not take such rows, or has no score for a label.
    """
    from torch.func import functional_call, grad, vmap

    weights = {name: weight.detach() for name, weight in module.named_parameters()}
    buffers = {name: buffer.detach() for name, buffer in module.named_buffers()}

    class OneRow(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.module = module

        def forward(self, column: str, row: Tensor) -> Tensor:
            return logits(self.module, {column: row[None]})

    inside = OneRow()

    def loss(given: dict[str, Tensor], column: str, row: Tensor, label: Tensor) -> Tensor:
        named = {f"module.{name}": value for name, value in (given | buffers).items()}
        return functional.cross_entropy(functional_call(inside, named, (column, row)), label[None])

    each = vmap(grad(loss), in_dims=(None, None, 0, 0), randomness="error")
    labels = source.column("label")
    norms, counted, flops = np.zeros(source.rows), Flops(), 0
    for rows, batch in batches(module, source, batch_size):
        column, _ = inputs(batch)
        key = Flops.shape(batch, "evaluate")
        if not counted.known(key):  # counts a forward pass, and refuses what the model cannot take, labels of later batches too
            with torch.inference_mode(), counted.counted(key):
                logits(module, {**batch, SPAN: (int(labels.min()), int(labels.max()))})
        gradients = each(weights, column, batch[column], batch["label"].long())
        squares = torch.stack([g.double().flatten(1).square().sum(dim=1) for g in gradients.values()])
        norms[rows] = squares.sum(dim=0).sqrt().cpu().numpy()
        flops += 3 * counted.table[key]
    return norms, float(flops)
