"""Tables as examples: what the columns are and how their numbers are scaled, beside the rows, and the words that cells are read with.

A folder of `Examples` is a table where `table.json` lies in it. Then the column `cells` of its rows is a struct with a field
for each column of the table (missing cells are null), `table` says which of several tables a row is of, and `label` its class.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from paredown.artifacts.examples import Examples
from paredown.artifacts.tokens import Tokenizer
from paredown.core.artifact import Artifact, Bundle
from paredown.core.errors import DataError, UserError

if TYPE_CHECKING:
    import polars

Kind = Literal["num", "cat", "bin"]  # a number, one of several words, yes or no


@dataclass(frozen=True)
class Column:
    name: str
    kind: Kind
    shift: float = 0.0  # a number is read as (value - shift) / scale; both were fitted on rows to learn from
    scale: float = 1.0


@dataclass(frozen=True)
class Table:
    """One table: its columns in their order, and the names of its labels where they were words."""

    name: str
    columns: tuple[Column, ...]
    labels: tuple[str, ...] = ()


@dataclass(frozen=True)
class Worded(Bundle):
    """Tables whose cells can be read as words: to learn from, to measure on, and the words."""

    train: Examples
    held_out: Examples | None = None
    tokenizer: Tokenizer | None = None


def tables_of(examples: Examples) -> tuple[Table, ...]:
    """The tables that the rows are of.

    Raises:
        UserError: the examples are no table.
    """
    if not examples.is_table:
        raise UserError("the examples are no table", where=str(examples.path), todo="read one with corpus.read.tables")
    found = examples.read_json(Examples.TABLE)["tables"]
    return tuple(
        Table(table["name"], tuple(Column(**column) for column in table["columns"]), tuple(table.get("labels", ()))) for table in found
    )


def cells_of(examples: Examples) -> polars.DataFrame:
    """A frame with a column for each column of the tables; rows of tables that lack a column hold null."""
    tables_of(examples)
    return examples.frame()["cells"].struct.unnest()


def write_table(
    path: Path, cells: polars.DataFrame, labels: polars.Series, tables: tuple[Table, ...], *, of: polars.Series | None = None,
    tokenizer: str = "",
) -> Examples:  # fmt: skip
    """Write rows: `cells` with a column for each column of the tables, `labels` (whole numbers from 0), `of` the number of each
    row's table (all of the first where not given), and the text of `tokenizer.json` where the words are known.

    Raises:
        DataError: there is no column.
    """
    import polars as pl

    if not cells.width:
        raise DataError("a table needs at least one column beside its labels", where=str(path))
    number = of if of is not None else pl.Series([0] * cells.height)
    label, table = labels.cast(pl.Int64).alias("label"), number.cast(pl.Int64).alias("table")
    made = Examples.write(path, pl.DataFrame([cells.to_struct("cells"), label, table]))
    describe(path, tables, tokenizer)
    return made


def describe(path: Path, tables: tuple[Table, ...], tokenizer: str = "") -> None:
    """Write what the tables are beside their rows, and the text of `tokenizer.json` where the words are known."""
    described: dict[str, Any] = {"tables": [asdict(table) for table in tables]}
    if tokenizer:
        (path / "tokenizer.json").write_text(tokenizer)
        described["vocab_size"] = vocabulary_size(tokenizer)
    (path / Examples.TABLE).write_text(json.dumps(described, indent=1, sort_keys=True) + "\n")


def vocabulary_size(tokenizer: str) -> int:
    """One more than the highest id of a `tokenizer.json`."""
    loaded = json.loads(tokenizer)
    ids = [*loaded["model"]["vocab"].values(), *(token["id"] for token in loaded.get("added_tokens", ()))]
    return 1 + int(max(ids))


def tokenizer_text(holder: Artifact) -> str:
    """The text of the `tokenizer.json` in an artifact's folder; empty where there is none."""
    return holder.file("tokenizer.json").read_text() if (holder.path / "tokenizer.json").exists() else ""


def same_labels(tables: Sequence[Table], where: str) -> None:
    """Refuse tables whose labels mean different things.

    Raises:
        UserError: it names two of them.
    """
    for table in tables[1:]:
        if table.labels != tables[0].labels:
            said = [f"{t.name} has {', '.join(t.labels) or 'numbers'}" for t in (tables[0], table)]
            raise UserError(
                f"the tables have different labels: {said[0]}; {said[1]}", where=where, todo="learn from one of them, or without labels"
            )
