"""Prompts to train on: those that FormatSpread asks, in a share of the grammar's values, with the right answers."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from pydantic import ValidationError

from paredown.artifacts.examples import Examples
from paredown.core.context import Context, running
from paredown.core.errors import DataError, UserError
from paredown.corpus.read.prompts import Prompts
from paredown.engines import multiple_choice
from paredown.engines.prompt_formats import NUMBERS, WRAPPERS, Shape, cased, every, number

ROWS = [{"question": f"item {i} of {chr(97 + i)}", "answer": "ab"[i % 2], "choices": ["a", "b"]} for i in range(12)]


def made(folder: Path, rows: list[dict[str, Any]] = ROWS, seed: int = 0, **knobs: Any) -> tuple[pl.DataFrame, dict[str, list[str]]]:
    data = Examples.write(
        folder / "data", pl.DataFrame(rows, schema={"question": pl.String, "answer": pl.String, "choices": pl.List(pl.String)})
    )
    step = Context(folder / f"out{len(list(folder.iterdir()))}", folder / "scratch", seed=seed)
    with running(step):
        frame = pl.concat(Prompts(**{"options": "choices", "documents": 300, **knobs})(data).frames())
    return frame, step.facts["values"]


def test_documents_are_the_prompts_of_formatspread_with_right_answers(tmp_path: Path) -> None:
    frame, _ = made(tmp_path, shots=1)
    shape = Shape(("question", "answer"))
    items = [multiple_choice.Item((str(row["question"]),), ("a", "b"), str(row["answer"])) for row in ROWS]
    pairs = [(a, b) for a in items for b in items if a != b]
    known = {
        multiple_choice.Task(shape, (asked,), ((shown,),)).prompt(chosen, 0) + asked.answer
        for chosen in every(shape)
        for shown, asked in pairs
    }
    assert {*frame["text"]} <= known
    assert (frame["question"] + frame["answer"]).to_list() == frame["text"].to_list()
    assert frame["text"].n_unique() > 290
    used = Counter(text.split(" of ")[0].rsplit("item ")[-1] for text in frame["text"])
    assert len(used) == 12


def test_a_share_of_the_grammar(tmp_path: Path) -> None:
    frame, half = made(tmp_path, share=0.5, shots=2)
    assert [len(half[name]) for name in ("casing", "separator", "space")] == [2, 8, 8]
    shape = Shape(("question", "answer"))
    allowed = {chosen for chosen in every(shape) if all(vars(chosen)[name] in some for name, some in half.items())}
    heads, tails = ({cased(name, c.casing) + c.separator for c in allowed} for name in shape.fields)
    for text in frame["text"]:
        assert text.split("item", 1)[0] in heads
        assert any(text[:-1].endswith(tail) for tail in tails)
    assert made(tmp_path, share=0.5, seed=1)[1] != half
    assert made(tmp_path, share=0.5, shots=2)[0].equals(frame)


def test_options_under_labels_and_an_instruction(tmp_path: Path) -> None:
    frame, _ = made(tmp_path, enumerate_options=True, instruction="Choose.", shots=1, documents=50)
    shape = Shape(("question", "answer"), "option")
    labels = {wrapper.format(number(place, style)) for wrapper in (*WRAPPERS, "{}") for style in NUMBERS for place in (0, 1)}
    for question, answer in frame.select("question", "answer").iter_rows():
        assert question.startswith("Choose.\n\n")
        assert answer in labels
        assert question.lower().count(str(shape.options)) == 4, "two options in each example"


def test_mistakes(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="12 shots and a question, but there are 12"):
        made(tmp_path, shots=12)
    with pytest.raises(UserError, match="no column asked"):
        made(tmp_path, fields=("asked",))
    with pytest.raises(DataError, match="none of its options"):
        made(tmp_path, options=("x", "y"))
    with pytest.raises(DataError, match="no example"):
        made(tmp_path, rows=[], options=("a",))


def test_descriptors_that_do_not_fit_are_refused_before_anything_runs() -> None:
    """They would name the wrong fields without a word."""
    with pytest.raises(ValidationError, match="descriptors name the fields and the answer: 2, not 1"):
        Prompts(descriptors=("Q",))
    with pytest.raises(ValidationError, match="enumerate_options needs options"):
        Prompts(enumerate_options=True)
