"""What parses stays; what does not falls with the reason, however deep or odd it is."""

from __future__ import annotations

import inspect
import textwrap
from pathlib import Path

import polars as pl
import pytest

from paredown.artifacts.corpus import Corpus
from paredown.core.context import Context, running
from paredown.corpus.clean.python_syntax import PythonSyntax, fault, judge

CASES = {
    "": None,
    "x = 1": None,
    "# only a comment": None,
    "\ttabs = 'at the start'": "does_not_parse",
    "if x:\n\ty\n        z": "does_not_parse",  # tabs and blanks mixed
    "def f(:\n": "does_not_parse",
    "print 'two'": "does_not_parse",
    "'never closed": "does_not_parse",
    "return": None,  # outside of a function: the compiler's matter, not the parser's
    "'\\d odd escape'": None,
    "é = 'ünïcode' # 汉字 \U0001f600": None,
    "x = \u20ac": "does_not_parse",
    "\ufeffx = 1": "does_not_parse",  # a mark of the file, which readers take away
    "a\r\nb\rc\n": None,
    "\0": "nul_characters",
    "x = 1\n# \0": "nul_characters",
    "def f(:\n\0": "nul_characters",
    "x = " + "9" * 5000: "does_not_parse",
    "# coding: utf-7\nx = '+AGE-'": None,
    "# coding: no-such-coding\nx = 1": None,
}
DEEP = {
    "minus": "-" * 100_000 + "1",
    "attributes": "a" + ".b" * 100_000,
    "sums": "1" + "+1" * 100_000,
    "not": "not " * 50_000 + "1",
    "lambda": "lambda: " * 50_000 + "1",
    "calls": "f" + "()" * 100_000,
    "else": "if a:\n pass\n" + "elif a:\n pass\n" * 20_000,
}


@pytest.mark.parametrize("text", CASES, ids=lambda text: repr(text[:30]))
def test_each_fault(text: str) -> None:
    assert fault(text) == CASES[text]


@pytest.mark.parametrize("name", DEEP)
def test_deep_nesting_is_a_reason_and_no_crash(name: str) -> None:
    assert fault(DEEP[name]) == "nested_too_deep"


def test_brackets_too_deep_for_the_parser() -> None:
    assert fault("(" * 100_000) == "does_not_parse"
    assert fault("[" * 20 + "]" * 20) is None


def test_source_that_runs_is_kept_and_nothing_is_printed(capfd: pytest.CaptureFixture[str], recwarn: pytest.WarningsRecorder) -> None:
    assert fault(inspect.getsource(textwrap)) is None
    assert fault("x = '\\q' is 1\nassert (1, 2)") is None
    assert capfd.readouterr() == ("", "")
    assert len(recwarn) == 0


def test_a_judge_of_frames_equals_one_of_texts() -> None:
    texts = [*CASES, *DEEP.values()]
    assert judge(pl.DataFrame({"text": texts})).to_list() == [fault(text) for text in texts]
    assert judge(pl.DataFrame({"text": []}, schema={"text": pl.String})).dtype == pl.String


def test_strategy_keeps_and_rejects_with_reasons(tmp_path: Path) -> None:
    corpus = Corpus.from_texts(tmp_path / "in", ["x = 1\n", "x = ", "é \0", DEEP["minus"], "", "y = "])
    (tmp_path / "scratch").mkdir()
    with running(Context(tmp_path / "out", tmp_path / "scratch")) as step:
        made = PythonSyntax(keep_rejected=True)(corpus)
    assert made.rejected is not None
    assert pl.concat(made.kept.frames())["id"].to_list() == ["0", "4"]
    assert pl.concat(made.rejected.frames()).select("id", "reason").rows() == [
        ("1", "does_not_parse"),
        ("2", "nul_characters"),
        ("3", "nested_too_deep"),
        ("5", "does_not_parse"),
    ]
    assert step.dropped == {"does_not_parse": [2, 8, 0], "nul_characters": [1, 4, 0], "nested_too_deep": [1, 100_001, 0]}
    assert PythonSyntax()(corpus).rejected is None
