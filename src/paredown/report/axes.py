"""Axes of the page's own drawings: where a value lies between 0 and 1, and round ticks with short texts."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from paredown.report.numbers import SECONDS, SIZES, scientific

TICKS = 5  # about as many
REACH = 0.75  # how far bounds may stretch an axis on either side, as a share of the values' own range
MARGIN = 0.08  # of the range, left free on either side
WIDE = 20.0  # a positive range whose ends are further apart than this factor is drawn on a log scale
SCALES = {
    "bytes": tuple((scale, f" {name}") for scale, name in SIZES),
    **dict.fromkeys(SECONDS, ((3600.0, " h"), (60.0, " min"), (1.0, " s"))),
}
COUNTS = ((1e9, "B"), (1e6, "M"), (1e3, "k"), (1.0, ""))


@dataclass(frozen=True)
class Axis:
    low: float
    high: float
    log: bool
    ticks: tuple[tuple[float, str], ...]  # value and text

    def at(self, value: float) -> float:
        """0 at the low end, 1 at the high end and beyond."""
        value = min(max(value, self.low), self.high)
        if self.log:
            return math.log(value / self.low) / math.log(self.high / self.low)
        return (value - self.low) / (self.high - self.low)


def axis(values: Sequence[float], unit: str = "", bounds: Sequence[float] = ()) -> Axis:
    """An axis that holds all of `values` (at least one), and of `bounds` what does not press the values together."""
    low, high = min(values), max(values)
    if low > 0 and high / low > WIDE:
        reach = (high / low) ** REACH
        low, high = max(low / reach, min([low, *bounds])), min(high * reach, max([high, *bounds]))
        room = (high / low) ** MARGIN
        low, high = low / room, high * room
        return Axis(low, high, True, tuple((tick, short(tick, unit)) for tick in _log_ticks(low, high)))
    reach = (high - low) * REACH or math.inf
    low, high = max(low - reach, min([low, *bounds])), min(high + reach, max([high, *bounds]))
    room = (high - low) * MARGIN or abs(high) * MARGIN or 1.0
    low, high = (0.0 if 0 <= low < room else low - room), high + room
    return Axis(low, high, False, tuple(_linear_ticks(low, high, unit)))


def _linear_ticks(low: float, high: float, unit: str) -> list[tuple[float, str]]:
    """Multiples of 1, 2 or 5 times a power of ten of the unit that is shown."""
    scale, suffix = _scale(max(abs(low), abs(high)), unit)
    step = round_step((high - low) / scale / TICKS)
    decimals = max(0, -math.floor(math.log10(step)))
    first, last = math.ceil(low / scale / step - 1e-9), math.floor(high / scale / step + 1e-9)
    found = [n * step * scale for n in range(first, last + 1)]
    if unit == "FLOPs":
        digits = max((_digits(tick, step * scale) for tick in found if tick), default=0)
        return [(tick, scientific(tick, digits)) for tick in found]
    return [(tick, f"{tick / scale:,.{decimals}f}{suffix}".replace("-", "−")) for tick in found]


def _log_ticks(low: float, high: float) -> list[float]:
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    for digits in ((1, 2, 5), (1, 3), (1,)):
        found = [digit * 10.0**power for power in powers for digit in digits if low <= digit * 10.0**power <= high]
        if len(found) <= TICKS + 2:
            break
    return found[:: -(-len(found) // (TICKS + 2))]


def round_step(value: float) -> float:
    """Of 1, 2 and 5 times a power of ten the one that is the fewest times larger or smaller than `value`."""
    power = 10.0 ** math.floor(math.log10(value))
    return min((digit * power for digit in (1, 2, 5, 10)), key=lambda step: abs(math.log(step / value)))


def short(value: float, unit: str = "") -> str:
    """A tick of its own: 500k, 2 MB, 5e12."""
    if unit == "FLOPs":
        return scientific(value, 0)
    scale, suffix = _scale(abs(value), unit)
    return f"{value / scale:,.10g}{suffix}"


def _scale(value: float, unit: str) -> tuple[float, str]:
    scales = SCALES.get(unit, COUNTS)
    if unit == "FLOPs" or (scales is COUNTS and value < 1e4):
        return 1.0, ""
    return next(((scale, suffix) for scale, suffix in scales if value >= scale), scales[-1])


def _digits(value: float, step: float) -> int:
    """Decimals of the mantissa with which `value` is written exactly in multiples of `step`."""
    return max(0, math.floor(math.log10(abs(value)) + 1e-12) - math.floor(math.log10(step) + 1e-12))
