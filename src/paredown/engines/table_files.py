"""Tables from files or data frames: which columns hold numbers, words or flags, how numbers are scaled, and what is no table.

A table is read whole; missing cells (empty, null or NaN) stay missing.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import polars as pl

from paredown.artifacts.example_split import ExampleSplit
from paredown.artifacts.tables import Column, Kind, Table, write_table
from paredown.core.context import context
from paredown.core.errors import DataError, MissingExtra, UserError
from paredown.core.wording import did_you_mean
from paredown.engines import example_splits
from paredown.engines.reading import find

Scaling = Literal["minmax", "standard", "none"]
YES = ("true", "yes", "y", "t", "1")
NO = ("false", "no", "n", "f", "0")
DATA_SETS = ("breast_cancer", "iris", "wine")  # labelled tables that come with scikit-learn


def read(path: str) -> pl.DataFrame:
    """The rows of every file that `path` means, one after another.

    Raises:
        UserError: a file is of another kind, or its columns are not those of the first.
        DataError: a file cannot be read.
    """
    frames: list[tuple[Path, pl.DataFrame]] = []
    for file in find(path):
        try:
            if file.suffix.lower() == ".parquet":
                found = pl.read_parquet(file)
            elif file.suffix.lower() in (".csv", ".tsv"):
                separator = "\t" if file.suffix.lower() == ".tsv" else ","
                found = pl.read_csv(file, separator=separator, infer_schema_length=None)
            else:
                raise UserError(f"{file.name} is no table that can be read", where=str(file), todo="give .csv, .tsv or .parquet")
        except (pl.exceptions.PolarsError, OSError) as error:
            raise DataError(f"{file.name} cannot be read: {str(error).splitlines()[0]}", where=str(file)) from None
        if frames and found.columns != frames[0][1].columns:
            odd = next(
                (name for name in [*found.columns, *frames[0][1].columns] if (name in found.columns) != (name in frames[0][1].columns)), ""
            )
            said = f"the column {odd!r} is not in both" if odd else "they stand in another order"
            raise UserError(f"{file.name} has other columns than {frames[0][0].name}: {said}", where=str(file), todo="read them apart")
        frames.append((file, found))
    try:
        return pl.concat([frame for _, frame in frames], how="vertical_relaxed")
    except pl.exceptions.PolarsError as error:
        raise DataError(f"the files do not fit together: {str(error).splitlines()[0]}", where=path) from None


def data_set(name: str) -> tuple[pl.DataFrame, list[str]]:
    """(a table of scikit-learn with the column `target`, the names of its labels).

    Raises:
        MissingExtra: scikit-learn is not installed.
    """
    try:
        import sklearn.datasets
    except ImportError:
        raise MissingExtra("tables", f"dataset: {name}", "scikit-learn") from None

    found: Any = getattr(sklearn.datasets, f"load_{name}")()
    cells = {str(column): found.data[:, number] for number, column in enumerate(found.feature_names)}
    return pl.DataFrame({**cells, "target": found.target}), [str(label) for label in found.target_names]


def labelled(frame: pl.DataFrame, target: str, where: str) -> tuple[pl.DataFrame, pl.Series, tuple[str, ...]]:
    """(cells, labels from 0, their names) of the rows that have a label; the others are dropped and counted.

    Raises:
        UserError: there is no such column.
        DataError: no row has a label, all have the same, or one is infinite.
    """
    if target not in frame.columns:
        raise UserError(
            f"there is no column {target!r} to be the label; there are {', '.join(frame.columns[:12])}"
            + (", ..." if frame.width > 12 else ""),
            where="target",
            todo=did_you_mean(target, frame.columns),
        )
    known = frame[target].is_not_null()
    if frame[target].dtype.is_float():
        known &= ~frame[target].is_nan().fill_null(False)
    missing = int((~known).sum())
    if missing:
        context().drop("no_label", missing)
    frame = frame.filter(known)
    values = frame[target]
    if values.dtype.is_float() and not values.is_finite().all():
        raise DataError(f"the label {target} is infinite in a row", where=where, todo="mend the rows, or leave their label empty")
    if values.dtype.is_float() and (values == values.round()).all():
        values = values.cast(pl.Int64)
    elif values.dtype.is_float():
        raise UserError(
            f"the label {target} is a number with a fraction: that is regression", where="target", todo="name a column of classes"
        )
    names = values.unique().sort().to_list() if not values.dtype.is_(pl.Boolean) else [False, True]
    if len(set(values.to_list())) < 2:
        said = f"all {frame.height:,} rows have the label {names[0]!r}" if frame.height else "no row has a label"
        raise DataError(f"there is nothing to tell apart: {said}", where=where)
    labels = values.replace_strict(names, range(len(names)), return_dtype=pl.Int64)
    return frame.drop(target), labels, tuple(str(name) for name in names)


def typed(frame: pl.DataFrame, declared: dict[str, Kind], where: str) -> tuple[pl.DataFrame, dict[str, Kind]]:
    """The cells as numbers, words and flags, and what each column is: as `declared`, else by what it holds.

    Numbers that are only 0 and 1, and two words such as yes and no, are flags.

    Raises:
        UserError: a declared column does not exist.
        DataError: a cell is not what was declared, a number is infinite, or a column holds nothing or has no name.
    """
    for name in declared:
        if name not in frame.columns:
            raise UserError(f"there is no column {name!r}", where="columns", todo=did_you_mean(name, frame.columns))
    if not frame.width:
        raise DataError("a table needs at least one column beside its labels", where=where)
    if "" in frame.columns:  # numbers of rows, most often, as pandas writes them
        raise DataError(
            f"column {frame.columns.index('') + 1} of the table has no name", where=where, todo='name it, or leave it out: drop: [""]'
        )
    found, kinds = [], {}
    for values in frame:
        if values.dtype.is_float():
            values = values.fill_nan(None)
        if values.null_count() == len(values):
            raise DataError(f"the column {values.name!r} holds nothing", where=where, todo=f"leave it out: drop: [{values.name}]")
        kind = declared.get(values.name) or inferred(values)
        kinds[values.name] = kind
        found.append({"num": _numbers, "cat": _words, "bin": _flags}[kind](values, where))
    return pl.DataFrame(found), kinds


def inferred(values: pl.Series) -> Kind:
    """What a column holds."""
    if values.dtype.is_(pl.Boolean):
        return "bin"
    held = values.drop_nulls().unique()
    if values.dtype.is_numeric():
        return "bin" if set(held.to_list()) <= {0, 1} else "num"
    words = {str(value).strip().lower() for value in held.head(8).to_list()}
    return "bin" if len(held) <= 4 and words <= {*YES, *NO} else "cat"


def _numbers(values: pl.Series, where: str) -> pl.Series:
    if values.dtype.is_(pl.Boolean) or values.dtype.is_numeric():
        found = values.cast(pl.Float64)
    else:
        found = values.cast(pl.String).str.strip_chars().cast(pl.Float64, strict=False)
        _check(values, found, "a number", where)
        found = found.fill_nan(None)
    infinite = found.is_infinite().fill_null(False)
    if infinite.any():
        raise DataError(f"the number in row {int(infinite.arg_max() or 0):,} of the column {values.name!r} is infinite", where=where)
    return found


def _words(values: pl.Series, where: str) -> pl.Series:
    """Missing cells are told before numbers become text, so that none becomes the word nan; empty text is missing."""
    if values.dtype.is_float() and (values.drop_nulls() == values.drop_nulls().round()).all():
        values = values.cast(pl.Int64)
    if values.dtype.is_nested() or values.dtype.is_(pl.Binary):
        raise DataError(
            f"the column {values.name!r} holds {values.dtype}, which is no cell of a table",
            where=where,
            todo=f"leave it out: drop: [{values.name}]",
        )
    words = values.cast(pl.String)
    return words.set(words.str.strip_chars().fill_null("") == "", None)


def _flags(values: pl.Series, where: str) -> pl.Series:
    if values.dtype.is_(pl.Boolean):
        return values
    if values.dtype.is_numeric():
        text = values.cast(pl.Float64).replace_strict([0.0, 1.0], ["0", "1"], default="?", return_dtype=pl.String)
        text = text.set(values.is_null(), None)
    else:
        text = values.cast(pl.String).str.strip_chars().str.to_lowercase()
    found = text.replace_strict([*YES, *NO], [True] * len(YES) + [False] * len(NO), default=None, return_dtype=pl.Boolean)
    _check(values, found, "yes or no", where)
    return found


def _check(values: pl.Series, found: pl.Series, wanted: str, where: str) -> None:
    wrong = values.is_not_null() & found.is_null()
    if wrong.any():
        row = int(wrong.arg_max() or 0)
        raise DataError(
            f"the cell {values[row]!r} in row {row:,} of the column {values.name!r} is not {wanted}",
            where=where,
            todo=f"declare it as another kind: columns: {{{values.name}: cat}}",
        )


def scaled(cells: pl.DataFrame, kinds: dict[str, Kind], scaling: Scaling, where: str) -> tuple[Column, ...]:
    """The columns, their scales fitted to these rows, which must be rows to learn from; a constant number is only shifted.

    Raises:
        DataError: a column holds no number in these rows.
    """
    found = []
    for values in cells:
        kind, shift, scale = kinds[values.name], 0.0, 1.0
        if kind == "num":
            if values.null_count() == len(values):
                raise DataError(
                    f"the column {values.name!r} holds nothing in the rows to learn from",
                    where=where,
                    todo=f"leave it out: drop: [{values.name}]",
                )
            lowest, mean = float(values.min()), float(values.mean())  # type: ignore[arg-type]
            spread = float(values.std(ddof=0) or 0.0) if scaling == "standard" else float(values.max()) - lowest  # type: ignore[arg-type]
            if scaling != "none":
                shift = mean if scaling == "standard" else lowest
                scale = spread if spread > 0 and math.isfinite(spread) else 1.0
        found.append(Column(values.name, kind, shift, scale))
    return tuple(found)


def marks(cells: pl.DataFrame) -> np.ndarray[Any, Any]:
    """A hash of the cells of each row, (rows,) of bytes."""
    texts = [repr(row).encode() for row in cells.iter_rows()]
    return np.array([hashlib.sha256(text).digest()[:16] for text in texts], dtype="S16")


def write(
    cells: pl.DataFrame, labels: pl.Series, kinds: dict[str, Kind], name: str, names: Sequence[str], out: pl.Series | None, scaling: Scaling
) -> ExampleSplit:  # fmt: skip
    """Both sides as the step's parts; `out` says which rows are held out, if any.

    Raises:
        DataError: there are too few rows for two sides.
    """
    here = context()
    sides = [cells] if out is None else [cells.filter(~out), cells.filter(out)]
    if not all(side.height for side in sides):
        different = len(np.unique(marks(cells)))
        raise DataError(
            f"{cells.height:,} rows ({different:,} different ones with {labels.n_unique():,} labels) are too few to hold some out of each label",
            where=name,
            todo="change held_out, read more, or name another target",
        )
    table = Table(name, scaled(sides[0], kinds, scaling, name), tuple(names))
    which = [labels] if out is None else [labels.filter(~out), labels.filter(out)]
    if which[0].n_unique() < 2:
        raise DataError("there is nothing to tell apart: all rows to learn from have the same label", where=name)
    here.charge(documents=cells.height)
    here.facts["columns"] = {kind: sum(k == kind for k in kinds.values()) for kind in ("num", "cat", "bin")}
    here.facts["missing"] = int(sum(cells.null_count().row(0)))
    return ExampleSplit(
        *(
            write_table(here.output(part), side, label, (table,))
            for part, side, label in zip(("train", "held_out"), sides, which, strict=False)
        )
    )


def divided(cells: pl.DataFrame, labels: pl.Series, share: float) -> pl.Series | None:
    """Which rows are held out; none where nothing shall be."""
    return example_splits.held_out(marks(cells), labels.to_numpy(), share) if share else None
