"""Figures as people read them: few digits, always with their unit."""

from __future__ import annotations

import datetime
import math
from collections.abc import Sequence
from typing import TypeGuard

NONE = "–"
SECONDS = ("seconds", "s")
COUNTED = ("parameters", "weights", "tokens")
SIZES = ((1e12, "TB"), (1e9, "GB"), (1e6, "MB"), (1e3, "kB"), (1.0, "B"))


def usable(value: object) -> TypeGuard[float]:
    """A finite number."""
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def figure(value: float | None, unit: str = "", decimals: int | None = None) -> str:
    """A value with few digits; the unit is written where it is part of the number (bytes, seconds)."""
    if value is None:
        return NONE
    if not usable(value):
        return str(value)
    if unit == "bytes":
        return size(value)
    if unit in COUNTED:
        return count(value)
    if unit == "FLOPs":
        return scientific(value)
    if unit in SECONDS:
        return duration(value)
    sign = "−" if value < 0 else ""
    if decimals is not None:
        return f"{sign}{abs(value):,.{decimals}f}"
    return f"{sign}{abs(value):,.0f}" if abs(value) >= 1000 else f"{sign}{abs(value):.4g}"


def beside(unit: str) -> str:
    """The unit that must stand beside a figure, which writes some itself."""
    return "" if unit in ("bytes", *SECONDS) else unit


def decimals_for(values: Sequence[float | None]) -> int:
    """Decimals with which the largest of `values` shows four digits, for a column of one precision."""
    largest = max((abs(v) for v in values if v is not None and usable(v)), default=0.0)
    return max(0, 3 - math.floor(math.log10(largest))) if largest > 0 else 0


def size(value: float | None) -> str:
    """Bytes: 2.6 MB."""
    if value is None:
        return NONE
    scale, name = _bytes(value)
    return f"{value / scale:,.{1 if scale > 1 else 0}f} {name}"


def _bytes(value: float) -> tuple[float, str]:
    return next(((scale, name) for scale, name in SIZES if abs(value) >= scale), SIZES[-1])


def count(value: float | None) -> str:
    """Many things: 0.66M, 5.4M, 712."""
    if value is None:
        return NONE
    for limit, unit in ((1e9, "B"), (1e6, "M")):
        if abs(value) >= limit / 10:
            return f"{value / limit:,.2f}{unit}"
    return f"{value / 1e3:,.1f}k" if abs(value) >= 1e4 else f"{value:,.0f}"


def scientific(value: float | None, decimals: int = 1) -> str:
    """FLOPs: 8.1e12."""
    if value is None:
        return NONE
    if not value:
        return "0"
    digits, _, exponent = f"{value:.{decimals}e}".partition("e")
    return f"{digits}e{int(exponent)}"


def duration(value: float | None) -> str:
    """Seconds: 0.4 s, 2 m 05 s, 3 h 10 m."""
    if value is None:
        return NONE
    if value < 60:
        return f"{value:.1f} s"
    minutes, seconds = divmod(round(value), 60)
    if minutes < 60:
        return f"{minutes} m {seconds:02d} s"
    return f"{minutes // 60} h {minutes % 60:02d} m"


def change(value: float | None, base: float | None) -> str:
    """Relative to `base`: −31%, +0.8%, 2.4×, "the same"; empty where it cannot be said."""
    if value is None or base is None or not usable(value) or not usable(base) or base == 0:
        return ""
    share = (value - base) / abs(base)
    if abs(share) < 0.0005:
        return "the same"
    if base > 0 and share >= 1:
        return f"{1 + share:,.{1 if share < 99 else 0}f}×"
    return f"{'+' if share > 0 else '−'}{abs(share):.{1 if abs(share) < 0.1 or 0.99 < abs(share) < 1 else 0}%}"


def precise(value: float, unit: str = "", decimals: int | None = None) -> str:
    """A value with the digits that tell close ones apart: 8.142e12, 660,608, 2.641 MB."""
    if unit == "FLOPs":
        return scientific(value, 3)
    if unit in COUNTED:
        return f"{value:,.0f}"
    if unit == "bytes":
        scale, name = _bytes(value)
        return f"{value / scale:,.{3 if scale > 1 else 0}f} {name}"
    return figure(value, unit, decimals)


def between(low: str, high: str) -> str:
    """Two ends as one text: 2.00 to 2.05; empty where they are written alike."""
    return "" if low == high else f"{low} to {high}"


def signed(value: float, unit: str = "", decimals: int | None = None) -> str:
    """A difference: +1.2 MB, −0.023, 0."""
    text = figure(abs(value), unit, decimals)
    return text if not value or not any(c in "123456789" for c in text) else f"{'+' if value > 0 else '−'}{text}"


def decimals_of_interval(low: float, high: float) -> int:
    """Decimals with which the width of an interval shows two digits."""
    return min(8, max(0, 1 - math.floor(math.log10(high - low)))) if high > low else 3


def moment(text: str) -> str:
    """An ISO time to the minute, with its zone."""
    try:
        return datetime.datetime.fromisoformat(text).strftime("%Y-%m-%d %H:%M %Z").strip()
    except ValueError:
        return text
