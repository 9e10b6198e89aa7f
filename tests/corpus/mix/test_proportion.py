"""Shares are exact up to a document, no document is taken twice, and what cannot be is said."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from paredown.artifacts.corpus import Corpus
from paredown.core.context import Context, running
from paredown.core.errors import DataError, UserError
from paredown.corpus.mix.proportion import Proportion


def corpus(folder: Path, count: int, letter: str, seed: int) -> Corpus:
    sizes = np.random.default_rng(seed).integers(20, 200, count)
    frame = pl.DataFrame({"id": [str(i) for i in range(count)], "text": [letter * int(n) for n in sizes], "kind": [letter] * count})
    return Corpus.write(folder, [frame[: count // 2], frame[count // 2 :]])


def mix(folder: Path, *corpora: Corpus, seed: int = 0, **knobs: Any) -> pl.DataFrame:
    with running(Context(folder / "out", folder / "scratch", seed=seed)):
        return pl.concat(Proportion(**knobs)(corpora).frames())


@pytest.mark.parametrize("shares", [(), (1, 3), (0.2, 0.8)])
def test_shares_are_exact_up_to_a_document(tmp_path: Path, shares: tuple[float, ...]) -> None:
    a, b = corpus(tmp_path / "a", 400, "a", 0), corpus(tmp_path / "b", 300, "b", 1)
    found = mix(tmp_path, a, b, shares=shares)
    sizes = found.group_by("part").agg(pl.col("text").str.len_bytes().sum()).sort("part")["text"].to_numpy()
    wanted = np.array(shares or (1, 1)) / sum(shares or (1, 1))
    most = min(a.text_bytes / wanted[0], b.text_bytes / wanted[1])
    assert (np.abs(sizes - wanted * most) <= 200).all()
    assert found["id"].n_unique() == found.height
    assert (found["kind"] == found["part"].replace_strict({0: "a", 1: "b"})).all()
    assert mix(tmp_path / "again", a, b, shares=shares).equals(found)
    assert not mix(tmp_path / "other", a, b, shares=shares, total=20_000).equals(
        mix(tmp_path / "o2", a, b, shares=shares, total=20_000, seed=1)
    )


def test_what_cannot_be_mixed_is_said(tmp_path: Path) -> None:
    a, b, none = corpus(tmp_path / "a", 10, "a", 0), corpus(tmp_path / "b", 10, "b", 1), Corpus.from_texts(tmp_path / "none", [])
    with pytest.raises(UserError, match="3 shares for 2 corpora"):
        mix(tmp_path, a, b, shares=(1, 1, 1))
    with pytest.raises(UserError, match="bytes of text, not 900,000"):
        mix(tmp_path / "2", a, b, total=9e5)
    with pytest.raises(DataError, match="holds no text"):
        mix(tmp_path / "3", a, none)
