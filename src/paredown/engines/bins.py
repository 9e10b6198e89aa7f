"""Texts of different lengths as rows of one width, and rows as forward passes. Pure arithmetic; imports no torch.

Legend: n texts of lengths l, rows of capacity m, k rows. A row is a list of text numbers, a pass a list of rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np

Array = np.ndarray[Any, Any]
Row = list[int]
Pass = list[Row]
Method = Literal["best_fit", "exact"]
NODES = 2000  # nodes of the search tree after which the integer programme gives the best packing so far; a count, so that it is the same every time


def fullest_first(sizes: Sequence[int], capacity: int) -> list[Row]:
    """Best fit, largest first: each text goes to the fullest row that has room; at most 11/9 of the least number of rows plus one.

    Johnson 1973, "Near-optimal bin packing algorithms". A text longer than the capacity has a row of its own.
    """
    from paredown.engines.batches import best_fit

    lengths = np.asarray(sizes, dtype=np.int64)
    order = np.argsort(-lengths, kind="stable")
    long = order[lengths[order] > capacity]
    fitting = order[lengths[order] <= capacity]
    found: dict[int, Row] = {}
    for text, row in zip(fitting.tolist(), best_fit(lengths[fitting], int(capacity)).tolist(), strict=True):
        found.setdefault(row, []).append(text)
    return [[int(text)] for text in long] + [found[row] for row in sorted(found)]


def fewest(sizes: Sequence[int], capacity: int, nodes: int = NODES) -> list[Row]:
    """The least number of rows, by integer programme: x[i, j] = 1 where text i is in row j, y[j] = 1 where row j is used.

    Where the search reaches `nodes` first, the better of what it found and of `fullest_first`.
    """
    from scipy.optimize import Bounds, LinearConstraint, milp
    from scipy.sparse import coo_array

    greedy = fullest_first(sizes, capacity)
    fitting = [i for i, size in enumerate(sizes) if size <= capacity]
    long = len(sizes) - len(fitting)
    most = len(greedy) - long
    least = -(-sum(sizes[i] for i in fitting) // max(1, capacity))
    if most <= max(1, least):
        return greedy
    order = sorted(fitting, key=lambda i: (-sizes[i], i))
    n = len(order)
    x = np.arange(n * most).reshape(n, most)
    y = n * most + np.arange(most)
    rows, columns, values = [], [], []
    for i in range(n):  # every text in one row
        rows += [i] * most
        columns += x[i].tolist()
        values += [1] * most
    for j in range(most):  # no row over its capacity
        rows += [n + j] * (n + 1)
        columns += [*x[:, j].tolist(), int(y[j])]
        values += [*(int(sizes[i]) for i in order), -int(capacity)]
    for j in range(most - 1):  # rows are alike: those that are used come first
        rows += [n + most + j] * 2
        columns += [int(y[j]), int(y[j + 1])]
        values += [1, -1]
    matrix = coo_array((values, (rows, columns)), shape=(n + 2 * most - 1, n * most + most)).tocsr()
    low = np.concatenate([np.ones(n), np.full(most, -np.inf), np.zeros(most - 1)])
    high = np.concatenate([np.ones(n), np.zeros(most), np.ones(most - 1)])
    upper = np.ones(n * most + most)
    for i in range(min(n, most)):  # and the i-th longest text is in one of the first i + 1
        upper[x[i, i + 1 :]] = 0
    cost = np.concatenate([np.zeros(n * most), np.ones(most)])
    found = milp(
        cost, constraints=LinearConstraint(matrix, low, high), integrality=1, bounds=Bounds(0, upper), options={"node_limit": nodes}
    )
    if found.x is None or round(float(found.x[y].sum())) >= most:
        return greedy
    inside = found.x[: n * most].reshape(n, most).argmax(axis=1)
    packed = [[order[i] for i in np.flatnonzero(inside == j)] for j in range(most)]
    return greedy[:long] + [row for row in packed if row]


def prepacked(
    sizes: Sequence[int],
    tokens: int,
    *,
    capacity: int | None = None,
    method: Method = "best_fit",
    gain: float = 1.1,
    spare: int = 0,
) -> list[Pass]:
    """Passes of rows that hold several texts, at most `tokens` slots each (but at least one row).

    Rows hold `capacity` tokens, by default as many as the longest text. Where that makes fewer than n / `gain` rows there is
    nothing to win: every text then has a row of its own, as in `by_length`. `spare` slots are lost with every text (the
    published rule packs by l, though it stores l - 1 tokens).
    """
    if not len(sizes):
        return []
    slots = [size + spare for size in sizes]
    width = max(capacity or 0, max(sizes)) + spare
    rows = (fewest if method == "exact" else fullest_first)(slots, width)
    if len(sizes) < gain * len(rows):
        return by_length(sizes, tokens)
    used = [sum(sizes[text] for text in row) for row in rows]
    return _filled(rows, used, tokens)


def by_length(sizes: Sequence[int], tokens: int) -> list[Pass]:
    """Passes of texts of like length, the longest first, one a row, at most `tokens` slots each (but at least one row)."""
    order = np.argsort(-np.asarray(sizes, dtype=np.int64), kind="stable")
    return _filled([[int(text)] for text in order], [int(sizes[text]) for text in order], tokens)


def _filled(rows: list[Row], used: list[int], tokens: int) -> list[Pass]:
    """Rows, widest first, in passes of at most `tokens` slots, each row as wide as the widest of its pass."""
    order = sorted(range(len(rows)), key=lambda row: -used[row])
    passes: list[Pass] = []
    at = 0
    while at < len(order):
        count = max(1, tokens // max(1, used[order[at]]))
        passes.append([rows[row] for row in order[at : at + count]])
        at += count
    return passes


def slots(passes: Sequence[Pass], sizes: Sequence[int]) -> int:
    """Tokens that the passes compute where every row is padded to the widest of its pass."""
    return sum(len(each) * max(sum(sizes[text] for text in row) for row in each) for each in passes)
