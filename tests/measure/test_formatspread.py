"""FormatSpread on scripted answers whose accuracy in every format is known; prompts, budgets, labels and mistakes."""

from __future__ import annotations

import zlib
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import tiny_models
from pydantic import ValidationError
from scripted import ASKED, scripted

from paredown.artifacts.examples import Examples
from paredown.artifacts.scores import Scores
from paredown.core.context import Context, running
from paredown.core.errors import DataError, UserError
from paredown.engines.bandits import chance_range
from paredown.engines.generator import Question, Sampling
from paredown.engines.prompt_formats import Format
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
    found = scores.items()
    assert found is not None
    assert found["item"].n_unique() == 7, "each copy is an item"

    def copies(question: Question, sampling: Sampling) -> list[float]:
        """Says what the last demonstration says."""
        said = str(question.prompt).split("\n\n")[-2].rsplit(" ", 1)[1]
        return [0.0 if option == said else -1.0 for option in question.options]

    scores, _ = measure(tmp_path / "b", scripted(copies), data, same_format=True, search="full", formats=20)
    found = scores.items()
    assert found is not None
    deviation = float(found["value"].std())  # type: ignore[arg-type]
    assert 0.3 * (0.25 / 50) ** 0.5 < deviation < 2 * (0.25 / 50) ** 0.5, "about what drawing demonstrations for 50 items spreads"


def test_one_format_has_no_spread(tmp_path: Path) -> None:
    got = values(measure(tmp_path, scripted(picky), examples(tmp_path / "data"), formats=0)[0])
    assert got["spread"] == got["unchecked_spread"] == 0
    assert got["chance_spread"] == pytest.approx(0)


def test_unchecked_means_spread_more_and_chance_is_as_if_all_were_alike(tmp_path: Path) -> None:
    def throws(question: Question, sampling: Sampling) -> list[float]:
        """Right on three items of four, whichever."""
        right = zlib.crc32(str(question.prompt).encode()) % 4 > 0
        gold = 0 if "says yes" in last(question.prompt) else 1
        return [0.0 if (option == gold) == right else -5.0 for option in range(2)]

    data = examples(tmp_path / "data", 200)
    full = values(measure(tmp_path / "full", scripted(throws), data, search="full", items=200, formats=60)[0])
    assert full["unchecked_spread"] == pytest.approx(full["spread"])
    assert full["chance_spread"] == pytest.approx(chance_range(61, 200, full["mean_accuracy"]))
    assert 0.5 * full["chance_spread"] < full["spread"] < 2 * full["chance_spread"]
    few = values(measure(tmp_path / "few", scripted(throws), data, search="uniform", items=200, formats=60, calls=1220)[0])
    assert few["unchecked_spread"] > 2 * few["spread"]


def test_the_ends_are_of_formats_measured_whole(tmp_path: Path) -> None:
    """Where the search names a format as best that is worse than the given one on all items, the given one is the best."""

    def fades(question: Question, sampling: Sampling) -> list[float]:
        """Formats without a colon are right on the first items that are asked, and wrong later."""
        text = last(question.prompt)
        shape = text.split("item")[0]
        asked[shape] = asked.get(shape, 0) + 1
        right = ":" in text or asked[shape] <= 10
        gold = 0 if "says yes" in text else 1
        return [0.0 if (option == gold) == right else -5.0 for option in range(2)]

    asked: dict[str, int] = {}
    data = examples(tmp_path / "data")
    scores, step = measure(tmp_path, scripted(fades), data, search="uniform", calls=310, batch=10)
    got = values(scores)
    assert got["best_accuracy"] == got["given_accuracy"] == 1.0
    assert ":" in step.facts["best_format"]["separator"]
    assert got["spread"] >= 0


def test_formats_are_items_with_a_name_of_their_own(tmp_path: Path) -> None:
    """So a base and a pruned model are compared format by format, and other formats are other items."""
    data = examples(tmp_path / "data")
    seeds = [measure(tmp_path / str(seed), scripted(picky), data, search="full", seed=seed)[0].items() for seed in (0, 1)]
    other = measure(tmp_path / "other", scripted(lambda q, s: [0.0, -1.0]), data, search="full")[0].items()
    first, second, third = ([] if found is None else found["item"].to_list() for found in (*seeds, other))
    assert first == third
    assert len({*first} & {*second}) < 31
    assert Format().key() in {*first} & {*second}, "the given one"


def test_the_published_switch_draws_other_formats(tmp_path: Path) -> None:
    data = examples(tmp_path / "data")
    found = [
        [str(question.prompt) for question, _ in ASKED]
        for switch in (False, True)
        if measure(tmp_path / str(switch), scripted(picky), data, reference=switch, formats=200, calls=5000)
    ]
    count = [sum(" -- Answer" in text.title() for text in texts) / len(texts) for texts in found]
    assert count[1] > 1.3 * count[0]


def test_any_task_and_any_model(tmp_path: Path) -> None:
    """Two fields, options of their own in each row, labels, demonstrations from elsewhere, a model of this machine."""
    rows = [{"passage": f"p{i}", "asked": "is it?", "choices": ["n", "y", str(i)], "right": "ny"[i % 2]} for i in range(8)]
    data, shown = (Examples.write(tmp_path / name, pl.DataFrame(rows)) for name in ("data", "shown"))
    model = tiny_models.model(tmp_path / "model")
    for enumerated in (False, True):
        scores, step = measure(
            tmp_path / str(enumerated), model, data, shown,
            fields=("passage", "asked"), answer="right", options="choices", enumerate_options=enumerated, descriptors=("P", "Q", "A"), formats=4, search="full",
        )  # fmt: skip
        got = values(scores)
        assert 0 <= got["worst_accuracy"] <= got["mean_accuracy"] <= got["best_accuracy"] <= 1
        assert got["calls"] == 5 * 8
        assert step.cost.flops > 0


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
