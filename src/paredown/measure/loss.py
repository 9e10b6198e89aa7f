"""The loss of any objective on examples that were not learned from."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field

from paredown.artifacts.examples import Examples
from paredown.artifacts.model import Model
from paredown.artifacts.scores import Score, Scores
from paredown.core.catalog import build
from paredown.core.context import context
from paredown.core.errors import DataError
from paredown.core.strategy import Count, Strategy
from paredown.engines.parts import Objective


class Loss(Strategy):
    """Measure the mean loss of an objective on examples, batch by batch as a training would see them.

    Some objectives, such as those that compare rows with each other, depend on the batch: then only models measured with the same
    batch can be compared.

    Source: none (ours).
    Costs: one forward pass over the examples, as the objective makes it.
    Control: none (a measurement)
    """

    tags: ClassVar[tuple[str, ...]] = ("when-after", "what-weights", "speedup-none", "needs-data")
    systems: ClassVar[tuple[int, ...]] = (40,)
    extras: ClassVar[tuple[str, ...]] = ("train",)
    metrics: ClassVar[tuple[str, ...]] = ("loss",)

    objective: Objective = Field(default_factory=lambda: build("learn.objectives.classification"))  # what is measured
    batch: Count = 64  # rows of a batch

    def __call__(self, model: Model, examples: Examples) -> Scores:
        """The row `loss` (nats a row).

        Raises:
            UserError: the objective learns from other data, or the model does not take such rows.
            DataError: there is nothing to measure on, or the loss is not finite.
        """
        import math

        from paredown.engines import objective_losses, scoring
        from paredown.engines.table_rows import check_words

        if not examples.rows:
            raise DataError("there is no example to measure on", where=str(examples.path))
        module = scoring.load(model, "float32")
        check_words(module, model, examples)
        value, rows, flops = objective_losses.mean(module, self.objective, examples, self.batch)
        if not math.isfinite(value):
            raise DataError("the loss is no finite number", where=str(model.path), todo="look at the model's weights and at the rows")
        context().charge(flops=flops, how="forward, counted", documents=rows)
        row = Score(subject=model.identity, metric="loss", value=value, unit="nats/row", n=rows, better="lower", flops=flops)
        return Scores.write(context().output("scores"), [row])
