"""Files into corpus shards: cut into tasks of about one shard, which `formats` reads.

A task is a list of pieces: byte ranges of JSON lines, row groups of Parquet, or whole files where a format cannot be entered
in the middle.
"""

from __future__ import annotations

import glob
import hashlib
import itertools
import os
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import orjson
import polars as pl

from paredown.artifacts.corpus import SHARD_BYTES, Corpus, Read, write_shard
from paredown.core.context import context
from paredown.core.errors import UserError
from paredown.core.wording import did_you_mean
from paredown.engines.documents import place, run_shards
from paredown.engines.formats import REJECTED, Wanted, check_columns, read_pieces, schema

ENDINGS = {".jsonl": "jsonl", ".ndjson": "jsonl", ".json": "jsonl", ".csv": "csv", ".tsv": "csv", ".parquet": "parquet"}
TEXT = frozenset({
    ".txt", ".text", ".md", ".rst", ".tex", ".py", ".js", ".ts", ".c", ".h", ".cc", ".cpp", ".hpp", ".java", ".go", ".rs", ".rb", ".sh",
    ".sql", ".html", ".htm", ".xml", ".yaml", ".yml", ".toml", ".ini", ".cfg",
})  # fmt: skip
PACKED = frozenset({".gz", ".zst"})
HUB = "hub:"
PIECE_BYTES = SHARD_BYTES  # JSON lines are cut at about so many bytes


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


def named(path: str) -> list[tuple[str, Path]]:
    """The files of `find`, each with its place below what all files of a path, folder or pattern have in common.

    Raises:
        UserError: there are none.
    """
    root = Path(path).expanduser()
    fixed = itertools.takewhile(lambda part: not glob.has_magic(part), root.parts)
    base = root.parent if root.is_file() else root if root.is_dir() else Path(*fixed)
    # a name may be no UTF-8
    return [(file.relative_to(base).as_posix().encode(errors="backslashreplace").decode(), file) for file in find(path)]


def fingerprint(path: str) -> Any:
    """What a step's key says of its input files."""
    if path.startswith(HUB):
        return path
    digest = hashlib.sha256()
    for file in find(path):
        stat = file.stat()
        digest.update(os.fsencode(file) + f"\0{stat.st_size}\0{stat.st_mtime_ns}\n".encode())
    return digest.hexdigest()


def total_bytes(path: str) -> int:
    return 0 if path.startswith(HUB) else sum(file.stat().st_size for file in find(path))


def read(path: str, format: str, split: str, wanted: Wanted, *, keep_rejected: bool) -> Read:
    """Read everything that `path` means; see `corpus.read.files`."""
    here = context()
    pieces = list(_pieces(path, format, split, wanted))
    tasks = [{"shard": group[0]["name"], "pieces": group, "wanted": asdict(wanted), "keep": keep_rejected} for group in _grouped(pieces)]
    done = run_shards("read", tasks, read_pieces)
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
    corpus = _corpus(done, "rows", here.output("documents"), schema(wanted))
    rejected = _corpus(done, "rejected", here.output("rejected"), REJECTED) if keep_rejected else None
    return Read(corpus, rejected)


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
    files = named(path)
    for name, file in files:
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
    check_columns(wanted, meta.schema.to_arrow_schema().names, piece["name"])
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
