"""How much of a score is the format of its prompts."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, Self

from pydantic import Field, model_validator

from paredown.artifacts.examples import Examples
from paredown.artifacts.model import Model
from paredown.artifacts.scores import Score, Scores
from paredown.core.context import context
from paredown.core.errors import UserError
from paredown.core.strategy import Count, Strategy
from paredown.engines.parts import Answerer

if TYPE_CHECKING:
    import numpy

    from paredown.engines.bandits import Found
    from paredown.engines.multiple_choice import Task
    from paredown.engines.prompt_formats import Shape

    Array = numpy.ndarray[Any, Any]


class Formatspread(Strategy):
    """Measure the accuracy of a task in the worst and in the best of many prompt formats that mean the same, within a budget of calls.

    Formats are drawn from a grammar of casings, separators, spaces and item labels. A bandit looks for the best and then for
    the worst; both, and the format that is given, are then measured on all items, and the spread is between the best and the
    worst of these three: of measured ends, not of lucky ones. Demonstrations are rendered in the format of the question.

    Source: Sclar et al. 2023, arXiv 2310.11324, section 3 and appendix A.
    Costs: `calls` calls of the model, and three times the items for the ends.
    Control: none (a measurement; `same_format: true` is its noise floor, `search: uniform` its rival at equal calls)
    """

    tags: ClassVar[tuple[str, ...]] = ("when-after", "what-tokens", "speedup-none", "needs-data")
    systems: ClassVar[tuple[int, ...]] = (22,)
    extras: ClassVar[tuple[str, ...]] = ("train",)
    seeded: ClassVar[bool] = True
    metrics: ClassVar[tuple[str, ...]] = (
        "spread", "best_accuracy", "worst_accuracy", "given_accuracy", "mean_accuracy", "unchecked_spread", "chance_spread", "calls"
    )  # fmt: skip

    fields: Annotated[tuple[str, ...], Field(min_length=1)] = ("question",)  # columns that a prompt shows before the answer
    answer: str = "answer"  # column of the right answer
    options: tuple[str, ...] | str = ()  # what can be answered: the same for all rows, or the name of a column of lists
    enumerate_options: bool = False  # whether prompts list the options under labels, and labels are the answers
    descriptors: tuple[str, ...] = ()  # what fields and answer are called in prompts; default their columns' names
    instruction: str = ""  # stands before everything
    shots: Annotated[int, Field(ge=0)] = 1  # demonstrations of a prompt
    scoring: Literal["rank", "prefix"] = "rank"  # the likeliest option, or what a generated answer begins with
    formats: Annotated[int, Field(ge=0)] = 320  # drawn from the grammar, beside the given one
    calls: Count = 40_000  # budget of the search
    batch: Count = 20  # items of a look
    items: Count = 1000  # rows that are asked about, at most
    search: Literal["thompson", "ucb", "uniform", "few_in_full", "full"] = "thompson"  # full: every format on every item, whatever it costs
    ends: Literal["seen", "posterior"] = "seen"  # best and worst by what was seen, as published, or by the bandit's posterior
    reference: bool = False  # draw the space " -- " twice as often, as the published list does, which has it twice
    same_format: bool = False  # the given format that often, with demonstrations of its own each: what chance spreads

    @model_validator(mode="after")
    def _answers_can_be_ranked(self) -> Self:
        if self.scoring == "rank" and not self.options:
            raise ValueError("scoring: rank needs options, what can be answered")
        self._shape()
        return self

    def _shape(self) -> Shape:
        from paredown.engines.prompt_formats import shape_of

        return shape_of(self.fields, self.answer, self.descriptors, bool(self.options), self.enumerate_options)

    def __call__(self, answerer: Model | Answerer, examples: Examples, demonstrations: Examples | None = None) -> Scores:
        """Shares of the items. `mean_accuracy` is over the formats as far as each was looked at, and these are its items.

        `unchecked_spread` lies between the luckiest and the unluckiest of these means; `chance_spread` is what so many formats of that mean accuracy
        would be expected to spread if they were all alike.

        Raises:
            UserError: a column is missing, or there are no demonstrations for the shots.
            DataError: there is no row, a value is missing, or an answer is none of its options.
        """
        from paredown.engines import bandits
        from paredown.engines.generator import opened
        from paredown.engines.prompt_formats import sample, usual, values

        here = context()
        shape = self._shape()
        given, choices = usual(shape), values(shape, self.reference)
        others = [given] * self.formats if self.same_format else sample(shape, self.formats, here.generator("formats"), choices)
        chosen = [given, *others]
        tasks = self._tasks(shape, examples, demonstrations, len(chosen) if self.same_format else 1)
        count = len(tasks[0].items)
        budget = len(chosen) * count if self.search == "full" else self.calls
        spent = 0
        with opened(answerer) as generator:

            def right(arm: int, begin: int = 0, end: int = count) -> Array:
                return tasks[arm % len(tasks)].right(generator, chosen[arm], range(begin, end))

            def look(arm: int, begin: int, end: int) -> Array:
                nonlocal spent
                here.progress(spent, budget, "calls")
                spent += end - begin
                return right(arm, begin, end)

            first = float(right(0).mean())
            rule: Any = "few_in_full" if self.search == "full" else self.search
            prior = bandits.beta_prior(first)
            found = bandits.search(look, len(chosen), count, budget, self.batch, prior, rule, here.generator("search"), self.ends)
            whole = {0: first} | {arm: float(right(arm).mean()) for arm in (found.best, found.worst)}
        best, worst = max(whole, key=whole.__getitem__), min(whole, key=whole.__getitem__)
        here.facts.update(best_format=dataclasses.asdict(chosen[best]), worst_format=dataclasses.asdict(chosen[worst]))
        here.says = f"{whole[worst]:.1%} to {whole[best]:.1%} over {len(chosen):,} formats{generator.cut}"
        measured = {
            "spread": whole[best] - whole[worst],
            "best_accuracy": whole[best],
            "worst_accuracy": whole[worst],
            "given_accuracy": first,
        }
        return self._scores(
            found, measured, [made.key(self.same_format * arm) for arm, made in enumerate(chosen)], count, generator.identity
        )

    def _tasks(self, shape: Shape, examples: Examples, demonstrations: Examples | None, copies: int) -> list[Task]:
        """The items in an order drawn once, each with demonstrations that are not itself; copies differ by their demonstrations alone."""
        from paredown.engines import multiple_choice

        asked = multiple_choice.items(examples, self.fields, self.answer, self.options)
        shown = asked if demonstrations is None else multiple_choice.items(demonstrations, self.fields, self.answer, self.options)
        if self.shots > len(shown) - (demonstrations is None):
            raise UserError(f"{self.shots} shots, but there are {len(shown)} examples to show", where="measure.formatspread.shots")
        order = [int(number) for number in context().generator("items").permutation(len(asked))[: self.items]]
        found = []
        for copy in range(copies):
            draw = context().generator("shots", copy)
            shots = tuple(multiple_choice.shots(shown, self.shots, n if demonstrations is None else -1, draw) for n in order)
            found.append(multiple_choice.Task(shape, tuple(asked[n] for n in order), shots, self.instruction, scoring=self.scoring))
        return found

    def _scores(self, found: Found, shares: dict[str, float], keys: list[int], count: int, subject: str) -> Scores:
        import numpy
        import polars as pl

        from paredown.engines import bandits

        looked = numpy.flatnonzero(found.pulled)
        means = found.right[looked] / found.pulled[looked]
        mean = float(means.mean())
        shares |= {"mean_accuracy": mean, "unchecked_spread": float(means.max() - means.min())}
        shares |= {"chance_spread": bandits.chance_range(len(keys), count, mean)}
        common: dict[str, Any] = {"subject": subject, "seed": context().seed or 0}
        rows = [
            Score(metric=name, value=value, unit="share", n=count, better="lower" if "spread" in name else "higher", **common)
            for name, value in shares.items()
        ]
        rows.append(Score(metric="calls", value=float(found.calls), unit="calls", better="none", **common))
        items = {
            "metric": ["mean_accuracy"] * len(looked),
            "item": numpy.array(keys)[looked],
            "value": means,
            "weight": numpy.ones(len(looked)),
        }
        return Scores.write(context().output("scores"), rows, pl.DataFrame(items))
