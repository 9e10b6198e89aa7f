"""Vega-Lite specifications of the page's charts, and their data for readers without the extra `report`.

Colours are CSS variables of the page, so that a chart follows light, dark and print by itself.
"""

from __future__ import annotations

import importlib
import re
import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from paredown.report.numbers import decimals_for, figure, usable
from paredown.report.steps import Group

KNOBS = 5  # shown of a step where all are its own
POINTS = 300  # most points a line has; more are averaged in order
COSTS = ("FLOPs", "bytes", "tokens/s")  # units of columns that quality is drawn against
CLOSE = {"x": 0.25, "y": 0.08}  # shares of a chart's width and height that a name takes
SHARED = "every arm"
INK, MUTED, LINE, PAPER = "var(--ink)", "var(--muted)", "var(--line)", "var(--paper)"
HELD_OUT = "held_out_loss"
UNITS = {"loss": "nats/token"}


@dataclass
class Chart:
    """One chart: its specification (None without the extra), and the same figures as a table."""

    id: str
    title: str
    note: str
    spec: dict[str, Any] | None
    head: list[str]
    rows: list[list[str]] = field(default_factory=list)


def script() -> str:
    """Vega, Vega-Lite and Vega-Embed as one text of JavaScript; empty without the extra `report`."""
    vega: Any = _library("vl_convert")
    if vega is None or _library("altair") is None:
        return ""
    bundle = str(vega.javascript_bundle())
    return re.sub("</(?=script)|<!(?=--)", lambda found: found[0][0] + "\\" + found[0][1], bundle, flags=re.IGNORECASE)


def _library(name: str) -> Any:
    """A module of the extra `report`, or None."""
    try:
        return importlib.import_module(name)
    except ImportError:
        return None


def curves(groups: Sequence[Group], colours: dict[str, str]) -> list[Chart]:
    """One chart for each step name and kind of curve, training and held-out loss together; a line an arm and seed."""
    found: dict[tuple[str, str], list[tuple[str, Any, str, list[list[float]]]]] = {}
    for group in groups:
        arm = group.arms[0] if len(group.arms) == 1 else ", ".join(group.arms) if 1 < len(group.arms) < len(colours) else SHARED
        for step in group.steps:
            for metric, points in sorted((step.get("curves") or {}).items()):
                good = [p for p in points if len(p) == 3 and all(usable(v) for v in p)]
                kind = "held out" if metric == HELD_OUT else "training"
                if good:
                    found.setdefault((group.name, "loss" if metric == HELD_OUT else metric), []).append((arm, step.get("seed"), kind, good))
    charts = []
    for number, ((name, metric), lines) in enumerate(sorted(found.items(), key=lambda item: (_order(groups, item[0][0]), item[0][1]))):
        label = metric.replace("_", " ") + (f", {UNITS[metric]}" if UNITS.get(metric) else "")
        values, rows, most = [], [], 1
        for arm, seed, kind, points in lines:
            thinned, merged = thin(points)
            most = max(most, merged)
            values += [{"x": p[1], "y": p[2], "arm": arm, "seed": str(seed), "kind": kind} for p in thinned]
            first, middle, last = points[0], points[len(points) // 2], points[-1]
            rows.append([arm, str(seed), kind, *(f"{p[2]:.4g}" for p in (first, middle, last)), f"{last[1]:,.0f}", str(len(points))])
        count = len({line[:2] for line in lines})
        note = f"n = {count} {'run' if count == 1 else 'runs'} (arms and seeds); a point "
        note += f"is the mean of {most} logged ones" if most > 1 else "for each logged one"
        if any(line[2] == "held out" for line in lines):
            note += "; rings are held-out documents"
        note += ". Lower is better." if metric == "loss" else "."
        head = ["arm", "seed", "on", "first", "middle", "last", "tokens", "points"]
        charts.append(
            Chart(f"curve-{number}", f"{name}: {metric.replace('_', ' ')}", note, _curve_spec(values, label, colours), head, rows)
        )
    return charts


def thin(points: list[list[float]]) -> tuple[list[list[float]], int]:
    """At most POINTS points, each the mean of as many neighbours; and how many those are."""
    each = -(-len(points) // POINTS)
    if each <= 1:
        return points, 1
    parts = [points[i : i + each] for i in range(0, len(points), each)]
    return [[statistics.fmean(column) for column in zip(*part, strict=True)] for part in parts], each


def _order(groups: Sequence[Group], name: str) -> int:
    return next((g.index for g in groups if g.name == name), 0)


def _scale(arms: Sequence[str], colours: dict[str, str]) -> dict[str, list[str]]:
    return {"domain": list(arms), "range": [colours.get(arm, INK) for arm in arms]}


def _curve_spec(values: list[dict[str, Any]], label: str, colours: dict[str, str]) -> dict[str, Any] | None:
    alt = _library("altair")
    if alt is None:
        return None
    arms = list(dict.fromkeys(v["arm"] for v in values))
    tooltip = [
        alt.Tooltip("arm:N"),
        alt.Tooltip("seed:N"),
        alt.Tooltip("kind:N", title="on"),
        alt.Tooltip("x:Q", title="tokens", format=",.0f"),
        alt.Tooltip("y:Q", title=label, format=".4f"),
    ]
    base = alt.Chart(alt.InlineData(values=values)).encode(
        x=alt.X("x:Q", title="training tokens", axis=alt.Axis(format="~s", tickCount=6)),
        y=alt.Y("y:Q", title=label, scale=alt.Scale(zero=False, nice=True), axis=alt.Axis(tickCount=5)),
        color=alt.Color(
            "arm:N", scale=alt.Scale(**_scale(arms, colours)), legend=alt.Legend(title=None, orient="top") if len(arms) > 1 else None
        ),
        detail="seed:N",
    )
    near = alt.selection_point(on="pointermove", nearest=True, fields=["x", "arm", "seed", "kind"], empty=False, clear="pointerout")
    kinds = {v["kind"] for v in values}  # a layer without points would make Vega complain of a scale without an extent
    layers = []
    if "training" in kinds:
        layers.append(base.transform_filter("datum.kind === 'training'").mark_line(strokeWidth=1.6))
    if "held out" in kinds:
        ring = base.transform_filter("datum.kind === 'held out'").mark_point(size=55, strokeWidth=1.8, filled=False, opacity=1)
        layers.append(ring.encode(tooltip=tooltip))
    dots = base.mark_circle(size=60).encode(opacity=alt.condition(near, alt.value(1), alt.value(0)), tooltip=tooltip).add_params(near)
    return _finish(alt.layer(*layers, dots), 240)


def quality(summary: dict[str, Any], groups: Sequence[Group], colours: dict[str, str]) -> list[Chart]:
    """Quality against each cost of the answer table, with the Pareto front; a point an arm."""
    columns = (summary.get("table") or {}).get("columns") or []
    rows = (summary.get("table") or {}).get("rows") or []
    metrics = [
        i
        for i, c in enumerate(columns)
        if c.get("kind") == "metric" and c.get("better") in ("lower", "higher") and c.get("unit") != "tokens/s"
    ]
    if not metrics:
        return []
    same = [
        i
        for i in metrics
        if columns[i].get("unit") == columns[metrics[0]].get("unit") and columns[i]["better"] == columns[metrics[0]]["better"]
    ]
    y_unit, y_better = columns[same[0]].get("unit", ""), columns[same[0]]["better"]
    charts = []
    for number, column in enumerate(columns):
        if column.get("unit") not in COSTS or column.get("better") not in ("lower", "higher"):
            continue
        points = []
        for row in rows:
            last = next((i for i in reversed(same) if _at(row, "values", i) is not None), None)
            x = _at(row, "values", number)
            if last is None or not usable(x) or not usable(row["values"][last]):
                continue
            low, high = _at(row, "spread", last) or (None, None)
            points.append(
                {
                    "arm": row["arm"] or row["label"],
                    "x": x,
                    "y": row["values"][last],
                    "low": low,
                    "high": high,
                    "what": columns[last]["title"],
                    "knobs": knobs_of(groups, row["arm"]),
                }
            )
        if len(points) < 2 or len({p["x"] for p in points}) < 2:
            continue
        front = pareto(points, column["better"], y_better)
        best = {p["arm"] for p in front}
        title = f"{y_unit} against {column['title']}"
        unit = column.get("unit", "")
        x_label = column["title"] + (f", {unit}" if unit and unit.lower() not in column["title"].lower() else "")
        seeds = len(summary.get("seeds") or [0])
        note = (
            f"n = {len(points)} arms, {'1 seed' if seeds == 1 else f'means over {seeds} seeds, whiskers from the lowest to the highest'}. "
        )
        note += f"Better is {y_better} {y_unit} and {column['better']} {column['title']}; the dashed line joins the arms that no other beats in both."
        decimals = decimals_for([p["y"] for p in points])
        table = [
            [p["arm"], figure(p["x"], unit), figure(p["y"], "", decimals), "yes" if p["arm"] in best else "no", p["knobs"]] for p in points
        ]
        spec = _quality_spec(points, front, x_label, y_unit, unit, colours)
        charts.append(Chart(f"quality-{number}", title, note, spec, ["arm", column["title"], y_unit, "on the front", "knobs"], table))
    return charts


def _at(row: dict[str, Any], name: str, index: int) -> Any:
    values = row.get(name) or []
    return values[index] if index < len(values) else None


def pareto(points: Sequence[dict[str, Any]], x_better: str, y_better: str) -> list[dict[str, Any]]:
    """The points that no other beats: as good in both and better in one. Sorted by x."""
    a, b = (1 if better == "lower" else -1 for better in (x_better, y_better))

    def beats(one: dict[str, Any], two: dict[str, Any]) -> bool:
        x, y = a * (one["x"] - two["x"]), b * (one["y"] - two["y"])
        return bool(x <= 0 and y <= 0 and (x < 0 or y < 0))

    return sorted((p for p in points if not any(beats(other, p) for other in points)), key=lambda p: (p["x"], p["y"]))


def labels(points: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Where each arm's name stands; one label for points so close that their names would cover each other."""
    spans = {axis: max(p[axis] for p in points) - min(p[axis] for p in points) or 1.0 for axis in ("x", "y")}
    found: list[dict[str, Any]] = []
    for point in points:
        near = [n for n in found if all(abs(n[a] - point[a]) <= CLOSE[a] * spans[a] for a in ("x", "y"))]
        if near:
            near[0]["arm"] += f", {point['arm']}"
        else:
            found.append({"x": point["x"], "y": point["y"], "arm": point["arm"]})
    return found


def knobs_of(groups: Sequence[Group], arm: str) -> str:
    """What makes an arm itself: the steps that only it runs, measurements left out, with the knobs that other arms have differently."""
    parts = []
    for group in groups:
        if group.arms != (arm,) or group.measures:
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


def _quality_spec(
    points: list[dict[str, Any]], front: list[dict[str, Any]], x_label: str, y_label: str, unit: str, colours: dict[str, str]
) -> dict[str, Any] | None:
    alt = _library("altair")
    if alt is None:
        return None
    arms = [p["arm"] for p in points]
    axis = alt.Axis(
        labelExpr="replace(format(datum.value, '.2~e'), '+', '')" if unit == "FLOPs" else "format(datum.value, '~s')", tickCount=4
    )
    x = alt.X("x:Q", title=x_label, scale=alt.Scale(zero=False, nice=True, padding=24), axis=axis)
    y = alt.Y("y:Q", title=y_label, scale=alt.Scale(zero=False, nice=True, padding=16), axis=alt.Axis(tickCount=5))
    line = (
        alt.Chart(alt.InlineData(values=[{"x": p["x"], "y": p["y"]} for p in front]))
        .mark_line(color=MUTED, strokeDash=[4, 3], strokeWidth=1.5)
        .encode(x=x, y=y, order="x:Q")
    )
    data = alt.InlineData(values=points)
    base = alt.Chart(data).encode(x=x, y=y)
    color = alt.Color("arm:N", scale=alt.Scale(**_scale(arms, colours)), legend=None)
    tooltip = [
        alt.Tooltip("arm:N"),
        alt.Tooltip("x:Q", title=x_label, format=",.4~g"),
        alt.Tooltip("y:Q", title=y_label, format=".4f"),
        alt.Tooltip("what:N", title="measured"),
        alt.Tooltip("knobs:N"),
    ]
    dots = base.mark_point(size=110, filled=True, opacity=1).encode(
        color=color, tooltip=tooltip, shape=alt.Shape("arm:N", scale=alt.Scale(domain=arms), legend=None)
    )
    middle = (min(p["x"] for p in points) + max(p["x"] for p in points)) / 2
    layers = [line, dots]
    named_at = labels(points)
    for side, align in (([p for p in named_at if p["x"] <= middle], "left"), ([p for p in named_at if p["x"] > middle], "right")):
        dx = 9 if align == "left" else -9
        named = alt.Chart(alt.InlineData(values=side)).encode(x=x, y=y, text="arm:N")
        layers.append(named.mark_text(dx=dx, dy=-7, align=align, fontSize=12, color=PAPER, stroke=PAPER, strokeWidth=4))
        layers.append(named.mark_text(dx=dx, dy=-7, align=align, fontSize=12, color=INK))
    if any(p["low"] is not None for p in points):
        layers.insert(1, alt.Chart(data).mark_rule(strokeWidth=1.5).encode(x=x, y=alt.Y("low:Q", title=y_label), y2="high:Q", color=color))
    return _finish(alt.layer(*layers), 250)


def _finish(chart: Any, height: int) -> dict[str, Any]:
    alt = _library("altair")
    text = {
        "labelColor": MUTED,
        "titleColor": INK,
        "labelFontSize": 11,
        "titleFontSize": 12,
        "titleFontWeight": "normal",
        "gridColor": LINE,
        "domainColor": LINE,
        "tickColor": LINE,
    }
    chart = chart.properties(
        width="container", height=height, autosize=alt.AutoSizeParams(type="fit-x", contains="padding"), background="transparent"
    )
    chart = chart.configure(
        font="system-ui, sans-serif",
        axis=text,
        legend={"labelColor": INK, "titleColor": MUTED, "labelFontSize": 12},
        view={"stroke": "transparent"},
    )
    return dict(chart.to_dict())
