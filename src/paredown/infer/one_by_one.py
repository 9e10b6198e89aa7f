"""Prompts one by one: nothing is padded."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from paredown.engines.parts import Prefill

if TYPE_CHECKING:
    from paredown.engines.prefill import Reading, Text


def singles(count: int) -> list[list[list[int]]]:
    """A batch for every prompt."""
    return [[[number]] for number in range(count)]


class OneByOne(Prefill):
    """Read every prompt in a forward pass of its own.

    Source: none (the simplest way; the measure of exactness for the others).
    Costs: as many tokens as there are, and a pass over the weights for every prompt.
    Control: infer.pad_batch
    """

    tags: ClassVar[tuple[str, ...]] = ("when-runtime", "what-tokens", "speedup-none")
    systems: ClassVar[tuple[int, ...]] = (8,)
    extras: ClassVar[tuple[str, ...]] = ("train",)

    def read(self, module: Any, texts: Sequence[Text], *, keep: bool = False) -> Iterator[Reading]:
        from paredown.engines import prefill

        return prefill.padded(module, texts, singles(len(texts)), keep=keep)
