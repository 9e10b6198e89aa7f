"""Training that keeps pruned weights at zero."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from paredown.engines.parts import Hook

if TYPE_CHECKING:
    from paredown.engines.training import State


class KeepZeros(Hook):
    """Keep every weight that pruning set to zero at zero, so that healing keeps what it took.

    Those are the weights of linear layers, convolutions and stacked experts that are zero at the start; embeddings, norms and
    biases train freely. Masked are the gradient (so that clipping sees only what is trained), the optimizer's state and the weight itself.

    Source: none (the usual masked fine-tuning after pruning, as in Zhu and Gupta 2017, arXiv 1710.01878, section 3).
    Costs: four products per weight and step, under 1% of a step; five bytes per weight of the masked layers.
    Control: none (without it, pruned weights grow back and nothing is saved).
    """

    tags: ClassVar[tuple[str, ...]] = ("when-during", "when-after", "what-weights", "speedup-none", "needs-gradients", "needs-retraining")
    extras: ClassVar[tuple[str, ...]] = ("train",)

    def start(self, state: State) -> None:
        from paredown.engines.sparse_training import hold, zero_masks

        hold(state, "keep_zeros", dict(state.module.named_parameters()), zero_masks(state.module))

    def gradient(self, state: State) -> None:
        state.memory["keep_zeros"].mask_gradients()

    def step(self, state: State) -> None:
        state.memory["keep_zeros"].keep(state.optimizer)
