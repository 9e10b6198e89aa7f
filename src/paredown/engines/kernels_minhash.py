"""MinHash signatures and true Jaccard similarities over hashed word shingles, compiled, without the GIL.

As in kernels_text.py no compiled function here calls one of another file.
"""

from __future__ import annotations

import numba
import numpy as np
import numpy.typing as npt

from paredown.engines.compiled import OPTIONS

BLOCK = 2048  # shingles at a time: 8 KiB stay in the first-level cache while every permutation passes over them
LANES = 32  # a block is filled up to a multiple of this, so that the vectorized loop has no remainder
EMPTY = 0xFFFFFFFF  # every value of the signature of a document without words

P = np.uint64(0x9E3779B97F4A7C15)
K1 = np.uint64(0xFF51AFD7ED558CCD)
K2 = np.uint64(0xC4CEB9FE1A85EC53)


def permutations(count: int, seed: int) -> tuple[npt.NDArray[np.uint32], npt.NDArray[np.uint32]]:
    """Odd multipliers and addends of `count` permutations x -> a x + b mod 2^32.

    Shingles are 32 well-mixed bits before they come here, so that this small family is enough: the test compares the
    estimator's spread with the binomial one.
    """
    generator = np.random.default_rng(seed)
    a = generator.integers(0, 2**32, count, dtype=np.uint32) | np.uint32(1)
    b = generator.integers(0, 2**32, count, dtype=np.uint32)
    return a, b


@numba.njit(**OPTIONS)
def _shingle(hashes, at, n):  # type: ignore[no-untyped-def]
    """A 64-bit hash of the words at..at + n - 1."""
    state = np.uint64(n)
    for k in range(n):
        state = state * P + hashes[at + k]
    state ^= state >> np.uint64(33)
    state *= K1
    state ^= state >> np.uint64(33)
    state *= K2
    return state ^ (state >> np.uint64(33))


@numba.njit(**OPTIONS)
def signatures(hashes, word_offsets, ngram, a, b, out):  # type: ignore[no-untyped-def]
    """out[d, k]: the least value of permutation k over the shingles of document d.

    The shingles of a document are its runs of `ngram` words; a shorter document is one shingle. The inner loop runs over
    shingles with one permutation in registers: a multiplication, an addition and a minimum on 8 lanes of AVX2.
    """
    block = np.empty(BLOCK, dtype=np.uint32)
    for d in range(word_offsets.size - 1):
        base = word_offsets[d]
        n_words = word_offsets[d + 1] - base
        out[d, :] = EMPTY
        if n_words == 0:
            continue
        n = min(ngram, n_words)
        total = n_words - n + 1
        for lo in range(0, total, BLOCK):
            size = min(BLOCK, total - lo)
            for j in range(size):
                block[j] = np.uint32(_shingle(hashes, base + lo + j, n) >> np.uint64(32))
            filled = min(BLOCK, (size + LANES - 1) // LANES * LANES)
            for j in range(size, filled):
                block[j] = block[size - 1]
            view = block[:filled]
            for k in range(a.size):
                times = a[k]
                plus = b[k]
                least = out[d, k]
                for x in view:
                    value = np.uint32(times * x + plus)
                    least = min(least, value)
                out[d, k] = least


@numba.njit(**OPTIONS)
def shingle_sets(hashes, word_offsets, ngram, out, out_offsets):  # type: ignore[no-untyped-def]
    """The set of 64-bit shingles of every document, ascending, one after another in `out` (as long as `hashes`)."""
    at = 0
    out_offsets[0] = 0
    for d in range(word_offsets.size - 1):
        base = word_offsets[d]
        n_words = word_offsets[d + 1] - base
        if n_words > 0:
            n = min(ngram, n_words)
            total = n_words - n + 1
            part = out[at : at + total]
            for j in range(total):
                part[j] = _shingle(hashes, base + j, n)
            part.sort()
            kept = 1
            for j in range(1, total):
                part[kept] = part[j]
                kept += part[j] != part[kept - 1]
            at += kept
        out_offsets[d + 1] = at


@numba.njit(**OPTIONS)
def jaccard(sets, starts, stops, left, right, out):  # type: ignore[no-untyped-def]
    """out[p]: the true Jaccard similarity of the sets left[p] and right[p]; sets[starts[s]:stops[s]] ascend."""
    for p in range(left.size):
        i, i_end = starts[left[p]], stops[left[p]]
        j, j_end = starts[right[p]], stops[right[p]]
        sizes = i_end - i + j_end - j
        common = 0
        while i < i_end and j < j_end:
            x, y = sets[i], sets[j]
            common += x == y
            i += x <= y
            j += y <= x
        out[p] = common / (sizes - common) if sizes > common else 0.0
