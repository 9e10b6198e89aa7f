"""The area under the curve and the controls that scikit-learn fits, against scikit-learn; mistakes are named."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import tiny_tables
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import accuracy_score, log_loss, roc_auc_score

from paredown.artifacts.examples import Examples
from paredown.artifacts.model import Model
from paredown.artifacts.scores import Scores
from paredown.artifacts.tables import cells_of
from paredown.core.context import Context, running
from paredown.core.errors import DataError, UserError
from paredown.core.strategy import Strategy
from paredown.engines import table_matrices
from paredown.engines.modules import initialized
from paredown.engines.rankings import auc, mean_auc
from paredown.learn.models.mlp import Mlp
from paredown.measure.auc import Auc
from paredown.measure.boosting import Boosting
from paredown.measure.logistic import Logistic
from paredown.measure.loss import Loss


def measure(folder: Path, strategy: Strategy, *data: Any) -> Scores:
    with running(Context(folder / "out", folder / "scratch", seed=0 if strategy.seeded else None)):
        found: Scores = strategy(*data)  # type: ignore[operator]
        return found


@settings(deadline=None)
@given(st.lists(st.tuples(st.sampled_from([0.0, 0.25, 0.5, 1.0]), st.booleans()), min_size=2, max_size=30))
def test_the_area_is_the_share_of_ordered_pairs(rows):
    scores, positive = np.array([score for score, _ in rows]), np.array([label for _, label in rows])
    if positive.all() or not positive.any():
        with pytest.raises(DataError, match="rows with a label and rows without it"):
            auc(scores, positive)
        return
    pairs = [(a > b) + (a == b) / 2 for a in scores[positive] for b in scores[~positive]]
    assert auc(scores, positive) == pytest.approx(np.mean(pairs))
    assert auc(scores, positive) == pytest.approx(roc_auc_score(positive, scores))


def test_of_more_labels_it_is_the_mean_of_each_against_the_rest():
    draw = np.random.default_rng(0)
    shares, labels = draw.dirichlet(np.ones(4), 60), np.arange(60) % 4
    assert mean_auc(shares, labels) == pytest.approx(roc_auc_score(labels, shares, multi_class="ovr"))


def examples(folder: Path, rows: int = 50, classes: int = 2) -> Examples:
    draw = np.random.default_rng(0)
    values = pl.Series("features", draw.normal(size=(rows, 6)), dtype=pl.Array(pl.Float64, 6))
    return Examples.write(folder, pl.DataFrame([values, pl.Series("label", np.arange(rows) % classes)]))


@pytest.mark.parametrize("classes", [2, 3])
def test_scores_of_a_model_are_scikit_learns(classes, tmp_path):
    model = Model.save(tmp_path / "model", initialized(Mlp(inputs=6, hidden=(5,), classes=classes), None, 0))
    data = examples(tmp_path / "data", classes=classes)
    found = measure(tmp_path, Auc(batch=7), model, data)
    with torch.no_grad():
        shares = model.load()(torch.from_numpy(data.arrays()["features"].copy()).float()).double().softmax(dim=1).numpy()
    labels = data.arrays()["label"]
    area = roc_auc_score(labels, shares[:, 1]) if classes == 2 else roc_auc_score(labels, shares, multi_class="ovr")
    assert found.value("auc") == pytest.approx(area)
    assert found.value("accuracy") == accuracy_score(labels, shares.argmax(axis=1))
    assert found.value("loss") == pytest.approx(log_loss(labels, shares), rel=1e-6)
    assert measure(tmp_path / "loss", Loss(batch=9), model, data).value("loss") == pytest.approx(log_loss(labels, shares), rel=1e-6)


def test_gradient_boosting_is_scikit_learns_with_missing_cells_and_categories(tmp_path):
    train, test = tiny_tables.mixed(tmp_path / "a", 200), tiny_tables.mixed(tmp_path / "b", 60, seed=1)
    found = measure(tmp_path, Boosting(trees=12, least=5), train, test)
    layout = table_matrices.layout(train)
    (own, which), (values, _) = table_matrices.raw(layout, train), table_matrices.raw(layout, test)
    assert np.isnan(own).any()
    assert which.sum() == 1
    theirs = HistGradientBoostingClassifier(
        max_iter=12, min_samples_leaf=5, early_stopping=False, categorical_features=which, random_state=0
    )
    shares = theirs.fit(own, train.frame()["label"]).predict_proba(values)[:, 1]
    assert found.value("auc") == pytest.approx(roc_auc_score(test.frame()["label"], shares))


def test_logistic_regression_is_scikit_learns_and_cannot_do_worse_than_chance_on_a_line(tmp_path):
    draw = np.random.default_rng(0)
    train = tiny_tables.numbers(tmp_path / "a", rows=300, label=(draw.random(300) > 0.5).astype(np.int64))
    straight = [tiny_tables.numbers(tmp_path / str(n), rows=300, seed=n, label=None) for n in (1, 2)]
    labelled = []
    for number, data in enumerate(straight):
        from paredown.artifacts.tables import tables_of, write_table

        cells = cells_of(data)
        labelled.append(write_table(tmp_path / f"l{number}", cells, (cells["a one"] > 0).cast(pl.Int64), tables_of(data)))
    assert measure(tmp_path / "x", Logistic(), *labelled).value("auc") > 0.99
    layout = table_matrices.layout(train)
    theirs = LogisticRegression(C=0.5, max_iter=1000).fit(table_matrices.features(layout, train), train.frame()["label"])
    shares = theirs.predict_proba(table_matrices.features(layout, straight[0]))[:, 1]
    found = measure(tmp_path / "y", Logistic(regularization=2), train, straight[0])
    assert found.value("auc") == pytest.approx(roc_auc_score(straight[0].frame()["label"], shares))


def test_rows_that_cannot_be_measured_are_named(tmp_path):
    train = tiny_tables.numbers(tmp_path / "a")
    one = tiny_tables.numbers(tmp_path / "b", label=[0] * 10)
    three = tiny_tables.numbers(tmp_path / "c", label=[0, 1, 2, 0, 1, 2, 0, 1, 2, 0])
    for number, strategy in enumerate((Boosting(), Logistic())):
        with pytest.raises(DataError, match="same label"):
            measure(tmp_path / f"x{number}", strategy, one, train)
        with pytest.raises(DataError, match="with a label and rows without"):
            measure(tmp_path / f"y{number}", strategy, train, one)
        with pytest.raises(DataError, match="label 2 is on no row"):
            measure(tmp_path / f"z{number}", strategy, train, three)
        with pytest.raises(DataError, match="no example to measure on"):
            measure(tmp_path / f"w{number}", strategy, train, tiny_tables.numbers(tmp_path / f"none{number}", rows=0))
    plain = examples(tmp_path / "plain")
    with pytest.raises(UserError, match="no table"):
        measure(tmp_path / "v", Boosting(), plain, plain)


def test_a_perceptron_says_what_to_do_with_a_table(tmp_path):
    model = Model.save(tmp_path / "model", initialized(Mlp(inputs=3, hidden=(5,), classes=2), None, 0))
    [data] = tiny_tables.worded(tmp_path / "w", tiny_tables.numbers(tmp_path / "a"))
    with pytest.raises(UserError, match="none of the columns image, features") as caught:
        measure(tmp_path / "x", Auc(), model, data)
    assert caught.value.todo == "put corpus.tokenize.features before"
    tables = Model.save(tmp_path / "tables", tiny_tables.network(data))
    with pytest.raises(UserError, match="reads tables, but the examples are none"):
        measure(tmp_path / "y", Auc(), tables, examples(tmp_path / "plain"))
