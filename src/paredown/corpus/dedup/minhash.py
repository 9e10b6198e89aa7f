"""Near-duplicate documents by MinHash, each verified by its true Jaccard similarity."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import Field, model_validator

from paredown.artifacts.corpus import Corpus, Deduplicated
from paredown.artifacts.examples import Examples
from paredown.core.context import context
from paredown.core.strategy import Count, Strategy

if TYPE_CHECKING:
    import polars


def similar_pairs(texts: polars.Series, threshold: float, ngram: int = 5) -> list[tuple[int, int, float]]:
    """(earlier, later, Jaccard similarity) of the pairs of texts at or above the threshold that share a MinHash band."""
    import numpy as np

    from paredown.engines import kernels, kernels_minhash
    from paredown.engines.near_duplicates import Search, band_rows, pairs_of_rows

    pairs = pairs_of_rows(band_rows(texts, 0, Search(threshold, ngram)))
    sets, offsets = kernels.shingle_sets(texts, ngram)
    similarity = np.empty(len(pairs))
    kernels_minhash.jaccard(sets, offsets[:-1], offsets[1:], pairs[:, 0], pairs[:, 1], similarity)
    return [(int(a), int(b), float(s)) for (a, b), s in zip(pairs, similarity, strict=True) if s >= threshold]


class Minhash(Strategy):
    """Keep one of several documents that share most of their word shingles.

    Pairs that share a band of MinHash values are verified by the true Jaccard similarity of their shingle sets, and a
    document is dropped only if it is like one that is kept: a chain of look-alikes does not drag unlike documents along.
    A shingle is a run of words of the expression `\\w+|[^\\w\\s]`, case kept; a document without words is never dropped.
    Source: Broder 1997 (resemblance), Lee et al. 2021, arXiv 2107.06499, section 4.2 (bands for corpora).
    Costs: two passes over the text, about 12 ms a megabyte on one core; disk of twice the look-alikes' text while it runs.
    Control: corpus.dedup.exact
    """

    tags: ClassVar[tuple[str, ...]] = ("when-before", "what-data", "speedup-universal")

    threshold: Annotated[float, Field(gt=0, le=1)] = 0.8  # Jaccard similarity of shingle sets from which documents are duplicates
    ngram: Count = 5  # words a shingle
    bands: Count | None = None  # bands of MinHash values; null: as many as find 98% of pairs exactly at the threshold
    rows: Count | None = None  # MinHash values a band; together with bands
    keep: Literal["first", "longest"] = "first"  # which of several stays: the first in corpus order, or the one with most bytes
    keep_rejected: bool = False  # also write what was dropped, with duplicate_of, similarity and cluster
    warn_above: Annotated[float, Field(ge=0, le=1)] = 0.5  # a share of dropped documents that deserves a warning

    @model_validator(mode="after")
    def _bands_with_rows(self) -> Minhash:
        if (self.bands is None) != (self.rows is None):
            raise ValueError("give both bands and rows, or neither")
        return self

    def __call__(self, corpus: Corpus) -> Deduplicated:
        from paredown.engines.near_duplicate_choice import drop_near_duplicates
        from paredown.engines.near_duplicates import Search, near_duplicate_pairs

        here = context()
        search = Search(self.threshold, self.ngram, self.bands or 0, self.rows or 0)
        pairs = near_duplicate_pairs(corpus, self.threshold, ngram=self.ngram, bands=search.bands, rows=search.rows)
        done = drop_near_duplicates(corpus, pairs, self.keep, self.keep_rejected)
        total = corpus.documents
        share = (total - done.kept.documents) / total if total else 0.0
        facts: dict[str, Any] = {
            "bands": search.bands,
            "rows": search.rows,
            "recall_at_threshold": round(search.recall, 4),
            "candidate_pairs": pairs.candidates,
            "verified_pairs": len(pairs.left),
            "dropped_share": round(share, 6),
            "largest_clusters": done.largest,
        }
        if share > self.warn_above:
            facts["warning"] = f"{share:.1%} of the documents were dropped as near duplicates; look at the part `pairs` and the threshold"
        here.facts.update(facts)
        return Deduplicated(done.kept, done.rejected, Examples.write(here.output("pairs"), done.pairs))
