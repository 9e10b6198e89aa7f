"""Walk a transformers model block by block, edit its linear layers, and write the model; memory holds one block.

The module is built without weights. One forward pass over the calibration tokens then drives everything: a block is
loaded when the pass reaches it and dropped when the pass leaves it, so the model's own code makes masks and positions and no
table of architectures is needed. When a linear layer is about to be used, its editor sees it with its true inputs, changes the
weight in place, and the layer is used as changed: what comes later is calibrated on what was really kept before it, within the block
too, at the price of a single pass.

    for block in blocks:                      # loaded from safetensors as the pass reaches it
        for layer in block, in order of use:
            edit(layer, inputs)               # inputs: all calibration tokens as this layer gets them
            output = layer(inputs)            # with the edited weight
        save; unload                          # a killed walk goes on behind the last saved block

Blocks are the items of the outermost `ModuleList`s that hold linear layers; linear layers are `Linear`, `Conv1D`, the slices of
stacked experts, and `Conv2d` with a row for each output channel, which can be walked without a pass only. Routers and gates beside
experts are left alone.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from torch import Tensor
from torch.overrides import TorchFunctionMode

from paredown.artifacts.model import Model
from paredown.artifacts.tokens import Tokens
from paredown.core.context import context
from paredown.core.errors import DataError, UserError
from paredown.engines.blocks import find_blocks, joined, linear_layers
from paredown.engines.flops import counter
from paredown.engines.memory import give_back
from paredown.engines.model_files import Cuts, Files, Piece, block_tensors, finite, layout, read, save_block, write_model
from paredown.engines.scoring import check_vocabulary, context_length, device
from paredown.engines.skeletons import architecture, skeleton

GRAM_PARTS = 4  # column blocks of a Gram matrix; of the 4 x 4 products the 6 below the diagonal are mirrored
NORM_ROWS = 256  # tokens whose squares are taken at once, so that they stay in the cache
GIVE_BACK = 4  # blocks between two times that free memory is handed back, which costs as much as a twentieth of a block
REPORT = "pruning.json"


class Inputs:
    """What a linear layer gets from all calibration tokens, shape (tokens, in_features); no tokens where nothing reached it."""

    def __init__(self, x: Tensor) -> None:
        self.x = x
        self.shared: dict[Any, Any] = {}  # what an editor derives once for all layers with these inputs

    @property
    def tokens(self) -> int:
        return int(self.x.shape[0])

    @cached_property
    def norms(self) -> Tensor:
        """L2 norm of each input feature over the tokens, (in_features,), float32; ones where there are no tokens."""
        if not self.tokens:
            return torch.ones(self.x.shape[1], device=self.x.device)
        squares = torch.zeros(self.x.shape[1], device=self.x.device)
        for rows in torch.split(self.x, NORM_ROWS):
            squares += rows.float().square().sum(dim=0)
        return squares.sqrt()

    @cached_property
    def gram(self) -> Tensor:
        """X^T X, (in_features, in_features), float32; the identity where there are no tokens."""
        x = self.x.float()
        width = x.shape[1]
        if not self.tokens:
            return torch.eye(width, device=x.device)
        gram = torch.empty(width, width, device=x.device)
        step = -(-width // GRAM_PARTS)
        for begin in range(0, width, step):
            part = slice(begin, begin + step)
            torch.mm(x[:, part].T, x[:, begin:], out=gram[part, begin:])
            gram[part.stop :, part] = gram[part, part.stop :].T
        return gram


@dataclass(frozen=True, eq=False)
class Layer:
    """A linear layer; `weight` is (out_features, in_features), a view into the module: editors change it in place."""

    name: str  # relative to the block, an expert's number in brackets
    block: Block
    weight: Tensor
    parameter: str  # the module's parameter that holds the weight

    def __str__(self) -> str:
        return joined(self.block.name, self.name)


@dataclass
class Block:
    """One block of the model while it is in memory."""

    number: int
    name: str
    parameters: dict[str, Tensor] = field(default_factory=dict)
    layers: dict[int, Layer] = field(default_factory=dict)  # by the address of the weight
    edited: list[Layer] = field(default_factory=list)  # in order of use
    notes: dict[str, Any] = field(default_factory=dict)  # what an editor wants to know at the end, as JSON

    def weight(self, name: str) -> Tensor:
        """The weight, (out_features, in_features), of the layer of that name."""
        return next(layer.weight for layer in self.layers.values() if layer.name == name)


Edit = Callable[[Layer, Inputs], None]
See = Callable[[Block, Tensor, Tensor], None]  # a block, and the hidden states (rows, length, width) before and after it


@dataclass
class Walked:
    """The outcome of a walk: where the edited blocks lie, and what the editor noted of each."""

    folder: Path
    blocks: list[dict[str, Any]]  # {"name", "layers": [{"name", "weights", "zeros"}], "notes"}
    pieces: dict[str, list[Piece]]  # parameter -> tensors of the files

    def changed(self) -> dict[str, Path]:
        """Key in the model's files -> the file that holds its new tensor."""
        return {key: self.folder / f"{n:05d}.safetensors" for n, block in enumerate(self.blocks) for key in block["keys"]}


def calibration(tokens: Tokens, model: Model, most: int, length: int) -> Tensor:
    """Windows of the token stream drawn with the step's generator, (windows, length); about `most` tokens in all.

    Whole windows at random places; where the stream is shorter than asked for, each window of it once.

    Raises:
        DataError: there are no tokens.
        UserError: the tokens are of another vocabulary, or a window is longer than the model's context.
    """
    kind, config = architecture(model)
    if getattr(config, "is_encoder_decoder", False):
        raise UserError(f"a pass over calibration tokens needs a decoder, but {kind.__name__} is an encoder-decoder", where=str(model.path))
    longest = context_length(config)
    if length > longest:
        raise UserError(f"windows of {length:,} tokens do not fit: the model's context is {longest:,}", todo="lower length")
    check_vocabulary(model, tokens, int(config.get_text_config().vocab_size))
    total = tokens.tokens
    if total < 2:
        raise DataError("there is nothing to calibrate on: the tokens are empty", where=str(tokens.path))
    length = min(length or longest, total, most)
    wanted = max(1, most // length)
    if wanted * length >= total:
        starts = torch.arange(total // length) * length
    else:
        starts = torch.from_numpy(context().generator("calibration").integers(0, total - length + 1, size=wanted))
    rows = [torch.from_numpy(tokens.ids[int(s) : int(s) + length].astype("int64")) for s in starts]
    return torch.stack(rows)


def walk(model: Model, ids: Tensor | None, edit: Edit, *, see: See | None = None, writes: bool = True) -> Walked:
    """Edit every linear layer of every block, in order of use; see the head of this file.

    `see` looks at what a block made of the calibration tokens. An editor that only looks, too, says so with `writes`: no block is
    stored then. With `ids` (rows, length) the layers are calibrated on them by one forward pass; without, no pass is made and editors see no
    tokens. A layer that no token reached (an expert, perhaps) is edited at the end of its block, without tokens. Memory: one block, its Gram matrices where an editor asks for them,
    and the activations of `ids` inside one block.

    Raises:
        DataError: a weight or an input is not finite.
        UserError: no blocks are found, or a layer's products cannot be seen.
    """
    folder = context().scratch / "blocks"
    folder.mkdir(parents=True, exist_ok=True)
    with Files(model) as files:
        walker = Walker(model, files, edit, folder, see, writes)
        if ids is None:
            walker.without_inputs()
        else:
            walker.forward(ids)
        return Walked(folder, walker.done, walker.pieces)


def order_of_use(model: Model) -> list[tuple[str, Inputs]]:
    """(name, inputs) of the linear layers of the first block in order of use; layers that read the same tensor have the same inputs."""
    seen: list[tuple[str, Inputs]] = []
    with Files(model) as files:
        walker = Walker(model, files, lambda layer, inputs: seen.append((layer.name, inputs)), None)
        with contextlib.suppress(_FirstBlockDone):
            walker.forward(torch.zeros(1, 2, dtype=torch.long))
    return seen


class _FirstBlockDone(Exception):
    """Ends a walk that only looks at the first block."""


class Walker(TorchFunctionMode):
    """One walk. As a torch function mode it sees each matrix product before it happens."""

    def __init__(self, model: Model, files: Files, edit: Edit, folder: Path | None, see: See | None = None, writes: bool = True) -> None:
        super().__init__()
        self.files, self.edit, self.folder, self.see, self.writes = files, edit, folder, see, writes
        whole = skeleton(model)
        self.module = getattr(whole, "base_model", whole)
        self.device = device()
        self.single = self.device.type == "cpu"  # compute in fp32: on a CPU it is the fast format
        self.pieces = layout(self.module, files)
        self.blocks = find_blocks(self.module)
        if not self.blocks:
            raise UserError(f"{type(self.module).__name__} has no list of blocks with linear layers in it", where=str(model.path))
        self.done: list[dict[str, Any]] = []
        self.block: Block | None = None
        self.last: Inputs | None = None
        self.before: Tensor | None = None  # what the block in memory got, where somebody wants to see it
        self.calibrating = False
        self.counting = contextlib.ExitStack()
        self.counter: Any = None
        self.kind: Any = None
        self.costs: dict[Any, float] = {}  # FLOPs of a block of each kind
        self.flops = 0.0

    def without_inputs(self) -> None:
        for name in self.blocks:
            self.enter(name)
            self.leave(name)

    def forward(self, ids: Tensor) -> None:
        """The model's own forward pass; hooks bring weights before a module is used and take them away after."""
        self.calibrating = True
        inside = tuple(f"{name}." for name in self.blocks)
        for name, child in self.module.named_modules():
            if name in self.blocks:
                child.register_forward_pre_hook(lambda _, args, more, name=name: self.enter(name, args, more), with_kwargs=True)
                child.register_forward_hook(lambda *got, name=name: self.leave(name, got[-1]))
            elif not name.startswith(inside) and any(True for _ in child.parameters(recurse=False)):
                child.register_forward_pre_hook(lambda child, _, name=name: self.load(child, name, self.files.tensor, recurse=False))
                child.register_forward_hook(lambda child, *_: self.unload(child))
        with self.counting, torch.no_grad(), self:
            self.module(input_ids=ids.to(self.device), use_cache=False)
        context().charge(flops=self.flops, how="matrix products of one calibration pass, counted", tokens=ids.numel())

    def load(self, module: Any, name: str, get: Callable[[str], Tensor], *, recurse: bool) -> None:
        """Give a module its weights, in fp32 or as they are stored."""
        tensors = {}
        for short, like in module.state_dict(keep_vars=True).items():
            full = f"{name}.{short}" if name else short
            if recurse or "." not in short:
                dtype = torch.float32 if self.single else self.files.dtype(self.pieces[full][0].key)
                tensors[short] = read(get, self.pieces[full], like, dtype, self.device)
        module.load_state_dict(tensors, assign=True, strict=recurse)

    def unload(self, module: Any) -> None:
        module.load_state_dict({name: value.to("meta") for name, value in module.state_dict().items()}, assign=True)

    def rework(self, block: Block, args: tuple[Any, ...], more: dict[str, Any]) -> None:
        """For walks that change a block as a whole, before it is called with these arguments."""

    def enter(self, name: str, args: tuple[Any, ...] = (), more: dict[str, Any] | None = None) -> None:
        """Load a block and count what it costs."""
        self._bring(name)
        if not self.calibrating:
            return
        if self.see is not None:
            self.before = args[0] if args else (more or {})["hidden_states"]
        if self.block is not None:
            self.rework(self.block, args, more or {})
        self.kind = self.block is not None, tuple(value.shape for value in self.blocks[name].state_dict().values())
        if self.kind not in self.costs:  # blocks of the same shapes cost the same, and the counter slows every small step down
            self.counter = self.counting.enter_context(counter())

    def _bring(self, name: str) -> None:
        """Load a block: from the model, or as an earlier try left it."""
        number = len(self.done)
        module = self.blocks[name]
        saved = self.folder / f"{number:05d}.json" if self.folder else None
        if saved and saved.exists() and self.writes:
            with safe_open(saved.with_suffix(".safetensors"), framework="pt") as finished:
                self.load(module, name, finished.get_tensor, recurse=True)
            return
        self.load(module, name, self.files.tensor, recurse=True)
        if saved and saved.exists():
            return
        self.block = Block(number, name)
        self.register(self.block)

    def register(self, block: Block) -> None:
        """Note where the weights of the block in memory lie now."""
        module = self.blocks[block.name]
        block.parameters = {f"{block.name}.{short}": value for short, value in module.state_dict().items()}
        block.layers = {
            weight.data_ptr(): Layer(short, block, weight.detach(), f"{block.name}.{parameter}")
            for short, parameter, weight in linear_layers(module)
        }

    def leave(self, name: str, output: Any = None) -> None:
        """Edit what was not reached, save the block, and let it go."""
        if self.folder is None:
            raise _FirstBlockDone
        saved = self.folder / f"{len(self.done):05d}.json"
        block, self.block, self.last, before, self.before = self.block, None, None, self.before, None
        if block is not None:
            self._unreached(block)
        if self.calibrating:
            self._counted()
        if block is not None:
            if self.see is not None and before is not None:
                self.see(block, before, output[0] if isinstance(output, tuple) else output)
            tensors = dict(block_tensors(block.parameters, self.pieces, self.files)) if self.writes else {}
            if self.writes:
                save_block(saved.with_suffix(".safetensors"), tensors)
            counts = [{"name": str(y), "weights": y.weight.numel(), "zeros": int((y.weight == 0).sum())} for y in block.edited]
            record = {"name": name, "layers": counts, "notes": block.notes, "keys": sorted(tensors)}
            part = saved.with_suffix(".part")
            part.write_text(json.dumps(record))
            part.rename(saved)
            for held in (block.parameters, block.layers, block.edited):
                held.clear()  # layers and their block refer to each other; their weights would wait for the garbage collector
        self.done.append(json.loads(saved.read_bytes()))
        self.unload(self.blocks[name])
        if len(self.done) % GIVE_BACK == 0:
            give_back()
        context().progress(len(self.done), len(self.blocks), "blocks")

    def _counted(self) -> None:
        if self.kind not in self.costs:
            self.counting.close()
            self.costs[self.kind] = float(self.counter.get_total_flops())
        self.flops += self.costs[self.kind]

    def _unreached(self, block: Block) -> None:
        seen = {layer.parameter for layer in block.edited}
        for layer in [layer for layer in block.layers.values() if layer not in block.edited]:
            if self.calibrating and layer.parameter not in seen:
                raise UserError(f"the product with {layer} cannot be seen, so it cannot be calibrated", where=layer.parameter)
            self._edit(block, layer, Inputs(layer.weight.new_empty(0, layer.weight.shape[1])))

    def _edit(self, block: Block, layer: Layer, inputs: Inputs) -> None:
        self.edit(layer, inputs)
        pieces = self.pieces[layer.parameter]
        layer.weight.copy_(layer.weight.to(self.files.dtype(pieces[0].key)))  # go on with exactly what will be stored
        block.edited.append(layer)

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if self.block is not None and (func is torch.nn.functional.linear or func is torch.addmm):
            x, weight = (args[0], args[1]) if func is torch.nn.functional.linear else (args[1], args[2])
            layer = self.block.layers.get(weight.data_ptr())
            if layer is not None and layer not in self.block.edited:
                self._edit(self.block, layer, self._inputs(x, layer))
        return func(*args, **(kwargs or {}))

    def _inputs(self, x: Tensor, layer: Layer) -> Inputs:
        """Layers that read the same tensor one after another share what is derived from it."""
        flat = x.detach().reshape(-1, x.shape[-1])
        if self.last is not None and self.last.x.data_ptr() == flat.data_ptr() and self.last.x.shape == flat.shape:
            return self.last
        if not finite(flat):
            raise DataError(f"an input of {layer} is NaN or infinite on the calibration tokens", todo="calibrate on other tokens")
        self.last = Inputs(flat)
        return self.last


def store(model: Model, walked: Walked, *, config: dict[str, Any] | None = None, cuts: Cuts | None = None) -> Model:
    """Write the walked model into the step's output, with `pruning.json`: weights and zeros of every layer."""
    rows = [row for block in walked.blocks for row in block["layers"]]
    folder = context().output("model")
    with Files(model) as files:
        written = write_model(folder, files, walked.changed(), config or model.config, cuts)
    (folder / REPORT).write_text(json.dumps(rows, indent=1) + "\n")
    weights, zeros = sum(row["weights"] for row in rows), sum(row["zeros"] for row in rows)
    context().facts.update(linear_weights=weights, linear_zeros=zeros)
    if zeros and not cuts:
        context().says = f"{zeros / weights:.1%} of {weights / 1e6:,.2f}M linear weights zero"
    return written
