"""Training shallow parts of a deep model first."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from pydantic import Field, field_validator

from paredown.core.errors import UserError
from paredown.core.strategy import Share
from paredown.engines.parts import Hook

if TYPE_CHECKING:
    from paredown.engines.training import State

NAME = "random_depth"


def drawn(seed: int, step: int, depths: tuple[int, ...]) -> tuple[int, int]:
    """(first block that learns, blocks that are passed) of a step: any of the depths, and below it the next smaller one."""
    import numpy

    place = int(numpy.random.default_rng((seed, step)).integers(len(depths)))
    return (0, *depths)[place], depths[place]


class RandomDepth(Hook):
    """In the first share of the budget, pass each step through the lowest blocks of a depth drawn at random, and train its upper part alone.

    Of a step through d blocks those learn that are above the next smaller depth, the final norm and the head; in steps of the smallest
    depth also what comes before the blocks. So every block is trained while most steps are shallow. After that share all is trained whole.

    Source: Chen et al. 2021, arXiv 2110.07143, section 3.4 (two-stage pre-training).
    Costs: less than without it: a shallow step takes its share of a forward pass and no backward pass below what learns.
    Control: none (the same training without it)
    """

    tags: ClassVar[tuple[str, ...]] = ("when-during", "what-layers", "speedup-universal", "needs-gradients")
    systems: ClassVar[tuple[int, ...]] = (63,)
    extras: ClassVar[tuple[str, ...]] = ("train",)
    partial: ClassVar[bool] = True

    depths: tuple[Annotated[int, Field(ge=1)], ...]  # numbers of blocks, rising; the last is all of them
    share: Share = 0.125  # of the budget that is trained so

    @field_validator("depths")
    @classmethod
    def _rising(cls, depths: tuple[int, ...]) -> tuple[int, ...]:
        if not depths or any(b <= a for a, b in pairwise(depths)):
            raise ValueError("depths must rise, such as [3, 6, 9, 12]")
        return depths

    def start(self, state: State) -> None:
        """
        Raises:
            UserError: the module's blocks are no single list, or are not as many as the last of `depths`, or it is compiled.
        """
        from paredown.engines.blocks import find_blocks

        names = list(find_blocks(state.module))
        lists = {name.rpartition(".")[0] for name in names}
        if len(lists) != 1:
            raise UserError(
                f"{NAME} needs one list of blocks, and {type(state.module).__name__} has {len(lists)}", where="learn.train.hooks"
            )
        if len(names) != self.depths[-1]:
            raise UserError(
                f"the model has {len(names)} blocks, the last of depths is {self.depths[-1]}", where="learn.hooks.random_depth.depths"
            )
        if state.setup.compile:
            raise UserError(f"{NAME} changes how many blocks are passed, which a compiled module does not see", todo="set compile: false")
        state.memory[NAME] = state.module.get_submodule(lists.pop())
        state.memory[f"{NAME} undo"] = []

    def batch(self, state: State) -> None:
        self._whole(state)
        state.variant = ""
        if state.spent() >= self.share:
            return
        below, depth = drawn(state.seed, state.step, self.depths)
        blocks: Any = state.memory[NAME]
        above = list(blocks)[depth:]
        undo: list[Any] = [lambda: blocks.extend(above)]
        if below:  # nothing below this place gets a gradient, a shared embedding gets that of the head alone
            undo.append(blocks[below].register_forward_pre_hook(_detached, with_kwargs=True).remove)
        del blocks[depth:]
        state.memory[f"{NAME} undo"] = undo
        state.variant = f"{below} to {depth} blocks"

    def gradient(self, state: State) -> None:
        self._whole(state)

    def end(self, state: State) -> None:
        self._whole(state)

    def _whole(self, state: State) -> None:
        """Put the blocks back."""
        for undo in state.memory[f"{NAME} undo"]:
            undo()
        state.memory[f"{NAME} undo"] = []


def _detached(_block: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """What a block gets, without what made it."""
    if args:
        return (args[0].detach(), *args[1:]), kwargs
    return args, kwargs | {"hidden_states": kwargs["hidden_states"].detach()}
