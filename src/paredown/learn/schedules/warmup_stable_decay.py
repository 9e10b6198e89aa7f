"""A constant learning rate that falls at the very end."""

from __future__ import annotations

from typing import Annotated, ClassVar

from pydantic import Field

from paredown.core.strategy import Share
from paredown.engines.parts import Schedule


def stable_decay_factor(progress: float, decay: float, floor: float) -> float:
    """1 until `decay` of the budget is left, then a line down to `floor`."""
    left = 1 - min(1.0, max(0.0, progress))
    return 1.0 if left >= decay else floor + (1 - floor) * left / decay


class WarmupStableDecay(Schedule):
    """Hold the learning rate at its peak and let it fall only in the last part of the budget.

    The rise at the start is `warmup` of `learn.train`. A training may be gone on from any point of the stable part.

    Source: Hu et al. 2024 (MiniCPM), arXiv 2404.06395, section 4; linear decay as in Hägele et al. 2024, arXiv 2405.18392.
    Costs: nothing.
    Control: learn.schedules.cosine
    """

    tags: ClassVar[tuple[str, ...]] = ("when-during", "what-weights", "speedup-none")

    decay: Annotated[float, Field(gt=0, le=1)] = 0.2  # share of the budget over which it falls, 0 < d <= 1
    floor: Share = 0.0  # learning rate at the end, as a share of the peak

    def factor(self, progress: float) -> float:
        return stable_decay_factor(progress, self.decay, self.floor)
