"""Quality against cost: every pair of a quality and a cost of the answer table with its Pareto front, ready to draw.

The fronts are found here; the page's script only draws them. All positions are shares of an axis, 0 at its low end.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from paredown.report.answer import unsteady
from paredown.report.axes import axis
from paredown.report.numbers import NONE, between, decimals_for, precise
from paredown.report.steps import INK, Group, knobs_of
from paredown.report.table import ZEROS, Table, unit_beside

LEAST = 0.0005  # share by which arms must differ in a cost for it to be an axis
SIDES = ("lower", "higher")
CUT = " Whiskers without an end reach beyond the picture."
BUSY = "the machine was busy, so speeds are unsteady: do not compare them"


@dataclass(frozen=True)
class Point:
    """One arm at one pair: a value and its bounds on either axis."""

    arm: int
    x: float
    y: float
    x_bounds: tuple[float, float] | None = None
    y_bounds: tuple[float, float] | None = None


def front(points: Sequence[Point], x_better: str, y_better: str) -> list[Point]:
    """The points that no other beats: as good in both and better in one. In the order of x, then y."""
    return sorted((p for p in points if not any(beats(other, p, x_better, y_better) for other in points)), key=lambda p: (p.x, p.y))


def beats(one: Point, two: Point, x_better: str, y_better: str) -> bool:
    """`one` is as good as `two` on both axes and better on one."""
    x, y = _sign(x_better) * (one.x - two.x), _sign(y_better) * (one.y - two.y)
    return x <= 0 and y <= 0 and (x < 0 or y < 0)


def beats_surely(one: Point, two: Point, x_better: str, y_better: str) -> bool:
    """`one` beats `two`, and wherever they differ their bounds do not touch."""
    if not beats(one, two, x_better, y_better):
        return False
    pairs = ((one.x, one.x_bounds, two.x, two.x_bounds), (one.y, one.y_bounds, two.y, two.y_bounds))
    for value, bounds, other, others in pairs:
        low, high = bounds or (value, value)
        least, most = others or (other, other)
        if value != other and low <= most and least <= high:
            return False
    return True


def _sign(better: str) -> int:
    return 1 if better == "lower" else -1


def view(summary: dict[str, Any], groups: Sequence[Group], colours: dict[str, str]) -> dict[str, Any] | None:
    """What the page draws and prints; None where no two arms differ in a cost, or nothing says what is better."""
    table = Table.of(summary)
    sided = [i for i, c in enumerate(table.columns) if c.get("better") in SIDES]
    costs = [i for i in sided if table.is_cost(i) and table.differs(i, LEAST)]
    costs.sort(key=lambda i: table.columns[i].get("kind") != "cost")
    metrics = [i for i in sided if not table.is_cost(i) and sum(table.value(row, i) is not None for row in table.rows) > 1]
    if not costs or not metrics:
        return None
    alike = [i for i in metrics if table.columns[i].get("unit") == table.columns[metrics[0]].get("unit")]
    last = metrics.index(alike[-1])  # of its kind: quality at the end of the recipe; and the first cost that there is a choice in
    arms = [
        {
            "name": str(row["arm"] or row["label"]),
            "label": str(row["label"]),
            "colour": colours.get(row["arm"], INK),
            "knobs": knobs_of(groups, row["arm"]),
            "note": row.get("note") or "",
        }
        for row in table.rows
    ]
    busy = BUSY if unsteady(groups) else ""
    pairs = [[_pair(table, cost, metric, arms) for cost in costs] for metric in metrics]
    data: dict[str, Any] = {
        "arms": arms,
        "costs": [_axis(table, i, busy) for i in costs],
        "metrics": [_axis(table, i) for i in metrics],
        "pairs": pairs,
        "start": {"cost": next((i for i, pair in enumerate(pairs[last]) if len(pair["front"]) > 1), 0), "metric": last},
        "n": _seeds(table),
    }
    cut = any(p and (p.get("low") == 0 or p.get("high") == 1) for axis in data["costs"] + data["metrics"] for p in axis["points"])
    return {"data": data, "note": _note(table) + (CUT if cut else ""), "tables": _tables(data)}


def _axis(table: Table, index: int, busy: str = "") -> dict[str, Any]:
    """One axis: title, ticks, where each arm lies (None: it has no value), and what must be said beside it."""
    column = table.columns[index]
    unit, title = str(column.get("unit") or ""), str(column["title"])
    values = [table.value(row, index) for row in table.rows]
    bounds = [table.bounds(row, index) if value is not None else None for row, value in zip(table.rows, values, strict=True)]
    scale = axis([v for v in values if v is not None], unit, [v for pair in bounds for v in pair or ()])
    decimals = decimals_for(values)
    points: list[dict[str, Any] | None] = []
    for value, pair in zip(values, bounds, strict=True):
        if value is None:
            points.append(None)
            continue
        point: dict[str, Any] = {"at": round(scale.at(value), 5), "text": precise(value, unit, decimals)}
        if pair and pair[0] < pair[1]:
            point |= {"low": round(scale.at(pair[0]), 5), "high": round(scale.at(pair[1]), 5)}
            point["range"] = between(precise(pair[0], unit, decimals), precise(pair[1], unit, decimals))
        points.append(point)
    zeros = [row["note"] for row in table.rows if "zero" in str(row.get("note") or "")] if any(z in title for z in ZEROS) else []
    return {
        "title": title,
        "unit": unit_beside(column),
        "better": column["better"],
        "log": scale.log,
        "ticks": [[round(scale.at(value), 5), text] for value, text in scale.ticks],
        "points": points,
        "warn": "; ".join(dict.fromkeys(zeros)) or (busy if unit.endswith("/s") else ""),
    }


def _pair(table: Table, cost: int, metric: int, arms: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The front of one pair, as numbers of arms in the order of the cost, and who beats the others."""
    points = []
    for number, row in enumerate(table.rows):
        x, y = table.value(row, cost), table.value(row, metric)
        if x is not None and y is not None:
            points.append(Point(number, x, y, table.bounds(row, cost), table.bounds(row, metric)))
    sides = (table.columns[cost]["better"], table.columns[metric]["better"])
    best = front(points, *sides)
    beaten = {}
    for point in points:
        if point not in best:
            by = [p for p in best if beats(p, point, *sides)]
            overlap = table.sure == "interval" and not any(beats_surely(p, point, *sides) for p in by)
            names = ", ".join(arms[p.arm]["name"] for p in by)
            beaten[str(point.arm)] = f"beaten by {names}" + (", but their intervals overlap" if overlap else "")
    return {"front": [p.arm for p in best], "beaten": beaten}


def _seeds(table: Table) -> str:
    return f"n = {table.seeds} seed{'s' * (table.seeds != 1)}"


def _note(table: Table) -> str:
    sure = {
        "interval": f"Means over {table.seeds} seeds; whiskers are 95% intervals of the mean. What a seed does to all arms alike is in them, but not in a claim's difference.",
        "spread": f"Means over {table.seeds} seeds; whiskers go from the lowest to the highest seed.",
    }
    return sure.get(table.sure) or (
        f"Means over {table.seeds} seeds." if table.seeds > 1 else "1 seed: single measurements, so small differences may be noise."
    )


def _tables(data: dict[str, Any]) -> list[dict[str, Any]]:
    """The same in words: for each quality a table of the arms, with each cost and whether the arm is on that front."""
    found = []
    for quality, pairs in zip(data["metrics"], data["pairs"], strict=True):
        rows = []
        for arm, entry in enumerate(data["arms"]):
            point = quality["points"][arm]
            cells = []
            for cost, pair in zip(data["costs"], pairs, strict=True):
                at = cost["points"][arm]
                on = "on the front" if arm in pair["front"] else pair["beaten"].get(str(arm), "")
                cells.append({"text": at["text"] if at else NONE, "range": (at or {}).get("range", ""), "on": on})
            value = {"text": point["text"] if point else NONE, "range": (point or {}).get("range", "")}
            rows.append({"label": entry["label"], "colour": entry["colour"], "value": value, "cells": cells, "knobs": entry["knobs"]})
        heads = [f"{c['title']}{', ' + c['unit'] if c['unit'] else ''}" for c in data["costs"]]
        found.append({"title": quality["title"], "unit": quality["unit"], "better": quality["better"], "heads": heads, "rows": rows})
    return found
