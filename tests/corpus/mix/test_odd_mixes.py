"""Mixes of nothing, styles asked for twice, passages that can hold no words, and answers within their own questions."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from paredown.core.context import Context, running
from paredown.core.errors import UserError
from paredown.corpus.mix.proportion import Proportion
from paredown.corpus.read.prompts import Prompts
from paredown.corpus.rewrite.wrap import Wrap
from paredown.measure.formatspread import Formatspread


def test_nothing_cannot_be_mixed(tmp_path: Path) -> None:
    with running(Context(tmp_path / "out", tmp_path / "scratch", seed=0)), pytest.raises(UserError, match="no corpus to mix"):
        Proportion()(())


@pytest.mark.parametrize(
    ("knobs", "said"),
    [({"styles": ("easy", "qa", "easy")}, "a style stands twice"), ({"most_words": 4}, "least_words .5. must be at most most_words .4.")],
)
def test_what_cannot_be_rephrased(knobs: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        Wrap(**knobs)


@pytest.mark.parametrize("kind", [Prompts, Formatspread])
def test_a_question_does_not_hold_its_answer(kind: Any) -> None:
    with pytest.raises(ValidationError, match="stand in its own question"):
        kind(fields=("question", "answer"), options=("yes", "no"))
