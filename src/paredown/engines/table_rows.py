"""Rows of tables as a network reads them: cells as numbers and words, whatever the columns are.

Legend: B = rows, N = number columns, M = other columns, K = words of a name, L = words of the other cells of a row.

`number_names` (B, N, K) ids of the names of number columns; `numbers` (B, N) the scaled numbers, 0 where none is given, and `given`
(B, N) what each is: ABSENT (the row's table has no such column), MISSING or GIVEN. `ids` (B, L) the words of the other cells: of a
category its column's name and its value, of a flag that is set its column's name, of anything missing nothing. `cells` (B, L) is the
column of a value's word among `cell_names` (B, M, K), and -1 at words of names. All ids are padded with 0.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl

from paredown.artifacts.examples import Examples
from paredown.artifacts.model import Model
from paredown.artifacts.tables import Column, cells_of, tables_of, tokenizer_text
from paredown.core.errors import DataError, UserError
from paredown.engines.words import PAD, Words, padded

ABSENT, MISSING, GIVEN = 0, 1, 2
READS = ("number_names", "numbers", "given", "ids", "cells", "cell_names")
Array = np.ndarray[Any, Any]
Bag = dict[str, Array]
FILLERS = {"cells": -1}  # what pads an entry that is not padded with 0


@dataclass(frozen=True)
class _Cells:
    """One column of the rows of one table."""

    column: Column
    name: list[int]  # ids of its name
    values: Array  # numbers (rows,) of float32; of other columns the code of each cell, -1 where there are no words
    given: Array  # (rows,) of bool
    words: Array  # ids of each code: the name and the value, (codes, longest)


class TableRows:
    """Rows of an `Examples` artifact of tables whose words are known.

    Raises:
        DataError: there is no row, or a number is not finite.
        UserError: the words are not known.
    """

    def __init__(self, examples: Examples) -> None:
        self.tables = tables_of(examples)
        tokenizer = examples.tokenizer
        if tokenizer is None:
            raise UserError("the words of the tables are not known", where=str(examples.path), todo="put corpus.tokenize.words before")
        words = Words(tokenizer.file("tokenizer.json").read_text())
        self.columns = examples.arrays()
        self.rows = examples.rows
        if not self.rows:
            raise DataError("there is no row in the tables", where=str(examples.path))
        self._table = self.columns["table"]
        self._place = np.zeros(self.rows, dtype=np.int64)  # of each row among those of its table
        cells = cells_of(examples)
        self._cells: list[list[_Cells]] = []
        for number, table in enumerate(self.tables):
            at = np.flatnonzero(self._table == number)
            self._place[at] = np.arange(len(at))
            own = cells[at]
            self._cells.append([_cells(column, own[column.name], words, str(examples.path)) for column in table.columns])

    def column(self, name: str) -> Array:
        values = self.columns.get(name)
        if values is None or values.ndim != 1:
            raise UserError(f"the rows of the tables have no number named {name}", todo=f"there is {', '.join(self.columns)}")
        return values

    def fill(self, chosen: Array, generator: np.random.Generator | None = None) -> dict[str, Any]:
        return {name: values[chosen] for name, values in self.columns.items()} | self.bags(chosen)

    def bags(self, chosen: Array, columns: Callable[[int], Sequence[int]] | None = None) -> Bag:
        """The cells of these rows; with `columns` only those that it names of the table of a number."""
        numbers = self._table[chosen]
        parts, places = [], []
        for number in np.unique(numbers):
            at = np.flatnonzero(numbers == number)
            own = self._cells[number]
            some = own if columns is None else [own[place] for place in columns(int(number))]
            parts.append(_bag(some, self._place[chosen[at]]))
            places.append(at)
        if len(parts) == 1:
            return parts[0]
        joined = together(parts)
        order = np.empty(len(chosen), dtype=np.int64)
        order[np.concatenate(places)] = np.arange(len(chosen))
        return {name: values[order] for name, values in joined.items()}


def together(bags: Sequence[Bag], axis: int | None = None) -> Bag:
    """Bags one after another, or on a new axis; what is narrower is padded."""
    found: Bag = {}
    for name in READS:
        arrays = [bag[name] for bag in bags]
        shape = tuple(np.max([array.shape[1:] for array in arrays], axis=0))
        wide = [_widened(array, shape, FILLERS.get(name, 0)) for array in arrays]
        found[name] = np.concatenate(wide) if axis is None else np.stack(wide, axis)
    return found


def _widened(array: Array, shape: tuple[int, ...], filler: int) -> Array:
    if array.shape[1:] == shape:
        return array
    return np.pad(array, [(0, 0), *((0, wanted - had) for wanted, had in zip(shape, array.shape[1:], strict=True))], constant_values=filler)


def _cells(column: Column, values: pl.Series, words: Words, where: str) -> _Cells:
    name = words.ids(column.name)
    given = values.is_not_null().to_numpy()
    if column.kind == "num":
        raw = values.fill_null(column.shift).to_numpy().astype(np.float64)
        if not np.isfinite(raw).all():
            raise DataError(f"{column.name} holds a number that is not finite", where=where)
        return _Cells(column, name, ((raw - column.shift) / column.scale).astype(np.float32), given, padded([]))
    if column.kind == "bin":
        return _Cells(column, name, np.where(values.fill_null(False).to_numpy(), 0, -1), given, padded([name]))
    known = values.drop_nulls().unique().sort().to_list()
    codes = values.replace_strict(known, range(len(known)), default=None, return_dtype=pl.Int64) if known else values.cast(pl.Int64)
    return _Cells(column, name, codes.fill_null(-1).to_numpy(), given, padded([[*name, *words.ids(value)] for value in known]))


def _bag(some: Sequence[_Cells], rows: Array) -> Bag:
    """The cells of these rows in these columns of one table."""
    numbers, others = [c for c in some if c.column.kind == "num"], [c for c in some if c.column.kind != "num"]
    count = len(rows)
    names, other_names = (padded([c.name for c in kind]) for kind in (numbers, others))
    blocks, owners = [], []
    for place, cells in enumerate(others):
        if not cells.words.size:
            continue
        codes = cells.values[rows]
        ids = np.where(codes[:, None] >= 0, cells.words[np.maximum(codes, 0)], PAD)
        is_value = (np.arange(ids.shape[1]) >= len(cells.name)) & (cells.column.kind == "cat")
        blocks.append(ids)
        owners.append(np.where((ids != PAD) & is_value, place, -1))
    ids, cells_at = _packed(blocks, owners, count)
    return {
        "number_names": np.broadcast_to(names, (count, *names.shape)).copy(),
        "numbers": np.stack([c.values[rows] for c in numbers], axis=1) if numbers else np.zeros((count, 0), np.float32),
        "given": np.stack([np.where(c.given[rows], GIVEN, MISSING) for c in numbers], axis=1).astype(np.int8)
        if numbers
        else np.zeros((count, 0), np.int8),
        "ids": ids,
        "cells": cells_at,
        "cell_names": np.broadcast_to(other_names, (count, *other_names.shape)).copy(),
    }


def _packed(blocks: list[Array], owners: list[Array], count: int) -> tuple[Array, Array]:
    """The words of each row moved to the left, in their order, and what follows all of them cut off."""
    if not blocks:
        return np.zeros((count, 0), np.int32), np.zeros((count, 0), np.int32)
    ids, owner = np.concatenate(blocks, axis=1), np.concatenate(owners, axis=1).astype(np.int32)
    longest = int((ids != PAD).sum(axis=1).max(initial=0))
    order = np.argsort(ids == PAD, axis=1, kind="stable")[:, :longest]
    return np.take_along_axis(ids, order, axis=1), np.take_along_axis(owner, order, axis=1)


def check_words(module: Any, model: Any, examples: Examples) -> None:
    """Refuse tables that were cut into other words than a module of tables knows; `model` is the folder that it came from, if any.

    Raises:
        UserError: a word is beyond the vocabulary, or the two tokenizers differ.
    """
    if not hasattr(module, "reads"):
        return
    known = int(module.get_input_embeddings().weight.shape[0])
    what = ""
    if examples.vocab_size > known:
        what = f"the tables are of another vocabulary: {examples.vocab_size:,} words, but the model knows {known:,}"
    elif isinstance(model, Model) and examples.vocab_size and tokenizer_text(model) and vocabulary(model) != vocabulary(examples):
        what = "the tables were cut into words by another tokenizer than the model's"
    if what:
        raise UserError(what, where=str(examples.path), todo="give corpus.tokenize.words the tokenizer that the model was trained with")


def vocabulary(holder: Model | Examples) -> Any:
    """Word to id, as it lies in the folder."""
    return holder.read_json("tokenizer.json")["model"]["vocab"]
