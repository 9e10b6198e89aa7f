from __future__ import annotations

from paredown.artifacts.corpus import Corpus
from paredown.core.context import context
from paredown.core.strategy import Strategy


class Trained(Strategy):
    """Hand a corpus on and say what a training would have spent.

    Source: none (ours).
    Costs: what it says.
    Control: toy.numbers
    """

    tokens: float | None = None  # learned from
    steps: float | None = None  # of the optimizer
    labels: float | None = None  # asked for
    flops: float = 0.0  # computed

    def __call__(self, corpus: Corpus) -> Corpus:
        here = context()
        spent = {name: getattr(self, name) for name in ("tokens", "steps") if getattr(self, name) is not None}
        if spent:
            here.facts["training"] = spent
        if self.labels is not None:
            here.facts["labels"] = self.labels
        here.charge(flops=self.flops, how="given")
        return Corpus.from_texts(here.output("corpus"), [t for frame in corpus.frames() for t in frame["text"]])
