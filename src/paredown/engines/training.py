"""What a training is made of: how it is set up, the state that hooks read and change, and what comes out of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from paredown.engines.batches import Batch
from paredown.engines.parts import Budget, Hook, Objective, Optimizer, Rows, Schedule


@dataclass(frozen=True)
class Setup:
    """How to train; `learn.train` says what each means."""

    objective: Objective
    optimizer: Optimizer
    schedule: Schedule
    budget: Budget
    hooks: tuple[Hook, ...] = ()
    learning_rate: float = 1e-3
    warmup: float = 0.0
    clip: float = 1.0
    accumulate: int = 1
    precision: str = "auto"
    device: str = "auto"
    parallel: str = "none"
    compile: bool = False
    log_every: int = 10
    evaluate_every: int = 0
    checkpoint_seconds: float = 20.0
    trackers: tuple[str, ...] = ()
    tracker_folder: str = ""


# plain fields of the state that checkpoints keep
SAVED = ("step", "tokens", "processed", "flops", "seconds", "weights", "active_tokens", "measured")


@dataclass
class State:
    """What hooks read and change."""

    module: nn.Module  # the module itself
    forward: nn.Module  # the same as the objective calls it: wrapped for several processes, compiled
    optimizer: torch.optim.Optimizer
    setup: Setup
    seed: int
    generator: torch.Generator  # on the CPU; reseeded from (seed, step)
    device: torch.device
    step: int = 0  # optimizer steps done
    tokens: int = 0  # tokens trained on by all processes, padding not counted
    processed: int = 0  # tokens fed to the model, where an objective does not predict all of them
    flops: float = 0.0  # counted, all processes
    seconds: float = 0.0  # of the loop, over all tries
    active: int = 0  # weights that no hook holds at zero; see `sparse_training.recount`
    weights: int = 0  # active weights when the training began
    active_tokens: float = 0.0  # sum over tokens of the weights that were active: over the tokens, the average parameter count
    progress: float = 0.0  # share of the budget at the middle of the current step
    learning_rate: float = 0.0  # of the current step
    source: Rows | None = None  # what is trained on
    batch: Batch = field(default_factory=dict)  # the current micro-batch, on the device
    variant: str = ""  # set by a hook at `batch` where it changes what a batch of this shape computes, so that its FLOPs are counted anew
    loss: Tensor = field(default_factory=lambda: torch.zeros(()))  # of the micro-batch, nats
    kept: dict[str, dict[str, Tensor]] = field(default_factory=dict)  # tensors of hooks, by hook, saved in checkpoints
    memory: dict[str, Any] = field(default_factory=dict)  # anything of hooks that `start` makes again; not saved
    measured: dict[str, float] = field(default_factory=dict)  # what hooks want drawn as curves, by name; logged beside the loss
    about_rows: dict[str, Tensor] = field(
        default_factory=dict
    )  # at `end`: columns, a value for each row trained on, kept beside the weights
    stop: bool = False  # a hook may end the training after this step

    def spent(self, half_of: dict[str, float] | None = None) -> float:
        """Share of the budget that is spent, 1 at its end; with `half_of`, plus half of what this step takes."""
        budget = self.setup.budget
        done = {"tokens": self.tokens, "steps": self.step, "flops": self.flops, "seconds": self.seconds}
        kind, limit = next((name, value) for name in done if (value := getattr(budget, name)) is not None)
        if kind == "tokens":
            limit = max(1, int(limit))
        share: float = (done[kind] + (half_of or {}).get(kind, 0) / 2) / limit
        return share


@dataclass(frozen=True)
class Outcome:
    module: nn.Module  # on the CPU, in evaluation mode; whole on the main process only where it was sharded
    steps: int
    tokens: int
    flops: float
    seconds: float
    held_out_loss: float | None
    facts: dict[str, Any]  # JSON: precision, device, curves, ...
    about_rows: dict[str, Tensor]  # what hooks noted of each row
    beside: Path  # what hooks want to lie beside the saved model; there only where one wrote something


Batches = Callable[[State], Batch]
