"""The answer table of a summary: values, and how sure each is."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from paredown.report.numbers import COUNTED, SECONDS, beside, usable

ZEROS = ("non-zero", "nonzero")  # columns that count zeros: a fact, and no saving where no kernel uses them
CLOCK = ("ms", *SECONDS)
COST_UNITS = ("FLOPs", "bytes", "joules", *COUNTED, *CLOCK)


@dataclass
class Table:
    """Columns and rows as the summary has them. `sure` says what `bounds` are: intervals, spreads of the seeds, or nothing ("")."""

    columns: list[dict[str, Any]]
    rows: list[dict[str, Any]]
    sure: str
    seeds: int

    @classmethod
    def of(cls, summary: dict[str, Any]) -> Table:
        found = summary.get("table") or {}
        columns, rows = list(found.get("columns") or []), list(found.get("rows") or [])
        sure = next((name for name in ("interval", "spread") if any(_pair(r, name, i) for r in rows for i in range(len(columns)))), "")
        return cls(columns, rows, sure, len(summary.get("seeds") or [0]))

    def value(self, row: dict[str, Any], index: int) -> float | None:
        found = _item(row, "values", index)
        return found if usable(found) else None

    def bounds(self, row: dict[str, Any], index: int) -> tuple[float, float] | None:
        """95% interval of the mean over seeds; in summaries without intervals the lowest and the highest seed."""
        return _pair(row, self.sure, index) if self.sure else None

    def ratio(self, row: dict[str, Any], index: int) -> float | None:
        """The value over the control's."""
        found = _item(row, "ratios", index)
        return found if usable(found) else None

    def row(self, arm: object) -> dict[str, Any] | None:
        return next((row for row in self.rows if arm and row["arm"] == arm), None)

    def is_cost(self, index: int) -> bool:
        """What an arm takes, or how fast it is; everything else that has a better side is quality."""
        unit = str(self.columns[index].get("unit") or "")
        return self.columns[index].get("kind") == "cost" or unit in COST_UNITS or unit.endswith(("/s", " a question"))

    def counted(self, index: int) -> bool:
        """A cost that is counted; a wall clock's is measured."""
        return self.columns[index].get("kind") == "cost" and self.columns[index].get("unit") not in CLOCK

    def differs(self, index: int, least: float = 0.0) -> bool:
        """Whether two arms are further apart than `least`, as a share of the largest value."""
        found = [v for v in (self.value(row, index) for row in self.rows) if v is not None]
        return len(found) > 1 and max(found) - min(found) > least * max(abs(v) for v in found)


def unit_beside(column: dict[str, Any]) -> str:
    """The unit where neither the title nor the figures say it."""
    unit, title = str(column.get("unit") or ""), str(column["title"]).lower()
    said = any(re.search(rf"(?<!\w){re.escape(name)}(?!\w)", title) for name in (unit.lower(), unit.lower().replace("/", " per ")))
    return "" if said or unit in ("weights", "parameters") else beside(unit)


def apart(one: tuple[float, float] | None, two: tuple[float, float] | None) -> bool:
    """Both were measured with several seeds, and their bounds do not touch."""
    return one is not None and two is not None and (one[1] < two[0] or two[1] < one[0])


def _item(row: dict[str, Any], name: str, index: int) -> Any:
    values = row.get(name) or []
    return values[index] if index < len(values) else None


def _pair(row: dict[str, Any], name: str, index: int) -> tuple[float, float] | None:
    found = _item(row, name, index)
    return (found[0], found[1]) if found and all(usable(v) for v in found) else None
