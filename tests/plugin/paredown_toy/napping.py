from __future__ import annotations

import time

from paredown.artifacts.corpus import Corpus
from paredown.core.context import context
from paredown.core.strategy import Positive, Strategy
from paredown_toy._times import noted


class Napping(Strategy):
    """Hand a corpus on after a nap.

    Source: none (ours).
    Costs: time.
    Control: toy.numbers
    """

    seconds: Positive = 0.2  # of the nap

    def __call__(self, corpus: Corpus) -> Corpus:
        with noted("napping"):
            time.sleep(self.seconds)
        return Corpus.from_texts(context().output("corpus"), [t for frame in corpus.frames() for t in frame["text"]])
