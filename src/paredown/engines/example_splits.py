"""What is held out of labelled examples: fixed by a hash of what each row shows, whatever the seed and the order of the rows."""

from __future__ import annotations

from typing import Any

import numpy as np
import polars as pl

Array = np.ndarray[Any, Any]


def held_out(marks: Array, labels: Array, share: float) -> pl.Series:
    """Which rows are held out: of each label the `share`, to the nearest whole number, in the order of the rows' `marks` (bytes).

    Rows with the same mark never fall on both sides.
    """
    taken: set[bytes] = set()
    for label in np.unique(labels):
        here = marks[labels == label]
        taken |= set(np.sort(here)[: int(share * len(here) + 0.5)].tolist())
    return pl.Series(np.array([value in taken for value in marks.tolist()], dtype=bool))
