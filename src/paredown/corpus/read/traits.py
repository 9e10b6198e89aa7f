"""A generated table whose columns measure hidden traits at several times: what can be learnt from it is known."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import Field

from paredown.artifacts.example_split import ExampleSplit
from paredown.core.context import context
from paredown.core.strategy import Positive, Strategy

if TYPE_CHECKING:
    import numpy

NAMES = ("age", "dose", "pulse", "weight", "height", "sugar", "iron", "sodium", "sleep", "stress", "oxygen", "fever")
LEVELS = ("low", "mid", "high")
CUT = 0.43073  # a standard normal number falls below -CUT, between, and above CUT with a chance of a third each


def outcomes(traits: numpy.ndarray[Any, Any], effects: numpy.ndarray[Any, Any], chance: numpy.ndarray[Any, Any]) -> numpy.ndarray[Any, Any]:
    """Labels 0 and 1 of rows with these traits (rows, T): 1 where the uniform `chance` is below sigmoid(traits @ effects)."""
    import numpy as np

    found: numpy.ndarray[Any, Any] = (chance < 1 / (1 + np.exp(-(traits @ effects)))).astype(np.int64)
    return found


class Traits(Strategy):
    """Draw rows of hidden traits, each measured with noise in a column for every time ("early age", "late age"), and a label.

    The label's log-odds are linear in the traits, with effects of one size, half of them negative in random order: which column means
    which trait is what its name tells. Some traits may be told in words (low, mid, high) or as flags (above the mean) instead.

    Source: none (ours; made for Wang and Sun 2022, arXiv 2205.09328).
    Costs: nothing to speak of.
    Control: none (it is an input).
    """

    tags: ClassVar[tuple[str, ...]] = ("when-before", "what-data", "speedup-none")
    systems: ClassVar[tuple[int, ...]] = (40,)
    seeded: ClassVar[bool] = True

    rows: Annotated[int, Field(ge=2)] = 600  # to learn from
    held_out: Annotated[int, Field(ge=2)] = 2000  # to measure on
    traits: Annotated[int, Field(ge=2, le=12)] = 12  # hidden numbers of a row, standard normal
    times: tuple[str, ...] = ("early", "late", "home")  # a column for each trait at each of these
    effect: Positive = 0.8  # size of every trait's effect on the log-odds of the label
    noise: Annotated[float, Field(ge=0)] = 0.5  # standard deviation of a measurement around its trait
    words: Annotated[int, Field(ge=0)] = 0  # first traits that are told as low, mid or high
    flags: Annotated[int, Field(ge=0)] = 0  # traits after those that are told as yes or no
    scaling: Literal["minmax", "standard", "none"] = "minmax"  # of numbers: to 0 and 1, to mean 0 and deviation 1, or as they are

    def estimate(self, inputs: dict[str, Any]) -> dict[str, float]:
        return {"seconds": 1e-6 * (self.rows + self.held_out) * self.traits * len(self.times), "rows": float(self.rows)}

    def __call__(self) -> ExampleSplit:
        """A table as examples, its columns time by time.

        Raises:
            DataError: all rows came out with one label.
        """
        import numpy as np
        import polars as pl

        from paredown.engines import table_files

        draw = context().generator("traits")
        total = self.rows + self.held_out
        hidden = draw.standard_normal((total, self.traits))
        effects = self.effect * draw.permutation(np.where(np.arange(self.traits) < self.traits // 2, 1.0, -1.0))
        labels = outcomes(hidden, effects, draw.random(total))
        cells, kinds = [], {}
        for time in self.times:
            for number, trait in enumerate(NAMES[: self.traits]):
                value, name = hidden[:, number] + self.noise * draw.standard_normal(total), f"{time} {trait}"
                level = np.digitize(value / np.sqrt(1 + self.noise**2), (-CUT, CUT))
                if number < self.words:
                    cells.append(pl.Series(name, np.array(LEVELS)[level]))
                    kinds[name] = "cat"
                elif number < self.words + self.flags:
                    cells.append(pl.Series(name, value > 0))
                    kinds[name] = "bin"
                else:
                    cells.append(pl.Series(name, value))
                    kinds[name] = "num"
        out = pl.Series(np.arange(total) >= self.rows)
        return table_files.write(pl.DataFrame(cells), pl.Series(labels), kinds, "traits", ("no", "yes"), out, self.scaling)  # type: ignore[arg-type]
