"""Cosine decay of the learning rate."""

from __future__ import annotations

import math
from typing import ClassVar

from paredown.core.strategy import Share
from paredown.engines.parts import Schedule


def cosine_factor(progress: float, floor: float) -> float:
    """1 at progress 0, `floor` at progress 1, half a cosine between them."""
    return floor + (1 - floor) * (1 + math.cos(math.pi * min(1.0, max(0.0, progress)))) / 2


class Cosine(Schedule):
    """Let the learning rate fall along half a cosine.

    Source: Loshchilov and Hutter 2016, arXiv 1608.03983, eq. 5, one cycle.
    Costs: nothing.
    Control: learn.schedules.linear
    """

    tags: ClassVar[tuple[str, ...]] = ("when-during", "what-weights", "speedup-none")

    floor: Share = 0.0  # learning rate at the end, as a share of the peak

    def factor(self, progress: float) -> float:
        return cosine_factor(progress, self.floor)
