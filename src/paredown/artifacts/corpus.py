"""Documents in Parquet shards: `id`, `text` and any columns of metadata."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import orjson

from paredown.artifacts.examples import Examples
from paredown.core.artifact import Artifact, Bundle
from paredown.core.errors import DataError

if TYPE_CHECKING:
    import polars

INDEX = "corpus.json"
SHARD_BYTES = 48_000_000  # text bytes a shard aims at; between 32 and 64 MB


class Corpus(Artifact):
    """Documents in shards of 32 to 64 MB of text, each a zstd Parquet file `shard-NNNNN.parquet`.

    `corpus.json` lists the shards in order with their documents and text bytes, so that counting opens no shard.
    Columns: `id` (string, unique), `text` (string, valid UTF-8), then metadata of any type, the same in each shard.
    """

    kind = "Corpus"
    COLUMNS: ClassVar[tuple[str, str]] = ("id", "text")

    def shards(self) -> list[dict[str, Any]]:
        """`{"name", "documents", "bytes"}` of every shard, in order."""
        rows: list[dict[str, Any]] = self.read_json(INDEX)["shards"]
        return rows

    @property
    def documents(self) -> int:
        return sum(shard["documents"] for shard in self.shards())

    @property
    def text_bytes(self) -> int:
        """UTF-8 bytes of all texts."""
        return sum(shard["bytes"] for shard in self.shards())

    def frame(self, name: str, columns: Sequence[str] | None = None) -> polars.DataFrame:
        """One shard as a frame, after its checksum was compared."""
        import polars

        path = self.file(name)
        try:
            return polars.read_parquet(path, columns=list(columns) if columns else None)
        except (polars.exceptions.PolarsError, OSError) as error:
            raise DataError(f"Corpus: {name} cannot be read: {str(error).splitlines()[0]}", where=str(path)) from None

    def frames(self, columns: Sequence[str] | None = None) -> Iterator[polars.DataFrame]:
        """The shards one after another; memory holds one."""
        for shard in self.shards():
            yield self.frame(shard["name"], columns)

    def summary(self) -> str:
        return f"{self.documents:,} documents, {_megabytes(self.text_bytes)}"

    @classmethod
    def write(cls, path: Path, frames: Iterable[polars.DataFrame]) -> Corpus:
        """Write each frame as one shard into the empty folder `path`. Same frames, same bytes."""
        path.mkdir(parents=True, exist_ok=True)
        rows = [write_shard(path / f"shard-{number:05d}.parquet", frame) for number, frame in enumerate(frames)]
        return cls.index(path, rows)

    @classmethod
    def index(cls, path: Path, shards: list[dict[str, Any]]) -> Corpus:
        """Complete a folder whose shards were written already (by `write_shard`, perhaps in other processes)."""
        (path / INDEX).write_bytes(orjson.dumps({"shards": shards}, option=orjson.OPT_INDENT_2 | orjson.OPT_SORT_KEYS))
        return cls(path)

    @classmethod
    def from_texts(cls, path: Path, texts: Sequence[str]) -> Corpus:
        """A small corpus of one shard with ids `0`, `1`, ..."""
        import polars

        return cls.write(
            path,
            [
                polars.DataFrame(
                    {"id": [str(i) for i in range(len(texts))], "text": list(texts)}, schema={"id": polars.String, "text": polars.String}
                )
            ],
        )


@dataclass(frozen=True)
class Read(Bundle):
    """What was read, and what could not be, with the columns `reason` and `place` (kept only where it was asked for)."""

    documents: Corpus
    rejected: Corpus | None = None


@dataclass(frozen=True)
class Filtered(Bundle):
    """What a filter kept, and what it rejected with the column `reason` (kept only where the strategy was asked to)."""

    kept: Corpus
    rejected: Corpus | None = None


@dataclass(frozen=True)
class Deduplicated(Bundle):
    """What stayed, what was dropped with the reason, and every pair that was found (id_a, id_b, jaccard, cluster)."""

    kept: Corpus
    rejected: Corpus | None = None
    pairs: Examples | None = None


@dataclass(frozen=True)
class Split(Bundle):
    """Two corpora without a common or near-duplicate document."""

    train: Corpus
    held_out: Corpus


def write_shard(path: Path, frame: polars.DataFrame) -> dict[str, Any]:
    """Write one shard and return its row for the index. The bytes depend on the rows only, not on the chunks they lie in."""
    missing = [c for c in Corpus.COLUMNS if c not in frame.columns]
    if missing:
        raise DataError(f"a Corpus shard needs the columns id and text; missing: {', '.join(missing)}", where=str(path))
    frame.rechunk().write_parquet(path, compression="zstd", compression_level=3, statistics=False)
    size = frame["text"].str.len_bytes().sum()
    return {"name": path.name, "documents": frame.height, "bytes": int(size or 0)}


def _megabytes(count: float) -> str:
    return f"{count / 1e6:,.1f} MB" if count >= 1e5 else f"{count / 1e3:,.1f} kB"
