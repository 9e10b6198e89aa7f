"""Weights at random: what any other choice must beat."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Literal

from paredown.artifacts.model import Model
from paredown.core.context import context
from paredown.core.strategy import Share, Strategy

if TYPE_CHECKING:
    from paredown.engines.layers import Inputs, Layer


class Random(Strategy):
    """Set weights chosen at random to zero, the same share of every linear layer of every block.

    Source: none (the usual lower bound, as in Blalock et al. 2020, arXiv 2003.03033).
    Costs: one pass over the weights; no data; memory of one block.
    Control: none (it is the control).
    Not for: anything but comparison.
    """

    tags: ClassVar[tuple[str, ...]] = ("when-after", "what-weights", "how-random", "scope-layer", "speedup-special")
    systems: ClassVar[tuple[int, ...]] = (41,)
    extras: ClassVar[tuple[str, ...]] = ("train",)
    seeded: ClassVar[bool] = True

    sparsity: Share = 0.5  # share of each linear layer's weights set to zero, 0 <= s < 1; with a pattern it follows from that
    pattern: Literal["unstructured", "2:4", "4:8"] = "unstructured"  # or so many zeros of each so many neighbours in a row

    def estimate(self, inputs: dict[str, Any]) -> dict[str, float]:
        from paredown.engines.estimates import calibrated

        return calibrated(inputs.get("model"), 0)

    def __call__(self, model: Model) -> Model:
        """The model with zeros; shapes stay.

        Raises:
            DataError: a weight is NaN or infinite, or the checkpoint is a pickle.
            UserError: rows cannot be cut into the groups of the pattern.
        """
        import torch

        from paredown.engines.layers import store, walk
        from paredown.engines.masks import choose, clear

        def edit(layer: Layer, inputs: Inputs) -> None:
            scores = torch.from_numpy(context().generator("random", str(layer)).random(tuple(layer.weight.shape)))
            clear(layer.weight, choose(scores.to(layer.weight.device), self.sparsity, self.pattern))

        return store(model, walk(model, None, edit))
