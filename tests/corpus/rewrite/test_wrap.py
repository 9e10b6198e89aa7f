"""WRAP: passages lay end to end, answers are stripped and judged, every passage knows its source, nothing is asked twice."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError
from scripted import ASKED, scripted

from paredown.artifacts.corpus import Corpus
from paredown.core.context import Context, running
from paredown.core.errors import DataError
from paredown.corpus.rewrite.wrap import PROMPTS, Rewritten, Wrap, bare, reason
from paredown.engines.generator import Question, Sampling
from paredown.engines.passages import passages, words

LONG = "\n\n".join(f"Paragraph {i} begins. " + " ".join(f"Sentence {j} of it says {j * i}." for j in range(9)) for i in range(12))


@given(st.text(alphabet='ab .!?\n\t"ü', max_size=400), st.integers(1, 20))
def test_passages_are_the_text_and_keep_to_the_bound(text: str, most: int) -> None:
    found = passages(text, most)
    assert "".join(found) == text
    assert all(words(piece) <= most for piece in found)


def test_passages_end_where_paragraphs_or_sentences_do() -> None:
    found = passages(LONG, 60)
    assert "".join(found) == LONG
    assert all(piece.startswith("Paragraph") for piece in found)
    shorter = passages(LONG, 12)
    assert all(piece.rstrip().endswith(".") for piece in shorter)
    assert len(passages(LONG, 10_000)) == 1


@pytest.mark.parametrize(
    ("text", "style", "left"),
    [
        ("Here is a paraphrase of the text: The cat sat.", "medium", "The cat sat."),
        ("Sure! Here's the rewritten version:\n\nThe cat sat.", "easy", "The cat sat."),
        ("The cat sat.\n\nLet me know if you need anything else!", "hard", "The cat sat."),
        ("Question: who sat?\nAnswer: the cat", "qa", "Question: who sat?\nAnswer: the cat"),
        ("Here are some questions:\nQuestion: who?\nAnswer: it", "qa", "Question: who?\nAnswer: it"),
        ("Here lies a cat that was: grey.", "medium", "Here lies a cat that was: grey."),
        ("", "medium", ""),
    ],
)
def test_what_a_model_says_about_its_answer_goes(text: str, style: str, left: str) -> None:
    assert bare(text, style) == left


def test_reasons() -> None:
    source = "one two three four five six"
    assert reason(source, "", 0.3, 3) == "empty"
    assert reason(source, "one  two three\nfour five six", 0.3, 3) == "unchanged"
    assert reason(source, "one", 0.3, 3) == "too short"
    assert reason(source, "word " * 19, 0.3, 3) == "too long"
    assert reason(source, "word " * 18, 0.3, 3) is None


def rewrite(folder: Path, answerer: Any, texts: list[str], **knobs: Any) -> tuple[Rewritten, Context]:
    step = Context(folder / "out", folder / "scratch", seed=0)
    step.scratch.mkdir(parents=True, exist_ok=True)
    with running(step):
        return Wrap(**knobs)(Corpus.from_texts(folder / "c", texts), answerer), step


def shouts(question: Question, sampling: Sampling) -> str:
    text = question.prompt[0][1].split("\n\n", 1)[1]
    if "7" in text:
        return "Here is the paraphrase: "
    return f"Here is the paraphrase: {text.upper()}"


def test_every_document_names_its_source_and_every_passage_its_reason(tmp_path: Path) -> None:
    texts = ["alpha beta gamma delta epsilon zeta", "tiny", LONG, "seven is 7 and more words here"]
    made, step = rewrite(tmp_path, scripted(shouts), texts, styles=("medium", "easy"), most_words=60)
    frame = next(iter(made.documents.frames()))
    assert set(frame.columns) == {"id", "text", "source", "style"}
    assert frame.filter(source="0")["text"].to_list() == [texts[0].upper()] * 2
    table = made.passages.frame()
    assert table.group_by("source", "passage", "style").len()["len"].max() == 1, "a passage once a style"
    assert "1" not in set(table["source"])
    for source, before in table.select("source", "before").iter_rows():
        assert before in texts[int(source)], "no passage crosses documents"
    for source, style in frame.select("source", "style").iter_rows():
        kept = table.filter((table["source"] == source) & (table["style"] == style) & table["reason"].is_null())
        assert frame.filter(source=source, style=style)["text"].item() == "\n\n".join(kept["after"])
        assert all(before in texts[int(source)] for before in kept["before"])
    assert step.dropped["empty"][0] == table["reason"].is_not_null().sum() > 0
    assert {question.prompt[0][1].split("\n\n")[0] for question, _ in ASKED} == {PROMPTS["medium"], PROMPTS["easy"]}


def test_the_same_is_asked_once_and_comes_from_the_store(tmp_path: Path) -> None:
    answerer = scripted(shouts)
    one, _ = rewrite(tmp_path / "a", answerer, ["some words that are there", "some words that are there"])
    assert len(ASKED) == 1
    with running(Context(tmp_path / "b", tmp_path / "a" / "scratch", seed=0)):
        two = Wrap()(Corpus.from_texts(tmp_path / "c", ["some words that are there"]), answerer)
    assert len(ASKED) == 1
    assert next(iter(one.documents.frames()))["text"][0] == next(iter(two.documents.frames()))["text"][0]


def test_another_style_seed_or_model_is_asked_anew(tmp_path: Path) -> None:
    (tmp_path / "scratch").mkdir()

    def asked(name: str, answerer: Any, seed: int = 0, **knobs: Any) -> int:
        before = len(ASKED)
        with running(Context(tmp_path / name, tmp_path / "scratch", seed=seed)):
            Wrap(**knobs)(Corpus.from_texts(tmp_path / f"corpus {name}", ["some words that are there"]), answerer)
        return len(ASKED) - before

    answerer = scripted(shouts)
    assert [asked("a", answerer), asked("b", answerer)] == [1, 0]
    assert asked("c", answerer, styles=("easy",)) == 1
    assert asked("d", answerer, seed=1) == 1
    assert asked("e", answerer, styles=("easy", "medium")) == 0
    assert asked("f", answerer, temperature=0.5) == 1
    assert asked("g", scripted(shouts)) == 1


def test_mistakes(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no passage has 5 words"):
        rewrite(tmp_path, scripted(shouts), ["a b"])
    with pytest.raises(ValidationError, match="shortest"):
        Wrap(shortest=2, longest=1)
