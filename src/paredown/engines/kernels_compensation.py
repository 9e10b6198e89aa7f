"""Taking weights row by row, compiled, without the GIL."""

from __future__ import annotations

import numba

from paredown.engines.compiled import OPTIONS

LANES = 16  # the widest vectors hold so many float32


@numba.njit(**OPTIONS, fastmath={"contract"})
def take(part, factor, mask, at, errors):  # type: ignore[no-untyped-def]
    """Take the masked weights of the columns from `at` on, and let all columns of `part` to the right make them good, in place.

    `part` and `errors` are (rows, width), `factor` (width, width) and upper triangular with zeros below, `mask` (rows, n).
    """
    rows, width = part.shape
    for r in range(rows):
        row = part[r]
        for j in range(at, at + mask.shape[1]):
            if mask[r, j - at]:
                line = factor[j]
                error = row[j] / line[j]
                errors[r, j] = error
                # from a whole number of vectors on: left of j the factor is zero, so what stands there stays
                for k in range(j // LANES * LANES, width):
                    row[k] -= error * line[k]
                row[j] = 0
