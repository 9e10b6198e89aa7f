from __future__ import annotations

from paredown.artifacts.corpus import Corpus
from paredown.core.context import context
from paredown.core.strategy import Strategy
from paredown_toy.dictionary import Dictionary


class Known(Strategy):
    """Keep the documents that a dictionary knows.

    Source: none (ours).
    Costs: nothing.
    Control: toy.words
    """

    dictionaries: tuple[Dictionary, ...] = ()  # any of them may know a text

    def __call__(self, corpus: Corpus) -> Corpus:
        parts = [part for d in self.dictionaries for part in (d.words, d.more) if part is not None]
        known = {text for part in parts for frame in part.frames() for text in frame["text"]}
        return Corpus.from_texts(context().output("corpus"), [t for frame in corpus.frames() for t in frame["text"] if t in known])
