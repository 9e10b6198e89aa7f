"""Generated questions with options about one world, some solved and some to be asked."""

from __future__ import annotations

from typing import Annotated, ClassVar, Self

from pydantic import Field, model_validator

from paredown.artifacts.example_split import ExampleSplit
from paredown.artifacts.examples import Examples
from paredown.core.context import context
from paredown.core.strategy import Count, Strategy


class Rules(Strategy):
    """Make questions about topics of which each stands for a thing, the same in all of them: `train` to show, `held_out` to ask.

    What a topic stands for is drawn with the seed, so a model that was trained on `corpus.read.episodes` knows it only from questions
    of `train` that it is shown. A question is a topic, a place and a time, of which the topic alone says anything; none stands in both parts.

    Source: none (ours).
    Costs: nothing to speak of.
    Control: none (it is an input).
    """

    tags: ClassVar[tuple[str, ...]] = ("when-before", "what-data", "speedup-none")
    systems: ClassVar[tuple[int, ...]] = (89,)
    seeded: ClassVar[bool] = True

    known: Count = 160  # questions to show
    asked: Count = 500  # questions to ask
    topics: Annotated[int, Field(ge=1, le=32)] = 16  # that questions are about, 100 of each
    things: Annotated[int, Field(ge=2, le=10)] = 10  # that topics stand for
    options: Annotated[int, Field(ge=2, le=10)] = 4  # of each question, at most as many as things

    @model_validator(mode="after")
    def _enough_of_them(self) -> Self:
        from paredown.engines.episodes import questions

        wanted, most = self.known + self.asked, len(questions(self.topics))
        if wanted > most:
            raise ValueError(f"{wanted:,} questions are wanted, but {self.topics} topics give {most:,}")
        if self.options > self.things:
            raise ValueError(f"there are {self.things} things, too few for {self.options} options")
        return self

    def __call__(self) -> ExampleSplit:
        """Columns `question`, `options` (the right one at a random place), `answer` and `topic`."""
        import polars as pl

        from paredown.engines import episodes

        here = context()
        generator = here.generator("rules")
        world = episodes.World.drawn(self.topics, self.things, generator)
        every = episodes.questions(self.topics)
        rows = []
        for place in generator.permutation(len(every))[: self.known + self.asked].tolist():
            question, topic = every[place]
            item = world.item(question, topic, self.options, self.things, generator)
            rows.append({"question": question, "options": list(item.options), "answer": item.options[item.gold], "topic": topic})
        here.charge(documents=len(rows))
        frame = pl.DataFrame(rows)
        known = Examples.write(here.output("train"), frame.head(self.known))
        return ExampleSplit(known, Examples.write(here.output("held_out"), frame.tail(self.asked)))
