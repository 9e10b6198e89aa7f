"""Several texts in one row of a language model of transformers, none of which sees another.

Legend: H = heads, T = slots of a row, P = slots of keys that were there before, D = width of a head, n = tokens of a segment.

A segment is a stretch of a row that reads itself causally and, before it, only the stretches of keys that it names: those
of the beginning that it shares with others. An attention function, registered with transformers, calls torch's causal
attention on every segment by itself: no mask, and the cost is the sum of the squares, not the square of the sum. Where a
model cannot take it, the same layout as a 4-D mask.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Iterator, Sequence
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

NAME = "paredown_segments"
REFUSED = ("softcap", "s_aux", "position_bias", "cache")  # arguments that change attention in ways that torch's own does not know


@dataclass(frozen=True)
class Segment:
    """Tokens start..start + length of a row; keys of its row that it reads before its own, P and all counted."""

    row: int
    start: int
    length: int
    reads: tuple[tuple[int, int], ...] = ()

    @property
    def before(self) -> int:
        """Keys that it reads before its own: its first position."""
        return sum(end - start for start, end in self.reads)


class Layout:
    """Segments of a forward pass with P keys before them. Segments of one row, alike and side by side, are computed together."""

    def __init__(self, segments: Sequence[Segment], past: int = 0) -> None:
        self.segments = [segment for segment in segments if segment.length]
        self.past = past
        self.runs: list[tuple[Segment, int]] = []  # (first segment, how many)
        self.windows: set[int] = set()  # sliding windows that the model told the attention function of, 0 for none
        for segment in self.segments:
            if self.runs:
                first, count = self.runs[-1]
                follows = segment.row == first.row and segment.start == first.start + count * first.length
                if follows and (segment.length, segment.reads) == (first.length, first.reads):
                    self.runs[-1] = first, count + 1
                    continue
            self.runs.append((segment, 1))

    def mask(self, rows: int, width: int, dtype: torch.dtype, device: torch.device) -> Tensor:
        """(rows, 1, T, P + T): 0 where a slot looks, the lowest number elsewhere; padding looks at itself, for a row of
        nothing would be NaN."""
        seen = torch.zeros(rows, width, self.past + width, dtype=torch.bool)
        slots = torch.arange(width)
        seen[:, slots, self.past + slots] = True
        for segment in self.segments:
            own = slice(segment.start, segment.start + segment.length)
            for start, end in segment.reads:
                seen[segment.row, own, start:end] = True
            keys = slice(self.past + segment.start, self.past + segment.start + segment.length)
            seen[segment.row, own, keys] = torch.ones(segment.length, segment.length, dtype=torch.bool).tril()
        mask = torch.zeros(seen.shape, dtype=dtype).masked_fill(~seen, torch.finfo(dtype).min)
        return mask[:, None].to(device)


_layout: ContextVar[Layout | None] = ContextVar("paredown_layout", default=None)


@functools.lru_cache(maxsize=64)
def _band(length: int, before: int, window: int, device: torch.device) -> Tensor:
    """(n, before + n): whether a token looks there; at itself and what is before it, at most `window` tokens in all (0: no bound)."""
    seen = torch.ones(length, before + length, dtype=torch.bool, device=device).tril(before)
    return seen.triu(before + 1 - window) if window else seen


def attend(
    module: nn.Module, query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor | None = None, scaling: float | None = None,
    sliding_window: int | None = None, dropout: float = 0.0, **others: Any,
) -> tuple[Tensor, None]:  # fmt: skip
    """Attention of each segment by itself. query (1, H, T, D), key and value (1, H or fewer, P + T, D); gives (1, T, H, D)."""
    layout = _layout.get()
    if layout is None:
        from transformers.integrations.sdpa_attention import sdpa_attention_forward

        given = {"scaling": scaling, "sliding_window": sliding_window, "dropout": dropout, **others}
        return sdpa_attention_forward(module, query, key, value, attention_mask, **given)
    refused = [name for name in REFUSED if others.get(name) is not None]
    if refused or others.get("is_causal") is False or not getattr(module, "is_causal", True):
        raise ValueError(f"no attention by segments with {refused or 'a view of what comes later'}")
    groups = query.shape[1] // key.shape[1]
    window = int(sliding_window or 0)
    layout.windows.add(window)
    out = query.new_empty(1, query.shape[2], query.shape[1], value.shape[3])
    for segment, count in layout.runs:
        length, begin = segment.length, segment.start
        end = begin + count * length
        own = slice(layout.past + begin, layout.past + end)
        q, k, v = (
            each[0, :, place].view(each.shape[1], count, length, each.shape[3]).transpose(0, 1)  # (count, H, n, D)
            for each, place in ((query, slice(begin, end)), (key, own), (value, own))
        )
        if segment.reads:
            shared = [torch.cat([each[0, :, a:b] for a, b in segment.reads], 1).expand(count, -1, -1, -1) for each in (key, value)]
            k, v = torch.cat([shared[0], k], 2), torch.cat([shared[1], v], 2)
        before = segment.before
        banded = 0 < window < before + length
        if banded or (before and length > 1):
            if groups > 1:  # torch takes grouped heads quickly only without a mask
                k, v = k.repeat_interleave(groups, 1), v.repeat_interleave(groups, 1)
            mask = _band(length, before, window if banded else 0, q.device)
            seen = nn.functional.scaled_dot_product_attention(q, k, v, attn_mask=mask, scale=scaling)
        else:
            seen = nn.functional.scaled_dot_product_attention(q, k, v, is_causal=length > 1, scale=scaling, enable_gqa=groups > 1)
        out[0, begin:end].view(count, length, *out.shape[2:]).copy_(seen.transpose(1, 2))
    return out, None


def _masks(*positional: Any, **named: Any) -> Any:
    """transformers' mask for its own attention; none where segments are laid out."""
    if _layout.get() is not None:
        return None
    from transformers.masking_utils import sdpa_mask

    return sdpa_mask(*positional, **named)


@contextlib.contextmanager
def attention(module: Any) -> Iterator[None]:
    """Inside, the module attends segment by segment wherever a layout is `laid`, and as always elsewhere."""
    from transformers import AttentionInterface, AttentionMaskInterface

    AttentionInterface.register(NAME, attend)
    AttentionMaskInterface.register(NAME, _masks)
    before = module.config._attn_implementation
    module.set_attn_implementation(NAME)
    if module.config._attn_implementation != NAME:
        raise ValueError(f"{type(module).__name__} has an attention of its own")
    try:
        yield
    finally:
        module.set_attn_implementation(before)


@contextlib.contextmanager
def laid(layout: Layout) -> Iterator[None]:
    """The forward pass inside has this layout."""
    token = _layout.set(layout)
    try:
        yield
    finally:
        _layout.reset(token)


def windows(module: Any) -> set[int]:
    """Sliding windows of the layers, 0 for none; -1 where the configuration names a kind of layer that we do not know."""
    config = module.config.get_text_config() if hasattr(module.config, "get_text_config") else module.config
    kinds = set(getattr(config, "layer_types", None) or ())
    if kinds - {"full_attention", "sliding_attention"}:
        return {-1}
    size = getattr(config, "sliding_window", None)
    if not size or getattr(config, "use_sliding_window", True) is False or (kinds and "sliding_attention" not in kinds):
        return {0}
    return {int(size)} | ({0} if "full_attention" in kinds else set())
