"""Runs from files: every format gives the same, and each bad value is named with its row and column."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest

from paredown.core.errors import DataError, UserError
from paredown.engines.scaling_laws import Run
from paredown.engines.scaling_tables import read_runs

ROWS = [
    {"params": 1e6, "tokens": 2e7, "loss": 3.25, "average_params": None, "name": "a"},
    {"params": 4e6, "tokens": 1e8, "loss": 2.5, "average_params": 3e6, "name": "b"},
]
RUNS = [Run(1e6, 2e7, 3.25), Run(4e6, 1e8, 2.5, 3e6)]


def test_every_format_gives_the_same_runs(tmp_path: Path) -> None:
    frame = pl.DataFrame(ROWS)
    frame.write_csv(tmp_path / "runs.csv")
    frame.write_csv(tmp_path / "runs.tsv", separator="\t")
    frame.write_parquet(tmp_path / "runs.parquet")
    frame.write_ndjson(tmp_path / "runs.jsonl")
    for name in ("runs.csv", "runs.tsv", "runs.parquet", "runs.jsonl"):
        assert read_runs(tmp_path / name) == RUNS, name


def test_headings_in_capitals_and_with_blanks(tmp_path: Path) -> None:
    (tmp_path / "r.csv").write_text("Params, tokens ,LOSS\n1e6,2e7, 3.25\n 4_000_000,1E8,2.5\n")
    assert read_runs(tmp_path / "r.csv") == [Run(1e6, 2e7, 3.25), Run(4e6, 1e8, 2.5)]


def test_every_bad_value_is_named(tmp_path: Path) -> None:
    (tmp_path / "r.csv").write_text("params,tokens,loss\n1e6,2e7,3.2\n1e6,many,3.2\n0,2e7,nan\n1e6,,3.2\n1e6,2e7,-1\n1e6,inf,3\n")
    with pytest.raises(DataError) as caught:
        read_runs(tmp_path / "r.csv")
    assert caught.value.what.splitlines() == [
        "6 values of r.csv are no number above zero",
        "  row 2, column tokens: 'many' is no number",
        "  row 3, column params: 0 is not above zero",
        "  row 3, column loss: nan is no finite number",
        "  row 4, column tokens: missing",
        "  row 5, column loss: -1 is not above zero",
        "  row 6, column tokens: inf is no finite number",
    ]


def test_what_is_no_number_in_typed_files(tmp_path: Path) -> None:
    pl.DataFrame({"params": [1, 2], "tokens": [True, False], "loss": [None, 2.0]}).write_parquet(tmp_path / "r.parquet")
    with pytest.raises(DataError, match="row 1, column tokens: True is no finite number") as caught:
        read_runs(tmp_path / "r.parquet")
    assert "row 1, column loss: missing" in caught.value.what
    (tmp_path / "r.jsonl").write_text('{"params": 1, "tokens": 2, "loss": [1]}\n')
    with pytest.raises(DataError, match="column loss"):
        read_runs(tmp_path / "r.jsonl")


def test_many_bad_values_fit_one_screen(tmp_path: Path) -> None:
    (tmp_path / "r.csv").write_text("params,tokens,loss\n" + "x,y,z\n" * 100)
    with pytest.raises(DataError) as caught:
        read_runs(tmp_path / "r.csv")
    assert "and 286 more" in caught.value.what
    assert len(str(caught.value).splitlines()) <= 20


@pytest.mark.parametrize(
    ("name", "content", "kind", "says"),
    [
        ("r.csv", "", DataError, "r.csv is empty"),
        ("r.csv", "params,tokens,loss\n", DataError, "holds no runs"),
        ("r.csv", "params,token,loss\n1,2,3\n", DataError, "has no column tokens; there are params, token, loss"),
        ("r.csv", "a,b\n1,2\n", DataError, "no column params and no column tokens and no column loss"),
        ("r.csv", "params,tokens,loss\n1,2,3\n1,2,3,4,5\n", DataError, "cannot be read as csv"),
        ("r.csv", b"params,tokens,loss\n1,2,\xff\n", DataError, "cannot be read as csv"),
        ("r.parquet", "no parquet", DataError, "cannot be read as parquet"),
        ("r.jsonl", "no json\n", DataError, "cannot be read as jsonl"),
        ("r.xlsx", "", UserError, "runs are read from .csv"),
    ],
)
def test_files_that_cannot_be_read(tmp_path: Path, name: str, content: str | bytes, kind: type[Exception], says: str) -> None:
    path = tmp_path / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(kind) as caught:
        read_runs(path)
    assert says in str(caught.value)


def test_no_such_file(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such file"):
        read_runs(tmp_path / "nowhere.csv")
    (tmp_path / "folder.csv").mkdir()
    with pytest.raises((UserError, DataError)):
        read_runs(tmp_path / "folder.csv")
