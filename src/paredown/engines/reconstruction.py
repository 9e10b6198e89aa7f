"""Training a changed model block by block so that each block gives again what the block of the unchanged model gives.

    for block in blocks:                          # a walk as in `engines.layers`: memory holds one block of each model
        wanted = reference block(inputs)          # inputs: what the blocks before it give after their own reconstruction
        train the block towards wanted            # by the one training loop, with its hooks, checkpoints and curves
        keep it only if its error on all inputs fell

Rows are the windows of the calibration tokens, each with what the model gives its blocks beside (masks, positions).
"""

from __future__ import annotations

import dataclasses
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from paredown.artifacts.model import Model
from paredown.core.context import Context, context
from paredown.core.errors import UserError
from paredown.engines.layers import Block, Inputs, Layer, Walked, Walker
from paredown.engines.model_files import Files
from paredown.engines.orders import shuffled
from paredown.engines.parts import Objective
from paredown.engines.trainer import fit
from paredown.engines.training import Setup, State


@dataclass(frozen=True)
class Call:
    """What a block is called with, for all rows together."""

    args: tuple[Any, ...]
    more: dict[str, Any]
    rows: int

    def some(self, chosen: Tensor) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """The arguments for some of the rows."""
        return tuple(self._cut(value, chosen) for value in self.args), {name: self._cut(value, chosen) for name, value in self.more.items()}

    def _cut(self, value: Any, chosen: Tensor) -> Any:
        if isinstance(value, (tuple, list)):
            return type(value)(self._cut(item, chosen) for item in value)
        # what all rows share, such as positions, has a first dimension of 1; of one dimension are things that have no rows
        return value[chosen] if isinstance(value, Tensor) and value.dim() > 1 and value.shape[0] == self.rows else value


class _Called(nn.Module):
    """A block that is asked for rows of its call; among its modules it stands in a list, as blocks do."""

    def __init__(self, block: nn.Module, call: Call) -> None:
        super().__init__()
        self.blocks = nn.ModuleList([block])
        self.call = call

    def forward(self, rows: Tensor) -> Tensor:
        args, more = self.call.some(rows)
        # not by calling it: the walk's hooks on the block would walk on
        return first(self.blocks[0].forward(*args, **more))


class MeanSquared(Objective):
    """Mean squared distance of what the block gives to what it should give, over all rows, tokens and features."""

    def loss(self, module: nn.Module, batch: dict[str, Any]) -> tuple[Tensor, int]:
        return (module(batch["rows"]).float() - batch["wanted"]).square().mean(), len(batch["rows"])


def first(output: Any) -> Tensor:
    """The hidden states among what a block gives."""
    found: Tensor = output[0] if isinstance(output, tuple) else output
    return found


def reconstruct(model: Model, reference: Model, ids: Tensor, setup: Setup, batch_size: int) -> Walked:
    """Train every block of `model` towards the same block of `reference`; see the head of this file.

    `ids` is (rows, length). Each block's notes say the mean squared `error` `before` and `after`, and the `loss` curve. A killed walk goes on
    in the block where it was, at its last checkpoint.

    Raises:
        UserError: the two models have other blocks, or a hook leaves files beside every block.
    """
    folder = context().scratch / "blocks"
    folder.mkdir(parents=True, exist_ok=True)
    with Files(model) as files, Files(reference) as others:
        walker = _Rebuilding(model, files, folder, Walker(reference, others, _nothing, None), setup, batch_size)
        walker.forward(ids)
        return Walked(folder, walker.done, walker.pieces)


def _nothing(layer: Layer, inputs: Inputs) -> None:
    """The walk edits no layer: blocks change as a whole."""


class _Rebuilding(Walker):
    """The walk over the model, with a second one whose blocks are loaded beside it."""

    def __init__(self, model: Model, files: Files, folder: Path, other: Walker, setup: Setup, batch_size: int) -> None:
        super().__init__(model, files, _nothing, folder)
        self.other, self.setup, self.batch_size = other, setup, batch_size
        self.single = self.other.single = True  # weights that train are fp32
        if self.blocks.keys() != other.blocks.keys():
            raise UserError(
                f"the model has {len(self.blocks)} blocks and the reference {len(other.blocks)}, or they have other names",
                where="reference",
            )

    def rework(self, block: Block, args: tuple[Any, ...], more: dict[str, Any]) -> None:
        hidden = args[0] if args else more["hidden_states"]
        call = Call(args, more, len(hidden))
        wanted = self._wanted(block.name, call)
        if wanted.shape != hidden.shape:
            raise UserError(f"{block.name} of the reference gives another width than the model has", where="reference")
        module = self.blocks[block.name]
        called = _Called(module, call)
        self.block = None  # the walk does not look on while the block trains
        before = self._error(called, wanted)
        block.notes["error"] = {"before": before, "after": before}
        if before:
            self._train(block, called, wanted)
        module.to(self.device)
        with torch.no_grad():
            for name, value in module.state_dict().items():
                full = f"{block.name}.{name}"
                value.copy_(value.to(self.files.dtype(self.pieces[full][0].key)))  # go on with exactly what will be stored
        after = self._error(called, wanted) if before else before
        if after < before:
            block.notes["error"]["after"] = after
        else:
            self.load(module, block.name, self.files.tensor, recurse=True)
        self.block = block
        self.register(block)

    def _wanted(self, name: str, call: Call) -> Tensor:
        module = self.other.blocks[name]
        self.other.load(module, name, self.other.files.tensor, recurse=True)
        found = self._outputs(_Called(module, call))
        self.other.unload(module)
        return found

    def _outputs(self, called: _Called) -> Tensor:
        called.eval()
        with torch.no_grad():
            rows = torch.arange(called.call.rows, device=self.device)
            return torch.cat([called(part) for part in torch.split(rows, self.batch_size)])

    def _error(self, called: _Called, wanted: Tensor) -> float:
        return float((self._outputs(called) - wanted).double().square().mean())

    def _train(self, block: Block, called: _Called, wanted: Tensor) -> None:
        step = context()
        inner = Context(step.folder, step.scratch / f"block-{block.number:05d}", seed=step.seed, name=f"{step.name}, {block.name}")
        targets = wanted.float().cpu().numpy()
        seed = step.derived_seed("reconstruct", block.name)

        def batch(state: State) -> dict[str, Any]:
            rows = shuffled(len(targets), seed, state.step, min(self.batch_size, len(targets)))
            return {"rows": rows, "wanted": targets[rows]}

        with torch.enable_grad():
            for value in called.parameters():
                value.requires_grad_(True)
            outcome = fit(called, batch, dataclasses.replace(self.setup, device=self.device.type), seed=seed, step=inner)
        if outcome.beside.is_dir():
            raise UserError("a hook leaves files beside every block, for which there is no place", where="hooks")
        block.notes["loss"] = [point[2] for point in outcome.facts["curves"]["loss"]]
        step.charge(flops=outcome.flops, how="training of blocks, counted", tokens=outcome.steps * self.batch_size * targets.shape[1])
        called.requires_grad_(False)
        shutil.rmtree(inner.scratch, ignore_errors=True)  # the walk saves the block at once
