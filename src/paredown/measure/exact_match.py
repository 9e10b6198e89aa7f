"""How many questions a model answers in exactly the right words."""

from __future__ import annotations

import re
import string
from typing import Annotated, ClassVar

from pydantic import Field

from paredown.artifacts.examples import Examples
from paredown.artifacts.model import Model
from paredown.artifacts.scores import Score, Scores
from paredown.core.context import context
from paredown.core.errors import DataError, UserError
from paredown.core.strategy import Count, Strategy
from paredown.engines.parts import Answerer

ARTICLES = re.compile(r"\b(?:a|an|the)\b")
PUNCTUATION = str.maketrans("", "", string.punctuation)


def normalised(text: str) -> str:
    """Small letters, without punctuation, articles and more than one space: what SQuAD's evaluation compares.

    Where nothing would be left, as of an option called A, articles stay, and then punctuation; SQuAD's evaluation takes all such for equal.
    """
    small = text.lower()
    bare = small.translate(PUNCTUATION)
    found = (" ".join(kept.split()) for kept in (ARTICLES.sub(" ", bare), bare, small))
    return next(filter(None, found), "")


class ExactMatch(Strategy):
    """Measure the share of questions whose greedy answer is the right one, word for word.

    An answer is what is written up to the first of the `stop` texts; small letters, punctuation and articles make no difference
    beside other words.

    Source: Rajpurkar et al. 2016, arXiv 1606.05250, section 6.1 (exact match and its normalisation).
    Costs: one pass over the questions and one forward pass for each new token.
    Control: none (a measurement)
    """

    tags: ClassVar[tuple[str, ...]] = ("when-after", "what-tokens", "speedup-none", "needs-data")
    systems: ClassVar[tuple[int, ...]] = (28,)
    extras: ClassVar[tuple[str, ...]] = ("train",)
    metrics: ClassVar[tuple[str, ...]] = ("exact_match", "unfinished")

    question: str = "question"  # column of texts that the answer comes after, such as "Question: ...?\nAnswer:"
    answer: str = "answer"  # column of right answers
    stop: Annotated[tuple[str, ...], Field(min_length=1)] = ("\n",)  # texts before which an answer ends
    new_tokens: Count = 16  # most tokens of an answer
    items: Count = 10_000  # questions that are asked, at most, the first ones

    def __call__(self, answerer: Model | Answerer, examples: Examples) -> Scores:
        """Rows over the questions, and items: 1 where the answer is right, and where it was cut off at `new_tokens`; otherwise 0.

        Raises:
            UserError: a column is missing or holds no text.
            DataError: there is no question.
        """
        import polars as pl

        from paredown.engines.generator import Question, Sampling, opened

        here = context()
        frame = examples.frame().head(self.items)
        for name in (self.question, self.answer):
            if frame.schema.get(name) != pl.String:
                texts = ", ".join(column for column, kind in frame.schema.items() if kind == pl.String)
                raise UserError(f"the examples have no column of text named {name}", where=str(examples.path), todo=f"there is {texts}")
        frame = frame.drop_nulls([self.question, self.answer])
        if not frame.height:
            raise DataError("there is no question", where=str(examples.path))
        with opened(answerer) as generator:
            answers = generator.answer([Question(text) for text in frame[self.question]], Sampling(self.new_tokens, stop=self.stop))
            identity, cut_off = generator.identity, generator.cut
        right = [float(normalised(a.text) == normalised(gold)) for a, gold in zip(answers, frame[self.answer], strict=True)]
        cut = [float(answer.finish == "length") for answer in answers]
        count = frame.height
        rows = [
            Score(subject=identity, metric="exact_match", value=sum(right) / count, unit="share", n=count, better="higher"),
            Score(subject=identity, metric="unfinished", value=sum(cut) / count, unit="share", n=count, better="lower"),
        ]
        items = [
            {"metric": name, "item": place, "value": value, "weight": 1.0}
            for name, of in (("exact_match", right), ("unfinished", cut))
            for place, value in enumerate(of)
        ]
        here.says = f"{sum(right) / count:.1%} of {count:,} answers right{cut_off}"
        return Scores.write(here.output("scores"), rows, pl.DataFrame(items))
