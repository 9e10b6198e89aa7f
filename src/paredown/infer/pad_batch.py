"""Prompts as they come, padded to the longest of their batch."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from paredown.core.strategy import Count
from paredown.engines.parts import Prefill

if TYPE_CHECKING:
    from paredown.engines.prefill import Reading, Text


def in_order(count: int, batch: int) -> list[list[list[int]]]:
    """Batches of prompts in the order given, one prompt a row."""
    return [[[number] for number in range(first, min(count, first + batch))] for first in range(0, count, batch)]


class PadBatch(Prefill):
    """Pad the prompts of a batch on the left to the longest of them and mask the padding, as transformers does.

    Source: none (the usual way; the first baseline of Zhao et al. 2024, arXiv 2404.09529).
    Costs: the longest prompt's tokens for every prompt of the batch.
    Control: none (it is the control of infer.prepack)
    """

    tags: ClassVar[tuple[str, ...]] = ("when-runtime", "what-tokens", "speedup-none")
    systems: ClassVar[tuple[int, ...]] = (8,)
    extras: ClassVar[tuple[str, ...]] = ("train",)

    batch: Count = 64  # prompts of a forward pass

    def read(self, module: Any, texts: Sequence[Text], *, keep: bool = False) -> Iterator[Reading]:
        from paredown.engines import prefill

        return prefill.padded(module, texts, in_order(len(texts), self.batch), keep=keep)
