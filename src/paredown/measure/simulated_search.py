"""How well a budget of calls finds the best and the worst of many prompt formats, where their accuracies are known."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field

from paredown.artifacts.scores import Score, Scores
from paredown.core.context import context
from paredown.core.strategy import Count, Positive, Strategy


class SimulatedSearch(Strategy):
    """Simulate the search of `measure.formatspread`: accuracies of formats drawn from Beta(a, b), every item right or wrong by chance.

    In each repeat a grid of formats and items is drawn; the search sees as much of it as its calls allow, and the two formats that it
    names, and the first one, are then compared on all items. Arms of a recipe that differ in the search alone search the same grids.

    Source: Sclar et al. 2023, arXiv 2310.11324, section 3.2.
    Costs: some 30 ms a repeat; no model.
    Control: none (a measurement; `search: uniform` and `few_in_full` are the rivals at equal calls)
    """

    tags: ClassVar[tuple[str, ...]] = ("when-after", "what-tokens", "speedup-none")
    systems: ClassVar[tuple[int, ...]] = (22,)
    seeded: ClassVar[bool] = True
    metrics: ClassVar[tuple[str, ...]] = ("error", "unchecked_error", "spread", "true_spread", "calls")

    formats: Count = 320  # arms of the search
    items: Count = 1000  # of every format
    calls: Count = 40_000  # budget of the search
    batch: Count = 20  # items of a look
    search: Literal["thompson", "ucb", "uniform", "few_in_full"] = "thompson"  # how the calls are spent
    ends: Literal["seen", "posterior"] = "seen"  # best and worst by what was seen, as published, or by the bandit's posterior
    a: Positive = 30  # the mean accuracy of formats is a / (a + b)
    b: Positive = 20  # the larger a + b, the more alike are formats
    repeats: Annotated[int, Field(ge=1)] = 40  # grids

    def __call__(self) -> Scores:
        """Means over the repeats. `error` is how far the spread found is from that of the whole grid; `unchecked_error` the same of the
        spread between the best and the worst mean as far as each format was looked at."""
        import numpy as np

        from paredown.engines import bandits

        here = context()
        found = []
        for repeat in range(self.repeats):
            here.progress(repeat, self.repeats, "repeats")
            draw = here.generator("grid", repeat)
            accuracies = draw.beta(self.a, self.b, self.formats)
            grid = draw.random((self.formats, self.items)) < accuracies[:, None]
            whole = grid.mean(axis=1)

            def look(arm: int, begin: int, end: int, grid: Any = grid) -> Any:
                return grid[arm, begin:end]

            prior = bandits.beta_prior(float(whole[0]))
            draws = here.generator("search", repeat)
            chosen = bandits.search(look, self.formats, self.items, self.calls, self.batch, prior, self.search, draws, self.ends)
            seen = chosen.right[chosen.pulled > 0] / chosen.pulled[chosen.pulled > 0]
            spread, true = np.ptp(whole[[0, chosen.best, chosen.worst]]), np.ptp(whole)
            found.append((abs(spread - true), abs(seen.max() - seen.min() - true), spread, true, chosen.calls))
        here.says = f"{self.repeats:,} grids of {self.formats:,} formats"
        units = ("share", "share", "share", "share", "calls")
        better = ("lower", "lower", "none", "none", "none")
        rows = [
            Score(subject="simulation", metric=metric, value=float(value), unit=unit, n=self.repeats, better=way, seed=here.seed or 0)
            for metric, value, unit, way in zip(self.metrics, np.mean(found, axis=0), units, better, strict=True)
        ]
        return Scores.write(here.output("scores"), rows)
