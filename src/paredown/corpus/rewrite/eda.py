"""Cheap copies of documents: words left out at random, and others replaced by synonyms."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, ClassVar

from pydantic import field_validator

from paredown.artifacts.corpus import Corpus
from paredown.core.context import context
from paredown.core.strategy import Share, Strategy

if TYPE_CHECKING:
    import numpy
    import polars

WORD = re.compile(r"[^\W\d_]+")


def augmented(text: str, synonyms: Mapping[str, Sequence[str]], replace: float, delete: float, generator: numpy.random.Generator) -> str:
    """The text without a share of its words, and with synonyms for a share of those others that have any; the rest as it stands."""
    drawn = iter(generator.random((sum(1 for _ in WORD.finditer(text)), 3)).tolist())

    def changed(match: re.Match[str]) -> str:
        gone, other, which = next(drawn)
        word = match[0]
        if gone < delete:
            return ""
        choices = synonyms.get(word.lower(), ()) if other < replace else ()
        if not choices:
            return word
        found = choices[int(which * len(choices))]
        return found.capitalize() if word[0].isupper() else found

    return re.sub(r" {2,}", " ", WORD.sub(changed, text))


class Eda(Strategy):
    """Copy every document with words left out at random and others replaced by synonyms, as the cheap control of rephrasing.

    Which words are synonyms is a knob: without any, words are left out only.

    Source: Wei and Zou 2019, arXiv 1901.11196, section 2 (random deletion, synonym replacement); a control in Maini et al. 2024, arXiv 2401.16380.
    Costs: one pass over the text.
    Control: none (it is a control; compare with the corpus read twice)
    Not for: languages that put no space between words, or write vowels as signs of their own: a word is a run of letters here.
    """

    tags: ClassVar[tuple[str, ...]] = ("when-before", "what-data", "speedup-universal")
    systems: ClassVar[tuple[int, ...]] = (28,)
    seeded: ClassVar[bool] = True

    synonyms: dict[str, tuple[str, ...]] = {}  # a word in small letters to those that may stand for it
    replace: Share = 0.15  # share of the words that have synonyms which one replaces
    delete: Share = 0.15  # share of the words that are left out

    @field_validator("synonyms")
    @classmethod
    def _are_met(cls, value: dict[str, tuple[str, ...]]) -> dict[str, tuple[str, ...]]:
        never = next((word for word in value if word != word.lower() or not WORD.fullmatch(word)), None)
        if never is not None:
            raise ValueError(f"{never!r} would never be met: it must be one word in small letters")
        return value

    def __call__(self, corpus: Corpus) -> Corpus:
        """Columns `id`, `text`, and `source`, the id of the document that each is from. One that would be left empty is left out."""
        here = context()
        here.charge(documents=corpus.documents)
        return Corpus.write(here.output("corpus"), self._frames(corpus, here.generator("eda")))

    def _frames(self, corpus: Corpus, generator: numpy.random.Generator) -> Iterator[polars.DataFrame]:
        import polars as pl

        done = 0
        for frame in corpus.frames(["id", "text"]):
            texts = [augmented(text, self.synonyms, self.replace, self.delete, generator) for text in frame["text"]]
            made = frame.select(
                pl.format("{}#eda", "id").alias("id"), pl.Series("text", texts, dtype=pl.String), pl.col("id").alias("source")
            )
            kept = made.filter(pl.col("text").str.strip_chars() != "")
            done += frame.height
            if kept.height < frame.height:
                context().drop("nothing left", frame.height - kept.height)
            context().progress(done, corpus.documents, "documents")
            yield kept
