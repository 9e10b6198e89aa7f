"""The loss of any objective: the mean over the batches of a training's evaluation; what fits nowhere is named."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import tiny_tables
import torch

from paredown.artifacts.examples import Examples
from paredown.artifacts.model import Model
from paredown.core.context import Context, running
from paredown.core.errors import DataError, UserError
from paredown.engines.batches import evaluation, on_device
from paredown.learn.objectives.vertical_partition import VerticalPartition
from paredown.measure.loss import Loss


def measure(folder: Path, model: Model, data: Examples, **knobs: object) -> float:
    with running(Context(folder / "out", folder / "scratch", seed=None)):
        return Loss(**knobs)(model, data).value("loss")  # type: ignore[arg-type]


def test_it_is_the_mean_over_rows_of_the_objectives_own_loss(tmp_path):
    [data] = tiny_tables.worded(tmp_path, tiny_tables.mixed(tmp_path / "t", 20))
    module = tiny_tables.network(data, classes=0)
    objective = VerticalPartition(groups=2)
    found = measure(tmp_path, Model.save(tmp_path / "model", module), data, objective=objective, batch=8)
    batches = evaluation(objective.rows(data, 0), 8, 20)
    with torch.no_grad():
        losses = [objective.loss(module, on_device(batch, torch.device("cpu"))) for batch in batches]
    assert [n for _, n in losses] == [8, 8, 4]
    assert found == pytest.approx(sum(float(loss) * n for loss, n in losses) / 20, rel=1e-5)
    other = measure(tmp_path / "other", Model(tmp_path / "model"), data, objective=objective, batch=20)
    assert other != pytest.approx(found, rel=1e-3), "more rows to tell apart are harder"


def test_what_does_not_fit_is_named(tmp_path):
    [data] = tiny_tables.worded(tmp_path, tiny_tables.mixed(tmp_path / "t", 20))
    module = tiny_tables.network(data)
    scores = Model.save(tmp_path / "model", module)
    with pytest.raises(UserError, match="projects rows"):
        measure(tmp_path / "a", scores, data, objective=VerticalPartition())
    [none] = tiny_tables.worded(tmp_path / "w", tiny_tables.mixed(tmp_path / "none", 0))
    with pytest.raises(DataError, match="no example"):
        measure(tmp_path / "b", scores, none)
    with torch.no_grad():
        module.head.linear.bias[0] = math.nan
    with pytest.raises(DataError, match="no finite number"):
        measure(tmp_path / "c", Model.save(tmp_path / "bad", module), data)
