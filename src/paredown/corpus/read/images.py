"""Labelled images from folders and Parquet files."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field

from paredown.artifacts.example_split import ExampleSplit
from paredown.core.context import context
from paredown.core.strategy import Count, Share, Strategy


class Images(Strategy):
    """Read labelled images from Parquet files, or from folders that hold a folder for each label.

    Parquet files have a column of encoded images (bytes, or bytes and path as Hugging Face writes them) and one of labels.
    Labels that are whole numbers stay as they are; words, and names of folders, are numbered in sorted order (as numbers where
    all are), so read training and test images of the same labels. What cannot be used is set aside and counted: no_image,
    broken_image, too_large, no_label (missing, negative, or no folder), no_bytes, invalid_utf8, unknown_format, unreadable,
    broken_file.

    What is held out is fixed by a hash of the pixels, the same share of each label, whatever the seed; identical images never
    fall on both sides.

    Source: none (ours).
    Costs: one pass over the files; memory of all images as they are kept.
    Control: none (it is an input).
    """

    tags: ClassVar[tuple[str, ...]] = ("when-before", "what-data", "speedup-none")
    systems: ClassVar[tuple[int, ...]] = (41,)
    extras: ClassVar[tuple[str, ...]] = ("vision",)

    path: str  # a file, a folder, or a pattern such as images/*/*.png
    size: Count | None = None  # resize to size x size pixels, whatever their shape; all images are of one size where not given
    channels: Literal[1, 3] = 3  # colours, or 1 for grey
    limit: Annotated[int, Field(ge=0)] = 0  # most images to read, drawn by a fixed hash of their places; 0 reads all
    held_out: Share = 0.0  # share of each label that is never trained on; 0 holds nothing out
    image: str = ""  # column of a Parquet file that holds the images; the only one of bytes where empty
    label: str = ""  # column of a Parquet file that holds the labels; `label`, or the only other one, where empty

    def external(self) -> Any:
        """A fingerprint of names, sizes and times of the files."""
        from paredown.engines import reading

        return reading.fingerprint(self.path)

    def estimate(self, inputs: dict[str, Any]) -> dict[str, float]:
        from paredown.engines import reading

        size = reading.total_bytes(self.path)
        known = {"rows": self.limit * (1 - self.held_out)} if self.limit else {}
        return {"seconds": size / 5e6, "disk": 2.0 * size, **known}

    def __call__(self) -> ExampleSplit:
        """Columns `image` (channels, height, width), 0 to 255, and `label`, in the order of the files' names.

        Raises:
            UserError: nothing matches the path, a column cannot be told, or images differ in size and no size is given.
            DataError: not one image could be read, or there are too few to hold some out.
        """
        from paredown.engines import images

        found, names = images.read(self.path, image=self.image, label=self.label, size=self.size, channels=self.channels, limit=self.limit)
        if names:
            context().facts["labels"] = names
        return images.write(found, self.held_out)
