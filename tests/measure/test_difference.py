"""Differences of one metric: sign, size and ratio, and what is missing."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from paredown.artifacts.scores import Score, Scores
from paredown.core.context import Context, running
from paredown.core.errors import DataError
from paredown.measure.difference import Difference


def scores(folder: Path, value: float) -> Scores:
    rows = [Score(subject="model", metric="spread", value=value, unit="share", seed=3), Score(subject="model", metric="other", value=9.0)]
    return Scores.write(folder, rows)


def rows(folder: Path, ours: float, theirs: float, metric: str = "spread") -> dict[str, Score]:
    measured, known = scores(folder / "a", ours), scores(folder / "b", theirs)
    with running(Context(folder / "out", folder, seed=None)):
        return {row.metric: row for row in Difference(metric=metric)(measured, known).rows()}


def test_difference_error_and_ratio(tmp_path: Path) -> None:
    found = rows(tmp_path, 0.3, 0.5)
    assert {name: row.value for name, row in found.items()} == pytest.approx({"difference": -0.2, "error": 0.2, "ratio": 0.6})
    assert [row.unit for row in found.values()] == ["share", "share", "times"]
    assert {row.better for row in found.values()} == {"lower"}
    assert {(row.subject, row.seed) for row in found.values()} == {("model", 3)}


def test_nothing_is_no_ratio(tmp_path: Path) -> None:
    assert math.isnan(rows(tmp_path, 0.3, 0.0)["ratio"].value)


def test_a_metric_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no metric spred"):
        rows(tmp_path, 1, 2, "spred")
