"""Documents that look like a target, by the ratio of two bags of n-grams."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import Field

from paredown.artifacts.corpus import Corpus
from paredown.core.context import context
from paredown.core.errors import DataError
from paredown.core.strategy import Count, Strategy

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy
    import polars

    Array = numpy.ndarray[Any, Any]


def log_ratios(counts: Any, target: Array, raw: Array) -> Array:
    """Log importance weight of each document: its counts (N, buckets; dense or sparse) times the log ratio of the two distributions (buckets,),
    each smoothed by one count a bucket."""
    import numpy

    of_target, of_raw = ((some + 1.0) / (some.sum() + len(some)) for some in (target, raw))
    found: Array = counts @ (numpy.log(of_target) - numpy.log(of_raw))
    return found


class Dsir(Strategy):
    """Draw documents with probabilities proportional to how much likelier they are under a target's n-grams than under the corpus's.

    Source: Xie et al. 2023, arXiv 2302.03169, section 3 (hashed 1- and 2-grams of words, Gumbel top-k).
    Costs: two passes over the text; memory of one number a document.
    Control: corpus.select.random
    """

    tags: ClassVar[tuple[str, ...]] = ("when-before", "what-data", "speedup-universal")
    systems: ClassVar[tuple[int, ...]] = (86,)
    extras: ClassVar[tuple[str, ...]] = ("text",)
    seeded: ClassVar[bool] = True

    keep: Annotated[float, Field(gt=0, le=1)] = 0.2  # share of the documents
    buckets: Count = 10_000  # that n-grams are hashed into
    units: Literal["words", "characters"] = "words"  # what n-grams are of

    def __call__(self, corpus: Corpus, target: Corpus) -> Corpus:
        """
        Raises:
            DataError: one of the two holds no text.
        """
        import numpy
        from sklearn.feature_extraction.text import HashingVectorizer

        from paredown.engines.regression import gumbel_top_k

        here = context()
        for given, name in ((corpus, "corpus"), (target, "target")):
            if not given.text_bytes:
                raise DataError(f"the {name} holds no text", where=str(given.path))
        counter = HashingVectorizer(
            n_features=self.buckets, analyzer="word" if self.units == "words" else "char", token_pattern=r"\w+|[^\w\s]",
            ngram_range=(1, 2), norm=None, alternate_sign=False,
        )  # fmt: skip
        totals = [
            sum(numpy.asarray(counter.transform(frame["text"].to_list()).sum(0))[0] for frame in given.frames(["id", "text"]))
            for given in (target, corpus)
        ]
        scores = numpy.concatenate([log_ratios(counter.transform(f["text"].to_list()), *totals) for f in corpus.frames(["id", "text"])])
        count = max(1, round(len(scores) * self.keep))
        kept = numpy.zeros(len(scores), dtype=bool)
        kept[gumbel_top_k(scores, count, here.generator("dsir"))] = True
        here.drop("unlike the target", int((~kept).sum()))
        here.charge(documents=len(scores))
        return Corpus.write(here.output("corpus"), _filtered(corpus, kept))


def _filtered(corpus: Corpus, kept: Array) -> Iterator[polars.DataFrame]:
    begin = 0
    for frame in corpus.frames():
        rows = kept[begin : begin + frame.height]
        begin += frame.height
        yield frame.filter(rows)
