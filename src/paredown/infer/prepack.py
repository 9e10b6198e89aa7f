"""Several prompts in a row, so that little is computed for padding."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import Field

from paredown.core.strategy import Count
from paredown.engines.parts import Prefill

if TYPE_CHECKING:
    from paredown.engines.prefill import Begun, Reading, Text


def prepacked_rows(lengths: Sequence[int], capacity: int | None = None, exact: bool = False) -> list[list[int]]:
    """Prompts in the fewest rows that are as long as the longest of them: by best fit, largest first, or exactly."""
    from paredown.engines import bins

    pack = bins.fewest if exact else bins.fullest_first
    return pack(lengths, capacity or max(lengths, default=0))


class Prepack(Prefill):
    """Pack prompts into rows as long as the longest, keep them from seeing one another, and cut the keys and values back to each.

    The answers are those of padded batches but for rounding. Where packing makes too few rows fewer, prompts of like length
    go together instead, one a row.

    Source: Zhao et al. 2024, arXiv 2404.09529, algorithm 1. Ours: attention prompt by prompt without a mask, the last token
        in the same pass, beginnings that prompts share read once, and the rule when not to pack.
    Costs: as many tokens as there are, and up to a row's rest for a pass; packing takes 0.1 ms for 64 prompts.
    Control: infer.length_sorted
    Not for: models with a state instead of keys and values, or a capacity of experts; these go one prompt a row.
    """

    tags: ClassVar[tuple[str, ...]] = ("when-runtime", "what-tokens", "speedup-universal")
    systems: ClassVar[tuple[int, ...]] = (8,)
    extras: ClassVar[tuple[str, ...]] = ("train",)

    packing: Literal["best_fit", "exact"] = "best_fit"  # exact: by integer programme, seconds for a hundred prompts
    capacity: Count | None = None  # tokens of a row, at least the longest prompt; default just that
    batch_tokens: Count | None = None  # tokens of a forward pass, at least a row; default 1,024 on a CPU, 16,384 on a GPU
    least_gain: Annotated[float, Field(ge=1)] = 1.1  # prompts a row below which nothing is packed
    share: Annotated[int, Field(ge=0)] = 8  # tokens that prompts must begin with alike for these to be read once; 0 never
    attention: Literal["auto", "segments", "mask", "rows"] = "auto"  # prompt by prompt, under a mask (as published), unpacked; auto tries
    drop_last: bool = False  # as published: the last token of a prompt goes through in a step of decoding of its own
    spare_slot: bool = False  # as published: rows are packed by l tokens though l - 1 go in, so that a slot is lost with every prompt

    def read(self, module: Any, texts: Sequence[Text], *, keep: bool = False) -> Iterator[Reading]:
        from paredown.engines import prefill

        return prefill.prepacked(
            module, texts, tokens=self.batch_tokens, capacity=self.capacity, method=self.packing, gain=self.least_gain,
            spare=int(self.spare_slot), share=self.share, way=None if self.attention == "auto" else self.attention, keep=keep,
        )  # fmt: skip

    def begin(self, module: Any, prompts: Sequence[Sequence[int]], more: int) -> Begun:
        from paredown.engines import prefill

        return prefill.begin(module, prompts, lambda texts: self.read(module, texts, keep=True), more, drop_last=self.drop_last)
