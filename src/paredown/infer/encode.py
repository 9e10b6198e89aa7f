"""Rows as vectors."""

from __future__ import annotations

from typing import ClassVar

from paredown.artifacts.examples import Examples
from paredown.artifacts.model import Model
from paredown.core.context import context
from paredown.core.errors import DataError
from paredown.core.strategy import Count, Strategy


class Encode(Strategy):
    """Turn examples into the vectors that enter a network's last linear layer, to search, cluster or learn something smaller from.

    Source: Wang and Sun 2022, arXiv 2205.09328 (the encoder of the reference code); for any classifier.
    Costs: one forward pass over the examples.
    Control: corpus.tokenize.features (the cells as they are)
    """

    tags: ClassVar[tuple[str, ...]] = ("when-runtime", "what-data", "speedup-none", "needs-data")
    systems: ClassVar[tuple[int, ...]] = (40,)
    extras: ClassVar[tuple[str, ...]] = ("train",)

    batch: Count = 256  # examples of a forward pass; the vectors do not depend on it but for rounding

    def __call__(self, model: Model, examples: Examples) -> Examples:
        """Columns `features` (float32) and `label`, in the order of the examples.

        Raises:
            UserError: the model has no linear layer, or does not take such examples.
            DataError: there is no example, or a vector is not finite.
        """
        import numpy as np
        import polars as pl

        from paredown.engines import classifiers, scoring
        from paredown.engines.table_rows import check_words

        if not examples.rows:
            raise DataError("there is no example to encode", where=str(examples.path))
        module = scoring.load(model, "float32")
        check_words(module, model, examples)
        source = classifiers.UnlabelledRows(examples)
        vectors, flops = classifiers.features(module, source, self.batch)
        if not np.isfinite(vectors).all():
            row = int(np.argmin(np.isfinite(vectors).all(axis=1)))
            raise DataError(f"the vector of row {row:,} is not finite", todo="look at the model's weights: some are NaN or infinite")
        context().charge(flops=flops, how="forward, counted", documents=source.rows)
        rows = [pl.Series("features", vectors, dtype=pl.Array(pl.Float32, vectors.shape[1])), pl.Series("label", source.column("label"))]
        return Examples.write(context().output("examples"), pl.DataFrame(rows))
