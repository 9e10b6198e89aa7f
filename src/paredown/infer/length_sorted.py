"""Prompts of like length in a batch, padded to the longest of them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from paredown.core.strategy import Count
from paredown.engines.parts import Prefill

if TYPE_CHECKING:
    from paredown.engines.prefill import Reading, Text


def sorted_batches(lengths: Sequence[int], batch: int) -> list[list[list[int]]]:
    """Batches of prompts from the shortest to the longest, one prompt a row; equal lengths in their order."""
    order = sorted(range(len(lengths)), key=lambda number: lengths[number])
    return [[[number] for number in order[first : first + batch]] for first in range(0, len(order), batch)]


class LengthSorted(Prefill):
    """Sort the prompts by length and pad batches of them, so that less is computed for padding.

    Source: none (the usual remedy; the second baseline of Zhao et al. 2024, arXiv 2404.09529).
    Costs: the longest prompt's tokens of each batch for every prompt of it.
    Control: infer.pad_batch
    """

    tags: ClassVar[tuple[str, ...]] = ("when-runtime", "what-tokens", "speedup-universal")
    systems: ClassVar[tuple[int, ...]] = (8,)
    extras: ClassVar[tuple[str, ...]] = ("train",)

    batch: Count = 8  # prompts of a forward pass

    def read(self, module: Any, texts: Sequence[Text], *, keep: bool = False) -> Iterator[Reading]:
        from paredown.engines import prefill

        return prefill.padded(module, texts, sorted_batches([len(text.ids) for text in texts], self.batch), keep=keep)
