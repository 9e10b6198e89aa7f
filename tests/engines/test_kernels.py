"""The kernels against plain Python: `re`, `str` methods, sets and brute force."""

from __future__ import annotations

import argparse
import inspect
import random
import re
import string
import textwrap
import unicodedata
from collections import Counter

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from paredown.core.errors import UserError
from paredown.engines import kernels, kernels_minhash, kernels_text

WORDS = re.compile(r"\w+|[^\w\s]")
ODD = "aZ09_-.#•…  \n\n\n\r\v\f\x1c\x1e\x85\u2028\u00a0\u0000éßñ日本語ｱ１²½Ⅷ٣ǅ𝔘𐐀😀\u0301\u200d─™¿«»'\"\ufeff\U0010ffff"
texts = st.text(alphabet=st.one_of(st.sampled_from(ODD), st.characters(exclude_categories=("Cs",))), max_size=120)
repetitive = st.lists(
    st.sampled_from(["a", "bc", "the", "-", "...", "…", "\n", "\n\n", " ", "\n- ", "é", "a b c d e f\n", "#"]), max_size=120
).map("".join)


def split(text: str) -> list[str]:
    return WORDS.findall(text)


def word_hashes(batch: list[str]) -> list[list[int]]:
    values, offsets = kernels.text_buffers(pl.Series(batch, dtype=pl.String))
    words = kernels.Splitter()(values, offsets)
    return [words.hashes[words.offsets[d] : words.offsets[d + 1]].tolist() for d in range(len(batch))]


@given(st.lists(texts, min_size=1, max_size=8))
@settings(max_examples=40, deadline=None)
def test_words_equal_re_findall(batch: list[str]) -> None:
    # hashing each word of re.findall on its own must give the hashes that the kernel found in the whole text
    expected = [word for text in batch for word in split(text)]
    assert [h for hashes in word_hashes(batch) for h in hashes] == [h for hashes in word_hashes(expected) for h in hashes]
    found = kernels.Splitter()(*kernels.text_buffers(pl.Series(batch, dtype=pl.String)))
    assert np.diff(found.ends).tolist() == [len(word) for word in expected]
    assert np.diff(found.offsets).tolist() == [len(split(text)) for text in batch]


def random_texts(count: int, seed: int) -> list[str]:
    """Many documents at once: letters, odd characters and anything from all of Unicode, and much repetition."""
    draw = random.Random(seed)
    anything = [chr(c) for c in (draw.randrange(0x110000) for _ in range(400)) if not 0xD800 <= c < 0xE000]
    pieces = [*ODD, *anything, "the", "of ", "... ", "\n\n", "\n- ", "a b c d e f g ", " 12 ", "def f(x):\n    return x\n"]
    return ["".join(draw.choices(draw.sample(pieces, draw.randrange(1, 60)), k=draw.randrange(300))) for _ in range(count)]


def test_words_of_many_random_texts_equal_re_findall() -> None:
    batch = random_texts(800, seed=0)
    expected = [word for text in batch for word in split(text)]
    assert [h for hashes in word_hashes(batch) for h in hashes] == [h for hashes in word_hashes(expected) for h in hashes]


def test_statistics_of_many_random_texts_equal_plain_python() -> None:
    batch = random_texts(400, seed=1)
    frame = kernels.measure(pl.Series(batch), segments=True, grams=True).frame()
    for text, row in zip(batch, frame.to_dicts(), strict=True):
        assert row == reference_counts(text) | reference_segments(text) | reference_grams(text)


def test_every_code_point_has_the_class_of_its_str_methods() -> None:
    classes, _ = kernels_text.character_classes()
    points = [c for c in range(0x110000) if not 0xD800 <= c < 0xE000]
    every = "".join(map(chr, points))
    word = {ord(c) for c in re.findall(r"\w", every)}
    space = {ord(c) for c in re.findall(r"\s", every)}
    assert {c for c in points if classes[c] & kernels_text.WORD} == word
    assert {c for c in points if classes[c] & kernels_text.SPACE} == space
    assert {c for c in points if classes[c] & kernels_text.ALPHA} == {c for c in points if chr(c).isalpha()}
    assert {c for c in points if classes[c] & kernels_text.BREAK} == {c for c in points if len(f"a{chr(c)}a".splitlines()) == 2}


def test_words_hash_equal_only_if_equal() -> None:
    words = sorted(
        {chr(97 + k % 26) * (1 + k // 26) + str(k) for k in range(5000)} | {"a" * k for k in range(1, 70)} | {"é" * k for k in range(1, 40)}
    )
    flat = [h for one in word_hashes(words) for h in one]
    assert len(flat) == len(words) == len(set(flat))


def symbol(word: str) -> bool:
    return all(c in string.punctuation or unicodedata.category(c)[0] == "P" or unicodedata.category(c) == "Cc" for c in word)


def reference_counts(text: str) -> dict[str, int]:
    words, lines = split(text), text.splitlines()
    solid = [w for w in words if not symbol(w)]
    return {
        "characters": len(text),
        "words": len(words),
        "solid_words": len(solid),
        "solid_characters": sum(map(len, solid)),
        "hashes": text.count("#"),
        "ellipses": text.count("...") + text.count("…"),
        "lines": len(lines),
        "bullet_lines": sum(s.lstrip().startswith(("•", "-")) for s in lines),
        "ellipsis_lines": sum(s.rstrip().endswith(("...", "…")) for s in lines),
        "alphabetic_words": sum(any(c.isalpha() for c in w) for w in words),
        "stop_words": len(set(words) & set(kernels.STOP_WORDS)),
    }


def repeats(items: list[str]) -> tuple[int, int]:
    seen: set[str] = set()
    count = characters = 0
    for item in items:
        if item in seen:
            count, characters = count + 1, characters + len(item)
        seen.add(item)
    return count, characters


def reference_segments(text: str) -> dict[str, int]:
    paragraphs, lines = re.split(r"\n{2,}", text.strip()), re.split(r"\n+", text)
    (p, pc), (n, nc) = repeats(paragraphs), repeats(lines)
    if not text:
        n = nc = 0
    return dict(zip(kernels_text.SEGMENTS, (len(paragraphs), p, pc, len(lines), n, nc), strict=True))


def reference_grams(text: str) -> dict[str, int]:
    words, out = split(text), {}
    for n in range(2, 5):
        grams = [tuple(words[i : i + n]) for i in range(len(words) - n + 1)]
        gram, times = Counter(grams).most_common(1)[0] if grams else ((), 0)
        out[f"top_{n}_grams"] = len(" ".join(gram)) * times
    for n in range(5, 11):
        seen, total, i = set(), 0, 0
        while i <= len(words) - n:
            gram = tuple(words[i : i + n])
            if gram in seen:
                total, i = total + len("".join(gram)), i + n
            else:
                seen.add(gram)
                i += 1
        out[f"repeated_{n}_grams"] = total
    return out


@given(st.lists(st.one_of(texts, repetitive), min_size=1, max_size=6))
@settings(max_examples=40, deadline=None)
def test_statistics_equal_plain_python(batch: list[str]) -> None:
    frame = kernels.measure(pl.Series(batch, dtype=pl.String), segments=True, grams=True).frame()
    for text, row in zip(batch, frame.to_dicts(), strict=True):
        assert row == reference_counts(text) | reference_segments(text) | reference_grams(text)


def test_documents_of_code_and_prose_equal_plain_python() -> None:
    batch = [inspect.getsource(argparse)[:40_000], inspect.getsource(textwrap) * 3, "To be, or not to be: that is the question.\n" * 40]
    frame = kernels.measure(pl.Series(batch), segments=True, grams=True).frame()
    for text, row in zip(batch, frame.to_dicts(), strict=True):
        assert row == reference_counts(text) | reference_segments(text) | reference_grams(text)


def reference_signature(hashes: list[int], ngram: int, a: np.ndarray, b: np.ndarray) -> list[int]:
    mask = (1 << 64) - 1

    def mix(state: int) -> int:
        for factor in (0xFF51AFD7ED558CCD, 0xC4CEB9FE1A85EC53):
            state = (state ^ state >> 33) * factor & mask
        return state ^ state >> 33

    n = min(ngram, len(hashes))
    found = []
    for i in range(len(hashes) - n + 1 if hashes else 0):
        state = n
        for h in hashes[i : i + n]:
            state = (state * 0x9E3779B97F4A7C15 + h) & mask
        found.append(mix(state) >> 32)
    return [min(((x * int(p) + int(q)) & 0xFFFFFFFF for x in found), default=0xFFFFFFFF) for p, q in zip(a, b, strict=True)]


def test_signatures_equal_plain_python() -> None:
    a, b = kernels_minhash.permutations(16, seed=3)
    batch = [
        "",
        "one",
        "one two three four",
        "one two three four five",
        " ".join(map(str, range(70))),
        " ".join(map(str, range(2100))),
        "ä ö\n\nü",
    ]
    found = kernels.measure(pl.Series(batch), permutations=(a, b)).signatures
    assert found is not None
    for row, hashes in zip(found.tolist(), word_hashes(batch), strict=True):
        assert row == reference_signature(hashes, 5, a, b)


def shingles(text: str, n: int) -> set[tuple[str, ...]]:
    words = split(text)
    n = min(n, len(words))
    return {tuple(words[i : i + n]) for i in range(len(words) - n + 1)} if words else set()


def pair_with(rng: np.random.Generator, words: int, edits: int) -> tuple[str, str]:
    left = [f"w{k}" for k in rng.integers(0, 10_000, words)]
    right = list(left)
    for place in rng.choice(words, edits, replace=False):
        right[place] = f"x{place}"
    return " ".join(left), " ".join(right)


def test_estimate_has_the_spread_of_a_binomial_around_the_true_jaccard() -> None:
    rng = np.random.default_rng(0)
    pairs = [pair_with(rng, 300, edits) for edits in (3, 6, 10, 15, 25) for _ in range(40)]
    true = np.array([len(x & y) / len(x | y) for x, y in ((shingles(a, 5), shingles(b, 5)) for a, b in pairs)])
    k = 112
    flat = kernels.measure(pl.Series([t for pair in pairs for t in pair]), permutations=kernels_minhash.permutations(k, 1)).signatures
    assert flat is not None
    estimate = (flat[0::2] == flat[1::2]).mean(axis=1)
    z = (estimate - true) / np.sqrt(true * (1 - true) / k)
    assert abs(z.mean()) < 4 / np.sqrt(len(z))  # no bias
    assert 0.8 < z.std() < 1.2  # permutations as good as independent ones
    assert np.abs(z).max() < 4.5


def test_true_jaccard_equals_sets() -> None:
    rng = np.random.default_rng(1)
    pairs = [pair_with(rng, n, e) for n, e in ((3, 1), (5, 0), (40, 4), (500, 3))] + [
        ("", ""),
        ("", "a b"),
        ("a a a a a a a a", "a a a a a a"),
    ]
    sets, offsets = kernels.shingle_sets(pl.Series([t for pair in pairs for t in pair]), 5)
    out = np.empty(len(pairs))
    left = np.arange(0, 2 * len(pairs), 2)
    kernels_minhash.jaccard(sets, offsets[:-1], offsets[1:], left, left + 1, out)
    for (a, b), found in zip(pairs, out.tolist(), strict=True):
        x, y = shingles(a, 5), shingles(b, 5)
        assert found == pytest.approx(len(x & y) / len(x | y) if x | y else 0.0, abs=1e-12)


@pytest.mark.parametrize("text", ["", "a", "\n", "\0", " ", "…", "\r\n", "\ufeff", "\U0010ffff"])
def test_one_character(text: str) -> None:
    row = kernels.measure(pl.Series([text]), segments=True, grams=True).frame().row(0, named=True)
    assert row == reference_counts(text) | reference_segments(text) | reference_grams(text)


def test_empty_column_null_slices_and_chunks() -> None:
    assert kernels.measure(pl.Series([], dtype=pl.String), segments=True, grams=True).frame().height == 0
    assert kernels.shingle_sets(pl.Series([], dtype=pl.String), 5)[0].size == 0
    whole = pl.Series(["one", None, "two words", "three more words"])
    chunked = pl.concat([whole[:2], whole[2:]], rechunk=False)
    expected = [1, 0, 2, 3]
    assert kernels.measure(whole).frame()["words"].to_list() == expected
    assert kernels.measure(chunked).frame()["words"].to_list() == expected
    assert kernels.measure(whole[2:]).frame()["words"].to_list() == expected[2:]


@pytest.mark.parametrize("unit", ["ab ", "a", ".", "\n", "é"])
def test_large_single_document_beside_small_ones(unit: str) -> None:
    large = unit * (5_000_000 // len(unit.encode()))
    frame = kernels.measure(
        pl.Series(["x y", large, "z"]), segments=True, grams=True, permutations=kernels_minhash.permutations(8, 0)
    ).frame()
    words = {"ab ": 1_666_666, "a": 1, ".": 5_000_000, "\n": 0, "é": 1}[unit]
    assert frame["words"].to_list() == [2, words, 1]
    assert frame["characters"].to_list() == [3, len(large), 1]


def test_batches_cover_all_documents_once() -> None:
    offsets = np.cumsum([0, 10, 0, 0, 95, 200, 1, 1, 1, 0])
    ranges = list(kernels.batches(offsets, 100))
    assert [d for start, stop in ranges for d in range(start, stop)] == list(range(9))
    assert all(stop - start == 1 or offsets[stop] - offsets[start] <= 100 for start, stop in ranges)


def test_stop_word_of_two_words_is_refused() -> None:
    with pytest.raises(UserError, match="one word"):
        kernels.Splitter(["of the"])
