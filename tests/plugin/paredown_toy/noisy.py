from __future__ import annotations

from typing import ClassVar, Literal

from paredown.artifacts.corpus import Corpus
from paredown.artifacts.scores import Score, Scores
from paredown.core.context import context
from paredown.core.strategy import Strategy


class Noisy(Strategy):
    """Measure every number of a corpus with noise; the metric is their weighted mean.

    Source: none (ours).
    Costs: nothing.
    Control: none (a measurement)
    """

    seeded = True
    metrics: ClassVar[tuple[str, ...]] = ("loss",)

    shift: float = 0.0  # added to every value
    noise: float = 0.1  # standard deviation
    better: Literal["lower", "higher"] = "lower"  # which values are better
    moving: bool = False  # every seed has items of its own

    def __call__(self, corpus: Corpus) -> Scores:
        import numpy
        import polars

        here = context()
        numbers = numpy.array([float(t) for frame in corpus.frames() for t in frame["text"]])
        values = numbers / 1000 + self.shift + self.noise * here.generator("noise", self.shift).normal(size=len(numbers))
        weights = 1.0 + numpy.arange(len(numbers)) % 3
        names = [f"{here.seed if self.moving else 'item'}-{i}" for i in range(len(numbers))]
        items = polars.DataFrame({"metric": "loss", "item": names, "value": values, "weight": weights})
        mean = float((values * weights).sum() / weights.sum())
        row = Score(subject="corpus", metric="loss", value=mean, unit="nats", n=len(numbers), better=self.better)
        return Scores.write(here.output("scores"), [row], items)
