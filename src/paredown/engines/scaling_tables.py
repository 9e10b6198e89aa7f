"""Runs for a scaling law from a file: CSV, Parquet or JSON lines with the columns params, tokens and loss."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import polars as pl

from paredown.core.errors import DataError, UserError
from paredown.core.wording import did_you_mean
from paredown.engines.scaling_laws import Run

NEEDED = ("params", "tokens", "loss")
OPTIONAL = ("average_params", "final_params")  # empty where a run pruned nothing
SHOWN = 14  # mistakes that fit on a screen


def read_runs(path: Path) -> list[Run]:
    """One run a row; other columns are left alone.

    Raises:
        UserError: there is no such file, or its format is not known.
        DataError: a column is missing, or values are no numbers above zero; all of them are named, up to a screen.
    """
    frame = _read(path)
    frame.columns = [name.strip().lower() for name in frame.columns]
    missing = [name for name in NEEDED if name not in frame.columns]
    if missing:
        raise DataError(
            f"{path.name} has no column {' and no column '.join(missing)}; there are {', '.join(frame.columns) or 'none'}",
            where=str(path),
            todo=next((hint for name in missing if (hint := did_you_mean(name, frame.columns))), "")
            or f"its columns are {', '.join(NEEDED)} and where runs were pruned {' and '.join(OPTIONAL)}",
        )
    if frame.is_empty():
        raise DataError(f"{path.name} holds no runs", where=str(path))
    columns = [name for name in (*NEEDED, *OPTIONAL) if name in frame.columns]
    runs, mistakes = [], []
    for number, row in enumerate(frame.select(columns).iter_rows(named=True), 1):
        values: dict[str, float | None] = {}
        for name, given in row.items():
            values[name], wrong = _number(given)
            if wrong and not (name in OPTIONAL and wrong == "missing"):
                mistakes.append(f"row {number}, column {name}: {wrong}")
        runs.append(values)
    if mistakes:
        shown = [f"  {text}" for text in mistakes[:SHOWN]]
        shown += [f"  and {len(mistakes) - SHOWN} more"] if len(mistakes) > SHOWN else []
        many = (
            f"{len(mistakes)} values of {path.name} are no number above zero"
            if len(mistakes) > 1
            else f"a value of {path.name} is no number above zero"
        )
        raise DataError("\n".join([many, *shown]), where=str(path), todo="rows are counted from 1, below the header")
    return [Run(**values) for values in runs]  # type: ignore[arg-type]


def _number(given: Any) -> tuple[float | None, str]:
    """(the number, what is wrong with it)."""
    text = given.strip() if isinstance(given, str) else given
    if text is None or text == "":
        return None, "missing"
    try:
        value = math.nan if isinstance(text, bool) else float(text)
    except (TypeError, ValueError):
        return None, f"{str(given)[:40]!r} is no number"
    if isinstance(text, bool) or not math.isfinite(value):
        return None, f"{given} is no finite number"
    return (value, "") if value > 0 else (None, f"{given} is not above zero")


def _read(path: Path) -> pl.DataFrame:
    kind = path.suffix.lower()
    if kind not in READERS:
        raise UserError(f"{path.name}: runs are read from {', '.join(READERS)}", where=str(path))
    try:
        frame: pl.DataFrame = READERS[kind](path)
        return frame
    except FileNotFoundError:
        raise UserError(f"no such file: {path}") from None
    except OSError as error:
        raise UserError(f"{path.name} cannot be read: {error.strerror or error}", where=str(path)) from None
    except pl.exceptions.NoDataError:
        raise DataError(f"{path.name} is empty", where=str(path)) from None
    except pl.exceptions.PolarsError as error:
        raise DataError(f"{path.name} cannot be read as {kind[1:]}: {str(error).splitlines()[0][:200]}", where=str(path)) from None


# Text stays text, so that what is no number can be named with its row.
READERS: dict[str, Any] = {
    ".csv": lambda path: pl.read_csv(path, infer_schema=False),
    ".tsv": lambda path: pl.read_csv(path, infer_schema=False, separator="\t"),
    ".parquet": pl.read_parquet,
    ".jsonl": lambda path: pl.read_ndjson(path, infer_schema_length=None),
}
