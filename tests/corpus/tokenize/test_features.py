"""Tables as fixed rows of numbers: against scikit-learn's own transformers, and what is missing or new."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest
import tiny_tables
from sklearn.impute import SimpleImputer
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from paredown.artifacts.examples import Examples
from paredown.artifacts.tables import Column, Table, cells_of, write_table
from paredown.core.context import Context, running
from paredown.core.errors import DataError, UserError
from paredown.corpus.tokenize.features import Features
from paredown.engines import table_matrices


def run(folder, *given, **knobs):
    step = Context(folder / "out", folder / "scratch", seed=None)
    with running(step):
        return Features(**knobs)(*given), step


def test_numbers_are_standardized_and_categories_become_zeros_and_ones(tmp_path):
    train, held = tiny_tables.mixed(tmp_path / "a", 40), tiny_tables.mixed(tmp_path / "b", 9, seed=1)
    found, step = run(tmp_path, train, held)
    own, given = cells_of(train), cells_of(held)
    numbers = ["body age", "pulse"]
    imputer = SimpleImputer().fit(own[numbers].to_numpy())
    scaler = StandardScaler().fit(own[numbers].to_numpy())
    words = OneHotEncoder(sparse_output=False, handle_unknown="ignore").fit(own.select(pl.col("eye color").drop_nulls()).to_numpy())
    flags = given.select("smokes", "works at night").fill_null(False).to_numpy()
    expected = [scaler.transform(imputer.transform(given[numbers].to_numpy())), words.transform(given[["eye color"]].to_numpy()), flags]
    assert found.held_out is not None
    np.testing.assert_allclose(found.held_out.arrays()["features"], np.concatenate(expected, axis=1), rtol=1e-5, atol=1e-6)
    assert step.facts["features"] == 2 + 3 + 2
    assert found.train.frame()["label"].to_list() == train.frame()["label"].to_list()


def test_a_word_that_was_not_seen_is_none_of_the_known_ones(tmp_path):
    table = (Table("t", (Column("x", "cat"),)),)
    train = write_table(tmp_path / "a", pl.DataFrame({"x": ["a", "b"]}), pl.Series([0, 1]), table)
    held = write_table(tmp_path / "b", pl.DataFrame({"x": ["b", "new"]}), pl.Series([0, 1]), table)
    found, _ = run(tmp_path, train, held)
    assert found.held_out is not None
    assert found.held_out.arrays()["features"].tolist() == [[0, 1], [0, 0]]


def test_columns_are_those_that_all_tables_share_or_those_of_any(tmp_path):
    first = tiny_tables.numbers(tmp_path / "a", ("a", "b"), rows=3)
    second = tiny_tables.numbers(tmp_path / "b", ("b", "c"), rows=2, seed=1)
    both = tiny_tables.together(tmp_path / "both", first, second)
    assert run(tmp_path / "x", both)[0].train.arrays()["features"].shape == (5, 1)
    wide = run(tmp_path / "y", both, columns="all")[0].train.arrays()["features"]
    assert wide.shape == (5, 3)
    assert not wide[3:, 0].any(), "missing is the mean"
    assert not wide[:3, 2].any()
    apart = tiny_tables.together(tmp_path / "apart", first, tiny_tables.numbers(tmp_path / "c", ("z",)))
    with pytest.raises(UserError, match="no column in common"):
        run(tmp_path / "z", apart)


def test_a_column_that_later_rows_lack_is_missing_there_and_one_of_another_kind_is_refused(tmp_path):
    layout = table_matrices.layout(tiny_tables.mixed(tmp_path / "a"))
    other = tiny_tables.numbers(tmp_path / "b", ("pulse", "unheard of"), rows=4)
    values, which = table_matrices.raw(layout, other)
    assert np.isnan(values[:, [0, 2, 3, 4]]).all()
    assert which.tolist() == [False, False, True, False, False]
    with pytest.raises(UserError, match="'eye color' holds num, but cat"):
        table_matrices.features(layout, tiny_tables.numbers(tmp_path / "c", ("eye color",)))


def test_what_is_no_table_or_empty_is_named(tmp_path):
    data = tiny_tables.mixed(tmp_path / "a")
    with pytest.raises(UserError, match="no table"):
        run(tmp_path / "x", Examples.write(tmp_path / "plain", data.frame().select("label")))
    with pytest.raises(DataError, match="no row"):
        run(tmp_path / "y", tiny_tables.mixed(tmp_path / "none", 0))
