"""Generated sums: right, of the kind that they say, in the shares that were asked for, and none of the held-out ones."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from paredown.core.context import Context, running
from paredown.corpus.read.arithmetic import Arithmetic


def made(folder: Path, seed: int = 0, **knobs: Any) -> pl.DataFrame:
    with running(Context(folder / str(seed), folder / "scratch", seed=seed)):
        return pl.concat(Arithmetic(**knobs)().frames())


def held(a: int, b: int, c: int) -> bool:
    return (a + 2 * b + 3 * c) % 7 == 0


def test_every_line_is_right_and_of_its_kind(tmp_path: Path) -> None:
    frame = made(tmp_path, documents=500)
    kinds: dict[str, list[str]] = {}
    for text, kind in frame.select("text", "kind").iter_rows():
        kinds.setdefault(kind, []).extend(text.split("\n"))
    for kind in ("single", "carries", "product", "two_step"):
        for line in kinds[kind]:
            left, right = line.split("=")
            assert eval(left) == int(right), line  # of our own making
    assert all(re.fullmatch(r"\d\+\d=\d+", line) for line in kinds["single"])
    assert all(re.fullmatch(r"\d\*\d=\d+", line) for line in kinds["product"])
    assert all(re.fullmatch(r"\d\d\+\d\d=\d+", line) for line in kinds["carries"])
    carried = [int(line[1]) + int(line[4]) >= 10 for line in kinds["carries"]]
    assert sum(carried) > 0.8 * len(carried), "but where the second number ends in 0"
    assert not any(held(*(int(n) for n in re.findall(r"\d", line)[:3])) for line in kinds["two_step"])
    assert all(re.fullmatch(r"[a-z]{4}=[a-z]{2}", line) for line in kinds["letters"])


def test_shares_and_lengths_are_as_asked(tmp_path: Path) -> None:
    frame = made(tmp_path, documents=4000, kinds={"single": 3, "letters": 1}, lines=4)
    counts = Counter(frame["kind"])
    assert abs(counts["single"] - 3000) < 4 * (4000 * 0.75 * 0.25) ** 0.5
    lines = frame["text"].str.count_matches("\n") + 1
    assert set(lines) == set(range(1, 8))
    assert lines.mean() == pytest.approx(4, abs=0.15)


def test_questions_and_the_held_out_ones(tmp_path: Path) -> None:
    frame = made(tmp_path, documents=300, kinds={"two_step": 1}, lines=1, held_out=True)
    for question, answer in frame.select("question", "text").iter_rows():
        a, b, c = (int(n) for n in re.findall(r"\d", question))
        assert held(a, b, c)
        assert a * b + c == int(answer)
    assert made(tmp_path / "again", documents=300, kinds={"two_step": 1}, lines=1, held_out=True).equals(frame)
    assert not made(tmp_path / "other", seed=1, documents=300, kinds={"two_step": 1}, lines=1, held_out=True).equals(frame)
