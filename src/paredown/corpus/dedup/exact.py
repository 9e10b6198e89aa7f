"""Drop documents whose text stood before."""

from __future__ import annotations

from typing import ClassVar, Literal

from paredown.artifacts.corpus import Corpus, Filtered
from paredown.core.strategy import Strategy


class Exact(Strategy):
    """Keep the first of documents with the same text.

    Source: none (ours); equal 128-bit hashes, found by a two-pass shuffle, count as equal text.
    Costs: two passes over the text, one to hash it and one to write what stays.
    Control: none (compare with the step skipped).
    Not for: near-duplicates; use corpus.dedup.minhash after it.
    """

    tags: ClassVar[tuple[str, ...]] = ("when-before", "what-data", "speedup-universal")

    normalize: Literal["none", "whitespace"] = "none"  # whitespace: runs of white space count as one space, ends are cut
    keep_rejected: bool = False  # keep what is dropped, with duplicate_of, as the part `rejected`

    def __call__(self, corpus: Corpus) -> Filtered:
        from paredown.engines.exact_duplicates import drop_duplicates

        return drop_duplicates(corpus, self.normalize, keep_rejected=self.keep_rejected)
