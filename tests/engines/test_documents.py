"""Documents by shards: what is finished stays, what is bad costs itself only, and every engine gives the same bytes."""

from __future__ import annotations

import functools
import hashlib
import json
import os
import random
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from paredown.artifacts.corpus import Corpus, write_shard
from paredown.core import catalog
from paredown.core.context import Context, Engine, Listener, running
from paredown.core.errors import DataError, MachineError, PareError, UserError
from paredown.core.strategy import Strategy, alternatives
from paredown.engines import documents, reading
from paredown.engines.documents import count, filter_documents, map_documents, partition_frame, run_shards, sample, shuffle

SCHEMA = {"id": pl.String, "text": pl.String}
READERS = ("corpus.read.files", "corpus.read.stdlib")
STEPS = [  # what works on documents shard by shard: readers of many files, and all that needs a corpus and nothing else
    e.name
    for e in catalog.entries()
    if e.kind == "step" and (e.name in READERS or (e.name.startswith("corpus.") and [i[0] for i in e.inputs if i[2]] == ["corpus"]))
]
KNOBS: dict[str, dict[str, Any]] = {
    "corpus.read.stdlib": {"limit": 12, "keep_rejected": True},
    "corpus.split": {"held_out": 0.3},
    "corpus.tokenize.bpe": {"vocab_size": 300},
}


def step(path: Path, engine: Engine | None = None, seed: int = 0, listener: Listener | None = None) -> Context:
    """A step whose scratch folder is that of an earlier one at the same path."""
    (path / "scratch").mkdir(parents=True, exist_ok=True)
    return Context(path / "out", path / "scratch", seed, engine=engine or Engine(), listener=listener or Listener())


def corpus_of(path: Path, shards: list[list[str]], **columns: list[Any]) -> Corpus:
    """Documents d0, d1, ... in shards of these texts, with more columns that go over all of them."""
    frames, begin = [], 0
    for texts in shards:
        ids = [f"d{number}" for number in range(begin, begin + len(texts))]
        more = {name: values[begin : begin + len(texts)] for name, values in columns.items()}
        frames.append(pl.DataFrame({"id": ids, "text": texts, **more}, schema_overrides=SCHEMA))
        begin += len(texts)
    return Corpus.write(path, frames)


def rows(corpus: Corpus | None, *columns: str) -> list[tuple[Any, ...]]:
    assert corpus is not None
    return [row for frame in corpus.frames() for row in frame.select(columns or pl.all()).rows()]


def digest(folder: Path) -> dict[str, str]:
    return {p.relative_to(folder).as_posix(): hashlib.sha256(p.read_bytes()).hexdigest() for p in sorted(folder.rglob("*")) if p.is_file()}


# Work that can be sent to other processes


def tasks_of(path: Path, count: int = 6, **more: Any) -> list[documents.Task]:
    return [{"shard": f"shard {number}", "number": number, "log": str(path), **more} for number in range(count)]


def work(task: documents.Task, folder: Path) -> dict[str, Any]:
    """Notes that it ran, waits, fails where it is told to, writes its number."""
    with open(f"{task['log']}-{task['number']}", "a") as log:
        log.write("ran\n")
    time.sleep(task.get("seconds", 0) * (1 if task.get("alike") else 6 - task["number"]))
    if task["number"] == task.get("bad"):
        if task["error"] is None:
            os._exit(1)
        raise task["error"]
    (folder / "number.txt").write_text(str(task["number"]))
    return {"documents": 10 * task["number"]}


def times_run(path: Path) -> dict[int, int]:
    return {int(log.name.rpartition("-")[2]): len(log.read_text().split()) for log in path.parent.glob(f"{path.name}-*")}


def finished(here: Context, stage: str = "stage") -> set[int]:
    return {int(folder.name) for folder in (here.scratch / stage).iterdir() if not folder.suffix and (folder / documents.RECORD).exists()}


@pytest.fixture(scope="module")
def cluster() -> Iterator[None]:
    ray = pytest.importorskip("ray")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", os.pathsep.join([str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")]))  # of the workers
        ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level=40)
    yield
    ray.shutdown()


def test_a_cluster_that_does_not_answer_is_a_clear_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ray = pytest.importorskip("ray")

    def init(**settings: Any) -> None:
        assert "num_cpus" not in settings, "a cluster that runs already has its own"
        raise ConnectionError("nobody at home")

    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    monkeypatch.setattr(ray, "init", init)
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:1")
    with running(step(tmp_path, Engine("ray", 2))), pytest.raises(MachineError, match="cannot be reached: nobody at home"):
        documents.run_shards("stage", [{"shard": "a"}], _never)


def _never(task: dict[str, Any], folder: Path) -> dict[str, Any]:
    raise AssertionError("nothing runs")


@pytest.fixture(params=["one process", "two processes", "ray"])
def engine(request: pytest.FixtureRequest) -> Engine:
    if request.param == "ray":
        request.getfixturevalue("cluster")
    return {"one process": Engine(), "two processes": Engine(processes=2), "ray": Engine("ray", 2)}[request.param]


# Shards


def test_results_stand_in_the_order_of_the_tasks(tmp_path: Path, engine: Engine) -> None:
    with running(step(tmp_path, engine)):
        done = run_shards("stage", tasks_of(tmp_path / "log", seconds=0.05), work)  # the first one takes longest
    assert [(folder / "number.txt").read_text() for folder, _ in done] == ["0", "1", "2", "3", "4", "5"]
    assert [record for _, record in done] == [{"documents": 10 * number} for number in range(6)]


@pytest.mark.parametrize("error", [ValueError("bad\n row"), OSError("disk"), UserError("no"), KeyboardInterrupt()], ids=repr)
def test_finished_shards_are_not_run_again(tmp_path: Path, engine: Engine, error: BaseException) -> None:
    log = tmp_path / "log"
    kind = DataError if isinstance(error, ValueError) else type(error)
    if engine.kind == "ray" and kind is KeyboardInterrupt:
        kind = MachineError  # Ray takes it for a lost worker
    with running(step(tmp_path, engine)) as here, pytest.raises(kind) as caught:
        run_shards("stage", tasks_of(log, bad=3, error=error, seconds=0.01), work)
    if isinstance(caught.value, DataError):
        assert (caught.value.what, caught.value.where) == ("ValueError: bad row", "shard shard 3")
    before, whole = times_run(log), finished(here)
    assert 3 in before
    assert 3 not in whole
    with running(step(tmp_path, engine)):
        done = run_shards("stage", tasks_of(log), work)
    assert times_run(log) == {number: before.get(number, 0) + (number not in whole) for number in range(6)}
    assert [record["documents"] for _, record in done] == [0, 10, 20, 30, 40, 50]
    if engine.processes == 1:
        assert whole == {0, 1, 2}


class Stop(Listener):
    def progress(self, done: float, total: float | None, unit: str, note: str) -> None:
        raise KeyboardInterrupt


def test_no_worker_goes_on_after_an_interruption(tmp_path: Path, engine: Engine) -> None:
    with running(step(tmp_path, engine, listener=Stop())) as here, pytest.raises(KeyboardInterrupt) as caught:
        run_shards("stage", tasks_of(tmp_path / "log", seconds=0.3, alike=True), work)
    before, whole = times_run(tmp_path / "log"), finished(here)
    assert 1 <= len(whole) < 6
    time.sleep(0.7)
    assert (times_run(tmp_path / "log"), finished(here)) == (before, whole)
    del caught


def test_torn_folders_are_ignored(tmp_path: Path) -> None:
    here = step(tmp_path)
    for name in ("00000", "00001.tmp77", "00002.tmp78"):
        (here.scratch / "stage" / name).mkdir(parents=True)
        (here.scratch / "stage" / name / "stray.txt").write_text("torn")
    with running(here):
        done = run_shards("stage", tasks_of(tmp_path / "log", 3), work)
    assert [sorted(p.name for p in folder.iterdir()) for folder, _ in done] == [["number.txt", "record.json"]] * 3
    assert [json.loads((folder / "record.json").read_bytes())["documents"] for folder, _ in done] == [0, 10, 20]


def who(task: documents.Task, folder: Path) -> dict[str, Any]:
    return {"process": os.getpid()}


def test_little_work_starts_no_pool(tmp_path: Path) -> None:
    corpus = corpus_of(tmp_path / "in", [["x" * (documents.LITTLE // 2)], ["x" * (documents.LITTLE // 2)], ["x"]])
    tasks = documents.shard_tasks(corpus)
    with running(step(tmp_path, Engine(processes=2))):
        here, there = (
            {record["process"] for _, record in run_shards(f"{len(some)}", some, who)} == {os.getpid()} for some in (tasks[:2], tasks)
        )
    assert (here, there) == (True, False)


def test_a_lost_worker_is_a_clear_error(tmp_path: Path) -> None:
    with running(step(tmp_path, Engine(processes=2))) as here:
        with pytest.raises(MachineError, match="a worker process was killed"):
            run_shards("stage", tasks_of(tmp_path / "log", bad=5, error=None, seconds=0.02), work)
        assert 5 not in finished(here)
        assert len(run_shards("stage", tasks_of(tmp_path / "log"), work)) == 6


def test_a_lost_ray_worker_is_a_clear_error(tmp_path: Path, cluster: None) -> None:
    with running(step(tmp_path, Engine("ray", 2))), pytest.raises(MachineError, match="a Ray worker was lost"):
        run_shards("stage", tasks_of(tmp_path / "log", 2, bad=1, error=None), work)


def test_no_tasks_and_progress(tmp_path: Path) -> None:
    heard: list[tuple[Any, ...]] = []

    class Note(Listener):
        def progress(self, *said: Any) -> None:
            heard.append(said)

    with running(step(tmp_path, listener=Note())):
        assert run_shards("nothing", [], work) == []
        run_shards("stage", tasks_of(tmp_path / "log", 3), work)
    assert heard == [(1, 3, "shards", "0 documents"), (2, 3, "shards", "10 documents"), (3, 3, "shards", "30 documents")]


def test_the_bytes_of_a_shard_depend_on_its_rows_only(tmp_path: Path) -> None:
    frame = pl.DataFrame({"id": [str(n) for n in range(1000)], "text": [f"text {n * n}" for n in range(1000)]})
    chunked = pl.concat([frame[:1], frame[1:700], frame[700:]], rechunk=False)
    assert chunked.n_chunks() == 3
    assert write_shard(tmp_path / "a.parquet", frame) == write_shard(tmp_path / "b.parquet", chunked) | {"name": "a.parquet"}
    assert (tmp_path / "a.parquet").read_bytes() == (tmp_path / "b.parquet").read_bytes()
    with pytest.raises(DataError, match="missing: text"):
        write_shard(tmp_path / "c.parquet", frame.select("id"))


# Maps and filters


def upper(frame: pl.DataFrame, mark: str) -> pl.DataFrame:
    return frame.with_columns(pl.col("text").str.to_uppercase() + mark)


def test_a_map_equals_the_function_on_each_document(tmp_path: Path) -> None:
    corpus = corpus_of(tmp_path / "in", [["a", "ß", ""], [], ["c é"]], stars=[1, 2, 3, 4])
    with running(step(tmp_path)) as here:
        first = map_documents(corpus, upper, "!", part="first")
        second = map_documents(corpus, upper, "?", part="second")
    for made, mark in ((first, "!"), (second, "?")):
        assert rows(made) == [(name, text.upper() + mark, stars) for name, text, stars in rows(corpus)]
        assert [row["documents"] for row in made.shards()] == [3, 0, 1]
    assert here.cost.documents == 8


def by_length(frame: pl.DataFrame, least: int) -> pl.Series:
    """Rejects short texts, and those that end with a question mark; fails on the word `boom`."""
    if frame["text"].str.contains("boom").any():
        raise ValueError(f"boom in\none of {frame.height} documents")
    return frame.select(
        pl.when(pl.col("text").str.len_chars() < least)
        .then(pl.lit("short"))
        .when(pl.col("text").str.ends_with("?"))
        .then(pl.lit("question: ") + pl.col("id"))
    ).to_series()


@pytest.mark.parametrize("bad", [set(), {5, 17, 18, 39}], ids=["sound", "judge raises"])
def test_a_filter_equals_plain_python_and_loses_nothing(tmp_path: Path, bad: set[int]) -> None:
    draw = random.Random(3)
    texts = ["".join(draw.choices("aé汉 ", k=draw.randrange(9))) + draw.choice("?.") + " boom" * (n in bad) for n in range(40)]
    shards = [texts[:7], texts[7:8], [], texts[8:30], texts[30:]]
    with running(step(tmp_path)) as here:
        made = filter_documents(corpus_of(tmp_path / "in", shards), by_length, 4, keep_rejected=True)
    reasons: list[str | None] = [
        "error: ValueError: boom in one of 1 documents" if n in bad
        else "short" if len(text) < 4 else f"question: d{n}" if text.endswith("?") else None
        for n, text in enumerate(texts)
    ]  # fmt: skip
    assert rows(made.kept) == [(f"d{n}", text) for n, text in enumerate(texts) if reasons[n] is None]
    assert rows(made.rejected) == [(f"d{n}", text, reasons[n]) for n, text in enumerate(texts) if reasons[n] is not None]
    rules = {"short", "question"} | ({"error"} if bad else set())
    of_rule = {rule: [text for text, reason in zip(texts, reasons, strict=True) if (reason or "").startswith(rule)] for rule in rules}
    assert here.dropped == {rule: [len(some), sum(len(text.encode()) for text in some), 0] for rule, some in of_rule.items()}
    assert all(len(some) > 1 for some in of_rule.values())
    assert here.cost.documents == made.kept.documents + sum(row[0] for row in here.dropped.values()) == 40


def no_reason(frame: pl.DataFrame) -> pl.Series:
    return pl.Series([None] * frame.height)


def one_too_few(frame: pl.DataFrame) -> pl.Series:
    return pl.Series([None] * (frame.height - 1), dtype=pl.String)


def full_disk(frame: pl.DataFrame) -> pl.Series:
    raise OSError(28, "No space left on device")


def test_judges_that_say_nothing_too_little_or_that_the_machine_fails(tmp_path: Path) -> None:
    corpus = corpus_of(tmp_path / "in", [["a"], ["b", "c"]])
    with running(step(tmp_path / "1")) as here:
        made = filter_documents(corpus, no_reason)
    assert (rows(made.kept), made.rejected, here.dropped) == (rows(corpus), None, {})
    with running(step(tmp_path / "2")), pytest.raises(DataError, match="gave 0 verdicts for 1 documents"):
        filter_documents(corpus, one_too_few)
    with running(step(tmp_path / "3")), pytest.raises(OSError, match="No space"):  # no fault of any document
        filter_documents(corpus, full_disk)


def test_columns_of_the_corpus_are_kept_whatever_their_names(tmp_path: Path) -> None:
    names = ["reason", "place", "row", "shard", "key", "low", "first_id", "duplicate_of", "similarity", "cluster", "name", "bytes"]
    texts = ["one two three four five six"] * 2 + ["?", "seven eight"]
    corpus = corpus_of(tmp_path / "in", [texts[:1], texts[1:]], **{name: [f"{name} {n}" for n in range(4)] for name in names})
    for use, gone in (("filter", "d2"), ("corpus.dedup.exact", "d1"), ("corpus.dedup.minhash", "d1"), ("corpus.split", None)):
        with running(step(tmp_path / use)):
            if use == "filter":
                made: Any = filter_documents(corpus, by_length, 0, keep_rejected=True)
            else:
                made = catalog.load(use)(**({"held_out": 0.5} if use == "corpus.split" else {"keep_rejected": True}))(corpus)
        parts = [made.train, made.held_out] if use == "corpus.split" else [made.kept]
        assert sorted(row for part in parts for row in rows(part)) == [row for row in rows(corpus) if row[0] != gone]
        if gone:
            assert [row[0] for row in rows(made.rejected)] == [gone]


# Samples, counts, shuffles


def test_a_sample_is_drawn_without_replacement_in_corpus_order(tmp_path: Path) -> None:
    corpus = corpus_of(tmp_path / "in", [[f"text {n}" for n in range(k)] for k in (20, 0, 1, 30)])
    drawn: dict[str, list[tuple[Any, ...]]] = {}
    for name, seed, size in (("a", 1, 17), ("again", 1, 17), ("b", 2, 17), ("all", 1, 99), ("none", 1, 0)):
        with running(step(tmp_path / name, seed=seed)):
            drawn[name] = rows(sample(corpus, size))
    everything = rows(corpus)
    assert [len(drawn[name]) for name in ("a", "b", "all", "none")] == [17, 17, 51, 0]
    for some in drawn.values():
        assert some == [row for row in everything if row in set(some)]
    assert drawn["a"] == drawn["again"] != drawn["b"]
    with running(step(tmp_path / "empty")):
        assert sample(corpus_of(tmp_path / "nothing", [[]]), 5).documents == 0


def test_counts_come_from_the_index_alone(tmp_path: Path) -> None:
    corpus = corpus_of(tmp_path / "in", [["é", "ab"], [], ["汉\0"]])
    for shard in corpus.path.glob("*.parquet"):
        shard.unlink()
    assert count(corpus) == {"documents": 3, "bytes": 2 + 2 + 4}


def spread(frame: pl.DataFrame, modulus: int) -> pl.DataFrame:
    return frame.select("id", "row", key=pl.col("text").str.len_chars().cast(pl.UInt64) % modulus)


def gather(task: documents.Task, folder: Path) -> dict[str, Any]:
    frame = partition_frame(task)
    frame.write_parquet(folder / "rows.parquet")
    return {"documents": frame.height, "args": task["args"]}


@pytest.mark.parametrize("parts", [None, 1, 3, 50])
def test_a_shuffle_brings_equal_keys_together_whatever_the_number_of_parts(tmp_path: Path, parts: int | None) -> None:
    draw = random.Random(1)
    shards = [["x" * draw.randrange(40) for _ in range(size)] for size in (30, 0, 1, 50)]
    with running(step(tmp_path)):
        found = shuffle("some", corpus_of(tmp_path / "in", shards, row=["mine"] * 81), spread, gather, 13, count=parts)
    frames = [pl.read_parquet(folder / "rows.parquet") for folder, _ in found]
    assert len(frames) == (parts or 1)
    expected = {(shard, row): len(text) % 13 for shard, texts in enumerate(shards) for row, text in enumerate(texts)}
    got = [(shard, row) for frame in frames for shard, row in frame.select("shard", "row").rows()]
    assert sorted(got) == sorted(expected)  # every row exactly once
    keys = [set(frame["key"]) for frame in frames]
    assert sum(map(len, keys)) == len(set().union(*keys)) == 13  # a key is in one part only
    for frame in frames:
        places = frame.select("shard", "row").rows()
        assert places == sorted(places)  # corpus order
        assert frame["key"].to_list() == [expected[place] for place in places]
    assert all(record["args"] == (13,) or record["args"] == [13] for _, record in found)


def test_partitions_are_cut_by_the_text(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(documents, "PARTITION_BYTES", 100)
    assert [documents.partitions(size) for size in (0, 1, 100, 101, 1000)] == [1, 1, 1, 2, 10]


# Engines


def mixed(seed: int) -> list[list[str]]:
    """Shards of prose and source with faults, copies and near copies across shards; one of them is empty."""
    draw = random.Random(seed)
    texts = []
    for n in range(24):
        words = [f"{draw.choice(['the', 'and', 'of', 'w'])}{draw.randrange(3000)}" for _ in range(70)]
        lines = "\n".join(f"value_{n}_{k} = 'the {w} of that'  # {draw.randrange(10**6)}" for k, w in enumerate(words[:12]))
        prose = " the ".join(words)
        texts += [lines + "\n", prose + " and of to have.", lines + "\nlast = 1\n", prose.replace(words[3], "be with it")]
    texts += ["", "\0", "x" * 3000, "def broken(:\n", "﻿e\u0301 \U0001f600", texts[0], texts[5], "the " * 200]
    draw.shuffle(texts)
    return [texts[:30], [], texts[30:31], texts[31:70], texts[70:]]


def given(strategy: Strategy, corpus: Corpus) -> dict[str, Any]:
    return {name: corpus for name, annotation in type(strategy).signature().inputs.items() if Corpus in alternatives(annotation)}


@pytest.mark.parametrize("kind", ["two processes", "ray"])
@pytest.mark.parametrize("use", STEPS)
def test_every_engine_gives_the_same_bytes(
    use: str, kind: str, tmp_path: Path, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(documents, "LITTLE", 0)  # so that it is worth a pool
    knobs = dict(KNOBS.get(use, {}))
    if use == "corpus.read.files":
        (tmp_path / "files").mkdir()
        for number, texts in enumerate(mixed(1)):
            lines = [json.dumps({"text": text}) for text in texts] + ["{bad", "5"]
            (tmp_path / "files" / f"{number}.jsonl").write_text("\n".join(lines))
        monkeypatch.setattr(reading, "SHARD_BYTES", 20_000)  # tasks are cut in this process; a shard is written for each
        monkeypatch.setattr(reading, "PIECE_BYTES", 20_000)
        knobs |= {"path": str(tmp_path / "files"), "keep_rejected": True}
    kept = {"keep_rejected": True} if "keep_rejected" in catalog.load(use).model_fields else {}
    strategy = catalog.load(use)(**kept | knobs)
    assert isinstance(strategy, Strategy)
    if kind == "ray":
        request.getfixturevalue("cluster")
    corpus = corpus_of(tmp_path / "in", mixed(1))
    told: dict[str, Context] = {}
    for name, chosen in (("one", Engine()), ("other", Engine("ray", 2) if kind == "ray" else Engine(processes=2))):
        with running(step(tmp_path / name, chosen)) as here:
            strategy(**given(strategy, corpus))  # type: ignore[operator]
        told[name] = here
    found = digest(tmp_path / "one" / "out")
    assert found == digest(tmp_path / "other" / "out")
    assert len(found) > 2
    assert told["one"].dropped == told["other"].dropped
    assert told["one"].facts == told["other"].facts
    assert told["one"].cost == told["other"].cost
    if use.startswith(("corpus.clean", "corpus.dedup", "corpus.read.files")):
        assert sum(row[0] for row in told["one"].dropped.values()) > 0  # there was something to do
        assert sum(name.endswith("parquet") for name in found) > 8


def test_ray_errors_are_those_of_this_process(tmp_path: Path, cluster: None) -> None:
    for error, kind in ((ValueError("x"), DataError), (UserError("y", todo="z"), UserError), (MemoryError(), MemoryError)):
        said = []
        for chosen in (Engine(), Engine("ray", 2)):
            with running(step(tmp_path / f"{kind.__name__}-{chosen.kind}", chosen)), pytest.raises(kind) as caught:
                run_shards("stage", tasks_of(tmp_path / "log", 2, bad=1, error=error), work)
            assert type(caught.value) is kind
            said.append(str(caught.value))
        assert said[0] == said[1]
        assert issubclass(kind, PareError) or kind is MemoryError


# Memory

CHILD = """
import sys
from pathlib import Path
import polars as pl
from paredown.artifacts.corpus import Corpus
from paredown.core.context import Context, running
from paredown.core.machine import peak_memory
from paredown.corpus.dedup.exact import Exact
from paredown.engines.documents import filter_documents

def judge(frame):
    return frame.select(pl.when(pl.col("text").str.ends_with("0")).then(pl.lit("zero"))).to_series()

step = Context(Path(sys.argv[2]) / "out", Path(sys.argv[2]) / "scratch")
step.scratch.mkdir(parents=True)
with running(step):
    corpus = Corpus(sys.argv[1])
    made = filter_documents(corpus, judge, keep_rejected=True) if sys.argv[3] == "filter" else Exact(keep_rejected=True)(corpus)
print(peak_memory(), made.kept.documents, made.rejected.documents)
"""


@functools.cache
def large(path: Path, shards: int) -> Corpus:
    """Shards of 4 MB of text that does not compress to nothing."""
    draw = random.Random(shards)
    frames = (
        pl.DataFrame({"id": [f"{shard}-{n}" for n in range(1000)], "text": [draw.randbytes(2000).hex() for _ in range(1000)]})
        for shard in range(shards)
    )
    return Corpus.write(path, frames)


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="the peak of a process cannot be read here")
@pytest.mark.parametrize("use", ["filter", "exact"])
def test_memory_stays_flat_however_many_shards_there_are(use: str, tmp_path_factory: pytest.TempPathFactory, tmp_path: Path) -> None:
    root = tmp_path_factory.getbasetemp()
    peaks = []
    for shards in (5, 25):
        corpus = large(root / f"large-{shards}", shards)
        told = subprocess.run(
            [sys.executable, "-c", CHILD, str(corpus.path), str(tmp_path / str(shards)), use], capture_output=True, text=True, check=True
        )
        peak, kept, rejected = map(int, told.stdout.split())
        assert kept + rejected == corpus.documents == 1000 * shards
        assert (rejected > 0) == (use == "filter")
        peaks.append(peak)
    assert Counter(shard["documents"] for shard in corpus.shards()) == {1000: 25}
    assert peaks[1] - peaks[0] < 30e6, f"{(peaks[1] - peaks[0]) / 1e6:.0f} MB more for 80 MB more of text"
