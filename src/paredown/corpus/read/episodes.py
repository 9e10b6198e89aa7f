"""Generated episodes of questions with options, for experiments on learning from what stands in the prompt."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, ClassVar, Self

from pydantic import Field, model_validator

from paredown.artifacts.corpus import Corpus
from paredown.core.context import context
from paredown.core.strategy import Count, Strategy

if TYPE_CHECKING:
    import numpy

    from paredown.engines.choosing import Item
    from paredown.engines.episodes import World


class Episodes(Strategy):
    """Make prompts of some solved questions and one more with its answer, each of a world of its own, in which every topic stands for another thing.

    So what a topic stands for can be learned from the solved questions of the same prompt, and from nothing else. The prompts are
    those of `infer.prompting.few_shot`, with a chain of thought (the topic, what it stands for, its letter) or without; questions of a
    world to ask about are `corpus.read.rules`.

    Source: none (ours); worlds that change with every sequence as in Chan et al. 2022, arXiv 2205.05055, section 2.
    Costs: nothing to speak of.
    Control: none (it is an input).
    """

    tags: ClassVar[tuple[str, ...]] = ("when-before", "what-data", "speedup-none")
    systems: ClassVar[tuple[int, ...]] = (89,)
    seeded: ClassVar[bool] = True

    documents: Count = 1000  # episodes
    topics: Annotated[int, Field(ge=1, le=32)] = 16  # that questions are about
    things: Annotated[int, Field(ge=2, le=10)] = 10  # that topics stand for
    options: Annotated[int, Field(ge=2, le=10)] = 4  # of each question, at most as many as things
    examples: Annotated[int, Field(ge=0)] = 5  # solved questions of an episode, at most; every number from 0 is as frequent
    related: Annotated[float, Field(ge=0, le=1)] = 0.5  # share of them that are of the asked question's topic; the others are of any
    chains: Annotated[float, Field(ge=0, le=1)] = 0.5  # share of the episodes that have chains of thought
    instruction: Annotated[str, Field(min_length=1)] = "Why?"  # that asks for a chain; few_shot's must be the same
    given: bool = False  # put what stands before the answer into the column `question`, so that the answer alone may be learned

    @model_validator(mode="after")
    def _enough_things(self) -> Self:
        if self.options > self.things:
            raise ValueError(f"there are {self.things} things, too few for {self.options} options")
        return self

    def __call__(self) -> Corpus:
        """Columns `id`, `text`, and with `given` `question`."""
        import polars as pl

        from paredown.engines import episodes

        here = context()
        generator = here.generator("episodes")
        every = episodes.questions(self.topics)
        rows = []
        for number in range(self.documents):
            world = episodes.World.drawn(self.topics, self.things, generator)
            of_topic = [int(generator.integers(self.topics))]  # the asked one first
            many = int(generator.integers(self.examples + 1))
            related = generator.random(many) < self.related
            of_topic += [of_topic[0] if like else int(generator.integers(self.topics)) for like in related]
            asked, *shown = (self._item(world, topic, every, generator) for topic in of_topic)
            prompt, answer = episodes.episode(asked, shown, self.instruction if generator.random() < self.chains else "")
            rows.append(
                {"id": str(number), "text": answer if self.given else prompt + answer, **({"question": prompt} if self.given else {})}
            )
        here.charge(documents=len(rows))
        return Corpus.write(here.output("corpus"), [pl.DataFrame(rows)])

    def _item(self, world: World, topic: int, every: list[tuple[str, int]], generator: numpy.random.Generator) -> Item:
        of_each = len(every) // self.topics
        question, _ = every[topic * of_each + int(generator.integers(of_each))]
        return world.item(question, topic, self.options, self.things, generator)
