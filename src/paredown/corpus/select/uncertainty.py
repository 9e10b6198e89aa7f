"""Examples by how sure a model is of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import Field

from paredown.artifacts.example_split import ChosenExamples
from paredown.artifacts.examples import Examples
from paredown.artifacts.model import Model
from paredown.core.strategy import Count, Strategy

if TYPE_CHECKING:
    import numpy


def certainty(probabilities: numpy.ndarray[Any, Any], by: str) -> numpy.ndarray[Any, Any]:
    """How sure (rows,) a model with these probabilities (rows, labels) is; labels play no part.

    `margin`: the largest probability less the second largest; `confidence`: the largest; `entropy`: sum of p log p.
    """
    import numpy as np

    if by == "entropy":
        logs = np.log(np.where(probabilities > 0, probabilities, 1))
        found: numpy.ndarray[Any, Any] = (probabilities * logs).sum(axis=1)
        return found
    ordered = np.sort(probabilities, axis=1)
    largest = ordered[:, -1]
    return largest - ordered[:, -2] if by == "margin" and ordered.shape[1] > 1 else largest


class Uncertainty(Strategy):
    """Keep the examples that models are least sure of: the smallest margin, the least confidence or the highest entropy.

    Source: Coleman et al. 2019, arXiv 1906.11829, section 2.1 (selection via proxy: least confidence, entropy, margin).
    Costs: one forward pass over the examples for each model, and the trainings that made the models.
    Control: learn.samplers.rs2, whose clock starts without any scoring
    Not for: small shares; what a model is least sure of is odd or mislabelled more often than the rest.
    """

    tags: ClassVar[tuple[str, ...]] = ("when-before", "what-data", "speedup-universal", "needs-data")
    systems: ClassVar[tuple[int, ...]] = (12,)
    extras: ClassVar[tuple[str, ...]] = ("train",)

    by: Literal["margin", "confidence", "entropy"] = "margin"  # what tells how sure a model is
    fraction: Annotated[float, Field(gt=0, le=1)] = 0.1  # share of the examples that stays, at least one
    balanced: bool = True  # the same share of every label
    keep_rejected: bool = False  # keep what goes, with reason and score, as the part `rejected`
    batch: Count = 256  # examples of a forward pass; scores do not depend on it but for rounding

    def estimate(self, inputs: dict[str, Any]) -> dict[str, float]:
        from paredown.engines import example_choice

        return example_choice.foreseen(inputs.get("examples"), self.fraction)

    def __call__(self, examples: Examples, models: tuple[Model, ...]) -> ChosenExamples:
        """
        Raises:
            UserError: there is no model or no label, or a model does not take such examples.
            DataError: there is no example, or a score is not finite.
        """
        from paredown.engines import classifiers, example_choice

        def score(module: Any, source: Any) -> tuple[Any, float]:
            found, flops = classifiers.probabilities(module, source, self.batch)
            return certainty(found, self.by), flops

        choice = example_choice.Choice(self.fraction, self.balanced, self.keep_rejected)
        return example_choice.choose_by_score(examples, models, score, choice, "lowest", self.by)
