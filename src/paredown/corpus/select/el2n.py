"""Examples by the length of their error vector early in training."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import Field

from paredown.artifacts.example_split import ChosenExamples
from paredown.artifacts.examples import Examples
from paredown.artifacts.model import Model
from paredown.core.strategy import Count, Strategy

if TYPE_CHECKING:
    import numpy


def el2n(probabilities: numpy.ndarray[Any, Any], labels: numpy.ndarray[Any, Any]) -> numpy.ndarray[Any, Any]:
    """|p - y| (rows,), the L2 distance between the probabilities (rows, labels) and the label as a one-hot vector."""
    import numpy as np

    error = probabilities.copy()
    error[np.arange(len(labels)), labels] -= 1
    norms: numpy.ndarray[Any, Any] = np.sqrt((error**2).sum(axis=1))
    return norms


class El2n(Strategy):
    """Keep the examples with the largest L2 norm of the error vector, the mean over models that are early in their training.

    Source: Paul et al. 2021, arXiv 2107.07075, section 2.2, definition 2.2 (ten models there).
    Costs: one forward pass over the examples for each model, and the trainings that made the models.
    Control: learn.samplers.rs2, whose clock starts without any scoring
    Not for: small shares without `keep: lowest`; the hardest examples alone teach worse than random ones.
    """

    tags: ClassVar[tuple[str, ...]] = ("when-before", "what-data", "speedup-universal", "needs-data")
    systems: ClassVar[tuple[int, ...]] = (12,)
    extras: ClassVar[tuple[str, ...]] = ("train",)

    fraction: Annotated[float, Field(gt=0, le=1)] = 0.1  # share of the examples that stays, at least one
    keep: Literal["highest", "lowest"] = "highest"  # the hardest or the easiest
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
            return el2n(found, source.column("label")), flops

        choice = example_choice.Choice(self.fraction, self.balanced, self.keep_rejected)
        return example_choice.choose_by_score(examples, models, score, choice, self.keep, "el2n")
