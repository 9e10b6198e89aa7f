"""Taking weights row by row, compiled, without the GIL."""

from __future__ import annotations

import numba
import numpy as np

from paredown.engines.compiled import OPTIONS

U = np.uintp  # indices that cannot be negative: without the test for it the inner loop becomes vector instructions, three times as fast
LANES = U(16)  # the widest vectors hold so many float32


@numba.njit(**OPTIONS, fastmath={"contract"})
def take(part, factor, mask, at, errors):  # type: ignore[no-untyped-def]
    """Take the masked weights of the columns from `at` on, and let all columns of `part` to the right make them good, in place.

    `part` and `errors` are (rows, width), `factor` (width, width) and upper triangular with zeros below, `mask` (rows, n).
    """
    width = U(part.shape[1])
    for r in range(U(part.shape[0])):
        for i in range(U(mask.shape[1])):
            if mask[r, i]:
                j = U(at) + i
                error = part[r, j] / factor[j, j]
                errors[r, j] = error
                # from a whole number of vectors on: left of j the factor is zero, so what stands there stays
                for k in range(j // LANES * LANES, width):
                    part[r, k] -= error * factor[j, k]
                part[r, j] = 0
