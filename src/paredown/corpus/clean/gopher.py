"""Quality and repetition rules for prose from the Gopher paper."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from pydantic import Field

from paredown.artifacts.corpus import Corpus, Filtered
from paredown.core.strategy import Strategy

if TYPE_CHECKING:
    import polars

Limit = Annotated[float, Field(ge=0)] | None
Number = Annotated[int, Field(ge=0)] | None


def gopher_rules(knobs: dict[str, Any]) -> dict[str, polars.Expr]:
    """Each rule that is switched on, in order, with the condition that a document falls by (columns of `kernels.named`)."""
    from polars import col

    def ratio(part: str, whole: str) -> polars.Expr:
        return (col(part) / col(whole)).fill_nan(None)  # nothing of nothing breaks no rule

    measured = {
        "min_words": col("solid_words"),
        "max_words": col("solid_words"),
        "min_word_length": ratio("solid_characters", "solid_words"),
        "max_word_length": ratio("solid_characters", "solid_words"),
        "max_hashes": ratio("hashes", "words"),
        "max_ellipses": ratio("ellipses", "words"),
        "max_bullet_lines": ratio("bullet_lines", "lines"),
        "max_ellipsis_lines": ratio("ellipsis_lines", "lines"),
        "min_alphabetic_words": ratio("alphabetic_words", "words"),
        "min_stop_words": col("stop_words"),
        "max_duplicate_paragraphs": ratio("duplicate_paragraphs", "paragraphs"),
        "max_duplicate_paragraph_characters": ratio("duplicate_paragraph_characters", "characters"),
        "max_duplicate_lines": ratio("duplicate_lines", "segments"),
        "max_duplicate_line_characters": ratio("duplicate_line_characters", "characters"),
    }
    for n in range(2, 11):
        grams = f"{'top' if n <= 4 else 'repeated'}_{n}_grams"
        measured[f"max_{grams}"] = ratio(grams, "characters")
    limits = {name: knobs[name] for name in measured if knobs[name] is not None}
    return {name: measured[name] < limit if name.startswith("min_") else measured[name] > limit for name, limit in limits.items()}


def gopher_reasons(texts: polars.Series, knobs: dict[str, Any]) -> polars.Series:
    """The first rule that each text breaks, null where it breaks none. `knobs` as in `Gopher().knobs()`."""
    import polars as pl

    from paredown.engines import kernels

    rules = gopher_rules(knobs)
    grams = {name: rule for name, rule in rules.items() if name.endswith("_grams")}

    def reason(frame: pl.DataFrame, some: dict[str, pl.Expr]) -> pl.Series:
        found = [pl.when(rule).then(pl.lit(name)) for name, rule in some.items()]
        return frame.select(reason=pl.coalesce(pl.lit(None, pl.String), *found) if found else pl.repeat(None, pl.len(), dtype=pl.String))[
            "reason"
        ]

    def passed(counts: Any, segments: Any) -> Any:  # n-grams cost most, so they are counted only where all else holds
        frame = kernels.named(counts, segments)
        return reason(frame, {name: rule for name, rule in rules.items() if name not in grams}).is_null().to_numpy()

    measured = kernels.measure(texts, segments=True, grams=passed if grams else False, stop_words=knobs["stop_words"])
    return reason(measured.frame(), rules)


def judge(frame: polars.DataFrame, knobs: dict[str, Any]) -> polars.Series:
    """`gopher_reasons` of a shard."""
    return gopher_reasons(frame["text"], knobs)


class Gopher(Strategy):
    """Keep documents that look like prose: enough words, few symbols, stop words, little repetition.

    Words are those of the expression `\\w+|[^\\w\\s]`; a word of punctuation only counts as a symbol. `null` switches a
    rule off. The reason of a rejected document is the name of the first knob that it breaks.
    Source: Rae et al. 2021, arXiv 2112.11446, section A1.1 and table A1.
    Costs: one pass over the text, about 20 ms a megabyte on one core.
    Control: none (compare arms with the step skipped)
    Not for: source code, where the share of alphabetic words alone rejects nearly every file; use corpus.clean.code there.
    """

    tags: ClassVar[tuple[str, ...]] = ("when-before", "what-data", "speedup-universal")

    min_words: Number = 50  # words that are more than symbols, at least
    max_words: Number = 100_000  # words that are more than symbols, at most
    min_word_length: Limit = 3.0  # mean characters a word, symbols left out, at least
    max_word_length: Limit = 10.0  # mean characters a word, symbols left out, at most
    max_hashes: Limit = 0.1  # signs # a word
    max_ellipses: Limit = 0.1  # ellipses (... or one sign) a word
    max_bullet_lines: Limit = 0.9  # share of lines that start with a bullet or a hyphen
    max_ellipsis_lines: Limit = 0.3  # share of lines that end with an ellipsis
    min_alphabetic_words: Limit = 0.8  # share of words with at least one letter
    min_stop_words: Number = 2  # different stop words, at least
    stop_words: tuple[str, ...] = ("the", "be", "to", "of", "and", "that", "have", "with")  # as written, case counts
    max_duplicate_lines: Limit = 0.3  # share of lines that came before in the document
    max_duplicate_paragraphs: Limit = 0.3  # share of paragraphs that came before
    max_duplicate_line_characters: Limit = 0.2  # share of characters in lines that came before
    max_duplicate_paragraph_characters: Limit = 0.2  # share of characters in paragraphs that came before
    max_top_2_grams: Limit = 0.2  # share of characters in the most frequent run of 2 words
    max_top_3_grams: Limit = 0.18  # the same for 3 words
    max_top_4_grams: Limit = 0.16  # the same for 4 words
    max_repeated_5_grams: Limit = 0.15  # share of characters in runs of 5 words that came before
    max_repeated_6_grams: Limit = 0.14  # the same for 6 words
    max_repeated_7_grams: Limit = 0.13  # the same for 7 words
    max_repeated_8_grams: Limit = 0.12  # the same for 8 words
    max_repeated_9_grams: Limit = 0.11  # the same for 9 words
    max_repeated_10_grams: Limit = 0.10  # the same for 10 words
    keep_rejected: bool = False  # also write what was rejected, with the reason

    def __call__(self, corpus: Corpus) -> Filtered:
        from paredown.engines.documents import filter_documents

        return filter_documents(corpus, judge, self.knobs(), keep_rejected=self.keep_rejected)
