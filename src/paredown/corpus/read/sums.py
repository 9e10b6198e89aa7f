"""Generated sums with options to choose from."""

from __future__ import annotations

from typing import Annotated, ClassVar

from pydantic import Field

from paredown.artifacts.examples import Examples
from paredown.core.context import context
from paredown.core.strategy import Strategy


class Sums(Strategy):
    """Make sums of two numbers, each once, with options of which one is right.

    Source: none (ours).
    Costs: nothing to speak of.
    Control: none (it is an input).
    """

    tags: ClassVar[tuple[str, ...]] = ("when-before", "what-data", "speedup-none")
    systems: ClassVar[tuple[int, ...]] = (89,)
    seeded: ClassVar[bool] = True

    count: Annotated[int, Field(ge=1, le=8_000_000)] = 1000  # how many
    options: Annotated[int, Field(ge=2, le=10)] = 4  # of each

    def __call__(self) -> Examples:
        """Columns `question`, `options` (the right one at a random place) and `answer`."""
        import polars as pl

        here = context()
        generator = here.generator("sums")
        numbers = 10 + generator.choice(8_000_000, size=self.count, replace=False)  # the pair of terms in one number
        rows = []
        for a, b in zip((numbers // 2_000).tolist(), (numbers % 2_000).tolist(), strict=True):
            away = [int(step) for step in generator.choice([*range(-10, 0), *range(1, 11)], size=self.options - 1, replace=False)]
            options = [str(a + b + step) for step in generator.permutation([0, *away]).tolist()]
            rows.append({"question": f"{a}+{b}", "options": options, "answer": str(a + b)})
        here.charge(documents=len(rows))
        return Examples.write(here.output("examples"), pl.DataFrame(rows))
