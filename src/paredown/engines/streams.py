"""Files that may be packed, read as far as they go: a torn archive ends where it is torn, and says so."""

from __future__ import annotations

import contextlib
import io
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, TextIO

CHUNK = 1 << 20
GZIP = 31  # zlib's window for the gzip format


class Unpacked(io.RawIOBase):
    """Chunks as a file; `broken` says why it ended early."""

    def __init__(self, chunks: Iterator[bytes]) -> None:
        self.chunks = chunks
        self.rest = memoryview(b"")
        self.broken = ""

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        while not self.rest:
            try:
                self.rest = memoryview(next(self.chunks))
            except StopIteration:
                return 0
            except (zlib.error, EOFError, OSError) as error:
                self.broken = str(error) or "the file ends in the middle"
                return 0
        count = min(len(buffer), len(self.rest))
        buffer[:count] = self.rest[:count]
        self.rest = self.rest[count:]
        return count


class Whole:
    """The state of a file that is not packed."""

    broken = ""


@contextlib.contextmanager
def open_lines(path: str) -> Iterator[tuple[BinaryIO, Unpacked | Whole]]:
    """(file of bytes, its state); .gz and .zst are unpacked on the way. Only plain files can seek."""
    suffix = Path(path).suffix
    if suffix not in (".gz", ".zst"):
        with open(path, "rb", buffering=CHUNK) as plain:
            yield plain, Whole()
        return
    raw = Unpacked(_gzip(path) if suffix == ".gz" else _zstd(path))
    with io.BufferedReader(raw, CHUNK) as stream:
        yield stream, raw


@contextlib.contextmanager
def open_text(path: str) -> Iterator[tuple[TextIO, Unpacked | Whole]]:
    """The same as text; bytes that are no UTF-8 become lone surrogates, so that they can be found row by row."""
    with open_lines(path) as (stream, state), io.TextIOWrapper(stream, "utf-8-sig", "surrogateescape", newline="") as text:
        yield text, state


def _gzip(path: str) -> Iterator[bytes]:
    """Everything that can be unpacked; zlib itself, because gzip.open keeps back what came just before a tear."""
    with open(path, "rb") as stream:
        unpack, started = zlib.decompressobj(GZIP), False
        while chunk := stream.read(CHUNK):
            while chunk:
                started = True
                yield unpack.decompress(chunk, 8 * CHUNK)
                while unpack.unconsumed_tail:
                    yield unpack.decompress(unpack.unconsumed_tail, 8 * CHUNK)
                if not unpack.eof:
                    break
                chunk = unpack.unused_data.lstrip(b"\0")  # members follow one another, perhaps with padding
                unpack, started = zlib.decompressobj(GZIP), False
        if started:
            yield unpack.flush()
            raise EOFError("the archive ends in the middle")


def _zstd(path: str) -> Iterator[bytes]:
    import pyarrow

    with pyarrow.input_stream(path, compression="zstd") as stream:
        while chunk := stream.read(CHUNK // 16):
            yield chunk
