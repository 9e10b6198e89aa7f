"""Tables from tables: some columns and rows, several as one, other names."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from fnmatch import fnmatchcase
from pathlib import Path

import numpy as np
import polars as pl

from paredown.artifacts.examples import Examples
from paredown.artifacts.tables import Table, cells_of, tables_of, tokenizer_text, write_table
from paredown.core.context import context
from paredown.core.errors import UserError
from paredown.core.wording import did_you_mean


def _named(name: str, pattern: str) -> bool:
    """Whether a pattern means a column: by its very name, as names may hold brackets, or as a pattern."""
    return name == pattern or fnmatchcase(name, pattern)


def kept_columns(examples: Examples, patterns: Sequence[str], most: int, *, shared: bool) -> list[str]:
    """Names of the columns that a pattern names, in their order; with `shared` only those of all tables that have rows.

    Raises:
        UserError: a pattern names none, or no table has any left.
    """
    tables = tables_of(examples)
    names = list(dict.fromkeys(column.name for table in tables for column in table.columns))
    for pattern in patterns:
        if not any(_named(name, pattern) for name in names):
            raise UserError(f"there is no column {pattern!r}", where="columns", todo=did_you_mean(pattern, names))
    kept = [name for name in names if any(_named(name, pattern) for pattern in patterns)]
    if shared:
        sets = [{column.name for column in table.columns} for table in tables]
        kept = [name for name in kept if all(name in own for own in sets)]
    kept = kept[:most] if most else kept
    if not kept:
        raise UserError("the tables have no column in common", where=str(examples.path), todo="learn from each column of any table")
    return kept


def selected(examples: Examples, names: Sequence[str], first: int, count: int | None, folder: Path) -> Examples:
    """The rows from `first` on, `count` of them, and of each table the columns of these names.

    Raises:
        UserError: there are not so many rows, or a table has none of the columns.
    """
    total = examples.rows
    if first + (count or 1) > total and (first or count):
        raise UserError(f"there are {total:,} rows, not {first + (count or 1):,}", where=str(examples.path), todo="lower first or rows")
    rows = examples.frame().slice(first, count)
    tables = []
    for number, table in enumerate(tables_of(examples)):
        columns = tuple(column for column in table.columns if column.name in names)
        if not columns and (rows["table"] == number).any():
            raise UserError(
                f"the table {table.name} has none of these columns", where=str(examples.path), todo="select from each table apart"
            )
        tables.append(dataclasses.replace(table, columns=columns))
    cells = cells_of(examples).slice(first, count).select(names)
    context().charge(documents=rows.height)
    return write_table(folder, cells, rows["label"], tuple(tables), of=rows["table"], tokenizer=tokenizer_text(examples))


def stacked(many: Sequence[Examples], folder: Path) -> Examples:
    """The rows of all tables in their order.

    Raises:
        UserError: there is none, a column is of two kinds, or the tables were cut into different words.
    """
    if not many:
        raise UserError("there is no table to put together", where="tables")
    texts = {tokenizer_text(examples) for examples in many}
    if len(texts) > 1:
        raise UserError(
            "the tables were cut into different words", where="tables", todo="put them together first, then corpus.tokenize.words"
        )
    tables: list[Table] = []
    kinds: dict[str, tuple[str, str]] = {}
    frames, labels, numbers = [], [], []
    for examples in many:
        own = tables_of(examples)
        for table in own:
            for column in table.columns:
                kind, where = kinds.setdefault(column.name, (column.kind, table.name))
                if kind != column.kind:
                    raise UserError(
                        f"the column {column.name!r} holds {column.kind} in the table {table.name}, but {kind} in {where}",
                        where="tables",
                        todo="declare it alike in both, or drop it from one",
                    )
        rows = examples.frame()
        frames.append(cells_of(examples))
        labels.append(rows["label"])
        numbers.append(rows["table"] + len(tables))
        tables += own
    cells = pl.concat(frames, how="diagonal")
    context().charge(documents=cells.height)
    return write_table(folder, cells, pl.concat(labels), tuple(tables), of=pl.concat(numbers), tokenizer=texts.pop())


def renamed(examples: Examples, draw: np.random.Generator, folder: Path) -> Examples:
    """The names of all columns of a kind moved on along one random cycle, the same in every table that has them."""
    tables = tables_of(examples)
    kinds = {column.name: column.kind for table in tables for column in table.columns}
    new: dict[str, str] = {}
    for kind in ("num", "cat", "bin"):
        names = [name for name, held in kinds.items() if held == kind]
        cycle = [names[place] for place in draw.permutation(len(names))]
        new |= dict(zip(cycle, cycle[1:] + cycle[:1], strict=True))
    rows = examples.frame()
    cells = cells_of(examples)
    moved = tuple(
        dataclasses.replace(table, columns=tuple(dataclasses.replace(column, name=new[column.name]) for column in table.columns))
        for table in tables
    )
    context().facts["names"] = new
    return write_table(
        folder, cells.rename(new), rows["label"], moved, of=rows["table"], tokenizer=tokenizer_text(examples)
    )  # fmt: skip
