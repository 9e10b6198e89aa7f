"""Repetition of word n-grams within a document, over the word hashes that kernels_text.py made, without the GIL.

As in kernels_text.py no compiled function here calls one of another file.
"""

from __future__ import annotations

import numba
import numpy as np

from paredown.engines.compiled import OPTIONS

SIZES = tuple(range(2, 11))  # n of the n-grams

K0 = np.uint64(0x9E3779B97F4A7C15)
K2 = np.uint64(0x94D049BB133111EB)


@numba.njit(**OPTIONS)
def repeated_grams(hashes, ends, word_offsets, wanted, grams, first, times, places, seen, table, out):  # type: ignore[no-untyped-def]
    """Characters in repeated n-grams of words: out[d, n - 2] for n = 2 to 10, of the documents with wanted[d].

    n = 2, 3, 4: characters of the most frequent n-gram (of equally frequent ones the first), its words joined by a blank,
    times its occurrences. n = 5 to 10: characters (without blanks) of n-grams that came before, walking from left to right
    and stepping over a found repetition as a whole.

    An n-gram can repeat only where both (n-1)-grams in it do, so each n looks at what the last one left over; most text
    has little left at n = 4.
    """
    for d in range(word_offsets.size - 1):
        out[d, :] = 0
        if not wanted[d]:
            continue
        base = word_offsets[d]
        n_words = word_offsets[d + 1] - base
        w = hashes[base : base + n_words]
        e = ends[base : base + n_words + 1]
        left = n_words - 1  # candidates: positions whose n-gram may repeat, in places[:left]
        for p in range(n_words):
            grams[p] = w[p]
            places[p] = p
            seen[p] = 0
        for n in range(2, 11):
            if n_words < n:
                break
            best = 1
            best_place = 0
            if left > 0:
                bits = 3
                while (1 << bits) < 2 * left:
                    bits += 1
                for k in range(1 << bits):
                    table[k] = -1
                shift = np.uint64(64 - bits)
                mask = (1 << bits) - 1
                for c in range(left):
                    p = places[c]
                    gram = grams[p] * K2 + w[p + n - 1]
                    grams[p] = gram
                    slot = np.int64((gram * K0) >> shift)
                    while True:
                        q = table[slot]
                        if q < 0:
                            table[slot] = p
                            first[p] = p
                            times[p] = 1
                            break
                        if grams[q] == gram:
                            first[p] = q
                            times[q] += 1
                            break
                        slot = (slot + 1) & mask
                if n <= 4:
                    for c in range(left):
                        p = places[c]
                        if first[p] == p and times[p] > best:
                            best = times[p]
                            best_place = p
                else:
                    free = 0  # the first position after the last repetition
                    total = 0
                    for c in range(left):
                        p = places[c]
                        if p >= free:
                            q = first[p]
                            if seen[q] == n:
                                total += e[p + n] - e[p]
                                free = p + n
                            else:
                                seen[q] = n
                    out[d, n - 2] = total
                kept = 0
                for c in range(left - 1):
                    p = places[c]
                    follows = places[c + 1] == p + 1 and times[first[p]] > 1 and times[first[p + 1]] > 1
                    places[kept] = p
                    kept += follows
                left = kept
            if n <= 4:
                out[d, n - 2] = (e[best_place + n] - e[best_place] + n - 1) * best
