"""Whatever lies in a folder of inputs, a run ends well, and every document is kept or counted with its reason, step by step."""

from __future__ import annotations

import gzip
import json
import os
import random
from itertools import pairwise
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow
import pytest
from tokenizers import Tokenizer as Fast

from paredown.artifacts.corpus import Corpus
from paredown.artifacts.tokens import END_OF_TEXT, Tokens

RECIPE = """\
seed: 3
steps:
  read: {use: corpus.read.files, path: in, keep_rejected: true}
  clean: {use: corpus.clean.gopher, corpus: $read, keep_rejected: true}
  unique: {use: corpus.dedup.minhash, corpus: $clean, keep_rejected: true}
  split: {use: corpus.split, corpus: $unique, held_out: 0.2}
  tokens: {use: corpus.tokenize.bpe, corpus: $split.train, held_out: $split.held_out, vocab_size: 300}
arms:
  prose: {}
  code: {clean.use: corpus.clean.code}
  python: {clean.use: corpus.clean.python_syntax}
"""
ARMS = ("prose", "code", "python")
BROKEN_ROWS = [
    b'{"text": "good, the only one of these"}', b'{"text": "never closed', b'{"text": 5}', b'{"other": "no text"}', b'["no object"]', b'{"text": ""}',
    b'{"text": "caf\xe9"}', b'{"text": null}', b'{"text": "half a pair \\ud800"}', b"\0\0\0",
]  # fmt: skip
ROWS = 2500  # in each torn archive


def prose(seed: int) -> str:
    draw = random.Random(seed)
    words = ["the", "and", "of", "that", *(f"word{draw.choice('abcdefgh')}{draw.choice('ijklmnop')}{k}x" for k in range(90))]
    draw.shuffle(words)
    return " ".join(words) + "."


def source(seed: int) -> str:
    draw = random.Random(seed)
    return "\n".join(f"value_{seed}_{k} = {draw.randrange(10**6)} + name_{draw.randrange(99)}" for k in range(20)) + "\n"


PROSE = [prose(n) for n in range(40)]
NEAR = [text.replace(text.split()[50], "other") for text in PROSE[:4]]
FILES: dict[str, bytes] = {
    "prose.jsonl": b"\n".join(json.dumps({"text": text}).encode() for text in [*PROSE, PROSE[7], *NEAR]),
    "rows.jsonl": b"\n".join(BROKEN_ROWS),
    **{f"code/{n}.py": source(n).encode() for n in range(15)},
    "code/copy.py": source(3).encode(),
    "code/deep.py": b"x = " + b"-" * 200_000 + b"1",
    "code/nul.py": source(90).encode() + b"\0",
    "code/wrong.py": source(91).encode() + b"def f(:\n",
    "code/made.py": b"# auto-generated\n" + source(92).encode(),
    "latin.txt": "café".encode("latin-1"),
    "utf16.txt": "wide".encode("utf-16"),
    "nul.txt": b"\0" * 1000,
    "mark.txt": f"{END_OF_TEXT} {END_OF_TEXT} {PROSE[0][::-1]}".encode(),
    "long.txt": b"long " * 10_000_000,
    "empty.txt": b"",
    "blank.txt": b" \n\n",
    "odd.md": "e\u0301\u0301 \u202e \U0001f468\u200d\U0001f469 汉字 \ufffd\uffff".encode(),
    "no.jsonl.gz": b"this is no archive",
    "no.parquet": b"PAR1 nor is this a table PAR1",
    "letter.docx": b"PK\x03\x04",
}
FREE = {  # documents of the files above, and what is no document
    "documents": 45 + 1 + 15 + 5 + 5,
    "bad_json": 3, "text_not_string": 1, "no_text": 2, "no_object": 1, "empty_text": 2, "invalid_utf8": 3, "broken_file": 2, "unknown_format": 1,
}  # fmt: skip


def torn(name: str) -> bytes:
    """An archive of rows, cut in the middle."""
    draw = random.Random(name)
    lines = [draw.randbytes(60).hex() for _ in range(ROWS)]
    if ".csv" in name:
        data = "".join(f"text,n\n{line},1\n" if n == 0 else f"{line},1\n" for n, line in enumerate(lines)).encode()
    else:
        data = "".join(json.dumps({"text": line}) + "\n" for line in lines).encode()
    packed = gzip.compress(data) if name.endswith("gz") else pyarrow.compress(data, codec="zstd", asbytes=True)
    return packed[: len(packed) // 2]


TORN = {name: torn(name) for name in ("torn.jsonl.gz", "torn.jsonl.zst", "torn.csv.gz", "torn.csv.zst")}
TORN_TEXT = {"torn.txt.gz": gzip.compress(random.Random(1).randbytes(9000).hex().encode())[:4000]}


def rows(folder: Path) -> pl.DataFrame:
    return pl.concat(Corpus(folder).frames())


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("inputs")
    for name, data in (FILES | TORN | TORN_TEXT).items():
        (root / "in" / name).parent.mkdir(parents=True, exist_ok=True)
        (root / "in" / name).write_bytes(data)
    with open(os.fsencode(root / "in") + b"/na\xffme.txt", "wb") as stream:
        stream.write(PROSE[1][::-1].encode())
    (root / "in" / "link.txt").symlink_to(root / "nowhere")
    (root / "in" / "folder.txt").mkdir()
    (root / "r.yaml").write_text(RECIPE)
    return root


def test_everything_is_kept_or_counted_and_nothing_is_fatal(made: Path, paredown: Any) -> None:
    done = paredown("run", "r.yaml", "--workspace", "w", "--json", "--no-report", "--processes", "2", cwd=made)
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert told["status"] == "done"
    steps = {(step["name"], arm): step for step in told["steps"] for arm in step["arms"] or ARMS}
    folder = {key: Path(step["folder"]) if Path(step["folder"]).is_absolute() else made / step["folder"] for key, step in steps.items()}
    dropped = {key: {rule: row[0] for rule, row in step["dropped"].items()} for key, step in steps.items()}

    # what was read
    documents, bad = rows(folder["read", "prose"] / "documents"), rows(folder["read", "prose"] / "rejected")
    counts = dropped["read", "prose"]
    assert dict(bad["reason"].value_counts().iter_rows()) == counts
    assert counts == {rule: n for rule, n in FREE.items() if rule != "documents"} | {"broken_file": 2 + len(TORN) + len(TORN_TEXT)}
    whole = 0
    for name in TORN:
        some = documents.filter(pl.col("id").str.starts_with(name + ":"))["text"].to_list()
        draw = random.Random(name)
        assert some == [draw.randbytes(60).hex() for _ in some]  # what came before the tear, and no torn row
        assert 0.2 * ROWS < len(some) < 0.7 * ROWS
        whole += len(some)
    assert documents.height == FREE["documents"] + 1 + whole
    assert documents["id"].n_unique() == documents.height
    assert steps["read", "prose"]["cost"]["documents"] == documents.height + bad.height
    assert "na\\udcffme.txt" in documents["id"]

    for arm in ARMS:
        # what each step took in is what it kept and what it rejected, by name and number
        before = documents
        for step in ("clean", "unique"):
            kept, rejected = rows(folder[step, arm] / "kept"), rows(folder[step, arm] / "rejected")
            assert sorted([*kept["id"], *rejected["id"]]) == sorted(before["id"])
            assert dict(rejected["reason"].str.split(":").list.first().value_counts().iter_rows()) == dropped[step, arm]
            assert kept.join(before, on=["id", "text"], how="semi").height == kept.height  # texts are untouched
            assert steps[step, arm]["cost"]["documents"] == before.height
            before = kept
        sides = [rows(folder["split", arm] / part) for part in ("train", "held_out")]
        assert sorted([*sides[0]["id"], *sides[1]["id"]]) == sorted(before["id"])
        assert min(side.height for side in sides) > 0
        for side, part in zip(sides, ("train", "held_out"), strict=True):
            tokens = Tokens(folder["tokens", arm] / part)
            fast = Fast.from_file(str(tokens.file("tokenizer.json")))
            texts = [
                fast.decode(tokens.ids[begin + 1 : end - 1].tolist(), skip_special_tokens=False) for begin, end in pairwise(tokens.offsets)
            ]
            assert texts == side["text"].to_list()

    reasons = {arm: dict(rows(folder["clean", arm] / "rejected").select("id", "reason").rows()) for arm in ARMS}
    assert (reasons["prose"]["long.txt"], reasons["code"]["long.txt"]) == ("max_words", "max_mean_line")
    assert reasons["python"]["long.txt"] in ("does_not_parse", "nested_too_deep")  # by what the parser makes of 50 MB
    assert reasons["code"]["code/made.py"] == "generated"
    assert {name: reasons["python"].get(f"code/{name}.py") for name in ("deep", "nul", "wrong", "copy")} == {
        "deep": "nested_too_deep", "nul": "nul_characters", "wrong": "does_not_parse", "copy": None,
    }  # fmt: skip
    assert dropped["unique", "prose"] == {"near_duplicate": 5}
    assert dropped["unique", "python"] == {"near_duplicate": 1}


def test_nothing_but_bad_documents_is_a_clear_error(tmp_path: Path, paredown: Any) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.txt").write_bytes(b"\xff")
    (tmp_path / "in" / "b.jsonl").write_bytes(b"{bad\n")
    (tmp_path / "r.yaml").write_text(RECIPE)
    done = paredown("run", "r.yaml", "--workspace", "w", "--json", "--no-report", "--processes", "1")
    assert done.returncode == 1
    assert "0 documents cannot be divided" in json.loads(done.stdout)["error"]["what"]
    assert "Traceback" not in done.stderr
