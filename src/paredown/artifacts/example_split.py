"""Examples in two parts: to learn from and to measure on, or chosen and not."""

from __future__ import annotations

from dataclasses import dataclass

from paredown.artifacts.examples import Examples
from paredown.core.artifact import Bundle


@dataclass(frozen=True)
class ExampleSplit(Bundle):
    """Examples to learn from, and others to measure on (only where a share is held out)."""

    train: Examples
    held_out: Examples | None = None

    def summary(self) -> str:
        return f"{self.train.rows:,} examples" + (f", {self.held_out.rows:,} held out" if self.held_out is not None else "")


@dataclass(frozen=True)
class ChosenExamples(Bundle):
    """Examples that were chosen, and the others with the columns `reason` and, where each was scored, `score` (only where they are kept)."""

    kept: Examples
    rejected: Examples | None = None
