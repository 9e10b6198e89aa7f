"""Documents with the same text, found by hashing in two passes; memory holds one partition of hashes or one shard."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from paredown.artifacts.corpus import Corpus, Filtered, write_shard
from paredown.core.context import context
from paredown.engines.documents import Task, collect, frame_of, partition_frame, run_shards, shard_tasks, shuffle

HASHES_BYTES = 64  # memory that one document's row takes in a partition, about
PARTITION_ROWS = 5_000_000


def normalized(text: str, how: str) -> str:
    return " ".join(text.split()) if how == "whitespace" else text


def hashes(frame: pl.DataFrame, how: str) -> pl.DataFrame:
    """`row`, `id`, and a 128-bit hash of each text as `key` and `low`."""
    digests = [hashlib.blake2b(normalized(text, how).encode("utf-8", "surrogatepass"), digest_size=16).digest() for text in frame["text"]]
    return frame.select("row", "id").with_columns(
        pl.Series("key", [int.from_bytes(d[:8], "little") for d in digests], dtype=pl.UInt64),
        pl.Series("low", [int.from_bytes(d[8:], "little") for d in digests], dtype=pl.UInt64),
    )


def gather(task: Task, folder: Path) -> dict[str, Any]:
    """Rows that share both halves of their hash with an earlier document, with that document's id."""
    rows = partition_frame(task)
    if rows.columns:  # none: a corpus without shards
        later = pl.int_range(pl.len()).over("key", "low") > 0
        repeats = rows.with_columns(duplicate_of=pl.col("id").first().over("key", "low"), later=later).filter("later")
        repeats.select("shard", "row", "duplicate_of").write_parquet(folder / "repeats.parquet")
    return {"documents": rows.height}


def drop_duplicates(corpus: Corpus, how: str, *, keep_rejected: bool) -> Filtered:
    """The first of each text in corpus order; the rest rejected with `reason` and `duplicate_of`.

    Hashes have 128 bits: two different texts among 2**40 share one with a probability below 1e-14.
    """
    here = context()
    partitions = max(1, -(-corpus.documents // PARTITION_ROWS))
    found = shuffle("exact", corpus, hashes, gather, how, count=partitions)
    files = [str((folder / "repeats.parquet").resolve()) for folder, _ in found]
    tasks = [{**task, "number": n, "repeats": files, "keep": keep_rejected} for n, task in enumerate(shard_tasks(corpus))]
    done = run_shards("exact-keep", tasks, _keep)
    for _, record in done:
        if record["dropped"][0]:
            here.drop("exact_duplicate", *record["dropped"])
    here.charge(documents=corpus.documents)
    kept = collect(done, "kept.parquet", "kept", here.output("kept"))
    rejected = collect(done, "rejected.parquet", "rejected", here.output("rejected")) if keep_rejected else None
    return Filtered(kept, rejected)


def _keep(task: Task, folder: Path) -> dict[str, Any]:
    frame = frame_of(task)
    repeats = pl.concat([pl.scan_parquet(f).filter(pl.col("shard") == task["number"]).collect() for f in task["repeats"]]).sort("row")
    stays = np.ones(frame.height, np.bool_)
    stays[repeats["row"]] = False
    gone = frame.filter(~stays)
    record: dict[str, Any] = {
        "kept": write_shard(folder / "kept.parquet", frame.filter(stays)),
        "dropped": [gone.height, int(gone["text"].str.len_bytes().sum() or 0)],
        "documents": frame.height,
    }
    if task["keep"]:
        marked = gone.with_columns(pl.lit("exact_duplicate").alias("reason"), repeats["duplicate_of"])
        record["rejected"] = write_shard(folder / "rejected.parquet", marked)
    return record
