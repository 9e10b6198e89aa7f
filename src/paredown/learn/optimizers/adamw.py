"""AdamW in torch's fused form."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, ClassVar

from pydantic import Field

from paredown.core.strategy import Count, Positive
from paredown.engines.parts import Optimizer

if TYPE_CHECKING:
    import torch

Beta = Annotated[float, Field(ge=0, lt=1)]


class Adamw(Optimizer):
    """Adam with weight decay apart from the gradient, on matrices only.

    Source: Loshchilov and Hutter 2017, arXiv 1711.05101, algorithm 2; base_width as in Yang et al. 2022, arXiv 2203.03466, table 3.
    Costs: two numbers of state per weight.
    Control: none (it is the control of the other optimizers).
    """

    tags: ClassVar[tuple[str, ...]] = ("when-during", "what-weights", "speedup-none", "needs-gradients")
    extras: ClassVar[tuple[str, ...]] = ("train",)

    beta1: Beta = 0.9  # memory of the mean gradient, 0 <= b < 1
    beta2: Beta = 0.95  # memory of the mean squared gradient, 0 <= b < 1
    epsilon: Positive = 1e-8  # added to the root of the mean squared gradient
    weight_decay: Annotated[float, Field(ge=0)] = 0.1  # per step, times the learning rate
    # width that learning_rate is meant for: linear layers of wider models get less of it, so that one rate serves all widths; not given: all get it whole
    base_width: Count | None = None

    def build(self, module: torch.nn.Module) -> torch.optim.Optimizer:
        from torch.optim import AdamW

        from paredown.engines.weight_groups import decay_groups, width_groups

        groups = decay_groups(module, self.weight_decay)
        if self.base_width is not None:
            groups = width_groups(module, groups, self.base_width)
        return AdamW(groups, betas=(self.beta1, self.beta2), eps=self.epsilon, fused=True)
