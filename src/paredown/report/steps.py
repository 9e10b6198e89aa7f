"""The steps of a run as the page groups them: one group for each step of an arm, its seeds together."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from paredown.report.numbers import usable

KNOBS = 5  # shown of a step where all are its own
PALETTE = 6  # colours beside the grey of the control
INK = "var(--ink)"  # the colour of what is no arm's
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


def knobs_of(groups: Sequence[Group], arm: str) -> str:
    """What makes an arm itself: its steps that not all arms share, measurements left out, with the knobs that other arms have differently."""
    everyone = {name for group in groups for name in group.arms}
    parts = []
    for group in groups:
        if arm not in group.arms or everyone <= set(group.arms) or group.measures:
            continue
        own = _flat(group.first.get("knobs") or {})
        others = [g for g in groups if g.name == group.name and g is not group]
        same = [_flat(g.first.get("knobs") or {}) for g in others if g.strategy == group.strategy]
        shown = {k: v for k, v in own.items() if any(o.get(k) != v for o in same)} if same else own
        said = [f"{k}={_short(v)}" for k, v in shown.items() if v not in (None, "", False)]
        if said or len(same) < len(others) or not others:
            parts.append(f"{group.name}: {group.strategy}" + (f" ({', '.join(said[:KNOBS])})" if said else ""))
    return "; ".join(parts) or "as the other arms"


def _flat(knobs: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Knobs with their plain values; those inside a part or a budget as part.knob."""
    found: dict[str, Any] = {}
    for name, value in knobs.items():
        if isinstance(value, dict):
            found |= _flat(value, f"{prefix}{name}.")
        elif isinstance(value, (int, float, str)) or value is None:
            found[prefix + name] = value
    return found


def _short(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)
