from __future__ import annotations

import time

from paredown.artifacts.corpus import Corpus
from paredown.artifacts.scores import Score, Scores
from paredown.core.context import context
from paredown.core.strategy import Positive, Strategy
from paredown_toy._times import noted


class Timed(Strategy):
    """Measure how long a nap takes.

    Source: none (ours).
    Costs: time.
    Control: none (a measurement)
    """

    measures_time = True

    seconds: Positive = 0.2  # of the nap

    def __call__(self, corpus: Corpus) -> Scores:
        with noted("timed"):
            begin = time.perf_counter()
            time.sleep(self.seconds)
            took = time.perf_counter() - begin
        return Scores.write(context().output("scores"), [Score(subject="nap", metric="seconds", value=took, unit="s")])
