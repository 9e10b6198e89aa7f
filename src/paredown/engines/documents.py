"""Documents far larger than memory: one Parquet shard at a time, in this process, in a pool, or as Ray tasks.

The unit of work is a shard. A task writes its files into a folder of its own that is renamed into place when it is whole,
so a killed step goes on at the shard where it was, and every engine gives the same bytes.
"""

from __future__ import annotations

import contextlib
import json
import multiprocessing
import os
import shutil
from collections import deque
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from paredown.artifacts.corpus import SHARD_BYTES, Corpus, Filtered, write_shard
from paredown.core.artifact import fsync
from paredown.core.context import context
from paredown.core.errors import DataError, MachineError, PareError
from paredown.core.pools import end_with_parent, start_ray

Task = dict[str, Any]
Work = Callable[[Task, Path], dict[str, Any]]
Results = Generator[tuple[int, dict[str, Any]], None, None]
RECORD = "record.json"
LITTLE = 1_000_000  # text bytes that are worked on in this process, because a pool takes about a second to start
PARTITION_BYTES = 2 * SHARD_BYTES  # text bytes that one partition of a shuffle aims at


def run_shards(stage: str, tasks: Sequence[Task], work: Work, *, unit: str = "documents") -> list[tuple[Path, dict[str, Any]]]:
    """Work on every task; (folder, record) of each, in the order of the tasks.

    `work(task, folder)` is a module-level function (or a partial of one) that writes files into the empty `folder` and
    returns a JSON record; the record's entry named like `unit` feeds the progress. A task may say its text `bytes`. Finished
    tasks are not run again after a kill. Where and in how many processes it runs is the context's engine.

    Raises:
        DataError: a task failed; the message names the shard.
    """
    here = context()
    root = here.scratch / stage
    root.mkdir(parents=True, exist_ok=True)
    folders = [root / f"{number:05d}" for number in range(len(tasks))]
    done: dict[int, dict[str, Any]] = {}
    for number, folder in enumerate(folders):
        if (folder / RECORD).exists():
            done[number] = json.loads((folder / RECORD).read_bytes())
    counted = sum(int(record.get(unit, 0)) for record in done.values())
    waiting = [number for number in range(len(tasks)) if number not in done]
    with contextlib.closing(_results(waiting, tasks, folders, work)) as results:  # whatever happens, no worker goes on alone
        for number, record in results:
            done[number] = record
            counted += int(record.get(unit, 0))
            here.progress(len(done), len(tasks), "shards", f"{counted:,} {unit}")
    return [(folders[number], done[number]) for number in range(len(tasks))]


def _results(waiting: list[int], tasks: Sequence[Task], folders: list[Path], work: Work) -> Results:
    engine = context().engine
    if engine.kind == "ray" and waiting:
        yield from _on_ray(waiting, tasks, folders, work)
    elif engine.processes > 1 and len(waiting) > 1 and sum(tasks[n].get("bytes", SHARD_BYTES) for n in waiting) > LITTLE:
        yield from _in_pool(waiting, tasks, folders, work, min(engine.processes, len(waiting)))
    else:
        for number in waiting:
            yield number, _one(tasks[number], folders[number], work)


def _one(task: Task, folder: Path, work: Work) -> dict[str, Any]:
    """One task into its folder; runs in any process."""
    shutil.rmtree(folder, ignore_errors=True)
    temporary = folder.with_suffix(f".tmp{os.getpid()}")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir()
    try:
        record = work(task, temporary)
    except PareError:
        raise
    except (OSError, MemoryError):
        raise
    except Exception as error:
        raise DataError(
            f"{type(error).__name__}: {' '.join(str(error).split())[:300]}", where=f"shard {task.get('shard', folder.name)}"
        ) from error
    (temporary / RECORD).write_text(json.dumps(record))
    fsync(temporary / RECORD)
    os.rename(temporary, folder)
    return record


def _in_pool(waiting: list[int], tasks: Sequence[Task], folders: list[Path], work: Work, processes: int) -> Results:
    with ProcessPoolExecutor(processes, mp_context=multiprocessing.get_context("spawn"), initializer=_one_thread) as pool:
        left = deque(waiting)
        running: dict[Future[dict[str, Any]], int] = {}
        try:
            while left or running:
                while left and len(running) < 2 * processes:
                    number = left.popleft()
                    running[pool.submit(_one, tasks[number], folders[number], work)] = number
                finished, _ = wait(running, return_when=FIRST_COMPLETED)
                for future in finished:
                    yield running.pop(future), future.result()
        except BrokenProcessPool:
            raise MachineError("a worker process was killed, perhaps for want of memory", kept="the finished shards") from None
        except BaseException:
            pool.shutdown(wait=True, cancel_futures=True)
            raise


def _one_thread() -> None:
    """Processes share the cores already; threads inside them would only fight."""
    end_with_parent()
    os.environ["POLARS_MAX_THREADS"] = "1"
    os.environ["NUMBA_NUM_THREADS"] = "1"


def _on_ray(waiting: list[int], tasks: Sequence[Task], folders: list[Path], work: Work) -> Results:
    """The same function as Ray tasks; the scratch folder must be one that every node sees."""
    ray = start_ray(context().engine.processes)
    remote = ray.remote(_one)
    resources: dict[str, float] = ray.cluster_resources()
    width = 2 * int(resources.get("CPU", 1))
    left = deque(waiting)
    running: dict[Any, int] = {}
    try:
        while left or running:
            while left and len(running) < width:
                number = left.popleft()
                running[remote.remote(tasks[number], folders[number].resolve(), work)] = number
            finished, _ = ray.wait(list(running), num_returns=1)
            for reference in finished:
                number = running.pop(reference)
                yield number, ray.get(reference)
    except ray.exceptions.RayError as error:
        cause = getattr(error, "cause", None) or error
        if isinstance(cause, ray.exceptions.RayError):
            text = " ".join(str(cause).split())[:300]
            raise MachineError(f"a Ray worker was lost: {type(cause).__name__}: {text}", kept="the finished shards") from None
        raise cause from None  # what `_one` raised
    finally:
        for reference in running:
            ray.cancel(reference)
        if running:
            ray.wait(list(running), num_returns=len(running))


def shard_tasks(corpus: Corpus) -> list[Task]:
    """One task for each shard of a corpus."""
    return [{"corpus": str(corpus.path.resolve()), "shard": row["name"], "bytes": row["bytes"]} for row in corpus.shards()]


def frame_of(task: Task, columns: Sequence[str] | None = None) -> pl.DataFrame:
    """The shard that a task of `shard_tasks` names."""
    return Corpus(task["corpus"]).frame(task["shard"], columns)


def place(source: Path, target: Path) -> None:
    """Give a scratch file its place in the output; a hard link where the file system has them, so scratch stays whole."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)


def collect(done: list[tuple[Path, dict[str, Any]]], file: str, row: str, folder: Path) -> Corpus:
    """A corpus of one file from every task's folder, with the index rows that stand in the records under `row`."""
    rows = []
    for number, (source, record) in enumerate(done):
        name = f"shard-{number:05d}.parquet"
        place(source / file, folder / name)
        rows.append({**record[row], "name": name})
    return Corpus.index(folder, rows)


def map_documents(corpus: Corpus, function: Callable[..., pl.DataFrame], *args: Any, part: str = "corpus") -> Corpus:
    """`function(frame, *args)` on each shard; the result has the same shards."""
    tasks = [{**task, "function": function, "args": args} for task in shard_tasks(corpus)]
    done = run_shards(f"map-{part}", tasks, _map)
    context().charge(documents=corpus.documents)
    return collect(done, "shard.parquet", "row", context().output(part))


def _map(task: Task, folder: Path) -> dict[str, Any]:
    frame = task["function"](frame_of(task), *task["args"])
    row = write_shard(folder / "shard.parquet", frame)
    return {"row": row, "documents": row["documents"]}


def filter_documents(corpus: Corpus, judge: Callable[..., pl.Series], *args: Any, keep_rejected: bool = False) -> Filtered:
    """Keep the documents for which `judge(frame, *args)` gives null; anything else is the reason against one.

    A judge that raises is asked again document by document, and only the document that it fails on is rejected. What
    each rule took goes into the context's count; rejected documents are kept with their `reason` where asked for.
    """
    here = context()
    tasks = [{**task, "judge": judge, "args": args, "keep": keep_rejected} for task in shard_tasks(corpus)]
    done = run_shards("filter", tasks, _filter)
    for _, record in done:
        for rule, documents, size in record["rules"]:
            here.drop(rule, documents, size)
    here.charge(documents=corpus.documents)
    kept = collect(done, "kept.parquet", "kept", here.output("kept"))
    rejected = collect(done, "rejected.parquet", "rejected", here.output("rejected")) if keep_rejected else None
    return Filtered(kept, rejected)


def _filter(task: Task, folder: Path) -> dict[str, Any]:
    frame = frame_of(task)
    reason = _judge(frame, task["judge"], task["args"]).cast(pl.String)
    rejected = frame.filter(reason.is_not_null()).with_columns(reason.drop_nulls().alias("reason"))
    rules = (
        rejected.group_by("reason", maintain_order=True).agg(pl.len(), pl.col("text").str.len_bytes().sum().alias("bytes")).sort("reason")
    )
    record: dict[str, Any] = {
        "kept": write_shard(folder / "kept.parquet", frame.filter(reason.is_null())),
        "rules": [[row["reason"].partition(":")[0], row["len"], row["bytes"]] for row in rules.to_dicts()],
        "documents": frame.height,
    }
    if task["keep"]:
        record["rejected"] = write_shard(folder / "rejected.parquet", rejected)
    return record


def _judge(frame: pl.DataFrame, judge: Callable[..., pl.Series], args: tuple[Any, ...]) -> pl.Series:
    try:
        found = judge(frame, *args)
    except (MemoryError, OSError):
        raise
    except Exception:
        reasons = [_judge_one(frame[number : number + 1], judge, args) for number in range(frame.height)]
        return pl.Series(reasons, dtype=pl.String)
    if len(found) != frame.height:
        raise DataError(f"a judge gave {len(found)} verdicts for {frame.height} documents")
    return found


def _judge_one(row: pl.DataFrame, judge: Callable[..., pl.Series], args: tuple[Any, ...]) -> str | None:
    try:
        verdict: str | None = judge(row, *args)[0]
    except (MemoryError, OSError):
        raise
    except Exception as error:
        return f"error: {type(error).__name__}: {' '.join(str(error).split())[:200]}"
    return verdict


def partitions(text_bytes: int) -> int:
    """How many parts a shuffle cuts a corpus into so that one fits in memory."""
    return max(1, -(-text_bytes // PARTITION_BYTES))


def shuffle(
    stage: str, corpus: Corpus, spread: Callable[..., pl.DataFrame], gather: Work, *args: Any, count: int | None = None
) -> list[tuple[Path, dict[str, Any]]]:
    """Two passes that bring equal keys together without ever holding the corpus.

    First `spread(frame, *args)` makes of each shard, which has got a column `row`, a frame with a column `key` (unsigned
    integer); its rows are cut into `count` partition files by key. Then `gather(task, folder)` works on each partition:
    `partition_frame(task)` reads its rows, in corpus order, with the columns `shard` and `row` that say where each came from.
    """
    parts = count or partitions(corpus.text_bytes)
    tasks = [{**task, "number": n, "spread": spread, "args": args, "parts": parts} for n, task in enumerate(shard_tasks(corpus))]
    spreads = run_shards(f"{stage}-spread", tasks, _spread)
    files = [str(folder.resolve()) for folder, _ in spreads]
    return run_shards(
        f"{stage}-gather", [{"shard": f"partition {n}", "partition": n, "folders": files, "args": args} for n in range(parts)], gather
    )


def _spread(task: Task, folder: Path) -> dict[str, Any]:
    frame = frame_of(task)
    keyed = task["spread"](frame.drop("row", strict=False).with_row_index("row"), *task["args"]).with_columns(
        pl.lit(task["number"], dtype=pl.UInt32).alias("shard")
    )
    part = (pl.col("key") % task["parts"]).cast(pl.UInt32)
    for number in range(task["parts"]):
        keyed.filter(part == number).write_parquet(folder / f"{number:05d}.parquet", compression="lz4", statistics=False)
    return {"documents": frame.height}


def partition_frame(task: Task) -> pl.DataFrame:
    """All rows of one partition of a shuffle, in corpus order."""
    frames = [pl.read_parquet(Path(folder) / f"{task['partition']:05d}.parquet") for folder in task["folders"]]
    return pl.concat(frames, how="vertical") if frames else pl.DataFrame()


def count(corpus: Corpus) -> dict[str, int]:
    """Documents and text bytes, from the index alone."""
    return {"documents": corpus.documents, "bytes": corpus.text_bytes}


def sample(corpus: Corpus, documents: int, *, part: str = "corpus") -> Corpus:
    """`documents` documents drawn without replacement by the step's generator, in corpus order; all of them where there are fewer."""
    wanted = np.zeros(corpus.documents, np.bool_)
    wanted[context().generator("sample").permutation(corpus.documents)[:documents]] = True
    tasks, begin = [], 0
    for task, row in zip(shard_tasks(corpus), corpus.shards(), strict=True):
        tasks.append({**task, "wanted": wanted[begin : begin + row["documents"]]})
        begin += row["documents"]
    return collect(run_shards(f"sample-{part}", tasks, _take), "shard.parquet", "row", context().output(part))


def _take(task: Task, folder: Path) -> dict[str, Any]:
    row = write_shard(folder / "shard.parquet", frame_of(task).filter(task["wanted"]))
    return {"row": row, "documents": row["documents"]}
