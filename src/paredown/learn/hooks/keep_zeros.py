"""Training that keeps pruned weights at zero."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from paredown.engines.parts import Hook

if TYPE_CHECKING:
    import torch

    from paredown.engines.trainer import State


def zero_masks(module: torch.nn.Module) -> dict[str, torch.Tensor]:
    """1 where a weight of a linear layer is not zero, 0 where it is; only layers that hold a zero, a shared weight once."""
    import torch
    from transformers.pytorch_utils import Conv1D

    masks: dict[str, torch.Tensor] = {}
    seen = set()
    for name, layer in module.named_modules():
        if isinstance(layer, (torch.nn.Linear, Conv1D)) and id(layer.weight) not in seen:
            seen.add(id(layer.weight))
            mask = (layer.weight.detach() != 0).to(layer.weight.dtype)
            if not bool(mask.all()):
                masks[f"{name}.weight"] = mask
    return masks


class KeepZeros(Hook):
    """Keep every weight of a linear layer that is zero at the start at zero, so that healing keeps what pruning took.

    Masked are the gradient (so that clipping sees only what is trained), the optimizer's state and the weight itself.

    Source: none (the usual masked fine-tuning after pruning, as in Zhu and Gupta 2017, arXiv 1710.01878, section 3).
    Costs: four products per weight and step, under 1% of a step; five bytes per weight of the masked layers.
    Control: none (without it, pruned weights grow back and nothing is saved).
    """

    tags: ClassVar[tuple[str, ...]] = ("when-during", "when-after", "what-weights", "speedup-none", "needs-gradients", "needs-retraining")
    extras: ClassVar[tuple[str, ...]] = ("train",)

    def start(self, state: State) -> None:
        from paredown.engines.sparse_training import hold

        parameters = dict(state.module.named_parameters())
        taken = {name: mask == 0 for name, mask in zero_masks(state.module).items() if name in parameters}
        hold(state, "keep_zeros", parameters, taken)

    def gradient(self, state: State) -> None:
        state.memory["keep_zeros"].mask_gradients()

    def step(self, state: State) -> None:
        state.memory["keep_zeros"].keep(state.optimizer)
