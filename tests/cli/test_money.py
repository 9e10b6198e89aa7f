"""What servers cost: a column of the table where somebody was paid, in full however much of it was stored, and nowhere else."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from toy_runs import loaded  # type: ignore[import-not-found]

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
