"""A random subset of examples, drawn once."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from pydantic import Field

from paredown.artifacts.example_split import ChosenExamples
from paredown.artifacts.examples import Examples
from paredown.core.context import context
from paredown.core.errors import DataError
from paredown.core.strategy import Strategy

if TYPE_CHECKING:
    import numpy


def random_scores(rows: int, generator: numpy.random.Generator) -> numpy.ndarray[Any, Any]:
    """A number for each row, all different: their order is a random one."""
    return generator.permutation(rows)


class Random(Strategy):
    """Keep a random share of the examples, the same ones throughout a training.

    Source: none (the usual static control); Okanovic et al. 2023, arXiv 2305.18424, section 4 has it as `uniform`.
    Costs: nothing to speak of.
    Control: learn.samplers.rs2, which draws as many rows anew in every round
    """

    tags: ClassVar[tuple[str, ...]] = ("when-before", "what-data", "speedup-universal")
    systems: ClassVar[tuple[int, ...]] = (12,)
    extras: ClassVar[tuple[str, ...]] = ("train",)
    seeded: ClassVar[bool] = True

    fraction: Annotated[float, Field(gt=0, le=1)] = 0.1  # share of the examples that stays, at least one
    balanced: bool = True  # the same share of every label; without it examples need no label
    keep_rejected: bool = False  # keep what goes, with the reason, as the part `rejected`

    def estimate(self, inputs: dict[str, Any]) -> dict[str, float]:
        from paredown.engines import example_choice

        return example_choice.foreseen(inputs.get("examples"), self.fraction)

    def __call__(self, examples: Examples) -> ChosenExamples:
        """
        Raises:
            UserError: labels are wanted, but there is no column of whole numbers named label.
            DataError: there is no example.
        """
        import numpy as np

        from paredown.engines import example_choice

        if not examples.rows:
            raise DataError("there is no example to choose from", where=str(examples.path))
        labels = example_choice.labelled(examples) if self.balanced else np.zeros(examples.rows, dtype=np.int64)
        choice = example_choice.Choice(self.fraction, self.balanced, self.keep_rejected)
        scores = random_scores(len(labels), context().generator("random subset"))
        chosen = example_choice.by_score(labels, scores, choice, "lowest")
        return example_choice.divide(examples, chosen, "not_drawn", self.keep_rejected)
