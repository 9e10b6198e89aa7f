"""Two ways of reading the same prompts, in turn, with a clock; and whether they read the same."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from paredown.engines import generation

if TYPE_CHECKING:
    from paredown.engines.parts import Prefill
    from paredown.engines.prefill import Begun


@dataclass(frozen=True)
class Pair:
    """What two ways took for the same prompts."""

    seconds: list[tuple[float, float]]  # of every turn: to the first new token of all prompts
    computed: tuple[int, int]  # tokens that went through the model, padding counted
    logit_difference: float  # largest, after the prompts
    differing: int  # prompts whose greedily decoded tokens differ
    decode_seconds: float  # of the first way, for the tokens after the first


def compared(
    module: Any, prompts: Sequence[Sequence[int]], one: Prefill, other: Prefill, *, repeats: int, warm_up: int, new_tokens: int
) -> Pair:
    """Read prompts in both ways, every other turn in the other order, and go on greedily for `new_tokens` from the last turn."""
    seconds: list[tuple[float, float]] = []
    begun: dict[int, Begun] = {}
    computed = _counted(module, prompts, one), _counted(module, prompts, other)
    for turn in range(warm_up + repeats):
        took = [0.0, 0.0]
        for side in (0, 1) if turn % 2 else (1, 0):
            begun.pop(side, None)  # so that memory holds no third one
            took[side], begun[side] = _first_token(module, prompts, (one, other)[side], new_tokens)
        if turn >= warm_up:
            seconds.append((took[0], took[1]))
    difference = float((begun[0].logits.float() - begun[1].logits.float()).abs().max())
    rules = generation.Rules(new_tokens, frozenset())
    start = time.perf_counter()
    written = generation.decode(module, begun.pop(0), rules)
    decode = time.perf_counter() - start
    others = generation.decode(module, begun.pop(1), rules)
    return Pair(seconds, computed, difference, sum(a != b for a, b in zip(written, others, strict=True)), decode)


def _first_token(module: Any, prompts: Sequence[Sequence[int]], how: Prefill, more: int) -> tuple[float, Begun]:
    start = time.perf_counter()
    begun = how.begin(module, prompts, more)
    begun.logits.argmax(-1).tolist()  # waits for a GPU too
    return time.perf_counter() - start, begun


def _counted(module: Any, prompts: Sequence[Sequence[int]], how: Prefill) -> int:
    """Tokens that go through the model; a run of its own, which also finds the way that the module takes."""
    how.begin(module, prompts[:1], 1)
    seen = [0]

    def count(_: torch.nn.Module, inputs: tuple[torch.Tensor, ...], __: torch.Tensor) -> None:
        seen[0] += inputs[0].numel()

    hook = module.get_input_embeddings().register_forward_hook(count)
    try:
        how.begin(module, prompts, 1)
    finally:
        hook.remove()
    return seen[0]
