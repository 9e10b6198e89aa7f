"""What every run and step cost: SQLite in WAL mode, one short transaction a write, so that several runs may share it."""

from __future__ import annotations

import contextlib
import json
import sqlite3
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from paredown.core.errors import DataError, MachineError

SCHEMA = """
create table if not exists runs (
  id text primary key, recipe text not null, file text not null, started real not null, finished real, status text not null,
  machine text not null, versions text not null
) strict;
create table if not exists steps (
  key text primary key, strategy text not null, finished real not null, wall_seconds real, cpu_seconds real, peak_memory integer,
  flops real, flops_how text, tokens integer, documents integer, bytes integer, energy_joules real,
  parameters_total integer, parameters_nonzero integer, facts text not null, folder text not null, money real, currency text
) strict;
create table if not exists run_steps (
  run text not null references runs(id), arm text not null, seed integer not null, name text not null, key text not null,
  position integer not null, cached integer not null, primary key (run, arm, seed, name)
) strict;
create table if not exists drops (
  key text not null, rule text not null, documents integer not null, bytes integer not null, tokens integer not null, primary key (key, rule)
) strict;
create table if not exists curves (
  key text not null, metric text not null, step integer not null, tokens integer not null, value real not null, primary key (key, metric, step)
) strict;
"""


LATER = {"money": "real", "currency": "text"}  # columns of steps that ledgers written before do not have


class Ledger:
    """Rows are written when a step ends; a killed run leaves no half row."""

    def __init__(self, path: Path) -> None:
        self.path = path
        with self._open() as connection:
            connection.executescript(SCHEMA)
            known = {row[1] for row in connection.execute("pragma table_info(steps)")}
            for name, kind in LATER.items():
                if name not in known:
                    with contextlib.suppress(sqlite3.OperationalError):  # another process was first
                        connection.execute(f"alter table steps add column {name} {kind}")

    @contextlib.contextmanager
    def _open(self) -> Iterator[sqlite3.Connection]:
        try:
            connection = sqlite3.connect(self.path, timeout=60)
        except sqlite3.OperationalError as error:
            raise MachineError(f"the ledger cannot be opened: {error}", where=str(self.path)) from None
        try:
            connection.execute("pragma journal_mode=wal")
            connection.execute("pragma synchronous=normal")
            with connection:
                yield connection
        except sqlite3.DatabaseError as error:
            if "full" in str(error):
                raise MachineError(
                    "the disk is full: the ledger cannot be written", where=str(self.path), todo="free space; paredown gc shows what can go"
                ) from None
            if isinstance(error, sqlite3.IntegrityError):
                raise  # a mistake of ours, not of the file
            if isinstance(error, sqlite3.OperationalError):
                raise MachineError(f"the ledger cannot be used: {error}", where=str(self.path)) from None
            raise DataError(
                f"the ledger is damaged: {error}", where=str(self.path), todo="move the file away: steps are kept, only past costs are lost"
            ) from None
        finally:
            connection.close()

    def start_run(self, run: str, recipe: str, file: str, machine: dict[str, Any], versions: dict[str, str]) -> None:
        with self._open() as db:
            db.execute(
                "insert into runs values (?, ?, ?, ?, null, 'running', ?, ?)",
                (run, recipe, file, time.time(), json.dumps(machine), json.dumps(versions)),
            )

    def end_run(self, run: str, status: str) -> None:
        with self._open() as db:
            db.execute("update runs set finished = ?, status = ? where id = ?", (time.time(), status, run))

    def run_steps(self, rows: list[tuple[str, str, int, str, str, int, int]]) -> None:
        """Rows (run, arm, seed, name, key, position, cached) in one transaction."""
        with self._open() as db:
            db.executemany("insert or replace into run_steps values (?, ?, ?, ?, ?, ?, ?)", rows)

    def step(
        self, key: str, strategy: str, folder: str, cost: dict[str, Any], facts: dict[str, Any], parameters: dict[str, int] | None,
        dropped: dict[str, list[int]], curves: dict[str, list[list[float]]],
    ) -> None:  # fmt: skip
        counts = parameters or {}
        row = (
            key, strategy, time.time(), cost.get("seconds"), cost.get("cpu_seconds"), cost.get("peak_memory"), cost.get("flops"), cost.get("flops_how"),
            cost.get("tokens"), cost.get("documents"), cost.get("bytes"), cost.get("energy_joules"), counts.get("total"), counts.get("nonzero"),
            json.dumps(facts, default=str), folder, cost.get("money"), cost.get("currency"),
        )  # fmt: skip
        with self._open() as db:
            db.execute(f"insert or replace into steps values ({', '.join('?' * len(row))})", row)
            db.executemany(
                "insert or replace into drops values (?, ?, ?, ?, ?)", [(key, rule, *counted) for rule, counted in dropped.items()]
            )
            points = [(key, metric, int(s), int(t), float(v)) for metric, curve in curves.items() for s, t, v in curve]
            db.executemany("insert or replace into curves values (?, ?, ?, ?, ?)", points)

    def curves(self, keys: list[str]) -> dict[str, dict[str, list[list[float]]]]:
        """Curves by step key and metric, each [[step, tokens, value], ...]."""
        found: dict[str, dict[str, list[list[float]]]] = {}
        with self._open() as db:
            for key in keys:
                for metric, step, tokens, value in db.execute(
                    "select metric, step, tokens, value from curves where key = ? order by metric, step", (key,)
                ):
                    found.setdefault(key, {}).setdefault(metric, []).append([step, tokens, value])
        return found

    def recipes(self) -> list[tuple[str, str]]:
        """(file, id of its last run) of every recipe that ran here."""
        with self._open() as db:
            return list(
                db.execute(
                    "select file, id from runs r where started = (select max(started) from runs where file = r.file) order by file"
                ).fetchall()
            )

    def seeds_of(self, recipe: str, file: str) -> list[int]:
        """Seeds with which a recipe of this name, or this path as it was typed, ran to its end here."""
        with self._open() as db:
            rows = db.execute(
                "select distinct seed from run_steps s join runs r on s.run = r.id where (r.recipe = ? or r.file = ?) and r.status = 'done'",
                (recipe, file),
            )
            return sorted(row[0] for row in rows)

    def keys_of(self, run: str) -> set[str]:
        with self._open() as db:
            return {row[0] for row in db.execute("select key from run_steps where run = ?", (run,))}

    def last_run(self) -> dict[str, Any] | None:
        """The newest run."""
        with self._open() as db:
            db.row_factory = sqlite3.Row
            row = db.execute("select * from runs order by started desc limit 1").fetchone()
        return dict(row) if row else None

    def check(self) -> list[str]:
        """SQLite's own integrity check; empty where sound."""
        with self._open() as db:
            return [row[0] for row in db.execute("pragma integrity_check") if row[0] != "ok"]
