"""Stochastic gradient descent with momentum."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, ClassVar, Self

from pydantic import Field, model_validator

from paredown.core.strategy import Share
from paredown.engines.parts import Optimizer

if TYPE_CHECKING:
    import torch


class Sgd(Optimizer):
    """Gradient descent with momentum; weight decay is part of the gradient, and on matrices and convolutions only.

    A step is v <- momentum v + g + decay w, w <- w - rate v; with nesterov, w <- w - rate (g + decay w + momentum v).
    Usual for image networks with a learning rate of 0.1 and steps down; `clip: 0` leaves gradients as they are.

    Source: Sutskever et al. 2013, On the importance of initialization and momentum in deep learning, eq. 1 to 4, in torch's form.
    Costs: one number of state per weight.
    Control: learn.optimizers.adamw
    """

    tags: ClassVar[tuple[str, ...]] = ("when-during", "what-weights", "speedup-none", "needs-gradients")
    systems: ClassVar[tuple[int, ...]] = (41,)
    extras: ClassVar[tuple[str, ...]] = ("train",)

    momentum: Share = 0.9  # memory of the gradients before, 0 <= m < 1
    weight_decay: Annotated[float, Field(ge=0)] = 1e-4  # times the weight, added to its gradient
    nesterov: bool = False  # look ahead along the momentum

    @model_validator(mode="after")
    def _has_momentum(self) -> Self:
        if self.nesterov and not self.momentum:
            raise ValueError("nesterov needs a momentum above 0")
        return self

    def build(self, module: torch.nn.Module) -> torch.optim.Optimizer:
        from torch.optim import SGD

        from paredown.engines.weight_groups import decay_groups

        return SGD(decay_groups(module, self.weight_decay), lr=0.0, momentum=self.momentum, nesterov=self.nesterov, fused=True)
