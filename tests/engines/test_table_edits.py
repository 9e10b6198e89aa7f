"""Some columns and rows of tables, several tables as one, and shuffled names."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import polars as pl
import pytest
import tiny_tables

from paredown.artifacts.examples import Examples
from paredown.artifacts.tables import Column, Table, cells_of, tables_of, write_table
from paredown.core.context import Context, running
from paredown.core.errors import UserError
from paredown.core.strategy import Strategy
from paredown.corpus.mix.tables import Tables
from paredown.corpus.rewrite.column_names import ColumnNames
from paredown.corpus.select.cells import Cells


def made(folder: Path, strategy: Strategy, given: Any, seed: int = 0) -> Examples:
    with running(Context(folder / "out", folder / "scratch", seed=seed if strategy.seeded else None)):
        found: Examples = strategy(given)  # type: ignore[operator]
        return found


def names(examples: Examples) -> list[list[str]]:
    return [[column.name for column in table.columns] for table in tables_of(examples)]


def test_columns_and_rows_are_kept_in_their_order(tmp_path):
    data = tiny_tables.mixed(tmp_path / "table")
    kept = made(tmp_path, Cells(columns=("smokes", "*e"), first=2, rows=5), data)
    assert names(kept) == [["body age", "pulse", "smokes"]]
    assert cells_of(kept).rows() == cells_of(data).select("body age", "pulse", "smokes").slice(2, 5).rows()
    assert kept.frame()["label"].to_list() == data.frame()["label"].to_list()[2:7]
    assert tables_of(kept)[0].columns[0] == tables_of(data)[0].columns[0], "scales stay"
    assert names(made(tmp_path / "most", Cells(most=2), data)) == [["body age", "pulse"]]


def test_a_name_with_brackets_names_its_column(tmp_path):
    column = Column("iron [mg/l]", "num")
    data = write_table(
        tmp_path / "table", pl.DataFrame({"iron [mg/l]": [1.0, 2.0], "m": [3.0, 4.0]}), pl.Series([0, 1]),
        (Table("water", (column, Column("m", "num"))),),
    )  # fmt: skip
    assert names(made(tmp_path / "a", Cells(columns=("iron [mg/l]",)), data)) == [["iron [mg/l]"]]
    assert names(made(tmp_path / "b", Cells(columns=("[m]",)), data)) == [["m"]], "a pattern is one still"


def test_what_cannot_be_kept_is_named(tmp_path):
    data = tiny_tables.mixed(tmp_path / "table")
    with pytest.raises(UserError, match="no column 'smoke'") as caught:
        made(tmp_path / "a", Cells(columns=("smoke",)), data)
    assert caught.value.todo == "did you mean smokes?"
    with pytest.raises(UserError, match="there are 12 rows, not 13"):
        made(tmp_path / "b", Cells(first=8, rows=5), data)
    plain = Examples.write(tmp_path / "plain", data.frame().select("label"))
    with pytest.raises(UserError, match="are no table"):
        made(tmp_path / "c", Cells(), plain)


def test_tables_together_keep_their_rows_scales_and_columns(tmp_path):
    first = tiny_tables.mixed(tmp_path / "a", rows=3)
    second = write_table(
        tmp_path / "b", pl.DataFrame({"pulse": [1.0, 2.0], "new": ["x", None]}), pl.Series([1, 0]),
        (Table("b", (Column("pulse", "num", 1, 1), Column("new", "cat")), ("no", "yes")),),
    )  # fmt: skip
    both = made(tmp_path, Tables(), (first, second))
    assert both.rows == 5
    assert both.frame()["table"].to_list() == [0, 0, 0, 1, 1]
    assert both.frame()["label"].to_list() == [0, 1, 0, 1, 0]
    assert tables_of(both) == (*tables_of(first), *tables_of(second))
    assert cells_of(both)["pulse"].to_list() == [*cells_of(first)["pulse"], 1.0, 2.0]
    assert cells_of(both)["new"].to_list() == [None, None, None, "x", None]
    again = made(tmp_path / "again", Tables(), (both, second))
    assert again.frame()["table"].to_list() == [0, 0, 0, 1, 1, 2, 2]
    shared = made(tmp_path / "shared", Cells(of="every"), both)
    assert names(shared) == [["pulse"], ["pulse"]]


def test_tables_that_do_not_go_together_are_named(tmp_path):
    first = tiny_tables.mixed(tmp_path / "a", rows=3)
    table = Table("b", (Column("pulse", "cat"),))
    second = write_table(tmp_path / "b", pl.DataFrame({"pulse": ["fast"]}), pl.Series([0]), (table,))
    with pytest.raises(UserError, match="'pulse' holds cat in the table b, but num in mixed"):
        made(tmp_path / "x", Tables(), (first, second))
    with pytest.raises(UserError, match="no table to put together"):
        made(tmp_path / "y", Tables(), ())
    [one] = tiny_tables.worded(tmp_path / "w", first)
    with pytest.raises(UserError, match="cut into different words"):
        made(tmp_path / "z", Tables(), (one, first))
    apart = write_table(tmp_path / "c", pl.DataFrame({"new": [1.0]}), pl.Series([0]), (Table("c", (Column("new", "num"),)),))
    with pytest.raises(UserError, match="no column in common"):
        made(tmp_path / "u", Cells(of="every"), made(tmp_path / "v", Tables(), (first, apart)))


def test_names_move_among_columns_of_their_kind_and_none_stays(tmp_path):
    data = tiny_tables.mixed(tmp_path / "table")
    moved = made(tmp_path, ColumnNames(), data)
    before, after = tables_of(data)[0].columns, tables_of(moved)[0].columns
    for kind in ("num", "bin"):
        pairs = [(old.name, new.name) for old, new in zip(before, after, strict=True) if old.kind == kind]
        assert all(old != new for old, new in pairs)
        assert {old for old, _ in pairs} == {new for _, new in pairs}
    assert [column.name for column in after if column.kind == "cat"] == ["eye color"], "one of its kind"
    assert [(c.kind, c.shift, c.scale) for c in before] == [(c.kind, c.shift, c.scale) for c in after]
    assert cells_of(moved).rows() == cells_of(data).rows()
    assert (names(moved), moved.frame().rows()) == (names(made(tmp_path / "again", ColumnNames(), data)), moved.frame().rows())


def test_names_move_alike_in_all_tables(tmp_path):
    many = tiny_tables.numbers(tmp_path / "a", tuple("abcdefgh"))
    both = tiny_tables.together(tmp_path / "both", many, tiny_tables.numbers(tmp_path / "b", tuple("dcab")))
    moved = made(tmp_path, ColumnNames(), both)
    first, second = names(moved)
    assert [second[n] for n in (2, 3, 1, 0)] == first[:4]
    orders = {tuple(names(made(tmp_path / str(seed), ColumnNames(), both, seed))[0]) for seed in range(5)}
    assert len(orders) > 2
