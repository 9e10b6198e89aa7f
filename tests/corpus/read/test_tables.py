"""Tables from files: what columns hold, scaling on rows to learn from, missing cells, and every kind of bad table."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from sklearn.datasets import load_breast_cancer
from sklearn.preprocessing import MinMaxScaler, StandardScaler

from paredown.artifacts.example_split import ExampleSplit
from paredown.artifacts.tables import cells_of, tables_of
from paredown.core.context import Context, running
from paredown.core.errors import DataError, UserError
from paredown.corpus.read.tables import Tables
from paredown.engines import table_files

CSV = """\
age,city,member,smokes,income,outcome
34,Bern,1,yes,12.5,sick
,Basel,0,no,7,well
51,,1,,n/a,sick
28,Bern,0,yes,3.25,well
61,Genf,1,no,,sick
45,Bern,0,no,9,
39,Basel,1,yes,1,well
"""


def read(folder: Path, text: str = CSV, name: str = "people.csv", **knobs: Any) -> tuple[ExampleSplit, Context]:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text(text)
    step = Context(folder / "out", folder / "scratch", seed=None)
    with running(step):
        return Tables(**{"path": str(folder / name), "target": "outcome", "held_out": 0, **knobs})(), step


def test_columns_are_what_they_hold_and_missing_cells_stay_missing(tmp_path):
    found, step = read(tmp_path)
    [table] = tables_of(found.train)
    assert [(column.name, column.kind) for column in table.columns] == [
        ("age", "num"), ("city", "cat"), ("member", "bin"), ("smokes", "bin"), ("income", "cat"),
    ]  # fmt: skip
    assert table.labels == ("sick", "well")
    assert table.name == "people"
    cells = cells_of(found.train)
    assert cells["age"].to_list() == [34, None, 51, 28, 61, 39]
    assert cells["city"].to_list() == ["Bern", "Basel", None, "Bern", "Genf", "Basel"]
    assert cells["smokes"].to_list() == [True, False, None, True, False, True]
    assert found.train.frame()["label"].to_list() == [0, 1, 0, 1, 0, 1]
    assert step.dropped == {"no_label": [1, 0, 0]}
    assert found.held_out is None


def test_declared_columns_are_read_so(tmp_path):
    text = CSV.replace("n/a", "")
    found, _ = read(tmp_path, text, columns={"income": "num", "member": "cat", "age": "cat"})
    cells = cells_of(found.train)
    assert cells["income"].to_list() == [12.5, 7, None, 3.25, None, 1]
    assert cells["member"].to_list() == ["1", "0", "1", "0", "1", "1"]
    assert cells["age"].to_list() == ["34", None, "51", "28", "61", "39"], "a missing number does not become a word"


def test_missing_is_told_before_numbers_become_words(tmp_path):
    frame = pl.DataFrame({"grade": [1.0, float("nan"), None, 2.0], "outcome": ["a", "b", "a", "b"]})
    frame.write_parquet(tmp_path / "t.parquet")
    with running(Context(tmp_path / "out", tmp_path / "scratch", seed=None)):
        found = Tables(path=str(tmp_path / "t.parquet"), target="outcome", held_out=0, columns={"grade": "cat"})()
    assert cells_of(found.train)["grade"].to_list() == ["1", None, None, "2"]


@pytest.mark.parametrize(("scaling", "theirs"), [("minmax", MinMaxScaler), ("standard", StandardScaler)])
def test_numbers_are_scaled_as_scikit_learn_does_on_rows_to_learn_from(scaling, theirs, tmp_path):
    with running(Context(tmp_path / "out", tmp_path / "scratch", seed=None)):
        found = Tables(dataset="breast_cancer", scaling=scaling)()
    assert found.held_out is not None
    train, held = (cells_of(part).to_numpy() for part in (found.train, found.held_out))
    fitted = theirs().fit(train)
    [table], [same] = tables_of(found.train), tables_of(found.held_out)
    assert table == same, "what is held out is scaled by the same numbers"
    ours = (held - [column.shift for column in table.columns]) / [column.scale for column in table.columns]
    np.testing.assert_allclose(ours, fitted.transform(held), rtol=1e-9, atol=1e-12)


def test_a_table_of_scikit_learn_is_whole_and_split_by_label(tmp_path):
    with running(Context(tmp_path / "out", tmp_path / "scratch", seed=None)):
        found = Tables(dataset="breast_cancer", held_out=0.3)()
    theirs = load_breast_cancer()
    assert found.held_out is not None
    assert (found.train.rows, found.held_out.rows) == (398, 171)
    assert [column.name for column in tables_of(found.train)[0].columns] == list(theirs.feature_names)
    assert tables_of(found.train)[0].labels == ("malignant", "benign")
    every = np.concatenate([cells_of(part).to_numpy() for part in (found.train, found.held_out)])
    assert sorted(map(tuple, every)) == sorted(map(tuple, theirs.data))
    assert found.held_out.frame()["label"].mean() == pytest.approx(theirs.target.mean(), abs=0.005)


def test_the_same_rows_are_held_out_whatever_their_order_and_twins_stay_together(tmp_path):
    rows = [f"{n % 20},{n % 3},{'ab'[n % 20 % 2]}" for n in range(60)]
    sides = []
    for number, order in enumerate((rows, rows[::-1])):
        found, _ = read(tmp_path / str(number), "\n".join(["x,y,outcome", *order]) + "\n", held_out=0.3)
        assert found.held_out is not None
        sides.append([set(cells_of(part).rows()) for part in (found.train, found.held_out)])
    assert sides[0] == sides[1]
    assert not sides[0][0] & sides[0][1]


def test_several_files_are_one_table(tmp_path):
    for number in range(2):
        (tmp_path / f"{number}.csv").write_text(f"x,outcome\n{number}.5,a\n{number}.25,b\n")
    with running(Context(tmp_path / "out", tmp_path / "scratch", seed=None)):
        found = Tables(path=str(tmp_path / "*.csv"), target="outcome", held_out=0)()
    assert cells_of(found.train)["x"].to_list() == [0.5, 0.25, 1.5, 1.25]
    (tmp_path / "2.csv").write_text("z,outcome\n1,a\n")
    with pytest.raises(UserError, match="'z' is not in both"):
        Tables(path=str(tmp_path / "*.csv"), target="outcome", held_out=0)()


BAD = [
    (CSV, {"target": "outcom"}, UserError, "no column 'outcom' to be the label", "did you mean outcome?"),
    (CSV, {"columns": {"agee": "num"}}, UserError, "no column 'agee'", "did you mean age?"),
    (CSV, {"drop": ["citty"]}, UserError, "no column 'citty'", "did you mean city?"),
    (CSV, {"columns": {"income": "num"}}, DataError, r"'n/a' in row 2 of the column 'income' is not a number", "cat"),
    (CSV, {"columns": {"city": "bin"}}, DataError, r"'Bern' in row 0 of the column 'city' is not yes or no", "cat"),
    (CSV, {"columns": {"age": "bin"}}, DataError, r"34.* in row 0 of the column 'age' is not yes or no", "cat"),
    ("x,y,outcome\n1,,a\n2,,b\n", {}, DataError, "the column 'y' holds nothing", "drop: [y]"),
    ("x,outcome\n1,a\n2,a\n", {}, DataError, "all 2 rows have the label 'a'", ""),
    ("x,outcome\n1,\n2,\n", {}, DataError, "no row has a label", ""),
    ("x,outcome\n", {}, DataError, "no row has a label", ""),
    ("x,outcome\n1,0.5\n2,1.5\n", {}, UserError, "regression", "classes"),
    ("x,outcome\ninf,a\n2,b\n", {}, DataError, "row 0 of the column 'x' is infinite", ""),
    ("outcome\na\nb\n", {}, DataError, "at least one column", ""),
    ("x,outcome\n1,a\n2,b\n", {"held_out": 0.1}, DataError, "too few to hold some out", "held_out"),
]


@pytest.mark.parametrize(("text", "knobs", "kind", "said", "todo"), BAD)
def test_a_bad_table_is_named_with_what_to_do(text, knobs, kind, said, todo, tmp_path):
    with pytest.raises(kind, match=said) as caught:
        read(tmp_path, text, **knobs)
    assert todo in caught.value.todo


def test_files_that_are_no_tables_are_named(tmp_path):
    with pytest.raises(UserError, match="no table that can be read"):
        read(tmp_path / "a", name="people.xlsx")
    with pytest.raises(DataError, match="cannot be read"):
        read(tmp_path / "b", "no parquet", name="people.parquet")
    with pytest.raises(UserError, match="no file matches"):
        Tables(path=str(tmp_path / "nothing.csv"))()


def test_a_column_of_lists_is_no_column_of_a_table(tmp_path):
    pl.DataFrame({"x": [[1], [2]], "outcome": ["a", "b"]}).write_parquet(tmp_path / "t.parquet")
    with pytest.raises(DataError, match="no cell of a table"):
        Tables(path=str(tmp_path / "t.parquet"), target="outcome", held_out=0)()


def test_exactly_one_source_is_given():
    for knobs in ({}, {"path": "a.csv", "dataset": "iris"}):
        with pytest.raises(ValueError, match="exactly one of path and dataset"):
            Tables(**knobs)


def test_what_a_column_holds_is_inferred():
    cases = {
        "num": [[1.5, 2.0], [0, 1, 2], [None, 3]],
        "bin": [[True, None], [0, 1, 1], [1.0, None], ["yes", "no"], ["F", "T", None]],
        "cat": [["yes", "no", "perhaps"], ["red"], ["12", "x"]],
    }
    for kind, columns in cases.items():
        for values in columns:
            assert table_files.inferred(pl.Series(values)) == kind, values


def test_columns_may_be_called_as_the_columns_of_examples_are(tmp_path):
    found, _ = read(tmp_path, "label,table,cells,outcome\n1.5,a,x,yes\n2.5,b,y,no\n")
    assert cells_of(found.train).rows() == [(1.5, "a", "x"), (2.5, "b", "y")]
    assert found.train.frame()["label"].to_list() == [1, 0]
