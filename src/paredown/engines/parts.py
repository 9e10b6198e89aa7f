"""The kinds of parts that plug into engines. Importing this imports no torch."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Protocol

from pydantic import Field, model_validator

from paredown.core.strategy import Configured, Part

if TYPE_CHECKING:
    import numpy
    import torch

    from paredown.artifacts.examples import Examples
    from paredown.artifacts.tokens import Tokens
    from paredown.engines.trainer import State


class Rows(Protocol):
    """What a training reads, cut into rows; one pass over all rows is an epoch."""

    @property
    def rows(self) -> int:
        """Rows of one epoch."""

    def fill(self, chosen: numpy.ndarray[Any, Any]) -> dict[str, Any]:
        """The batch of these rows: arrays whose first axis is the rows."""


class Budget(Configured):
    """How much a step may spend: exactly one of these."""

    tokens: Annotated[float, Field(gt=0)] | None = None  # training tokens, padding not counted
    steps: Annotated[int, Field(gt=0)] | None = None  # optimizer steps
    epochs: Annotated[float, Field(gt=0)] | None = None  # passes over the data; rounded up to whole steps
    seconds: Annotated[float, Field(gt=0)] | None = None  # wall seconds of the loop; not reproducible to the byte
    flops: Annotated[float, Field(gt=0)] | None = None  # training FLOPs, counted

    @model_validator(mode="after")
    def _exactly_one(self) -> Budget:
        given = [name for name in type(self).model_fields if getattr(self, name) is not None]
        if len(given) != 1:
            raise ValueError(
                f"give exactly one of {', '.join(type(self).model_fields)}" + (f", not {' and '.join(given)}" if given else "")
            )
        return self


class Objective(Part):
    """What the model learns: how data become rows, and the loss of a batch of them."""

    def rows(self, data: Tokens | Examples, length: int) -> Rows:
        """The rows that are learned from; `length` is the tokens of a row.

        Raises:
            UserError: the objective learns from another kind of data.
        """
        raise TypeError(f"{self.strategy_name()} defines no rows")

    def prepare(self, module: torch.nn.Module) -> None:
        """Called once before the first batch, in every process."""

    def loss(self, module: torch.nn.Module, batch: dict[str, Any]) -> tuple[torch.Tensor, int]:
        """(mean loss in nats over the batch's predicted tokens, number of predicted tokens).

        `batch` holds some of the rows as tensors on the module's device, and `predicted`, the number of their targets.
        """
        raise TypeError(f"{self.strategy_name()} defines no loss")


class Schedule(Part):
    """The learning rate as a share of its peak. The rise at the start is the trainer's (`warmup`)."""

    def factor(self, progress: float) -> float:
        """`progress` is the share of the budget that is spent, 0 to 1; the result is 0 to 1."""
        raise TypeError(f"{self.strategy_name()} defines no factor")


class Sampler(Part):
    """Which rows make batch i; a pure function of (seed, i), the same for tokens and for examples."""

    def choose(self, rows: int, seed: int, index: int, batch_size: int) -> numpy.ndarray[Any, Any]:
        """The `batch_size` indices, 0 to `rows` - 1, of the rows of batch `index`."""
        raise TypeError(f"{self.strategy_name()} defines no choose")


class Optimizer(Part):
    """How gradients become steps."""

    def build(self, module: torch.nn.Module) -> torch.optim.Optimizer:
        """An optimizer of the module's weights. The trainer sets the learning rate of each group before every step, times the group's `lr_scale`."""
        raise TypeError(f"{self.strategy_name()} defines no build")


class Hook(Part):
    """Reads and changes the training state at the points that it defines; see the loop in `engines/trainer.py`."""

    points: ClassVar[tuple[str, ...]] = ("start", "batch", "loss", "gradient", "step", "end")

    def start(self, state: State) -> None: ...
    def batch(self, state: State) -> None: ...
    def loss(self, state: State) -> None: ...
    def gradient(self, state: State) -> None: ...
    def step(self, state: State) -> None: ...
    def end(self, state: State) -> None: ...


class Architecture(Part):
    """A model that does not exist yet.

    A module that is no class of transformers is rebuilt from these knobs when it is loaded, so they say all of its shape.
    """

    def build(self, vocab_size: int, end_of_text: int) -> torch.nn.Module:
        """A new module with random weights from torch's current generator; both arguments are 0 where no tokens are read."""
        raise TypeError(f"{self.strategy_name()} defines no build")

    def parameters(self, vocab_size: int) -> int:
        """How many weights `build` makes, without building."""
        raise TypeError(f"{self.strategy_name()} defines no parameters")
