"""FLOPs of training, counted by torch's own counter on the first batch of each shape.

A batch of a shape that was seen before costs the same, so counting once and adding up is exact. Counted are matrix
products, convolutions and attention, forward and backward; two FLOPs a multiply-add.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode, sdpa_backward_flop_count, sdpa_flop_count

aten = torch.ops.aten


def _attention(query: Any, key: Any, value: Any, *args: Any, out_shape: Any = None, **kwargs: Any) -> int:
    return int(sdpa_flop_count(query, key, value))  # type: ignore[no-untyped-call]


def _attention_backward(grad: Any, query: Any, key: Any, value: Any, *args: Any, out_shape: Any = None, **kwargs: Any) -> int:
    return int(sdpa_backward_flop_count(grad, query, key, value))  # type: ignore[no-untyped-call]


# The counter knows the attention kernels of GPUs only; without these, attention on a CPU would count as nothing.
CPU_ATTENTION = {
    aten._scaled_dot_product_flash_attention_for_cpu: _attention,
    aten._scaled_dot_product_flash_attention_for_cpu_backward: _attention_backward,
}


def counter() -> FlopCounterMode:
    """torch's counter, with the CPU's attention kernels added."""
    return FlopCounterMode(display=False, custom_mapping=CPU_ATTENTION)


class Flops:
    """What each shape of batch costs; `table` goes into checkpoints, so that a resumed run counts nothing anew."""

    def __init__(self, table: dict[str, int] | None = None) -> None:
        self.table: dict[str, int] = dict(table or {})

    @staticmethod
    def shape(batch: dict[str, Any], kind: str) -> str:
        """A name for batches that cost the same."""
        shapes = ",".join(f"{name}{list(value.shape)}" for name, value in sorted(batch.items()) if hasattr(value, "shape"))
        return f"{kind}:{shapes}"

    def known(self, key: str) -> bool:
        return key in self.table

    @contextlib.contextmanager
    def counted(self, key: str) -> Iterator[bool]:
        """Count what runs inside where `key` was not seen yet; gives whether it counts."""
        if key in self.table:
            yield False
            return
        with counter() as counting:
            yield True
        self.table[key] = int(counting.get_total_flops())
