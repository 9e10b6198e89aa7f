"""Examples on disk: what is written comes back, as polars and as numpy; bytes, samples and damage."""

from __future__ import annotations

import json
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow.parquet
import pytest

from paredown.artifacts.examples import Examples
from paredown.core.errors import DataError

KINDS = [pl.Int8, pl.Int16, pl.Int32, pl.Int64, pl.UInt8, pl.UInt16, pl.UInt32, pl.UInt64, pl.Float32, pl.Float64]


def values(kind: Any, rows: int, *shape: int) -> np.ndarray[Any, Any]:
    """Any bit patterns of a number format but NaN and infinities."""
    found = pl.Series([], dtype=kind).to_numpy().dtype
    drawn = np.random.default_rng(0).integers(0, 256, (rows, *shape, found.itemsize), dtype=np.uint8).view(found)[..., 0]
    return np.where(np.isfinite(drawn), drawn, 0).astype(found)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("shape", [(6,), (1,), (2, 3), (3, 2, 2)])
@pytest.mark.parametrize("rows", [0, 1, 7])
def test_arrays_come_back_as_polars_and_as_numpy(tmp_path: Path, kind: Any, shape: tuple[int, ...], rows: int) -> None:
    given = values(kind, rows, *shape)
    frame = pl.DataFrame({"n": range(rows), "x": pl.Series(given, dtype=pl.Array(kind, shape))}, schema_overrides={"n": pl.Int64})
    made = Examples.write(tmp_path, frame)
    assert made.frame().equals(frame)
    assert made.frame().schema == frame.schema
    assert made.rows == rows
    found = made.arrays()
    assert list(found) == ["n", "x"]
    assert found["x"].dtype == given.dtype
    assert found["x"].shape == (rows, *shape)
    assert found["x"].tobytes() == given.tobytes()


def test_other_columns_and_their_order_stay(tmp_path: Path) -> None:
    frame = pl.DataFrame(
        {
            "text": ["a", "é"],
            "x": pl.Series([[1, 2], [3, 4]], dtype=pl.Array(pl.UInt8, 2)),
            "flags": pl.Series([[True, False], [False, False]], dtype=pl.Array(pl.Boolean, 2)),
            "kind": pl.Series(["a", "b"], dtype=pl.Enum(["a", "b"])),
            "day": [date(2020, 1, 1), None],
            "blob": [b"\0\1", b""],
            "wide": pl.Series([[1, 2], [3, 4]], dtype=pl.Array(pl.Int128, 2)),
            "none": pl.Series([[], []], dtype=pl.Array(pl.UInt8, 0)),
            "list": [[1], [2, 3]],
        }
    )
    made = Examples.write(tmp_path, frame)
    assert made.frame().equals(frame)
    assert made.frame().schema == frame.schema


@pytest.mark.parametrize("x", [[[1.0, None], [2, 3]], [None, [2.0, 3]]], ids=["a number", "a row"])
def test_what_is_missing_is_neither_lost_nor_learned_from(tmp_path: Path, x: list[Any]) -> None:
    frame = pl.DataFrame({"x": pl.Series(x, dtype=pl.Array(pl.Float32, 2))})
    made = Examples.write(tmp_path, frame)
    assert made.frame().equals(frame)
    with pytest.raises(DataError, match=r"x (is missing in|of) row 0"):
        made.arrays()


def test_numbers_that_are_none_are_named(tmp_path: Path) -> None:
    x = np.zeros((5, 2, 2), np.float32)
    x[3, 1, 0] = np.nan
    made = Examples.write(tmp_path, pl.DataFrame({"x": pl.Series(x)}))
    assert np.isnan(made.frame()["x"].to_numpy()[3, 1, 0])
    with pytest.raises(DataError, match="x of row 3 is no finite number"):
        made.arrays()


def test_the_same_bytes_whatever_the_chunks(tmp_path: Path) -> None:
    frame = pl.DataFrame({"x": pl.Series(values(pl.UInt8, 90, 1, 8, 8)), "label": range(90)})
    parts = pl.concat([frame[:30], frame[30:31], frame[31:]], rechunk=False)
    one, two = Examples.write(tmp_path / "1", frame), Examples.write(tmp_path / "2", parts)
    picked = Examples.write(tmp_path / "3", pl.concat([frame, frame]).filter(pl.Series([True, False] * 90)))
    assert one.file("examples.parquet").read_bytes() == two.file("examples.parquet").read_bytes()
    assert picked.arrays()["x"].tobytes() == np.concatenate([frame["x"].to_numpy()] * 2)[::2].tobytes()


def test_rows_are_bytes_in_the_file_and_nested_lists_of_earlier_files_are_read(tmp_path: Path) -> None:
    frame = pl.DataFrame({"x": pl.Series(values(pl.Int16, 4, 2, 3))})
    path = Examples.write(tmp_path / "new", frame).file("examples.parquet")
    plain = pyarrow.parquet.read_table(path)
    assert [row.as_py() for row in plain["x"]] == [row.tobytes() for row in frame["x"].to_numpy()]
    assert json.loads(pyarrow.parquet.read_metadata(path).metadata[b"paredown.arrays"]) == {"x": {"shape": [2, 3], "dtype": "<i2"}}
    (tmp_path / "old").mkdir()
    frame.write_parquet(tmp_path / "old" / "examples.parquet")
    old = Examples(tmp_path / "old")
    assert old.frame().equals(frame)
    assert (old.arrays()["x"] == frame["x"].to_numpy()).all()
    assert old.samples(1) == [{"x": "x 2x3 of int16"}]


def test_rows_of_another_size_are_refused(tmp_path: Path) -> None:
    about = json.dumps({"x": {"shape": [2], "dtype": "|u1"}})
    for number, wrong in enumerate([[b"ab", b"c"], [b"a", b"bcd"], [b"ab", None]]):
        made = Examples(tmp_path / str(number))
        made.path.mkdir()
        pl.DataFrame({"x": wrong}).write_parquet(made.path / "examples.parquet", metadata={"paredown.arrays": about})
        for read in (made.frame, made.arrays):
            with pytest.raises(DataError, match="x "):
                read()


def test_samples_are_short_json(tmp_path: Path) -> None:
    frame = pl.DataFrame(
        {
            "image": pl.Series(values(pl.UInt8, 9, 1, 8, 8)),
            "prompt": [f"text {i}" for i in range(9)],
            "features": pl.Series(values(pl.Float64, 9, 6)),
            "ids": [list(range(10 * i)) for i in range(9)],
            "score": [float("nan"), *range(8)],
            "day": [date(2020, 1, 1)] * 9,
            "reference": [None, *"abcdefgh"],
        },
        strict=False,
    )
    found = Examples.write(tmp_path, frame).samples(3)
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    same = {"image": "image 1x8x8 of bytes", "features": "features 6 of float64", "day": "2020-01-01"}
    assert found == [
        {**same, "prompt": "text 0", "ids": [], "score": None, "reference": None},
        {**same, "prompt": "text 1", "ids": list(range(10)), "score": 0.0, "reference": "a"},
        {**same, "prompt": "text 2", "ids": "ids of 20 items", "score": 1.0, "reference": "b"},
    ]
    assert [list(row) for row in found] == [frame.columns] * 3
    assert len(Examples(tmp_path).samples(100)) == 9
    assert Examples(tmp_path).samples(0) == []
    assert Examples.write(tmp_path / "only", frame.select("image")).samples(2) == [{"image": "image 1x8x8 of bytes"}] * 2
