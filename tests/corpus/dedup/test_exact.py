"""Equal texts against a plain dictionary of them; nothing but repetitions goes."""

from __future__ import annotations

import itertools
import random
from pathlib import Path
from typing import Any, Literal

import polars as pl
import pytest
from pydantic import ValidationError

from paredown.artifacts.corpus import Corpus
from paredown.core.context import Context, running
from paredown.corpus.dedup.exact import Exact
from paredown.engines import exact_duplicates

SCHEMA = {"id": pl.String, "text": pl.String}
Told = tuple[list[list[str]], dict[str, str], list[int]]


def corpus_of(path: Path, shards: list[list[str]]) -> Corpus:
    starts = [sum(map(len, shards[:n])) for n in range(len(shards))]
    return Corpus.write(
        path,
        [
            pl.DataFrame({"id": [f"d{begin + k}" for k in range(len(texts))], "text": texts}, schema=SCHEMA)
            for begin, texts in zip(starts, shards, strict=True)
        ],
    )


def dedup(folder: Path, shards: list[list[str]], **knobs: Any) -> Told:
    """(ids kept in each shard, {id dropped: id that it repeats}, [documents, bytes] dropped)."""
    (folder / "scratch").mkdir(parents=True)
    with running(Context(folder / "out", folder / "scratch")) as here:
        made = Exact(keep_rejected=True, **knobs)(corpus_of(folder / "in", shards))
    assert made.rejected is not None
    kept = [frame["id"].to_list() for frame in made.kept.frames()]
    rejected = pl.concat([pl.DataFrame(schema=SCHEMA | {"reason": pl.String, "duplicate_of": pl.String}), *made.rejected.frames()])
    assert set(rejected["reason"]) <= {"exact_duplicate"}
    assert here.cost.documents == made.kept.documents + rejected.height == sum(map(len, shards))
    return kept, dict(rejected.select("id", "duplicate_of").rows()), here.dropped.get("exact_duplicate", [0, 0, 0])[:2]


def plainly(shards: list[list[str]], how: str = "none") -> Told:
    first: dict[str, str] = {}
    names = (f"d{n}" for n in itertools.count())
    kept: list[list[str]] = [[] for _ in shards]
    repeats, dropped = {}, [0, 0]
    for stays, texts in zip(kept, shards, strict=True):
        for text, name in zip(texts, names, strict=False):
            known = " ".join(text.split()) if how == "whitespace" else text
            if known in first:
                repeats[name] = first[known]
                dropped = [dropped[0] + 1, dropped[1] + len(text.encode())]
            else:
                first[known] = name
                stays.append(name)
    return kept, repeats, dropped


@pytest.mark.parametrize("parts", [1, 5])
@pytest.mark.parametrize("normalize", ["none", "whitespace"])
def test_equals_a_dictionary_of_texts(
    tmp_path: Path, normalize: Literal["none", "whitespace"], parts: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    draw = random.Random(2)
    texts = ["".join(draw.choices(["a", "é", " ", "\n", "汉"], k=draw.randrange(5))) for _ in range(500)]
    shards = [texts[:3], [], texts[3:200], texts[200:201], texts[201:]]
    monkeypatch.setattr(exact_duplicates, "PARTITION_ROWS", 500 // parts)
    assert dedup(tmp_path, shards, normalize=normalize) == plainly(shards, normalize)
    assert len(plainly(shards, normalize)[1]) > 100


def test_texts_that_only_look_alike_stay() -> None:
    alike = ["a", "A", "a ", " a", "a\n", "a\0", "\ufeffa", "\u00e9", "e\u0301", "а", "", " ", "\0"]  # the last letter is Cyrillic
    frame = pl.DataFrame({"id": map(str, range(len(alike))), "text": alike}).with_row_index("row")
    assert exact_duplicates.hashes(frame, "none").select("key", "low").n_unique() == len(alike)
    assert exact_duplicates.hashes(frame, "whitespace").select("key", "low").n_unique() == len(alike) - 4  # blanks and line ends go


def test_texts_that_share_half_of_a_hash_stay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = exact_duplicates.hashes

    def one_key(frame: pl.DataFrame, how: str) -> pl.DataFrame:
        return whole(frame, how).with_columns(key=pl.lit(7, dtype=pl.UInt64))

    monkeypatch.setattr(exact_duplicates, "hashes", one_key)
    shards = [["a", "b"], ["b", "c", "a"]]
    assert dedup(tmp_path, shards) == plainly(shards)


@pytest.mark.parametrize("shards", [[], [[]], [[], []], [["one"]], [["", ""], [""]]], ids=["no shards", "empty", "two", "one", "no text"])
def test_odd_corpora(tmp_path: Path, shards: list[list[str]]) -> None:
    assert dedup(tmp_path, shards) == plainly(shards)


def test_what_is_rejected_is_written_only_where_asked_for(tmp_path: Path) -> None:
    assert Exact()(corpus_of(tmp_path, [["a", "a"]])).rejected is None
    with pytest.raises(ValidationError, match="normalize"):
        Exact(normalize="case")  # type: ignore[arg-type]
