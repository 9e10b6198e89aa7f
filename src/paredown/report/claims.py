"""Claims as cards: verdict, sentence, and the difference between the arms with its interval, drawn as a small forest plot."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from paredown.core.compare import ALLOWED
from paredown.report.numbers import beside, between, change, decimals_for, decimals_of_interval, figure, signed, usable
from paredown.report.steps import INK

MARKS = {"holds": "✓", "fails": "✕", "undecided": "≈", "none": "–"}  # none: every other verdict
NAMES = {"processed": "processed tokens", "flops": "FLOPs", "nominal_flops": "nominal FLOPs"}
UNITS = {"flops": "FLOPs", "nominal_flops": "FLOPs", "seconds": "seconds"}  # of budgets; all others are counts
ROOM = 0.07  # of a plot's width, free on either side
CLOSE = 11.0  # percent of a plot's width below which two centred texts would touch


def build(summary: dict[str, Any], colours: dict[str, str]) -> list[dict[str, Any]]:
    """The cards. Claims on the same metric share a scale, so that their bars can be compared."""
    found = [claim for claim in summary.get("claims") or [] if isinstance(claim, dict)]
    scales: dict[tuple[str, str], list[float]] = {}
    for claim in found:
        scales.setdefault(_family(claim), []).extend(_values(claim))
    return [_card(claim, _widen(scales[_family(claim)]), colours, summary) for claim in found]


def zone(claim: dict[str, Any]) -> tuple[float, float] | None:
    """Differences (arm minus other) with which the claim is true; None where the metric has no better side."""
    margin = float(claim.get("margin") or 0.0)
    kind, better = claim.get("kind"), claim.get("better")
    if kind == "equals":
        return (-margin, margin) if margin else None
    if better not in ("lower", "higher") or kind not in ("beats", "not_worse_than"):
        return None
    edge = -margin if kind == "beats" else margin
    return (-math.inf, edge) if better == "lower" else (-edge + 0.0, math.inf)


def _family(claim: dict[str, Any]) -> tuple[str, str]:
    return str(claim.get("metric") or claim.get("text")), str(claim.get("unit") or "")


def _values(claim: dict[str, Any]) -> list[float]:
    found = [claim.get(name) for name in ("difference", "low", "high")]
    return [0.0, *(float(v) for v in found if usable(v)), *(v for v in zone(claim) or () if math.isfinite(v))]


def _widen(values: Sequence[float]) -> tuple[float, float]:
    low, high = min(values), max(values)
    room = (high - low) * ROOM or 1.0
    return low - room, high + room


def _card(claim: dict[str, Any], scale: tuple[float, float], colours: dict[str, str], summary: dict[str, Any]) -> dict[str, Any]:
    verdict = str(claim.get("verdict") or "no verdict")
    kind = verdict if verdict in MARKS else "none"
    text, says = str(claim.get("text") or ""), str(claim.get("says") or "")
    return {
        "verdict": verdict,
        "kind": kind,
        "mark": MARKS[kind],
        "sentence": says or text,
        "text": text if says else "",
        "reason": str(claim.get("reason") or ""),
        "how": _how(claim, len(summary.get("seeds") or [0])),
        "budget": _budget(claim.get("budget")),
        "extra": str(claim.get("extra") or ""),
        "colour": colours.get(str(claim.get("arm")), INK),
        "means": _means(claim, colours),
        "plot": _plot(claim, scale),
    }


def _how(claim: dict[str, Any], seeds: int) -> str:
    method = str(claim.get("method") or "")
    parts = ["" if method == claim.get("reason") else method]
    if claim.get("n") or usable(claim.get("difference")):
        n = claim.get("n") or seeds
        parts.append(f"n = {n} seed{'s' * (n != 1)}" + (f", {claim['items']:,} items each" if claim.get("items") else ""))
    return ", ".join(part for part in parts if part)


def _budget(budget: Any) -> str:
    """budget equal: 2.00M tokens in both arms (0.0% apart)."""
    if not isinstance(budget, dict):
        return ""
    name = str(budget.get("name") or "")
    one, two = (figure(budget.get(side), UNITS.get(name, "parameters")) for side in ("arm", "other"))
    unit = "" if name == "seconds" else f" {NAMES.get(name, name)}"
    apart = budget.get("apart")
    share = f" ({apart:.1%} apart)" if usable(apart) else ""
    word = "" if not usable(apart) else "equal" if apart <= ALLOWED else "not equal"
    amount = f"{one}{unit} in both arms" if one == two else f"{one} and {two}{unit}"
    return f"budget {word}: {amount}{share}" if word else f"budget: {amount}"


def _means(claim: dict[str, Any], colours: dict[str, str]) -> list[dict[str, str]]:
    means = claim.get("means") or []
    if len(means) != 2 or not any(usable(m) for m in means):
        return []
    unit = str(claim.get("unit") or "")
    decimals = max(decimals_for(means), _decimals(claim))
    return [
        {"arm": str(claim.get(side)), "colour": colours.get(str(claim.get(side)), INK), "text": figure(mean, unit, decimals)}
        for side, mean in zip(("arm", "other"), means, strict=True)
    ]


def _decimals(claim: dict[str, Any]) -> int:
    low, high, difference = claim.get("low"), claim.get("high"), claim.get("difference")
    if usable(low) and usable(high) and high > low:
        return decimals_of_interval(low, high)
    return min(8, max(0, decimals_for([difference]) - 2)) if usable(difference) and difference else 0


def _plot(claim: dict[str, Any], scale: tuple[float, float]) -> dict[str, Any] | None:
    """Positions in percent of the plot's width; None where there is no difference to draw."""
    difference, low, high = claim.get("difference"), claim.get("low"), claim.get("high")
    if not usable(difference):
        return None
    unit, decimals, better = str(claim.get("unit") or ""), _decimals(claim), claim.get("better")
    means = claim.get("means") or [None, None]

    def at(value: float) -> float:
        return round(100 * (min(max(value, scale[0]), scale[1]) - scale[0]) / (scale[1] - scale[0]), 2)

    span = (low, high) if usable(low) and usable(high) else None
    interval = between(signed(span[0], unit, decimals), signed(span[1], unit, decimals)) if span else ""
    held = zone(claim)
    edges = [edge for edge in held or () if math.isfinite(edge) and edge]
    left, right = _sides(str(claim.get("arm")), str(claim.get("other")), better)
    return {
        "difference": signed(difference, unit, decimals),
        "unit": beside(unit),
        "share": change(means[0], means[1]) if len(means) == 2 else "",
        "interval": interval,
        "at": at(difference),
        "low": at(span[0]) if span else None,
        "width": round(at(span[1]) - at(span[0]), 2) if span else 0,
        # a lone dot in the shaded part would look like a verdict
        "zone": (at(held[0]), round(at(held[1]) - at(held[0]), 2)) if held and span else None,
        "lines": [("zero", at(0.0)), *(("margin", at(edge)) for edge in edges)],
        "labels": _labels([(at(edge), signed(edge, unit)) for edge in edges], at(0.0)),
        "left": left,
        "right": right,
    }


def _sides(arm: str, other: str, better: Any) -> tuple[str, str]:
    """What a difference to the left and to the right of zero means."""
    if better == "lower":
        return f"{arm} better", f"{other} better"
    if better == "higher":
        return f"{other} better", f"{arm} better"
    return f"{arm} lower", f"{arm} higher"


def _labels(edges: Sequence[tuple[float, str]], zero: float) -> list[dict[str, Any]]:
    """Texts under the lines, turned away from each other where they are close; zero gives way between two close margins."""
    near = [place for place, _ in edges if abs(place - zero) < CLOSE]
    found = [(place, text, "middle" if place not in near else "end" if place < zero else "start") for place, text in edges]
    if len(near) < 2:
        found.append((zero, "0", "middle" if not near else "start" if near[0] < zero else "end"))
    labels = []
    for place, text, align in found:
        if align == "middle" and not CLOSE / 2 < place < 100 - CLOSE / 2:  # half of it would leave the plot
            align = "start" if place < 50 else "end"
        labels.append({"at": place, "text": text, "align": align})
    return labels
