"""The answer: what was found, arm by arm, and how far each arm is from the reference and from the control."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from paredown.report.numbers import between, change, decimals_for, figure, usable
from paredown.report.steps import INK, Group, knobs_of
from paredown.report.table import ZEROS, Table, apart, unit_beside

STEADY = 1.5  # most that the fastest of a speed's repeats may be over the slowest
MOST = 7  # columns that stand beside each other on a wide screen
DECIDED = ("holds", "fails", "undecided")


def verdict(summary: dict[str, Any]) -> dict[str, str]:
    """The sentence at the top; open where nothing was decided."""
    text = str(summary.get("verdict") or "")
    first, dot, rest = text.partition(". ")
    claims = [str(claim.get("verdict")) for claim in summary.get("claims") or []]
    tested = any(word in DECIDED for word in claims) if claims else "no verdict" not in text.lower()
    return {"first": first + dot.strip(), "rest": rest, "kind": "given" if tested else "open"}


def table_of(summary: dict[str, Any], colours: dict[str, str]) -> dict[str, Any]:
    """Cells as text, and where each value and its bounds lie between the least and the most of their column.

    `parts` are the columns that stand together: all of them, or what was measured and what it cost where they would be too wide.
    """
    table = Table.of(summary)
    lines = list(zip(*(_column(table, i) for i in range(len(table.columns))), strict=True)) if table.columns else []
    same = [i for i, column in enumerate(table.columns) if column.get("kind") == "cost" and _constant(table, i)]
    shown = [
        i for i in range(len(table.columns)) if i not in same and any(table.value(row, i) is not None for row in table.rows)
    ]  # fmt: skip
    costs = [table.columns[i].get("kind") == "cost" for i in shown]
    split = len(shown) > MOST and len(set(costs)) > 1
    parts = [("measured", [i for i, c in enumerate(costs) if not c]), ("cost", [i for i, c in enumerate(costs) if c])]
    heads = [{"title": c["title"], "unit": unit_beside(c), "better": c.get("better", "none")} for c in (table.columns[i] for i in shown)]
    rows = []
    for row, cells in zip(table.rows, lines, strict=False):
        role = {summary.get("reference"): "reference", summary.get("control"): "control"}.get(row["arm"], "") if row["arm"] else ""
        label = str(row["label"])
        rows.append(
            {
                "label": label,
                "role": "" if role in label else role,
                "colour": colours.get(row["arm"], INK),
                "cells": [cells[i] for i in shown],
                "note": row.get("note") or "",
            }
        )
    alike = [f"{table.columns[i]['title']} {figure(table.value(table.rows[0], i), str(table.columns[i].get('unit') or ''))}" for i in same]
    return {
        "parts": parts if split else [("", list(range(len(shown))))],
        "heads": heads,
        "rows": rows,
        "sure": table.sure,
        "same": alike,
    }


def _constant(table: Table, index: int) -> bool:
    """Two arms or more, and all have the same value."""
    found = {table.value(row, index) for row in table.rows}
    return len(table.rows) > 1 and len(found) == 1 and None not in found


def _column(table: Table, index: int) -> list[dict[str, Any]]:
    values = [table.value(row, index) for row in table.rows]
    bounds = [table.bounds(row, index) for row in table.rows]
    everything = [v for v in values if v is not None] + [v for pair in bounds for v in pair or ()]
    low, high = min(everything, default=0), max(everything, default=0)
    unit, decimals = str(table.columns[index].get("unit") or ""), decimals_for(values)
    cells = []
    for value, pair in zip(values, bounds, strict=True):
        strip = None
        if value is not None and high > low:
            at = [100 * (v - low) / (high - low) for v in (value, *(pair or (value, value)))]
            strip = {"at": round(at[0], 1), "low": round(at[1], 1), "width": round(at[2] - at[1], 1)}
        said = between(figure(pair[0], unit, decimals), figure(pair[1], unit, decimals)) if pair else ""
        cells.append({"text": figure(value, unit, decimals), "strip": strip, "range": said})
    return cells


def unsteady(groups: Sequence[Group]) -> list[str]:
    """Speeds whose repeats lie so far apart that the machine must have been busy."""
    found = []
    for group in groups:
        for name, value in (group.first.get("facts") or {}).items():
            if group.strategy != "measure.speed" or not isinstance(value, dict):
                continue
            low, high = value.get("min"), value.get("max")
            if usable(low) and usable(high) and high > STEADY * low:
                arms = ", ".join(group.arms) or group.name
                found.append(f"{name} of {arms} {figure(low, 'tokens/s')} to {figure(high, 'tokens/s')}")
    return found


def savings(summary: dict[str, Any], colours: dict[str, str], groups: Sequence[Group]) -> dict[str, Any] | None:
    """A card an arm: how far it is from the reference and from the control, in what was counted and in what was measured."""
    table = Table.of(summary)
    reference, control = table.row(summary.get("reference")), table.row(summary.get("control"))
    bases = [base for base in (reference, control) if base is not None]
    if len(bases) == 2 and bases[0] is bases[1]:
        bases = bases[:1]
    if not bases:
        return None
    cards = []
    for row in table.rows:
        if row is bases[0]:
            continue
        counted: list[dict[str, Any]] = []
        measured: list[dict[str, Any]] = []
        own = [base for base in bases if base is not row]
        for i, column in enumerate(table.columns):
            said = [_against(table, i, row, base, control) for base in own]
            if any(item["change"] for item in said):
                (counted if table.counted(i) else measured).append({"title": column["title"], "changes": said})
        cards.append(
            {
                "label": row["label"],
                "colour": colours.get(row["arm"], INK),
                "bases": [str(base["arm"]) for base in own],
                "counted": counted,
                "measured": measured,
                "what": knobs_of(groups, row["arm"]),
                "note": row.get("note") or "",
            }
        )
    names = [str(base["arm"]) for base in bases]
    return {"bases": names, "sure": table.sure, "cards": cards} if any(c["counted"] or c["measured"] for c in cards) else None


def _against(table: Table, index: int, row: dict[str, Any], base: dict[str, Any], control: dict[str, Any] | None) -> dict[str, str]:
    """The change against `base`, and whether it saves, costs more, or cannot be said to do either."""
    column, value, other = table.columns[index], table.value(row, index), table.value(base, index)
    ratio = table.ratio(row, index) if base is control else None
    said = change(ratio, 1.0) if ratio is not None else change(value, other)
    better = column.get("better")
    known = table.counted(index) or apart(table.bounds(row, index), table.bounds(base, index))
    if said in ("", "the same") or better not in ("lower", "higher") or not known or any(word in column["title"] for word in ZEROS):
        return {"change": said, "mark": "same"}
    return {"change": said, "mark": "saved" if ((value or 0) < (other or 0)) == (better == "lower") else "more"}
