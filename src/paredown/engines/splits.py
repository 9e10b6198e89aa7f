"""Divides a corpus by groups of near-duplicates."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from paredown.artifacts.corpus import Corpus, Split, write_shard
from paredown.core.context import context
from paredown.core.errors import DataError
from paredown.engines.documents import Task, collect, frame_of, run_shards, shard_tasks
from paredown.engines.near_duplicates import bands_for, near_duplicate_groups, recall

PERMUTATIONS = 224  # MinHash values: twice as many as for dropping, because a pair that is overlooked here is a leak
RECALL = 1 - 1e-6  # of pairs exactly at the threshold


def held_out_mask(groups: np.ndarray[Any, Any], share: float, generator: np.random.Generator) -> np.ndarray[Any, Any]:
    """Whole groups in random order until `share` of the documents is reached; at least one group stays on each side.

    `groups` (documents,) int: equal numbers belong together. The result (documents,) bool is True where held out.
    A group that would overshoot the share is passed over while others are left, so that a large one stays in training.
    """
    labels, inverse, sizes = np.unique(groups, return_inverse=True, return_counts=True)
    wanted = min(max(1, round(share * len(groups))), len(groups) - 1)
    chosen = np.zeros(len(labels), dtype=bool)
    taken = 0
    for label in generator.permutation(len(labels)):
        if taken + sizes[label] <= wanted:
            chosen[label] = True
            taken += int(sizes[label])
    if not chosen.any():  # every group is larger than the share: the smallest one it is
        chosen[int(np.argmin(sizes))] = True
    mask: np.ndarray[Any, Any] = chosen[inverse]
    return mask


def split_by_group(corpus: Corpus, share: float, threshold: float, generator: np.random.Generator) -> Split:
    """Train and held-out corpora with no near-duplicate pair across.

    Raises:
        DataError: all documents belong to one group.
    """
    here = context()
    if corpus.documents < 2:
        raise DataError(f"{corpus.documents} documents cannot be divided into two sides", todo="give a larger corpus")
    bands, rows = bands_for(threshold, PERMUTATIONS, RECALL)
    groups = near_duplicate_groups(corpus, threshold, bands=bands, rows=rows)
    if len(np.unique(groups)) < 2:
        raise DataError(
            "all documents are near-duplicates of each other, so that none can be held out", todo="dedup first, or raise threshold"
        )
    mask = held_out_mask(groups, share, generator)
    tasks, begin = [], 0
    for task, row in zip(shard_tasks(corpus), corpus.shards(), strict=True):
        tasks.append({**task, "mask": mask[begin : begin + row["documents"]]})
        begin += row["documents"]
    done = run_shards("split", tasks, _divide)
    here.facts["held_out_documents"] = int(mask.sum())
    here.facts["groups"] = len(np.unique(groups))
    here.facts["recall_at_threshold"] = round(recall(threshold, bands, rows), 9)
    here.charge(documents=corpus.documents)
    return Split(
        collect(done, "train.parquet", "train", here.output("train")),
        collect(done, "held_out.parquet", "held_out", here.output("held_out")),
    )


def _divide(task: Task, folder: Path) -> dict[str, Any]:
    frame = frame_of(task)
    mask = pl.Series(task["mask"])
    return {
        "train": write_shard(folder / "train.parquet", frame.filter(~mask)),
        "held_out": write_shard(folder / "held_out.parquet", frame.filter(mask)),
        "documents": frame.height,
    }
