"""The frontier of accuracy and cost: closed forms where what is drawn is known, and what a clock or a price tells."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from scipy.stats import binom  # type: ignore[import-untyped]

from paredown.artifacts.scores import Score, Scores
from paredown.core.context import Context, running
from paredown.core.errors import DataError, UserError
from paredown.core.workspace import Record
from paredown.measure.frontier import Frontier

QUESTIONS = 40


def way(folder: Path, right: Sequence[float], tokens: float | Sequence[float], money: float = 0.0, unit: str = "unpriced") -> Scores:
    many = len(right)
    read = [float(tokens)] * many if isinstance(tokens, (int, float)) else list(tokens)
    values = {"accuracy": list(right), "prompt_tokens": read, "completion_tokens": [1.0] * many, "money": [money] * many}
    rows = [Score(subject="s", metric=m, value=float(np.mean(v)), unit=unit if m == "money" else "") for m, v in values.items()]
    items = [{"metric": m, "item": n, "value": float(v), "weight": 1.0} for m, of in values.items() for n, v in enumerate(of)]
    return Scores.write(folder / "scores", rows, pl.DataFrame(items))


def first(many: int) -> list[float]:
    return [float(n < many) for n in range(QUESTIONS)]


def measure(folder: Path, scores: Sequence[Scores], made_from: Any = (), **knobs: Any) -> tuple[Scores, dict[str, Any], Context]:
    step = Context(folder / "out", folder / "scratch", seed=0, made_from={"scores": list(made_from)})
    with running(step):
        made = Frontier(**knobs)(tuple(scores))
    return made, step.facts["ways"], step


def on(made: Scores, metric: str) -> list[float]:
    items = made.items()
    assert items is not None
    return items.filter(metric=metric).sort("item")["value"].to_list()


def test_what_is_beaten_at_every_question_is_never_on_it(tmp_path: Path) -> None:
    """The card's three points: 1 token and 0.5, 2 and 0.4, 3 and 0.7."""
    made, ways, step = measure(
        tmp_path,
        [way(tmp_path / "a", first(20), 1), way(tmp_path / "b", first(16), 2), way(tmp_path / "c", first(28), 3)],
        names=("cheap", "poor", "dear"),
    )
    chance = binom.sf(0, QUESTIONS, 4 / QUESTIONS)  # a sample tells cheap and poor apart if it holds one of four questions
    shares = on(made, "on_tokens")
    assert shares[0] == 1
    assert shares[1] == 0, "as good at best, and dearer"
    assert abs(shares[2] - 1) < 0.01
    assert chance > 0.98
    assert [ways[name]["on_tokens_of_all_questions"] for name in ("cheap", "poor", "dear")] == [True, False, True]
    assert made.value("on_tokens") == pytest.approx(sum(shares) / 3)
    assert step.says == "in tokens: cheap, dear"
    assert (ways["dear"]["accuracy"], ways["dear"]["tokens"]) == (0.7, 4.0)
    assert "tokens_interval" not in ways["dear"], "all questions took the same"


def test_a_gain_at_one_question_is_there_as_often_as_the_question_is_drawn(tmp_path: Path) -> None:
    made, ways, _ = measure(tmp_path, [way(tmp_path / "a", first(20), 1), way(tmp_path / "b", first(21), 2)], samples=4000)
    expected = 1 - (1 - 1 / QUESTIONS) ** QUESTIONS
    assert abs(on(made, "on_tokens")[1] - expected) < 4 * math.sqrt(0.25 / 4000)
    low, high = ways["0"]["accuracy_interval"]
    assert low == pytest.approx(binom.ppf(0.025, QUESTIONS, 0.5) / QUESTIONS, abs=0.03)
    assert high == pytest.approx(binom.ppf(0.975, QUESTIONS, 0.5) / QUESTIONS, abs=0.03)


def test_costs_that_differ_by_question_may_change_places(tmp_path: Path) -> None:
    """Equal answers: the cheaper one beats the other, and which one is cheaper depends on the questions."""
    varied = [3.0 if n % 2 else 1.0 for n in range(QUESTIONS)]
    made, _, _ = measure(tmp_path, [way(tmp_path / "a", first(20), 2), way(tmp_path / "b", first(20), varied)], samples=4000)
    tie = binom.pmf(QUESTIONS // 2, QUESTIONS, 0.5)
    for share in on(made, "on_tokens"):
        assert abs(share - (0.5 + tie / 2)) < 4 * math.sqrt(0.25 / 4000)


def test_seconds_are_those_of_the_calls_and_money_needs_prices(tmp_path: Path) -> None:
    ways_ = [way(tmp_path / name, first(20 + n), n, 0.1 * (2 - n), "EUR a question") for n, name in enumerate("ab")]
    records = [
        Record(name, "measure.choices", {}, True, facts={"answers": {"x": {"seconds": 8.0 * (n + 1)}}}, folder=tmp_path / name)
        for n, name in enumerate("ab")
    ]
    made, ways, _ = measure(tmp_path / "1", ways_, records)
    assert [ways[n]["seconds"] for n in "01"] == pytest.approx([8 / QUESTIONS, 16 / QUESTIONS])
    assert [ways[n]["money"] for n in "01"] == pytest.approx([0.2, 0.1])
    assert on(made, "on_money") == pytest.approx([0.0, 1.0]), "cheaper and at least as good"
    assert on(made, "on_seconds")[0] == 1
    outside, _, step = measure(tmp_path / "2", [ways_[0], way(tmp_path / "c", first(9), 1)])
    assert math.isnan(outside.value("on_seconds"))
    assert math.isnan(outside.value("on_money"))
    assert on(outside, "on_money") == []
    assert step.says == "in tokens: 0"
    with pytest.raises(UserError, match="several currencies: EUR a question, USD a question"):
        measure(tmp_path / "3", [ways_[0], way(tmp_path / "d", first(9), 1, 0.1, "USD a question")])


def test_many_questions_are_drawn_some_samples_at_a_time(tmp_path: Path) -> None:
    right = [float(n % 3 == 0) for n in range(300_000)]
    made, ways, _ = measure(tmp_path, [way(tmp_path / "a", right, 1)], samples=20)
    assert on(made, "on_tokens") == [1.0]
    low, high = ways["0"]["accuracy_interval"]
    assert low < 1 / 3 < high < 0.34


def test_what_cannot_be_compared_is_said(tmp_path: Path) -> None:
    one, short = way(tmp_path / "a", first(20), 1), way(tmp_path / "b", first(20)[:-1], 1)
    with pytest.raises(DataError, match="scores 1 are of 39 questions, the first of 40"):
        measure(tmp_path / "1", [one, short])
    with pytest.raises(DataError, match="no scores"):
        measure(tmp_path / "2", [])
    with pytest.raises(DataError, match="scores 1 have no accuracy of each question"):
        measure(tmp_path / "3", [one, Scores.write(tmp_path / "c", [Score(subject="s", metric="m", value=1.0)])])
    with pytest.raises(DataError, match="no finite number"):
        measure(tmp_path / "4", [way(tmp_path / "d", [math.nan, 1.0], 1)])
    with pytest.raises(UserError, match="1 different names for 2 scores"):
        measure(tmp_path / "5", [one, one], names=("x", "x"))
