"""Examples that leave none of the others far away."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from pydantic import Field

from paredown.artifacts.example_split import ChosenExamples
from paredown.artifacts.examples import Examples
from paredown.artifacts.model import Model
from paredown.core.strategy import Count, Strategy

if TYPE_CHECKING:
    import numpy


def k_center(features: numpy.ndarray[Any, Any], count: int) -> numpy.ndarray[Any, Any]:
    """`count` rows of (n, D): first the one nearest to the mean, then always the row farthest from all chosen ones.

    The farthest row is at most twice as far away as with the best choice (Gonzalez 1985).
    """
    import numpy as np

    table = features.astype(np.float64)
    chosen = np.empty(count, dtype=np.int64)
    nearest = np.full(len(table), np.inf)  # squared distance to the nearest chosen row; -1 once chosen
    following = int(((table - table.mean(axis=0)) ** 2).sum(axis=1).argmin())
    for number in range(count):
        chosen[number] = following
        nearest = np.minimum(nearest, ((table - table[following]) ** 2).sum(axis=1))
        nearest[chosen[: number + 1]] = -1.0
        following = int(nearest.argmax())
    return chosen


class KCenter(Strategy):
    """Keep examples so that the largest distance of any other to the nearest of them is small, chosen one by one.

    Features are what enters the last linear layer of each model; those of several models stand side by side.

    Source: Sener and Savarese 2017, arXiv 1708.00489, algorithm 1 (k-center greedy).
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
        return example_choice.choose_by_place(examples, models, k_center, choice, self.batch, "k_center")
