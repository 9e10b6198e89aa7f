"""Linear decay of the learning rate."""

from __future__ import annotations

from typing import ClassVar

from paredown.core.strategy import Share
from paredown.engines.parts import Schedule


def linear_factor(progress: float, floor: float) -> float:
    """1 at progress 0, `floor` at progress 1, a line between them."""
    return 1 - (1 - floor) * min(1.0, max(0.0, progress))


class Linear(Schedule):
    """Let the learning rate fall along a line.

    Source: none (standard; Bergsma et al. 2025, arXiv 2502.15938, find that a line to zero does best).
    Costs: nothing.
    Control: learn.schedules.cosine
    """

    tags: ClassVar[tuple[str, ...]] = ("when-during", "what-weights", "speedup-none")

    floor: Share = 0.0  # learning rate at the end, as a share of the peak

    def factor(self, progress: float) -> float:
        return linear_factor(progress, self.floor)
