"""Several tables as one set of examples."""

from __future__ import annotations

from typing import Any, ClassVar

from paredown.artifacts.examples import Examples
from paredown.core.context import context
from paredown.core.strategy import Strategy


class Tables(Strategy):
    """Put several tables one after another, whatever columns each has; the number `table` says which one a row is of.

    A row has the cells of its own table only. Columns of one name must hold the same kind of thing in all tables; each table keeps its own scales.

    Source: Wang and Sun 2022, arXiv 2205.09328, section 2.1 (learning from several tables, and from one that grows columns).
    Costs: a copy of the tables.
    Control: corpus.select.cells with `of: every` (only what all tables have), or the largest table alone
    """

    tags: ClassVar[tuple[str, ...]] = ("when-before", "what-data", "speedup-none")
    systems: ClassVar[tuple[int, ...]] = (40,)

    def estimate(self, inputs: dict[str, Any]) -> dict[str, float]:
        from paredown.engines import estimates

        return estimates.rows(inputs.get("tables"))

    def __call__(self, tables: tuple[Examples, ...]) -> Examples:
        """
        Raises:
            UserError: one is no table, a column is of two kinds, or tables were cut into different words.
        """
        from paredown.engines import table_edits

        return table_edits.stacked(tables, context().output("examples"))
