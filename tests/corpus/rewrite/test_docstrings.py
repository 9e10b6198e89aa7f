"""Questions from docstrings: every public definition once, the first sentence exactly, and nothing from what is no Python."""

from __future__ import annotations

from pathlib import Path

from paredown.artifacts.corpus import Corpus
from paredown.core.context import Context, running
from paredown.corpus.rewrite.docstrings import Docstrings, questions

SOURCE = '''
class Pool:
    """Keeps workers at hand. They end with it."""

    def map(self, work, *items, size: int = 1):
        """Give every item
        to a worker

        In order.
        """

        def inner():
            """Never asked about this one."""

    def _hidden(self):
        """Not public and not asked."""

if True:
    async def fetch(url="a. b"):
        """Get a page."""

def bare(): ...

def short():
    """Too short."""
'''


def run(folder: Path, texts: list[str], **knobs: object) -> list[dict[str, str]]:
    with running(Context(folder / "out", folder / "scratch", seed=0)):
        made = Docstrings(**knobs)(Corpus.from_texts(folder / "corpus", texts))  # type: ignore[arg-type]
        return [row for frame in made.frames() for row in frame.to_dicts()]


def test_first_sentences_of_public_definitions_in_their_order() -> None:
    assert questions(SOURCE, 3) == [
        ("Question: What is Pool?\nAnswer:", " Keeps workers at hand.\n"),
        ("Question: What does Pool.map(self, work, *items, size: int=1) do?\nAnswer:", " Give every item to a worker.\n"),
        ("Question: What does fetch(url='a. b') do?\nAnswer:", " Get a page.\n"),
    ]
    assert len(questions(SOURCE, 2)) == 4
    assert questions("def broken(:\n", 1) == []
    assert questions("\0", 1) == []


def test_a_document_holds_all_its_questions_or_each_is_one_and_both_name_their_source(tmp_path: Path) -> None:
    (whole,) = run(tmp_path / "whole", [SOURCE, "x = 1\n", "no python at all"])
    apart = run(tmp_path / "apart", [SOURCE, "x = 1\n"], apart=True)
    assert [row["id"] for row in apart] == ["0#0", "0#1", "0#2"]
    assert {row["source"] for row in apart} == {whole["source"]} == {"0"}
    assert whole["text"] == "".join(row["question"] + row["text"] for row in apart)


def test_nothing_of_nothing_is_nothing(tmp_path: Path) -> None:
    assert run(tmp_path, []) == []
