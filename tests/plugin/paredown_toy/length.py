from __future__ import annotations

from paredown.artifacts.corpus import Corpus
from paredown.artifacts.scores import Score, Scores
from paredown.core.context import context
from paredown.core.strategy import Strategy


class Length(Strategy):
    """Measure the mean length of texts.

    Source: none (ours).
    Costs: nothing.
    Control: none (a measurement)
    """

    unit: str = "characters"  # in which it is said

    def __call__(self, corpus: Corpus) -> Scores:
        lengths = [len(t) for frame in corpus.frames() for t in frame["text"]]
        mean = sum(lengths) / max(1, len(lengths))
        return Scores.write(
            context().output("scores"), [Score(subject="corpus", metric="length", value=mean, unit=self.unit, n=len(lengths))]
        )
