"""Pruning while training: from dense to sparse along a schedule."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from pydantic import Field, model_validator

from paredown.core.strategy import Count, Share
from paredown.engines.parts import Hook

if TYPE_CHECKING:
    from torch import Tensor

    from paredown.engines.training import State

NAME = "gradual_pruning"
Place = Annotated[float, Field(ge=0, le=1)]


def random_scores(seed: int, name: str, weight: Tensor) -> Tensor:
    """A number from 0 to 1 for each weight, the same one each time; it depends on the seed and the parameter's name only."""
    import hashlib

    import torch

    digest = hashlib.sha256(f"{seed} {NAME} {name}".encode()).digest()
    generator = torch.Generator().manual_seed(int.from_bytes(digest[:8], "little") >> 1)
    return torch.rand(weight.shape, generator=generator).to(weight.device)


class GradualPruning(Hook):
    """Set more and more of the smallest weights to zero while the others train, and keep them there.

    Prunable are the weights of linear layers and convolutions inside the blocks; embeddings, norms and the output head stay.
    Every so many steps the smallest weights go, as many as the schedule says; what is gone stays gone: weight, gradient
    and the optimizer's numbers are zero. One shot is begin = finish; sparse from the beginning is begin = finish = 0.

    Begin and finish are shares of the training's nominal compute, where a token costs the prunable weights that are
    active. Later tokens are cheaper, so they are turned into shares of the tokens; between them the schedule runs over
    tokens. A budget of steps, FLOPs (counted as of a dense model) or seconds is taken for one of tokens; for seconds that is approximate.

    Source: Zhu and Gupta 2017, arXiv 1710.01878, eq. 1 (cubic); Jin et al. 2025, arXiv 2501.12486 (linear; begin and finish by compute).
    Costs: four products per prunable weight and step, and a selection among all at every pruning (0.7% of a step in all); five bytes per weight.
    Control: none (the same training without it is the dense one; `score: random` is what magnitude has to beat)
    """

    tags: ClassVar[tuple[str, ...]] = (
        "when-during", "what-weights", "how-magnitude", "scope-layer", "scope-global", "speedup-special", "needs-gradients",
    )  # fmt: skip
    systems: ClassVar[tuple[int, ...]] = (27,)
    extras: ClassVar[tuple[str, ...]] = ("train",)

    sparsity: Share = 0.5  # final share of the prunable weights that is zero, 0 <= s < 1
    begin: Place = 0.25  # share of the compute at which pruning begins, 0 to 1
    finish: Place = 0.75  # share of the compute at which the final sparsity is reached, begin to 1
    schedule: Literal["cubic", "linear"] = "cubic"  # how sparsity rises in between: fast at first, or evenly
    scope: Literal["global", "uniform"] = "global"  # weights compete over all layers, or each layer loses the same share
    score: Literal["magnitude", "random"] = "magnitude"  # what goes first: the smallest absolute value, or any
    every: Count = 20  # steps between prunings

    @model_validator(mode="after")
    def _in_order(self) -> GradualPruning:
        if self.finish < self.begin:
            raise ValueError(f"finish ({self.finish}) must not be before begin ({self.begin})")
        return self

    def start(self, state: State) -> None:
        from paredown.engines.sparse_training import hold, prunable

        state.memory[f"{NAME} seed"] = state.generator.initial_seed()  # at the start the same in every process and every try
        hold(state, NAME, prunable(state.module), state.kept.setdefault(NAME, {}))
        if state.step == 0:
            self._prune(state)

    def gradient(self, state: State) -> None:
        state.memory[NAME].mask_gradients()

    def step(self, state: State) -> None:
        self._prune(state)
        state.memory[NAME].keep(state.optimizer)

    def end(self, state: State) -> None:
        """Seconds go on running after the last step, so a finish at the very end may come only here."""
        self._prune(state)

    def _prune(self, state: State) -> None:
        """Follow the schedule: every so many steps, and where it ends."""
        from paredown.engines.sparse_training import recount, sparsity_at, token_shares

        begin, finish = token_shares(self.sparsity, self.begin, self.finish, self.schedule)
        sparsity = sparsity_at(state.spent(), self.sparsity, begin, finish, self.schedule)
        due = state.step % self.every == 0 or sparsity == self.sparsity
        if due and state.memory[NAME].prune(sparsity, self.scope, lambda name, weight: self._scores(state, name, weight)):
            recount(state)
        if self.sparsity:
            state.measured["sparsity"] = state.memory[NAME].sparsity

    def _scores(self, state: State, name: str, weight: Tensor) -> Tensor:
        return weight.abs() if self.score == "magnitude" else random_scores(state.memory[f"{NAME} seed"], name, weight)
