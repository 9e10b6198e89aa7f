from __future__ import annotations

import os
from pathlib import Path

from paredown.artifacts.corpus import Corpus
from paredown.core.context import context
from paredown.core.strategy import Strategy
from paredown_toy._helper import twice


class Double(Strategy):
    """Write every text twice.

    Source: none (ours).
    Costs: nothing.
    Control: toy.numbers
    """

    mark: str = "+"  # stands between the two

    def __call__(self, corpus: Corpus) -> Corpus:
        if "TOY_COUNTER" in os.environ:  # lets a test count how often the work was really done
            with Path(os.environ["TOY_COUNTER"]).open("a") as stream:
                stream.write(f"{self.mark}\n")
        texts = [twice(t, self.mark) for frame in corpus.frames() for t in frame["text"]]
        return Corpus.from_texts(context().output("corpus"), texts)
