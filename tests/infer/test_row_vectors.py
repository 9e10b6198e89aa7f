"""Rows as vectors: what enters the last layer, row by row; labels do not matter; mistakes are named."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import tiny_tables
import torch

from paredown.artifacts.examples import Examples
from paredown.artifacts.model import Model
from paredown.core.context import Context, running
from paredown.core.errors import DataError, UserError
from paredown.engines.modules import initialized
from paredown.infer.encode import Encode
from paredown.learn.models.mlp import Mlp


def encode(folder: Path, model: Model, data: Examples, **knobs: int) -> Examples:
    with running(Context(folder / "out", folder / "scratch", seed=None)):
        return Encode(**knobs)(model, data)


def features(folder: Path, rows: int = 9) -> Examples:
    values = np.random.default_rng(0).normal(size=(rows, 4))
    columns = [pl.Series("features", values, dtype=pl.Array(pl.Float64, 4)), pl.Series("label", np.arange(rows) % 7)]
    return Examples.write(folder, pl.DataFrame(columns))


def test_a_vector_is_what_enters_the_last_layer(tmp_path):
    model = Model.save(tmp_path / "model", initialized(Mlp(inputs=4, hidden=(6, 5), classes=2), None, 0))
    data = features(tmp_path / "data")
    module = model.load()
    with torch.no_grad():
        x = torch.from_numpy(data.arrays()["features"].copy()).float()
        for block in module.blocks:
            x = block(x)
    for batch in (4, 100):
        found = encode(tmp_path / str(batch), model, data, batch=batch).arrays()
        np.testing.assert_allclose(found["features"], x.numpy(), rtol=1e-5, atol=1e-6)
        assert found["label"].tolist() == data.arrays()["label"].tolist(), "labels that the model does not know"


def test_rows_of_tables_are_encoded_whatever_their_columns(tmp_path):
    first, second = tiny_tables.worded(tmp_path, tiny_tables.mixed(tmp_path / "a"), tiny_tables.numbers(tmp_path / "b"))
    model = Model.save(tmp_path / "model", tiny_tables.network(first))
    both = encode(tmp_path / "both", model, tiny_tables.together(tmp_path / "t", first, second)).arrays()["features"]
    apart = [encode(tmp_path / str(n), model, data).arrays()["features"] for n, data in enumerate((first, second))]
    np.testing.assert_allclose(both, np.concatenate(apart), rtol=1e-4, atol=1e-5)


def test_what_cannot_be_encoded_is_named(tmp_path):
    module = initialized(Mlp(inputs=4, hidden=(5,), classes=2), None, 0)
    model = Model.save(tmp_path / "model", module)
    with pytest.raises(DataError, match="no example to encode"):
        encode(tmp_path / "a", model, features(tmp_path / "none", 0))
    five = pl.Series("features", [[1.0] * 5], dtype=pl.Array(pl.Float64, 5))
    wide = Examples.write(tmp_path / "wide", pl.DataFrame([five, pl.Series("label", [0])]))
    with pytest.raises(UserError, match="rows of 4 numbers"):
        encode(tmp_path / "b", model, wide)
    with torch.no_grad():
        module.blocks[0].linear.bias[0] = math.nan
    with pytest.raises(DataError, match=r"(vector|scores) of row 0"):
        encode(tmp_path / "c", Model.save(tmp_path / "bad", module), features(tmp_path / "data"))
