"""Some columns and some rows of a table."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field

from paredown.artifacts.examples import Examples
from paredown.core.context import context
from paredown.core.strategy import Count, Strategy


class Cells(Strategy):
    """Keep some columns and some rows of tables; how numbers are scaled stays as it was fitted.

    Source: none (ours).
    Costs: a copy of what is kept.
    Control: none (it decides what is read).
    """

    tags: ClassVar[tuple[str, ...]] = ("when-before", "what-data", "speedup-universal")
    systems: ClassVar[tuple[int, ...]] = (40,)

    columns: tuple[str, ...] = ("*",)  # names of columns, or patterns such as "early *"; they keep their order
    most: Annotated[int, Field(ge=0)] = 0  # first columns of those to keep; 0 keeps all
    of: Literal["each", "every"] = "each"  # columns of each table, or only those that every table has
    first: Annotated[int, Field(ge=0)] = 0  # number of the first row to keep
    rows: Count | None = None  # rows to keep from there on; all where not given

    def estimate(self, inputs: dict[str, Any]) -> dict[str, float]:
        from paredown.engines import estimates

        return {"rows": float(self.rows)} if self.rows else estimates.rows(inputs.get("examples"))

    def __call__(self, examples: Examples) -> Examples:
        """
        Raises:
            UserError: no column is kept, a name is none, or there are not so many rows.
        """
        from paredown.engines import table_edits

        kept = table_edits.kept_columns(examples, self.columns, self.most, shared=self.of == "every")
        return table_edits.selected(examples, kept, self.first, self.rows, context().output("examples"))
