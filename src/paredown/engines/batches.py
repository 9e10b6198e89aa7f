"""Data as rows, and batches of them: batch i is a pure function of (seed, i), so resuming a training is arithmetic.

Legend: D = documents, W = windows, R = rows of one epoch, B = rows of a batch, L = tokens of a row.

Examples are rows as they stand. Tokens become rows of packed windows (without attention between documents, as in Krell et
al. 2021, arXiv 2107.02027; best fit as in Ding et al. 2024, arXiv 2404.10830):

A document of n tokens gives n - 1 training positions (each token is asked for once, from the tokens before it). They are
cut into windows of L; the full windows are rows of their own, the rests of `BLOCK` documents that follow one another are
packed into rows by best fit. Positions restart at each window. Nothing is dropped, and memory holds one number per block
of documents. The order of rows is computed by arithmetic (`engines/orders.py`): nothing is seen twice in an epoch.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

import numba
import numpy as np

from paredown.artifacts.examples import Examples
from paredown.artifacts.tokens import Tokens
from paredown.core.errors import DataError, UserError
from paredown.engines.orders import permuted, shuffled
from paredown.engines.parts import Rows

if TYPE_CHECKING:
    import torch
from paredown.engines.table_rows import TableRows

Batch = dict[str, Any]  # arrays whose first axis is the rows; plain values are the same for every row
IGNORED = -100  # target of a position that is not predicted
BLOCK = 4096  # documents whose rests are packed together


@numba.njit(cache=True)
def best_fit(sizes: np.ndarray[Any, Any], capacity: int) -> np.ndarray[Any, Any]:
    """The row of each piece when pieces, given in falling order of size, go where the least room stays."""
    rows = np.empty(sizes.size, dtype=np.int64)
    room_head = np.full(capacity + 1, -1, dtype=np.int64)  # first row with that much room
    following = np.full(sizes.size, -1, dtype=np.int64)  # next row with the same room
    count = 0
    for piece in range(sizes.size):
        size = sizes[piece]
        room = size
        while room <= capacity and room_head[room] < 0:
            room += 1
        if room <= capacity:
            row = room_head[room]
            room_head[room] = following[row]
        else:
            row = count
            count += 1
            room = capacity
        rows[piece] = row
        left = room - size
        following[row] = room_head[left]
        room_head[left] = row
    return rows


class PackedRows:
    """Rows of L positions over documents that lie one after another in `ids`.

    `ids` (T,) and `offsets` (D + 1,) may be memory-mapped; `offsets` counts from the start of `ids`. The first `given` (D,) tokens of
    a document's text are no targets.

    Raises:
        DataError: no document has two tokens, so there is nothing to predict.
    """

    def __init__(
        self, ids: np.ndarray[Any, Any], offsets: np.ndarray[Any, Any], length: int, given: np.ndarray[Any, Any] | None = None
    ) -> None:
        self.ids, self.offsets, self.length, self.given = ids, offsets, length, given
        self.documents = len(offsets) - 1
        starts = [0]
        self.tokens = 0  # predicted tokens of an epoch
        for block in range(-(-self.documents // BLOCK)):
            sizes = self._sizes(block)
            self.tokens += int(sizes.sum())
            _, rests = self._pieces(sizes)
            starts.append(starts[-1] + int((sizes // length).sum()) + (int(rests.max()) + 1 if rests.size else 0))
        self.starts = np.array(starts, dtype=np.int64)  # first row of each block
        self.rows = starts[-1]
        if self.rows == 0:
            raise DataError(
                "there is nothing to train on: no document has two tokens", todo="look at what the filters before this step dropped"
            )
        self._plan = functools.lru_cache(maxsize=64)(self._make_plan)

    def _sizes(self, block: int) -> np.ndarray[Any, Any]:
        """Training positions of each document of a block."""
        bounds = np.asarray(self.offsets[block * BLOCK : min(self.documents, (block + 1) * BLOCK) + 1])
        sizes: np.ndarray[Any, Any] = np.maximum(np.diff(bounds) - 1, 0)
        return sizes

    def _pieces(self, sizes: np.ndarray[Any, Any]) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
        """Documents with a rest, largest rest first, and the row that each rest goes to."""
        rests = sizes % self.length
        order = np.argsort(-rests, kind="stable")[: int((rests > 0).sum())]
        return order, best_fit(rests[order], self.length)

    def _make_plan(self, block: int) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any], dict[int, list[int]]]:
        """(sizes, running count of full windows, documents of each row of rests) of a block."""
        sizes = self._sizes(block)
        order, rows = self._pieces(sizes)
        members: dict[int, list[int]] = {}
        for document, row in sorted(zip(order.tolist(), rows.tolist(), strict=True)):
            members.setdefault(row, []).append(document)
        return sizes, np.cumsum(sizes // self.length), members

    def windows(self, row: int) -> list[tuple[int, int]]:
        """(first position in `ids`, positions) of every window of a row."""
        block = int(np.searchsorted(self.starts, row, side="right")) - 1
        sizes, full, members = self._plan(block)
        first = block * BLOCK
        inside = row - int(self.starts[block])
        if inside < full[-1]:
            document = int(np.searchsorted(full, inside, side="right"))
            window = inside - (int(full[document - 1]) if document else 0)
            return [(int(self.offsets[first + document]) + window * self.length, self.length)]
        found = []
        for document in members[inside - int(full[-1])]:
            rest = int(sizes[document]) % self.length
            found.append((int(self.offsets[first + document]) + int(sizes[document]) - rest, rest))
        return found

    def _unasked(self, start: int, size: int) -> int:
        """How many of the first targets of a window are of what is given in its document."""
        assert self.given is not None
        document = int(np.searchsorted(self.offsets, start, side="right")) - 1
        return min(size, max(0, int(self.offsets[document]) + int(self.given[document]) - start))

    def column(self, name: str) -> np.ndarray[Any, Any]:
        raise UserError(f"rows of tokens have no {name}", todo="a sampler that needs it takes examples")

    def fill(self, rows: np.ndarray[Any, Any], generator: np.random.Generator | None = None) -> Batch:
        """The batch of these rows: `ids`, `targets` (B, L), and `positions` (B, L) where a row holds several windows."""
        shape = (len(rows), self.length)
        ids = np.zeros(shape, dtype=np.int64)
        targets = np.full(shape, IGNORED, dtype=np.int64)
        positions = np.broadcast_to(np.arange(self.length), shape)
        for number, row in enumerate(rows):
            at = 0
            for start, size in self.windows(int(row)):
                piece = self.ids[start : start + size + 1]
                ids[number, at : at + size] = piece[:-1]
                targets[number, at : at + size] = piece[1:]
                if self.given is not None:
                    targets[number, at : at + self._unasked(start, size)] = IGNORED
                if at:
                    if not positions.flags.writeable:
                        positions = positions.copy()
                    positions[number, at:] = np.arange(self.length - at)
                at += size
        batch: Batch = {"ids": ids, "targets": targets}
        if positions.flags.writeable:
            batch["positions"] = positions
        return batch


class ExampleRows:
    """Rows of an `Examples` artifact: its columns of numbers and arrays, under their names; text is left out.

    Raises:
        DataError: there is no row, or no column of numbers.
    """

    def __init__(self, examples: Examples) -> None:
        self.columns = examples.arrays()
        self.rows = examples.rows
        if not self.rows or not self.columns:
            raise DataError("there is nothing to train on: the examples hold no row of numbers", where=str(examples.path))

    def column(self, name: str) -> np.ndarray[Any, Any]:
        values = self.columns.get(name)
        if values is None or values.ndim != 1:
            numbers = [known for known, held in self.columns.items() if held.ndim == 1]
            raise UserError(f"the examples have no column of numbers named {name}", todo=f"there is {', '.join(numbers) or 'none'}")
        return values

    def fill(self, chosen: np.ndarray[Any, Any], generator: np.random.Generator | None = None) -> Batch:
        return {name: values[chosen] for name, values in self.columns.items()}


def shuffled_batch(source: Rows, seed: int, index: int, size: int) -> Batch:
    """Batch `index` of `source`, its rows shuffled anew each epoch."""
    return source.fill(shuffled(source.rows, seed, index, size), randomness(seed, index))


def randomness(seed: int, index: int) -> np.random.Generator:
    """What batch `index` may draw from when it is filled."""
    return np.random.default_rng([seed, index])


@functools.lru_cache(maxsize=8)
def _packed(path: str, stamp: int, length: int) -> PackedRows:
    tokens = Tokens(path)
    return PackedRows(tokens.ids, tokens.offsets, length, tokens.given)


@functools.lru_cache(maxsize=4)
def _examples(path: str, stamp: int) -> ExampleRows | TableRows:
    examples = Examples(path)
    return TableRows(examples) if examples.is_table else ExampleRows(examples)


def packed(tokens: Tokens, length: int) -> PackedRows:
    """The rows of a `Tokens` artifact; opened once per process."""
    return _packed(str(tokens.path), (tokens.path / "tokens.json").stat().st_mtime_ns, length)


def example_rows(examples: Examples) -> ExampleRows | TableRows:
    """The rows of an `Examples` artifact; read once per process."""
    return _examples(str(examples.path), (examples.path / "examples.parquet").stat().st_mtime_ns)


def on_device(batch: Batch, device: torch.device) -> Batch:
    """The batch with its arrays as tensors on a device; plain values stay."""
    import torch

    def moved(value: Any) -> Any:
        tensor = torch.from_numpy(np.ascontiguousarray(value)) if isinstance(value, np.ndarray) else value
        return tensor.to(device, non_blocking=True) if isinstance(tensor, torch.Tensor) else value

    return {name: moved(value) for name, value in batch.items()}


def counted(batch: Batch) -> int:
    """Tokens that a batch trains on; rows, where its objective has no token targets."""
    if "targets" in batch:
        return int((batch["targets"] != IGNORED).sum())
    return rows_of(batch)


def processed(batch: Batch) -> int:
    """Tokens that a batch feeds to the model, those of inputs that are not predicted among them."""
    return int(batch["read"].sum()) if "read" in batch else counted(batch)


def rows_of(batch: Batch) -> int:
    return next(len(value) for value in batch.values() if isinstance(value, np.ndarray))


def take(batch: Batch, rows: Any) -> Batch:
    """The batch of some of the rows."""
    return {name: value[rows] if isinstance(value, np.ndarray) else value for name, value in batch.items()}


def cut(batch: Batch, limit: float) -> Batch:
    """The first `limit` tokens of a batch: targets behind them are not predicted, rows without a target go."""
    if counted(batch) <= limit:
        return batch
    if "targets" not in batch:
        return take(batch, slice(0, max(1, int(limit))))
    predicted = batch["targets"] != IGNORED
    kept = predicted & (np.cumsum(predicted.ravel()).reshape(predicted.shape) <= max(1, int(limit)))
    batch = {**batch, "targets": np.where(kept, batch["targets"], IGNORED)}
    return take(batch, kept.reshape(len(kept), -1).any(axis=1))


def share(batch: Batch, rank: int, world: int) -> Batch:
    """The rows of one process; where there are fewer rows than processes, a row without targets."""
    if world == 1:
        return batch
    if rank < rows_of(batch):
        return take(batch, slice(rank, None, world))
    idle = take(batch, slice(0, 1))
    return {**idle, "targets": np.full_like(idle["targets"], IGNORED)} if "targets" in idle else idle


def pieces(batch: Batch, count: int) -> list[Batch]:
    """The rows in `count` parts of nearly equal size; fewer where there are fewer rows."""
    if count == 1:
        return [batch]
    return [take(batch, rows) for rows in np.array_split(np.arange(rows_of(batch)), count) if rows.size]


def evaluation(source: Rows, batch_size: int, most: int) -> list[Batch]:
    """Batches of up to `most` held-out rows, the same ones every time."""
    wanted = min(source.rows, max(1, most))
    chosen = permuted(np.arange(wanted), source.rows, 0)
    return [source.fill(chosen[start : start + batch_size], randomness(0, start)) for start in range(0, wanted, batch_size)]
