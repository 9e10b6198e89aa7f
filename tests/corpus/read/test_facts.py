"""Facts about towns: pages say what they are said to say, names stay apart under a slip, and what is measured on is not what is read."""

from __future__ import annotations

import re
from pathlib import Path
from random import Random
from typing import Any

import polars as pl
import pytest
from rapidfuzz import process
from rapidfuzz.distance import DamerauLevenshtein

from paredown.artifacts.corpus import Corpus
from paredown.core.context import Context, running
from paredown.corpus.read.facts import Facts, FactWorld
from paredown.engines.fact_language import BY_NOUN, HELD_OUT_QUESTIONS, QUESTIONS, RELATIONS, Fact, dictionary, names
from paredown.engines.fact_pages import Manner, page, slips


def made(folder: Path, seed: int = 0, **knobs: Any) -> FactWorld:
    with running(Context(folder / str(seed), folder / "scratch", seed=seed)):
        return Facts(**{"names": 30, "documents": 300, "held_out": 60, **knobs})()


def frame(corpus: Corpus) -> pl.DataFrame:
    return pl.concat(corpus.frames())


def test_no_slip_makes_one_word_of_another() -> None:
    words = dictionary(1000)
    assert len(set(names(1000))) == 1000
    longer = [word for word in words if len(word) > 3]
    near = process.cdist(longer, longer, scorer=DamerauLevenshtein.distance, score_cutoff=1)
    assert [(longer[a], longer[b]) for a, b in zip(*((near <= 1).nonzero()), strict=True) if a < b] == []
    assert all(len(set(relation.values)) == 24 for relation in RELATIONS)
    with pytest.raises(ValueError, match="28,125 names"):
        names(30_000)


def test_clean_pages_tell_their_facts_and_all_pages_the_facts_of_one_world(tmp_path: Path) -> None:
    world = made(tmp_path)
    table = world.questions.frame()
    assert table.height == 30 * len(RELATIONS)
    true = {f"{name} {noun} {answer}" for name, noun, answer in table.select("name", "noun", "answer").iter_rows()}
    for corpus in (world.pages, world.clean, world.messy):
        assert all(set(facts) <= true and 3 <= len(facts) <= 6 for facts in frame(corpus)["facts"])
    for text, facts in frame(world.clean).select("text", "facts").iter_rows():
        low = text.lower()
        assert all(fact.split()[0] in low and fact.split()[2] in low for fact in facts)
        assert not re.search(r"[<>&|]", text)
    assert len({fact for facts in frame(world.pages)["facts"] for fact in facts}) == len(true), "every fact can be learnt"
    assert all(answer in BY_NOUN[noun].values for noun, answer in table.select("noun", "answer").iter_rows())


def test_held_out_pages_and_questions_are_in_no_page(tmp_path: Path) -> None:
    world = made(tmp_path, typos=0.0)
    pages = frame(world.pages)
    assert not set(pages["text"]) & (set(frame(world.messy)["text"]) | set(frame(world.clean)["text"]))
    assert not set(pages["id"]) & set(frame(world.messy)["id"])
    text = "\n".join(pages["text"]).lower()
    pattern = "|".join(form.replace("{noun}", r"\w+").replace("{name}", r"\w+") for form in HELD_OUT_QUESTIONS)
    assert not re.search(pattern, text)
    asked = [len(re.findall(form.replace("{noun}", r"\w+").replace("{name}", r"\w+"), re.sub("<.*?>", "", text))) for form in QUESTIONS]
    assert min(asked) > 0, "but what a question is can be learnt"
    questions = world.questions.frame()
    assert all(re.search(pattern, question.lower()) for question in questions["question"])
    one = questions.row(0, named=True)
    assert one["answer"] not in one["statement"]
    assert re.search(r" (is|has)$|lives on$|teaches$", one["statement"])
    documents = frame(world.asked)
    assert documents["question"].to_list() == questions["question"].to_list()
    assert documents["text"].to_list() == [f" {answer}" for answer in questions["answer"]]


def test_words_are_misspelt_in_the_share_that_was_asked() -> None:
    words = ["crimson", "harvest", "emblem", "teaches", "quilting", "babama"] * 2000
    written = slips(" ".join(words), Manner(0.08, 0.0, 0.0), Random(0)).split()
    changed = [(a, b) for a, b in zip(words, written, strict=True) if a != b]
    assert all(DamerauLevenshtein.distance(a, b) == 1 for a, b in changed)
    assert 0.07 < len(changed) / len(words) < 0.081, "a slip may leave a word as it is, where two letters are the same"
    assert slips("as it stands", Manner(0.0, 0.0, 0.0), Random(0)) == "as it stands"


def test_the_same_seed_gives_the_same_world(tmp_path: Path) -> None:
    assert frame(made(tmp_path / "a").pages).equals(frame(made(tmp_path / "b").pages))
    assert not frame(made(tmp_path / "a2").pages).equals(frame(made(tmp_path / "b2", seed=1).pages))


def test_a_clean_page_has_a_mark_behind_every_sentence() -> None:
    facts = [Fact("babama", "flag", "amber"), Fact("babama", "tree", "aspen"), Fact("bobama", "craft", "baking")]
    for seed in range(50):
        text = page(facts, Manner(0.08, 0.0, 0.0), Random(seed), clean=True)
        assert all(part.endswith(".") for part in text.split("\n\n"))
