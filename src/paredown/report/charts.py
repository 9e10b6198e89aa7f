"""Vega-Lite specifications of the training curves, and their data for readers without the extra `report`.

Colours are CSS variables of the page, so that a chart follows light, dark and print by itself.
"""

from __future__ import annotations

import importlib
import re
import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from paredown.report.numbers import usable
from paredown.report.steps import INK, Group

POINTS = 300  # most points a line has; more are averaged in order
SHARED = "every arm"
MUTED, LINE = "var(--muted)", "var(--line)"
HELD_OUT = "held_out_"  # begins the names of curves over what is not trained on
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
                kind = "held out" if metric.startswith(HELD_OUT) else "training"
                if good:
                    found.setdefault((group.name, metric.removeprefix(HELD_OUT)), []).append((arm, step.get("seed"), kind, good))
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
            note += "; rings are held-out data"
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
            "arm:N",
            scale=alt.Scale(domain=arms, range=[colours.get(arm, INK) for arm in arms]),
            legend=alt.Legend(title=None, orient="top") if len(arms) > 1 else None,
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
    return _finish(alt, alt.layer(*layers, dots))


def _finish(alt: Any, chart: Any) -> dict[str, Any]:
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
        width="container", height=240, autosize=alt.AutoSizeParams(type="fit-x", contains="padding"), background="transparent"
    )
    chart = chart.configure(
        font="system-ui, sans-serif",
        axis=text,
        legend={"labelColor": INK, "titleColor": MUTED, "labelFontSize": 12},
        view={"stroke": "transparent"},
    )
    return dict(chart.to_dict())
