"""Supervised rows of any modality."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from paredown.core.artifact import Artifact
from paredown.core.errors import DataError

if TYPE_CHECKING:
    import numpy
    import polars


class Examples(Artifact):
    """Rows in `examples.parquet`; columns by agreement between producer and consumer.

    Agreed are `label` (whole numbers from 0), `image` (channels, height, width; unsigned bytes) and `features` (numbers of a
    fixed count). Arrays are columns of polars' type Array, so that every row has the same shape.
    """

    kind = "Examples"

    def frame(self) -> polars.DataFrame:
        import polars

        return polars.read_parquet(self.file("examples.parquet"))

    @property
    def rows(self) -> int:
        import polars

        return int(polars.scan_parquet(self.file("examples.parquet")).select(polars.len()).collect().item())

    def arrays(self) -> dict[str, numpy.ndarray[Any, Any]]:
        """Columns of numbers and of arrays, each (rows, ...); other columns are left out.

        Raises:
            DataError: a value is missing, NaN or infinite; the message names column and row.
        """
        import numpy
        import polars

        found: dict[str, numpy.ndarray[Any, Any]] = {}
        for column in self.frame():
            inner = column.dtype.inner if isinstance(column.dtype, polars.Array) else column.dtype
            while isinstance(inner, polars.Array):
                inner = inner.inner
            if not inner.is_numeric():
                continue
            if column.null_count():
                row = int(column.is_null().arg_max() or 0)
                raise DataError(f"Examples: {column.name} is missing in row {row:,}", where=str(self.path))
            values = column.to_numpy()
            if numpy.issubdtype(values.dtype, numpy.floating) and not numpy.isfinite(values).all():
                row = int(numpy.argmin(numpy.isfinite(values).reshape(len(values), -1).all(axis=1)))
                raise DataError(f"Examples: {column.name} of row {row:,} is no finite number", where=str(self.path))
            found[column.name] = values
        return found

    def summary(self) -> str:
        return f"{self.rows:,} examples"

    @classmethod
    def write(cls, path: Path, frame: polars.DataFrame) -> Examples:
        path.mkdir(parents=True, exist_ok=True)
        frame.rechunk().write_parquet(path / "examples.parquet", compression="zstd")
        return cls(path)
