"""Every source of the library is a document, or counted with a reason."""

from __future__ import annotations

import sys
import tokenize
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import polars as pl
import pytest
from pydantic import ValidationError

from paredown.core.context import Context, running
from paredown.corpus.read import stdlib
from paredown.corpus.read.stdlib import EXCLUDED, Stdlib, decode_source, library

SOURCES = {
    "a.py": b"x = 1\r\n",
    "b.py": b"\xef\xbb\xbfmark = 'gone'\n",
    "c.py": b"# -*- coding: latin-1 -*-\ncaf\xe9 = 1\n",
    "d.py": b"",
    "deep/er/e.py": "é = '汉'".encode(),
    "bad_bytes.py": b"caf\xe9 = 1\n",
    "bad_coding.py": b"# coding: no-such\n",
    "bad_codec.py": b"# coding: hex\n00",
    "bad_surrogate.py": b"# coding: unicode_escape\nx = '\\ud800'\n",
    "bad_nul.py": b"x = 1\0\n",
    "test/f.py": b"left = 'out'",
    "deep/tests/g.py": b"left = 'out'",
    "lib2to3/tests/h.py": b"left = 'out'",
    "latest/i.py": b"no = 'test'",
    "j.txt": b"no source",
}
READ = {
    "a.py": "x = 1\r\n", "b.py": "mark = 'gone'\n", "c.py": "# -*- coding: latin-1 -*-\ncafé = 1\n", "d.py": "", "deep/er/e.py": "é = '汉'",
    "latest/i.py": "no = 'test'",
}  # fmt: skip


@pytest.fixture
def made_library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    root = tmp_path / "library"
    for name, data in SOURCES.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(data)
    (root / "folder.py").mkdir()
    (root / "link.py").symlink_to(root / "nowhere.py")
    monkeypatch.setattr(stdlib, "library", lambda: root)
    return root


def read(folder: Path, **knobs: Any) -> SimpleNamespace:
    (folder / "scratch").mkdir(parents=True)
    with running(Context(folder / "out", folder / "scratch", None)) as here:
        made = Stdlib(keep_rejected=True, **knobs)()
    assert made.rejected is not None
    rejected = pl.concat(made.rejected.frames())
    assert dict(rejected["reason"].value_counts().iter_rows()) == {rule: row[0] for rule, row in here.dropped.items()}
    return SimpleNamespace(frame=pl.concat(made.documents.frames()), rejected=rejected, here=here, corpus=made.documents)


def test_every_file_of_the_library_is_a_document_or_has_a_reason(tmp_path: Path) -> None:
    got = read(tmp_path)
    expected = {
        path.relative_to(library()).as_posix()
        for path in library().rglob("*.py")
        if not set(path.relative_to(library()).parts[:-1]) & set(EXCLUDED)
    }
    names = [*got.frame["id"], *got.rejected["id"]]
    assert sorted(names) == sorted(expected)  # each once
    assert got.here.cost.documents == len(expected) > 300
    for name, text in got.frame.rows()[::40]:
        with tokenize.open(library() / name) as source:
            assert text.replace("\r\n", "\n").replace("\r", "\n") == source.read()


def test_a_made_library_is_read_to_the_byte(tmp_path: Path, made_library: Path) -> None:
    got = read(tmp_path)
    assert dict(got.frame.rows()) == READ
    assert got.frame["id"].to_list() == sorted(READ, key=lambda name: Path(name).parts)
    coding = "not decodable by its declared encoding"
    bad = {
        "bad_bytes.py": coding,
        "bad_coding.py": coding,
        "bad_codec.py": coding,
        "bad_surrogate.py": coding,
        "bad_nul.py": "NUL characters",
    }
    assert dict(got.rejected.select("id", "reason").rows()) == bad
    assert dict(got.rejected.select("id", "text").rows()) == {name: SOURCES[name].decode("latin-1") for name in bad}
    assert got.rejected["place"].to_list() == got.rejected["id"].to_list()
    assert got.here.dropped[coding][1] == sum(len(SOURCES[name]) for name in bad if name != "bad_nul.py")


def test_a_file_that_cannot_be_read_costs_itself_only(tmp_path: Path, made_library: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = Path.read_bytes

    def refuse(path: Path) -> bytes:
        if path.name == "c.py":
            raise PermissionError(13, "Permission denied", str(path))
        return whole(path)

    monkeypatch.setattr(Path, "read_bytes", refuse)
    got = read(tmp_path)
    assert set(got.frame["id"]) == set(READ) - {"c.py"}
    assert got.here.dropped["unreadable"] == [1, 0, 0]


def test_folders_to_leave_out(made_library: Path) -> None:
    def names(*exclude: str) -> set[str]:
        return {path.relative_to(made_library).as_posix() for path in Stdlib(exclude=exclude).files()}

    everything = {name for name in SOURCES if name.endswith(".py")}
    assert names() == everything
    assert names("deep/er") == everything - {"deep/er/e.py"}
    assert names("er", "tests") == everything - {"deep/er/e.py", "deep/tests/g.py", "lib2to3/tests/h.py"}
    assert names("a.py", "late") == everything


def test_a_limit_takes_that_many_spread_evenly() -> None:
    everything = Stdlib().files()
    for limit in (1, 20, 10**6):
        places = [everything.index(path) for path in Stdlib(limit=limit).files()]
        assert len(places) == min(limit, len(everything))
        steps = {after - before for before, after in pairwise(places)}
        assert not steps or 1 <= min(steps) <= max(steps) <= min(steps) + 1


def test_same_documents_twice_and_a_key_that_follows_the_files(tmp_path: Path, made_library: Path) -> None:
    assert read(tmp_path / "a").frame.equals(read(tmp_path / "b").frame)
    before = Stdlib().external()
    assert before == Stdlib().external()
    assert before[0] == sys.version
    (made_library / "a.py").write_bytes(b"x = 2 \r\n")
    assert Stdlib().external() != before


def test_shards_are_cut_by_size(tmp_path: Path, made_library: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stdlib, "SHARD_BYTES", 20)
    got = read(tmp_path)
    assert len(got.corpus.shards()) > 2
    assert dict(got.frame.rows()) == READ


def test_nothing_to_read(tmp_path: Path, made_library: Path) -> None:
    got = read(tmp_path, exclude=(".",))
    assert (got.frame.height, got.rejected.height, got.frame.columns) == (0, 0, ["id", "text"])
    with pytest.raises(ValueError, match="not decodable"):
        decode_source(b"\xff\xfe")
    with pytest.raises(ValidationError):
        Stdlib(limit=-1)
