"""Gopher's rules on hand-made documents, just inside and just outside of each threshold."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest
from pydantic import ValidationError

from paredown.artifacts.corpus import Corpus
from paredown.core.context import Context, running
from paredown.core.errors import UserError
from paredown.corpus.clean.gopher import Gopher, gopher_reasons

ALL_OFF = {name: None for name in Gopher.model_fields if name.startswith(("min_", "max_"))}


def reason(text: str, **knobs: object) -> str | None:
    """The reason with all rules off but those given (True: at its published threshold)."""
    published = Gopher()
    chosen = {name: getattr(published, name) if value is True else value for name, value in knobs.items()}
    found: str | None = gopher_reasons(pl.Series([text]), Gopher(**{**ALL_OFF, **chosen}).knobs())[0]
    return found


def numbered(count: int) -> list[str]:
    """Different words of five letters."""
    return [f"w{chr(97 + i // 676 % 26)}{chr(97 + i // 26 % 26)}{chr(97 + i % 26)}x" for i in range(count)]


CASES = [
    # rule, a text that just passes, a text that just falls
    ("min_words", " ".join(numbered(50)), " ".join(numbered(49)) + " ! ? -"),
    ("max_words", "word " * 100_000 + "! ?", "word " * 100_001),
    ("min_word_length", "abc " * 10, "abc " * 9 + "ab"),
    ("max_word_length", "abcdefghij " * 10, "abcdefghij " * 9 + "abcdefghijk"),
    ("max_hashes", "word " * 9 + "#", "word " * 8 + "#"),
    # three dots are three words and one ellipsis
    ("max_ellipses", "word " * 7 + "...", "word " * 6 + "..."),
    ("max_ellipses", "word " * 9 + "…", "word " * 8 + "…"),
    ("max_bullet_lines", "- a\n" * 9 + "b", "- a\n" * 10 + " • b\n" * 1 + "c"),
    ("max_ellipsis_lines", "a... \n" * 3 + "b\n" * 7, "a…\n" * 4 + "b\n" * 9),
    ("min_alphabetic_words", "ab " * 8 + "1 2", "ab " * 7 + "1 2"),
    ("min_stop_words", "the cat of all", "the cat the dog The Of"),
    ("max_duplicate_lines", "\n".join([*"abcdefg", *"aaa"]), "\n".join([*"abcdef", *"aaa"])),
    ("max_duplicate_paragraphs", "\n\n".join([*"abcdefg", *"aaa"]), "\n\n\n".join([*"abcdef", *"aaa"])),
    # 20 of 100 characters, then 20 of 99: line feeds count as characters
    ("max_duplicate_line_characters", "a" * 20 + "\n" + "a" * 20 + "\n" + "b" * 58, "a" * 20 + "\n" + "a" * 20 + "\n" + "b" * 57),
    (
        "max_duplicate_paragraph_characters",
        "a" * 20 + "\n\n" + "a" * 20 + "\n\n" + "b" * 56,
        "a" * 20 + "\n\n" + "a" * 20 + "\n\n" + "b" * 55,
    ),
]


@pytest.mark.parametrize(("rule", "passes", "falls"), CASES, ids=[f"{case[0]}-{i}" for i, case in enumerate(CASES)])
def test_each_rule_just_inside_and_just_outside(rule: str, passes: str, falls: str) -> None:
    assert reason(passes, **{rule: True}) is None
    assert reason(falls, **{rule: True}) == rule


@pytest.mark.parametrize(("n", "limit"), [(2, 0.20), (3, 0.18), (4, 0.16)])
def test_top_grams_just_inside_and_just_outside(n: int, limit: float) -> None:
    # the gram "aa aa .." twice: 2 * (3 n - 1) characters; a long last word sets the share
    gram = " ".join(chr(97 + k) * 2 for k in range(n))
    taken = 2 * len(gram)
    total = round(taken / limit)  # 10/0.2 = 50, 16/0.18 = 88.9 -> 89, 22/0.16 = 137.5 -> 138
    for size, expected in ((total + (taken / total > limit), None), (total + (taken / total > limit) - 1, f"max_top_{n}_grams")):
        start = f"{gram} x {gram} "
        text = start + "z" * (size - len(start))
        assert len(text) == size
        assert reason(text, **{f"max_top_{n}_grams": True}) == expected


@pytest.mark.parametrize(("n", "limit"), [(5, 0.15), (6, 0.14), (7, 0.13), (8, 0.12), (9, 0.11), (10, 0.10)])
def test_repeated_grams_just_inside_and_just_outside(n: int, limit: float) -> None:
    gram = " ".join(chr(97 + k) * 2 for k in range(n))
    taken = 2 * n  # blanks do not count
    total = next(size for size in range(1000) if size > 3 * len(gram) and taken / size <= limit)
    for size, expected in ((total, None), (total - 1, f"max_repeated_{n}_grams")):
        start = f"{gram} x {gram} "
        text = start + "z" * (size - len(start))
        assert len(text) == size
        assert reason(text, **{f"max_repeated_{n}_grams": True}) == expected


def test_first_broken_rule_is_the_reason_and_published_thresholds_are_the_default() -> None:
    knobs = Gopher().knobs()
    assert (knobs["min_words"], knobs["max_words"], knobs["max_top_4_grams"], knobs["max_repeated_10_grams"]) == (50, 100_000, 0.16, 0.10)
    prose = (
        "It was a bright morning, and the people of the village had come to the market with their baskets. Nobody knew that the old "
        "man, who used to sell bread at the corner, would have left before noon. Children ran between tables while their parents "
        "talked about weather, harvest and the long road which leads over the hills. Later it began to rain and everyone went home."
    )
    found = gopher_reasons(pl.Series([prose, "", "# # # the of", prose + "\n\n" + prose, None]), knobs)
    assert found.to_list() == [None, "min_words", "min_words", "max_duplicate_paragraphs", "min_words"]


def test_nothing_breaks_no_rule_where_all_are_off() -> None:
    assert gopher_reasons(pl.Series(["", "x", "- - -"]), Gopher(**ALL_OFF).knobs()).to_list() == [None, None, None]
    assert gopher_reasons(pl.Series([], dtype=pl.String), Gopher().knobs()).len() == 0


def test_knobs_are_checked() -> None:
    with pytest.raises(ValidationError):
        Gopher(max_hashes=-0.1)
    with pytest.raises(ValidationError):
        Gopher(max_hash=0.1)  # type: ignore[call-arg]
    with pytest.raises(UserError, match="one word"):
        gopher_reasons(pl.Series(["a"]), Gopher(stop_words=("of the",)).knobs())


def test_strategy_keeps_and_rejects_with_reasons(tmp_path: Path) -> None:
    good = "the cat and the dog went to a house of stone with " + " ".join(numbered(60)) + "."
    corpus = Corpus.from_texts(tmp_path / "in", [good, "too short", "", good.replace("the", "they")])
    (tmp_path / "scratch").mkdir()
    with running(Context(folder=tmp_path / "out", scratch=tmp_path / "scratch")) as step:
        result = Gopher(keep_rejected=True)(corpus)
    assert result.kept.documents == 2
    assert result.rejected is not None
    rejected = pl.concat(result.rejected.frames())
    assert rejected.select("id", "reason").rows() == [("1", "min_words"), ("2", "min_words")]
    assert step.dropped["min_words"][:2] == [2, len("too short")]
