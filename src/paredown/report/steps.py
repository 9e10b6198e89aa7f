"""The steps of a run as the page groups them: one group for each step of an arm, its seeds together."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from paredown.report.numbers import usable

PALETTE = 6  # colours beside the grey of the control
MEASURES = ("measure.", "infer.")
WORST = ("failed", "waiting", "skipped", "done", "cached")


@dataclass
class Group:
    """One step of one or several arms, in all seeds."""

    name: str
    arms: tuple[str, ...]
    steps: list[dict[str, Any]] = field(default_factory=list)
    index: int = 0
    sources: list[Group] = field(default_factory=list)

    @property
    def first(self) -> dict[str, Any]:
        return self.steps[0]

    @property
    def strategy(self) -> str:
        return str(self.first.get("strategy", ""))

    @property
    def measures(self) -> bool:
        return self.strategy.startswith(MEASURES)

    @property
    def status(self) -> str:
        found = {str(step.get("status", "")) for step in self.steps}
        return next((status for status in WORST if status in found), next(iter(found), ""))

    def cost(self, name: str) -> float | None:
        """Mean over the seeds; None where nothing was measured."""
        found = [(step.get("cost") or {}).get(name) for step in self.steps]
        known = [float(value) for value in found if usable(value)]
        return statistics.fmean(known) if known else None


def groups(summary: dict[str, Any]) -> list[Group]:
    """Groups in the order of the run, with their sources."""
    found: dict[tuple[str, tuple[str, ...]], Group] = {}
    for step in summary.get("steps", []):
        key = (str(step["name"]), tuple(step.get("arms") or ()))
        found.setdefault(key, Group(*key)).steps.append(step)
    rows = list(found.values())
    for index, group in enumerate(rows):
        group.index = index
        for text in (group.first.get("inputs") or {}).values():
            for name in str(text).split(", "):
                source = _source(name, group, rows)
                if source is not None and source is not group and source not in group.sources:
                    group.sources.append(source)
    return rows


def _source(name: str, of: Group, rows: Sequence[Group]) -> Group | None:
    """The group that an input's text names: the one of the same arms, else one with an arm in common, else any."""
    named = [g for g in rows if name == g.name or name.startswith(g.name + ".")]
    own = set(of.arms)
    return min(named, key=lambda g: (not own <= set(g.arms), not own & set(g.arms), g.index), default=None)


def colours(summary: dict[str, Any]) -> dict[str, str]:
    """One CSS colour an arm for the whole page; the control is always grey."""
    control = summary.get("control")
    others = [arm for arm in summary.get("arms") or [] if arm != control]
    return {arm: "var(--control)" if arm == control else f"var(--arm-{others.index(arm) % PALETTE})" for arm in summary.get("arms") or []}
