"""Tables as rows of a fixed count of numbers, for models that need such: the columns and categories are those of the rows to learn from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl

from paredown.artifacts.examples import Examples
from paredown.artifacts.tables import cells_of, tables_of
from paredown.core.errors import DataError, UserError

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Layout:
    """Which columns are read, and what their cells become."""

    kinds: dict[str, str]  # column -> num, cat or bin, in their order
    categories: dict[str, list[str]]  # of each cat column: the words that were seen, sorted
    means: dict[str, float]  # of each num column, in its own unit
    spreads: dict[str, float]  # standard deviations; 1 where a number never changes

    @property
    def width(self) -> int:
        return len(self.kinds) - len(self.categories) + sum(len(words) for words in self.categories.values())


def layout(examples: Examples, *, shared: bool = False) -> Layout:
    """What the columns of these rows become: those of any table, or with `shared` only those that all of them have.

    Raises:
        DataError: there is no row.
        UserError: the tables have no column in common.
    """
    tables, cells = tables_of(examples), cells_of(examples)
    if not cells.height:
        raise DataError("there is no row in the tables", where=str(examples.path))
    kinds = {column.name: column.kind for table in tables for column in table.columns}
    if shared:
        sets = [{column.name for column in table.columns} for table in tables]
        kinds = {name: kind for name, kind in kinds.items() if all(name in own for own in sets)}
    if not kinds:
        raise UserError("the tables have no column in common", where=str(examples.path))
    words = {name: cells[name].drop_nulls().unique().sort().to_list() for name, kind in kinds.items() if kind == "cat"}
    numbers = {name: cells[name].cast(pl.Float64) for name, kind in kinds.items() if kind == "num"}
    means = {name: float(values.mean() or 0.0) for name, values in numbers.items()}  # type: ignore[arg-type]
    spreads = {name: float(values.std(ddof=0) or 1.0) for name, values in numbers.items()}  # type: ignore[arg-type]
    return Layout(dict(kinds), words, means, spreads)


def columns(found: Layout, examples: Examples) -> pl.DataFrame:
    """The cells of these columns; a column that the tables lack is missing everywhere.

    Raises:
        UserError: a column holds something of another kind.
        DataError: a number is not finite.
    """
    cells = cells_of(examples)
    for name, kind in found.kinds.items():
        if kind == "num" and name in cells.columns and not cells[name].cast(pl.Float64).is_finite().fill_null(True).all():
            raise DataError(f"{name} holds a number that is not finite", where=str(examples.path))
    other = {column.name: column.kind for table in tables_of(examples) for column in table.columns}
    for name, kind in found.kinds.items():
        if other.get(name, kind) != kind:
            raise UserError(f"the column {name!r} holds {other[name]}, but {kind} in the rows to learn from", where=str(examples.path))
    types = {"num": pl.Float64, "cat": pl.String, "bin": pl.Boolean}
    missing = [pl.lit(None, types[kind]).alias(name) for name, kind in found.kinds.items() if name not in cells.columns]
    return cells.with_columns(missing).select(list(found.kinds))


def features(found: Layout, examples: Examples) -> Array:
    """(rows, width) of float32: numbers standardized, flags as 0 and 1, a 0 or 1 for each word of a category; missing is 0 (of a number the
    mean), and so is a word that was not seen."""
    parts = []
    for values in columns(found, examples):
        name, kind = values.name, found.kinds[values.name]
        if kind == "cat":
            parts += [(values == word).fill_null(False).to_numpy().astype(np.float32) for word in found.categories[name]]
        elif kind == "num":
            parts.append(((values.fill_null(found.means[name]).to_numpy() - found.means[name]) / found.spreads[name]).astype(np.float32))
        else:
            parts.append(values.fill_null(False).to_numpy().astype(np.float32))
    return np.stack(parts, axis=1) if parts else np.zeros((examples.rows, 0), np.float32)


def raw(found: Layout, examples: Examples) -> tuple[Array, Array]:
    """((rows, columns) of float64 with NaN where a cell is missing or its word was not seen, which columns are categories)."""
    parts = []
    for values in columns(found, examples):
        kind = found.kinds[values.name]
        if kind == "cat":
            words = found.categories[values.name]
            values = values.replace_strict(words, [float(n) for n in range(len(words))], default=None, return_dtype=pl.Float64)
        parts.append(values.cast(pl.Float64).fill_null(float("nan")).to_numpy())
    return np.stack(parts, axis=1), np.array([kind == "cat" for kind in found.kinds.values()])
