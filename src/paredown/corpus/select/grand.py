"""Examples by the length of their gradient early in training."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field

from paredown.artifacts.example_split import ChosenExamples
from paredown.artifacts.examples import Examples
from paredown.artifacts.model import Model
from paredown.core.strategy import Count, Strategy


class Grand(Strategy):
    """Keep the examples whose loss has the longest gradient over all weights, the mean over models that are early in their training.

    Source: Paul et al. 2021, arXiv 2107.07075, section 2.1, definition 2.1 (GraNd); no last-layer shortcut is taken.
    Costs: a forward and a backward pass over the examples for each model, and the trainings that made the models; memory of a
    copy of the weights for each example of a batch.
    Control: learn.samplers.rs2, whose clock starts without any scoring
    Not for: small shares without `keep: lowest`; the hardest examples alone teach worse than random ones.
    """

    tags: ClassVar[tuple[str, ...]] = ("when-before", "what-data", "speedup-universal", "needs-data", "needs-gradients")
    systems: ClassVar[tuple[int, ...]] = (12,)
    extras: ClassVar[tuple[str, ...]] = ("train",)

    fraction: Annotated[float, Field(gt=0, le=1)] = 0.1  # share of the examples that stays, at least one
    keep: Literal["highest", "lowest"] = "highest"  # the hardest or the easiest
    balanced: bool = True  # the same share of every label
    keep_rejected: bool = False  # keep what goes, with reason and score, as the part `rejected`
    batch: Count = 64  # examples whose gradients are held at once; scores do not depend on it but for rounding

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
            return classifiers.gradient_norms(module, source, self.batch)

        choice = example_choice.Choice(self.fraction, self.balanced, self.keep_rejected)
        return example_choice.choose_by_score(examples, models, score, choice, self.keep, "grand")
