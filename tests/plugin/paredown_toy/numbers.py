from __future__ import annotations

from typing import ClassVar

from paredown.artifacts.corpus import Corpus
from paredown.core.context import context
from paredown.core.strategy import Count, Strategy


class Numbers(Strategy):
    """Make a corpus of random numbers.

    Source: none (ours).
    Costs: nothing.
    Control: none (it is an input).
    """

    seeded = True
    tags: ClassVar[tuple[str, ...]] = ("when-before", "what-data")

    count: Count = 5  # documents
    upper: int = 1000  # largest number

    def __call__(self) -> Corpus:
        drawn = context().generator("numbers").integers(0, self.upper, self.count)
        return Corpus.from_texts(context().output("corpus"), [str(n) for n in drawn])
