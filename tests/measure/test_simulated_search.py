"""The simulated search: exact where all is seen, the same grids for every search, and Thompson sampling ahead at equal calls."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.stats import binom

from paredown.core.context import Context, running
from paredown.measure.simulated_search import SimulatedSearch

RULES = ("thompson", "ucb", "uniform", "few_in_full")


def found(folder: Path, seed: int = 0, **knobs: Any) -> dict[str, float]:
    small = {"formats": 40, "items": 200, "calls": 1200, "repeats": 20}
    number = len(list(folder.iterdir()))
    with running(Context(folder / f"out{number}", folder / "scratch", seed=seed)):
        return {row.metric: row.value for row in SimulatedSearch(**{**small, **knobs})().rows()}


@pytest.mark.parametrize("rule", RULES)
def test_whoever_sees_all_makes_no_error(rule: str, tmp_path: Path) -> None:
    got = found(tmp_path, search=rule, calls=40 * 200)
    assert got["error"] == got["unchecked_error"] == 0
    assert got["spread"] == got["true_spread"] > 0
    assert got["calls"] == 40 * 200


def test_all_search_the_same_grids_with_as_many_calls(tmp_path: Path) -> None:
    rules = {rule: found(tmp_path, search=rule) for rule in RULES}
    assert len({row["true_spread"] for row in rules.values()}) == 1
    assert {row["calls"] for row in rules.values()} == {1200}
    assert rules["thompson"]["error"] < min(rules["uniform"]["error"], rules["few_in_full"]["error"])
    for row in rules.values():
        assert row["error"] == pytest.approx(row["true_spread"] - row["spread"]), "all ends are of the grid"
    posterior = found(tmp_path, ends="posterior")
    assert posterior["error"] < 1.5 * rules["thompson"]["error"]
    assert posterior["unchecked_error"] == rules["thompson"]["unchecked_error"], "the search is the same, the ends are not"
    assert found(tmp_path, search="ucb") == rules["ucb"]
    assert found(tmp_path, seed=1)["true_spread"] != rules["ucb"]["true_spread"]


def test_accuracies_follow_beta(tmp_path: Path) -> None:
    """The mean range of 2 formats with one item each is the chance that they differ: 2 m (1 - m), m the mean of Beta(a, b)."""
    got = found(tmp_path, formats=2, items=1, calls=2, repeats=4000, a=3, b=1)
    assert got["true_spread"] == pytest.approx(2 * 0.75 * 0.25, abs=4 * np.sqrt(0.375 * 0.625 / 4000))
    assert binom.pmf(1, 2, 0.75) == pytest.approx(0.375)
