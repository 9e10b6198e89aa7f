"""Training shallow parts of a deep model first."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from pydantic import Field, field_validator

from paredown.core.errors import UserError
from paredown.core.strategy import Share
from paredown.engines.parts import Hook

if TYPE_CHECKING:
    from paredown.engines.trainer import State

NAME = "random_depth"


class RandomDepth(Hook):
    """In the first share of the budget, pass each step through the lowest blocks of a depth drawn at random, and train its upper part alone.

    Of a step through d blocks only those above the next smaller depth learn, with the final norm and the head; in steps of the smallest
    depth the embeddings learn too. So every block is trained while most steps are shallow. After that share all is trained whole.

    Source: Chen et al. 2021, arXiv 2110.07143, section 3.4 (two-stage pre-training).
    Costs: less than without it: a shallow step takes its share of a forward pass and no backward pass below what learns.
    Control: none (the same training without it)
    """

    tags: ClassVar[tuple[str, ...]] = ("when-during", "what-layers", "speedup-universal", "needs-gradients")
    systems: ClassVar[tuple[int, ...]] = (63,)
    extras: ClassVar[tuple[str, ...]] = ("train",)

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
            UserError: several processes, a module without blocks, or of other depth.
        """
        from paredown.engines.layers import find_blocks

        if state.setup.parallel != "none":
            raise UserError("random_depth trains in one process", where="learn.train.parallel", todo="set parallel: none")
        names = list(find_blocks(state.module))
        if len(names) != self.depths[-1]:
            raise UserError(
                f"the model has {len(names)} blocks, the last of depths is {self.depths[-1]}", where="learn.hooks.random_depth.depths"
            )
        state.memory[NAME] = state.module.get_submodule(names[0].rpartition(".")[0])
        state.memory[f"{NAME} asked"] = {name: p.requires_grad for name, p in state.module.named_parameters()}

    def batch(self, state: State) -> None:
        import torch

        self._whole(state)
        if state.spent() >= self.share:
            state.variant = ""
            return
        place = int(torch.randint(len(self.depths), (1,), generator=state.generator))
        below, depth = (0, *self.depths)[place], self.depths[place]
        blocks: Any = state.memory[NAME]
        state.memory[f"{NAME} above"] = list(blocks)[depth:]
        state.variant = f"{below} to {depth} blocks"
        learns = {id(p) for block in list(blocks)[below:depth] for p in block.parameters()}
        inside = {id(p) for block in blocks for p in block.parameters()}
        module: Any = state.module
        head = module.get_output_embeddings()
        shared = {id(p) for p in head.parameters()} if head is not None else set()
        embeddings = {id(p) for p in module.get_input_embeddings().parameters()} - shared
        for parameter in state.module.parameters():
            if id(parameter) not in learns and (id(parameter) in inside or (below and id(parameter) in embeddings)):
                parameter.requires_grad_(False)
        del blocks[depth:]

    def gradient(self, state: State) -> None:
        self._whole(state)

    def end(self, state: State) -> None:
        self._whole(state)

    def _whole(self, state: State) -> None:
        """Put the blocks back; what was learning may learn again."""
        state.memory[NAME].extend(state.memory.pop(f"{NAME} above", []))
        asked = state.memory[f"{NAME} asked"]
        for name, parameter in state.module.named_parameters():
            parameter.requires_grad_(asked[name])
