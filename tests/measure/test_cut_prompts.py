"""Prompts that are longer than a model reads are said beside what was measured on what was left of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import polars as pl
import pytest
import tiny_models
from pydantic import ValidationError

from paredown.artifacts.examples import Examples
from paredown.core.catalog import build
from paredown.core.context import Context, running
from paredown.corpus.rewrite.eda import Eda
from paredown.measure.boosting import Boosting
from paredown.measure.choices import Choices
from paredown.measure.exact_match import ExactMatch
from paredown.measure.formatspread import Formatspread

RANK = {"use": "infer.prompting.few_shot", "examples": 0, "scoring": "rank"}


@pytest.mark.parametrize(
    ("kind", "knobs"),
    [
        (ExactMatch, {"new_tokens": 2}), (Choices, {"prompting": build(RANK)}),
        (Formatspread, {"options": ("a", "b"), "formats": 1, "calls": 2, "shots": 0}),
    ],
)  # fmt: skip
@pytest.mark.parametrize("length", [1, 3000])
def test_a_prompt_that_does_not_fit_is_said(kind: Any, knobs: dict[str, Any], length: int, tmp_path: Path) -> None:
    (tmp_path / "scratch").mkdir()
    rows = {"question": ["x" * length] * 2, "options": [["a", "b"]] * 2, "answer": ["a", "b"]}
    examples = Examples.write(tmp_path / "examples", pl.DataFrame(rows))
    step = Context(tmp_path / "out", tmp_path / "scratch", seed=0 if kind.seeded else None)
    with running(step):
        kind(**knobs)(tiny_models.model(tmp_path / "model"), examples)
    assert ("did not fit into the model's context" in step.says) == (length > 1)


@pytest.mark.parametrize("word", ["Is", "New York", "don't", ""])
def test_a_synonym_of_what_is_never_met_is_refused(word: str) -> None:
    with pytest.raises(ValidationError, match="would never be met"):
        Eda(synonyms={word: ("was",)})


def test_a_tree_has_two_leaves() -> None:
    with pytest.raises(ValidationError):
        Boosting(leaves=1)
