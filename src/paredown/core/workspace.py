"""Where results live: every step's output under the hash of what made it, written aside, sealed, renamed into place.

steps/<strategy>-<key>/    step.json (what made it, its cost) and one folder a part, each with artifact.json
work/<key>/                a step that is being made: out/ becomes the folder above, scratch/ lets a killed step go on
locks/<key>.lock           one process at a time makes a step
ledger.sqlite              what every run and step cost
answers.sqlite             every answer that was paid for or computed (engines/answer_store.py)
"""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import json
import os
import shutil
import typing
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from paredown.core.artifact import MANIFEST, Artifact, Bundle, fsync
from paredown.core.errors import DataError, MachineError, UserError
from paredown.core.strategy import alternatives

FORMAT = 1  # raise it when seed derivation, the artifact layout or the key change: then nothing old is reused
STEP = "step.json"


@dataclass
class Record:
    """A finished step as `step.json` has it."""

    key: str
    strategy: str
    parts: dict[str, str]  # part -> folder name
    single: bool  # one artifact rather than a bundle
    knobs: dict[str, Any] = field(default_factory=dict)
    inputs: dict[str, Any] = field(default_factory=dict)
    seed: int | None = None
    summary: str = ""
    cost: dict[str, Any] = field(default_factory=dict)
    facts: dict[str, Any] = field(default_factory=dict)
    dropped: dict[str, list[int]] = field(default_factory=dict)
    parameters: dict[str, int] | None = None
    hashes: dict[str, str] = field(default_factory=dict)
    folder: Path = field(default_factory=Path, compare=False)

    def result(self, annotation: Any) -> Artifact | Bundle:
        """The step's result as handles on its folders."""
        if self.single:
            kind: type[Artifact] = alternatives(annotation)[0]
            return kind(self.folder / next(iter(self.parts.values())))
        hints = typing.get_type_hints(annotation)
        parts = {name: alternatives(hints[name])[0](self.folder / sub) for name, sub in self.parts.items()}
        bundle: Bundle = annotation.of(parts)
        return bundle


class Workspace:
    """A folder that several runs may share."""

    def __init__(self, path: str | Path = ".paredown") -> None:
        self.path = Path(path)
        try:
            for name in ("steps", "work", "locks", "reports"):
                (self.path / name).mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise MachineError(
                f"the workspace cannot be made: {error.strerror}", where=str(self.path), todo="choose another with --workspace"
            ) from None
        note = self.path / ".gitignore"
        if not note.exists():
            with full_disk(self):
                note.write_text("*\n")

    @property
    def ledger_path(self) -> Path:
        return self.path / "ledger.sqlite"

    def step_folder(self, key: str, strategy: str) -> Path:
        return self.path / "steps" / f"{strategy}-{key[:16]}"

    def find(self, key: str, strategy: str) -> Record | None:
        """The finished step, or None."""
        folder = self.step_folder(key, strategy)
        try:
            stored = json.loads((folder / STEP).read_bytes())
        except FileNotFoundError:
            return None
        except (json.JSONDecodeError, OSError):
            raise DataError(f"{strategy}: {STEP} is damaged", where=str(folder), todo="paredown doctor --verify --repair") from None
        if stored.get("key") != key:
            return None
        names = {f.name for f in dataclasses.fields(Record)}
        return Record(**{k: v for k, v in stored.items() if k in names}, folder=folder)

    def records(self) -> Iterator[Record]:
        """All finished steps; folders without a readable step.json are left out (`damage` finds them)."""
        for folder in sorted((self.path / "steps").iterdir()):
            strategy, _, _ = folder.name.rpartition("-")
            try:
                stored = json.loads((folder / STEP).read_bytes())
                found = self.find(stored["key"], strategy)
            except (OSError, ValueError, KeyError, DataError):
                continue
            if found:
                yield found

    @contextlib.contextmanager
    def lock(self, key: str, *, wait: bool = True) -> Iterator[bool]:
        """Hold the step's lock; with `wait=False` gives False at once where another process holds it."""
        lock = FileLock(self.path / "locks" / f"{key[:32]}.lock")
        try:
            lock.acquire(timeout=-1 if wait else 0)
        except Timeout:
            yield False
            return
        try:
            yield True
        finally:
            lock.release()

    def work_folder(self, key: str) -> Path:
        """`work/<key>` with an empty `out` and a `scratch` that a killed try may have left."""
        folder = self.path / "work" / key[:32]
        shutil.rmtree(folder / "out", ignore_errors=True)
        (folder / "out").mkdir(parents=True)
        (folder / "scratch").mkdir(exist_ok=True)
        return folder

    def commit(self, record: Record, result: Artifact | Bundle) -> Record:
        """Seal what the step wrote, write step.json last, and rename the folder into place."""
        work = self.path / "work" / record.key[:32]
        out = work / "out"
        made_by = {"key": record.key, "strategy": record.strategy}
        parts = result.parts() if isinstance(result, Bundle) else {_single_name(result): result}
        for name, artifact in parts.items():
            if artifact.path.parent != out:
                raise UserError(
                    f"{record.strategy} wrote its part {name} outside of the folder that context().output gave", where=str(artifact.path)
                )
            record.parts[name] = artifact.path.name
            record.hashes[name] = artifact.seal(made_by)
        record.single = not isinstance(result, Bundle)
        stored = {k: v for k, v in dataclasses.asdict(record).items() if k != "folder"}
        (out / STEP).write_text(json.dumps({"format": FORMAT, **stored}, indent=1, sort_keys=True, default=str))
        fsync(out / STEP)
        fsync(out)
        target = self.step_folder(record.key, record.strategy)
        if target.exists():  # a damaged or foreign folder under the same name; the lock is held
            shutil.rmtree(target)
        os.rename(out, target)
        fsync(target.parent)
        shutil.rmtree(work, ignore_errors=True)
        record.folder = target
        return record

    def damage(self, *, deep: bool) -> dict[Path, list[str]]:
        """Folders that are not sound, with what is wrong; `deep` compares every checksum."""
        found: dict[Path, list[str]] = {}
        for folder in sorted((self.path / "steps").iterdir()):
            try:
                stored = json.loads((folder / STEP).read_bytes())
            except FileNotFoundError:
                found[folder] = [f"{STEP} is missing"]
                continue
            except (json.JSONDecodeError, UnicodeDecodeError, OSError):
                found[folder] = [f"{STEP} is damaged"]
                continue
            problems = []
            for sub in stored.get("parts", {}).values():
                artifact = Artifact(folder / sub)
                if not (artifact.path / MANIFEST).exists():
                    problems.append(f"{sub}/{MANIFEST} is missing")
                elif deep:
                    problems += [f"{sub}/{text}" for text in artifact.damage()]
            if problems:
                found[folder] = problems
        return found

    def unfinished(self) -> list[Path]:
        """Work folders that no process holds: steps that were killed and not run again."""
        found = []
        for folder in sorted((self.path / "work").iterdir()):
            with self.lock(folder.name, wait=False) as held:
                if held:
                    found.append(folder)
        return found

    def remove(self, folder: Path, key: str) -> bool:
        """Delete a step or work folder unless a process holds its lock."""
        with self.lock(key, wait=False) as held:
            if held:
                shutil.rmtree(folder, ignore_errors=True)
            return held


def _single_name(artifact: Artifact) -> str:
    return artifact.kind.lower()


@contextlib.contextmanager
def full_disk(workspace: Workspace) -> Iterator[None]:
    """Turn 'no space left' into an error that says what to do; the workspace stays sound, because nothing is renamed."""
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise disk_error(workspace) from error


def disk_error(workspace: Workspace) -> MachineError:
    left = shutil.disk_usage(workspace.path).free
    return MachineError(
        f"the disk is full: {left / 1e6:.1f} MB left",
        where=str(workspace.path),
        kept="all finished steps, and the progress of the one that stopped",
        todo="free space (paredown gc shows what can go) or choose another --workspace; the same command then goes on",
    )


def folder_bytes(path: Path) -> int:
    return sum(p.stat().st_size for p in path.rglob("*") if p.is_file())
