"""How well a classifier's scores put examples in order."""

from __future__ import annotations

from typing import ClassVar

from paredown.artifacts.examples import Examples
from paredown.artifacts.model import Model
from paredown.artifacts.scores import Scores
from paredown.core.context import context
from paredown.core.errors import DataError
from paredown.core.strategy import Count, Strategy


class Auc(Strategy):
    """Measure the area under the receiver operating curve: how often a row with a label gets a higher score for it than a row without.

    Of two labels it is that of label 1, of more the mean over labels, each against the rest. 0.5 is chance.

    Source: none (ours; the Mann-Whitney statistic with ties as halves).
    Costs: one forward pass over the examples.
    Control: measure.boosting (what a model for fixed columns reaches on the same rows)
    """

    tags: ClassVar[tuple[str, ...]] = ("when-after", "what-weights", "speedup-none", "needs-data")
    systems: ClassVar[tuple[int, ...]] = (40,)
    extras: ClassVar[tuple[str, ...]] = ("train",)
    metrics: ClassVar[tuple[str, ...]] = ("auc", "accuracy", "loss")

    batch: Count = 256  # examples of a forward pass; the scores do not depend on it but for rounding

    def __call__(self, model: Model, examples: Examples) -> Scores:
        """Rows `auc`, `accuracy` (share) and `loss` (nats an example).

        Raises:
            UserError: the model does not take such examples, or a label is none of its labels.
            DataError: there is nothing to measure on, a label is that of no row or of all, or a score is not finite.
        """
        from paredown.engines import classifiers, rankings, scoring
        from paredown.engines.table_rows import check_words

        if not examples.rows:
            raise DataError("there is no example to measure on", where=str(examples.path))
        module = scoring.load(model, "float32")
        check_words(module, model, examples)
        source = classifiers.LabelledRows(examples)
        shares, flops = classifiers.probabilities(module, source, self.batch)
        labels = source.column("label").astype("int64")
        context().charge(flops=flops, how="forward, counted", documents=len(labels))
        return Scores.write(context().output("scores"), rankings.scores(shares, labels, model.identity, flops))
