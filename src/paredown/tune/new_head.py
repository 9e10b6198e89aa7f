"""A new head on a trained network."""

from __future__ import annotations

from typing import ClassVar

from paredown.artifacts.examples import Examples
from paredown.artifacts.model import Model
from paredown.core.context import context
from paredown.core.strategy import Strategy


class NewHead(Strategy):
    """Replace a network's head by a new one with random weights, for the labels of other examples; all other weights stay.

    So a network that learned from one table, or without labels, goes on to another one. The words that it reads stay its own.

    Source: Wang and Sun 2022, arXiv 2205.09328, section 2.4 (fine-tuning after pre-training).
    Costs: a copy of the weights.
    Control: learn.initialize (all weights new)
    """

    tags: ClassVar[tuple[str, ...]] = ("when-after", "what-weights", "speedup-none", "needs-data", "needs-retraining")
    systems: ClassVar[tuple[int, ...]] = (40,)
    extras: ClassVar[tuple[str, ...]] = ("train",)
    seeded: ClassVar[bool] = True

    def __call__(self, model: Model, examples: Examples) -> Model:
        """The model with a score for each label of the examples, 0 to the highest.

        Raises:
            UserError: the model is no network of ours with a head for labels, or the examples have no labels.
            DataError: there is no example.
        """
        from paredown.engines import classifiers, modules

        step = context()
        classes = classifiers.LabelledRows(examples).classes()
        module = modules.with_new_head(model, classes, step.derived_seed("head", model.identity))
        step.facts["classes"] = classes
        return Model.save(step.output("model"), module, model)
