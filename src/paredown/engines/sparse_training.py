"""Weights held at zero while the others train: masks of a module's weights, their counts, and when more of them go.

A hook registers its masks with `hold` when the training starts, calls `mask_gradients` before gradients are clipped and
`keep` after weights have moved, and `recount` whenever it changed a mask. Masks that cannot be derived again belong into
`state.kept`, so that checkpoints hold them.

Legend: a = start, b = end of pruning as shares of the compute, S = final sparsity, n = active prunable weights, N = all of them.

Compute is nominal: a token costs its n, so a share of the compute is another share of the tokens (arXiv 2501.12486 prunes
between shares of the compute). With a ramp over tokens in between, whose mean height is h, compute a is spent on n = N, b - a on a
mean n of (1 - S h) N, and 1 - b on n = (1 - S) N. Compute divided by n is tokens, and their shares add up to 1, so the mean of n
over the tokens is

    N / (a + (b - a) / (1 - S h) + (1 - b) / (1 - S))
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor, nn

from paredown.core.errors import UserError
from paredown.engines.blocks import is_experts, linear_layers
from paredown.engines.checkpoints import whole
from paredown.engines.masks import clear, lowest, share

if TYPE_CHECKING:
    from paredown.engines.training import State

Scope = Literal["global", "uniform"]
Ramp = Literal["cubic", "linear"]
HEIGHT: dict[str, float] = {"cubic": 3 / 4, "linear": 1 / 2}  # mean of each ramp over its length
ROUNDING = 1e-9  # a share of the budget this close to a place has reached it


class Masks:
    """Which weights of some parameters are held at zero. Iterating gives (parameter, mask), 1 where a weight may live, 0 where not.

    `taken` (parameter's name -> boolean mask, True where a weight is held) is the caller's dictionary and is kept up to date;
    parameters with nothing taken are not in it.
    """

    def __init__(self, parameters: dict[str, nn.Parameter], taken: dict[str, Tensor]) -> None:
        self.parameters, self.taken = parameters, taken
        self.weights = sum(parameter.numel() for parameter in parameters.values())
        self._counts: dict[str, int] = {}
        self._live: dict[str, Tensor] = {}
        for name, mask in list(taken.items()):
            self.put(name, mask)

    def __iter__(self) -> Iterator[tuple[nn.Parameter, Tensor]]:
        return ((self.parameters[name], mask) for name, mask in self._live.items())

    @property
    def count(self) -> int:
        """Weights that are held."""
        return sum(self._counts.values())

    @property
    def sparsity(self) -> float:
        """Share of the weights that is held."""
        return self.count / self.weights

    def put(self, name: str, mask: Tensor) -> None:
        """From now on hold exactly these weights of a parameter; those that are no longer held start from zero."""
        parameter = self.parameters[name]
        mask = mask.to(parameter.device)
        count = _count(mask)
        if not count:
            for kept in (self.taken, self._live, self._counts):
                kept.pop(name, None)
            return
        # in the number format of the weight: products of two formats are several times slower
        self.taken[name], self._live[name], self._counts[name] = mask, (~mask).to(parameter.dtype), count
        with torch.no_grad():
            clear(parameter, mask)

    def prune(self, sparsity: float, scope: Scope, score: Callable[[str, Tensor], Tensor]) -> bool:
        """Take the lowest scores on top of what is taken, up to a share of all weights together or of each parameter.

        Counts are exact: the whole number below the share. Equal scores go by position. Nothing that is taken comes back.
        `score` gives a new tensor of the weight's shape, finite; it is asked only if something is to go. Whether something went.
        """
        more = {name: share(parameter.numel(), sparsity) - self._counts.get(name, 0) for name, parameter in self.parameters.items()}
        wanted = share(self.weights, sparsity) - self.count if scope == "global" else sum(max(0, n) for n in more.values())
        if wanted <= 0:
            return False
        scores = {name: score(name, parameter.detach()) for name, parameter in self.parameters.items()}
        for name, live in self._live.items():
            # What is taken comes last: 1 / 0 is infinite. Were it first, at one value, the bound would lie just behind a long run of
            # equal values, where selecting takes ten times as long; and filling by the mask would take as long as the selection.
            scores[name].add_(live.reciprocal().sub_(1))
        if scope == "global":
            chosen = lowest_of_all(scores, wanted)
        else:
            chosen = {name: lowest(values, more[name]) for name, values in scores.items() if more[name] > 0}
        for name, mask in chosen.items():
            self.put(name, mask.logical_or_(self.taken[name]) if name in self.taken else mask)
        return True

    def mask_gradients(self) -> None:
        """Zero the gradients of the held weights."""
        found = [(parameter.grad, mask) for parameter, mask in self if parameter.grad is not None]
        if found:
            torch._foreach_mul_([gradient for gradient, _ in found], [mask for _, mask in found])

    def keep(self, optimizer: torch.optim.Optimizer) -> None:
        """Zero the held weights and the optimizer's numbers for them (whatever it keeps one of per weight)."""
        tensors: list[Tensor] = []
        masks: list[Tensor] = []
        for parameter, mask in self:
            kept = optimizer.state.get(parameter, {}).values()
            found = [parameter, *(value for value in kept if isinstance(value, Tensor) and value.shape == mask.shape)]
            tensors += found
            masks += [mask] * len(found)
        if tensors:
            with torch.no_grad():
                torch._foreach_mul_(tensors, masks)


def lowest_of_all(scores: dict[str, Tensor], count: int) -> dict[str, Tensor]:
    """The `count` lowest scores of all tensors together, as masks; nothing is sorted, memory holds one copy of the scores."""
    together = lowest(torch.cat([values.flatten() for values in scores.values()]), count)
    parts = torch.split(together, [values.numel() for values in scores.values()])
    return {name: part.view(values.shape).clone() for (name, values), part in zip(scores.items(), parts, strict=True)}


def maskable(module: nn.Module) -> dict[str, nn.Parameter]:
    """Weights whose zeros are those of pruning: of linear layers, convolutions and stacked experts, a shared one once.

    Norms, biases and embeddings (also where an output head shares them) may hold zeros of their own and stay out.
    """
    from transformers.pytorch_utils import Conv1D

    found: set[int] = set()
    for child in module.modules():
        if isinstance(child, (nn.Linear, Conv1D, nn.modules.conv._ConvNd)):
            found.add(id(child.weight))
        elif is_experts(child):
            found |= {id(value) for value in child.parameters(recurse=False) if value.dim() == 3}
    found -= _embedded(module)
    return {name: parameter for name, parameter in module.named_parameters() if id(parameter) in found}


def zero_masks(module: nn.Module) -> dict[str, Tensor]:
    """True where a weight that `maskable` finds is zero, by name; only for weights with a zero."""
    masks = {name: parameter.detach() == 0 for name, parameter in maskable(module).items()}
    return {name: mask for name, mask in masks.items() if bool(mask.any())}


def count_zeros(module: nn.Module) -> int:
    """How many weights that `maskable` finds are zero."""
    return sum(_count(parameter.detach() == 0) for parameter in maskable(module).values())


def in_blocks(module: nn.Module) -> dict[str, nn.Parameter]:
    """Weights of the layers that `linear_layers` finds inside the blocks, a shared one once; none where there are no blocks.

    Blocks are the items of `ModuleList`s. Embeddings, norms, biases, routers and the output head stay out, tied or not.
    """
    lists = [child for child in module.modules() if isinstance(child, nn.ModuleList)]
    found = {id(child.get_parameter(name)) for child in lists for _, name, _ in linear_layers(child)}
    found -= _embedded(module)
    return {name: parameter for name, parameter in module.named_parameters() if id(parameter) in found}


def _embedded(module: nn.Module) -> set[int]:
    """Weights of embeddings, also where an output head shares them."""
    return {id(child.weight) for child in module.modules() if isinstance(child, nn.Embedding)}


def prunable(module: nn.Module) -> dict[str, nn.Parameter]:
    """The weights inside the blocks.

    Raises:
        UserError: there are none, or they are shared out over several processes.
    """
    weights = in_blocks(module)
    if not weights:
        raise UserError(
            f"{type(module).__name__} has nothing to prune while it trains: no list of blocks with linear layers or convolutions in it"
        )
    if any(hasattr(parameter, "device_mesh") for parameter in weights.values()):
        raise UserError(
            "pruning while training compares whole layers, but with parallel: fsdp each process has a part of them",
            todo="set parallel: ddp",
        )
    return weights


def hold(state: State, owner: str, parameters: dict[str, nn.Parameter], taken: dict[str, Tensor]) -> Masks:
    """Masks of a hook, found again as `state.memory[owner]`.

    Raises:
        UserError: the hook is there twice.
    """
    if owner in state.memory:
        raise UserError(f"{owner} is among the hooks twice", where="hooks")
    masks = state.memory[owner] = Masks(parameters, taken)
    recount(state)
    return masks


def recount(state: State) -> None:
    """Put the number of weights of the module that no hook holds into `state.active`."""
    held = [item.taken for item in state.memory.values() if isinstance(item, Masks)]
    names = dict.fromkeys(name for taken in held for name in taken)
    unions = (functools.reduce(torch.logical_or, [taken[name] for taken in held if name in taken]) for name in names)
    state.active = sum(parameter.numel() for parameter in state.module.parameters()) - sum(map(_count, unions))


def ramp(place: float, shape: Ramp) -> float:
    """How far sparsity has risen, 0 to 1, at a place between start (0) and end (1) of pruning."""
    left = 1 - min(1.0, max(0.0, place))
    return 1 - left**3 if shape == "cubic" else 1 - left


def average_share(sparsity: float, start: float, end: float, shape: Ramp) -> float:
    """Mean of the active share of the prunable weights over the tokens; start and end are shares of the compute."""
    return 1 / (start + (end - start) / (1 - sparsity * HEIGHT[shape]) + (1 - end) / (1 - sparsity))


def token_shares(sparsity: float, start: float, end: float, shape: Ramp) -> tuple[float, float]:
    """Shares of the tokens at which shares of the compute, `start` and `end`, are spent."""
    mean = average_share(sparsity, start, end, shape)
    return start * mean, 1 - (1 - end) * mean / (1 - sparsity)


def sparsity_at(place: float, sparsity: float, begin: float, end: float, shape: Ramp) -> float:
    """Sparsity at a share of the tokens, for a ramp between the shares `begin` and `end`."""
    if place + ROUNDING >= end:
        return sparsity
    return sparsity * ramp((place - begin) / (end - begin), shape) if place > begin else 0.0


def _count(mask: Tensor) -> int:
    return int(whole(mask.sum()))
