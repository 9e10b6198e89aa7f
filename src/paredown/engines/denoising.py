"""Texts with stretches taken out, and what was taken out as the target: span corruption and prefixes, many examples at once.

Legend: L = tokens of a raw chunk, n = tokens taken out, s = spans that they form, N = examples, R = rows, E / D = width of inputs / targets.

A chunk's n noise tokens are cut into s spans and its L - n kept tokens into s stretches, both uniformly at random among all ways to cut
them into positive lengths; stretches and spans alternate, beginning with a stretch. The input is the kept text with a sentinel for each
span, the target the sentinels, each followed by what it stands for, and the mark of the end (Raffel et al. 2019, arXiv 1910.10683, section
3.1.4). A prefix has no sentinels: the input is the chunk's beginning, the target its rest and the mark. A mode token may stand first.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numba
import numpy as np

from paredown.artifacts.tokens import Tokens
from paredown.core.errors import DataError, UserError
from paredown.engines.batches import IGNORED, Batch

Array = np.ndarray[Any, Any]
WIDTHS = 8  # inputs and targets are padded to multiples of this, so that few shapes of batches occur


def spans(length: int, mean: float, rate: float) -> tuple[int, int]:
    """(n, s): tokens taken out of a chunk, and the spans that they form; at least one token lies between two spans."""
    noise = min(max(round(length * rate), 1), length - 1)
    return noise, min(max(1, round(noise / mean)), noise, length - noise)


def raw_length(budget: int, mean: float, rate: float, mode: bool) -> int:
    """Most tokens of a chunk whose input and target together, sentinels, mark and mode token counted, are at most `budget`."""
    return next((n for n in range(budget - 2, 1, -1) if n + 2 * spans(n, mean, rate)[1] + 1 + mode <= budget), 0)


@numba.njit(cache=True)
def _cut(total: int, parts: int, uniform: Array, lengths: Array) -> None:
    """Cut `total` into `parts` positive lengths, all ways equally likely: `parts` - 1 of the `total` - 1 places between tokens are chosen."""
    wanted, part, begin = parts - 1, 0, 0
    for place in range(1, total):
        if uniform[place - 1] * (total - place) < wanted - part:
            lengths[part] = place - begin
            begin, part = place, part + 1
    lengths[part] = total - begin


@numba.njit(cache=True)
def span_bounds(length: int, noise: int, count: int, uniform: Array) -> Array:
    """First token and end of each span, (s, 2); `uniform` are at least `length` - 2 numbers in [0, 1)."""
    kept, taken = np.empty(count, dtype=np.int64), np.empty(count, dtype=np.int64)
    _cut(length - noise, count, uniform, kept)
    _cut(noise, count, uniform[length - noise - 1 :], taken)
    bounds = np.empty((count, 2), dtype=np.int64)
    at = 0
    for span in range(count):
        bounds[span, 0] = at + kept[span]
        at = bounds[span, 1] = at + kept[span] + taken[span]
    return bounds


@numba.njit(cache=True)
def take_out(chunk: Array, bounds: Array, sentinels: Array, mode: int, end: int, inputs: Array, targets: Array) -> tuple[int, int]:
    """Write an example's input and target; gives their sizes. Without sentinels the one span is what follows a prefix; mode -1 is none."""
    size = made = 0
    if mode >= 0:
        inputs[0] = mode
        size = 1
    at = 0
    for span in range(len(bounds)):
        for place in range(at, bounds[span, 0]):
            inputs[size] = chunk[place]
            size += 1
        if len(sentinels):
            inputs[size] = targets[made] = sentinels[span]
            size, made = size + 1, made + 1
        for place in range(bounds[span, 0], bounds[span, 1]):
            targets[made] = chunk[place]
            made += 1
        at = bounds[span, 1]
    for place in range(at, len(chunk)):
        inputs[size] = chunk[place]
        size += 1
    targets[made] = end
    return size, made + 1


@dataclass(frozen=True)
class Corrupted:
    """Examples before they are laid out in rows."""

    inputs: Array  # (N, longest), int64
    sizes: Array  # (N,) tokens of each input
    targets: Array  # (N, longest), int64
    made: Array  # (N,) tokens of each target
    family: Array  # (N,) int64, the kind of denoising

    @property
    def read(self) -> Array:
        """Tokens of input and target, (N,)."""
        return self.sizes + self.made


@numba.njit(cache=True)
def corrupt(
    chunks: Array, starts: Array, kinds: Array, lengths: Array, noises: Array, counts: Array, modes: Array, cuts: Array,
    uniform: Array, sentinels: Array, end: int, inputs: Array, targets: Array, sizes: Array, made: Array,
) -> None:  # fmt: skip
    """Corrupt chunk i with kind `kinds[i]`: `lengths`, `noises`, `counts` and `modes` are its L, n, s and mode token.

    A kind with s = 0 is a prefix: `cuts[i]` tokens are its target. `chunks` (N, longest) holds each chunk from `starts[i]` on.
    """
    for row in range(len(kinds)):
        kind = kinds[row]
        length = lengths[kind]
        chunk = chunks[row, starts[row] : starts[row] + length]
        if counts[kind]:
            bounds, marks = span_bounds(length, noises[kind], counts[kind], uniform[row]), sentinels
        else:
            bounds, marks = np.array([[length - cuts[row], length]], dtype=np.int64), sentinels[:0]
        sizes[row], made[row] = take_out(chunk, bounds, marks, modes[kind], end, inputs[row], targets[row])


def _wide(most: int) -> int:
    return -(-most // WIDTHS) * WIDTHS


def for_decoder(found: Corrupted, width: int) -> Batch:
    """Rows of one example each, input and then target: `ids`, `targets`, `family` (N, width), and `prefix` (N,), where the input ends."""
    shape = (len(found.sizes), width)
    ids, targets = np.zeros(shape, dtype=np.int64), np.full(shape, IGNORED, dtype=np.int64)
    _one_a_row(found.inputs, found.sizes, found.targets, found.made, ids, targets)
    family = np.repeat(found.family[:, None], width, axis=1)
    return {"ids": ids, "targets": targets, "family": family, "prefix": found.sizes, "read": found.read}


@numba.njit(cache=True)
def _one_a_row(inputs: Array, sizes: Array, outputs: Array, made: Array, ids: Array, targets: Array) -> None:
    for row in range(len(sizes)):
        size, count = sizes[row], made[row]
        ids[row, :size] = inputs[row, :size]
        ids[row, size : size + count - 1] = outputs[row, : count - 1]
        targets[row, size - 1 : size + count - 1] = outputs[row, :count]


def for_encoder_decoder(found: Corrupted, start: int, together: int) -> Batch:
    """Rows of up to `together` examples, long inputs with short ones so that little is padding.

    `ids`, `segments` (R, E) are what the encoder reads, `answers`, `answer_segments`, `targets`, `family` (R, D) what the decoder
    reads and is to say; segments number the examples of a row from 1, and 0 is padding. `start` is the id before an answer.
    """
    rows = -(-len(found.sizes) // together)
    members: Array = np.full(rows * together, -1, dtype=np.int64)
    members[: len(found.sizes)] = np.argsort(-found.sizes, kind="stable")
    members = members.reshape((together, rows))
    members[1::2] = members[1::2, ::-1].copy()
    held = members >= 0
    width, depth = (_wide(int((values[members] * held).sum(0).max())) for values in (found.sizes, found.made))
    batch: Batch = {name: np.zeros((rows, width), dtype=np.int64) for name in ("ids", "segments")}
    batch |= {name: np.zeros((rows, depth), dtype=np.int64) for name in ("answers", "answer_segments", "family")}
    batch["targets"] = np.full((rows, depth), IGNORED, dtype=np.int64)
    batch["read"] = (found.read[members] * held).sum(0)
    _several_a_row(
        found.inputs, found.sizes, found.targets, found.made, found.family, members, start,
        batch["ids"], batch["segments"], batch["answers"], batch["answer_segments"], batch["targets"], batch["family"],
    )  # fmt: skip
    return batch


@numba.njit(cache=True)
def _several_a_row(
    inputs: Array, sizes: Array, outputs: Array, made: Array, families: Array, members: Array, start: int,
    ids: Array, segments: Array, answers: Array, answer_segments: Array, targets: Array, family: Array,
) -> None:  # fmt: skip
    for row in range(members.shape[1]):
        at = to = 0
        for number in range(members.shape[0]):
            example = members[number, row]
            if example < 0:
                continue
            size, count = sizes[example], made[example]
            ids[row, at : at + size] = inputs[example, :size]
            segments[row, at : at + size] = number + 1
            targets[row, to : to + count] = outputs[example, :count]
            answers[row, to] = start
            answers[row, to + 1 : to + count] = outputs[example, : count - 1]
            answer_segments[row, to : to + count] = number + 1
            family[row, to : to + count] = families[example]
            at, to = at + size, to + count


@dataclass(frozen=True)
class Kind:
    """One kind of denoising, and how many tokens of a chunk it takes."""

    family: int
    mean: float  # tokens of a span; of no meaning for a prefix
    rate: float  # share of the tokens that is taken out; of a prefix the mean share
    weight: float  # how often it is drawn, against the others
    mode: int  # id of the token that stands first, or -1
    prefix: bool
    length: int  # tokens of its chunks

    @property
    def spans(self) -> tuple[int, int]:
        """Tokens taken out, and their spans; no span for a prefix."""
        return (0, 0) if self.prefix else spans(self.length, self.mean, self.rate)

    @property
    def most(self) -> int:
        """Most tokens after a prefix: with 1 to that many, all equally likely, `rate` is their mean share."""
        return max(1, min(self.length - 1, round(2 * self.rate * self.length) - 1))


def check_all_learnt(tokens: Tokens) -> None:
    """
    Raises:
        UserError: the documents begin with what is given, which gaps would make the model predict.
    """
    if tokens.given is not None:
        raise UserError(
            "denoising makes gaps anywhere in a document, in what is given too", where="tokens", todo="encode them without `given`"
        )


def check_sentinels(sentinels: Sequence[int], needed: int) -> None:
    """
    Raises:
        UserError: there are fewer than `needed`.
    """
    if needed > len(sentinels):
        raise UserError(
            f"{needed} gaps need {needed} sentinels, but the vocabulary has {len(sentinels)}",
            where="tokens",
            todo=f"make the vocabulary with corpus.tokenize.bpe and sentinels: {max(100, needed)}",
        )


class DenoisingRows:
    """Chunks of a token stream, one after another over all documents; each is corrupted anew whenever it is read.

    A chunk is as long as the kind that takes most; a kind that takes less reads a stretch of it that begins at random.
    Which kind, which stretch and which spans depends on the generator of the batch only.

    Raises:
        DataError: there are fewer tokens than two.
        UserError: there are fewer sentinels than a kind needs.
    """

    def __init__(self, ids: Array, kinds: Sequence[Kind], sentinels: Sequence[int], end: int, layout: Callable[[Corrupted], Batch]) -> None:
        self.ids, self.end, self.layout = ids, end, layout
        self.chunk = max(kind.length for kind in kinds)
        if len(ids) < self.chunk:
            raise DataError(f"there is nothing to train on: {len(ids):,} tokens, and a chunk takes {self.chunk:,}", todo="lower length")
        check_sentinels(sentinels, max(kind.spans[1] for kind in kinds))
        self.rows = -(-len(ids) // self.chunk)  # the last chunk ends with the stream
        self.sentinels = np.array(sentinels, dtype=np.int64)
        columns = [(k.family, k.length, *k.spans, k.mode, k.most) for k in kinds]
        self.family, self.lengths, self.noises, self.counts, self.modes, self.most = np.array(columns, dtype=np.int64).T.copy()
        weights = np.array([kind.weight for kind in kinds])
        self.bounds = (np.cumsum(weights) / weights.sum())[:-1]

    def column(self, name: str) -> Array:
        raise UserError(f"chunks of tokens have no {name}", todo="a sampler that needs it takes examples")

    def corrupted(self, chosen: Array, generator: np.random.Generator) -> Corrupted:
        """An example of each of these chunks."""
        count = len(chosen)
        kinds = np.searchsorted(self.bounds, generator.random(count), side="right")
        place, uniform = generator.random((count, 2)), generator.random((count, self.chunk))
        begins = np.minimum(np.asarray(chosen, dtype=np.int64) * self.chunk, len(self.ids) - self.chunk)
        chunks = self.ids[begins[:, None] + np.arange(self.chunk)].astype(np.int64)
        starts = (place[:, 0] * (self.chunk - self.lengths[kinds] + 1)).astype(np.int64)
        cuts = 1 + (place[:, 1] * self.most[kinds]).astype(np.int64)
        inputs, targets = (np.zeros((count, 2 * self.chunk + 2), dtype=np.int64) for _ in range(2))
        sizes, made = np.zeros(count, dtype=np.int64), np.zeros(count, dtype=np.int64)
        corrupt(
            chunks, starts, kinds, self.lengths, self.noises, self.counts, self.modes, cuts,
            uniform, self.sentinels, self.end, inputs, targets, sizes, made,
        )  # fmt: skip
        return Corrupted(inputs, sizes, targets, made, self.family[kinds])

    def fill(self, chosen: Array, generator: np.random.Generator) -> Batch:
        return self.layout(self.corrupted(chosen, generator))


def posed(chunks: Array, bounds: Array, sentinels: Sequence[int], mode: int, end: int) -> Corrupted:
    """Examples of chunks (N, L) from which the spans `bounds` (N, s, 2) are taken out; all of the same sizes."""
    count, length = chunks.shape
    inputs, targets = (np.zeros((count, 2 * length + 2), dtype=np.int64) for _ in range(2))
    sizes, made = np.zeros(count, dtype=np.int64), np.zeros(count, dtype=np.int64)
    marks = np.array(sentinels, dtype=np.int64)
    for row in range(count):
        sizes[row], made[row] = take_out(chunks[row], bounds[row], marks, mode, end, inputs[row], targets[row])
    return Corrupted(inputs, sizes, targets, made, np.zeros(count, dtype=np.int64))


def part_of(found: Corrupted, rows: slice) -> Corrupted:
    """Some of the examples."""
    return Corrupted(found.inputs[rows], found.sizes[rows], found.targets[rows], found.made[rows], found.family[rows])
