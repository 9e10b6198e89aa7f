"""Divide a corpus into what is trained on and what is measured on, without a leak."""

from __future__ import annotations

from typing import Annotated, ClassVar

from pydantic import Field

from paredown.artifacts.corpus import Corpus
from paredown.artifacts.corpus import Split as Halves
from paredown.core.context import context
from paredown.core.strategy import Strategy


class Split(Strategy):
    """Divide documents into a training and a held-out corpus; near-duplicates never fall on both sides.

    Documents that are near-duplicates of each other, directly or through others, form a group; whole groups are held
    out, drawn at random until the share of documents is reached. A pair exactly at the threshold is overlooked with a
    chance below one in a million, a more similar one with less.

    Source: none (ours).
    Costs: near-duplicate search over the corpus.
    Control: none (it decides what may be measured).
    """

    tags: ClassVar[tuple[str, ...]] = ("when-before", "what-data", "speedup-none")
    seeded: ClassVar[bool] = True

    held_out: Annotated[float, Field(gt=0, lt=1)] = 0.05  # share of the documents that is never trained on
    threshold: Annotated[float, Field(gt=0, le=1)] = 0.6  # Jaccard similarity of word 5-grams from which two documents count as one

    def __call__(self, corpus: Corpus) -> Halves:
        """
        Raises:
            DataError: there are too few unrelated documents for two sides.
        """
        from paredown.engines.splits import split_by_group

        return split_by_group(corpus, self.held_out, self.threshold, context().generator("held out"))
