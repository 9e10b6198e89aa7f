from __future__ import annotations

from paredown.artifacts.corpus import Corpus, Split
from paredown.core.context import context
from paredown.core.strategy import Strategy


class Halves(Strategy):
    """Cut a corpus into two.

    Source: none (ours).
    Costs: nothing.
    Control: toy.numbers
    """

    def __call__(self, corpus: Corpus) -> Split:
        texts = [t for frame in corpus.frames() for t in frame["text"]]
        middle = len(texts) // 2
        return Split(
            Corpus.from_texts(context().output("train"), texts[:middle]), Corpus.from_texts(context().output("held_out"), texts[middle:])
        )
