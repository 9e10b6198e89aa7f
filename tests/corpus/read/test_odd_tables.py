"""Tables as people have them: an index without a name, identifiers as labels, rows that are all alike, infinite labels."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import ValidationError

from paredown.core.context import Context, running
from paredown.core.errors import DataError
from paredown.corpus.read.tables import Tables


def read(folder: Path, text: str, **knobs: object) -> None:
    folder.mkdir(parents=True)
    (folder / "t.csv").write_text(text)
    with running(Context(folder / "out", folder / "scratch")):
        Tables(path=str(folder / "t.csv"), **knobs)()  # type: ignore[arg-type]


def test_a_column_without_a_name_is_refused_and_can_be_left_out(tmp_path: Path) -> None:
    text = "age,,target\n" + "".join(f"{n}.5,{n},{n % 2}\n" for n in range(20))
    with pytest.raises(DataError, match="column 2 of the table has no name") as caught:
        read(tmp_path / "a", text)
    assert 'drop: [""]' in caught.value.todo
    read(tmp_path / "b", text, drop=("",))


def test_an_infinite_label_is_no_class(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="the label target is infinite"):
        read(tmp_path / "a", "age,target\n1,inf\n2,0\n3,1\n")


def test_why_nothing_can_be_held_out_is_said(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"30 rows \(30 different ones with 30 labels\) are too few"):
        read(tmp_path / "a", "age,target\n" + "".join(f"{n}.5,name{n}\n" for n in range(30)))
    with pytest.raises(DataError, match=r"40 rows \(1 different ones with 2 labels\) are too few"):
        read(tmp_path / "b", "age,target\n" + "".join(f"7,{n % 2}\n" for n in range(40)))


@pytest.mark.parametrize("knobs", [{"columns": {"kind": "cat"}}, {"drop": ("kind",)}])
def test_the_label_is_no_column(knobs: dict[str, object]) -> None:
    with pytest.raises(ValidationError, match="kind is the label"):
        Tables(dataset="iris", target="kind", **knobs)  # type: ignore[arg-type]
