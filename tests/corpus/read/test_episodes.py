"""Episodes and rules: one world each, prompts as they are asked, and nothing that tells the answer but solved questions of the same topic."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from pydantic import ValidationError

from paredown.core.context import Context, running
from paredown.corpus.read.episodes import Episodes
from paredown.corpus.read.rules import Rules
from paredown.engines import choosing

SHOWN = re.compile(r"Question: (\w+) \w+ \w+\n((?:[A-D]\. \w+\n){4})(?:So (\w+ \w+ [A-D])\n)?Answer: \[?([A-D])\]?\Z")


def at(folder: Path, seed: int = 0) -> Any:
    return running(Context(folder / str(seed), folder / "scratch", seed=seed))


def made(folder: Path, seed: int = 0, **knobs: Any) -> pl.DataFrame:
    with at(folder, seed):
        return pl.concat(Episodes(**knobs)().frames())


def parsed(text: str) -> list[tuple[str, str, str]]:
    """(topic, thing, its chain or nothing) of each question of an episode."""
    found = []
    for piece in text.replace("Why?\n", "").split("\n\n"):
        match = SHOWN.match(piece)
        assert match, piece
        options = dict(line.split(". ") for line in match[2].strip().split("\n"))
        assert len(set(options.values())) == 4
        assert match[3] in (None, f"{match[1]} {options[match[4]]} {match[4]}"), (
            "the chain says what the topic stands for, and where that is"
        )
        found.append((match[1], options[match[4]], match[3] or ""))
    return found


def test_an_episode_is_of_one_world_and_the_next_of_another(tmp_path: Path) -> None:
    things: dict[str, set[str]] = {}
    for text in made(tmp_path, documents=400)["text"]:
        world: dict[str, str] = {}
        for topic, thing, _ in parsed(text):
            assert world.setdefault(topic, thing) == thing
            things.setdefault(topic, set()).add(thing)
    assert len(things) == 16
    assert all(len(of) > 5 for of in things.values())


def test_shares_are_as_asked(tmp_path: Path) -> None:
    texts = [parsed(text) for text in made(tmp_path, documents=4000, related=0.25, chains=0.3)["text"]]
    sizes = Counter(len(text) - 1 for text in texts)
    assert set(sizes) == set(range(6))
    assert all(abs(count - 4000 / 6) < 4 * (4000 * 5 / 36) ** 0.5 for count in sizes.values())
    assert abs(sum(bool(text[-1][2]) for text in texts) - 1200) < 4 * (4000 * 0.21) ** 0.5
    like = [topic == text[-1][0] for text in texts for topic, _, _ in text[:-1]]
    expected = 0.25 + 0.75 / 16
    assert abs(sum(like) / len(like) - expected) < 4 * (expected / len(like)) ** 0.5


def test_what_is_given_and_what_is_learned_make_the_whole(tmp_path: Path) -> None:
    whole = made(tmp_path / "1", documents=60)
    cut = made(tmp_path / "2", documents=60, given=True)
    assert (cut["question"] + cut["text"]).to_list() == whole["text"].to_list()
    for question, answer in cut.select("question", "text").iter_rows():
        if question.endswith("Why?"):
            assert re.fullmatch(r"\nSo \w+ \w+ ([A-D])\nAnswer: \[\1\]", answer)
        else:
            assert question.endswith("\nAnswer:")
            assert re.fullmatch(r" [A-D]", answer)
    assert not whole.equals(made(tmp_path / "3", seed=1, documents=60))


def test_rules_are_one_world_in_two_parts(tmp_path: Path) -> None:
    with at(tmp_path):
        parts = Rules(known=100, asked=300)()
    assert parts.held_out is not None
    known, asked = parts.train.frame(), parts.held_out.frame()
    assert (known.height, asked.height) == (100, 300)
    both = pl.concat([known, asked])
    assert both["question"].n_unique() == 400
    assert both.group_by("topic").agg(pl.col("answer").n_unique())["answer"].to_list() == [1] * 16
    places = Counter(row["options"].index(row["answer"]) for row in both.to_dicts())
    assert all(abs(count - 100) < 4 * 75**0.5 for count in places.values())
    first = choosing.items(parts.train, "question", "options", "answer")[0]
    assert SHOWN.match(choosing.solved(first, choosing.same(first), "", False))
    with at(tmp_path, 1):
        other = Rules(known=100, asked=300)().train.frame()
    answers = [dict(frame.select("topic", "answer").unique().iter_rows()) for frame in (known, other)]
    assert any(answers[0][topic] != answers[1][topic] for topic in answers[0].keys() & answers[1].keys())


def test_too_much_is_said_before_anything_runs() -> None:
    with pytest.raises(ValidationError, match="300 questions are wanted, but 2 topics give 200"):
        Rules(known=100, asked=200, topics=2)
    with pytest.raises(ValidationError, match="3 things, too few for 4 options"):
        Rules(things=3)
    with pytest.raises(ValidationError, match="3 things, too few for 4 options"):
        Episodes(things=3)
