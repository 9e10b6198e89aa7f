"""Random deletion and synonyms: in the shares that were asked for, nothing else changes, and every copy names its source."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl

from paredown.artifacts.corpus import Corpus
from paredown.core.context import Context, running
from paredown.corpus.rewrite.eda import Eda, augmented

TEXT = "The cat, 42 times, saw <b>a</b> dog.\n\nIt ran!"


def test_without_shares_the_text_stays() -> None:
    assert augmented(TEXT, {"cat": ("feline",)}, 0.0, 0.0, np.random.default_rng(0)) == TEXT


def test_all_synonyms_and_only_words_of_the_text() -> None:
    draw = np.random.default_rng(0)
    assert augmented(TEXT, {"cat": ("feline",), "it": ("he",)}, 0.999999, 0.0, draw) == TEXT.replace("cat", "feline").replace("It", "He")


def test_shares_are_as_asked() -> None:
    words = 40_000
    text = " ".join(["cat", "dog"] * (words // 2))
    made = augmented(text, {"cat": ("lion", "lynx")}, 0.3, 0.15, np.random.default_rng(1)).split()
    three_sigma = 3 * (0.15 * 0.85 / words) ** 0.5
    assert abs(1 - len(made) / words - 0.15) < three_sigma
    cats = made.count("cat") + made.count("lion") + made.count("lynx")
    assert abs(1 - made.count("cat") / cats - 0.3) < 3 * (0.3 * 0.7 / cats) ** 0.5
    assert abs(made.count("lion") / (made.count("lion") + made.count("lynx")) - 0.5) < 0.03


def test_copies_name_their_source_and_none_is_empty(tmp_path: Path) -> None:
    corpus = Corpus.from_texts(tmp_path / "c", ["word " * 50, "one", "", *["two three four"] * 20])
    step = Context(tmp_path / "out", tmp_path / "scratch", seed=0)
    with running(step):
        frame = pl.concat(Eda(delete=0.5)(corpus).frames())
    assert (frame["id"] == frame["source"] + "#eda").all()
    assert (frame["text"].str.strip_chars() != "").all()
    assert step.dropped["nothing left"][0] == 23 - frame.height > 0
