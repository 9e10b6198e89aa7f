from __future__ import annotations

from paredown.artifacts.corpus import Corpus
from paredown.core.context import context
from paredown.core.strategy import Strategy


class Words(Strategy):
    """Make a corpus of given words, without chance.

    Source: none (ours).
    Costs: nothing.
    Control: none (it is an input).
    """

    words: tuple[str, ...] = ("one", "three", "seven")  # a document each

    def __call__(self) -> Corpus:
        return Corpus.from_texts(context().output("corpus"), list(self.words))
