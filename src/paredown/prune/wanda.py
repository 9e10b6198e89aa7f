"""Magnitude times input norm, row by row."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import Field

from paredown.artifacts.model import Model
from paredown.artifacts.tokens import Tokens
from paredown.core.strategy import Count, Share, Strategy

if TYPE_CHECKING:
    from torch import Tensor

    from paredown.engines.layers import Inputs, Layer


def wanda_mask(weight: Tensor, input_norm: Tensor, sparsity: float, pattern: str = "unstructured") -> Tensor:
    """True where a weight goes: the lowest |W_ij| ||X_j||_2 of each row i (arXiv 2306.11695, eq. 1).

    `weight` is (out_features, in_features), `input_norm` (in_features,).
    """
    from paredown.engines.masks import choose

    return choose(weight.abs() * input_norm, sparsity, pattern, compare="row")


class Wanda(Strategy):
    """Prune the weights whose magnitude times input norm is smallest, row by row.

    Inputs are those that a layer gets from what was pruned before it, within its block too; the paper takes them from the block
    while it is still dense, which costs a second pass. An expert that no token reached is pruned by magnitude.

    Source: Sun et al. 2023, arXiv 2306.11695, eq. 1.
    Costs: one forward pass over the calibration tokens; memory of one block and its activations.
    Control: prune.magnitude.
    Not for: CPU speed: no kernel here skips zeros; use prune.channels there.
    """

    tags: ClassVar[tuple[str, ...]] = (
        "when-after",
        "what-weights",
        "how-magnitude",
        "how-norm",
        "scope-row",
        "speedup-special",
        "needs-data",
    )
    systems: ClassVar[tuple[int, ...]] = (32, 39, 80)
    extras: ClassVar[tuple[str, ...]] = ("train",)
    seeded: ClassVar[bool] = True

    sparsity: Share = 0.5  # share of each row's weights set to zero, 0 <= s < 1; with a pattern it follows from that
    pattern: Literal["unstructured", "2:4", "4:8"] = "unstructured"  # or so many zeros of each so many neighbours in a row
    calibration_tokens: Count = 32_768  # tokens to calibrate on, about; the paper takes 262,144
    length: Annotated[int, Field(ge=0)] = 0  # tokens of a calibration window; 0: the model's context

    def estimate(self, inputs: dict[str, Any]) -> dict[str, float]:
        from paredown.engines.estimates import calibrated

        return calibrated(inputs.get("model"), self.calibration_tokens)

    def __call__(self, model: Model, calibration: Tokens) -> Model:
        """The model with zeros; shapes stay.

        Raises:
            DataError: a weight or an input is NaN or infinite, the checkpoint is a pickle, or there are no tokens.
            UserError: rows cannot be cut into the groups of the pattern, or the tokens are of another vocabulary.
        """
        from paredown.engines import layers, masks

        def edit(layer: Layer, inputs: Inputs) -> None:
            masks.clear(layer.weight, wanda_mask(layer.weight, inputs.norms, self.sparsity, self.pattern))

        ids = layers.calibration(calibration, model, self.calibration_tokens, self.length)
        return layers.store(model, layers.walk(model, ids, edit))
