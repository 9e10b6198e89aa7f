"""Pruned weights back at earlier values."""

from __future__ import annotations

from typing import Any, ClassVar

from paredown.artifacts.model import Model
from paredown.core.strategy import Strategy


class Rewind(Strategy):
    """Put a pruned model's weights back to earlier values, and keep its zeros: the winning ticket of the lottery hypothesis.

    The zeros of linear layers and convolutions are the mask; everything else, batch norms too, is as in `weights`. Train the
    result with learn.hooks.keep_zeros. The control trains the same mask from other values: `weights` from learn.initialize
    with another variant.

    Source: Frankle and Carbin 2018, arXiv 1803.03635, section 1; the control as in Liu et al. 2018, arXiv 1810.05270, section 5.
    Costs: one pass over the weights of both models; memory of one parameter.
    Control: learn.initialize
    """

    tags: ClassVar[tuple[str, ...]] = ("when-after", "what-weights", "how-magnitude", "speedup-special", "needs-retraining")
    systems: ClassVar[tuple[int, ...]] = (41,)
    extras: ClassVar[tuple[str, ...]] = ("train",)

    def estimate(self, inputs: dict[str, Any]) -> dict[str, float]:
        from paredown.engines import estimates

        size = 4 * estimates.weights(inputs.get("model"))
        return {"seconds": size / 2e8, "memory": 1e9, "disk": 2 * size, "parameters": size / 4}

    def __call__(self, model: Model, weights: Model) -> Model:
        """`weights` times the mask of `model`, with the tokenizer of `weights`.

        Raises:
            UserError: the two models are of different shapes.
            DataError: a weight is NaN or infinite, or a checkpoint is a pickle.
        """
        from paredown.engines.rewinding import masked

        return masked(model, weights)
