"""Which examples stay: by a score of each, or by where they lie among each other; what goes is kept with its reason if asked for.

Legend: N = rows, C = labels, D = features of a row, K = rows that stay.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import polars as pl

from paredown.artifacts.example_split import ChosenExamples
from paredown.artifacts.examples import Examples
from paredown.artifacts.model import Model
from paredown.core.context import context
from paredown.core.errors import DataError, UserError
from paredown.engines import estimates
from paredown.engines.orders import apportioned

Array = np.ndarray[Any, Any]
Keep = Literal["highest", "lowest"]


@dataclass(frozen=True)
class Choice:
    """How many rows stay, and whether as large a share of every label."""

    fraction: float
    balanced: bool = True
    keep_rejected: bool = False

    def groups(self, labels: Array) -> list[tuple[Array, int]]:
        """(rows, how many of them stay) of every label, or of all together; at least one row stays.

        The counts are apportioned by largest remainder, so that they sum to the share of all rows.
        """
        total = max(1, round(self.fraction * len(labels)))
        if not self.balanced:
            return [(np.arange(len(labels)), total)]
        names, sizes = np.unique(labels, return_counts=True)
        return [(np.flatnonzero(labels == name), int(quota)) for name, quota in zip(names, apportioned(sizes, total), strict=True)]


def foreseen(examples: Any, fraction: float) -> dict[str, float]:
    """Rows that will stay of examples as they are or as earlier steps foresee them; nothing where these are not known."""
    known = estimates.rows(examples)
    return {"rows": max(1.0, round(fraction * known["rows"]))} if known else {}


def by_score(labels: Array, scores: Array, choice: Choice, keep: Keep) -> Array:
    """The rows that stay, in rising order: those of the highest (lowest) score; of equal scores the earlier row."""
    signed = -scores if keep == "highest" else scores
    return np.sort(np.concatenate([rows[np.argsort(signed[rows], kind="stable")[:count]] for rows, count in choice.groups(labels)]))


def choose_by_score(
    examples: Examples, models: Sequence[Model], score: Callable[[Any, Any], tuple[Array, float]], choice: Choice, keep: Keep, rule: str
) -> ChosenExamples:
    """Score every row by each model and keep those of the highest or lowest mean.

    `score(module, source)` gives one number a row and the FLOPs that it took.

    Raises:
        UserError: there is no model, no label, or a model does not take such examples.
        DataError: there is no example, or a score is not finite.
    """
    source, modules = _opened(examples, models)
    total = np.zeros(source.rows)
    for module in modules:
        found, flops = score(module, source)
        total += found
        context().charge(flops=flops, how="scoring, counted", documents=source.rows)
    scores = total / len(models)
    if np.isnan(scores).any():
        raise DataError(f"the score of row {int(np.isnan(scores).argmax()):,} is no number", todo="look at the models' weights")
    return divide(examples, by_score(source.column("label"), scores, choice, keep), rule, choice.keep_rejected, scores)


def choose_by_place(
    examples: Examples, models: Sequence[Model], pick: Callable[[Array, int], Array], choice: Choice, batch: int, rule: str
) -> ChosenExamples:
    """Choose by the features that the models see: what enters their last layer, of several models side by side.

    `pick(features (n, D), count)` gives the places of `count` of them.

    Raises:
        UserError: there is no model, no label, or a model does not take such examples or ends in no linear layer.
        DataError: there is no example, or a feature is not finite.
    """
    from paredown.engines.classifiers import features

    source, modules = _opened(examples, models)
    found = []
    for module in modules:
        seen, flops = features(module, source, batch)
        found.append(seen)
        context().charge(flops=flops, how="scoring, counted", documents=source.rows)
    table = np.concatenate(found, axis=1)
    if not np.isfinite(table).all():
        raise DataError(
            f"a feature of row {int((~np.isfinite(table).all(axis=1)).argmax()):,} is not finite", todo="look at the models' weights"
        )
    groups = choice.groups(source.column("label"))
    chosen = np.concatenate([rows[pick(table[rows], count)] for rows, count in groups if count])
    context().charge(
        flops=float(sum(2 * len(rows) * count * table.shape[1] for rows, count in groups)), how="distances, 2 x rows x chosen x features"
    )
    return divide(examples, np.sort(chosen), rule, choice.keep_rejected)


def divide(examples: Examples, chosen: Array, rule: str, keep_rejected: bool, scores: Array | None = None) -> ChosenExamples:
    """Write the chosen rows in their order, and the others with the columns `reason` and `score` where they are asked for."""
    here, frame = context(), examples.frame()
    stays = np.zeros(frame.height, dtype=bool)
    stays[chosen] = True
    here.drop(rule, int(frame.height - stays.sum()))
    kept = Examples.write(here.output("kept"), frame.filter(pl.Series(stays, dtype=pl.Boolean)), examples)
    if not keep_rejected:
        return ChosenExamples(kept)
    gone = frame if scores is None else frame.with_columns(pl.Series("score", scores))
    gone = gone.filter(~pl.Series(stays, dtype=pl.Boolean)).with_columns(pl.lit(rule).alias("reason"))
    return ChosenExamples(kept, Examples.write(here.output("rejected"), gone, examples))


def labelled(examples: Examples) -> Array:
    """The label of every row.

    Raises:
        UserError: there is no column of whole numbers named label.
        DataError: there is no example.
    """
    if not examples.rows:
        raise DataError("there is no example to choose from", where=str(examples.path))
    from paredown.engines.classifiers import LabelledRows

    found: Array = LabelledRows(examples).column("label").astype(np.int64)
    return found


def _opened(examples: Examples, models: Sequence[Model]) -> tuple[Any, Any]:
    """The rows, and one model after another in evaluation mode on its device."""
    from paredown.engines import classifiers, scoring

    if not models:
        raise UserError(
            "there is no model to score the examples with", where="models", todo="train one on them, such as two epochs of learn.train"
        )
    labelled(examples)
    return classifiers.LabelledRows(examples), (scoring.load(model, "float32") for model in models)
