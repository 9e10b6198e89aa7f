"""The interpreter's own standard library as a corpus: real source code that every machine has."""

from __future__ import annotations

import hashlib
import io
import os
import sys
import sysconfig
import tokenize
from pathlib import Path
from typing import Annotated, Any, ClassVar

from pydantic import Field

from paredown.artifacts.corpus import SHARD_BYTES, Corpus, Read
from paredown.core.context import context
from paredown.core.strategy import Strategy

EXCLUDED = ("site-packages", "dist-packages", "__pycache__", "test", "tests", "idle_test", "lib2to3/tests", "turtledemo")


def decode_source(data: bytes) -> str:
    """Text of a Python source by its own declaration (PEP 263), UTF-8 without one.

    Raises:
        ValueError: it cannot be decoded, or holds NUL characters; the message says which.
    """
    try:
        encoding, _ = tokenize.detect_encoding(io.BytesIO(data).readline)
        text = io.TextIOWrapper(io.BytesIO(data), encoding, newline="").read()
        text.encode()  # some encodings make surrogates, which no corpus can hold
    except (SyntaxError, UnicodeError, LookupError):
        raise ValueError("not decodable by its declared encoding") from None
    if "\x00" in text:
        raise ValueError("NUL characters")
    return text.removeprefix("\ufeff")


class Stdlib(Strategy):
    """Read the sources of the running interpreter's standard library.

    Tests, caches and installed packages are left out. The id of a document is its path within the library.

    Source: none (ours); the library of the Python that runs.
    Costs: reading some 12 MB.
    Control: none (it is an input).
    """

    tags: ClassVar[tuple[str, ...]] = ("when-before", "what-data", "speedup-none")

    exclude: tuple[str, ...] = EXCLUDED  # folders to leave out, by name or relative path
    limit: Annotated[int, Field(ge=0)] = 0  # most files to read, spread evenly over the library; 0 reads all
    keep_rejected: bool = False  # keep files that cannot be decoded, with the reason, as the part `rejected`

    def files(self) -> list[Path]:
        """The sources in a fixed order."""
        root = library()
        out = []
        for folder, inner, files in os.walk(root):  # what is left out is not walked: installed packages hold thousands of files
            here = Path(folder).relative_to(root)
            if here.as_posix() in self.exclude:
                inner.clear()
                continue
            inner[:] = [name for name in inner if name not in self.exclude]
            out += [path for name in files if name.endswith(".py") and (path := Path(folder, name)).is_file()]
        out.sort()
        if self.limit and len(out) > self.limit:
            out = [out[i * len(out) // self.limit] for i in range(self.limit)]
        return out

    def external(self) -> Any:
        """The interpreter, and a hash of names, sizes and times of the files."""
        digest, root = hashlib.sha256(), library()
        for path in self.files():
            stat = path.stat()
            digest.update(f"{path.relative_to(root)}\0{stat.st_size}\0{stat.st_mtime_ns}\n".encode())
        return [sys.version, digest.hexdigest()]

    def __call__(self) -> Read:
        import polars as pl

        here = context()
        rows: list[dict[str, str]] = []
        bad: list[dict[str, str]] = []
        files, root = self.files(), library()
        for number, path in enumerate(files):
            name = path.relative_to(root).as_posix()
            data = b""
            try:
                data = path.read_bytes()
                rows.append({"id": name, "text": decode_source(data)})
            except (ValueError, OSError) as caught:
                error = "unreadable" if isinstance(caught, OSError) else str(caught)
                here.drop(error, 1, len(data))
                bad.append({"id": name, "text": data.decode("latin-1"), "reason": error, "place": name})
            here.progress(number + 1, len(files), "files")
        here.charge(documents=len(files))
        schema = {"id": pl.String, "text": pl.String}
        frames, batch, size = [], [], 0
        for row in rows:
            batch.append(row)
            size += len(row["text"])
            if size >= SHARD_BYTES:
                frames.append(pl.DataFrame(batch, schema=schema))
                batch, size = [], 0
        frames.append(pl.DataFrame(batch, schema=schema))
        read = Corpus.write(here.output("documents"), frames)
        rejected = None
        if self.keep_rejected:
            rejected = Corpus.write(
                here.output("rejected"), [pl.DataFrame(bad, schema={**schema, "reason": pl.String, "place": pl.String})]
            )
        return Read(read, rejected)


def library() -> Path:
    """The folder of the standard library."""
    return Path(sysconfig.get_paths()["stdlib"])
