"""Wrong labels on purpose."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from paredown.artifacts.examples import Examples
from paredown.core.context import context
from paredown.core.errors import UserError
from paredown.core.strategy import Share, Strategy

if TYPE_CHECKING:
    import numpy


def with_noise(
    labels: numpy.ndarray[Any, Any], share: float, generator: numpy.random.Generator
) -> tuple[numpy.ndarray[Any, Any], numpy.ndarray[Any, Any]]:
    """(labels (rows,), of which round(share x rows) became another of the labels that occur, each as likely; the rows that changed)."""
    import numpy as np

    names, place = np.unique(labels, return_inverse=True)
    changed = np.sort(generator.choice(len(labels), size=round(share * len(labels)), replace=False))
    steps = generator.integers(1, len(names), size=len(changed)) if len(names) > 1 else np.zeros(len(changed), dtype=np.int64)
    noisy = labels.copy()
    noisy[changed] = names[(place[changed] + steps) % len(names)]
    return noisy, changed


class NoisyLabels(Strategy):
    """Give a share of the examples a wrong label, drawn evenly from the others, to see what a method makes of them.

    Source: none (symmetric label noise, as usual); the noisy CIFAR-10 of Okanovic et al. 2023, arXiv 2305.18424.
    Costs: nothing to speak of.
    Control: none (it is a test, not a method; compare with the step skipped)
    """

    tags: ClassVar[tuple[str, ...]] = ("when-before", "what-data", "speedup-none")
    systems: ClassVar[tuple[int, ...]] = (12,)
    extras: ClassVar[tuple[str, ...]] = ("train",)
    seeded: ClassVar[bool] = True

    share: Share = 0.3  # of the examples whose label becomes wrong

    def estimate(self, inputs: dict[str, Any]) -> dict[str, float]:
        from paredown.engines import estimates

        return estimates.rows(inputs.get("examples"))

    def __call__(self, examples: Examples) -> Examples:
        """
        Raises:
            UserError: there is no column of whole numbers named label, or only one label.
            DataError: there is no example.
        """
        import numpy as np
        import polars as pl

        from paredown.engines.example_choice import labelled

        labels = labelled(examples)
        if self.share and len(np.unique(labels)) < 2:
            raise UserError("all examples have the same label: there is no wrong one", where=str(examples.path))
        noisy, changed = with_noise(labels, self.share, context().generator("label noise"))
        context().facts["wrong_labels"] = len(changed)
        context().says = f"{len(labels):,} examples, {len(changed):,} of them with a wrong label"
        frame = examples.frame()
        return Examples.write(
            context().output("examples"), frame.with_columns(pl.Series("label", noisy).cast(frame["label"].dtype)), examples
        )
