"""A learning rate that falls in steps."""

from __future__ import annotations

from itertools import pairwise
from typing import Annotated, ClassVar, Self

from pydantic import Field, model_validator

from paredown.engines.parts import Schedule

Place = Annotated[float, Field(gt=0, lt=1)]


def step_factor(progress: float, places: tuple[float, ...], times: float) -> float:
    """`times` to the power of the places that are reached."""
    return times ** sum(progress >= place for place in places)


class StepDecay(Schedule):
    """Hold the learning rate, and multiply it by a constant at some shares of the budget.

    Source: He et al. 2015, arXiv 1512.03385, section 4.2; places as in Liu et al. 2018, arXiv 1810.05270, section 3.
    Costs: nothing.
    Control: learn.schedules.cosine
    """

    tags: ClassVar[tuple[str, ...]] = ("when-during", "what-weights", "speedup-none")
    systems: ClassVar[tuple[int, ...]] = (41,)

    places: tuple[Place, ...] = (0.5, 0.75)  # shares of the budget at which it falls, ascending
    times: Annotated[float, Field(gt=0, le=1)] = 0.1  # what it is multiplied by at each of them

    @model_validator(mode="after")
    def _ascends(self) -> Self:
        if any(after <= before for before, after in pairwise(self.places)):
            raise ValueError(f"places must ascend: {list(self.places)}")
        return self

    def factor(self, progress: float) -> float:
        return step_factor(progress, self.places, self.times)
