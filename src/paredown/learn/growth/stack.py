"""A deeper model that begins as a shallow one, stacked."""

from __future__ import annotations

from typing import Any, ClassVar

from paredown.artifacts.model import Model
from paredown.core.strategy import Count, Strategy


class Stack(Strategy):
    """Make a model deeper by putting its blocks on top of themselves: whole stacks from the bottom, then its uppermost blocks again.

    The deeper model computes something else than the shallow one, but attends alike and learns on much faster than from random weights. Any decoder
    or encoder can be stacked, also of experts and of uneven widths.

    Source: Gong et al. 2019, Efficient training of BERT by progressively stacking (ICML, PMLR 97), section 3; it is the control StackBERT of Chen et al.
    2021, arXiv 2110.07143, section 4.1.
    Costs: one pass over the weights; memory of both models.
    Control: learn.growth.direct_copy
    """

    tags: ClassVar[tuple[str, ...]] = ("when-before", "what-layers", "speedup-none")
    systems: ClassVar[tuple[int, ...]] = (63,)
    extras: ClassVar[tuple[str, ...]] = ("train",)

    layers: Count  # blocks of the deeper model, at least as many as there are

    def estimate(self, inputs: dict[str, Any]) -> dict[str, float]:
        from paredown.engines import estimates

        return estimates.grown(inputs.get("model"), None, self.layers)

    def __call__(self, model: Model) -> Model:
        """
        Raises:
            UserError: blocks would be lost, or one would compute something else in its new place.
        """
        from paredown.engines import growth

        grown = growth.prepare(model, growth.Size(layers=self.layers), "even", 0)
        return growth.save(grown, growth.fill(grown, growth.widened), model)
