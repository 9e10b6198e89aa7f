"""Models that a measurement does not fit, and tables that a control cannot take, are refused in words."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import tiny_tables

from paredown.artifacts.examples import Examples
from paredown.artifacts.model import Model
from paredown.artifacts.tables import Column, Table, tables_of, write_table
from paredown.core.context import Context, running
from paredown.core.errors import DataError, UserError
from paredown.corpus.mix.tables import Tables
from paredown.corpus.rewrite.noisy_labels import NoisyLabels
from paredown.infer.generate import Generate
from paredown.measure.accuracy import Accuracy
from paredown.measure.auc import Auc
from paredown.measure.boosting import Boosting
from paredown.measure.logistic import Logistic
from paredown.measure.speed import Speed


def network(folder: Path, data: Examples, **knobs: Any) -> Model:
    return Model.save(folder / "model", tiny_tables.network(data, **knobs))


def within(folder: Path, seed: int | None = None) -> Any:
    (folder / "scratch").mkdir(parents=True, exist_ok=True)
    return running(Context(folder / "out", folder / "scratch", seed=seed))


def words(folder: Path, count: int, name: str = "many", labels: tuple[str, ...] = ("no", "yes")) -> Examples:
    cells = pl.DataFrame({"word": [f"w{n}" for n in range(count)]})
    return write_table(folder, cells, pl.Series(np.arange(count) % 2), (Table(name, (Column("word", "cat"),), labels),))


@pytest.mark.parametrize("measure", [Accuracy, Auc])
def test_a_projection_scores_no_labels(measure: Any, tmp_path: Path) -> None:
    [data] = tiny_tables.worded(tmp_path, tiny_tables.mixed(tmp_path / "table"))
    with within(tmp_path), pytest.raises(UserError, match="scores no labels"):
        measure()(network(tmp_path, data, classes=0), data)


def test_a_network_for_tables_reads_no_text(tmp_path: Path) -> None:
    [data] = tiny_tables.worded(tmp_path, tiny_tables.mixed(tmp_path / "table"))
    model = network(tmp_path, data)
    with within(tmp_path / "a"), pytest.raises(UserError, match="no language model"):
        Speed()(model)
    with within(tmp_path / "b", seed=0), pytest.raises(UserError, match="no language model"):
        Generate(prompts=("a",))(model)


def test_trees_take_255_words_of_a_category(tmp_path: Path) -> None:
    with within(tmp_path / "a", seed=0), pytest.raises(DataError, match="'word' holds 256 different words; trees take 255"):
        Boosting()(words(tmp_path / "more", 256), words(tmp_path / "few", 4))
    with within(tmp_path / "b", seed=0):
        Boosting()(words(tmp_path / "most", 255), words(tmp_path / "four", 4))


def test_labels_of_other_meanings_are_not_learnt_together(tmp_path: Path) -> None:
    pair = (words(tmp_path / "one", 4), words(tmp_path / "two", 4, "other", ("left", "right")))
    with within(tmp_path / "mix"):
        both = Tables()(pair)
    with within(tmp_path / "a"), pytest.raises(UserError, match="different labels: many has no, yes; other has left, right"):
        Logistic()(both, pair[0])


def test_a_table_with_noisy_labels_stays_a_table(tmp_path: Path) -> None:
    [data] = tiny_tables.worded(tmp_path, tiny_tables.mixed(tmp_path / "table"))
    with within(tmp_path, seed=0):
        noisy = NoisyLabels()(data)
    assert tables_of(noisy) == tables_of(data)
    assert noisy.vocab_size == data.vocab_size
