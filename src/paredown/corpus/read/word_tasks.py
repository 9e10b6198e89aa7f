"""Generated questions with options about words and numbers, for experiments with prompts."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from pydantic import Field

from paredown.artifacts.examples import Examples
from paredown.core.context import context
from paredown.core.strategy import Count, Strategy

if TYPE_CHECKING:
    import numpy

Task = Literal["sentiment", "larger", "parity"]
THINGS = ["soup", "film", "song", "road", "tea", "room", "book", "chair", "lamp", "coat", "cake", "town", "game", "shoe", "boat", "bread"]
PRAISE = ["fine", "lovely", "grand", "sweet", "bright", "superb", "charming", "pleasant"]
BLAME = ["bad", "dull", "grim", "nasty", "awful", "poor", "ugly", "dreadful"]


def question(task: str, generator: numpy.random.Generator) -> tuple[str, list[str], str]:
    """(question, options, answer): what two adjectives say of a thing, the larger of two numbers, or whether a list is of an even number of words."""
    if task == "sentiment":
        kind = int(generator.integers(2))
        first, second = generator.choice((BLAME, PRAISE)[kind], size=2, replace=False).tolist()
        return f"{first} {second} {generator.choice(THINGS)}", ["negative", "positive"], ("negative", "positive")[kind]
    if task == "larger":
        first, second = (int(n) for n in generator.choice(90, size=2, replace=False) + 10)
        return f"{first} or {second}", [str(first), str(second)], str(max(first, second))
    words = generator.choice(THINGS, size=int(generator.integers(1, 5)), replace=False).tolist()
    return " ".join(words), ["odd", "even"], ("even", "odd")[len(words) % 2]


def is_held_out(asked: str) -> bool:
    """Whether a question is one of the fifth that is for measuring."""
    return hashlib.blake2b(asked.encode(), digest_size=4).digest()[0] % 5 == 0


class WordTasks(Strategy):
    """Make questions with two options: the sentiment of adjectives, the larger of two numbers, whether a list has an even number of words.

    A fifth of all possible questions come from `held_out: true` only, and no others do. Questions may come more than once.

    Source: none (ours; made for Sclar et al. 2023, arXiv 2310.11324).
    Costs: nothing to speak of.
    Control: none (it is an input).
    """

    tags: ClassVar[tuple[str, ...]] = ("when-before", "what-data", "speedup-none")
    systems: ClassVar[tuple[int, ...]] = (22,)
    seeded: ClassVar[bool] = True

    count: Count = 1000  # how many
    tasks: dict[Task, Annotated[float, Field(gt=0)]] = {"sentiment": 1, "larger": 1, "parity": 1}  # relative shares
    held_out: bool = False  # the questions that the others never hold

    def __call__(self) -> Examples:
        """Columns `question`, `options`, `answer` and `task`."""
        import numpy
        import polars as pl

        here = context()
        generator = here.generator("word tasks", self.held_out)
        shares = numpy.array(list(self.tasks.values()))
        rows = []
        for place in generator.choice(len(shares), size=self.count, p=shares / shares.sum()).tolist():
            task = list(self.tasks)[place]
            while True:
                asked, options, answer = question(task, generator)
                if is_held_out(asked) == self.held_out:
                    break
            rows.append({"question": asked, "options": options, "answer": answer, "task": task})
        here.charge(documents=len(rows))
        return Examples.write(here.output("examples"), pl.DataFrame(rows))
