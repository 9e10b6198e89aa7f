"""Solved examples as prompts in many formats, to train on."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, ClassVar, Self

from pydantic import Field, model_validator

from paredown.artifacts.corpus import Corpus
from paredown.artifacts.examples import Examples
from paredown.core.context import context
from paredown.core.errors import UserError
from paredown.core.strategy import Count, Strategy

if TYPE_CHECKING:
    from paredown.engines.prompt_formats import Shape


class Prompts(Strategy):
    """Render examples as documents of some solved questions each, every document in a prompt format of its own.

    Formats are those of `measure.formatspread`, each value drawn evenly from a share of the grammar's values, which is drawn once. What
    the usual format is made of (`question: text`, line by line) is always in that share.

    Source: Sclar et al. 2023, arXiv 2310.11324, appendix A (the grammar).
    Costs: nothing to speak of.
    Control: none (it is an input).
    """

    tags: ClassVar[tuple[str, ...]] = ("when-before", "what-data", "speedup-none")
    systems: ClassVar[tuple[int, ...]] = (22,)
    seeded: ClassVar[bool] = True

    fields: Annotated[tuple[str, ...], Field(min_length=1)] = ("question",)  # columns that a prompt shows before the answer
    answer: str = "answer"  # column of the right answer
    options: tuple[str, ...] | str = ()  # what can be answered: the same for all rows, or the name of a column of lists
    enumerate_options: bool = False  # whether prompts list the options under labels, and labels are the answers
    descriptors: tuple[str, ...] = ()  # what fields and answer are called in prompts; default their columns' names
    instruction: str = ""  # stands before everything
    documents: Count = 1000  # how many
    shots: Annotated[int, Field(ge=0)] = 3  # solved questions before the last one of a document
    share: Annotated[float, Field(gt=0, le=1)] = 1.0  # of the grammar's casings, separators, spaces and so on that documents use

    @model_validator(mode="after")
    def _fields_are_described(self) -> Self:
        self._shape()
        return self

    def _shape(self) -> Shape:
        from paredown.engines.prompt_formats import shape_of

        return shape_of(self.fields, self.answer, self.descriptors, bool(self.options), self.enumerate_options)

    def __call__(self, examples: Examples) -> Corpus:
        """Columns `id`, `text`, and `question`, `answer`: the text before the last answer, and that answer.

        Raises:
            UserError: a column is missing, or there are fewer examples than a document shows.
            DataError: there is no row, a value is missing, or an answer is none of its options.
        """
        import polars as pl

        from paredown.engines import multiple_choice
        from paredown.engines.prompt_formats import draw, some_values

        here = context()
        shape = self._shape()
        solved = multiple_choice.items(examples, self.fields, self.answer, self.options)
        if self.shots >= len(solved):
            raise UserError(f"{self.shots} shots and a question, but there are {len(solved)} examples", where="corpus.read.prompts.shots")
        generator = here.generator("prompts")
        choices = some_values(shape, self.share, generator)
        rows = []
        for number, last in enumerate(generator.integers(len(solved), size=self.documents).tolist()):
            shown = multiple_choice.shots(solved, self.shots, last, generator)
            task = multiple_choice.Task(shape, (solved[last],), (shown,), self.instruction)
            chosen = draw(shape, choices, generator)
            asked, said = task.prompt(chosen, 0), task.called(chosen, solved[last], solved[last].answer)
            rows.append({"id": str(number), "text": asked + said, "question": asked, "answer": said})
        here.facts["values"] = {name: list(some) for name, some in choices.items()}
        here.charge(documents=len(rows))
        return Corpus.write(here.output("corpus"), [pl.DataFrame(rows)])
