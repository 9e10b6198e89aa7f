"""What flows between steps: a folder of files with an `artifact.json` that names their type and checksums."""

from __future__ import annotations

import hashlib
import json
import os
import re
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self

from paredown.core.errors import DataError

if TYPE_CHECKING:
    from pydantic import GetCoreSchemaHandler
    from pydantic_core import CoreSchema

MANIFEST = "artifact.json"
_checked: dict[tuple[str, int, int], None] = {}  # files whose checksum this process has compared already


@dataclass(frozen=True)
class Reference:
    """`$step` or `$step.part`; without a part the callee gets the step's whole result or its first part."""

    step: str
    part: str | None = None

    def __str__(self) -> str:
        return f"{self.step}.{self.part}" if self.part else self.step

    @classmethod
    def read(cls, value: Any) -> Reference | None:
        """The reference that a recipe's text is, or None."""
        match = _REFERENCE.match(value) if isinstance(value, str) else None
        return cls(match[1], match[2]) if match else None


_REFERENCE = re.compile(r"\$([A-Za-z_][A-Za-z0-9_-]*)(?:\.([A-Za-z_][A-Za-z0-9_]*))?\Z")
REFERENCE_SCHEMA = {
    "type": "string",
    "pattern": r"^\$[A-Za-z_][A-Za-z0-9_-]*(\.[A-Za-z_][A-Za-z0-9_]*)?$",
    "description": "$step or $step.part",
}


class Artifact:
    """A handle on a folder; data is read when asked for, never when the handle is made.

    A subclass says its format and gives readers and one writer. Writers write into an empty folder that the step was
    given; the workspace adds checksums (`seal`) and renames the folder into place.
    """

    kind: ClassVar[str] = "artifact"

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({str(self.path)!r})"

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        """As the type of a part's field: an artifact, or in a recipe a reference to one."""
        from pydantic_core import core_schema

        def known(value: Any) -> Artifact | Reference:
            found = Reference.read(value) or value
            if isinstance(found, (cls, Reference)):
                return found
            raise ValueError(f"expected a reference to {cls.kind}, such as $step or $step.part")

        return core_schema.no_info_plain_validator_function(known)

    @classmethod
    def __get_pydantic_json_schema__(cls, schema: Any, handler: Any) -> dict[str, Any]:
        return dict(REFERENCE_SCHEMA)

    def summary(self) -> str:
        """One short phrase for progress lines, such as '712 documents, 12.4 MB'."""
        return ""

    def file(self, name: str) -> Path:
        """Path of one of the artifact's files, after comparing its checksum once per process.

        Raises:
            DataError: the file is missing or differs from what was written.
        """
        path = self.path / name
        expected = self._manifest().get("files", {}).get(name)
        try:
            stat = path.stat()
        except FileNotFoundError:
            raise DataError(f"{self.kind}: the file {name} is missing", where=str(path)) from None
        if expected is None:
            return path
        mark = (str(path), stat.st_mtime_ns, stat.st_size)
        if mark not in _checked:
            if stat.st_size != expected["bytes"] or sha256(path) != expected["sha256"]:
                raise DataError(
                    f"{self.kind}: {name} is damaged: its checksum is not the one that was written",
                    where=str(path),
                    todo="paredown doctor --verify --repair removes damaged steps; the next run makes them again",
                )
            _checked[mark] = None
        return path

    def read_json(self, name: str) -> Any:
        """Content of one of the artifact's JSON files."""
        try:
            return json.loads(self.file(name).read_bytes())
        except json.JSONDecodeError as error:
            raise DataError(f"{self.kind}: {name} is no JSON: {error}", where=str(self.path / name)) from None

    @property
    def identity(self) -> str:
        """What names this very content: the beginning of its hash, or the folder's name where it was not sealed."""
        return str(self._manifest().get("hash", self.path.name))[:16]

    def size(self) -> int:
        """Bytes on disk, the manifest not counted."""
        return sum(p.stat().st_size for p in self.path.rglob("*") if p.is_file() and p.name != MANIFEST)

    def _manifest(self) -> dict[str, Any]:
        try:
            loaded: dict[str, Any] = json.loads((self.path / MANIFEST).read_bytes())
        except FileNotFoundError:
            return {}
        except json.JSONDecodeError:
            raise DataError(f"{self.kind}: {MANIFEST} is damaged", where=str(self.path)) from None
        return loaded

    def seal(self, made_by: dict[str, Any]) -> str:
        """Write the manifest last, fsync all, and return the artifact's content hash (hex)."""
        files = {}
        for path in sorted(p for p in self.path.rglob("*") if p.is_file() and p.name != MANIFEST):
            files[path.relative_to(self.path).as_posix()] = {"bytes": path.stat().st_size, "sha256": sha256(path)}
            fsync(path)
        content = hashlib.sha256(json.dumps(files, sort_keys=True).encode()).hexdigest()
        manifest = {"type": self.kind, "hash": content, "made_by": made_by, "files": files}
        (self.path / MANIFEST).write_text(json.dumps(manifest, indent=1, sort_keys=True))
        fsync(self.path / MANIFEST)
        fsync(self.path)
        return content

    def damage(self) -> list[str]:
        """Every way in which the folder differs from its manifest; empty where it is sound."""
        try:
            files = self._manifest().get("files", {})
        except DataError as error:
            return [error.what]
        if not files and not (self.path / MANIFEST).exists():
            return [f"{MANIFEST} is missing"]
        found = []
        for name, expected in files.items():
            path = self.path / name
            if not path.exists():
                found.append(f"{name} is missing")
            elif path.stat().st_size != expected["bytes"] or sha256(path) != expected["sha256"]:
                found.append(f"{name} is damaged")
        return found


@dataclass(frozen=True)
class Bundle:
    """Several named artifacts from one step; a reference without a part name means the first field.

    Subclass as a frozen dataclass whose fields are artifacts (or `Artifact | None` where a part may be absent).
    """

    def parts(self) -> dict[str, Artifact]:
        return {f.name: getattr(self, f.name) for f in fields(self) if getattr(self, f.name) is not None}

    def summary(self) -> str:
        """One short phrase for progress lines; by default that of the first part."""
        return next(iter(self.parts().values())).summary()

    @classmethod
    def of(cls, parts: dict[str, Artifact]) -> Self:
        return cls(**{f.name: parts.get(f.name) for f in fields(cls)})


def sha256(path: Path) -> str:
    with open(path, "rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def fsync(path: Path) -> None:
    """Flush a file or folder to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
