"""A larger model of which the small one is a corner."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from paredown.artifacts.model import Model
from paredown.core.context import context
from paredown.core.strategy import Count, Strategy

if TYPE_CHECKING:
    from torch import Tensor


def cornered(fresh: Tensor, small: Tensor, places: dict[int, Tensor]) -> Tensor:
    """`fresh` with `small` in it: along an axis at these places of `fresh`, along others at all of them."""
    import torch

    made = fresh.clone()
    axes = [places.get(axis, torch.arange(size)) for axis, size in enumerate(fresh.shape)]
    made[torch.meshgrid(*axes, indexing="ij")] = small
    return made


class DirectCopy(Strategy):
    """Put a small model into the corner of a larger one whose other weights are random; further blocks are random too.

    Source: Chen et al. 2021, arXiv 2110.07143, section 4.1 (DirectCopy).
    Costs: one pass over the weights; memory of both models.
    Control: learn.initialize
    """

    tags: ClassVar[tuple[str, ...]] = ("when-before", "what-weights", "speedup-none")
    systems: ClassVar[tuple[int, ...]] = (63,)
    extras: ClassVar[tuple[str, ...]] = ("train",)
    seeded: ClassVar[bool] = True

    hidden_size: Count | None = None  # width of the residual stream; default as it is
    heads: Count | None = None  # of attention, of the old size; default as many as make the width
    intermediate_size: Count | None = None  # channels of a feed-forward; default as it is
    layers: Count | None = None  # blocks; default as it is

    def estimate(self, inputs: dict[str, Any]) -> dict[str, float]:
        from paredown.engines import estimates

        return estimates.grown(inputs.get("model"), self.hidden_size, self.layers)

    def __call__(self, model: Model) -> Model:
        """
        Raises:
            UserError: something would shrink, heads would change their size, or the model's class refuses the shape.
        """
        from paredown.engines import growth

        size = growth.Size(self.hidden_size, self.heads, self.intermediate_size, self.layers)
        grown = growth.prepare(model, size, "even", context().derived_seed("weights"), exact=False)
        return growth.save(grown, growth.corner(grown, cornered), model)
