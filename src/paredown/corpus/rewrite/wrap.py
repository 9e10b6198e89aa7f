"""The same facts in cleaner words: passages rephrased in given styles."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, Self

from pydantic import Field, model_validator

from paredown.artifacts.corpus import Corpus
from paredown.artifacts.examples import Examples
from paredown.artifacts.model import Model
from paredown.core.artifact import Bundle
from paredown.core.context import context
from paredown.core.errors import DataError
from paredown.core.strategy import Count, Positive, Strategy
from paredown.engines.parts import Answerer

if TYPE_CHECKING:
    from paredown.engines.generator import Answer

Style = Literal["easy", "medium", "hard", "qa"]
PROMPTS: dict[str, str] = {
    "easy": "Rephrase the following text with very common words and very short sentences, so that a small child understands it.",
    "medium": "Rephrase the following text in clear and varied English of high quality, as an encyclopedia would have it.",
    "hard": "Rephrase the following text tersely, in rare and scholarly words, for an erudite reader.",
    "qa": 'Turn the following text into several questions and answers about what it says, each as "Question:" and "Answer:" on lines of their own.',
}
AHEAD = re.compile(  # what models say before the text that they were asked for
    r"\A\s*(?:(?:sure|certainly|of course|okay|ok)\b[^\n]{0,80}?[:!.]\s*)?"
    r"(?:(?:here(?:'s| is| are)|below is|this is)\b[^\n:]{0,120}:|(?:paraphrase|rephrased text|rewritten text|answer)\s*:)?\s*",
    re.IGNORECASE,
)
BEHIND = re.compile(r"\s*(?:\n+\s*(?:let me know|i hope this|feel free|is there anything)\b[^\n]*)\s*\Z", re.IGNORECASE)


@dataclass(frozen=True)
class Rewritten(Bundle):
    """The rewritten documents, and a row for every passage and style: where it is from, and why it was dropped."""

    documents: Corpus
    passages: Examples


def bare(text: str, style: str) -> str:
    """An answer without what the model says about it."""
    if style == "qa" and text.lstrip().lower().startswith(("question:", "answer:")):
        return BEHIND.sub("", text).strip()
    return BEHIND.sub("", AHEAD.sub("", text, count=1)).strip()


def reason(source: str, made: str, shortest: float, longest: float) -> str | None:
    """Why a rewritten passage is not kept: it is empty, the source itself, or of a length that loses or invents; None where it is kept."""
    if not made:
        return "empty"
    if " ".join(made.split()) == " ".join(source.split()):
        return "unchanged"
    ratio = len(made.split()) / max(1, len(source.split()))
    return "too short" if ratio < shortest else "too long" if ratio > longest else None


class Wrap(Strategy):
    """Rephrase every passage of a corpus in given styles, for a training that mixes them with what they are from.

    Documents are cut into passages at paragraphs and sentences; each is asked for once in each style. What the model says about its answer is
    cut away; empty, unchanged, too short and too long answers are dropped with their reason. The passages of a document and style
    become one document, which names its source.

    Source: Maini et al. 2024, arXiv 2401.16380, section 3 (styles and prompts in substance), appendix (300 tokens a passage).
    Costs: writing about as many tokens as are read, for each style, at two FLOPs a weight of what writes.
    Control: none (the corpus itself, repeated, or more of it)
    Not for: code and very short passages; a chat model answers them instead of rephrasing. Languages that put no space between words: words
        are what spaces divide, so lower least_words there.
    """

    tags: ClassVar[tuple[str, ...]] = ("when-before", "what-data", "speedup-universal")
    systems: ClassVar[tuple[int, ...]] = (28,)
    seeded: ClassVar[bool] = True

    styles: Annotated[tuple[Style, ...], Field(min_length=1)] = ("medium",)  # each gives a document of its own
    most_words: Count = 225  # of a passage, about 300 tokens; longer ones lose what they say
    least_words: Count = 5  # of a passage; smaller ones are left out
    shortest: Positive = 0.3  # words of an answer over those of its passage, at least
    longest: Positive = 3.0  # and at most
    temperature: Annotated[float, Field(ge=0)] = 0.7  # of the answers; each is drawn once
    max_tokens: Count = 600  # of an answer

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        if self.shortest >= self.longest:
            raise ValueError(f"shortest ({self.shortest}) must be below longest ({self.longest})")
        if len(set(self.styles)) < len(self.styles):
            raise ValueError("a style stands twice: its document would say everything twice")
        if self.least_words > self.most_words:
            raise ValueError(f"least_words ({self.least_words}) must be at most most_words ({self.most_words})")
        return self

    def __call__(self, corpus: Corpus, answerer: Model | Answerer) -> Rewritten:
        """
        Raises:
            DataError: the corpus holds no passage of enough words.
        """
        import polars as pl

        from paredown.engines.generator import Question, Sampling, opened
        from paredown.engines.passages import passages, words

        here = context()
        rows: list[dict[str, Any]] = []
        with opened(answerer) as generator:
            for frame in corpus.frames(["id", "text"]):
                asked = [
                    {"source": key, "passage": number, "style": style, "before": text.strip()}
                    for key, whole in frame.iter_rows()
                    for number, text in enumerate(passages(whole, self.most_words))
                    for style in self.styles
                    if words(text) >= self.least_words
                ]
                sampling = Sampling(self.max_tokens, self.temperature, seed=here.derived_seed("wrap") % 2**31)
                answers = generator.answer([Question((("user", f"{PROMPTS[r['style']]}\n\n{r['before']}"),)) for r in asked], sampling)
                rows += [self._judged(row, answer) for row, answer in zip(asked, answers, strict=True)]
        if not rows:
            raise DataError(f"no passage has {self.least_words} words", where=str(corpus.path))
        table = pl.DataFrame(rows, schema=SCHEMA)
        for why, count in table.drop_nulls("reason").group_by("reason").len().sort("reason").iter_rows():
            here.drop(why, count)
        kept = table.filter(pl.col("reason").is_null())
        joined = kept.group_by("source", "style", maintain_order=True).agg(pl.col("after").str.join("\n\n").alias("text"))
        documents = joined.select(pl.format("{}#{}", "source", "style").alias("id"), "text", "source", "style")
        here.charge(documents=corpus.documents)
        here.says = f"{kept.height:,} of {table.height:,} passages kept"
        return Rewritten(Corpus.write(here.output("documents"), [documents]), Examples.write(here.output("passages"), table))

    def _judged(self, row: dict[str, Any], answer: Answer) -> dict[str, Any]:
        after = bare(answer.text, row["style"])
        why = "cut off" if answer.finish == "length" else reason(row["before"], after, self.shortest, self.longest)
        return {**row, "after": after, "reason": why}


SCHEMA = {"source": str, "passage": int, "style": str, "before": str, "after": str, "reason": str}
