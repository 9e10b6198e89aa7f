"""Several answers to one question, and a vote."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar

from pydantic import Field

from paredown.core.catalog import build
from paredown.core.strategy import Count
from paredown.engines.parts import Prompting

if TYPE_CHECKING:
    import numpy

    from paredown.engines.choosing import Ask, Chooser, Item, Order


class Ensemble(Prompting):
    """Ask several times, with the options in another order each time, and take what most answers say.

    Shuffled options cancel a liking for a place; without shuffling and with a temperature it is self-consistency, which cancels noise
    only. At temperature 0 without shuffling all answers are the same.

    Source: Nori et al. 2023, arXiv 2311.16452, section 4.3 (choice-shuffle ensemble); Wang et al. 2022, arXiv 2203.11171 (self-consistency).
    Costs: `votes` times what a single answer takes.
    Control: infer.prompting.few_shot
    """

    tags: ClassVar[tuple[str, ...]] = ("when-runtime", "what-tokens", "speedup-none")
    systems: ClassVar[tuple[int, ...]] = (89,)

    of: Prompting = Field(default_factory=lambda: build("infer.prompting.few_shot"))  # what is asked several times
    votes: Count = 5  # answers to each question
    shuffle: bool = True  # another order of the options for every answer

    def open(self, known: Sequence[Item], ask: Ask, generator: numpy.random.Generator) -> Chooser:
        return _Opened(self, self.of.open(known, ask, generator), generator)


class _Opened:
    def __init__(self, part: Ensemble, inner: Chooser, generator: numpy.random.Generator) -> None:
        self.part, self.inner, self.generator = part, inner, generator

    def choose(self, items: Sequence[Item], orders: Sequence[Order], number: int) -> list[int | None]:
        """The options that most of the answers name; of equals the one that was named first."""
        from paredown.engines import choosing

        drawing = self.generator if self.part.shuffle else None
        said = choosing.ballots(self.inner, items, orders, number, self.part.votes, drawing)
        return [choosing.majority(votes) for votes in said]
