"""DSIR: weights in closed form, draws that follow them, and what is dropped is counted."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from paredown.artifacts.corpus import Corpus
from paredown.core.context import Context, running
from paredown.core.errors import DataError
from paredown.corpus.select.dsir import Dsir, log_ratios


def test_the_weights_are_log_ratios_of_smoothed_shares() -> None:
    counts, target, raw = np.array([[2.0, 0.0], [0.0, 1.0]]), np.array([3.0, 0.0]), np.array([2.0, 2.0])
    ratio = np.log([4 / 5, 1 / 5]) - np.log([3 / 6, 3 / 6])
    assert log_ratios(counts, target, raw) == pytest.approx([2 * ratio[0], ratio[1]])


def select(folder: Path, texts: list[str], target: list[str], seed: int = 0, **knobs: Any) -> tuple[list[str], Context]:
    step = Context(folder / "out", folder / "scratch", seed=seed)
    with running(step):
        made = Dsir(**knobs)(Corpus.from_texts(folder / "c", texts), Corpus.from_texts(folder / "t", target))
    return [text for frame in made.frames() for text in frame["text"]], step


@pytest.mark.parametrize("units", ["words", "characters"])
def test_documents_like_the_target_are_kept_in_their_order(tmp_path: Path, units: str) -> None:
    texts = [f"{i} * {i + 1} + 3 = {i}" if i % 5 == 0 else f"lorem ipsum {i} dolor sit amet" for i in range(200)]
    kept, step = select(tmp_path, texts, ["7 * 8 + 5 = 61", "2 * 2 + 1 = 5"], keep=0.2, units=units)
    assert len(kept) == 40
    assert sum("*" in text for text in kept) >= 38
    assert [texts.index(text) for text in kept] == sorted(texts.index(text) for text in kept)
    assert step.dropped["unlike the target"][0] == 160
    again, _ = select(tmp_path / "2", texts, ["7 * 8 + 5 = 61", "2 * 2 + 1 = 5"], keep=0.2, units=units)
    assert again == kept


def test_with_a_target_like_the_corpus_the_choice_is_chance(tmp_path: Path) -> None:
    texts = [f"{'ab'[i % 2]} {i}" for i in range(400)]
    kept, _ = select(tmp_path, texts, texts, keep=0.5)
    share = sum(text[0] == "a" for text in kept) / len(kept)
    assert abs(share - 0.5) < 4 * (0.25 / 200) ** 0.5


def test_nothing_to_compare_with_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="the target holds no text"):
        select(tmp_path, ["a"], [])
