"""Generated questions: answered rightly, in the shares that were asked for, and held-out ones apart."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from paredown.core.context import Context, running
from paredown.corpus.read.word_tasks import BLAME, PRAISE, THINGS, WordTasks


def made(folder: Path, seed: int = 0, **knobs: Any) -> pl.DataFrame:
    with running(Context(folder / f"out{len(list(folder.iterdir()))}", folder / "scratch", seed=seed)):
        return WordTasks(**knobs)().frame()


def test_every_answer_is_right_and_an_option(tmp_path: Path) -> None:
    for asked, options, answer, task in made(tmp_path, count=900).iter_rows():
        assert answer in options
        assert len({*options}) == 2
        words = asked.split()
        if task == "sentiment":
            assert {*words[:2]} <= {*(PRAISE if answer == "positive" else BLAME)}
            assert words[2] in THINGS
        elif task == "larger":
            assert options == [words[0], words[2]]
            assert answer == max(options, key=int)
        else:
            assert answer == ("even" if len(words) % 2 == 0 else "odd")
            assert len({*words}) == len(words) <= 4


def test_shares_and_balance(tmp_path: Path) -> None:
    frame = made(tmp_path, count=4000, tasks={"sentiment": 3, "parity": 1})
    counts = Counter(frame["task"])
    assert counts["sentiment"] == pytest.approx(3000, abs=4 * (4000 * 0.75 * 0.25) ** 0.5)
    assert set(counts) == {"sentiment", "parity"}
    assert 0.4 < (frame.filter(task="sentiment")["answer"] == "positive").mean() < 0.6  # type: ignore[operator]


def test_held_out_questions_are_in_nothing_else(tmp_path: Path) -> None:
    seen = {*made(tmp_path, count=5000)["question"]}
    held = {*made(tmp_path, count=2000, held_out=True)["question"]}
    assert not seen & held
    assert len(held) > 1000
    assert made(tmp_path, count=50).equals(made(tmp_path, count=50))
    assert not made(tmp_path, count=50).equals(made(tmp_path, seed=1, count=50))
