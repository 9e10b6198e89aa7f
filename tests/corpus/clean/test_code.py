"""Rules for source code on hand-made files, just inside and just outside of each threshold."""

from __future__ import annotations

import base64
import inspect
import textwrap
from pathlib import Path

import polars as pl
import pytest

from paredown.artifacts.corpus import Corpus
from paredown.core.context import Context, running
from paredown.corpus.clean.code import Code, code_reasons, code_statistics


def reason(text: str, **knobs: object) -> str | None:
    found: str | None = code_reasons(pl.Series([text]), Code(**knobs).knobs())[0]  # type: ignore[arg-type]
    return found


CASES = [
    ("max_mean_line", "a b " * 25 + "\n" + "a b " * 25, "a b " * 25 + "\n" + "a b " * 25 + "c\n"),
    ("max_line", ("a b " * 250) + "\n" + "\n" * 10, ("a b " * 250) + "c\n" + "\n" * 10),
    ("max_lines", "a.\n" * 100_000, "a.\n" * 100_000 + "b"),
    ("min_alphanumeric", "aé1 +++++++ ", "aé1 +++++++ +"),
    ("generated", "\n\n\n\n\n# Automatically Generated", "\n\n\n\n# by X, Automatically Generated"),
    ("max_encoded_run", "x " * 1100 + "a" * 1024, "x " * 1100 + "a" * 1025),
    ("max_encoded", "ab - " * 20 + "a" * 100, "ab - " * 20 + "a" * 102),
]
OFF: dict[str, object] = {"max_line": None, "max_mean_line": None}


@pytest.mark.parametrize(("rule", "passes", "falls"), CASES, ids=[case[0] for case in CASES])
def test_each_rule_just_inside_and_just_outside(rule: str, passes: str, falls: str) -> None:
    off = {name: None for name in OFF if name != rule}
    assert reason(passes, **off) is None
    assert reason(falls, **off) == rule


def test_statistics_equal_plain_python() -> None:
    texts = ["", "\n", "a_b é\n\nλx = 1\n", "no end", "\u2028\r\n", inspect.getsource(textwrap), "\U0001d518 1\n"]
    for text, row in zip(texts, code_statistics(pl.Series(texts)).to_dicts(), strict=True):
        lines = text.split("\n")
        lines = lines[:-1] if not lines[-1] else lines
        assert row["characters"] == len(text)
        assert row["lines"] == len(lines)
        assert row["line_characters"] == sum(map(len, lines))
        assert row["longest_line"] == max(map(len, lines), default=0)
        assert row["alphanumeric"] == sum(map(str.isalnum, text))


@pytest.mark.parametrize(
    "data",
    [
        base64.b64encode(bytes(range(256)) * 4).decode(),
        ",".join(f"0x{k % 256:02x}" for k in range(300)),
        "".join(f"\\u{k:04x}" for k in range(0x3000, 0x30C0)),
    ],
)
def test_encoded_content_is_found(data: str) -> None:
    wrapped = "data = '''\n" + "\n".join(data[k : k + 72] for k in range(0, len(data), 72)) + "\n'''\n"
    assert reason(wrapped) in {"max_encoded_run", "max_encoded"}


def test_ordinary_source_is_kept_and_odd_input_answered() -> None:
    assert reason(inspect.getsource(textwrap)) is None
    assert code_reasons(pl.Series(["", None, "\0", "é" * 5_000_000]), Code().knobs()).to_list() == [
        "min_alphanumeric",
        "min_alphanumeric",
        "min_alphanumeric",
        "max_mean_line",
    ]
    assert code_reasons(pl.Series([], dtype=pl.String), Code().knobs()).len() == 0


def test_strategy_keeps_and_rejects_with_reasons(tmp_path: Path) -> None:
    corpus = Corpus.from_texts(
        tmp_path / "in", [inspect.getsource(textwrap), "#!/bin/sh\n# auto-generated, do not edit\necho 1\n", "x" * 2000]
    )
    (tmp_path / "scratch").mkdir()
    with running(Context(folder=tmp_path / "out", scratch=tmp_path / "scratch")) as step:
        result = Code(keep_rejected=True)(corpus)
    assert result.kept.documents == 1
    assert result.rejected is not None
    assert pl.concat(result.rejected.frames())["reason"].to_list() == ["generated", "max_mean_line"]
    assert step.dropped == {"generated": [1, 47, 0], "max_mean_line": [1, 2000, 0]}
