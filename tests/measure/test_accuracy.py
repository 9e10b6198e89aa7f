"""Accuracy and loss against their definitions, item by item; batches do not matter; mistakes are named."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import tiny_models
import torch
from sklearn.metrics import accuracy_score, log_loss

from paredown.artifacts.examples import Examples
from paredown.artifacts.model import Model
from paredown.artifacts.scores import Scores
from paredown.core.context import Context, running
from paredown.core.errors import DataError, UserError
from paredown.engines.modules import initialized
from paredown.learn.models.mlp import Mlp
from paredown.learn.models.resnet import Resnet
from paredown.measure.accuracy import Accuracy


def examples(folder: Path, rows: int = 50, classes: int = 4, features: int = 6, **more: Any) -> Examples:
    draw = np.random.default_rng(0)
    columns = {
        "features": pl.Series(draw.normal(size=(rows, features)), dtype=pl.Array(pl.Float64, features)),
        "label": pl.Series(draw.integers(0, classes, rows)),
    }
    return Examples.write(folder, pl.DataFrame(columns | more))


def measure(folder: Path, model: Model, data: Examples, **knobs: Any) -> tuple[Scores, Context]:
    step = Context(folder / "out", folder / "scratch")
    with running(step):
        return Accuracy(**knobs)(model, data), step


def perceptron(folder: Path, seed: int = 0) -> Model:
    return Model.save(folder, initialized(Mlp(inputs=6, hidden=(5,), classes=4), None, seed))


def test_scores_are_scikit_learns(tmp_path):
    model, data = perceptron(tmp_path / "model"), examples(tmp_path / "data")
    found, step = measure(tmp_path, model, data)
    arrays = data.arrays()
    with torch.no_grad():
        share = model.load()(torch.from_numpy(arrays["features"].copy()).float()).double().softmax(dim=1).numpy()
    assert found.value("accuracy") == accuracy_score(arrays["label"], share.argmax(axis=1))
    assert found.value("loss") == pytest.approx(log_loss(arrays["label"], share, labels=range(4)), rel=1e-6)
    assert [(row.metric, row.better, row.n) for row in found.rows()] == [("accuracy", "higher", 50), ("loss", "lower", 50)]
    assert step.cost.flops == 50 * 2 * (6 * 5 + 5 * 4)


def test_metrics_are_exactly_the_weighted_means_of_their_items(tmp_path):
    found, _ = measure(tmp_path, perceptron(tmp_path / "model"), examples(tmp_path / "data"))
    items = found.items()
    assert items is not None
    assert items.schema == {"metric": pl.String, "item": pl.Int64, "value": pl.Float64, "weight": pl.Float64}
    for metric in ("accuracy", "loss"):
        of = items.filter(pl.col("metric") == metric)
        assert of["item"].to_list() == list(range(50))
        values, weight = of["value"].to_numpy(), of["weight"].to_numpy()
        assert found.value(metric) == (values * weight).sum() / weight.sum()
    assert set(items.filter(pl.col("metric") == "accuracy")["value"]) == {0.0, 1.0}


def test_the_batch_does_not_matter(tmp_path):
    model, data = perceptron(tmp_path / "model"), examples(tmp_path / "data")
    whole, _ = measure(tmp_path / "a", model, data)
    single, _ = measure(tmp_path / "b", model, data, batch=7)
    assert whole.value("accuracy") == single.value("accuracy")
    assert whole.value("loss") == pytest.approx(single.value("loss"), rel=1e-6)


def test_batch_norms_use_what_training_gathered_and_not_the_batch(tmp_path):
    draw = np.random.default_rng(1)
    image = pl.Series(draw.integers(0, 256, (9, 1, 6, 6)).astype(np.uint8))
    data = Examples.write(tmp_path / "data", pl.DataFrame({"image": image, "label": [0, 1, 2] * 3}))
    model = Model.save(tmp_path / "model", initialized(Resnet(channels=1, classes=3, widths=(4,), blocks=(1,)), None, 0))
    losses = [measure(tmp_path / str(batch), model, data, batch=batch)[0].value("loss") for batch in (9, 1)]
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)


def test_labels_and_columns_that_do_not_fit_are_named(tmp_path):
    model = perceptron(tmp_path / "model")
    with pytest.raises(UserError, match="the label 4, but the model tells 4 labels apart"):
        measure(tmp_path / "a", model, examples(tmp_path / "five", classes=5))
    with pytest.raises(UserError, match="rows of 6 numbers"):
        measure(tmp_path / "b", model, examples(tmp_path / "wide", features=7))
    bare = Examples.write(tmp_path / "bare", examples(tmp_path / "data").frame().drop("label"))
    with pytest.raises(UserError, match="named label"):
        measure(tmp_path / "c", model, bare)
    with pytest.raises(DataError, match="no example"):
        measure(tmp_path / "d", model, examples(tmp_path / "none", rows=0))


def test_a_model_that_is_no_classifier_of_images_is_named(tmp_path):
    image = pl.Series(np.zeros((2, 1, 4, 4), np.uint8))
    data = Examples.write(tmp_path / "data", pl.DataFrame({"image": image, "label": [0, 1]}))
    with pytest.raises(UserError, match="LlamaForCausalLM reads input_ids"):
        measure(tmp_path / "a", tiny_models.model(tmp_path / "llama" / "model"), data)


def test_a_loss_that_is_not_finite_names_the_row(tmp_path):
    module = initialized(Mlp(inputs=6, hidden=(5,), classes=4), None, 0)
    with torch.no_grad():
        module.head.bias[2] = math.nan
    with pytest.raises(DataError, match="on row 0 is not finite"):
        measure(tmp_path / "a", Model.save(tmp_path / "model", module), examples(tmp_path / "data"))


def test_a_classifier_of_transformers_is_measured_too(tmp_path):
    from transformers import ViTConfig, ViTForImageClassification

    torch.manual_seed(0)
    config = ViTConfig(
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=16,
        image_size=8,
        patch_size=4,
        num_channels=1,
        num_labels=3,
    )
    model = Model.save(tmp_path / "model", ViTForImageClassification(config))
    image = np.random.default_rng(0).integers(0, 256, (12, 1, 8, 8)).astype(np.uint8)
    data = Examples.write(tmp_path / "data", pl.DataFrame({"image": pl.Series(image), "label": [0, 1, 2] * 4}))
    found, _ = measure(tmp_path, model, data)
    with torch.no_grad():
        best = model.load()(pixel_values=torch.from_numpy(image).float() / 127.5 - 1).logits.argmax(dim=1).numpy()
    assert found.value("accuracy") == (best == np.array([0, 1, 2] * 4)).mean()
