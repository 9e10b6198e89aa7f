"""How many questions with options are answered rightly, and what that takes."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field

from paredown.artifacts.examples import Examples
from paredown.artifacts.model import Model
from paredown.artifacts.scores import Score, Scores
from paredown.core.catalog import build
from paredown.core.context import context
from paredown.core.strategy import Count, Strategy
from paredown.engines.parts import Answerer, Prompting


class Choices(Strategy):
    """Measure the accuracy of a way of prompting on questions with options, with the tokens and the money that a question takes.

    An answer that cannot be read counts as wrong. Solved questions to show come from `known` alone, and none that holds the question
    that is asked is shown.

    Source: Nori et al. 2024, arXiv 2411.03590, section 3 (accuracy against cost).
    Costs: what the way of prompting takes.
    Control: none (a measurement)
    """

    tags: ClassVar[tuple[str, ...]] = ("when-after", "what-tokens", "speedup-none", "needs-data")
    systems: ClassVar[tuple[int, ...]] = (89,)
    seeded: ClassVar[bool] = True
    metrics: ClassVar[tuple[str, ...]] = ("accuracy", "unread", "prompt_tokens", "completion_tokens", "money")

    prompting: Prompting = Field(default_factory=lambda: build({"use": "infer.prompting.few_shot", "examples": 0}))  # how it is asked
    question: str = "question"  # column of the questions
    options: str | tuple[str, ...] = "options"  # column of lists of options, or the options of all questions
    answer: str = "answer"  # column of the right option's text
    items: Count = 1000  # questions that are asked, at most, the first ones

    def __call__(self, answerer: Model | Answerer, examples: Examples, known: Examples | None = None) -> Scores:
        """Rows over the questions; items: the questions, 1 or 0 of `accuracy` and `unread`, what each took of the others. Chains of thought
        that were written beforehand count for all questions alike; money without prices is 0 and `unpriced`.

        Raises:
            UserError: a column is missing, or there are fewer known questions than are to be shown.
            DataError: an answer is none of its options.
        """
        import polars as pl

        from paredown.engines import choosing
        from paredown.engines.generator import opened

        here = context()
        asked = choosing.items(examples, self.question, self.options, self.answer, "asked ")[: self.items]
        solved = choosing.items(known, self.question, self.options, self.answer, "known ") if known else []
        with opened(answerer) as generator:
            meter = choosing.Meter(generator, asked)
            chooser = self.prompting.open(solved, meter.ask, here.generator("prompting"))
            chosen = chooser.choose(asked, [choosing.same(item) for item in asked], 0)
            usage, cut = generator.usage, generator.cut
        right = [float(choice == item.gold) for choice, item in zip(chosen, asked, strict=True)]
        unread = [float(choice is None) for choice in chosen]
        count, seed = len(asked), here.seed or 0
        means = {"accuracy": (sum(right) / count, "share", "higher"), "unread": (sum(unread) / count, "share", "lower")}
        means |= {name: (getattr(usage, name) / count, "tokens a question", "lower") for name in ("prompt_tokens", "completion_tokens")}
        currency = f"{usage.currency} a question" if usage.money is not None else "unpriced"
        means["money"] = ((usage.money or 0.0) / count, currency, "lower")
        rows = [
            Score(subject=generator.identity, metric=name, value=value, unit=unit, n=count, better=better, seed=seed)
            for name, (value, unit, better) in means.items()
        ]
        items = [
            {"metric": name, "item": place, "value": value, "weight": 1.0}
            for name, of in zip(self.metrics, (right, unread, *meter.spent.T.tolist()), strict=True)
            for place, value in enumerate(of)
        ]
        here.facts["questions"] = count
        here.says = f"{sum(right) / count:.1%} of {count:,} questions right{cut}"
        return Scores.write(here.output("scores"), rows, pl.DataFrame(items))
