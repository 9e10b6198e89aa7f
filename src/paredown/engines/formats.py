"""Rows of files into shards: one reader for each format, every bad row set aside with its reason.

orjson takes JSON lines at some 500 MB/s one by one, so that there is no second path for bad ones.
"""

from __future__ import annotations

import codecs
import itertools
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson
import polars as pl

from paredown.artifacts.corpus import SHARD_BYTES, write_shard
from paredown.core.errors import MissingExtra, UserError
from paredown.core.wording import did_you_mean
from paredown.engines.documents import Task
from paredown.engines.streams import open_lines, open_text

REJECTED = {"id": pl.String, "text": pl.String, "reason": pl.String, "place": pl.String}


@dataclass(frozen=True)
class Wanted:
    """The columns to read."""

    text: str
    id: str
    columns: tuple[str, ...]

    def names(self) -> list[str]:
        return list(dict.fromkeys([self.text, *([self.id] if self.id else []), *self.columns]))


def schema(wanted: Wanted) -> dict[str, Any]:
    return {"id": pl.String, "text": pl.String} | dict.fromkeys(wanted.columns, pl.String)


def check_columns(wanted: Wanted, names: list[str], where: str) -> None:
    for column in wanted.names():
        if column not in names:
            raise UserError(
                f"{where} has no column {column!r}; there are {', '.join(names)}", where="text" if column == wanted.text else "columns",
                todo=did_you_mean(column, names),
            )  # fmt: skip


@dataclass
class Sink:
    """Collects rows and writes a shard whenever there is enough text for one."""

    folder: Path
    wanted: Wanted
    keep: bool
    rows: list[dict[str, Any]] = field(default_factory=list)
    rejected: list[dict[str, Any]] = field(default_factory=list)
    rules: dict[str, list[int]] = field(default_factory=dict)
    columns: set[str] = field(default_factory=set)
    documents: int = 0
    _good: list[tuple[str, ...]] = field(default_factory=list)
    _bad: list[tuple[str, ...]] = field(default_factory=list)
    _size: int = 0
    _bad_size: int = 0

    def row(self, values: dict[str, Any], where: str, size: int) -> None:
        """One parsed row; what is not a document goes aside with the reason."""
        text = values.get(self.wanted.text)
        if not isinstance(text, str) or not text:
            self.columns |= set(values)
            why = "no_text" if text is None else "empty_text" if text == "" else "text_not_string"
            self.reject(why, where, orjson.dumps(values, default=str, option=orjson.OPT_NON_STR_KEYS), size)
            return
        own = values.get(self.wanted.id) if self.wanted.id else None
        self._good.append((where if own is None else _as_text(own), text, *(_as_text(values.get(c)) for c in self.wanted.columns)))
        self.documents += 1
        self._size += len(text) if text.isascii() else len(text.encode())
        if self._size >= SHARD_BYTES:
            self._write_good()

    def reject(self, reason: str, where: str, raw: bytes, size: int | None = None) -> None:
        count = self.rules.setdefault(reason, [0, 0])
        count[0] += 1
        count[1] += len(raw) if size is None else size
        if self.keep:
            self._bad.append((where, raw.decode("utf-8", "backslashreplace"), reason, where))
            self._bad_size += len(raw)
            if self._bad_size >= SHARD_BYTES:
                self._write_bad()

    def _write_good(self) -> None:
        frame = pl.DataFrame(self._good, schema=schema(self.wanted), orient="row")
        self.rows.append(write_shard(self.folder / f"kept-{len(self.rows):05d}.parquet", frame))
        self._good, self._size = [], 0

    def _write_bad(self) -> None:
        frame = pl.DataFrame(self._bad, schema=REJECTED, orient="row")
        self.rejected.append(write_shard(self.folder / f"rejected-{len(self.rejected):05d}.parquet", frame))
        self._bad, self._bad_size = [], 0

    def finish(self) -> dict[str, Any]:
        if self._good:
            self._write_good()
        if self._bad:
            self._write_bad()
        rules = [[rule, *counts] for rule, counts in sorted(self.rules.items())]
        return {
            "rows": self.rows,
            "rejected": self.rejected,
            "rules": rules,
            "documents": self.documents,
            "columns": sorted(self.columns)[:50],
        }


def _as_text(value: Any) -> Any:
    if value is None or isinstance(value, str):
        return value
    return orjson.dumps(value, default=str, option=orjson.OPT_NON_STR_KEYS).decode()


def read_pieces(task: Task, folder: Path) -> dict[str, Any]:
    wanted = Wanted(task["wanted"]["text"], task["wanted"]["id"], tuple(task["wanted"]["columns"]))
    sink = Sink(folder, wanted, task["keep"])
    for piece in task["pieces"]:
        try:
            READERS[piece["format"]](piece, sink)
        except (PermissionError, FileNotFoundError, IsADirectoryError) as error:
            sink.reject("unreadable", piece["name"], str(error).encode(), 0)
    return sink.finish()


def _unknown(piece: dict[str, Any], sink: Sink) -> None:
    sink.reject("unknown_format", piece["name"], b"", piece["bytes"])


def _unreadable(piece: dict[str, Any], sink: Sink) -> None:
    sink.reject("broken_file", piece["name"], piece["why"].encode(), piece["bytes"])


def _json_lines(piece: dict[str, Any], sink: Sink) -> None:
    with open_lines(piece["file"]) as (stream, state):
        place_in = piece.get("begin", 0)
        if place_in:  # the line that this byte falls into belongs to the piece before
            stream.seek(place_in - 1)
            place_in += len(stream.readline()) - 1
        end = piece.get("end")
        while (end is None or place_in < end) and (line := stream.readline()):
            where = f"{piece['name']}:{place_in}"
            first, place_in = place_in == 0, place_in + len(line)
            if state.broken and not line.endswith(b"\n"):
                sink.reject("broken_file", where, line)
                return
            line = (line.removeprefix(codecs.BOM_UTF8) if first else line).strip(b" \t\r\n")
            if line:
                _json_line(line, where, sink)
        if state.broken:
            sink.reject("broken_file", f"{piece['name']}:{place_in}", state.broken.encode(), 0)


def _json_line(line: bytes, where: str, sink: Sink) -> None:
    try:
        values = orjson.loads(line)
    except orjson.JSONDecodeError:
        try:
            line.decode()
        except UnicodeDecodeError:
            sink.reject("invalid_utf8", where, line)
            return
        sink.reject("bad_json", where, line)
        return
    if isinstance(values, dict):
        sink.row(values, where, len(line))
    else:
        sink.reject("no_object", where, line)


def _csv(piece: dict[str, Any], sink: Sink) -> None:
    import csv
    import sys

    csv.field_size_limit(sys.maxsize)
    separator = "\t" if ".tsv" in Path(piece["file"]).suffixes else ","
    names: list[str] | None = None

    def take(row: list[str], where: str) -> None:
        nonlocal names
        if names is None:
            names = row
            check_columns(sink.wanted, names, piece["name"])
            return
        joined = separator.join(row)
        try:
            size = len(joined.encode())
        except UnicodeEncodeError:
            sink.reject("invalid_utf8", where, joined.encode("utf-8", "surrogateescape"))
            return
        if row and len(row) != len(names):
            sink.reject("bad_row", where, joined.encode(), size)
        elif row:
            sink.row(dict(zip(names, row, strict=True)), where, size)

    with open_text(piece["file"]) as (stream, state):
        reader = csv.reader(stream, delimiter=separator)
        held: tuple[list[str], str] | None = None  # only the next row shows that a row is whole
        for number in itertools.count():
            where = f"{piece['name']}:{number}"
            try:
                row = next(reader)
            except StopIteration:
                break
            except csv.Error as error:
                sink.reject("bad_row", where, str(error).encode())
                continue
            if held:
                take(*held)
            held = row, where
        if state.broken:
            row, where = held or ([state.broken], piece["name"])
            sink.reject("broken_file", where, separator.join(row).encode("utf-8", "surrogateescape"))
        elif held:
            take(*held)


def _parquet(piece: dict[str, Any], sink: Sink) -> None:
    import pyarrow
    import pyarrow.parquet

    number = piece["first"]
    try:
        for batch in pyarrow.parquet.ParquetFile(piece["file"]).iter_batches(
            1024, row_groups=[piece["group"]], columns=sink.wanted.names()
        ):
            number = _batch(batch, piece["name"], number, sink)
    except (pyarrow.ArrowException, OSError) as error:
        sink.reject("broken_file", f"{piece['name']}:{number}", str(error).encode(), 0)


def _arrow(piece: dict[str, Any], sink: Sink) -> None:
    import pyarrow

    number = 0
    try:
        with pyarrow.memory_map(piece["file"]) as source, pyarrow.ipc.open_stream(source) as reader:
            check_columns(sink.wanted, reader.schema.names, piece["name"])
            for batch in reader:
                number = _batch(batch.select(sink.wanted.names()), piece["name"], number, sink)
    except pyarrow.ArrowException as error:
        sink.reject("broken_file", f"{piece['name']}:{number}", str(error).encode(), 0)


def _batch(batch: Any, name: str, number: int, sink: Sink) -> int:
    """Rows of an Arrow batch; a text that is no UTF-8 costs that row only."""
    columns = {column: batch.column(column) for column in batch.schema.names}
    for row in range(batch.num_rows):
        where = f"{name}:{number + row}"
        try:
            values = {column: array[row].as_py() for column, array in columns.items()}
        except UnicodeDecodeError:
            raw = columns[sink.wanted.text][row].as_buffer()
            sink.reject("invalid_utf8", where, raw.to_pybytes() if raw else b"")
            continue
        text = values.get(sink.wanted.text)
        if isinstance(text, bytes):
            try:
                values[sink.wanted.text] = text.decode()
            except UnicodeDecodeError:
                sink.reject("invalid_utf8", where, text)
                continue
        sink.row(values, where, len(values.get(sink.wanted.text) or ""))
    return number + int(batch.num_rows)


def _text(piece: dict[str, Any], sink: Sink) -> None:
    with open_lines(piece["file"]) as (stream, state):
        raw = stream.read()
    if state.broken:
        sink.reject("broken_file", piece["name"], raw)
        return
    try:
        sink.row({sink.wanted.text: raw.decode("utf-8-sig")}, piece["name"], len(raw))
    except UnicodeDecodeError:
        sink.reject("invalid_utf8", piece["name"], raw)


def _hub(piece: dict[str, Any], sink: Sink) -> None:
    try:
        import datasets
    except ModuleNotFoundError:
        raise MissingExtra("hub", "reading from the hub", "datasets") from None
    try:
        rows = datasets.load_dataset(piece["name"], split=piece["split"])
    except (OSError, ValueError) as error:
        raise UserError(f"the data set {piece['name']} cannot be had: {' '.join(str(error).split())[:200]}", where="path") from None
    check_columns(sink.wanted, list(rows.column_names), piece["name"])
    for number, values in enumerate(rows.select_columns(sink.wanted.names())):
        sink.row(values, f"{piece['name']}:{number}", len(str(values.get(sink.wanted.text) or "")))


READERS = {
    "jsonl": _json_lines, "csv": _csv, "parquet": _parquet, "arrow": _arrow, "text": _text, "hub": _hub, "unknown": _unknown,
    "unreadable": _unreadable,
}  # fmt: skip
