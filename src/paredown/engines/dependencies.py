"""Which rows and columns of which layers belong to the same channel or head: the dependency graph of Torch-Pruning.

The only file that imports the library (extra `prune`; no type hints, last release September 2025). It is asked, never trusted:
it prunes nothing, what it says of a unit becomes plain indices, and `structure.py` checks those against the shapes that a model
built anew has. Modules are traced on the meta device, so nothing is computed and no weight is read.

Two things go wrong when it traces a whole decoder, so one block is traced, and only as far as the layer that is asked about. Its
inference of shapes tries every path through the residual stream, which takes for ever from two blocks on. And it takes the
concatenation inside rotary positions, which joins the halves of a head, for one of channels, and gives indices outside of
the layer; within a block concatenations count as what they are there, a change of order inside a head.

Source: Fang et al. 2023, arXiv 2301.12900, section 3.2 (the graph of inter- and intra-layer dependencies).
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from paredown.core.errors import MissingExtra, UserError

TRACED = 3  # tokens of the traced input; any number does
PIXELS = 32  # height and width of the traced image; only a network with a fixed size of image minds
Role = Literal["makes", "uses", "between", "output"]
PRODUCTS = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)


@dataclass(frozen=True)
class Member:
    """A tensor owner that depends on the units asked about."""

    name: str  # of the layer, or of a parameter that lies between layers
    role: Role  # its outputs are the units, its inputs are, it scales them in between, or they leave the module here
    indices: list[int]  # its outputs or inputs that belong to the units
    roots: list[int | None]  # for each of them the index that was asked about; None where the library lost it


class _Reached(Exception):
    """Ends a forward pass at the module that was waited for."""


class Dependencies:
    """The dependency graph of a module on the meta device."""

    def __init__(self, module: nn.Module, forward: Callable[[], Tensor], *, joins_channels: bool) -> None:
        """Trace `forward`, a pass through `module`; `joins_channels` says whether a concatenation joins channels.

        Raises:
            MissingExtra: Torch-Pruning is not installed.
            UserError: the pass fails, or is built of what the library does not know.
        """
        self._library = _library()
        self._names: dict[Any, str] = {child: name for name, child in module.named_modules()}
        self._names |= {parameter: name for name, parameter in module.named_parameters()}
        self._layers = dict(module.named_modules())
        self._graph = self._library.DependencyGraph()
        try:
            with torch.enable_grad(), warnings.catch_warnings():
                warnings.simplefilter("ignore")
                self._graph.build_dependency(module, (), forward_fn=lambda *_: forward(), verbose=False)
        except Exception as error:
            said = " ".join(str(error).split())[:200]
            raise UserError(f"the structure of {type(module).__name__} cannot be traced: {type(error).__name__}: {said}") from None
        if not joins_channels:
            self._forget_concatenations()

    def group(self, layer: str, role: Literal["makes", "uses"], indices: list[int]) -> list[Member]:
        """Everything that must go together with these outputs or inputs of a layer.

        Raises:
            UserError: the pass did not go through the layer.
        """
        pruner = self._graph.get_pruner_of_module(self._layers[layer])
        ask = pruner.prune_out_channels if role == "makes" else pruner.prune_in_channels
        try:
            found = self._graph.get_pruning_group(self._layers[layer], ask, indices)
        except ValueError:
            raise UserError(f"the traced pass does not go through {layer}") from None
        members = []
        for item in found:
            kind = self._role(item.dep)
            if kind is not None:
                members.append(Member(self._names.get(item.dep.target.module, ""), kind, list(item.idxs), list(item.root_idxs)))
        return members

    def _role(self, dependency: Any) -> Role | None:
        module = dependency.target.module
        if dependency.target.type == self._library.ops.OPTYPE.OUTPUT:
            return "output"
        if isinstance(module, PRODUCTS) and getattr(module, "groups", 1) == 1:
            return "uses" if self._graph.is_in_channel_pruning_fn(dependency.handler) else "makes"
        return "between" if module in self._names else None

    def _forget_concatenations(self) -> None:
        joined = [node for node in self._graph.module2node.values() if node.type == self._library.ops.OPTYPE.CONCAT]
        for node in joined:
            node.enable_index_mapping = False
            beside = [dependency for other in node.inputs + node.outputs for dependency in other.dependencies if dependency.target is node]
            for dependency in [*node.dependencies, *beside]:
                dependency.index_mapping = [None, None]


def _library() -> Any:
    try:
        import torch_pruning
    except ModuleNotFoundError:
        raise MissingExtra("prune", "removing heads or filters", "torch_pruning") from None
    return torch_pruning


def of_block(module: nn.Module, block: str, until: str) -> Dependencies:
    """What depends on what in a block of a decoder or encoder on the meta device, up to the layer `until` of the block."""
    inside = module.get_submodule(block)
    last = inside.get_submodule(until)
    given = _call(module, inside)

    def forward() -> Tensor:
        found: list[Tensor] = []

        def keep(_module: nn.Module, _inputs: Any, output: Tensor) -> None:
            found.append(output)
            raise _Reached

        hook = last.register_forward_hook(keep)
        try:
            inside(*given[0], **given[1])
        except _Reached:
            pass
        finally:
            hook.remove()
        return found[0]

    return Dependencies(inside, forward, joins_channels=False)


def _call(module: Any, inside: nn.Module) -> tuple[Any, dict[str, Any]]:
    """What a module's block is called with."""
    found: list[tuple[Any, dict[str, Any]]] = []

    def keep(_module: nn.Module, args: Any, kwargs: dict[str, Any]) -> None:
        found.append((args, kwargs))
        raise _Reached

    ids = torch.zeros(1, TRACED, dtype=torch.long, device="meta")
    said = ""
    hook = inside.register_forward_pre_hook(keep, with_kwargs=True)
    try:
        module.set_attn_implementation("eager")
        # without values no class can look into its mask: some would look into one of tokens, others make positions of it
        for shape in ((1, TRACED), (1, 1, TRACED, TRACED)):
            try:
                with torch.no_grad():  # so that what the block gets does not lead back into those before it
                    module(input_ids=ids, attention_mask=torch.ones(shape, dtype=torch.long, device="meta"), use_cache=False)
            except _Reached:
                return found[0]
            except Exception as error:
                said = f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
    finally:
        hook.remove()
    raise UserError(f"the structure of {type(module).__name__} cannot be traced: {said or 'a pass does not reach its blocks'}")


def of_network(module: nn.Module) -> Dependencies:
    """What depends on what in a whole network of images or features on the meta device."""
    first = next((child for child in module.modules() if isinstance(child, PRODUCTS)), None)
    if first is None:
        raise UserError(f"{type(module).__name__} has neither convolutions nor linear layers")
    size = (first.in_features,) if isinstance(first, nn.Linear) else (first.in_channels, *[PIXELS] * (first.weight.dim() - 2))
    return Dependencies(module, lambda: module(torch.zeros(1, *size, device="meta")), joins_channels=True)
