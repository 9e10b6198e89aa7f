"""A new head: all other weights stay, labels are those of the examples; and rows as vectors."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import tiny_tables
import torch

from paredown.artifacts.examples import Examples
from paredown.artifacts.model import Model
from paredown.core.catalog import build
from paredown.core.context import Context, running
from paredown.core.errors import UserError
from paredown.engines.classifiers import LabelledRows, probabilities
from paredown.engines.modules import initialized
from paredown.infer.encode import Encode
from paredown.learn.models.mlp import Mlp
from paredown.learn.models.resnet import Resnet
from paredown.learn.models.transtab import Transtab
from paredown.learn.train import Train
from paredown.measure.auc import Auc
from paredown.tune.new_head import NewHead


def head(folder: Path, model: Model, data: Examples, seed: int = 0) -> Model:
    with running(Context(folder / "out", folder / "scratch", seed=seed)):
        return NewHead()(model, data)


def test_a_projection_gives_way_to_a_score_for_each_label(tmp_path):
    [data] = tiny_tables.worded(tmp_path / "w", tiny_tables.numbers(tmp_path / "t", label=[0, 1, 2, 0, 1, 2, 0, 1, 2, 0]))
    first = Model.save(tmp_path / "first", initialized(Transtab(**tiny_tables.SMALL, classes=0), data, 0))
    made = head(tmp_path, first, data)
    before, after = first.load().state_dict(), made.load().state_dict()
    assert made.config["paredown"] == {**first.config["paredown"], "classes": 3}
    assert {name for name in after if name.startswith("head.")} == {
        "head.norm.weight",
        "head.norm.bias",
        "head.linear.weight",
        "head.linear.bias",
    }
    kept = [name for name in after if not name.startswith("head.")]
    assert kept == [name for name in before if not name.startswith("head.")]
    assert all(torch.equal(after[name], before[name]) for name in kept)
    assert after["head.linear.weight"].shape == (3, 16)


@pytest.mark.parametrize("shape", [Mlp(inputs=16, hidden=(5,), classes=4), Resnet(channels=1, classes=4, widths=(4,), blocks=(1,))])
def test_networks_for_features_and_images_take_one_too(shape, tmp_path):
    image = pl.Series("image", np.random.default_rng(0).integers(0, 9, (6, 1, 4, 4)).astype(np.uint8))
    data = Examples.write(tmp_path / "data", pl.DataFrame([image, pl.Series("label", [0, 1, 2, 3, 4, 5])]))
    made = head(tmp_path, Model.save(tmp_path / "model", initialized(shape, None, 0)), data)
    assert made.load().head.weight.shape[0] == 6
    assert not torch.equal(made.load().head.weight, head(tmp_path / "other", made, data, seed=1).load().head.weight)


def test_what_takes_no_head_is_named(tmp_path):
    import tiny_models

    data = Examples.write(tmp_path / "data", pl.DataFrame({"features": [1.0], "label": [0]}))
    with pytest.raises(UserError, match="network of ours"):
        head(tmp_path / "a", tiny_models.model(tmp_path / "llama" / "model"), data)
    model = Model.save(tmp_path / "model", initialized(Mlp(), None, 0))
    for label, said in (([-1, 0], "label -1"), ([0, 10**8], "too many")):
        with pytest.raises(UserError, match=said):
            head(tmp_path / said, model, Examples.write(tmp_path / f"d{said}", pl.DataFrame({"features": [1.0, 2.0], "label": label})))


def test_pre_training_a_new_head_and_training_go_on_to_columns_never_seen(tmp_path):
    """The whole way of a transfer: contrast on one table, a new head, training on a second one with other columns and labels."""
    first, second = tiny_tables.worded(
        tmp_path / "w",
        tiny_tables.mixed(tmp_path / "a", 40),
        tiny_tables.numbers(tmp_path / "b", ("night pulse", "age"), 45, label=np.arange(45) % 3),
    )
    given: dict[str, Any] = {"batch_size": 16, "device": "cpu", "precision": "fp32", "budget": {"steps": 4}}
    with running(Context(tmp_path / "x" / "out", tmp_path / "x" / "scratch", seed=0)):
        learnt = Train(**given, objective=build("learn.objectives.vertical_partition"))(
            Transtab(**tiny_tables.SMALL, classes=0), examples=first
        )
    made = head(tmp_path, learnt, second)
    with running(Context(tmp_path / "y" / "out", tmp_path / "y" / "scratch", seed=0)):
        tuned = Train(**given, objective=build("learn.objectives.classification"))(made, examples=second, held_out=second)
    assert (tuned.path / "tokenizer.json").exists(), "the words go along"
    with running(Context(tmp_path / "z" / "out", tmp_path / "z" / "scratch", seed=None)):
        assert 0 < Auc()(tuned, second).value("auc") <= 1
    with running(Context(tmp_path / "v" / "out", tmp_path / "v" / "scratch", seed=None)):
        vectors = Encode(batch=7)(tuned, second)
    assert vectors.arrays()["features"].shape == (45, 16)
    assert vectors.arrays()["label"].tolist() == second.arrays()["label"].tolist()
    module: Any = tuned.load()
    with torch.no_grad():
        scores = module.head.linear(torch.from_numpy(vectors.arrays()["features"].copy()))
    np.testing.assert_allclose(probabilities(module, LabelledRows(second), 64)[0], scores.double().softmax(1).numpy(), atol=1e-6)
    untrained = Model.save(tmp_path / "other", initialized(Transtab(**tiny_tables.SMALL), second, 0))
    with running(Context(tmp_path / "u" / "out", tmp_path / "u" / "scratch", seed=None)):
        assert Encode()(untrained, second).rows == 45, "labels that a model does not know do not matter"


def test_tables_with_different_labels_are_not_learnt_by_one_head(tmp_path):
    from paredown.artifacts.tables import Column, Table, write_table

    tables = [
        write_table(tmp_path / name, pl.DataFrame({"x": [1.0, 2.0]}), pl.Series([0, 1]), (Table(name, (Column("x", "num"),), labels),))
        for name, labels in (("a", ("no", "yes")), ("b", ("left", "right")))
    ]
    both = tiny_tables.together(tmp_path / "both", *tiny_tables.worded(tmp_path / "w", *tables))
    with pytest.raises(UserError, match="different labels: a has no, yes; b has left, right"):
        LabelledRows(both)
