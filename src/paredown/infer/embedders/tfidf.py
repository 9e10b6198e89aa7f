"""Vectors without a download: weighted words and letters, in fewer dimensions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from paredown.core.strategy import Count
from paredown.engines.parts import Embedder

if TYPE_CHECKING:
    import numpy

    from paredown.engines.embedder import Embedding


class Tfidf(Embedder):
    """Embed texts by their words, word pairs and letter trigrams, weighted by rarity and projected to a few hundred dimensions.

    It is fitted on the texts that are searched in, so a word that none of them holds counts for nothing.

    Source: Deerwester et al. 1990, Indexing by latent semantic analysis, section 3 (truncated singular value decomposition of weighted counts).
    Costs: some 2 MB of text a second; no model.
    Control: none (it is the control of the other embedders)
    """

    tags: ClassVar[tuple[str, ...]] = ("when-runtime", "what-data", "speedup-none")
    systems: ClassVar[tuple[int, ...]] = (89,)
    extras: ClassVar[tuple[str, ...]] = ("text", "search")

    dimensions: Count = 256  # at most; fewer where there are fewer texts or words

    def open(self, fitted_on: Sequence[str]) -> Embedding:
        return _Fitted(list(fitted_on), self.dimensions)


class _Fitted:
    identity = ""

    def __init__(self, texts: list[str], dimensions: int) -> None:
        from sklearn.decomposition import TruncatedSVD
        from sklearn.feature_extraction.text import TfidfVectorizer
        from sklearn.pipeline import FeatureUnion

        words = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True, token_pattern=r"(?u)\w+|[^\w\s]")
        letters = TfidfVectorizer(analyzer="char_wb", ngram_range=(3, 3), sublinear_tf=True)
        self.counts = FeatureUnion([("words", words), ("letters", letters)])
        counted = self.counts.fit_transform(texts if any(text.strip() for text in texts) else ["nothing"])
        most = min(dimensions, min(counted.shape) - 1)
        self.projection = TruncatedSVD(most, random_state=0).fit(counted) if most >= 2 else None

    def embed(self, texts: Sequence[str]) -> numpy.ndarray[Any, Any]:
        counted = self.counts.transform(texts)
        found: numpy.ndarray[Any, Any] = counted.toarray() if self.projection is None else self.projection.transform(counted)
        return found

    def close(self) -> None: ...
