"""Tables as rows of a fixed count of numbers."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

from paredown.artifacts.example_split import ExampleSplit
from paredown.artifacts.examples import Examples
from paredown.core.context import context
from paredown.core.strategy import Strategy


class Features(Strategy):
    """Turn tables into a fixed count of numbers a row, for a perceptron and other models that need it.

    Numbers are standardized by the mean and deviation of the rows to learn from, flags are 0 and 1, and each word of a category seen there
    becomes a 0 or 1. Missing cells become 0, which of a number is the mean; so do words that were not seen.

    Source: none (ours; the fixed input that Wang and Sun 2022, arXiv 2205.09328, compare with).
    Costs: memory of all numbers.
    Control: corpus.tokenize.words (reads any columns)
    """

    tags: ClassVar[tuple[str, ...]] = ("when-before", "what-data", "speedup-none")
    systems: ClassVar[tuple[int, ...]] = (40,)

    columns: Literal["shared", "all"] = "shared"  # those that every table has, or those of any table

    def estimate(self, inputs: dict[str, Any]) -> dict[str, float]:
        from paredown.engines import estimates

        return estimates.rows(inputs.get("examples"))

    def __call__(self, examples: Examples, held_out: Examples | None = None) -> ExampleSplit:
        """Columns `features` and `label`; the step's facts say how many features there are (the perceptron's `inputs`).

        Raises:
            UserError: the examples are no table, or the tables share no column.
            DataError: there is no row.
        """
        import polars as pl

        from paredown.engines import table_matrices

        here = context()
        found = table_matrices.layout(examples, shared=self.columns == "shared")
        made = {}
        for part, data in (("train", examples), ("held_out", held_out)):
            if data is not None:
                values = table_matrices.features(found, data)
                rows = [pl.Series("features", values, dtype=pl.Array(pl.Float32, found.width)), data.frame()["label"]]
                made[part] = Examples.write(here.output(part), pl.DataFrame(rows))
        here.facts["features"] = found.width
        here.charge(documents=examples.rows)
        return ExampleSplit(**made)
