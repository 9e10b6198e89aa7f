"""Labelled tables from CSV and Parquet files, or from scikit-learn."""

from __future__ import annotations

from typing import Any, ClassVar, Literal, Self

from pydantic import model_validator

from paredown.artifacts.example_split import ExampleSplit
from paredown.artifacts.tables import Kind
from paredown.core.strategy import Share, Strategy


class Tables(Strategy):
    """Read a labelled table from CSV or Parquet files, or one that comes with scikit-learn.

    Several files are one table and must have the same columns. Columns are numbers, words or flags: as declared, or by what they hold
    (0 and 1, true and false, yes and no are flags). Missing cells stay missing; rows without a label are set aside and counted
    (no_label). Numbers keep their values; how they are scaled is fitted on the rows to learn from and stored with each column.

    What is held out is fixed by a hash of the cells, the same share of each label, whatever the seed; identical rows never fall on
    both sides.

    Source: none (ours).
    Costs: one pass over the files; memory of the whole table.
    Control: none (it is an input).
    """

    tags: ClassVar[tuple[str, ...]] = ("when-before", "what-data", "speedup-none")
    systems: ClassVar[tuple[int, ...]] = (40,)

    path: str = ""  # a file, a folder, or a pattern such as tables/*.csv
    dataset: Literal["", "breast_cancer", "iris", "wine"] = ""  # or a table that comes with scikit-learn; its label is `target`
    target: str = "target"  # column of the label
    columns: dict[str, Kind] = {}  # what columns hold, where it shall not be inferred: num, cat or bin
    drop: tuple[str, ...] = ()  # columns to leave out
    scaling: Literal["minmax", "standard", "none"] = "minmax"  # of numbers: to 0 and 1, to mean 0 and deviation 1, or as they are
    held_out: Share = 0.2  # share of each label that is never trained on; 0 holds nothing out

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        if bool(self.path) == bool(self.dataset):
            raise ValueError("give exactly one of path and dataset")
        if self.target in (*self.columns, *self.drop):
            raise ValueError(f"{self.target} is the label (target): it stands in neither columns nor drop")
        return self

    def external(self) -> Any:
        """A fingerprint of names, sizes and times of the files."""
        from paredown.engines import reading

        return reading.fingerprint(self.path) if self.path else None

    def estimate(self, inputs: dict[str, Any]) -> dict[str, float]:
        from paredown.engines import reading

        size = reading.total_bytes(self.path) if self.path else 2e5
        return {"seconds": size / 2e7, "disk": float(size), "memory": 3e8 + 10.0 * size}

    def __call__(self) -> ExampleSplit:
        """A table as examples: `cells`, `label` and `table` (see `artifacts/tables.py`).

        Raises:
            UserError: nothing matches the path, or a column that is named does not exist.
            DataError: a cell is not what was declared, a column holds nothing, there is one label only, or there are too few rows.
        """
        from paredown.core.errors import UserError
        from paredown.core.wording import did_you_mean
        from paredown.engines import table_files

        where = self.path or self.dataset
        frame, named = (table_files.read(self.path), []) if self.path else table_files.data_set(self.dataset)
        for name in self.drop:
            if name not in frame.columns:
                raise UserError(f"there is no column {name!r}", where="drop", todo=did_you_mean(name, frame.columns))
        frame, labels, names = table_files.labelled(frame.drop(self.drop), self.target, where)
        cells, kinds = table_files.typed(frame, dict(self.columns), where)
        out = table_files.divided(cells, labels, self.held_out)
        name = self.dataset or self.path.rsplit("/", 1)[-1].split(".")[0]
        return table_files.write(cells, labels, kinds, name, named or names, out, self.scaling)
