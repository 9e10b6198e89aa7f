"""What the strategy tells of near duplicates: pairs, clusters, what was dropped and why."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import polars as pl
import pytest
from pydantic import ValidationError

from paredown.artifacts.corpus import Corpus, Deduplicated
from paredown.core.context import Context, running
from paredown.corpus.dedup.minhash import Minhash


def words(mark: str, count: int) -> list[str]:
    return [f"{mark}{k}" for k in range(count)]


A = words("a", 100)
B = A[:95] + words("b", 5)  # 91 of 101 shingles are those of A
C = words("c", 5) + B[5:]  # the same to B, and 86 of 106 to A
TEXTS = {"other": words("o", 50), "c": C, "a": A, "copy of a": A, "empty": [], "b": B, "twin 1": words("t", 60), "twin 2": words("t", 61)}
A_B, A_C, TWINS = 91 / 101, 86 / 106, 56 / 57


def dedup(folder: Path, texts: dict[str, list[str]], **knobs: Any) -> tuple[Deduplicated, Context]:
    """The texts in two shards."""
    (folder / "scratch").mkdir(parents=True)
    frame = pl.DataFrame({"id": list(texts), "text": [" ".join(text) for text in texts.values()]})
    with running(Context(folder / "out", folder / "scratch")) as here:
        made = Minhash(keep_rejected=True, **knobs)(Corpus.write(folder / "in", [frame[:3], frame[3:]]))
    return made, here


def ids(corpus: Corpus) -> list[str]:
    return [name for frame in corpus.frames() for name in frame["id"]]


def told(made: Deduplicated) -> dict[str, tuple[str, float, str]]:
    assert made.rejected is not None
    rows = [row for frame in made.rejected.frames() for row in frame.to_dicts()]
    assert {row["reason"] for row in rows} <= {"near_duplicate"}
    return {row["id"]: (row["duplicate_of"], row["similarity"], row["cluster"]) for row in rows}


def test_pairs_are_listed_with_their_similarity_and_cluster(tmp_path: Path) -> None:
    made, here = dedup(tmp_path, TEXTS, threshold=0.85)
    assert made.pairs is not None
    listed = {(a, b): (pytest.approx(jaccard), cluster) for a, b, jaccard, cluster in made.pairs.frame().rows()}
    # copies share all bands, so that one of them stands for both
    assert listed == {
        ("c", "b"): (A_B, "c"),
        ("a", "copy of a"): (1.0, "c"),
        ("a", "b"): (A_B, "c"),
        ("twin 1", "twin 2"): (TWINS, "twin 1"),
    }
    assert here.facts["verified_pairs"] == 4 <= here.facts["candidate_pairs"]


def test_dropped_documents_say_which_kept_one_they_are_like(tmp_path: Path) -> None:
    made, here = dedup(tmp_path, TEXTS, threshold=0.85)
    assert ids(made.kept) == ["other", "c", "a", "empty", "twin 1"]
    assert told(made) == {
        "copy of a": ("a", 1.0, "c"),
        "b": ("c", pytest.approx(A_B), "c"),  # as like to a; of equals the first
        "twin 2": ("twin 1", pytest.approx(TWINS), "twin 1"),
    }
    size = {name: len(" ".join(text)) for name, text in TEXTS.items()}
    assert here.dropped == {"near_duplicate": [3, size["copy of a"] + size["b"] + size["twin 2"], 0]}
    assert here.facts["largest_clusters"] == [{"kept": "c", "dropped": 1}, {"kept": "a", "dropped": 1}, {"kept": "twin 1", "dropped": 1}]
    assert here.facts["dropped_share"] == 3 / 8
    assert here.cost.documents == 8


def test_a_lower_threshold_and_the_longest(tmp_path: Path) -> None:
    made, _ = dedup(tmp_path / "1", TEXTS, threshold=0.8)
    like_c = {"a": A_C, "copy of a": A_C, "b": A_B}
    assert told(made) == {name: ("c", pytest.approx(similarity), "c") for name, similarity in like_c.items()} | {
        "twin 2": ("twin 1", pytest.approx(TWINS), "twin 1")
    }
    made, _ = dedup(tmp_path / "2", TEXTS, threshold=0.98, keep="longest")
    assert told(made) == {"copy of a": ("a", 1.0, "a"), "twin 1": ("twin 2", pytest.approx(TWINS), "twin 1")}


def test_clusters_can_be_listed_and_a_high_loss_is_a_warning(tmp_path: Path) -> None:
    texts = {f"{n}-{k}": words(f"w{n}x", 40) for n in range(3) for k in range(n + 1)} | {"alone": words("z", 9)}
    made, here = dedup(tmp_path, texts, warn_above=0.4)
    assert made.pairs is not None
    members = pl.concat([made.pairs.frame().select("cluster", id=side) for side in ("id_a", "id_b")]).unique()
    clusters = {cluster: sorted(some) for cluster, some in members.group_by("cluster").agg("id").rows()}
    assert clusters == {"1-0": ["1-0", "1-1"], "2-0": ["2-0", "2-1", "2-2"]}
    assert here.facts["largest_clusters"] == [{"kept": "2-0", "dropped": 2}, {"kept": "1-0", "dropped": 1}]
    assert here.facts["warning"].startswith("42.9% of the documents were dropped")
    assert "warning" not in dedup(tmp_path / "calm", texts, warn_above=0.43)[1].facts


def test_words_decide_and_not_what_stands_between_them(tmp_path: Path) -> None:
    text = words("a", 30)
    spaced = [word + "\n\t " for word in text]
    loud = [word.upper() for word in text]
    made, _ = dedup(tmp_path, {"text": text, "spaced": spaced, "loud": loud, "no words": [" "], "none": []}, threshold=1.0)
    assert told(made) == {"spaced": ("text", 1.0, "text")}


def test_what_is_rejected_is_written_only_where_asked_for(tmp_path: Path) -> None:
    assert Minhash()(Corpus.from_texts(tmp_path, ["a b c", "a b c"])).rejected is None
    for knobs in ({"threshold": 0}, {"threshold": 1.1}, {"ngram": 0}, {"bands": 3}, {"keep": "last"}):
        with pytest.raises(ValidationError):
            Minhash(**knobs)  # type: ignore[arg-type]
