"""Examples whose mean stays close to the mean of all."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from pydantic import Field

from paredown.artifacts.example_split import ChosenExamples
from paredown.artifacts.examples import Examples
from paredown.artifacts.model import Model
from paredown.core.strategy import Count, Strategy

if TYPE_CHECKING:
    import numpy


def herded(features: numpy.ndarray[Any, Any], count: int) -> numpy.ndarray[Any, Any]:
    """`count` rows of (n, D), chosen one by one so that the mean of those chosen is as close to the mean of all as one more row allows."""
    import numpy as np

    table = features.astype(np.float64)
    mean, total = table.mean(axis=0), np.zeros(table.shape[1])
    squares = (table**2).sum(axis=1)
    chosen = np.empty(count, dtype=np.int64)
    left = np.ones(len(table), dtype=bool)
    for number in range(count):
        wanted = (number + 1) * mean - total  # the row that would make both means equal
        distance = np.where(left, squares - 2 * table @ wanted, np.inf)
        chosen[number] = int(distance.argmin())
        left[chosen[number]] = False
        total += table[chosen[number]]
    return chosen


class Herding(Strategy):
    """Keep examples whose mean features stay as close as possible to the mean of all, chosen one by one.

    Features are what enters the last linear layer of each model; those of several models stand side by side.

    Source: Welling 2009, Herding dynamical weights to learn (ICML); for examples as in Rebuffi et al. 2016, arXiv 1611.07725, algorithm 4.
    Costs: one forward pass over the examples for each model, the trainings that made the models, and rows x chosen x features products.
    Control: learn.samplers.rs2, whose clock starts without any scoring
    """

    tags: ClassVar[tuple[str, ...]] = ("when-before", "what-data", "speedup-universal", "needs-data")
    systems: ClassVar[tuple[int, ...]] = (12,)
    extras: ClassVar[tuple[str, ...]] = ("train",)

    fraction: Annotated[float, Field(gt=0, le=1)] = 0.1  # share of the examples that stays, at least one
    balanced: bool = True  # choose within each label, the same share of every one
    keep_rejected: bool = False  # keep what goes, with the reason, as the part `rejected`
    batch: Count = 256  # examples of a forward pass; features do not depend on it but for rounding

    def estimate(self, inputs: dict[str, Any]) -> dict[str, float]:
        from paredown.engines import example_choice

        return example_choice.foreseen(inputs.get("examples"), self.fraction)

    def __call__(self, examples: Examples, models: tuple[Model, ...]) -> ChosenExamples:
        """
        Raises:
            UserError: there is no model or no label, or a model does not take such examples or ends in no linear layer.
            DataError: there is no example, or a feature is not finite.
        """
        from paredown.engines import example_choice

        choice = example_choice.Choice(self.fraction, self.balanced, self.keep_rejected)
        return example_choice.choose_by_place(examples, models, herded, choice, self.batch, "herding")
