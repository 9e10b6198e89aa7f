"""The kinds of parts that plug into engines. Importing this imports no torch."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Protocol

from pydantic import Field, model_validator

from paredown.core.strategy import Configured, Part

if TYPE_CHECKING:
    from pathlib import Path

    import numpy
    import torch

    from paredown.artifacts.examples import Examples
    from paredown.artifacts.tokens import Tokens
    from paredown.engines.choosing import Ask, Chooser, Item
    from paredown.engines.embedder import Embedding
    from paredown.engines.generator import Backend
    from paredown.engines.prefill import Begun, Reading, Text
    from paredown.engines.training import State


if TYPE_CHECKING:
    Loss = tuple[torch.Tensor, int] | tuple[torch.Tensor, int, dict[str, tuple[torch.Tensor, int]]]


class Rows(Protocol):
    """What a training reads, cut into rows; one pass over all rows is an epoch."""

    @property
    def rows(self) -> int:
        """Rows of one epoch."""

    def fill(self, chosen: numpy.ndarray[Any, Any], generator: numpy.random.Generator) -> dict[str, Any]:
        """The batch of these rows: arrays whose first axis is the rows.

        `generator` is for rows that are made anew each time, such as corrupted ones; it depends on the seed and the batch's number only.
        """

    def column(self, name: str) -> numpy.ndarray[Any, Any]:
        """One number of each row, (rows,), such as its `label`.

        Raises:
            UserError: rows have no such number.
        """


@dataclass(frozen=True)
class Draw:
    """Which batch a sampler is asked for."""

    seed: int
    index: int  # number of the batch, from 0
    size: int  # rows of the batch
    kept: Mapping[str, torch.Tensor] = field(default_factory=dict)  # what the sampler keeps in `state.kept` under its name


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

    def loss(self, module: torch.nn.Module, batch: dict[str, Any]) -> Loss:
        """(mean loss in nats over the batch's predicted tokens, number of predicted tokens), and where it has parts, those.

        `batch` holds some of the rows as tensors on the module's device, and `predicted`, the number of their targets. The parts are
        (mean, number) by name, always the same names; each becomes a curve of its own.
        """
        raise TypeError(f"{self.strategy_name()} defines no loss")


class Schedule(Part):
    """The learning rate as a share of its peak. The rise at the start is the trainer's (`warmup`)."""

    def factor(self, progress: float) -> float:
        """`progress` is the share of the whole budget that is spent, the rise at the start included, 0 to 1; the result is 0 to 1, and the rise multiplies it."""
        raise TypeError(f"{self.strategy_name()} defines no factor")


class Optimizer(Part):
    """How gradients become steps."""

    def build(self, module: torch.nn.Module) -> torch.optim.Optimizer:
        """An optimizer of the module's weights. The trainer sets the learning rate of each group before every step, times the group's `lr_scale`."""
        raise TypeError(f"{self.strategy_name()} defines no build")


class Hook(Part):
    """Reads and changes the training state at the points that it defines; see the loop in `engines/trainer.py`."""

    points: ClassVar[tuple[str, ...]] = ("start", "batch", "loss", "gradient", "step", "end")
    partial: ClassVar[bool] = False  # some weights may get no gradient in a step, which several processes must know beforehand

    def prepare(self, module: torch.nn.Module) -> None:
        """Add, replace or freeze weights before the optimizer is built; randomness from torch's current generator."""

    def start(self, state: State) -> None: ...
    def batch(self, state: State) -> None: ...
    def loss(self, state: State) -> None: ...
    def gradient(self, state: State) -> None: ...
    def step(self, state: State) -> None: ...
    def end(self, state: State) -> None: ...

    def beside(self, module: torch.nn.Module, folder: Path) -> None:
        """Write what shall lie beside the saved model (unmerged adapters) into `folder`, in a folder of its own; `merge` comes next."""

    def merge(self, module: torch.nn.Module) -> None:
        """Give the trained module, whole and on the CPU, the form in which it is saved: what `prepare` added is merged."""


class Sampler(Hook):
    """Which rows make batch i: a pure function of (seed, i) and of what it keeps; the same for tokens and for examples.

    As a hook it is called before the others. What it learns of the training is kept in `state.kept`, which checkpoints save.
    """

    def choose(self, rows: Rows, draw: Draw) -> numpy.ndarray[Any, Any]:
        """The `draw.size` indices, 0 to `rows.rows` - 1, of the rows of batch `draw.index`."""
        raise TypeError(f"{self.strategy_name()} defines no choose")


class Architecture(Part):
    """A model that does not exist yet.

    A module that is no class of transformers is rebuilt from these knobs when it is loaded, so they say all of its shape.
    """

    def build(self, vocab_size: int, end_of_text: int) -> torch.nn.Module:
        """A new module with random weights from torch's current generator; both arguments are 0 where no tokens are read."""
        raise TypeError(f"{self.strategy_name()} defines no build")

    def settled(self, vocab_size: int) -> Architecture:
        """The same with every number said that `build` takes from the data, so that the module can be rebuilt without them."""
        return self

    def parameters(self, vocab_size: int) -> int:
        """How many weights `build` makes, without building."""
        raise TypeError(f"{self.strategy_name()} defines no parameters")


class Answerer(Part):
    """What answers questions: a model here, a server, a rule. A strategy that asks takes `Model | Answerer` and opens it with `generator.opened`."""

    def open(self) -> Backend:
        """Ready to be asked; nothing heavy is loaded before the first question that is not stored."""
        raise TypeError(f"{self.strategy_name()} defines no open")


class Embedder(Part):
    """What makes texts into vectors: a fitted projection, a model, a server. Opened with `embedder.opened`."""

    def open(self, fitted_on: Sequence[str]) -> Embedding:
        """Ready to embed; `fitted_on` is what an embedder without a model of its own learns from."""
        raise TypeError(f"{self.strategy_name()} defines no open")


class Prefill(Part):
    """How prompts and texts of different lengths go through a language model together."""

    def read(self, module: Any, texts: Sequence[Text], *, keep: bool = False) -> Iterator[Reading]:
        """What each forward pass says of the texts that end in it; every text is read as if it were alone.

        keep: give keys and values too.
        """
        raise TypeError(f"{self.strategy_name()} defines no read")

    def begin(self, module: Any, prompts: Sequence[Sequence[int]], more: int) -> Begun:
        """Prompts of one token at least, read so that decoding can go on from them for `more` tokens."""
        from paredown.engines import prefill

        return prefill.begin(module, prompts, functools.partial(self.read, module, keep=True), more)


class Prompting(Part):
    """How a question with options is put to whatever answers, and how what comes back becomes a choice."""

    def open(self, known: Sequence[Item], ask: Ask, generator: numpy.random.Generator) -> Chooser:
        """Ready to choose; `known` are solved items to learn from or to show. What is to be done once, such as chains of thought, is done here."""
        raise TypeError(f"{self.strategy_name()} defines no open")
