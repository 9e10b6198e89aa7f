"""A wider and deeper model that begins as what the small one knows."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field

from paredown.artifacts.model import Model
from paredown.core.context import context
from paredown.core.strategy import Count, Strategy


class Bert2bert(Strategy):
    """Grow a model by copying neurons and whole heads, and by stacking its blocks.

    With `added: own` (FPI) the wider model computes what the small one did: exactly where every place is copied equally often, or where
    there are no norms; else norms see other statistics, and it is close. With `added: next` (AKI) added neurons are copies of
    the next block's, which breaks the function a little and the symmetry of copies with it. Stacking changes what is computed. Heads keep
    their size, and shared keys are copied with their queries. An embedding that the head shares stays shared where a norm before the head
    can take the division.

    Source: Chen et al. 2021, arXiv 2110.07143, section 3.2 (FPI) and 3.3 (AKI); blocks are stacked as by learn.growth.stack.
    Costs: one pass over the weights; memory of both models.
    Control: learn.growth.direct_copy
    """

    tags: ClassVar[tuple[str, ...]] = ("when-before", "what-weights", "speedup-none")
    systems: ClassVar[tuple[int, ...]] = (63,)
    extras: ClassVar[tuple[str, ...]] = ("train",)
    seeded: ClassVar[bool] = True

    hidden_size: Count | None = None  # width of the residual stream; default as it is
    heads: Count | None = None  # of attention, of the old size; default as many as make the width
    intermediate_size: Count | None = None  # channels of a feed-forward; default as it is
    layers: Count | None = None  # blocks; default as it is
    added: Literal["own", "next"] = "own"  # where added neurons come from: the same block (FPI), or the next one (AKI)
    mapping: Literal["even", "random"] = "even"  # which neurons are copied: all equally often, or drawn, as published
    noise: Annotated[float, Field(ge=0)] = 0.0  # standard deviation of what copies differ by, relative to their size; breaks symmetry

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
        grown = growth.prepare(model, size, self.mapping, context().derived_seed("map"))
        made = growth.fill(grown, growth.from_next if self.added == "next" else growth.widened)
        growth.roughen(made, self.noise, context().derived_seed("noise"))
        return growth.save(grown, made, model)
