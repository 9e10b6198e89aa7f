"""Images as examples: exact pixels and labels, a fixed split without a leak, and bad images that cost only themselves."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image
from sklearn.datasets import load_digits

from paredown.artifacts.example_split import ExampleSplit
from paredown.core.context import Context, running
from paredown.core.errors import DataError, UserError
from paredown.corpus.read.digits import Digits
from paredown.corpus.read.images import Images
from paredown.engines import images

DRAW = np.random.default_rng(0)


def encoded(pixels: Any, format: str = "PNG", **options: Any) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(np.asarray(pixels)).save(stream, format, **options)
    return stream.getvalue()


def colours(height: int = 6, width: int = 5) -> np.ndarray[Any, Any]:
    return DRAW.integers(0, 256, (height, width, 3), dtype=np.uint8)


def run(folder: Path, strategy: Any) -> tuple[ExampleSplit, Context]:
    (folder / "scratch").mkdir(parents=True)
    step = Context(folder / "out", folder / "scratch")
    with running(step):
        return strategy(), step


def table(path: Path, columns: dict[str, Any], **options: Any) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table(columns), path, **options)
    return str(path)


# Pixels


def test_colours_and_greys_are_kept_exactly():
    pixels = colours()
    assert (images.decode(encoded(pixels), None, 3) == pixels.transpose(2, 0, 1)).all()
    grey = pixels[..., 0]
    assert (images.decode(encoded(grey), None, 1) == grey[None]).all()
    assert (images.decode(encoded(grey), None, 3) == np.stack([grey] * 3)).all()


def test_grey_of_sixteen_bits_is_scaled_and_not_clipped():
    deep = np.array([[0, 128, 257, 32768, 65535]], dtype=np.uint16)
    assert images.decode(encoded(deep), None, 1)[0].tolist() == [[round(v * 255 / 65535) for v in deep[0].tolist()]]


def test_palettes_alpha_and_turned_photographs_are_understood():
    picture = Image.fromarray(colours()).quantize(8)
    stream = io.BytesIO()
    picture.save(stream, "PNG")
    assert (images.decode(stream.getvalue(), None, 3) == np.asarray(picture.convert("RGB")).transpose(2, 0, 1)).all()
    pixels = np.dstack([colours(), np.zeros((6, 5), np.uint8)])
    assert (images.decode(encoded(pixels), None, 3) == pixels[..., :3].transpose(2, 0, 1)).all()
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was turned: show it turned by a quarter clockwise
    pixels = colours()
    assert (images.decode(encoded(pixels, exif=exif), None, 3) == np.rot90(pixels, -1).transpose(2, 0, 1)).all()


@pytest.mark.parametrize("size", [4, 8, 24])
def test_resizing_weighs_all_pixels_as_torch_does(size):
    pixels = colours(16, 12)
    found = images.decode(encoded(pixels), size, 3).astype(float)
    planes = torch.from_numpy(pixels.transpose(2, 0, 1)[None].astype(np.float32))
    expected = torch.nn.functional.interpolate(planes, (size, size), mode="bilinear", antialias=True)[0]
    assert np.abs(found - expected.numpy()).max() < 1.6  # rounded after each of the two directions


def test_a_large_jpeg_is_decoded_at_less_detail_to_nearly_the_same_image():
    y, x = np.mgrid[0:512, 0:512]
    smooth = np.stack([x / 2, y / 2, (x + y) / 4], axis=2).astype(np.uint8)
    found = images.decode(encoded(smooth, "JPEG", quality=95), 16, 3).astype(int)
    exact = np.asarray(Image.fromarray(smooth).resize((16, 16), Image.Resampling.BILINEAR)).transpose(2, 0, 1).astype(int)
    assert np.abs(found - exact).max() <= 4


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "no_image"),
        (b"not an image", "no_image"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\nshowpage\n", "no_image"),
        (encoded(colours(40, 40))[:-300], "broken_image"),
        (encoded(colours(40, 40), "JPEG")[:400], "broken_image"),
        (encoded(colours())[:33], "no_image"),
    ],
)
def test_what_is_no_image_says_so(data, reason):
    with pytest.raises(ValueError, match=reason):
        images.decode(data, None, 3)


def test_an_image_of_too_many_pixels_is_refused_before_it_is_decoded(monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    with pytest.raises(ValueError, match="too_large"):
        images.decode(encoded(colours(30, 30)), None, 3)


# Folders


def folders(root: Path, names: list[str], each: int = 3) -> dict[str, list[Any]]:
    made: dict[str, list[Any]] = {name: [colours() for _ in range(each)] for name in names}
    for name, pictures in made.items():
        (root / name).mkdir(parents=True)
        for number, pixels in enumerate(pictures):
            (root / name / f"{number}.png").write_bytes(encoded(pixels))
    return made


def test_a_folder_for_each_label_gives_images_in_the_order_of_names_and_sorted_labels(tmp_path):
    made = folders(tmp_path / "data", ["dog", "cat", "Ünter"])
    found, step = run(tmp_path / "a", Images(path=str(tmp_path / "data")))
    assert found.held_out is None
    arrays = found.train.arrays()
    assert step.facts["labels"] == ["cat", "dog", "Ünter"]
    assert arrays["label"].tolist() == [0] * 3 + [1] * 3 + [2] * 3
    expected = np.stack([pixels for name in ("cat", "dog", "Ünter") for pixels in made[name]]).transpose(0, 3, 1, 2)
    assert (arrays["image"] == expected).all()
    assert step.cost.documents == 9


def test_folders_named_by_numbers_are_sorted_as_numbers(tmp_path):
    folders(tmp_path / "data", ["10", "9", "0"], each=1)
    found, step = run(tmp_path / "a", Images(path=str(tmp_path / "data" / "*" / "*.png")))
    assert step.facts["labels"] == ["0", "9", "10"]
    assert sorted(found.train.arrays()["label"]) == [0, 1, 2]


def test_bad_files_cost_only_themselves_and_are_counted(tmp_path):
    folders(tmp_path / "data", ["a", "b"])
    for name, data in [
        ("a/x.png", b"text"),
        ("b/y.jpg", encoded(colours(40, 40), "JPEG")[:400]),
        ("a/z.txt", b"?"),
        ("root.png", encoded(colours())),
    ]:
        (tmp_path / "data" / name).write_bytes(data)
    (tmp_path / "data" / "a" / "gone.png").symlink_to("/dev/null/gone")
    found, step = run(tmp_path / "a", Images(path=str(tmp_path / "data"), size=4, channels=1))
    assert found.train.arrays()["image"].shape == (6, 1, 4, 4)
    assert {reason: row[0] for reason, row in step.dropped.items()} == {
        "no_image": 1,
        "broken_image": 1,
        "unknown_format": 1,
        "no_label": 1,
    }
    assert ["a/x.png", "no_image"] in step.facts["set_aside"]


def test_a_file_that_is_gone_costs_only_itself(tmp_path):
    folders(tmp_path / "data", ["a"], each=1)
    files = [["a/gone.png", str(tmp_path / "gone.png"), "a"], ["a/0.png", str(tmp_path / "data" / "a" / "0.png"), "a"]]
    record = images.decode_task({"shard": "a", "files": files, "size": None, "channels": 3}, tmp_path)
    assert (record["images"], record["rules"]) == (1, [["unreadable", 1, 0]])


def test_images_of_several_sizes_need_a_size(tmp_path):
    folders(tmp_path / "data", ["a"])
    (tmp_path / "data" / "a" / "big.png").write_bytes(encoded(colours(9, 9)))
    with pytest.raises(UserError, match="6x5, 9x9") as caught:
        run(tmp_path / "a", Images(path=str(tmp_path / "data")))
    assert caught.value.todo == "set size: 6"


def test_nothing_to_read_says_why(tmp_path):
    with pytest.raises(UserError, match="no file matches"):
        run(tmp_path / "a", Images(path=str(tmp_path / "none")))
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "x.png").write_bytes(b"?")
    with pytest.raises(DataError, match="1 no_label"):
        run(tmp_path / "b", Images(path=str(tmp_path / "data")))


# Parquet


def test_bytes_and_path_as_hugging_face_writes_them(tmp_path):
    pictures = [colours() for _ in range(7)]
    rows = [{"bytes": encoded(p), "path": f"{n}.png"} for n, p in enumerate(pictures)]
    path = table(
        tmp_path / "data" / "train.parquet", {"id": list("abcdefg"), "img": rows, "label": [2, 0, 1, 1, 0, 2, 2]}, row_group_size=3
    )
    found, step = run(tmp_path / "a", Images(path=path))
    arrays = found.train.arrays()
    assert arrays["label"].tolist() == [2, 0, 1, 1, 0, 2, 2]
    assert (arrays["image"] == np.stack(pictures).transpose(0, 3, 1, 2)).all()
    assert "labels" not in step.facts


def test_labels_that_are_words_are_numbered_over_all_files(tmp_path):
    for name, labels in (("a", ["dog", "cat"]), ("b", ["ant", "dog"])):
        column = pa.array(labels).dictionary_encode()
        table(tmp_path / "data" / f"{name}.parquet", {"image": [encoded(colours()) for _ in labels], "kind": column})
    found, step = run(tmp_path / "run", Images(path=str(tmp_path / "data")))
    assert step.facts["labels"] == ["ant", "cat", "dog"]
    assert found.train.arrays()["label"].tolist() == [2, 1, 0, 2]


def test_bad_rows_and_torn_files_cost_only_themselves(tmp_path):
    good = encoded(colours())
    rows = [{"bytes": b, "path": "p"} for b in (good, b"?", None, good, good)]
    table(tmp_path / "data" / "a.parquet", {"image": rows, "label": pa.array([1, 1, 1, -1, None], pa.int32())})
    whole = Path(table(tmp_path / "data" / "b.parquet", {"image": rows[:1], "label": [0]})).read_bytes()
    (tmp_path / "data" / "c.parquet").write_bytes(whole[:-20])
    found, step = run(tmp_path / "run", Images(path=str(tmp_path / "data")))
    assert found.train.arrays()["label"].tolist() == [1, 0]
    assert {reason: row[0] for reason, row in step.dropped.items()} == {"no_image": 1, "no_bytes": 1, "no_label": 2, "broken_file": 1}


def test_a_label_that_is_no_utf8_costs_its_row(tmp_path):
    bad = pa.Array.from_buffers(pa.string(), 2, [None, pa.py_buffer(np.array([0, 1, 3], np.int32)), pa.py_buffer(b"a\xff\xfe")])
    path = table(tmp_path / "data" / "a.parquet", {"image": [encoded(colours())] * 2, "label": bad})
    found, step = run(tmp_path / "run", Images(path=path))
    assert found.train.rows == 1
    assert step.dropped["invalid_utf8"][0] == 1


@pytest.mark.parametrize(
    ("columns", "knobs", "said"),
    [
        ({"image": [b"x"], "other": [b"x"], "label": [0]}, {}, "several columns of bytes: image, other"),
        ({"text": ["x"], "label": [0]}, {}, "no column of bytes; there are text, label"),
        ({"img": [b"x"], "fine": [0], "coarse": [0]}, {}, "several columns that could be labels: fine, coarse"),
        ({"img": [b"x"]}, {}, "no column of labels"),
        ({"img": [b"x"], "fine": [0]}, {"label": "fin"}, "no column 'fin'"),
    ],
)
def test_columns_that_cannot_be_told_are_asked_for(tmp_path, columns, knobs, said):
    with pytest.raises(UserError, match=said):
        run(tmp_path / "run", Images(path=table(tmp_path / "data" / "a.parquet", columns), **knobs))


def test_a_column_that_is_named_is_taken(tmp_path):
    path = table(tmp_path / "a.parquet", {"img": [encoded(colours())], "fine": [7], "coarse": [3]})
    assert run(tmp_path / "run", Images(path=path, label="coarse"))[0].train.arrays()["label"].tolist() == [3]


def test_a_limit_draws_the_same_rows_whatever_the_row_groups(tmp_path):
    pictures = [encoded(colours(2, 2)) for _ in range(60)]
    found = []
    for size in (60, 7):
        path = table(tmp_path / str(size) / "a.parquet", {"image": pictures, "label": list(range(60))}, row_group_size=size)
        found.append(run(tmp_path / f"run{size}", Images(path=path, limit=20))[0].train.arrays()["label"].tolist())
    assert found[0] == found[1] == sorted(found[0])
    assert len(set(found[0])) == 20
    assert found[0] != list(range(20))
    folders(tmp_path / "data", ["a", "b", "c"], each=20)
    labels = run(tmp_path / "run", Images(path=str(tmp_path / "data"), limit=15))[0].train.arrays()["label"]
    assert len(labels) == 15
    assert set(labels) == {0, 1, 2}, "not the first folder alone"


def test_parquet_and_images_together_are_refused(tmp_path):
    folders(tmp_path / "data", ["a"], each=1)
    table(tmp_path / "data" / "b.parquet", {"image": [b""], "label": [0]})
    with pytest.raises(UserError, match="both"):
        run(tmp_path / "run", Images(path=str(tmp_path / "data")))


# The split


def frame(labels: list[int], pixels: Any = None) -> pl.DataFrame:
    pixels = DRAW.integers(0, 256, (len(labels), 1, 3, 3)) if pixels is None else pixels
    return images.frame(pixels.astype(np.uint8), np.array(labels))


@pytest.mark.parametrize("share", [0.1, 0.25, 0.5, 0.9])
def test_the_split_is_exact_for_each_label_and_whole(share):
    examples = frame([0] * 40 + [1] * 11 + [2] * 3)
    train, held_out = images.split(examples, share)
    assert sorted(pl.concat([train, held_out])["image"].to_list()) == sorted(examples["image"].to_list())
    counts = dict(held_out["label"].value_counts().rows())
    assert [counts.get(label, 0) for label in range(3)] == [int(share * n + 0.5) for n in (40, 11, 3)]


def test_the_split_does_not_depend_on_the_order_of_rows():
    examples = frame([n % 4 for n in range(80)])
    turned = examples[DRAW.permutation(80)]
    held_out = [sorted(images.split(e, 0.3)[1]["image"].to_list()) for e in (examples, turned)]
    assert held_out[0] == held_out[1]


def test_identical_images_never_fall_on_both_sides():
    pixels = DRAW.integers(0, 3, (300, 1, 1, 3))  # 27 different images, many times each, under any label
    train, held_out = images.split(frame([n % 3 for n in range(300)], pixels), 0.3)
    sides = [{str(image) for image in side["image"].to_list()} for side in (train, held_out)]
    assert sides[0]
    assert sides[1]
    assert not sides[0] & sides[1]


def test_too_few_images_for_two_sides_are_an_error(tmp_path):
    folders(tmp_path / "data", ["a", "b"], each=1)
    with pytest.raises(DataError, match="too few"):
        run(tmp_path / "run", Images(path=str(tmp_path / "data"), held_out=0.2))


# Digits


def test_digits_are_scikit_learns_and_both_sides_make_all_of_them(tmp_path):
    found, _ = run(tmp_path / "a", Digits())
    assert found.held_out is not None
    parts = [found.train.arrays(), found.held_out.arrays()]
    stored = np.concatenate([part["image"] for part in parts])
    assert stored.dtype == np.uint8
    assert stored.shape == (1797, 1, 8, 8)
    rows = {(image.tobytes(), int(label)) for part in parts for image, label in zip(part["image"], part["label"], strict=True)}
    known = load_digits()
    assert {
        (np.rint(image * 255 / 16).astype(np.uint8).tobytes(), int(label)) for image, label in zip(known.images, known.target, strict=True)
    } == rows
    assert set(np.unique(stored)) == {round(level * 255 / 16) for level in range(17)}, "all 17 levels stay apart"
    assert found.held_out.rows == 359
    assert run(tmp_path / "b", Digits(held_out=0))[0].train.rows == 1797
