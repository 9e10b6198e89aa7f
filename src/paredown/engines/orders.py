"""Orders in which rows are read, computed by arithmetic: any place of any order can be asked for, and nothing grows with the rows.

Rows are read in rounds that follow one another without end; a round is the beginning of a permutation of its own. Place p of the
sequence is place p % count of round p // count.
"""

from __future__ import annotations

import functools
import hashlib
from typing import Any

import numpy as np

REMEMBERED = 2**18  # rows of a round whose order is kept, 2 MB: by arithmetic alone a small batch costs up to 0.5 ms
_ROUNDS = 4
Array = np.ndarray[Any, Any]


def permuted(index: Array, size: int, seed: int) -> Array:
    """Where each index of 0..size-1 goes under the permutation that belongs to `seed`."""
    return _walked(index, size, _keys(seed))


def permuted_each(index: Array, sizes: Array, seeds: Array) -> Array:
    """The same with a size and a seed for every index."""
    kinds, place = np.unique(seeds, return_inverse=True)
    keys = np.stack([_keys(int(seed)) for seed in kinds], axis=1) if len(kinds) else np.empty((_ROUNDS, 0), dtype=np.uint64)
    return _walked(index, sizes, keys[:, place])


def _keys(seed: int) -> Array:
    return np.frombuffer(hashlib.sha256(f"permutation {seed}".encode()).digest(), dtype=np.uint64)[:_ROUNDS]


def _walked(index: Array, sizes: int | Array, keys: Array) -> Array:
    """A Feistel network over the next even number of bits, walked until it lands inside; at most four steps on average.

    `sizes` is one or one an index; `keys` are (4,) or (4, indices).
    """
    value = index.astype(np.uint64)
    limit = np.asarray(sizes, dtype=np.uint64)
    half = (np.maximum(2, _bits(limit)) + np.uint64(1)) // np.uint64(2)
    mask = (np.uint64(1) << half) - np.uint64(1)
    open_ = np.arange(value.size)
    with np.errstate(over="ignore"):
        while open_.size:
            left, right = value[open_] >> half, value[open_] & mask
            for key in keys:
                left, right = right, left ^ (_mixed(right + key) & mask)
            value[open_] = (left << half) | right
            outside = value[open_] >= limit
            open_ = open_[outside]
            if limit.ndim:
                half, mask, limit = half[outside], mask[outside], limit[outside]
            if keys.ndim > 1:
                keys = keys[:, outside]
    return value.astype(np.int64)


def _bits(sizes: Array) -> Array:
    """Bits of sizes - 1."""
    return np.frexp((sizes - np.uint64(1)).astype(np.float64))[1].astype(np.uint64)


def _mixed(x: Array) -> Array:
    """SplitMix64's finalizer (Steele et al. 2014)."""
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    mixed: Array = x ^ (x >> np.uint64(31))
    return mixed


def shuffled(rows: int, seed: int, index: int, batch_size: int) -> Array:
    """Row indices of batch `index` of an endless sequence of epochs, each in an order of its own."""
    return in_rounds(rows, rows, seed, index * batch_size, (index + 1) * batch_size)


def in_rounds(rows: int, count: int, seed: int, begin: int, end: int) -> Array:
    """Places `begin` to `end` of endless rounds, each of them `count` distinct rows drawn from all."""
    chosen = np.empty(end - begin, dtype=np.int64)
    done = begin
    while done < end:
        number, first = divmod(done, count)
        last = min(first + end - done, count)
        chosen[done - begin : done - begin + last - first] = _ordered(first, last, rows, count, round_seed(seed, number))
        done += last - first
    return chosen


def _ordered(begin: int, end: int, rows: int, count: int, seed: int) -> Array:
    """Places `begin` to `end` of a round's order."""
    return _order(rows, count, seed)[begin:end] if count <= REMEMBERED else permuted(np.arange(begin, end), rows, seed)


@functools.lru_cache(maxsize=4)  # 8 MB at most; a batch that reaches into the next round wants two
def _order(rows: int, count: int, seed: int) -> Array:
    """The order of a whole round."""
    return permuted(np.arange(count), rows, seed)


def round_seed(seed: object, number: int) -> int:
    """The seed of one round, or of whatever else is numbered."""
    return int.from_bytes(hashlib.sha256(f"{seed} {number}".encode()).digest()[:8], "little")


def apportioned(sizes: Array, total: int) -> Array:
    """`total` in whole parts in proportion to `sizes`, by largest remainder; of equal remainders the earlier part gains.

    The parts sum to `total`, and each is within 1 of its exact share.
    """
    shares = np.asarray(sizes, dtype=np.int64) * total
    parts, rests = np.divmod(shares, max(1, int(np.sum(sizes))))
    parts[np.argsort(-rests, kind="stable")[: total - int(parts.sum())]] += 1
    found: Array = parts
    return found
