"""How often a classifier is right about examples that it has not seen."""

from __future__ import annotations

from typing import ClassVar

from paredown.artifacts.examples import Examples
from paredown.artifacts.model import Model
from paredown.artifacts.scores import Score, Scores
from paredown.core.context import context
from paredown.core.errors import DataError
from paredown.core.strategy import Count, Strategy


class Accuracy(Strategy):
    """Measure the share of examples whose label gets the highest score, and the loss on them.

    Source: none (ours; top-1 accuracy and cross-entropy).
    Costs: one forward pass over the examples.
    Control: none (a measurement)
    """

    tags: ClassVar[tuple[str, ...]] = ("when-after", "what-weights", "speedup-none", "needs-data")
    systems: ClassVar[tuple[int, ...]] = (41,)
    extras: ClassVar[tuple[str, ...]] = ("train",)
    metrics: ClassVar[tuple[str, ...]] = ("accuracy", "loss")

    batch: Count = 256  # examples of a forward pass; the scores do not depend on it but for rounding

    def __call__(self, model: Model, examples: Examples) -> Scores:
        """Rows `accuracy` (share) and `loss` (nats an example); items of both for every example, each of weight 1.

        Raises:
            UserError: the model does not take such examples, or a label is none of its labels.
            DataError: there is nothing to measure on, or the loss on an example is not finite.
        """
        import numpy as np
        import polars as pl

        from paredown.engines import classifiers, scoring

        if not examples.rows:
            raise DataError("there is no example to measure on", where=str(examples.path))
        source = classifiers.LabelledRows(examples)
        module = scoring.load(model, "float32")
        found = classifiers.judge(module, source, self.batch)
        context().charge(flops=found.flops, how="forward, counted", documents=source.rows)
        values = {"accuracy": (found.correct, "", "higher"), "loss": (found.nats, "nats/example", "lower")}
        cost = {"subject": model.identity, "n": source.rows, "flops": found.flops}
        scores = [
            Score.model_validate({"metric": name, "value": float(each.mean()), "unit": unit, "better": better, **cost})
            for name, (each, unit, better) in values.items()
        ]
        items = pl.concat(
            pl.DataFrame({"metric": [name] * source.rows, "item": np.arange(source.rows), "value": each, "weight": np.ones(source.rows)})
            for name, (each, _, _) in values.items()
        )
        return Scores.write(context().output("scores"), scores, items)
