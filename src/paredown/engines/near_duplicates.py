"""Pairs of documents whose word shingles overlap, found by MinHash bands and verified by their true Jaccard similarity.

Four passes over shard files, each resumable by shard, memory flat:

1. shard by shard: signatures, their bands as rows (key, digest of the signature, document), parted by key;
2. part by part: rows with equal keys make candidate pairs, sorted by their earlier document;
3. shard by shard: candidates without repetition, and the shingle sets of the documents that occur in any;
4. shard by shard: the true Jaccard similarity of every candidate.

Documents are numbered in corpus order. What is kept in memory at the end is 24 bytes for each verified pair. On disk the
sets of documents with candidates take about twice their text, in the step's scratch folder.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from paredown.artifacts.corpus import Corpus
from paredown.core.errors import DataError, UserError
from paredown.engines import kernels, kernels_clusters, kernels_minhash
from paredown.engines.documents import Task, frame_of, run_shards, shard_tasks

Numbers = npt.NDArray[np.int64]

PERMUTATIONS = 112
RECALL = 0.98  # of pairs exactly at the threshold
ROW = np.dtype([("key", "<u8"), ("digest", "<u8"), ("document", "<i8")])
PAIR = np.dtype([("left", "<i8"), ("right", "<i8"), ("jaccard", "<f8")])
PART_BYTES = 96_000_000  # rows of one part in pass 2
SLICE = 1 << 14  # documents whose signatures are in memory at a time
SET_BYTES = 64_000_000  # shingle sets in memory at a time in pass 4


def recall(similarity: float, bands: int, rows: int) -> float:
    """Probability that a pair of this Jaccard similarity shares a band and so is looked at."""
    return 1.0 - (1.0 - similarity**rows) ** bands


def bands_for(threshold: float, permutations: int = PERMUTATIONS, least: float = RECALL) -> tuple[int, int]:
    """(bands, rows): the longest rows that still find this share of the pairs exactly at the threshold.

    Longer rows make fewer false candidates; these cost time only, as each is verified.
    """
    for rows in range(permutations, 1, -1):
        if recall(threshold, permutations // rows, rows) >= least:
            return permutations // rows, rows
    return permutations, 1


@dataclass(frozen=True)
class Search:
    """What is a near duplicate, and how it is looked for."""

    threshold: float
    ngram: int = 5  # words a shingle
    bands: int = 0  # 0: as `bands_for` the threshold
    rows: int = 0
    seed: int = 1  # of the permutations

    def __post_init__(self) -> None:
        if not 0 < self.threshold <= 1:
            raise UserError(f"a Jaccard threshold is above 0 and at most 1, not {self.threshold}")
        if self.ngram < 1:
            raise UserError(f"a shingle has at least one word, not {self.ngram}")
        if (self.bands > 0) != (self.rows > 0):
            raise UserError("give both bands and rows, or neither")
        if not self.bands:
            bands, rows = bands_for(self.threshold)
            object.__setattr__(self, "bands", bands)
            object.__setattr__(self, "rows", rows)

    @property
    def recall(self) -> float:
        """Share of the pairs exactly at the threshold that is expected to be found; more similar ones are found more surely."""
        return recall(self.threshold, self.bands, self.rows)


@dataclass(frozen=True)
class Pairs:
    """Verified pairs of document numbers, left before right, ascending."""

    left: Numbers
    right: Numbers
    jaccard: npt.NDArray[np.float64]
    candidates: int  # pairs that were looked at


def band_rows(texts: pl.Series, first: int, search: Search) -> npt.NDArray[np.void]:
    """Rows (key, digest, document) of every band of every text with words; the texts are numbered from `first`."""
    permutations = kernels_minhash.permutations(search.bands * search.rows, search.seed)
    signatures = kernels.measure(texts, permutations=permutations, ngram=search.ngram, stop_words=()).signatures
    assert signatures is not None
    generator = np.random.default_rng((search.seed, 1))
    some = np.flatnonzero((signatures != kernels_minhash.EMPTY).any(axis=1))
    wide = signatures[some].astype(np.uint64)
    weights = generator.integers(0, 2**64, wide.shape[1], dtype=np.uint64) | np.uint64(1)
    products = (wide * weights).reshape(some.size, search.bands, search.rows)
    keys = _mixed(products.sum(axis=2, dtype=np.uint64) + np.arange(search.bands, dtype=np.uint64))
    out = np.empty(keys.size, dtype=ROW)
    out["key"] = keys.ravel()
    out["digest"] = np.repeat(_mixed(products.sum(axis=(1, 2), dtype=np.uint64)), search.bands)
    out["document"] = np.repeat(some + first, search.bands)
    return out


def _mixed(x: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
    x = (x ^ (x >> np.uint64(33))) * np.uint64(0xFF51AFD7ED558CCD)
    return x ^ (x >> np.uint64(33))


def pairs_of_rows(rows: npt.NDArray[np.void]) -> Numbers:
    """Candidate pairs (n, 2) without repetition, ascending, of rows that hold every document of their keys."""
    rows = rows[np.lexsort((rows["document"], rows["digest"], rows["key"]))]
    columns = [np.ascontiguousarray(rows[name]) for name in ("key", "document", "digest")]
    count = kernels_clusters.candidate_pairs(*columns, np.empty(0, np.int64), np.empty(0, np.int64))
    pairs = np.empty((2, count), np.int64)
    kernels_clusters.candidate_pairs(*columns, pairs[0], pairs[1])
    return _unique(pairs.T)


def _unique(pairs: Numbers) -> Numbers:
    pairs = pairs[np.lexsort((pairs[:, 1], pairs[:, 0]))]
    fresh = np.ones(len(pairs), np.bool_)
    fresh[1:] = (pairs[1:] != pairs[:-1]).any(axis=1)
    return np.ascontiguousarray(pairs[fresh])


def true_jaccard(folders: list[Path], pairs: Numbers, starts: Numbers) -> npt.NDArray[np.float64]:
    """Jaccard similarities of pairs (n, 2), from the shingle sets that pass 3 left in its folders."""
    out = np.empty(len(pairs))
    sets = _Sets(folders, starts)
    at = 0
    while at < len(pairs):
        # each pair brings at most two sets; halve the batch until its sets fit
        stop = min(len(pairs), at + SLICE)
        while True:
            documents = np.unique(pairs[at:stop])
            ends = np.concatenate([[0], np.cumsum(sets.sizes(documents))])
            if ends[-1] * 8 <= SET_BYTES or stop == at + 1:
                break
            stop = at + max(1, (stop - at) // 2)
        values = sets.read(documents, ends)
        left, right = np.searchsorted(documents, pairs[at:stop, 0]), np.searchsorted(documents, pairs[at:stop, 1])
        kernels_minhash.jaccard(values, ends[:-1], ends[1:], left, right, out[at:stop])
        at = stop
    return out


class _Sets:
    """Reads shingle sets by document number; files stay closed and unmapped between batches."""

    def __init__(self, folders: list[Path], starts: Numbers) -> None:
        self.folders = folders
        self.starts = starts
        self._tables: dict[int, tuple[Numbers, Numbers]] = {}

    def _table(self, shard: int) -> tuple[Numbers, Numbers]:
        if shard not in self._tables:
            if len(self._tables) >= 64:
                self._tables.clear()
            table = np.load(self.folders[shard] / "documents.npy")
            self._tables[shard] = table[0], table[1]
        return self._tables[shard]

    def _by_shard(self, documents: Numbers) -> list[tuple[int, Numbers, Numbers, Numbers]]:
        """(shard, places in `documents`, first number of each set, sizes), shard by shard."""
        shards = np.searchsorted(self.starts, documents, side="right") - 1
        found = []
        for shard in np.unique(shards).tolist():
            places = np.flatnonzero(shards == shard)
            known, ends = self._table(shard)
            rows = np.searchsorted(known, documents[places])
            begins = np.where(rows > 0, ends[rows - 1], 0)
            found.append((shard, places, begins, ends[rows] - begins))
        return found

    def sizes(self, documents: Numbers) -> Numbers:
        out = np.empty(documents.size, np.int64)
        for _, places, _, sizes in self._by_shard(documents):
            out[places] = sizes
        return out

    def read(self, documents: Numbers, ends: Numbers) -> npt.NDArray[np.uint64]:
        values = np.empty(int(ends[-1]), np.uint64)
        if not values.size:
            return values
        raw = values.view(np.uint8)
        for shard, places, begins, sizes in self._by_shard(documents):
            with open(self.folders[shard] / "sets.bin", "rb", buffering=0) as stream:
                for place, begin, size in zip(ends[places].tolist(), begins.tolist(), sizes.tolist(), strict=True):
                    if os.preadv(stream.fileno(), [raw[8 * place : 8 * (place + size)].data], 8 * begin) != 8 * size:
                        raise DataError(
                            "a file of shingle sets is shorter than it was written", where=stream.name, todo="run the step again"
                        )
        return values


def near_duplicate_pairs(
    corpus: Corpus, threshold: float, *, ngram: int = 5, bands: int = 0, rows: int = 0, seed: int = 1, stage: str = "near"
) -> Pairs:
    """All pairs of documents at or above the Jaccard `threshold` that share a band.

    Args:
        stage: name of the passes' folders in the step's scratch; another one for a second search in the same step.
        ngram, bands, rows, seed: as in `Search`.
    """
    search = Search(threshold, ngram, bands, rows, seed)
    shards = shard_tasks(corpus)
    starts = np.zeros(len(shards) + 1, np.int64)
    starts[1:] = np.cumsum([row["documents"] for row in corpus.shards()])
    parts = max(1, -(-int(starts[-1]) * search.bands * ROW.itemsize // PART_BYTES))
    numbered = [{**task, "first": int(starts[n]), "last": int(starts[n + 1]), "search": search} for n, task in enumerate(shards)]

    band_folders = _folders(run_shards(f"{stage}-bands", [{**task, "parts": parts} for task in numbered], _bands))
    tasks: list[Task] = [{"shard": f"part {part}", "part": part, "folders": band_folders} for part in range(parts)]
    candidate_folders = _folders(run_shards(f"{stage}-candidates", tasks, _candidates, unit="pairs"))
    set_folders = _folders(run_shards(f"{stage}-sets", [{**task, "folders": candidate_folders} for task in numbered], _sets, unit="pairs"))
    tasks = [
        {"shard": task["shard"], "bytes": task["bytes"], "number": n, "folders": set_folders, "starts": starts, "search": search}
        for n, task in enumerate(shards)
    ]
    verified = run_shards(f"{stage}-verified", tasks, _verified, unit="pairs")

    found = np.concatenate([np.empty(0, PAIR), *(np.load(folder / "verified.npy") for folder, _ in verified)])
    left, right, similarity = (np.ascontiguousarray(found[name]) for name in ("left", "right", "jaccard"))
    return Pairs(left, right, similarity, sum(record["pairs"] for _, record in verified))


def _folders(done: list[tuple[Path, dict[str, Any]]]) -> list[Path]:
    return [folder.resolve() for folder, _ in done]


def _bands(task: Task, folder: Path) -> dict[str, Any]:
    """Pass 1 on one shard: `rows.bin`, slice by slice sorted by part, and where the parts of each slice begin."""
    texts = frame_of(task, ["text"])["text"]
    parts = task["parts"]
    begins, total = [], 0
    with open(folder / "rows.bin", "wb") as stream:
        for at in range(0, texts.len(), SLICE):
            rows = band_rows(texts[at : at + SLICE], task["first"] + at, task["search"])
            part = (rows["key"] >> np.uint64(40)) % np.uint64(parts)
            order = np.argsort(part, kind="stable")
            stream.write(rows[order].data)
            begins.append(total + np.searchsorted(part[order], np.arange(parts + 1, dtype=np.uint64)))
            total += rows.size
    np.save(folder / "begins.npy", np.array(begins, np.int64).reshape(-1, parts + 1))
    return {"documents": texts.len()}


def _candidates(task: Task, folder: Path) -> dict[str, Any]:
    """Pass 2 on one part: its pairs, sorted by their earlier document, and the documents in them."""
    part = task["part"]
    slices = [np.empty(0, ROW)]
    for source in task["folders"]:
        for begin, end in np.load(source / "begins.npy", mmap_mode="r")[:, part : part + 2].tolist():
            slices.append(np.fromfile(source / "rows.bin", ROW, count=end - begin, offset=begin * ROW.itemsize))
    pairs = pairs_of_rows(np.concatenate(slices))
    np.save(folder / "pairs.npy", pairs)
    np.save(folder / "documents.npy", np.unique(pairs))
    return {"pairs": len(pairs)}


def _sets(task: Task, folder: Path) -> dict[str, Any]:
    """Pass 3 on one shard: its pairs without repetition, and the shingle sets of its documents in any pair."""
    limits = [task["first"], task["last"]]
    pairs, mentioned = [], []
    for source in task["folders"]:
        some = np.load(source / "pairs.npy", mmap_mode="r")
        pairs.append(np.array(some[slice(*np.searchsorted(some[:, 0], limits))]))
        names = np.load(source / "documents.npy", mmap_mode="r")
        mentioned.append(np.array(names[slice(*np.searchsorted(names, limits))]))
    unique = _unique(np.concatenate(pairs))
    documents = np.unique(np.concatenate(mentioned))
    sets, ends = np.empty(0, np.uint64), np.zeros(1, np.int64)
    if documents.size:
        sets, ends = kernels.shingle_sets(frame_of(task, ["text"])["text"].gather(documents - task["first"]), task["search"].ngram)
    sets.tofile(folder / "sets.bin")
    np.save(folder / "documents.npy", np.stack([documents, ends[1:]]))
    np.save(folder / "pairs.npy", unique)
    return {"pairs": len(unique)}


def _verified(task: Task, folder: Path) -> dict[str, Any]:
    """Pass 4 on one shard: its pairs at or above the threshold."""
    pairs = np.load(task["folders"][task["number"]] / "pairs.npy")
    similarity = true_jaccard(task["folders"], pairs, task["starts"])
    good = similarity >= task["search"].threshold
    found = np.empty(int(good.sum()), PAIR)
    found["left"], found["right"], found["jaccard"] = pairs[good, 0], pairs[good, 1], similarity[good]
    np.save(folder / "verified.npy", found)
    return {"pairs": len(pairs)}


def near_duplicate_groups(
    corpus: Corpus, threshold: float, *, ngram: int = 5, bands: int = 0, rows: int = 0, seed: int = 1, stage: str = "near"
) -> Numbers:
    """For every document in corpus order the number of the first document of its group.

    Groups are the connected components of verified pairs: no two documents of different groups are a found near-duplicate
    pair. A chain of look-alikes is one group here, which is what a split needs; `choose` is for dropping.
    """
    pairs = near_duplicate_pairs(corpus, threshold, ngram=ngram, bands=bands, rows=rows, seed=seed, stage=stage)
    labels = np.arange(corpus.documents)
    documents, first = groups(pairs)
    labels[documents] = first
    return labels


def groups(pairs: Pairs) -> tuple[Numbers, Numbers]:
    """(documents in any pair, ascending; the first document of each one's connected component)."""
    documents = np.unique(np.concatenate([pairs.left, pairs.right]))
    roots = kernels_clusters.components(documents.size, np.searchsorted(documents, pairs.left), np.searchsorted(documents, pairs.right))
    return documents, documents[roots]
