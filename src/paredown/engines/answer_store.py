"""Answers that were paid for or computed, in one SQLite file that steps, runs and processes share.

A thread of its own writes: what arrives while it writes goes into the next transaction, so many answers at once need few
of them. Whoever put an answer can hear when it is stored, and asks the next question only then: however slow the disk, a kill
loses no more answers than there are requests at once. A power cut may take the last moments before it. What one process has asked for and not yet got is claimed, so
that another one waits for the answer rather than pays for it, too; claims of processes that ended are void.
"""

from __future__ import annotations

import contextlib
import os
import platform
import queue
import sqlite3
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

from paredown.core.errors import DataError, MachineError

STORE = "answers.sqlite"
SCHEMA = """
create table if not exists answers (key blob primary key, answerer text not null, made real not null, answer blob not null) strict;
create table if not exists claims (key blob primary key, process text not null) strict;
"""
CHUNK = 500  # keys a query
Row = tuple[bytes, dict[str, Any]]


@dataclass(frozen=True)
class _Item:
    rows: list[tuple[bytes, str, float, bytes]]  # key, answerer, when, answer
    stored: Callable[[], object] | None


class Store:
    """Opened by as many processes as like."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.process = _process(os.getpid())
        self._arrived: queue.SimpleQueue[_Item | threading.Event | None] = queue.SimpleQueue()
        self._failed: Exception | None = None
        with _translated(path):
            self._reading = self._connection()
            self._reading.executescript(SCHEMA)
        self._thread = threading.Thread(target=self._write, name="answers", daemon=True)
        self._thread.start()

    def _connection(self) -> sqlite3.Connection:
        connection = sqlite3.connect(self.path, timeout=60, check_same_thread=False, isolation_level=None)
        connection.execute("pragma journal_mode=wal")
        connection.execute("pragma synchronous=normal")  # no wait for the disk: a busy one takes longer than an answer
        return connection

    def __enter__(self) -> Store:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._arrived.put(None)
        self._thread.join()
        self._reading.close()
        if kind is None:
            self._check()

    def find(self, keys: Iterable[bytes]) -> dict[bytes, dict[str, Any]]:
        """The stored answers by their keys."""
        import orjson

        wanted = list(keys)
        found = {}
        with _translated(self.path):
            for first in range(0, len(wanted), CHUNK):
                chunk = wanted[first : first + CHUNK]
                places = ", ".join("?" * len(chunk))
                for key, answer in self._reading.execute(f"select key, answer from answers where key in ({places})", chunk):
                    found[key] = _tuples(orjson.loads(answer))
        return found

    def put(self, answers: Sequence[Row], answerer: str, stored: Callable[[], object] | None = None) -> None:
        """Store these together or not at all; returns at once, and `stored` is called, in another thread, when it is done. Any thread may call it.

        Raises:
            MachineError: what was put before could not be written.
        """
        import orjson

        self._check()
        now = time.time()
        self._arrived.put(_Item([(key, answerer, now, orjson.dumps(answer)) for key, answer in answers], stored))

    def flush(self) -> None:
        """Wait until all that was put is stored.

        Raises:
            MachineError: it could not be written.
        """
        done = threading.Event()
        self._arrived.put(done)
        while not done.wait(0.1):
            if not self._thread.is_alive():
                break
        self._check()

    def _check(self) -> None:
        if self._failed:
            with _translated(self.path):
                raise self._failed

    def _write(self) -> None:
        connection: sqlite3.Connection | None = None
        while True:
            items = [self._arrived.get()]
            while not self._arrived.empty():
                items.append(self._arrived.get())
            rows = [row for item in items if isinstance(item, _Item) for row in item.rows]
            try:
                connection = connection or self._connection()
                if rows and not self._failed:
                    connection.execute("begin immediate")
                    connection.executemany("insert or ignore into answers values (?, ?, ?, ?)", rows)
                    connection.executemany("delete from claims where key = ?", [row[:1] for row in rows])
                    connection.execute("commit")
            except sqlite3.Error as error:
                self._failed = error
            for item in items:
                if isinstance(item, threading.Event):
                    item.set()
                elif item is not None and item.stored is not None:
                    with contextlib.suppress(RuntimeError):  # whoever waited for it has gone
                        item.stored()
            if None in items:
                if connection:
                    connection.close()
                return

    @contextlib.contextmanager
    def claimed(self, keys: Sequence[bytes]) -> Iterator[set[bytes]]:
        """Those of the keys that no other living process is asking for; they are this one's until the block ends."""
        db, own = self._reading, self.process
        alive = {own: False}  # whether somebody else holds it
        mine = set()
        with _translated(self.path):
            db.execute("begin immediate")
            for key in keys:
                row = db.execute("select process from claims where key = ?", (key,)).fetchone()
                holder = row[0] if row else own
                if holder not in alive:
                    alive[holder] = _alive(holder)
                if not alive[holder]:
                    mine.add(key)
            db.executemany("insert or replace into claims values (?, ?)", [(key, own) for key in keys if key in mine])
            db.execute("commit")
        try:
            yield mine
        finally:
            self.flush()  # an answer takes its claim away in the same transaction
            with _translated(self.path):
                db.execute("begin immediate")
                db.executemany("delete from claims where key = ? and process = ?", [(key, own) for key in mine])
                db.execute("commit")

    def contents(self) -> list[tuple[str, int, int]]:
        """(what answered, answers, bytes) of all that is stored."""
        asked = "select answerer, count(*), sum(length(answer)) from answers group by answerer order by answerer"
        with _translated(self.path):
            return [(str(name), int(count), int(size)) for name, count, size in self._reading.execute(asked)]

    def check(self) -> list[str]:
        """SQLite's own integrity check; empty where sound."""
        with _translated(self.path):
            return [row[0] for row in self._reading.execute("pragma integrity_check") if row[0] != "ok"]

    def clear(self) -> None:
        """Forget every answer."""
        with _translated(self.path):
            self._reading.execute("delete from answers")
            self._reading.execute("vacuum")


def _tuples(answer: dict[str, Any]) -> dict[str, Any]:
    return {name: tuple(value) if isinstance(value, list) else value for name, value in answer.items()}


def _process(number: int) -> str:
    """A process by its host, number and start, so that another one that gets its number later is not taken for it."""
    import psutil

    return f"{platform.node()} {number} {psutil.Process(number).create_time():.2f}"


def _alive(process: str) -> bool:
    import psutil

    host, number, _ = process.rsplit(" ", 2)
    try:
        return host == platform.node() and _process(int(number)) == process
    except psutil.Error:
        return False


@contextlib.contextmanager
def _translated(path: Path) -> Iterator[None]:
    try:
        yield
    except sqlite3.OperationalError as error:
        full = "full" in str(error)
        raise MachineError(
            "the disk is full: answers cannot be stored" if full else f"the answers cannot be read or written: {error}",
            where=str(path),
            kept="the answers stored before",
            todo="free space; paredown gc shows what can go" if full else "",
        ) from None
    except sqlite3.DatabaseError as error:
        raise DataError(
            f"the stored answers are damaged: {error}", where=str(path), todo="move the file away: what it holds will be asked for again"
        ) from None
