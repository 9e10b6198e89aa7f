"""The per-byte work on documents: word counts, Gopher statistics, MinHash signatures and shingle sets of a column of texts.

The compiled functions stand in the files kernels_*.py beside this one; here texts are cut into batches of about a
megabyte, whose word hashes are made once and used by all that was asked for. Buffers grow to the largest document.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow as pa

from paredown.core.errors import UserError
from paredown.engines import kernels_grams, kernels_lines, kernels_minhash, kernels_text

STOP_WORDS = ("the", "be", "to", "of", "and", "that", "have", "with")  # arXiv 2112.11446, A1.1
BATCH_BYTES = 1 << 20


@dataclass(frozen=True)
class Words:
    """The words of a batch of documents."""

    hashes: npt.NDArray[np.uint64]  # of every word
    ends: npt.NDArray[np.int32]  # characters of the words before it; one more than words
    offsets: npt.NDArray[np.int64]  # first word of every document; one more than documents
    counts: npt.NDArray[np.int64]  # (documents, len(kernels_text.COUNTS))


def text_buffers(texts: pl.Series) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.int64]]:
    """UTF-8 bytes and offsets of a column of texts; null counts as empty."""
    array = texts.cast(pl.String).fill_null("").rechunk().to_arrow()
    if isinstance(array, pa.ChunkedArray):
        array = array.combine_chunks()
    array = array.cast(pa.large_string())
    _, offsets, values = array.buffers()
    ends = np.frombuffer(offsets, dtype=np.int64)[array.offset : array.offset + len(array) + 1] if len(array) else np.zeros(1, np.int64)
    return (np.frombuffer(values, dtype=np.uint8) if values is not None and values.size else np.zeros(1, np.uint8)), ends


def batches(offsets: npt.NDArray[np.int64], size: int = BATCH_BYTES) -> Iterator[tuple[int, int]]:
    """Ranges of documents of about `size` bytes; a larger document stands alone."""
    start, count = 0, offsets.size - 1
    while start < count:
        stop = max(start + 1, int(np.searchsorted(offsets, offsets[start] + size, side="right")) - 1)
        yield start, min(stop, count)
        start = min(stop, count)


class Splitter:
    """Splits batches into words; keeps its buffers between batches."""

    def __init__(self, stop_words: Sequence[str] = STOP_WORDS) -> None:
        self.classes, self.leads = kernels_text.character_classes()
        self._room = BATCH_BYTES // 3
        self._allocate()
        self._stop_keys = np.zeros(1, np.uint64)
        if stop_words:
            self._stop_keys = self._stop_table(sorted(set(stop_words)))

    def _allocate(self) -> None:
        self._hashes = np.empty(self._room, np.uint64)
        self._ends = np.empty(self._room + 1, np.int32)

    def _stop_table(self, stop_words: Sequence[str]) -> npt.NDArray[np.uint64]:
        values, offsets = text_buffers(pl.Series(stop_words, dtype=pl.String))
        words = self(values, offsets)
        several = [word for word, count in zip(stop_words, np.diff(words.offsets), strict=True) if count != 1]
        if several:
            raise UserError(f"a stop word must be one word: {', '.join(map(repr, several))}")
        keys, size = words.hashes.copy(), 64
        while np.unique(keys & np.uint64(size - 1)).size < keys.size:
            size *= 2
        table = np.zeros(size, np.uint64)
        table[keys & np.uint64(size - 1)] = keys
        return table

    def __call__(self, values: npt.NDArray[np.uint8], offsets: npt.NDArray[np.int64]) -> Words:
        documents = offsets.size - 1
        word_offsets = np.empty(documents + 1, np.int64)
        counts = np.empty((documents, len(kernels_text.COUNTS)), np.int64)
        while True:
            seen = np.zeros(self._stop_keys.size, np.int64)
            if kernels_text.scan_words(
                values, offsets, self.classes, self.leads, self._stop_keys, seen, self._hashes, self._ends, word_offsets, counts
            ):
                break
            self._room = max(2 * self._room, int(offsets[-1] - offsets[0]) // 4)
            self._allocate()
        total = int(word_offsets[-1])
        return Words(self._hashes[:total], self._ends[: total + 1], word_offsets, counts)


def named(
    counts: npt.NDArray[np.int64], segments: npt.NDArray[np.int64] | None = None, grams: npt.NDArray[np.int64] | None = None
) -> pl.DataFrame:
    """The kernels' tables as a frame with named columns."""
    columns = {name: counts[:, k] for k, name in enumerate(kernels_text.COUNTS)}
    if segments is not None:
        columns |= {name: segments[:, k] for k, name in enumerate(kernels_text.SEGMENTS)}
    if grams is not None:
        columns |= {f"{'top' if n <= 4 else 'repeated'}_{n}_grams": grams[:, n - 2] for n in kernels_grams.SIZES}
    return pl.DataFrame(columns)


@dataclass(frozen=True)
class Measured:
    """What `measure` found, one row a document; None where it was not asked for."""

    counts: npt.NDArray[np.int64]  # columns as in kernels_text.COUNTS
    segments: npt.NDArray[np.int64] | None  # columns as in kernels_text.SEGMENTS
    grams: npt.NDArray[np.int64] | None  # characters in repeated n-grams, n = 2 to 10
    signatures: npt.NDArray[np.uint32] | None  # (documents, permutations)

    def frame(self) -> pl.DataFrame:
        """Counts, segments and n-grams as a frame with named columns."""
        return named(self.counts, self.segments, self.grams)


class _Repetition:
    """Buffers of the repetition kernels."""

    def __init__(self) -> None:
        self._lines = 1 << 12
        self._words = 0

    def segments(
        self, splitter: Splitter, values: npt.NDArray[np.uint8], offsets: npt.NDArray[np.int64], out: npt.NDArray[np.int64]
    ) -> None:
        while True:
            keys, sizes = np.empty(self._lines, np.uint64), np.empty(self._lines, np.int32)
            table = np.empty(4 * self._lines, np.int32)
            if kernels_text.scan_segments(values, offsets, splitter.classes, keys, sizes, table, out):
                return
            self._lines *= 4

    def grams(self, words: Words, wanted: npt.NDArray[np.bool_], out: npt.NDArray[np.int64]) -> None:
        most = int((np.diff(words.offsets) * wanted).max(initial=0))
        if most > self._words:
            self._words = max(most, 1 << 14)
            self._grams = np.empty(self._words, np.uint64)
            self._columns = np.empty((4, self._words), np.uint32)
            self._table = np.empty(1 << max(3, (2 * self._words - 1).bit_length()), np.uint32)
        if most:
            kernels_grams.repeated_grams(words.hashes, words.ends, words.offsets, wanted, self._grams, *self._columns, self._table, out)
        else:
            out[:] = 0


def measure(
    texts: pl.Series,
    *,
    segments: bool = False,
    grams: bool | Callable[[npt.NDArray[np.int64], npt.NDArray[np.int64] | None], npt.NDArray[np.bool_]] = False,
    permutations: tuple[npt.NDArray[np.uint32], npt.NDArray[np.uint32]] | None = None,
    ngram: int = 5,
    stop_words: Sequence[str] = STOP_WORDS,
) -> Measured:
    """Everything that is asked for about every document, in one pass over the texts.

    Args:
        grams: whether to count repeated n-grams, or a function that says for which documents of a batch,
            from their counts and segments.
        permutations: as `kernels_minhash.permutations` gives them; makes signatures over runs of `ngram` words.
    """
    values, offsets = text_buffers(texts)
    documents = offsets.size - 1
    splitter, repetition = Splitter(stop_words), _Repetition()
    counts = np.zeros((documents, len(kernels_text.COUNTS)), np.int64)
    found_segments = np.zeros((documents, len(kernels_text.SEGMENTS)), np.int64) if segments else None
    found_grams = np.zeros((documents, len(kernels_grams.SIZES)), np.int64) if grams else None
    signatures = np.empty((documents, permutations[0].size), np.uint32) if permutations else None
    for start, stop in batches(offsets):
        here = offsets[start : stop + 1]
        words = splitter(values, here)
        counts[start:stop] = words.counts
        if found_segments is not None:
            repetition.segments(splitter, values, here, found_segments[start:stop])
        if found_grams is not None:
            lines = None if found_segments is None else found_segments[start:stop]
            wanted = grams(words.counts, lines) if callable(grams) else np.ones(stop - start, np.bool_)
            repetition.grams(words, wanted, found_grams[start:stop])
        if signatures is not None and permutations is not None:
            kernels_minhash.signatures(words.hashes, words.offsets, ngram, *permutations, signatures[start:stop])
    return Measured(counts, found_segments, found_grams, signatures)


def shingle_sets(texts: pl.Series, ngram: int) -> tuple[npt.NDArray[np.uint64], npt.NDArray[np.int64]]:
    """(sets, offsets): the ascending 64-bit shingles of document d are sets[offsets[d]:offsets[d + 1]]."""
    values, offsets = text_buffers(texts)
    splitter = Splitter(())
    parts: list[npt.NDArray[np.uint64]] = []
    sizes = np.zeros(offsets.size, np.int64)
    for start, stop in batches(offsets):
        words = splitter(values, offsets[start : stop + 1])
        part, ends = np.empty(words.hashes.size, np.uint64), np.empty(stop - start + 1, np.int64)
        kernels_minhash.shingle_sets(words.hashes, words.offsets, ngram, part, ends)
        parts.append(part[: ends[-1]].copy())
        sizes[start + 1 : stop + 1] = np.diff(ends)
    return np.concatenate(parts) if parts else np.empty(0, np.uint64), np.cumsum(sizes)


def line_statistics(texts: pl.Series) -> pl.DataFrame:
    """Per text: characters, lines, line_characters (line feeds left out), longest_line and alphanumeric (characters)."""
    values, offsets = text_buffers(texts)
    out = np.empty((offsets.size - 1, len(kernels_lines.LINES)), np.int64)
    kernels_lines.scan_lines(values, offsets, *kernels_text.character_classes(), out)
    return pl.DataFrame({name: out[:, k] for k, name in enumerate(kernels_lines.LINES)})
