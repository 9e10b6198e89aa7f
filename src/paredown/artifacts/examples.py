"""Supervised rows of any modality."""

from __future__ import annotations

import json
import math
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from paredown.artifacts.tokens import Tokenizer
from paredown.core.artifact import Artifact
from paredown.core.errors import DataError

if TYPE_CHECKING:
    import numpy
    import polars

FILE = "examples.parquet"
ARRAYS = "paredown.arrays"  # entry of the file's metadata: JSON, column -> shape of a row and number format as numpy writes it
LONGEST = 16  # items of a list that is shown whole


class Examples(Artifact):
    """Rows in `examples.parquet`; columns by agreement between producer and consumer.

    Agreed are `label` (whole numbers from 0), `image` (channels, height, width; unsigned bytes) and `features` (numbers of a
    fixed count). Arrays are columns of polars' type Array, so that every row has the same shape. In the file they are
    binary, a row's numbers in order, little-endian, with shape and format in its metadata: nested lists of Parquet take ten
    times as long to read and to write, as each number has levels of its own. Arrays with something missing in them are
    written as nested lists all the same. Rows of tables are described in `artifacts/tables.py`.
    """

    kind = "Examples"
    TABLE: ClassVar[str] = "table.json"

    def frame(self) -> polars.DataFrame:
        import polars

        frame = polars.read_parquet(self.file(FILE))
        return frame.with_columns(polars.Series(name, self._unpacked(frame[name], *packed)) for name, packed in self._packed().items())

    @property
    def is_table(self) -> bool:
        """Whether the rows are those of tables."""
        return (self.path / self.TABLE).exists()

    @property
    def vocab_size(self) -> int:
        """Words and pieces of words that cells are read with; 0 where there are none."""
        return int(self.read_json(self.TABLE).get("vocab_size", 0)) if self.is_table else 0

    @property
    def tokenizer(self) -> Tokenizer | None:
        """What cells are read with, where the rows are of tables whose words are known."""
        return Tokenizer(self.path) if self.vocab_size else None

    @property
    def rows(self) -> int:
        """Counted in the file's footer."""
        import polars

        return int(polars.scan_parquet(self.file(FILE)).select(polars.len()).collect().item())

    def arrays(self) -> dict[str, numpy.ndarray[Any, Any]]:
        """Columns of numbers and of arrays, each (rows, ...) and read-only; other columns are left out.

        Raises:
            DataError: a value is missing, NaN or infinite; the message names column and row.
        """
        import numpy
        import polars

        packed = self._packed()
        schema = polars.read_parquet_schema(self.file(FILE))
        wanted = [name for name, kind in schema.items() if name in packed or _innermost(kind).is_numeric()]
        found: dict[str, numpy.ndarray[Any, Any]] = {}
        for name in wanted:
            column = polars.read_parquet(self.file(FILE), columns=[name])[name]
            if column.null_count():
                row = int(column.is_null().arg_max() or 0)
                raise DataError(f"Examples: {name} is missing in row {row:,}", where=str(self.path))
            values = self._unpacked(column, *packed[name]) if name in packed else column.to_numpy()
            if numpy.issubdtype(values.dtype, numpy.floating) and not numpy.isfinite(values).all():
                row = int(numpy.argmin(numpy.isfinite(values).reshape(len(values), -1).all(axis=1)))
                raise DataError(f"Examples: {name} of row {row:,} is no finite number", where=str(self.path))
            found[name] = values
        return found

    def samples(self, count: int) -> list[dict[str, Any]]:
        """The first rows as JSON; arrays and what else is long in words, such as `image 1x8x8 of bytes`."""
        import polars

        rows = polars.scan_parquet(self.file(FILE)).head(count).collect()
        said = {name: _words(name, shape, kind.name) for name, (shape, kind) in self._packed().items()}
        for name, kind in rows.schema.items():
            if isinstance(kind, polars.Array):
                said[name] = _words(name, kind.shape, str(_innermost(kind)).lower())
        return [{name: said.get(name) or _short(name, value) for name, value in row.items()} for row in rows.to_dicts()]

    def summary(self) -> str:
        return f"{self.rows:,} examples"

    @classmethod
    def write(cls, path: Path, frame: polars.DataFrame, like: Examples | None = None) -> Examples:
        """Write rows; `like` are examples whose rows these are, so that what describes those (tables, words) describes these."""
        path.mkdir(parents=True, exist_ok=True)
        for name in (cls.TABLE, "tokenizer.json"):
            if like is not None and (like.path / name).exists():
                shutil.copyfile(like.file(name), path / name)
        packed = {column.name: column.to_numpy() for column in frame if _packable(column)}
        little = {name: values.astype(values.dtype.newbyteorder("<"), copy=False) for name, values in packed.items()}
        kinds = {name: {"shape": values.shape[1:], "dtype": values.dtype.str} for name, values in little.items()}
        frame = frame.with_columns(_binary(name, values) for name, values in little.items())
        frame.rechunk().write_parquet(path / FILE, compression="zstd", metadata={ARRAYS: json.dumps(kinds)} if kinds else None)
        return cls(path)

    def _packed(self) -> dict[str, tuple[tuple[int, ...], numpy.dtype[Any]]]:
        """Shape of a row and number format of each column of arrays that is binary in the file."""
        import numpy
        import polars

        noted = json.loads(polars.read_parquet_metadata(self.file(FILE)).get(ARRAYS, "{}"))
        return {name: (tuple(kind["shape"]), numpy.dtype(kind["dtype"])) for name, kind in noted.items()}

    def _unpacked(self, column: polars.Series, shape: tuple[int, ...], kind: numpy.dtype[Any]) -> numpy.ndarray[Any, Any]:
        """The numbers of a binary column, (rows, *shape).

        Raises:
            DataError: a row is not of that size, so another program wrote the file.
        """
        import numpy
        import polars

        size = kind.itemsize * math.prod(shape)
        if not len(column):
            return numpy.empty((0, *shape), dtype=kind.newbyteorder("="))
        chunk = column.rechunk().to_arrow(compat_level=polars.CompatLevel.oldest())
        _, offsets, data = chunk.buffers()
        bounds = numpy.frombuffer(offsets, dtype=numpy.int64)[chunk.offset : chunk.offset + len(chunk) + 1]
        if chunk.null_count or (numpy.diff(bounds) != size).any():
            raise DataError(f"Examples: {column.name} has rows of another size than {size:,} bytes", where=str(self.path))
        values = numpy.frombuffer(data, dtype=kind, count=math.prod((len(chunk), *shape)), offset=int(bounds[0]))
        return values.reshape(len(chunk), *shape).astype(kind.newbyteorder("="), copy=False)


def _innermost(kind: polars.DataType) -> polars.DataType:
    """What an array is of, to whatever depth; the type itself where it is no array."""
    import polars

    while isinstance(kind, polars.Array):
        kind = kind.inner  # type: ignore[assignment]
    return kind


def _packable(column: polars.Series) -> bool:
    """Whether it is a column of arrays of numbers that numpy has, with none missing."""
    import polars

    numbers = (polars.Int8, polars.Int16, polars.Int32, polars.Int64, polars.UInt8, polars.UInt16, polars.UInt32, polars.UInt64)
    if not isinstance(column.dtype, polars.Array) or _innermost(column.dtype) not in (*numbers, polars.Float32, polars.Float64):
        return False
    return math.prod(column.dtype.shape) > 0 and not column.null_count() and not column.reshape((-1,)).null_count()


def _words(name: str, shape: tuple[int, ...], kind: str) -> str:
    return f"{name} {'x'.join(map(str, shape))} of {'bytes' if kind == 'uint8' else kind}"


def _binary(name: str, values: numpy.ndarray[Any, Any]) -> polars.Series:
    """Each row's numbers as bytes."""
    import numpy
    import polars
    import pyarrow

    kind = pyarrow.binary(values.dtype.itemsize * math.prod(values.shape[1:]))
    rows = pyarrow.FixedSizeBinaryArray.from_buffers(kind, len(values), [None, pyarrow.py_buffer(numpy.ascontiguousarray(values))])
    return polars.Series(name, rows)


def _short(name: str, value: Any) -> Any:
    """A value as JSON; long lists and bytes in words."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, bytes):
        return f"{name} of {len(value):,} bytes"
    if isinstance(value, list):
        return [_short(name, item) for item in value] if len(value) <= LONGEST else f"{name} of {len(value):,} items"
    if isinstance(value, dict):
        return {key: _short(key, item) for key, item in value.items()}
    return value if value is None or isinstance(value, (str, int)) else str(value)
