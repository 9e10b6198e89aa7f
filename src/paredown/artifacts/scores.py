"""Measured rows: what was measured, its value and unit, on how many items, and what measuring cost."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import BaseModel, ConfigDict

from paredown.core.artifact import Artifact
from paredown.core.errors import DataError, nearest

if TYPE_CHECKING:
    import polars


RATE = "_tokens_per_second"


class Score(BaseModel):
    """One measured row."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    subject: str  # the identity of what was measured
    metric: str
    value: float
    unit: str = ""
    n: int = 1  # items that the value is a mean over
    seed: int = 0
    better: str = "lower"  # "lower", "higher" or "none" for plain facts
    seconds: float = 0.0  # cost of measuring
    flops: float = 0.0
    tokens: int = 0


class Scores(Artifact):
    """`scores.parquet` with the fields of `Score`; where a metric has items, `items.parquet` (metric, item, value, weight).

    A metric with items is their weighted mean, sum(value * weight) / sum(weight), so that an interval can speak of new items too.
    """

    kind = "Scores"

    def rows(self) -> list[Score]:
        import polars

        return [Score(**row) for row in polars.read_parquet(self.file("scores.parquet")).to_dicts()]

    def items(self) -> polars.DataFrame | None:
        """Values per item (metric, item, value, weight), or None."""
        import polars

        return polars.read_parquet(self.file("items.parquet")) if (self.path / "items.parquet").exists() else None

    def value(self, metric: str) -> float:
        found = {row.metric: row.value for row in self.rows()}
        if metric not in found:
            close = nearest(metric, found)
            raise DataError(f"Scores: no metric {metric}; there are {', '.join(found)}", todo=f"did you mean {close[0]}?" if close else "")
        return found[metric]

    def summary(self) -> str:
        rows = self.rows()[:2]
        shown = ", ".join(f"{row.metric.removesuffix(RATE).replace('_', ' ')} {_digits(row.value)}" for row in rows)
        return f"{shown} tokens/s" if rows and all(row.metric.endswith(RATE) for row in rows) else shown

    @classmethod
    def write(cls, path: Path, rows: Sequence[Score], items: polars.DataFrame | None = None) -> Scores:
        import polars

        path.mkdir(parents=True, exist_ok=True)
        kinds: dict[object, type[polars.DataType]] = {str: polars.String, float: polars.Float64, int: polars.Int64}
        schema = {name: kinds[info.annotation] for name, info in Score.model_fields.items()}
        polars.DataFrame([row.model_dump() for row in rows], schema=schema).write_parquet(path / "scores.parquet")
        if items is not None:
            items.write_parquet(path / "items.parquet")
        return cls(path)


def _digits(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"
