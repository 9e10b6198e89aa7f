"""Which of several near duplicates stay: a greedy walk over verified pairs, and the corpus without the others."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import polars as pl

from paredown.artifacts.corpus import Corpus, write_shard
from paredown.core.context import context
from paredown.engines import kernels_clusters
from paredown.engines.documents import Task, collect, frame_of, run_shards, shard_tasks
from paredown.engines.near_duplicates import Numbers, Pairs, groups

RULE = "near_duplicate"


@dataclass(frozen=True)
class Choice:
    """Which documents a greedy walk keeps; documents in no pair are kept and not listed."""

    documents: Numbers  # every document of any pair, ascending
    duplicate_of: Numbers  # the kept document that it is most like; -1 where it is kept itself
    similarity: npt.NDArray[np.float64]  # Jaccard with it; 0 where kept


def choose(pairs: Pairs, sizes: Numbers | None = None) -> Choice:
    """Walk the documents in order and drop one only if it is like a kept one, so that no chain drags unlike ones along.

    Documents with equal shingle sets (Jaccard 1) are one for this, led by the first of them in order: what is like one
    copy is like all.

    Args:
        sizes: sizes of the documents in any pair, ascending by number; given, the walk goes from the largest down (of equal
            ones the first), else in corpus order.
    """
    documents = np.unique(np.concatenate([pairs.left, pairs.right]))
    n = documents.size
    left, right = np.searchsorted(documents, pairs.left), np.searchsorted(documents, pairs.right)
    order = np.arange(n) if sizes is None else np.argsort(-sizes, kind="stable")
    rank = np.empty(n, np.int64)
    rank[order] = np.arange(n)
    # in the numbering by rank the least member of a class of equal sets is its leader
    equal = pairs.jaccard == 1.0
    leader = kernels_clusters.components(n, rank[left[equal]], rank[right[equal]])
    a, b, similarity = leader[rank[left[~equal]]], leader[rank[right[~equal]]], pairs.jaccard[~equal]
    edges = np.argsort(np.concatenate([a, b]), kind="stable")
    starts = np.searchsorted(np.concatenate([a, b])[edges], np.arange(n + 1))
    duplicate_of, found = np.full(n, -1, np.int64), np.zeros(n)
    neighbours, weights = np.concatenate([b, a])[edges], np.concatenate([similarity, similarity])[edges]
    kernels_clusters.keep_greedily(np.arange(n), starts, neighbours, weights, duplicate_of, found)
    follows = leader != np.arange(n)  # a copy of its leader goes where the leader goes
    duplicate_of[follows] = np.where(duplicate_of[leader[follows]] < 0, leader[follows], duplicate_of[leader[follows]])
    found[follows] = np.where(found[leader[follows]] > 0, found[leader[follows]], 1.0)
    by_document = np.where(duplicate_of < 0, -1, documents[order[duplicate_of]]) if n else duplicate_of
    return Choice(documents, by_document[rank], found[rank])


@dataclass(frozen=True)
class Clusters:
    """What `drop_near_duplicates` did, as tables for people; ids, not numbers."""

    kept: Corpus
    rejected: Corpus | None
    pairs: pl.DataFrame  # id_a, id_b (the later one), jaccard, cluster: every verified pair
    largest: list[dict[str, Any]]  # {"kept": id, "dropped": documents that are like it and gone}, the ten largest


def drop_near_duplicates(corpus: Corpus, pairs: Pairs, keep: Literal["first", "longest"], keep_rejected: bool) -> Clusters:
    """Write the documents that `choose` keeps, and where asked for the others.

    A rejected document has `duplicate_of` (id of the kept document that it is most like), `similarity` (their Jaccard) and
    `cluster` (id of the first document of its connected component, in which not all need be alike).
    """
    here = context()
    documents, component = groups(pairs)
    shards = shard_tasks(corpus)
    starts = np.cumsum([0, *(row["documents"] for row in corpus.shards())])
    limits = np.searchsorted(documents, starts)
    cuts = [slice(int(a), int(b)) for a, b in itertools.pairwise(limits)]
    tasks = [{**task, "rows": (documents[cut] - starts[n]).tolist()} for n, (task, cut) in enumerate(zip(shards, cuts, strict=True))]
    named = [pl.read_parquet(folder / "names.parquet") for folder, _ in run_shards("near-names", tasks, _names)]
    names = pl.concat([pl.DataFrame(schema={"id": pl.String, "bytes": pl.Int64}), *named])
    choice = choose(pairs, names["bytes"].to_numpy() if keep == "longest" else None)
    heads = np.searchsorted(documents, choice.duplicate_of)  # of no meaning where kept
    table = pl.DataFrame(
        {
            "row": documents - starts[np.searchsorted(starts, documents, side="right") - 1],
            "duplicate_of": names["id"].gather(np.where(choice.duplicate_of < 0, 0, heads)) if documents.size else [],
            "similarity": choice.similarity,
            "cluster": names["id"].gather(np.searchsorted(documents, component)),
            "dropped": choice.duplicate_of >= 0,
        },
        schema={"row": pl.Int64, "duplicate_of": pl.String, "similarity": pl.Float64, "cluster": pl.String, "dropped": pl.Boolean},
    )
    tasks = [
        {**task, "table": table[cut].filter(pl.col("dropped")).drop("dropped"), "keep": keep_rejected}
        for task, cut in zip(shards, cuts, strict=True)
    ]
    done = run_shards("near-drop", tasks, _drop)
    here.drop(RULE, sum(r["dropped"] for _, r in done), sum(r["dropped_bytes"] for _, r in done))
    here.charge(documents=corpus.documents)
    rejected = collect(done, "rejected.parquet", "rejected", here.output("rejected")) if keep_rejected else None
    heads_of, counts = np.unique(heads[choice.duplicate_of >= 0], return_counts=True)
    order = np.argsort(-counts, kind="stable")[:10]
    largest = [{"kept": names["id"][int(heads_of[k])], "dropped": int(counts[k])} for k in order]
    left, right = np.searchsorted(documents, pairs.left), np.searchsorted(documents, pairs.right)
    listed = pl.DataFrame(
        {
            "id_a": names["id"].gather(left),
            "id_b": names["id"].gather(right),
            "jaccard": pairs.jaccard,
            "cluster": table["cluster"].gather(left),
        }
    )
    return Clusters(collect(done, "kept.parquet", "kept", here.output("kept")), rejected, listed, largest)


def _names(task: Task, folder: Path) -> dict[str, Any]:
    """Ids and sizes of some rows of a shard."""
    if task["rows"]:
        frame = frame_of(task, ["id", "text"])[task["rows"]]
        found = frame.select("id", bytes=pl.col("text").str.len_bytes().fill_null(0).cast(pl.Int64))
    else:
        found = pl.DataFrame(schema={"id": pl.String, "bytes": pl.Int64})
    found.write_parquet(folder / "names.parquet")
    return {"documents": found.height}


def _drop(task: Task, folder: Path) -> dict[str, Any]:
    frame, table = frame_of(task), task["table"]
    stays = np.ones(frame.height, np.bool_)
    stays[table["row"]] = False
    gone = frame.filter(~stays)
    record = {
        "kept": write_shard(folder / "kept.parquet", frame.filter(stays)),
        "dropped": gone.height,
        "dropped_bytes": int(gone["text"].str.len_bytes().sum() or 0),
        "documents": frame.height,
    }
    if task["keep"]:
        marks = [pl.lit(RULE).alias("reason"), *table.select("duplicate_of", "similarity", "cluster")]
        record["rejected"] = write_shard(folder / "rejected.parquet", gone.with_columns(marks))
    return record
