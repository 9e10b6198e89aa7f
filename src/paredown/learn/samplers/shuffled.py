"""Every row once an epoch."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from paredown.engines.parts import Draw, Rows, Sampler

if TYPE_CHECKING:
    import numpy


class Shuffled(Sampler):
    """Visit all rows in a new order each epoch.

    The order is a permutation computed by arithmetic, so that it takes no memory and any batch can be asked for.

    Source: none (the usual sampling without replacement); a Feistel network walked until it lands inside (Black and Rogaway 2002).
    Costs: some microseconds a batch; no memory.
    Control: none (it is the control of the other samplers).
    """

    tags: ClassVar[tuple[str, ...]] = ("when-during", "what-data", "speedup-none")

    def choose(self, rows: Rows, draw: Draw) -> numpy.ndarray[Any, Any]:
        from paredown.engines.orders import shuffled

        return shuffled(rows.rows, draw.seed, draw.index, draw.size)
