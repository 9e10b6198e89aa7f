"""Images as examples: decoded in tasks that survive a kill, labelled, and split by what the images show.

A task decodes some files, or some rows of a row group of a Parquet file, into `images.parquet`: the pixels of each image as
bytes with their height and width, its label as it was found, and the place that it came from.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Iterable, Iterator
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import polars as pl
import pyarrow
import pyarrow.parquet

from paredown.artifacts.example_split import ExampleSplit
from paredown.artifacts.examples import Examples
from paredown.core.context import context
from paredown.core.errors import DataError, UserError
from paredown.core.wording import did_you_mean
from paredown.engines import example_splits
from paredown.engines.documents import Task, run_shards
from paredown.engines.reading import named

ENDINGS = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm", ".pgm", ".pbm"})
FORMATS = ("PNG", "JPEG", "BMP", "GIF", "WEBP", "TIFF", "PPM")  # others are not opened: some run a program
FILES = 1024  # image files of a task
SHOWN = 20  # places of images that were set aside, in the step's facts
DECODED = {"image": pl.Binary, "height": pl.Int32, "width": pl.Int32, "label": pl.String, "place": pl.String}
Array = np.ndarray[Any, Any]


def decode(data: bytes, size: int | None, channels: int) -> Array:
    """Pixels of an encoded image, (channels, height, width), unsigned bytes; turned as its EXIF data say, transparency ignored.

    With `size` it is resized to size x size by a filter that weighs all pixels (bilinear, widened to the scale).

    Raises:
        ValueError: it is no image, or a broken one; the message is the reason.
    """
    from PIL import Image, ImageOps, UnidentifiedImageError

    try:
        image: Any = Image.open(io.BytesIO(data), formats=FORMATS)
        if size is not None:
            image.draft("L" if channels == 1 else "RGB", (2 * size, 2 * size))  # JPEG: decode no more detail than is used
        ImageOps.exif_transpose(image, in_place=True)
        if image.mode.startswith(("I", "F")):  # more than 8 bits, which Pillow would clip
            image = Image.fromarray(_eight_bits(np.asarray(image)))
        image = image.convert("L" if channels == 1 else "RGB")
        if size is not None and image.size != (size, size):
            image = image.resize((size, size), Image.Resampling.BILINEAR)
        pixels = np.asarray(image, dtype=np.uint8)
    except UnidentifiedImageError:
        raise ValueError("no_image") from None
    except Image.DecompressionBombError:
        raise ValueError("too_large") from None
    except MemoryError:
        raise
    except Exception:  # decoders meet broken data with whatever error they run into
        raise ValueError("broken_image") from None
    return np.ascontiguousarray(pixels[None] if pixels.ndim == 2 else pixels.transpose(2, 0, 1))


def _eight_bits(values: Array) -> Array:
    """Grey values of 16 bits (0 to 65535) as 8 bits.

    Raises:
        ValueError: they are of another range.
    """
    if values.dtype.kind not in "iu" or values.min() < 0 or values.max() > 0xFFFF:
        raise ValueError("they are no 16-bit numbers")
    return ((values.astype(np.uint32) * 255 + 0x7FFF) // 0xFFFF).astype(np.uint8)


def read(path: str, *, image: str, label: str, size: int | None, channels: int, limit: int) -> tuple[pl.DataFrame, list[str]]:
    """(frame of `image` and `label`, names of the labels where they were words) of everything that `path` means.

    Raises:
        UserError: nothing matches, the columns cannot be told, or images differ in size and `size` is not given.
        DataError: not one image could be read.
    """
    here = context()
    tasks = list(_tasks(path, image, label, limit))
    knobs = {"size": size, "channels": channels}
    done = run_shards("images", [{**task, **knobs} for task in tasks], decode_task, unit="images")
    reasons: dict[str, int] = {}
    aside: list[list[str]] = []
    for _, record in done:
        for reason, count, weight in record["rules"]:
            here.drop(reason, count, weight)
            reasons[reason] = reasons.get(reason, 0) + count
        aside += record["aside"]
    here.facts["set_aside"] = aside[:SHOWN]
    read = pl.concat([pl.read_parquet(folder / "images.parquet") for folder, _ in done] or [pl.DataFrame(schema=DECODED)])
    here.charge(documents=read.height)
    if not read.height:
        why = ", ".join(f"{count:,} {reason}" for reason, count in sorted(reasons.items()))
        raise DataError(f"not one image could be read ({why or 'there are none'})", where=path)
    sizes = read.select("height", "width").unique().sort("height", "width").rows()
    if len(sizes) > 1:
        said = ", ".join(f"{height}x{width}" for height, width in sizes[:4]) + (", ..." if len(sizes) > 4 else "")
        raise UserError(f"the images are of different sizes: {said}", where="size", todo=f"set size: {sizes[0][0]}")
    pixels = np.frombuffer(b"".join(read["image"].to_list()), dtype=np.uint8).reshape(read.height, channels, *sizes[0])
    found, names = numbered(read["label"], counted=all(record["counted"] for _, record in done))
    return frame(pixels, found), names


def frame(pixels: Array, labels: Array) -> pl.DataFrame:
    """Examples of images (rows, channels, height, width) and their labels."""
    return pl.DataFrame({"image": pl.Series(pixels.astype(np.uint8, copy=False)), "label": pl.Series(labels.astype(np.int64))})


def numbered(labels: pl.Series, *, counted: bool) -> tuple[Array, list[str]]:
    """Labels as numbers: as they are where they were `counted`, else by the place of each name among the sorted ones.

    Names that are all whole numbers are sorted as numbers.
    """
    if counted:
        return labels.cast(pl.Int64).to_numpy(), []
    names = labels.unique().to_list()
    names.sort(key=(lambda name: (int(name), name)) if all(name.isdecimal() for name in names) else None)
    place = {name: number for number, name in enumerate(names)}
    return np.array([place[name] for name in labels], dtype=np.int64), names


def split(examples: pl.DataFrame, held_out: float) -> tuple[pl.DataFrame, pl.DataFrame]:
    """(to learn from, held out): of each label the share `held_out`, to the nearest whole number, in the order of a hash of the pixels.

    The same images are held out whatever the seed and the order of the rows; identical images never fall on both sides.
    """
    pixels, labels = examples["image"].to_numpy(), examples["label"].to_numpy()
    mark = np.array([hashlib.sha256(row.tobytes()).digest()[:16] for row in pixels], dtype="S16")
    out = example_splits.held_out(mark, labels, held_out)
    return examples.filter(~out), examples.filter(out)


def write(examples: pl.DataFrame, held_out: float) -> ExampleSplit:
    """Both sides as the step's parts; without a share held out, one.

    Raises:
        DataError: there are too few images for two sides.
    """
    if not held_out:
        return ExampleSplit(Examples.write(context().output("train"), examples))
    sides = split(examples, held_out)
    if not all(side.height for side in sides):
        raise DataError(
            f"{examples.height:,} images are too few to hold out a share of {held_out:g} of each label",
            todo="change held_out, or read more",
        )
    return ExampleSplit(*(Examples.write(context().output(part), side) for part, side in zip(("train", "held_out"), sides, strict=True)))


# What to read


def _tasks(path: str, image: str, label: str, limit: int) -> Iterator[Task]:
    """Tasks over the Parquet files or the image files that `path` means."""
    files = named(path)
    tables = [(name, file) for name, file in files if file.suffix.lower() == ".parquet"]
    if tables and any(file.suffix.lower() in ENDINGS for _, file in files):
        raise UserError(
            f"{path} holds both Parquet files and images", where="path", todo="give one kind, with a pattern such as data/*.parquet"
        )
    if tables:
        yield from _table_tasks(tables, image, label, limit)
        return
    if limit:
        chosen = set(sample([name for name, file in files if file.suffix.lower() in ENDINGS], limit))
        files = [(name, file) for name, file in files if name in chosen]
    for begin in range(0, len(files), FILES):
        some = files[begin : begin + FILES]
        paths = [[name, str(file.resolve()), PurePosixPath(name).parent.name] for name, file in some]
        yield {"shard": some[0][0], "files": paths, "bytes": sum(file.stat().st_size for _, file in some)}


def sample(places: Iterable[str], count: int) -> list[str]:
    """`count` of the places, drawn by a fixed hash of each, in the order that they were given."""
    places = list(places)
    chosen = set(sorted(places, key=lambda name: hashlib.sha256(name.encode()).digest())[:count])
    return [name for name in places if name in chosen]


def _table_tasks(tables: list[tuple[str, Path]], image: str, label: str, limit: int) -> Iterator[Task]:
    found: list[Task] = []
    for name, file in tables:
        task: Task = {"shard": name, "table": str(file.resolve()), "bytes": file.stat().st_size}
        try:
            opened = pyarrow.parquet.ParquetFile(file)
            meta, schema = opened.metadata, opened.schema_arrow
        except (pyarrow.ArrowException, OSError):
            found.append({**task, "broken": True})
            continue
        columns = columns_of(schema, image, label, name)
        first = 0
        for group in range(meta.num_row_groups):
            rows = meta.row_group(group).num_rows
            size = meta.row_group(group).total_byte_size
            found.append({**task, "group": group, "first": first, "rows": rows, "columns": columns, "bytes": size})
            first += rows
    if limit:
        everywhere = [f"{task['shard']}:{task['first'] + row}" for task in found if "rows" in task for row in range(task["rows"])]
        chosen = set(sample(everywhere, limit))
        for task in found:
            if "rows" in task:
                task["wanted"] = [row for row in range(task["rows"]) if f"{task['shard']}:{task['first'] + row}" in chosen]
    yield from found


def columns_of(schema: pyarrow.Schema, image: str, label: str, where: str) -> list[str]:
    """[column of images, column of labels]: those that are named, else the only one of bytes, and `label` or the only other one.

    Raises:
        UserError: there is no such column, or several could be meant.
    """
    names = list(schema.names)
    for knob, given in (("image", image), ("label", label)):
        if given and given not in names:
            raise UserError(f"{where} has no column {given!r}; there are {', '.join(names)}", where=knob, todo=did_you_mean(given, names))
    kinds = {name: schema.field(name).type for name in names}
    images = [image] if image else [name for name in names if _holds_images(kinds[name])]
    if len(images) != 1:
        said = f"several columns of bytes: {', '.join(images)}" if images else f"no column of bytes; there are {', '.join(names)}"
        raise UserError(f"{where} has {said}", where="image", todo="set image to the column that holds the images")
    others = [name for name in names if name != images[0] and _holds_labels(kinds[name])]
    labels = [label] if label else ["label"] if "label" in others else others
    if len(labels) != 1:
        said = (
            f"several columns that could be labels: {', '.join(labels)}" if labels else f"no column of labels; there are {', '.join(names)}"
        )
        raise UserError(f"{where} has {said}", where="label", todo="set label to the column that holds the labels")
    return [images[0], labels[0]]


def _holds_images(kind: pyarrow.DataType) -> bool:
    types = pyarrow.types
    if types.is_struct(kind):
        return any(kind.field(number).name == "bytes" for number in range(kind.num_fields))
    return bool(types.is_binary(kind) or types.is_large_binary(kind))


def _holds_labels(kind: pyarrow.DataType) -> bool:
    types = pyarrow.types
    kind = kind.value_type if types.is_dictionary(kind) else kind
    return bool(types.is_integer(kind) or types.is_boolean(kind) or types.is_string(kind) or types.is_large_string(kind))


# One task


def decode_task(task: Task, folder: Path) -> dict[str, Any]:
    """Decode what a task names; a bad image costs that image."""
    rows: list[tuple[Any, ...]] = []
    rules: dict[str, list[int]] = {}
    aside: list[list[str]] = []
    counted = True  # labels are numbers already
    for where, data, label, reason in _of_table(task) if "table" in task else _of_files(task):
        if not reason:
            try:
                pixels = decode(data, task["size"], task["channels"])
                rows.append((pixels.tobytes(), *pixels.shape[1:], str(label), where))
                counted &= not isinstance(label, str)
                continue
            except ValueError as error:
                reason = str(error)
        count = rules.setdefault(reason, [0, 0])
        count[0] += 1
        count[1] += len(data)
        if len(aside) < SHOWN:
            aside.append([where, reason])
    pl.DataFrame(rows, schema=DECODED, orient="row").write_parquet(folder / "images.parquet", compression="zstd", compression_level=1)
    found = [[rule, *counts] for rule, counts in sorted(rules.items())]
    return {"rules": found, "aside": aside, "counted": counted, "images": len(rows)}


Found = Iterator[tuple[str, bytes, "str | int", str]]  # place, encoded image, label, and the reason where it is no good


def _of_files(task: Task) -> Found:
    for name, path, label in task["files"]:
        if Path(path).suffix.lower() not in ENDINGS:
            yield name, b"", label, "unknown_format"
            continue
        try:
            yield name, Path(path).read_bytes(), label, "" if label else "no_label"
        except OSError:
            yield name, b"", label, "unreadable"


def _of_table(task: Task) -> Found:
    if task.get("broken"):
        yield task["shard"], b"", "", "broken_file"
        return
    wanted = set(task["wanted"]) if "wanted" in task else None
    number = 0
    try:
        opened = pyarrow.parquet.ParquetFile(task["table"])
        for batch in opened.iter_batches(256, row_groups=[task["group"]], columns=task["columns"]):
            images, labels = (batch.column(name) for name in task["columns"])
            for row in range(batch.num_rows):
                if wanted is None or number in wanted:
                    yield f"{task['shard']}:{task['first'] + number}", *_of_row(images[row], labels[row])
                number += 1
    except (pyarrow.ArrowException, OSError):
        yield f"{task['shard']}:{task['first'] + number}", b"", "", "broken_file"


def _of_row(stored: pyarrow.Scalar, mark: pyarrow.Scalar) -> tuple[bytes, str | int, str]:
    try:
        image, label = stored.as_py(), mark.as_py()
    except UnicodeDecodeError:  # of a label, or of a path beside the image
        return b"", "", "invalid_utf8"
    data = image.get("bytes") if isinstance(image, dict) else image
    data = bytes(data) if isinstance(data, (bytes, bytearray)) else b""
    if label is None or label == "" or (not isinstance(label, str) and label < 0):  # -1 is a common mark for it
        return data, "", "no_label"
    return data, label if isinstance(label, str) else int(label), "" if data else "no_bytes"
