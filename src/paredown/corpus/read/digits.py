"""Real handwritten digits that come with scikit-learn."""

from __future__ import annotations

from typing import Any, ClassVar

from paredown.artifacts.example_split import ExampleSplit
from paredown.core.context import context
from paredown.core.strategy import Share, Strategy


class Digits(Strategy):
    """Read 1,797 grey images of handwritten digits, 8 x 8 pixels, with labels 0 to 9.

    What is held out is fixed by a hash of the pixels, the same share of each digit, whatever the seed; identical images never
    fall on both sides. The 43 writers are not known, so most of them are on both sides.

    Source: none (ours); the data are the test set of Alpaydin and Kaynak 1998, Optical Recognition of Handwritten Digits (UCI).
    Costs: nothing to speak of.
    Control: none (it is an input).
    """

    tags: ClassVar[tuple[str, ...]] = ("when-before", "what-data", "speedup-none")
    systems: ClassVar[tuple[int, ...]] = (41,)
    extras: ClassVar[tuple[str, ...]] = ("vision",)

    held_out: Share = 0.2  # share of each label that is never trained on; 0 holds nothing out

    def estimate(self, inputs: dict[str, Any]) -> dict[str, float]:
        return {"seconds": 2.0, "rows": round(1797 * (1 - self.held_out))}

    def __call__(self) -> ExampleSplit:
        """Columns `image` (1, 8, 8), 0 to 255, and `label`."""
        import numpy
        from sklearn.datasets import load_digits

        from paredown.engines import images

        found = load_digits()
        pixels = numpy.rint(found.images[:, None] * 255 / 16)
        context().charge(documents=len(pixels))
        return images.write(images.frame(pixels.astype(numpy.uint8), found.target), self.held_out)
