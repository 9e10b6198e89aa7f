"""No leak: by brute force over all pairs, no near duplicates fall on both sides."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from pydantic import ValidationError

from paredown.artifacts.corpus import Corpus
from paredown.artifacts.corpus import Split as Halves
from paredown.core.context import Context, running
from paredown.core.errors import DataError
from paredown.corpus.split import Split
from paredown.engines.splits import held_out_mask


def shingles(text: str, n: int = 5) -> frozenset[tuple[str, ...]]:
    words = re.findall(r"\w+|[^\w\s]", text)
    n = min(n, len(words))
    return frozenset(tuple(words[i : i + n]) for i in range(len(words) - n + 1)) if words else frozenset()


def leaks(one: list[str], other: list[str], threshold: float) -> list[tuple[str, str]]:
    """All pairs across at or above the threshold; the common shingles of every pair are counted."""
    sets = [shingles(text) for text in other]
    holders: dict[tuple[str, ...], list[int]] = {}
    for number, found in enumerate(sets):
        for shingle in found:
            holders.setdefault(shingle, []).append(number)
    pairs = []
    for text in one:
        mine = shingles(text)
        common = Counter(number for shingle in mine for number in holders.get(shingle, []))
        pairs += [(text, other[n]) for n, both in common.items() if both / (len(mine) + len(sets[n]) - both) >= threshold]
    return pairs


def families(seed: int, count: int, edits: tuple[int, ...] = (0, 1, 3, 6, 10), words: int = 120) -> list[str]:
    """Families of documents: each with so many words changed of the one before, so that the last is unlike the first."""
    rng = np.random.default_rng(seed)
    texts = []
    for _ in range(count):
        text = [f"w{k}" for k in rng.integers(0, 50_000, words)]
        for places in edits:
            for place in rng.choice(words, places, replace=False):
                text[place] = f"x{rng.integers(1_000_000)}"
            texts.append(" ".join(text))
    return [texts[k] for k in rng.permutation(len(texts))]


def just_above(threshold: float, count: int, seed: int) -> list[str]:
    """Pairs of documents whose similarity is that of the threshold or the least that is above it."""
    rng = np.random.default_rng(seed)
    texts = []
    shared = next(k for k in range(5, 500) if (k - 4) / (k - 4 + 2 * 25) >= threshold)  # 25 shingles each are its own
    for _ in range(count):
        common, a, b = (" ".join(f"w{k}" for k in rng.integers(0, 10**9, n)) for n in (shared, 25, 25))
        texts += [f"{common} {a}", f"{common} {b}"]
    return [texts[k] for k in rng.permutation(len(texts))]


def corpus_of(path: Path, texts: list[str], shards: int = 3) -> Corpus:
    frame = pl.DataFrame({"id": [f"d{n}" for n in range(len(texts))], "text": texts}, schema={"id": pl.String, "text": pl.String})
    size = -(-max(1, len(texts)) // shards)
    return Corpus.write(path, [frame[begin : begin + size] for begin in range(0, max(1, len(texts)), size)])


def split(folder: Path, texts: list[str], seed: int = 0, **knobs: Any) -> tuple[list[str], list[str], Context]:
    """Texts to train on and texts held out; together they are the corpus, in its order."""
    (folder / "scratch").mkdir(parents=True)
    with running(Context(folder / "out", folder / "scratch", seed)) as here:
        made: Halves = Split(**knobs)(corpus_of(folder / "in", texts))
    sides = [[row for frame in part.frames() for row in frame.rows()] for part in (made.train, made.held_out)]
    known = {f"d{n}": text for n, text in enumerate(texts)}
    assert dict(sides[0]) | dict(sides[1]) == known
    assert len(sides[0]) + len(sides[1]) == len(texts)
    for side in sides:
        assert side == sorted(side, key=lambda row: int(row[0][1:]))
    assert here.facts["held_out_documents"] == len(sides[1])
    return [text for _, text in sides[0]], [text for _, text in sides[1]], here


@pytest.mark.parametrize("held_out", [0.05, 0.5])
@pytest.mark.parametrize("threshold", [0.6, 0.8])
def test_no_near_duplicates_on_both_sides(tmp_path: Path, threshold: float, held_out: float) -> None:
    texts = [*families(seed=1, count=50), *["the same"] * 5, "", "", "!", "汉字 " * 9, "\0"]
    assert len(leaks(texts[::2], texts[1::2], threshold)) > 30  # cut anyhow, it leaks
    train, held, here = split(tmp_path, texts, threshold=threshold, held_out=held_out)
    assert leaks(train, held, threshold) == []
    assert held
    assert train
    assert 50 <= here.facts["groups"] < len(texts)


@pytest.mark.parametrize("threshold", [0.5, 0.6, 0.7, 0.8, 0.9])
def test_pairs_just_above_the_threshold_stay_together(tmp_path: Path, threshold: float) -> None:
    texts = just_above(threshold, 300, seed=int(100 * threshold))
    assert len(leaks(texts, texts, threshold)) == 1200  # each with itself and with its partner
    train, held, here = split(tmp_path, texts, threshold=threshold, held_out=0.5)
    assert leaks(train, held, threshold) == []
    assert (len(train), len(held), here.facts["groups"]) == (300, 300, 300)
    assert here.facts["recall_at_threshold"] >= 1 - 1e-6


def test_the_share_is_that_asked_for_and_the_draw_is_random(tmp_path: Path) -> None:
    texts = [f"text {n} of its own {n * n}" for n in range(400)]
    drawn = [frozenset(split(tmp_path / str(seed), texts, seed=seed, held_out=0.1)[1]) for seed in range(8)]
    assert {len(some) for some in drawn} == {40}
    assert len(set(drawn)) == 8
    assert 0.45 < len(frozenset().union(*drawn)) / 400 < 0.7  # 1 - 0.9 ** 8 = 0.57
    assert frozenset(split(tmp_path / "again", texts, seed=3, held_out=0.1)[1]) == drawn[3]


@pytest.mark.parametrize("share", [0.01, 0.05, 0.3, 0.5, 0.99])
def test_groups_stay_whole_and_both_sides_get_some(share: float) -> None:
    rng = np.random.default_rng(7)
    for groups in (np.arange(2), np.arange(10), np.array([0] * 50 + [1]), rng.integers(0, 30, 500), np.repeat(np.arange(40), 3)):
        mask = held_out_mask(groups, share, np.random.default_rng(1))
        assert 0 < mask.sum() < len(groups)
        assert not set(groups[mask]) & set(groups[~mask])
        largest = np.bincount(groups).max()
        assert mask.sum() <= max(share * len(groups) + 1, largest)
        if largest < 0.05 * len(groups):
            assert abs(mask.sum() / len(groups) - share) < 0.05


def test_too_few_unrelated_documents_are_a_clear_error(tmp_path: Path) -> None:
    for number, texts in enumerate(([], ["alone"])):
        with pytest.raises(DataError, match=f"^{number} documents cannot be divided"):
            split(tmp_path / str(number), texts)
    with pytest.raises(DataError, match="all documents are near-duplicates of each other"):
        split(tmp_path / "same", ["one two three"] * 9)
    train, held, _ = split(tmp_path / "two", ["one two three"] * 9 + ["four"])
    assert (len(train), held) == (9, ["four"])


def test_knobs_are_checked() -> None:
    for knobs in ({"held_out": 0}, {"held_out": 1}, {"threshold": 0}, {"threshold": 1.01}, {"share": 0.1}):
        with pytest.raises(ValidationError):
            Split(**knobs)  # type: ignore[arg-type]
