"""Second-order pruning in one sweep: every weight taken is made good by the ones still to come."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import Field

from paredown.artifacts.model import Model
from paredown.artifacts.tokens import Tokens
from paredown.core.strategy import Count, Positive, Share, Strategy

if TYPE_CHECKING:
    from torch import Tensor

    from paredown.engines.layers import Inputs, Layer


def sparsegpt(weight: Tensor, upper: Tensor, sparsity: float, pattern: str = "unstructured", columns: int = 128) -> Tensor:
    """Prune `weight` (out_features, in_features) in place, given the factor of its inputs; the mask of what was taken.

    `upper` is the upper Cholesky factor of the inverse of the damped X X^T (`engines.compensation.inverse_factor`). Of each
    `columns` neighbouring columns the share with the smallest error (w / U_jj)^2 goes (arXiv 2301.00774, algorithm 1); with a
    pattern, of each group of m in a row.
    """
    from paredown.engines.compensation import sweep
    from paredown.engines.masks import PATTERNS, choose

    def lowest_error(part: Tensor, diagonal: Tensor) -> Tensor:
        return choose((part / diagonal).square(), sparsity, pattern)

    # a group of a pattern is chosen by the weights as they stand when the sweep arrives at it
    return sweep(weight, upper, lowest_error, columns if pattern == "unstructured" else PATTERNS[pattern][1])


class Sparsegpt(Strategy):
    """Prune by the error that taking a weight causes, and change the weights that stay to make it good.

    Inputs are those that a layer gets from what was pruned before it, within its block too. An expert that no token reached is
    pruned by magnitude.

    Source: Frantar and Alistarh 2023, arXiv 2301.00774, algorithm 1.
    Costs: one forward pass over the calibration tokens, and per layer of input width n a Gram matrix (2 n^2 FLOPs a token), three
        factorizations (4/3 n^3) and the sweep (n^2 for each output); memory of one block, its activations and one n x n matrix.
    Control: prune.magnitude.
    Not for: CPU speed: no kernel here skips zeros; use prune.channels there.
    """

    tags: ClassVar[tuple[str, ...]] = ("when-after", "what-weights", "how-reconstruction", "scope-layer", "speedup-special", "needs-data")
    systems: ClassVar[tuple[int, ...]] = (32,)
    extras: ClassVar[tuple[str, ...]] = ("train",)
    seeded: ClassVar[bool] = True

    sparsity: Share = 0.5  # share of each linear layer's weights set to zero, 0 <= s < 1; with a pattern it follows from that
    pattern: Literal["unstructured", "2:4", "4:8"] = "unstructured"  # or so many zeros of each so many neighbours in a row
    columns: Count = 128  # columns whose mask is chosen together
    damping: Positive = 0.01  # share of the mean of the Gram matrix's diagonal that is added to it
    calibration_tokens: Count = 32_768  # tokens to calibrate on, about; the paper takes 262,144
    length: Annotated[int, Field(ge=0)] = 0  # tokens of a calibration window; 0: the model's context

    def estimate(self, inputs: dict[str, Any]) -> dict[str, float]:
        from paredown.engines.estimates import calibrated

        return calibrated(inputs.get("model"), self.calibration_tokens, gram=True)

    def __call__(self, model: Model, calibration: Tokens) -> Model:
        """The model with zeros and changed weights; shapes stay.

        Raises:
            DataError: a weight or an input is NaN or infinite, the checkpoint is a pickle, or there are no tokens.
            UserError: rows cannot be cut into the groups of the pattern, or the tokens are of another vocabulary.
        """
        from paredown.core.context import context
        from paredown.engines import compensation, layers

        def edit(layer: Layer, inputs: Inputs) -> None:
            width = layer.weight.shape[1]
            if "upper" not in inputs.shared:
                inputs.shared["upper"] = compensation.inverse_factor(inputs.gram, self.damping)
                context().charge(flops=4 / 3 * width**3, how="factorizations 4/3 n^3")
            weight = layer.weight.float()
            weight[:, inputs.gram.diagonal() == 0] = 0  # what is never multiplied with anything is free
            sparsegpt(weight, inputs.shared["upper"], self.sparsity, self.pattern, self.columns)
            layer.weight.copy_(weight)

        ids = layers.calibration(calibration, model, self.calibration_tokens, self.length)
        return layers.store(model, layers.walk(model, ids, edit))
