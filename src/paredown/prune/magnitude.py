"""Smallest absolute value: the control of every other choice of weights."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Literal

from paredown.artifacts.model import Model
from paredown.core.strategy import Share, Strategy

if TYPE_CHECKING:
    from torch import Tensor

    from paredown.engines.layers import Inputs, Layer


def magnitude_mask(weight: Tensor, sparsity: float, pattern: str = "unstructured", compare: str = "layer") -> Tensor:
    """True where a weight of (out_features, in_features) is among the smallest of its layer, row or group."""
    from paredown.engines.masks import choose

    return choose(weight.abs(), sparsity, pattern, compare)


class Magnitude(Strategy):
    """Set the weights with the smallest absolute value to zero, in every linear layer of every block.

    Source: Han et al. 2015, arXiv 1506.02626, section 3.1; per layer as in Zhu and Gupta 2017, arXiv 1710.01878.
    Costs: one pass over the weights; no data; memory of one block.
    Control: prune.random.
    Not for: CPU speed: no kernel here skips zeros; use prune.channels there.
    """

    tags: ClassVar[tuple[str, ...]] = ("when-after", "what-weights", "how-magnitude", "scope-layer", "speedup-special")
    systems: ClassVar[tuple[int, ...]] = (27, 32, 41)
    extras: ClassVar[tuple[str, ...]] = ("train",)

    sparsity: Share = 0.5  # share of each linear layer's weights set to zero, 0 <= s < 1; with a pattern it follows from that
    pattern: Literal["unstructured", "2:4", "4:8"] = "unstructured"  # or so many zeros of each so many neighbours in a row
    compare: Literal["layer", "row"] = "layer"  # a weight competes with those of its layer, or of its row (output)

    def estimate(self, inputs: dict[str, Any]) -> dict[str, float]:
        from paredown.engines.estimates import calibrated

        return calibrated(inputs.get("model"), 0)

    def __call__(self, model: Model) -> Model:
        """The model with zeros; shapes stay.

        Raises:
            DataError: a weight is NaN or infinite, or the checkpoint is a pickle.
            UserError: rows cannot be cut into the groups of the pattern.
        """
        from paredown.engines.layers import store, walk
        from paredown.engines.masks import clear

        def edit(layer: Layer, inputs: Inputs) -> None:
            clear(layer.weight, magnitude_mask(layer.weight, self.sparsity, self.pattern, self.compare))

        return store(model, walk(model, None, edit))
