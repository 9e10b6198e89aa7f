"""What gradient boosting reaches on a table."""

from __future__ import annotations

from typing import Annotated, ClassVar

from pydantic import Field

from paredown.artifacts.examples import Examples
from paredown.artifacts.scores import Scores
from paredown.core.context import context
from paredown.core.strategy import Count, Positive, Strategy


class Boosting(Strategy):
    """Fit gradient-boosted trees to tables and measure them on other rows: what a network for tables has to beat.

    Missing cells stay missing, also those of columns that a table lacks; categories are split as sets.

    Source: none (scikit-learn's HistGradientBoostingClassifier, after Ke et al. 2017, LightGBM).
    Costs: some milliseconds a tree; memory of the table.
    Control: measure.logistic
    """

    tags: ClassVar[tuple[str, ...]] = ("when-after", "what-data", "speedup-none", "needs-data")
    systems: ClassVar[tuple[int, ...]] = (40,)
    extras: ClassVar[tuple[str, ...]] = ("tables",)
    seeded: ClassVar[bool] = True
    metrics: ClassVar[tuple[str, ...]] = ("auc", "accuracy", "loss")

    trees: Count = 100  # boosting iterations
    learning_rate: Positive = 0.1  # weight of each tree
    leaves: Annotated[int, Field(ge=2)] = 31  # most leaves of a tree
    least: Count = 20  # rows that a leaf must hold

    def __call__(self, train: Examples, examples: Examples) -> Scores:
        """Rows `auc`, `accuracy` and `loss` on `examples`.

        Raises:
            UserError: a table is none, or a column is of another kind than in the rows to learn from.
            DataError: there is nothing to learn from or to measure on, or the rows have one label only.
        """
        from sklearn.ensemble import HistGradientBoostingClassifier

        from paredown.engines import table_controls

        made = HistGradientBoostingClassifier(
            max_iter=self.trees, learning_rate=self.learning_rate, max_leaf_nodes=self.leaves, min_samples_leaf=self.least,
            early_stopping=False, random_state=context().derived_seed("boosting") % 2**32,
        )  # fmt: skip
        return table_controls.measured(made, train, examples, categories="categorical_features")
