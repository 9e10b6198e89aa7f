"""Options that are none, and what cannot say how likely they are."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import polars as pl
import pytest

from paredown.artifacts.examples import Examples
from paredown.core.catalog import build
from paredown.core.context import Context, running
from paredown.core.errors import DataError, PareError, UserError
from paredown.infer.answerers.partial import Partial
from paredown.measure.choices import Choices


def measured(folder: Path, options: Any, **knobs: Any) -> None:
    (folder / "scratch").mkdir()
    examples = Examples.write(folder / "examples", pl.DataFrame({"question": ["1+1", "2+2"], "options": options, "answer": ["2", "4"]}))
    with running(Context(folder / "out", folder / "scratch", seed=0)):
        Choices(**knobs)(Partial(), examples)


def test_letters_of_a_text_are_no_options(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="the column options holds no lists"):
        measured(tmp_path, ["2,4", "2,4"])


def test_a_missing_option_is_not_called_none(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="an option of example 1 is missing"):
        measured(tmp_path, [["2", "3"], ["4", None]])


def test_who_only_writes_cannot_rank(tmp_path: Path) -> None:
    rank = build({"use": "infer.prompting.few_shot", "examples": 0, "scoring": "rank"})
    with pytest.raises(PareError, match="no log-probabilities of options"):
        measured(tmp_path, [["2", "3"], ["4", "5"]], prompting=rank)
