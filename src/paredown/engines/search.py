"""Nearest neighbours among vectors, by exact search: up to about a million vectors nothing that approximates is faster and as right."""

from __future__ import annotations

from typing import Any

import faiss
import numpy as np

Array = np.ndarray[Any, Any]


def nearest(stored: Array, asked: Array, count: int) -> tuple[Array, Array]:
    """(places, similarities) of the `count` stored vectors with the largest inner product, for each asked one, most similar first.

    `stored` (N, F) and `asked` (Q, F) in float32; the result is (Q, min(count, N)). Equal ones come in the order in which they are stored.
    """
    count = min(count, len(stored))
    if not count or not len(asked):
        return np.empty((len(asked), count), dtype=np.int64), np.empty((len(asked), count), dtype=np.float32)
    index = faiss.IndexFlatIP(stored.shape[1])
    index.add(np.ascontiguousarray(stored, dtype=np.float32))
    similarities, places = index.search(np.ascontiguousarray(asked, dtype=np.float32), count)
    order = np.lexsort((places, -similarities), axis=1)
    return np.take_along_axis(places, order, 1), np.take_along_axis(similarities, order, 1)
