"""FormatSpread on scripted answers whose accuracy in every format is known; prompts, budgets, labels and mistakes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import polars as pl
import pytest
from pydantic import ValidationError
from scripted import ASKED, scripted

from paredown.artifacts.examples import Examples
from paredown.artifacts.scores import Scores
from paredown.core.context import Context, running
from paredown.core.errors import DataError, UserError
from paredown.engines.generator import Question, Sampling
from paredown.measure.formatspread import Formatspread

WORDS = ("yes", "no")


def examples(folder: Path, count: int = 60) -> Examples:
    rows = [{"question": f"item {i} says {WORDS[i % 2]}?", "answer": WORDS[i % 2]} for i in range(count)]
    return Examples.write(folder, pl.DataFrame(rows, schema={"question": pl.String, "answer": pl.String}))


def measure(
    folder: Path, answerer: Any, data: Examples, shown: Examples | None = None, seed: int = 0, **knobs: Any
) -> tuple[Scores, Context]:
    step = Context(folder / "out", folder / "scratch", seed=seed)
    step.scratch.mkdir(parents=True, exist_ok=True)
    with running(step):
        return Formatspread(**{"options": WORDS, "formats": 30, "items": 50, "calls": 500, **knobs})(answerer, data, shown), step


def values(scores: Scores) -> dict[str, float]:
    return {row.metric: row.value for row in scores.rows()}


def last(prompt: Any) -> str:
    """The question that is asked, without the demonstrations."""
    return str(prompt).split("\n\n")[-1]


def picky(question: Question, sampling: Sampling) -> list[float]:
    """Right on all items where the format has a colon, on the even ones where it shouts, else on a third."""
    text = last(question.prompt)
    number = int(text.split("item ", 1)[1].split(" ")[0]) if "item " in text else 0
    right = ":" in text or (number % 4 < 2 if "ANSWER" in text else number % 3 == 0)
    gold = 0 if "says yes" in text else 1
    return [0.0 if (option == gold) == right else -5.0 for option in range(2)]


def test_with_budget_enough_it_is_the_full_grid(tmp_path: Path) -> None:
    data = examples(tmp_path / "data")
    full, _ = measure(tmp_path / "full", scripted(picky), data, search="full")
    found = full.items()
    assert found is not None
    means = found.sort("item")["value"].to_numpy()
    assert len(means) == 31
    got = values(full)
    assert got["spread"] == pytest.approx(means.max() - means.min())
    assert got["best_accuracy"] == means.max() == 1.0
    assert got["mean_accuracy"] == pytest.approx(means.mean())
    assert got["given_accuracy"] == 1.0, "the given format has a colon"
    rich, _ = measure(tmp_path / "rich", scripted(picky), data, calls=10**6)
    assert {k: v for k, v in values(rich).items() if k != "calls"} == {k: v for k, v in got.items() if k != "calls"}
    assert values(rich)["calls"] == 31 * 50


@pytest.mark.parametrize("search", ["thompson", "ucb", "uniform", "few_in_full"])
def test_the_budget_holds_and_the_ends_are_measured_whole(tmp_path: Path, search: str) -> None:
    data = examples(tmp_path / "data")
    scores, step = measure(tmp_path, scripted(picky), data, search=search, calls=400)
    got = values(scores)
    assert got["calls"] <= 400
    assert got["best_accuracy"] * 50 == pytest.approx(round(got["best_accuracy"] * 50))
    assert got["spread"] == pytest.approx(got["best_accuracy"] - got["worst_accuracy"])
    assert len(ASKED) <= 400 + 3 * 50
    again, _ = measure(tmp_path / "again", scripted(picky), data, search=search, calls=400)
    assert values(again) == got
    assert set(step.facts["best_format"]) >= {"casing", "separator", "space"}


def test_demonstrations_are_in_the_format_of_the_question_and_never_the_item_itself(tmp_path: Path) -> None:
    data = examples(tmp_path / "data")
    measure(tmp_path, scripted(picky), data, shots=2, formats=5, calls=200)
    for question, _ in ASKED:
        *shown, asked = str(question.prompt).split("\n\n")
        assert len(shown) == 2
        start = asked.index("item")
        tail = asked[asked.index("?") + 1 :]
        for demonstration in shown:
            assert demonstration[:start] == asked[:start]
            rest = demonstration[demonstration.index("?") + 1 :]
            assert rest.startswith(tail)
            assert rest.removeprefix(tail) in WORDS
            assert demonstration.split("?")[0] != asked.split("?")[0]


def test_options_get_labels_and_labels_are_the_answers(tmp_path: Path) -> None:
    def reads(question: Question, sampling: Sampling) -> list[float]:
        text = last(question.prompt)
        gold = "yes" if "says yes" in text else "no"
        return [0.0 if text.split(option, 1)[1].lstrip(": -\n\t").startswith(gold) else -3.0 for option in question.options]

    scores, _ = measure(tmp_path, scripted(reads), examples(tmp_path / "data"), enumerate_options=True, shots=0, formats=3, search="full")
    assert all(len(question.options) == 2 and question.options[0] not in WORDS for question, _ in ASKED)
    assert {question.options for question, _ in ASKED if "option A: yes" in str(question.prompt)} == {("A", "B")}
    assert values(scores)["given_accuracy"] == 1.0


def test_generated_answers_count_by_what_they_begin_with(tmp_path: Path) -> None:
    def talks(question: Question, sampling: Sampling) -> str:
        return " Yes, of course" if "says yes" in last(question.prompt) else "nothing"

    scores, _ = measure(tmp_path, scripted(talks), examples(tmp_path / "data"), scoring="prefix", options=(), formats=3, search="full")
    assert values(scores)["best_accuracy"] == values(scores)["worst_accuracy"] == pytest.approx(0.5, abs=0.05)
    assert values(scores)["spread"] == 0


def test_copies_of_one_format_spread_by_their_demonstrations_alone(tmp_path: Path) -> None:
    data = examples(tmp_path / "data")
    scores, _ = measure(tmp_path / "a", scripted(picky), data, same_format=True, search="full", formats=6)
    assert values(scores)["spread"] == 0

    def copies(question: Question, sampling: Sampling) -> list[float]:
        """Says what the last demonstration says."""
        said = str(question.prompt).split("\n\n")[-2].rsplit(" ", 1)[1]
        return [0.0 if option == said else -1.0 for option in question.options]

    scores, _ = measure(tmp_path / "b", scripted(copies), data, same_format=True, search="full", formats=20)
    found = scores.items()
    assert found is not None
    deviation = float(found["value"].std())  # type: ignore[arg-type]
    assert 0.3 * (0.25 / 50) ** 0.5 < deviation < 2 * (0.25 / 50) ** 0.5, "about what drawing demonstrations for 50 items spreads"


def test_columns_of_options_and_mistakes(tmp_path: Path) -> None:
    rows = [{"question": f"item {i}", "answer": "b", "choices": ["a", "b"]} for i in range(5)]
    own = Examples.write(tmp_path / "own", pl.DataFrame(rows))
    scores, _ = measure(tmp_path / "x", scripted(lambda q, s: [-1.0, 0.0]), own, options="choices", formats=2, search="full", shots=1)
    assert values(scores)["best_accuracy"] == 1.0
    with pytest.raises(DataError, match="none of its options"):
        measure(tmp_path / "y", scripted(picky), own)
    with pytest.raises(UserError, match="no column question2"):
        measure(tmp_path / "z", scripted(picky), own, fields=("question2",))
    with pytest.raises(UserError, match="9 shots"):
        measure(tmp_path / "w", scripted(picky), own, options="choices", shots=9)
    with pytest.raises(DataError, match="no example"):
        measure(tmp_path / "v", scripted(picky), examples(tmp_path / "none", 0))
    with pytest.raises(ValidationError, match="needs options"):
        Formatspread()
