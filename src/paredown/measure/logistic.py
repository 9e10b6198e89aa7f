"""What logistic regression reaches on a table."""

from __future__ import annotations

from typing import ClassVar

from paredown.artifacts.examples import Examples
from paredown.artifacts.scores import Scores
from paredown.core.strategy import Positive, Strategy


class Logistic(Strategy):
    """Fit a logistic regression to tables and measure it on other rows: the least that a model for tables has to beat.

    Numbers are standardized and missing ones take the mean, categories become a 0 or 1 for each word.

    Source: none (scikit-learn's LogisticRegression).
    Costs: some passes over the rows.
    Control: none (it is the simplest control)
    """

    tags: ClassVar[tuple[str, ...]] = ("when-after", "what-data", "speedup-none", "needs-data")
    systems: ClassVar[tuple[int, ...]] = (40,)
    extras: ClassVar[tuple[str, ...]] = ("tables",)
    metrics: ClassVar[tuple[str, ...]] = ("auc", "accuracy", "loss")

    regularization: Positive = 1.0  # weight of the squared norm of the coefficients (1 / C)

    def __call__(self, train: Examples, examples: Examples) -> Scores:
        """Rows `auc`, `accuracy` and `loss` on `examples`.

        Raises:
            UserError: a table is none, or a column is of another kind than in the rows to learn from.
            DataError: there is nothing to learn from or to measure on, or the rows have one label only.
        """
        from sklearn.linear_model import LogisticRegression

        from paredown.engines import table_controls

        return table_controls.measured(LogisticRegression(C=1 / self.regularization, max_iter=1000), train, examples)
