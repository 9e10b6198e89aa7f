"""Files into corpus shards: cut into tasks of about one shard, read row by row, every bad row set aside with its reason.

A task is a list of pieces: byte ranges of JSON lines, row groups of Parquet, or whole files where a format cannot be entered
in the middle. orjson takes JSON lines at some 500 MB/s one by one, so that there is no second path for bad ones.
"""

from __future__ import annotations

import codecs
import glob
import hashlib
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import orjson
import polars as pl

from paredown.artifacts.corpus import SHARD_BYTES, Corpus, Read, write_shard
from paredown.core.context import context
from paredown.core.errors import MissingExtra, UserError
from paredown.core.wording import did_you_mean
from paredown.engines.documents import Task, place, run_shards
from paredown.engines.streams import open_lines, open_text

ENDINGS = {".jsonl": "jsonl", ".ndjson": "jsonl", ".json": "jsonl", ".csv": "csv", ".tsv": "csv", ".parquet": "parquet"}
TEXT = frozenset(
    [
        ".txt",
        ".text",
        ".md",
        ".rst",
        ".tex",
        ".py",
        ".js",
        ".ts",
        ".c",
        ".h",
        ".cc",
        ".cpp",
        ".hpp",
        ".java",
        ".go",
        ".rs",
        ".rb",
        ".sh",
        ".sql",
        ".html",
        ".htm",
        ".xml",
        ".yaml",
        ".yml",
        ".toml",
        ".ini",
        ".cfg",
    ]
)
PACKED = frozenset({".gz", ".zst"})
HUB = "hub:"
PIECE_BYTES = SHARD_BYTES  # JSON lines are cut at about so many bytes


@dataclass(frozen=True)
class Wanted:
    """The columns to read."""

    text: str
    id: str
    columns: tuple[str, ...]

    def names(self) -> list[str]:
        return list(dict.fromkeys([self.text, *([self.id] if self.id else []), *self.columns]))


def find(path: str) -> list[Path]:
    """The files that a path, folder or pattern means, sorted; hidden ones are left out.

    Raises:
        UserError: there are none.
    """
    root = Path(path).expanduser()
    if root.is_file():
        return [root]
    if root.is_dir():
        found = (p for p in root.rglob("*") if p.is_file() and not any(part.startswith(".") for part in p.relative_to(root).parts))
    else:
        found = (Path(name) for name in glob.glob(str(root), recursive=True) if Path(name).is_file())
    files = sorted(found)
    if not files:
        raise UserError(
            f"no file matches {path}", where="path", todo="give a file, a folder, a pattern such as data/*.jsonl, or hub:owner/name"
        )
    return files


def fingerprint(path: str) -> Any:
    """What a step's key says of its input files."""
    if path.startswith(HUB):
        return path
    digest = hashlib.sha256()
    for file in find(path):
        stat = file.stat()
        digest.update(f"{file}\0{stat.st_size}\0{stat.st_mtime_ns}\n".encode())
    return digest.hexdigest()


def total_bytes(path: str) -> int:
    return 0 if path.startswith(HUB) else sum(file.stat().st_size for file in find(path))


def read(path: str, format: str, split: str, wanted: Wanted, *, keep_rejected: bool) -> Read:
    """Read everything that `path` means; see `corpus.read.files`."""
    here = context()
    pieces = list(_pieces(path, format, split, wanted))
    tasks = [{"shard": group[0]["name"], "pieces": group, "wanted": asdict(wanted), "keep": keep_rejected} for group in _grouped(pieces)]
    done = run_shards("read", tasks, _read)
    rules: dict[str, list[int]] = {}
    columns: set[str] = set()
    for _, record in done:
        columns |= set(record["columns"])
        for rule, documents, size in record["rules"]:
            here.drop(rule, documents, size)
            rules.setdefault(rule, [0])[0] += documents
    documents = sum(record["documents"] for _, record in done)
    if not documents and set(rules) == {"no_text"}:
        raise UserError(
            f"no row has a column {wanted.text!r}; there are {', '.join(sorted(columns)) or 'none'}",
            where="text",
            todo=did_you_mean(wanted.text, sorted(columns)) or "name the column that holds the text",
        )
    here.charge(documents=documents + sum(n for (n,) in rules.values()))
    corpus = _corpus(done, "rows", here.output("documents"), _schema(wanted))
    rejected = _corpus(done, "rejected", here.output("rejected"), REJECTED) if keep_rejected else None
    return Read(corpus, rejected)


REJECTED = {"id": pl.String, "text": pl.String, "reason": pl.String, "place": pl.String}


def _schema(wanted: Wanted) -> dict[str, Any]:
    return {"id": pl.String, "text": pl.String} | dict.fromkeys(wanted.columns, pl.String)


def _corpus(done: list[tuple[Path, dict[str, Any]]], kind: str, folder: Path, schema: dict[str, Any]) -> Corpus:
    rows: list[dict[str, Any]] = []
    for source, record in done:
        for row in record[kind]:
            name = f"shard-{len(rows):05d}.parquet"
            place(source / row["name"], folder / name)
            rows.append({**row, "name": name})
    if not rows:
        rows = [write_shard(folder / "shard-00000.parquet", pl.DataFrame(schema=schema))]
    return Corpus.index(folder, rows)


# What to read


def _pieces(path: str, format: str, split: str, wanted: Wanted) -> Iterator[dict[str, Any]]:
    if path.startswith(HUB):
        yield {"name": path.removeprefix(HUB), "format": "hub", "split": split, "bytes": PIECE_BYTES}
        return
    root = Path(path).expanduser()
    if format in ("auto", "datasets") and root.is_dir() and ((root / "dataset_dict.json").exists() or (root / "state.json").exists()):
        yield from _dataset(root, split)
        return
    if format == "datasets":
        raise UserError(
            f"{path} is no folder that datasets.save_to_disk wrote: it has neither state.json nor dataset_dict.json", where="path"
        )
    files = find(path)
    base = root if root.is_dir() else None
    for file in files:
        name = file.relative_to(base).as_posix() if base else file.name
        kind = format if format != "auto" else _format(file, alone=len(files) == 1)
        size = file.stat().st_size
        piece: dict[str, Any] = {"name": name, "file": str(file.resolve()), "format": kind, "bytes": size}
        if kind == "jsonl" and file.suffix not in PACKED:
            for begin in range(0, max(1, size), PIECE_BYTES):
                yield {**piece, "begin": begin, "end": min(begin + PIECE_BYTES, size), "bytes": min(PIECE_BYTES, size - begin)}
        elif kind == "parquet":
            yield from _row_groups(piece, wanted)
        else:
            yield {**piece, "bytes": size * (4 if file.suffix in PACKED else 1)}


def _format(file: Path, *, alone: bool) -> str:
    suffix = Path(file.stem).suffix if file.suffix in PACKED else file.suffix
    known = ENDINGS.get(suffix.lower()) or ("text" if suffix.lower() in TEXT else "")
    if not known and alone:
        raise UserError(
            f"{file.name}: its ending says no format", where="path", todo="set format to one of jsonl, csv, parquet, text, datasets"
        )
    return known or "unknown"


def _row_groups(piece: dict[str, Any], wanted: Wanted) -> Iterator[dict[str, Any]]:
    import pyarrow
    import pyarrow.parquet

    try:
        meta = pyarrow.parquet.ParquetFile(piece["file"]).metadata
    except (pyarrow.ArrowException, OSError) as error:
        yield {**piece, "format": "unreadable", "why": str(error)}
        return
    _check_columns(wanted, meta.schema.to_arrow_schema().names, piece["name"])
    for group in range(meta.num_row_groups):
        begin = sum(meta.row_group(g).num_rows for g in range(group))
        yield {**piece, "group": group, "first": begin, "bytes": meta.row_group(group).total_byte_size}


def _dataset(root: Path, split: str) -> Iterator[dict[str, Any]]:
    """The Arrow files of a folder that `datasets.save_to_disk` wrote."""
    if (root / "dataset_dict.json").exists():
        splits = orjson.loads((root / "dataset_dict.json").read_bytes())["splits"]
        if split not in splits:
            raise UserError(
                f"the data set has no split {split!r}; there are {', '.join(splits)}", where="split", todo=did_you_mean(split, splits)
            )
        root /= split
    for row in orjson.loads((root / "state.json").read_bytes())["_data_files"]:
        file = root / row["filename"]
        yield {"name": file.name, "file": str(file.resolve()), "format": "arrow", "bytes": file.stat().st_size if file.exists() else 0}


def _check_columns(wanted: Wanted, names: list[str], where: str) -> None:
    for column in wanted.names():
        if column not in names:
            raise UserError(
                f"{where} has no column {column!r}; there are {', '.join(names)}", where="text" if column == wanted.text else "columns",
                todo=did_you_mean(column, names),
            )  # fmt: skip


def _grouped(pieces: list[dict[str, Any]]) -> Iterator[list[dict[str, Any]]]:
    """Neighbours that make about one shard together."""
    group: list[dict[str, Any]] = []
    size = 0
    for piece in pieces:
        if group and size + piece["bytes"] > SHARD_BYTES:
            yield group
            group, size = [], 0
        group.append(piece)
        size += piece["bytes"]
    if group:
        yield group


# One task


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
        self._size += len(text)
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
        schema = _schema(self.wanted)
        frame = pl.DataFrame(self._good, schema=schema, orient="row")
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


def _read(task: Task, folder: Path) -> dict[str, Any]:
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
    with open_text(piece["file"]) as (stream, state):
        reader = csv.reader(stream, delimiter=separator)
        names = next(reader, None)
        if names is None:
            return
        _check_columns(sink.wanted, names, piece["name"])
        number = 0
        while True:
            number += 1
            where = f"{piece['name']}:{number}"
            try:
                row = next(reader)
            except StopIteration:
                break
            except csv.Error as error:
                sink.reject("bad_row", where, str(error).encode())
                continue
            joined = separator.join(row)
            try:
                size = len(joined.encode())
            except UnicodeEncodeError:
                sink.reject("invalid_utf8", where, joined.encode("utf-8", "surrogateescape"))
                continue
            if not row:
                continue
            if len(row) != len(names):
                sink.reject("bad_row", where, joined.encode(), size)
            else:
                sink.row(dict(zip(names, row, strict=True)), where, size)
        if state.broken:
            sink.reject("broken_file", f"{piece['name']}:{number}", state.broken.encode(), 0)


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
            _check_columns(sink.wanted, reader.schema.names, piece["name"])
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
        raise MissingExtra("datasets", "reading from the hub", "hub") from None
    try:
        rows = datasets.load_dataset(piece["name"], split=piece["split"])
    except (OSError, ValueError) as error:
        raise UserError(f"the data set {piece['name']} cannot be had: {' '.join(str(error).split())[:200]}", where="path") from None
    _check_columns(sink.wanted, list(rows.column_names), piece["name"])
    for number, values in enumerate(rows.select_columns(sink.wanted.names())):
        sink.row(values, f"{piece['name']}:{number}", len(str(values.get(sink.wanted.text) or "")))


READERS = {
    "jsonl": _json_lines, "csv": _csv, "parquet": _parquet, "arrow": _arrow, "text": _text, "hub": _hub, "unknown": _unknown,
    "unreadable": _unreadable,
}  # fmt: skip
