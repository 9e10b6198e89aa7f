"""What servers cost: a column of the table where somebody was paid, in full however much of it was stored, and nowhere else."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from toy_runs import loaded  # type: ignore[import-not-found]

from paredown.report import pareto

sys.path.insert(0, str(Path(__file__).parents[1] / "engines"))
from answering_server import Server, answer_to, pieces  # type: ignore[import-not-found]


def recipe(url: str, prices: dict[str, object] | None, other: dict[str, object] | None) -> str:
    answerer = {"use": "infer.answerers.endpoint", "base_url": url, "model": "m", "prices": prices}
    steps = {"said": {"use": "toy.asked", "prompts": ["a", "b"], "answerer": answerer}}
    return json.dumps(
        {"name": "money", "steps": steps, "arms": {"control": {}, "more": {"said.prompts": ["a", "b", "c"], "said.answerer.prices": other}}}
    )


def price(prompts: str) -> float:
    return sum((len(pieces(p)) + 5) + 3 * len(pieces(answer_to(p))) for p in prompts) * 100 / 1e6


def test_money_has_a_column_in_one_currency(paredown: Callable[..., object], tmp_path: Path) -> None:
    prices = {"prompt": 100, "completion": 300, "currency": "EUR"}
    with Server() as server:
        (tmp_path / "m.yaml").write_text(recipe(server.url, prices, prices))
        found = loaded(paredown("run", "m.yaml", "--json"))
        again = loaded(paredown("run", "m.yaml", "--json"))
        assert len(server.seen) == 3, "the arms share two questions"
        place = [column["title"] for column in found["table"]["columns"]].index("money to get there")
        assert found["table"]["columns"][place] == {"title": "money to get there", "unit": "EUR", "better": "lower", "kind": "cost"}
        assert [row["values"][place] for row in found["table"]["rows"]] == pytest.approx([price("ab"), price("abc")])
        assert again["table"] == found["table"]
        page = Path(found["report"]).read_text() if Path(found["report"]).is_absolute() else (tmp_path / found["report"]).read_text()
        assert f"{price('abc'):,.4g} EUR" in page
        (tmp_path / "m.yaml").write_text(recipe(server.url, prices, {**prices, "currency": "USD"}))
        two = loaded(paredown("run", "m.yaml", "--json"))
        values = [row["values"][place] for row in two["table"]["rows"]]
        assert (values[0], values[1]) == (pytest.approx(price("ab")), None)
        (tmp_path / "m.yaml").write_text(recipe(server.url, prices, None))
        unknown = loaded(paredown("run", "m.yaml", "--json"))
        values = [row["values"][place] for row in unknown["table"]["rows"]]
        assert (values[0], values[1]) == (pytest.approx(price("ab")), None)
        (tmp_path / "m.yaml").write_text(recipe(server.url, None, None))
        free = loaded(paredown("run", "m.yaml", "--json"))
        assert "money to get there" not in [column["title"] for column in free["table"]["columns"]]
        assert [step["cost"]["money"] for step in free["steps"]] == [None, None]
        assert len(server.seen) == 3


def test_what_a_question_takes_is_a_cost_of_its_own(paredown: Callable[..., object], tmp_path: Path) -> None:
    """Tokens, time and money a question, votes counted, are axes of the report's frontier; a recipe that asks no question has no such column."""
    prices = {"prompt": 100, "completion": 300, "currency": "EUR"}
    with Server(latency=0.02) as server:
        answerer = {"use": "infer.answerers.endpoint", "base_url": server.url, "model": "m", "prices": prices}
        few = {"use": "infer.prompting.few_shot", "examples": 0, "retries": 0}
        votes = {"use": "infer.prompting.ensemble", "of": few, "votes": 3}
        asking = {"use": "measure.choices", "answerer": answerer, "examples": "$sums", "prompting": few}
        steps = {"sums": {"use": "corpus.read.sums", "count": 5}, "answers": asking}
        arms = {"control": {}, "votes": {"answers.prompting": votes}}
        (tmp_path / "q.yaml").write_text(json.dumps({"name": "q", "steps": steps, "arms": arms, "summary": {"right": "answers.accuracy"}}))
        found = loaded(paredown("run", "q.yaml", "--json"))
    columns = {column["title"]: number for number, column in enumerate(found["table"]["columns"])}
    facts = {step["arms"][0]: step["facts"] for step in found["steps"] if step["name"] == "answers"}
    for row, calls in zip(found["table"]["rows"], (5, 15), strict=True):
        (used,) = facts[row["arm"]]["answers"].values()
        assert used["distinct"] == calls
        tokens, time, money = (row["values"][columns[f"{what} a question"]] for what in ("tokens", "ms", "money"))
        assert tokens == (used["prompt_tokens"] + used["completion_tokens"]) / 5
        assert time == pytest.approx(1000 * used["seconds"] / 5)
        assert time > 20 * calls / 5
        assert money == pytest.approx(used["money"] / 5)
        assert money > 0
    assert found["table"]["columns"][columns["money a question"]]["unit"] == "EUR a question"
    shown = pareto.view(found, [], {})
    assert shown is not None
    assert {"tokens a question", "ms a question", "money a question"} <= {axis["title"] for axis in shown["data"]["costs"]}
    assert [axis["title"] for axis in shown["data"]["metrics"]] == ["right"]
