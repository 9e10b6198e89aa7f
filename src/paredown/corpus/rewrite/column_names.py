"""A control: the names of columns shuffled."""

from __future__ import annotations

from typing import Any, ClassVar

from paredown.artifacts.examples import Examples
from paredown.core.context import context
from paredown.core.strategy import Strategy


class ColumnNames(Strategy):
    """Shuffle the names of a table's columns among those of the same kind, so that no name says any more what its column holds.

    What a model gains from column names is gone then, and nothing else: cells, scales and labels stay. No name stays where it was if
    there are two or more of a kind.

    Source: none (ours; a control for Wang and Sun 2022, arXiv 2205.09328).
    Costs: a copy of the table.
    Control: none (it is a control)
    """

    tags: ClassVar[tuple[str, ...]] = ("when-before", "what-data", "speedup-none")
    systems: ClassVar[tuple[int, ...]] = (40,)
    seeded: ClassVar[bool] = True

    def estimate(self, inputs: dict[str, Any]) -> dict[str, float]:
        from paredown.engines import estimates

        return estimates.rows(inputs.get("examples"))

    def __call__(self, examples: Examples) -> Examples:
        """
        Raises:
            UserError: the examples are no table.
        """
        from paredown.engines import table_edits

        return table_edits.renamed(examples, context().generator("names"), context().output("examples"))
