"""The mean loss of an objective over all rows of some examples."""

from __future__ import annotations

import torch
from torch import nn

from paredown.artifacts.examples import Examples
from paredown.core.context import context
from paredown.engines.batches import counted, evaluation, on_device
from paredown.engines.flops import Flops
from paredown.engines.parts import Objective


def mean(module: nn.Module, objective: Objective, examples: Examples, batch_size: int) -> tuple[float, int, float]:
    """(mean loss, rows, FLOPs) of a module in evaluation mode; the batches are those of a training's evaluation.

    Raises:
        UserError: the objective learns from other data, or the model does not take such rows.
    """
    source = objective.rows(examples, 0)
    objective.prepare(module)
    table, total, rows, flops = Flops(), 0.0, 0, 0
    where = next(module.parameters()).device
    for found in evaluation(source, batch_size, source.rows):
        batch = on_device(found, where) | {"predicted": counted(found)}
        key = Flops.shape(batch, "evaluate")
        with torch.inference_mode(), table.counted(key):
            loss, n = objective.loss(module, batch)[:2]
        total += float(loss) * n
        rows += n
        flops += table.table[key]
        context().progress(rows, source.rows, "examples")
    return total / max(1, rows), rows, float(flops)
