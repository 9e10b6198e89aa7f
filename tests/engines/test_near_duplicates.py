"""Near duplicates against brute force over all pairs, and the greedy choice against hand-made graphs."""

from __future__ import annotations

import hashlib
import itertools
import re
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from paredown.artifacts.corpus import Corpus
from paredown.core.context import Context, Engine, running
from paredown.core.errors import UserError
from paredown.corpus.dedup.minhash import Minhash, similar_pairs
from paredown.engines import documents, near_duplicates
from paredown.engines.near_duplicate_choice import choose
from paredown.engines.near_duplicates import Pairs, Search, bands_for, near_duplicate_groups, near_duplicate_pairs, recall


def shingles(text: str, n: int = 5) -> set[tuple[str, ...]]:
    words = re.findall(r"\w+|[^\w\s]", text)
    n = min(n, len(words))
    return {tuple(words[i : i + n]) for i in range(len(words) - n + 1)} if words else set()


def brute_force(texts: list[str], threshold: float) -> dict[tuple[int, int], float]:
    sets = [shingles(text) for text in texts]
    found = {}
    for (i, a), (j, b) in itertools.combinations(enumerate(sets), 2):
        if a and b and len(a & b) / len(a | b) >= threshold:
            found[i, j] = len(a & b) / len(a | b)
    return found


def families(seed: int, count: int, words: int = 120) -> list[str]:
    """Families of four documents: one, and three with ever more words changed."""
    rng = np.random.default_rng(seed)
    texts = []
    for _ in range(count):
        base = [f"w{k}" for k in rng.integers(0, 50_000, words)]
        for edits in (0, 1, 3, 6):
            copy = list(base)
            for place in rng.choice(words, edits, replace=False):
                copy[place] = f"x{rng.integers(1_000_000)}"
            texts.append(" ".join(copy))
    return [texts[k] for k in rng.permutation(len(texts))]


def corpus_of(path: Path, texts: list[str], shards: int = 1) -> Corpus:
    frame = pl.DataFrame({"id": [f"d{i}" for i in range(len(texts))], "text": texts}, schema={"id": pl.String, "text": pl.String})
    size = -(-max(len(texts), 1) // shards)
    return Corpus.write(path, [frame[at : at + size] for at in range(0, max(len(texts), 1), size)])


def step(path: Path, processes: int = 1) -> Context:
    (path / "scratch").mkdir(parents=True)
    return Context(folder=path / "out", scratch=path / "scratch", engine=Engine(processes=processes))


def as_dict(pairs: Pairs) -> dict[tuple[int, int], float]:
    return {(int(a), int(b)): float(s) for a, b, s in zip(pairs.left, pairs.right, pairs.jaccard, strict=True)}


@pytest.mark.parametrize("threshold", [0.7, 0.8, 0.9])
def test_pairs_against_brute_force(tmp_path: Path, threshold: float) -> None:
    texts = families(seed=int(threshold * 10), count=60)
    true = brute_force(texts, threshold)
    with running(step(tmp_path)):
        found = as_dict(near_duplicate_pairs(corpus_of(tmp_path / "in", texts, shards=3), threshold))
    assert all(true[pair] == pytest.approx(similarity, abs=1e-12) for pair, similarity in found.items())  # verified: nothing false
    expected = sum(recall(similarity, *bands_for(threshold)) for similarity in true.values())
    assert len(true) > 50
    assert len(found) >= expected - 3 * np.sqrt(len(true)) * 0.14 - 1  # each is missed with at most 2%
    assert len(found) / len(true) >= 0.97
    assert similar_pairs(pl.Series(texts), threshold) == [(a, b, s) for (a, b), s in sorted(found.items())]


def test_bands_find_the_threshold_with_few_false_candidates() -> None:
    for threshold in (0.5, 0.6, 0.7, 0.8, 0.9, 0.95):
        bands, rows = bands_for(threshold)
        assert bands * rows <= near_duplicates.PERMUTATIONS
        assert recall(threshold, bands, rows) >= 0.98
    assert recall(0.8, 14, 8) == pytest.approx(0.924, abs=5e-4)  # the figure commonly given for 14 x 8
    assert bands_for(0.05) == (112, 1)


def test_many_copies_make_a_line_of_pairs_not_a_square(tmp_path: Path) -> None:
    texts = ["one two three four five six seven"] * 3000 + ["one two three four five six eight"] + ["", "", "!"]
    with running(step(tmp_path)):
        pairs = near_duplicate_pairs(corpus_of(tmp_path / "in", texts, shards=2), 0.4)
    assert len(pairs.left) == 3000  # 2999 copies with the first, and the first with the other text
    assert pairs.jaccard.min() == 0.5  # shingles: 3 each, 2 in common of 4


def test_groups_join_chains_and_leave_the_rest_alone(tmp_path: Path) -> None:
    a = [f"w{k}" for k in range(100)]
    b = a[:95] + [f"x{k}" for k in range(5)]
    c = [f"y{k}" for k in range(5)] + b[5:]
    texts = ["alone in the world with these words", " ".join(c), " ".join(a), "", " ".join(b)]
    assert set(brute_force(texts, 0.85)) == {(1, 4), (2, 4)}
    with running(step(tmp_path)):
        assert near_duplicate_groups(corpus_of(tmp_path / "in", texts), 0.85).tolist() == [0, 1, 1, 3, 1]


def graph(edges: dict[tuple[int, int], float]) -> Pairs:
    ends = sorted(edges)
    return Pairs(
        np.array([a for a, _ in ends], np.int64), np.array([b for _, b in ends], np.int64), np.array([edges[e] for e in ends], float), 0
    )


def chosen(edges: dict[tuple[int, int], float], sizes: list[int] | None = None) -> dict[int, tuple[int, float]]:
    choice = choose(graph(edges), None if sizes is None else np.array(sizes))
    return {int(d): (int(o), float(s)) for d, o, s in zip(choice.documents, choice.duplicate_of, choice.similarity, strict=True)}


def test_chain_does_not_collapse() -> None:
    # 1 ~ 2 ~ 3 ~ 4, ends unlike: 2 goes because of 1; 3 is like a dropped one only and stays; 4 goes because of 3
    assert chosen({(1, 2): 0.9, (2, 3): 0.85, (3, 4): 0.8}) == {1: (-1, 0.0), 2: (1, 0.9), 3: (-1, 0.0), 4: (3, 0.8)}


def test_most_similar_kept_document_is_named_and_ties_go_to_the_first() -> None:
    assert chosen({(0, 5): 0.8, (3, 5): 0.9})[5] == (3, 0.9)
    assert chosen({(0, 5): 0.8, (3, 5): 0.8})[5] == (0, 0.8)


def test_copies_of_a_dropped_document_are_dropped_with_it() -> None:
    # 7 is a copy of 2, and its only known pair; 2 goes because of 1
    assert chosen({(1, 2): 0.9, (2, 7): 1.0}) == {1: (-1, 0.0), 2: (1, 0.9), 7: (1, 0.9)}
    assert chosen({(2, 7): 1.0, (2, 9): 1.0}) == {2: (-1, 0.0), 7: (2, 1.0), 9: (2, 1.0)}


def test_longest_stays() -> None:
    assert chosen({(0, 1): 0.9, (1, 2): 0.9}, [10, 30, 20]) == {0: (1, 0.9), 1: (-1, 0.0), 2: (1, 0.9)}
    assert chosen({(0, 1): 1.0, (1, 2): 0.9}, [10, 10, 20]) == {0: (2, 0.9), 1: (2, 0.9), 2: (-1, 0.0)}
    assert chosen({(0, 1): 0.9}, [10, 10]) == {0: (-1, 0.0), 1: (0, 0.9)}


def test_choice_is_a_maximal_set_without_pairs_on_random_graphs() -> None:
    rng = np.random.default_rng(5)
    for _ in range(50):
        edges = {(int(min(a, b)), int(max(a, b))): float(rng.choice([0.8, 0.9])) for a, b in rng.integers(0, 40, (60, 2)) if a != b}
        found = chosen(edges)
        kept = {d for d, (of, _) in found.items() if of < 0}
        assert not any(a in kept and b in kept for a, b in edges)
        for d, (of, similarity) in found.items():
            assert of < 0 or (of in kept and edges[min(d, of), max(d, of)] == similarity)


def digest(folder: Path) -> dict[str, str]:
    return {p.relative_to(folder).as_posix(): hashlib.sha256(p.read_bytes()).hexdigest() for p in sorted(folder.rglob("*")) if p.is_file()}


def test_strategy_gives_the_same_bytes_in_one_and_two_processes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(documents, "LITTLE", 0)  # so that it is worth a pool
    texts = [*families(seed=3, count=10), "", "a", "\0\ufeff…", "é" * 50]
    corpus = corpus_of(tmp_path / "in", texts, shards=3)
    for processes in (1, 2):
        with running(step(tmp_path / str(processes), processes)) as here:
            result = Minhash(threshold=0.7, keep_rejected=True, warn_above=0.3)(corpus)
    assert digest(tmp_path / "1" / "out") == digest(tmp_path / "2" / "out")

    true = brute_force(texts, 0.7)
    kept = pl.concat(result.kept.frames())
    assert result.rejected is not None
    assert result.pairs is not None
    rejected = pl.concat(result.rejected.frames())
    assert sorted([*kept["id"], *rejected["id"]]) == sorted(f"d{i}" for i in range(len(texts)))
    assert kept.columns == ["id", "text"]
    number = {f"d{i}": i for i in range(len(texts))}
    for row in rejected.to_dicts():
        pair = tuple(sorted((number[row["id"]], number[row["duplicate_of"]])))
        assert true[pair] == pytest.approx(row["similarity"])  # type: ignore[index]
        assert row["duplicate_of"] in set(kept["id"])
        assert row["reason"] == "near_duplicate"
    assert here.dropped["near_duplicate"][0] == rejected.height > 10
    listed = result.pairs.frame()
    assert {(number[a], number[b]) for a, b in listed.select("id_a", "id_b").rows()} <= set(true)
    assert listed.columns == ["id_a", "id_b", "jaccard", "cluster"]
    assert here.facts["dropped_share"] > 0.3
    assert "warning" in here.facts
    assert sum(row["dropped"] for row in here.facts["largest_clusters"]) == rejected.height


@pytest.mark.parametrize(
    "texts", [[], ["one"], ["", ""], ["a", "a"], ["x " * 2_000_000, "y"]], ids=["none", "one", "empty", "short", "large"]
)
@pytest.mark.parametrize("keep", ["first", "longest"])
def test_odd_corpora(tmp_path: Path, texts: list[str], keep: str) -> None:
    with running(step(tmp_path)):
        result = Minhash(keep=keep, keep_rejected=True)(corpus_of(tmp_path / "in", texts))  # type: ignore[arg-type]
    assert result.kept.documents == len(texts) - (texts == ["a", "a"])


def test_corpus_without_shards(tmp_path: Path) -> None:
    with running(step(tmp_path)):
        result = Minhash(keep_rejected=True)(Corpus.write(tmp_path / "in", []))
    assert result.kept.documents == 0
    assert result.pairs is not None
    assert result.pairs.frame().height == 0


def test_knobs_are_checked() -> None:
    with pytest.raises(UserError, match="threshold"):
        Search(0.0)
    with pytest.raises(UserError, match="both"):
        Search(0.8, bands=4)
    with pytest.raises(ValueError, match="both"):
        Minhash(bands=4)
