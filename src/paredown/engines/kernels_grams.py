"""Repetition of word n-grams within a document, over the word hashes that kernels_text.py made, without the GIL.

As in kernels_text.py no compiled function here calls one of another file.
"""

from __future__ import annotations

from typing import no_type_check

import numba
import numpy as np

from paredown.engines.compiled import OPTIONS

SIZES = tuple(range(2, 11))  # n of the n-grams

NONE = np.uint32(0xFFFFFFFF)
K0 = np.uint64(0x9E3779B97F4A7C15)
K2 = np.uint64(0x94D049BB133111EB)


@numba.njit(**OPTIONS)
@no_type_check  # numba infers its own types: range() of an unsigned number counts in unsigned numbers
def repeated_grams(hashes, ends, word_offsets, wanted, grams, first, times, places, seen, table, out):
    """Characters in repeated n-grams of words: out[d, n - 2] for n = 2 to 10, of the documents with wanted[d].

    n = 2, 3, 4: characters of the most frequent n-gram (of equally frequent ones the first), its words joined by a blank,
    times its occurrences. n = 5 to 10: characters (without blanks) of n-grams that came before, walking from left to right
    and stepping over a found repetition as a whole.

    An n-gram can repeat only where both (n-1)-grams in it do, so each n looks at what the last one left over; most text
    has little left at n = 4. Indices are unsigned: numba guards signed ones against negative values, a third of the time.
    """
    one = np.uint64(1)
    for d in range(word_offsets.size - 1):
        out[d, :] = 0
        if not wanted[d]:
            continue
        base = word_offsets[d]
        n_words = np.uint64(word_offsets[d + 1] - base)
        w = hashes[base : base + np.int64(n_words)]
        e = ends[base : base + np.int64(n_words) + 1]
        for p in range(n_words):
            grams[p] = w[p]
            places[p] = p
            seen[p] = 0
        left = n_words - min(n_words, one)  # candidates: positions whose n-gram may repeat, in places[:left]
        for n in range(np.uint64(2), np.uint64(11)):
            if n_words < n:
                break
            column = np.int64(n) - 2
            best = np.uint32(1)
            best_place = np.uint64(0)
            if left > 0:
                bits = np.uint64(3)
                while (one << bits) < left + left:
                    bits += one
                for slot in range(one << bits):
                    table[slot] = NONE
                shift = np.uint64(64) - bits
                mask = (one << bits) - one
                last = n - one
                for c in range(left):
                    p = np.uint64(places[c])
                    gram = grams[p] * K2 + w[p + last]
                    grams[p] = gram
                    slot = (gram * K0) >> shift
                    while True:
                        q = table[slot]
                        if q == NONE:
                            table[slot] = p
                            first[p] = p
                            times[p] = 1
                            break
                        if grams[q] == gram:
                            first[p] = q
                            times[q] += np.uint32(1)
                            break
                        slot = (slot + one) & mask
                kept = np.uint64(0)  # positions of n-grams that do repeat; without branches, which no processor could predict
                for c in range(left):
                    p = np.uint64(places[c])
                    places[kept] = p
                    kept += np.uint64(times[first[p]] > 1)
                if n <= 4:
                    for c in range(kept):
                        p = np.uint64(places[c])
                        if first[p] == p and times[p] > best:
                            best = times[p]
                            best_place = p
                else:
                    free = np.uint64(0)  # the first position after the last repetition
                    total = 0
                    for c in range(kept):
                        p = np.uint64(places[c])
                        if p >= free:
                            q = first[p]
                            if seen[q] == n:
                                free = p + n
                                total += e[free] - e[p]
                            else:
                                seen[q] = n
                    out[d, column] = total
                left = np.uint64(0)
                for c in range(one, kept):
                    p = np.uint64(places[c - one])
                    places[left] = p
                    left += np.uint64(places[c] == p + one)
            if n <= 4:
                out[d, column] = (e[best_place + n] - e[best_place] + column + 1) * np.int64(best)
