"""Every format, and everything that can be wrong with one; documents and rejected rows add up to what was there."""

from __future__ import annotations

import gzip
import json
import os
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import polars as pl
import pyarrow
import pytest

from paredown.core.context import Context, Engine, running
from paredown.core.errors import MissingExtra, UserError
from paredown.corpus.read.files import Files
from paredown.engines import formats, reading

ROWS = [{"id": f"n{i}", "text": f"text number {i} — ünïcode \u0000 {i * 7}", "stars": i} for i in range(50)]


def read(folder: Path, processes: int = 1, **knobs: Any) -> SimpleNamespace:
    scratch = folder / "scratch"
    scratch.mkdir(parents=True, exist_ok=True)
    step = Context(folder=folder / "out", scratch=scratch, engine=Engine(processes=processes))
    with running(step):
        made = Files(keep_rejected=True, **knobs)()
    frames = list(made.documents.frames())
    assert made.rejected is not None
    bad = pl.concat(list(made.rejected.frames()))
    documents = pl.concat(frames)
    assert documents.height == made.documents.documents
    counts = {rule: row[0] for rule, row in step.dropped.items()}
    assert dict(bad["reason"].value_counts().iter_rows()) == counts
    return SimpleNamespace(frame=documents, bad=bad, counts=counts, shards=len(frames), path=made.documents.path)


def jsonl(path: Path, rows: list[dict[str, Any]]) -> bytes:
    data = b"".join(json.dumps(row).encode() + b"\n" for row in rows)
    path.write_bytes(data)
    return data


@pytest.mark.parametrize("ending", ["jsonl", "jsonl.gz", "jsonl.zst", "csv", "csv.gz", "tsv", "parquet"])
def test_every_format_gives_the_same_documents(tmp_path, ending):
    path = tmp_path / f"data.{ending}"
    frame = pl.DataFrame(ROWS)
    if "jsonl" in ending:
        data = jsonl(tmp_path / "plain", ROWS)
    elif "parquet" in ending:
        frame.write_parquet(path, row_group_size=7)
        data = path.read_bytes()
    else:
        data = frame.write_csv(separator="\t" if "tsv" in ending else ",").encode()
    if ending.endswith("gz"):
        data = gzip.compress(data[:100]) + gzip.compress(data[100:])  # two members, as `cat a.gz b.gz` makes them
    elif ending.endswith("zst"):
        data = pyarrow.compress(jsonl(tmp_path / "plain", ROWS), codec="zstd", asbytes=True)
    path.write_bytes(data)
    got = read(tmp_path / "run", path=str(path), id="id", columns=("stars",))
    assert got.frame.rows() == [(row["id"], row["text"], str(row["stars"])) for row in ROWS]
    assert not got.counts


def test_text_files_and_ids(tmp_path):
    (tmp_path / "in" / "deep").mkdir(parents=True)
    (tmp_path / "in" / "a.txt").write_bytes(b"\xef\xbb\xbfwith a mark\r\nand lines")
    (tmp_path / "in" / "deep" / "b.md").write_text("# title")
    (tmp_path / "in" / "c.txt").write_bytes(b"\xff\xfe broken")
    (tmp_path / "in" / "d.txt").write_text("")
    (tmp_path / "in" / "e.docx").write_bytes(b"PK")
    (tmp_path / "in" / ".hidden.txt").write_text("no")
    got = read(tmp_path / "run", path=str(tmp_path / "in"))
    assert got.frame.rows() == [("a.txt", "with a mark\r\nand lines"), ("deep/b.md", "# title")]
    assert got.counts == {"invalid_utf8": 1, "empty_text": 1, "unknown_format": 1}


def test_files_of_one_name_in_several_folders_have_ids_of_their_own(tmp_path):
    for folder in ("a", "b", "b/c"):
        (tmp_path / "in" / folder).mkdir(parents=True)
        jsonl(tmp_path / "in" / folder / "part.jsonl", ROWS[:2])
        (tmp_path / "in" / folder / "page.txt").write_text(folder)
    got = read(tmp_path / "1", path=f"{tmp_path}/in/**/part.jsonl")
    assert [name.rpartition(":")[0] for name in got.frame["id"][::2]] == ["a/part.jsonl", "b/c/part.jsonl", "b/part.jsonl"]
    assert got.frame["id"].n_unique() == 6
    assert dict(read(tmp_path / "2", path=f"{tmp_path}/in/b*/page.txt").frame.rows()) == {"b/page.txt": "b"}
    assert read(tmp_path / "3", path=f"{tmp_path}/in/a/page.txt").frame.rows() == [("page.txt", "a")]


def test_a_folder_or_file_of_any_name(tmp_path):
    odd = tmp_path / "in [1]*"
    odd.mkdir()
    with open(os.fsencode(odd) + b"/na\xffme.txt", "wb") as stream:
        stream.write(b"text")
    assert read(tmp_path / "run", path=str(odd)).frame.rows() == [("na\\udcffme.txt", "text")]
    assert Files(path=str(odd)).external() == Files(path=str(odd)).external()


def test_shards_are_cut_by_their_bytes(tmp_path, monkeypatch):
    monkeypatch.setattr(formats, "SHARD_BYTES", 600)
    jsonl(tmp_path / "in.jsonl", [{"text": "汉" * 100}] * 8)
    got = read(tmp_path / "run", path=str(tmp_path / "in.jsonl"))
    assert (got.frame.height, got.shards) == (8, 4)


def test_bad_lines_cost_themselves_only(tmp_path):
    lines = [
        b'{"text": "good"}', b"{broken", b'{"text": 5}', b'{"other": 1}', b"[1]", b'{"text": ""}', b'{"text": "caf\xe9"}', b'{"text": null}',
        b'{"text": "\\ud800"}', b"\x00", b'{"text": "nul \\u0000 stays"}', b'{"text": "' + b"long " * 10_000_000 + b'"}', b'{"text": "last, no newline"}',
    ]  # fmt: skip
    (tmp_path / "in.jsonl").write_bytes(b"\xef\xbb\xbf" + b"\n\n".join(lines[:5]) + b"\r\n" + b"\n".join(lines[5:]))
    got = read(tmp_path / "run", path=str(tmp_path / "in.jsonl"))
    assert got.frame.height + sum(got.counts.values()) == len(lines)
    assert got.frame["text"].str.head(20).to_list() == ["good", "nul \u0000 stays", "long " * 4, "last, no newline"]
    assert got.frame["text"].str.len_bytes().max() == 50_000_000
    assert got.counts == {"bad_json": 3, "text_not_string": 1, "no_text": 2, "no_object": 1, "empty_text": 1, "invalid_utf8": 1}
    where = dict(zip(got.bad["place"], got.bad["text"], strict=True))
    data = (tmp_path / "in.jsonl").read_bytes()
    for place, text in where.items():
        assert data[int(place.rpartition(":")[2]) :].lstrip().startswith(text[:5].encode()[:3])
    assert any("caf\\xe9" in text for text in where.values())


@pytest.mark.parametrize("cut", [0.3, 0.9])
@pytest.mark.parametrize("kind", ["gz", "zst"])
def test_a_torn_archive_gives_what_came_before_the_tear(tmp_path, kind, cut):
    rows = [{"text": os.urandom(30).hex()} for _ in range(20_000)]
    data = jsonl(tmp_path / "plain", rows)
    packed = gzip.compress(data) if kind == "gz" else pyarrow.compress(data, codec="zstd", asbytes=True)
    path = tmp_path / f"in.jsonl.{kind}"
    path.write_bytes(packed[: int(cut * len(packed))])
    got = read(tmp_path / "run", path=str(path))
    assert got.counts == {"broken_file": 1}
    assert got.frame["text"].to_list() == [row["text"] for row in rows[: got.frame.height]]
    assert got.frame.height > (cut - 0.15) * len(rows)


@pytest.mark.parametrize("rows", [[f"text {n}" for n in range(9)], [f'"two\nlines, {n}"' for n in range(9)]], ids=["plain", "quoted"])
def test_no_row_of_a_torn_table_is_half_a_row(tmp_path, rows):
    """Every tear of a small table."""
    packed = gzip.compress(("id,text\n" + "".join(f"{n},{row}\n" for n, row in enumerate(rows))).encode(), 0)
    whole = [row.strip('"') for row in rows]
    seen = set()
    for cut in range(len(packed) - 8):
        (tmp_path / "in.csv.gz").write_bytes(packed[:cut])
        got = read(tmp_path / str(cut), path=str(tmp_path / "in.csv.gz"))
        assert got.frame["text"].to_list() == whole[: got.frame.height]
        assert got.counts == ({"broken_file": 1} if cut else {})
        seen.add(got.frame.height)
    assert seen == set(range(9))


def test_a_file_that_is_no_archive_or_no_parquet(tmp_path):
    (tmp_path / "a.jsonl.gz").write_bytes(b"not gzip at all")
    (tmp_path / "b.parquet").write_bytes(b"PAR1 nonsense")
    jsonl(tmp_path / "c.jsonl", ROWS[:3])
    (tmp_path / "d.jsonl").write_bytes(b"")
    got = read(tmp_path / "run", path=str(tmp_path / "*.*"))
    assert got.frame.height == 3
    assert got.counts == {"broken_file": 2}


def test_csv_rows(tmp_path):
    text = 'id,text\n1,"quoted ""words"", and\na second line"\n2,plain\n3\n4,too,many\n5,\n6,caf\udce9\n\n7,"un\x00closed'
    (tmp_path / "in.csv").write_bytes(text.encode("utf-8", "surrogateescape"))
    got = read(tmp_path / "run", path=str(tmp_path / "in.csv"), id="id")
    assert got.frame.rows() == [("1", 'quoted "words", and\na second line'), ("2", "plain"), ("7", "un\x00closed")]
    assert got.counts == {"bad_row": 2, "empty_text": 1, "invalid_utf8": 1}


def test_arrow_text_that_is_no_text(tmp_path):
    import pyarrow.parquet

    table = pyarrow.table({"text": pyarrow.array([b"fine", b"caf\xe9", None, b""], pyarrow.binary())})
    pyarrow.parquet.write_table(table, tmp_path / "in.parquet")
    got = read(tmp_path / "run", path=str(tmp_path / "in.parquet"))
    assert got.frame["text"].to_list() == ["fine"]
    assert got.counts == {"invalid_utf8": 1, "no_text": 1, "empty_text": 1}


def test_byte_ranges_lose_and_double_nothing(tmp_path, monkeypatch):
    """Every possible cut of a small file, with lines of all lengths and without a last newline."""
    data = b"\n".join(json.dumps({"text": "x" * n}).encode() for n in range(1, 20))
    (tmp_path / "in.jsonl").write_bytes(data)
    for size in (*range(1, 40), len(data) - 1, len(data), len(data) + 1):
        monkeypatch.setattr(reading, "PIECE_BYTES", size)
        got = read(tmp_path / f"run-{size}", path=str(tmp_path / "in.jsonl"))
        assert got.frame["text"].to_list() == ["x" * n for n in range(1, 20)]


def test_one_and_two_processes_give_the_same_bytes(tmp_path, monkeypatch):
    monkeypatch.setattr(reading, "SHARD_BYTES", 1000)
    monkeypatch.setattr(reading, "PIECE_BYTES", 1000)
    jsonl(tmp_path / "in.jsonl", ROWS)
    runs = [read(tmp_path / f"run-{n}", processes=n, path=str(tmp_path / "in.jsonl")) for n in (1, 2)]
    assert runs[0].shards > 2
    names = sorted(p.name for p in runs[0].path.iterdir())
    assert [(runs[0].path / n).read_bytes() for n in names] == [(runs[1].path / n).read_bytes() for n in names]


def test_hugging_face_folders(tmp_path):
    datasets = pytest.importorskip("datasets")
    rows = datasets.Dataset.from_list(ROWS)
    rows.save_to_disk(str(tmp_path / "one"), num_shards=2)
    datasets.DatasetDict({"train": rows, "test": rows.select(range(3))}).save_to_disk(str(tmp_path / "many"))
    assert read(tmp_path / "a", path=str(tmp_path / "one"), id="id").frame["id"].to_list() == [row["id"] for row in ROWS]
    assert read(tmp_path / "b", path=str(tmp_path / "many"), split="test").frame.height == 3
    with pytest.raises(UserError, match="no split 'tset'; there are train, test"):
        read(tmp_path / "c", path=str(tmp_path / "many"), split="tset")


def test_hub_names(tmp_path, monkeypatch):
    datasets = pytest.importorskip("datasets")
    monkeypatch.setattr(
        datasets, "load_dataset", lambda name, split: datasets.Dataset.from_list(ROWS) if (name, split) == ("some/data", "train") else 1 / 0
    )
    assert read(tmp_path / "a", path="hub:some/data", columns=("stars",)).frame["stars"].to_list() == [str(i) for i in range(50)]
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(MissingExtra, match="'datasets', which is not installed") as caught:
        read(tmp_path / "b", path="hub:some/data")
    assert caught.value.todo == 'pip install "paredown[hub]"'


def test_mistakes_of_the_user(tmp_path):
    jsonl(tmp_path / "in.jsonl", [{"txt": "a"}, {"txt": "b"}])
    with pytest.raises(UserError, match=r"no row has a column 'text'; there are txt"):
        read(tmp_path / "a", path=str(tmp_path / "in.jsonl"))
    pl.DataFrame({"content": ["a"]}).write_parquet(tmp_path / "in.parquet")
    with pytest.raises(UserError, match="no column 'contents'; there are content") as caught:
        read(tmp_path / "b", path=str(tmp_path / "in.parquet"), text="contents")
    assert "did you mean content?" in str(caught.value)
    with pytest.raises(UserError, match="no file matches"):
        read(tmp_path / "c", path=str(tmp_path / "nothing*.jsonl"))
    (tmp_path / "data.xyz").write_text("?")
    with pytest.raises(UserError, match="its ending says no format"):
        read(tmp_path / "d", path=str(tmp_path / "data.xyz"))
    with pytest.raises(UserError, match=r"neither state\.json"):
        read(tmp_path / "e", path=str(tmp_path), format="datasets")


@pytest.mark.skipif(os.geteuid() == 0, reason="the superuser can read everything")
def test_a_file_that_may_not_be_read(tmp_path):
    jsonl(tmp_path / "a.jsonl", ROWS[:2])
    jsonl(tmp_path / "b.jsonl", ROWS[:2])
    (tmp_path / "b.jsonl").chmod(0)
    assert read(tmp_path / "run", path=str(tmp_path / "*.jsonl")).counts == {"unreadable": 1}


def test_the_key_follows_the_files(tmp_path):
    jsonl(tmp_path / "in.jsonl", ROWS[:2])
    first = Files(path=str(tmp_path / "in.jsonl")).external()
    assert Files(path=str(tmp_path / "in.jsonl")).external() == first
    jsonl(tmp_path / "in.jsonl", ROWS[:3])
    assert Files(path=str(tmp_path / "in.jsonl")).external() != first
