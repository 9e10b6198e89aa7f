"""How far apart two measurements are."""

from __future__ import annotations

import math
from typing import ClassVar

from paredown.artifacts.scores import Score, Scores
from paredown.core.context import context
from paredown.core.strategy import Strategy


class Difference(Strategy):
    """Compare one metric of two measurements: how far an estimate is from what it estimates, or a value from its noise floor.

    Source: none (ours).
    Costs: nothing.
    Control: none (a measurement)
    """

    tags: ClassVar[tuple[str, ...]] = ("when-after", "what-data", "speedup-none")
    systems: ClassVar[tuple[int, ...]] = (22,)
    metrics: ClassVar[tuple[str, ...]] = ("difference", "error", "ratio")

    metric: str  # which, of both

    def __call__(self, measured: Scores, known: Scores) -> Scores:
        """`difference` is measured minus known, `error` its size, and `ratio` measured over known, NaN where known is 0.

        Raises:
            DataError: one of them has no such metric.
        """
        ours, theirs = measured.value(self.metric), known.value(self.metric)
        row = next(row for row in measured.rows() if row.metric == self.metric)
        values = {
            "difference": (ours - theirs, row.unit, row.better),
            "error": (abs(ours - theirs), row.unit, "lower"),
            "ratio": (ours / theirs if theirs else math.nan, "times", row.better),
        }
        rows = [
            Score(subject=row.subject, metric=name, value=value, unit=unit, better=better, seed=row.seed)
            for name, (value, unit, better) in values.items()
        ]
        context().says = f"{ours:,.4g} against {theirs:,.4g}"
        return Scores.write(context().output("scores"), rows)
