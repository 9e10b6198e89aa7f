from __future__ import annotations

import math
from typing import Literal

from paredown.artifacts.corpus import Corpus
from paredown.artifacts.scores import Score, Scores
from paredown.core.context import context
from paredown.core.strategy import Strategy


class Given(Strategy):
    """Measure what was given for each seed.

    Source: none (ours).
    Costs: nothing.
    Control: none (a measurement)
    """

    seeded = True

    values: tuple[float, ...] = (1.0,)  # of seed 0, 1, ...; from the beginning again where there are more seeds
    metric: str = "loss"  # its name
    unit: str = ""  # its unit
    better: Literal["lower", "higher", "none"] = "lower"  # which values are better
    nan_at: int = -1  # seed at which the value is no number
    missing_at: int = -1  # seed at which another metric is written in its place

    def __call__(self, corpus: Corpus) -> Scores:
        here = context()
        assert here.seed is not None
        value = math.nan if here.seed == self.nan_at else self.values[here.seed % len(self.values)]
        metric = "other" if here.seed == self.missing_at else self.metric
        row = Score(subject="given", metric=metric, value=value, unit=self.unit, better=self.better, seed=here.seed)
        return Scores.write(here.output("scores"), [row])
