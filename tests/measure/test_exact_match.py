"""Exact match: as SQuAD compares, up to the mark that ends an answer, and every question counts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import polars as pl
import pytest
from scripted import ASKED, scripted

from paredown.artifacts.examples import Examples
from paredown.core.context import Context, running
from paredown.core.errors import DataError, UserError
from paredown.measure.exact_match import ExactMatch, normalised


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("The  Cat.", "cat"),
        (" an apple, a day ", "apple day"),
        ("another", "another"),
        ("U.S.A.", "usa"),
        ("Äpfel!", "äpfel"),
        ("the", "the"),
        (" A.", "a"),
        (" - ", "-"),
        (" \n", ""),
    ],
)
def test_what_makes_no_difference(text: str, left: str) -> None:
    assert normalised(text) == left


def measured(folder: Path, script: Any, rows: dict[str, list[str | None]], **knobs: Any) -> tuple[dict[str, float], pl.DataFrame]:
    (folder / "scratch").mkdir(parents=True)
    examples = Examples.write(folder / "examples", pl.DataFrame(rows, schema=dict.fromkeys(rows, pl.String)))
    with running(Context(folder / "out", folder / "scratch")):
        scores = ExactMatch(**knobs)(scripted(script), examples)
    items = scores.items()
    assert items is not None
    return {row.metric: row.value for row in scores.rows()}, items


def test_every_question_counts_once(tmp_path: Path) -> None:
    said = {"1+1=": " 2", "2+2=": "The 4.", "2+3=": "6", "3+3=": ""}
    rows: dict[str, list[str | None]] = {"sum": list(said), "total": ["2", "4", "5", "6"]}
    found, items = measured(tmp_path, lambda question, _: said[question.prompt], rows, question="sum", answer="total", stop=("\n", "."))
    assert found == {"exact_match": 0.5, "unfinished": 0.0}
    assert items.filter(metric="exact_match")["value"].to_list() == [1.0, 1.0, 0.0, 0.0]
    assert {sampling.stop for _, sampling in ASKED} == {("\n", ".")}
    assert {sampling.temperature for _, sampling in ASKED} == {0.0}


def test_an_option_called_a_is_no_empty_answer(tmp_path: Path) -> None:
    said = {"first": "A", "second": "", "third": "the", "fourth": "..."}
    found, _ = measured(tmp_path, lambda question, _: said[question.prompt], {"question": list(said), "answer": ["A"] * 4})
    assert found["exact_match"] == 0.25


def test_mistakes(tmp_path: Path) -> None:
    rows: dict[str, list[str | None]] = {"question": ["a"], "answer": ["b"]}
    with pytest.raises(UserError, match="no column of text named asked"):
        measured(tmp_path / "1", lambda *_: "", rows, question="asked")
    with pytest.raises(DataError, match="no question"):
        measured(tmp_path / "2", lambda *_: "", {"question": [None], "answer": ["b"]})
