"""Batches whose rows are all of one group."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any, ClassVar

from paredown.engines.parts import Draw, Rows, Sampler

if TYPE_CHECKING:
    import numpy


def group_batch(members: list[numpy.ndarray[Any, Any]], seed: int, index: int, size: int) -> numpy.ndarray[Any, Any]:
    """Rows of batch `index` where `members` are the rows of each group.

    Each group is read in endless epochs of its own. In a round, every group gives as many batches as hold its rows, in random order.
    """
    import numpy as np

    from paredown.engines.orders import permuted, round_seed, shuffled

    counts = [-(-len(rows) // size) for rows in members]
    plan = np.repeat(np.arange(len(members)), counts)
    cycle, place = divmod(index, len(plan))
    order = plan[permuted(np.arange(len(plan)), len(plan), round_seed(seed, cycle))]
    group = int(order[place])
    turn = cycle * counts[group] + int((order[:place] == group).sum())
    rows = members[group]
    return rows[shuffled(len(rows), round_seed(f"{seed} of group", group), turn, min(size, len(rows)))]


@functools.lru_cache(maxsize=2)
def _members(rows: Any, by: str) -> list[numpy.ndarray[Any, Any]]:
    """The rows of each group."""
    import numpy as np

    groups = rows.column(by)
    return [np.flatnonzero(groups == group) for group in np.unique(groups)]


class Grouped(Sampler):
    """Draw each batch from one group of rows, such as one of several tables.

    Large groups come more often, in proportion to their rows. A group that is smaller than a batch gives all of its rows, and no more.

    Source: Wang and Sun 2022, arXiv 2205.09328 (the loop over tables in every epoch of the reference code).
    Costs: some microseconds a batch; eight bytes a row.
    Control: learn.samplers.shuffled
    """

    tags: ClassVar[tuple[str, ...]] = ("when-during", "what-data", "speedup-none")
    systems: ClassVar[tuple[int, ...]] = (40,)

    by: str = "table"  # column of whole numbers that says which group a row is of

    def choose(self, rows: Rows, draw: Draw) -> numpy.ndarray[Any, Any]:
        """
        Raises:
            UserError: the rows have no such column.
        """
        read: Any = rows
        return group_batch(_members(read, self.by), draw.seed, draw.index, draw.size)
