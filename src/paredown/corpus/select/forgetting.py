"""Examples by how often a training forgot them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import Field

from paredown.artifacts.example_split import ChosenExamples
from paredown.artifacts.examples import Examples
from paredown.artifacts.model import Model
from paredown.core.errors import UserError
from paredown.core.strategy import Strategy

if TYPE_CHECKING:
    import numpy
    import polars


def forgetting(events: polars.DataFrame) -> numpy.ndarray[Any, Any]:
    """How often each row was forgotten; a row that was never right counts as forgotten at every presentation.

    `events` has the columns `seen`, `right` and `forgotten`, counts of one training.
    """
    import numpy as np

    seen, right, forgotten = (events[name].to_numpy() for name in ("seen", "right", "forgotten"))
    counted: numpy.ndarray[Any, Any] = np.where(right == 0, seen, forgotten).astype(np.float64)
    return counted


class Forgetting(Strategy):
    """Keep the examples that trainings forgot most often: right at one presentation, wrong at the next.

    The models must have been trained on these very examples with the hook learn.hooks.learning_events.

    Source: Toneva et al. 2018, arXiv 1812.05159, section 3, algorithm 1; examples never learned go before all others.
    Costs: the trainings that made the models, several epochs each; nothing beside.
    Control: learn.samplers.rs2, whose clock starts without any scoring
    Not for: scoring trainings of one or two epochs, which can forget nothing more than once.
    """

    tags: ClassVar[tuple[str, ...]] = ("when-before", "what-data", "speedup-universal", "needs-data")
    systems: ClassVar[tuple[int, ...]] = (12,)
    extras: ClassVar[tuple[str, ...]] = ("train",)

    fraction: Annotated[float, Field(gt=0, le=1)] = 0.1  # share of the examples that stays, at least one
    keep: Literal["highest", "lowest"] = "highest"  # the most or the least forgotten
    balanced: bool = True  # the same share of every label
    keep_rejected: bool = False  # keep what goes, with reason and score, as the part `rejected`

    def estimate(self, inputs: dict[str, Any]) -> dict[str, float]:
        from paredown.engines import example_choice

        return example_choice.foreseen(inputs.get("examples"), self.fraction)

    def __call__(self, examples: Examples, models: tuple[Model, ...]) -> ChosenExamples:
        """
        Raises:
            UserError: there is no model or no label, or a model was trained on other examples.
            DataError: there is no example, or a model kept no events.
        """
        import numpy as np

        from paredown.engines import example_choice

        if not models:
            raise UserError("there is no training whose events could be read", where="models")
        labels = example_choice.labelled(examples)
        scores = np.zeros(len(labels))
        for model in models:
            events = model.training_rows()
            if not {"seen", "right", "forgotten", "label"} <= set(events.columns) or not np.array_equal(events["label"].to_numpy(), labels):
                raise UserError(
                    f"the model tells of {events.height:,} other examples than these {len(labels):,}",
                    where=str(model.path),
                    todo="train it on the examples that are to be chosen from, with the hook learn.hooks.learning_events",
                )
            scores += forgetting(events)
        choice = example_choice.Choice(self.fraction, self.balanced, self.keep_rejected)
        chosen = example_choice.by_score(labels, scores, choice, self.keep)
        return example_choice.divide(examples, chosen, "forgetting", self.keep_rejected, scores / len(models))
