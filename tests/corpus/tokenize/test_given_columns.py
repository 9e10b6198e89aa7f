"""What stands before a text: another column than the text itself, and something in every document."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest
from pydantic import ValidationError

from paredown.artifacts.corpus import Corpus
from paredown.core.context import Context, running
from paredown.core.errors import DataError
from paredown.corpus.read.arithmetic import Arithmetic
from paredown.corpus.read.sums import Sums
from paredown.corpus.tokenize.bpe import Bpe
from paredown.corpus.tokenize.encode import Encode


def test_the_text_does_not_stand_before_itself() -> None:
    with pytest.raises(ValidationError, match="name the column that stands before it"):
        Encode(given="text")


def test_a_question_that_is_missing_is_named(tmp_path: Path) -> None:
    frame = pl.DataFrame({"id": ["a", "b"], "text": [" 2", " 4"], "question": ["1+1=", None]})
    corpus = Corpus.write(tmp_path / "corpus", [frame])
    with running(Context(tmp_path / "bpe", tmp_path / "s")):
        tokenizer = Bpe()(corpus).tokenizer
    with running(Context(tmp_path / "out", tmp_path / "t")), pytest.raises(DataError, match="question of a document is missing") as caught:
        Encode(given="question")(corpus, tokenizer)
    assert caught.value.where == "document b"


def test_generated_data_know_what_they_can_make() -> None:
    with pytest.raises(ValidationError):
        Sums(count=8_000_001)
    with pytest.raises(ValidationError):
        Arithmetic(kinds={})
