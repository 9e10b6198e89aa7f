"""Models of scikit-learn on tables: fitted on some rows, measured on others, and not kept (they are stored as pickles only)."""

from __future__ import annotations

from typing import Any

import numpy as np

from paredown.artifacts.examples import Examples
from paredown.artifacts.scores import Scores
from paredown.artifacts.tables import same_labels, tables_of
from paredown.core.context import context
from paredown.core.errors import DataError
from paredown.engines import rankings, table_matrices

MOST_WORDS = 255  # of a category, for scikit-learn's histograms


def measured(made: Any, train: Examples, examples: Examples, categories: str = "") -> Scores:
    """Rows `auc`, `accuracy` and `loss` of an unfitted classifier on `examples`.

    With `categories`, the parameter that says which columns are such, it gets cells with NaN where one is missing; otherwise features
    without any.

    Raises:
        UserError: a table is none, columns do not fit, or tables to learn from have different labels.
        DataError: there is no row, one label only, or a column of more words than trees take.
    """
    found = table_matrices.layout(train)
    same_labels(tables_of(train), str(train.path))
    labels, wanted = train.frame()["label"].to_numpy(), examples.frame()["label"].to_numpy()
    if len(np.unique(labels)) < 2:
        raise DataError("there is nothing to tell apart: all rows to learn from have the same label", where=str(train.path))
    if not len(wanted):
        raise DataError("there is no example to measure on", where=str(examples.path))
    if categories:
        many = next((name for name, words in found.categories.items() if len(words) > MOST_WORDS), "")
        if many:
            raise DataError(
                f"the column {many!r} holds {len(found.categories[many]):,} different words; trees take {MOST_WORDS} at most",
                where=str(train.path),
                todo="leave it out with corpus.select.cells, or with drop where the table is read",
            )
        own, which = table_matrices.raw(found, train)
        given, _ = table_matrices.raw(found, examples)
        made.set_params(**{categories: which if which.any() else None})
    else:
        own, given = (table_matrices.features(found, data) for data in (train, examples))
    made.fit(own, labels)
    known = {int(label): place for place, label in enumerate(made.classes_)}
    strange = sorted(set(wanted.tolist()) - set(known))
    if strange:
        raise DataError(f"the label {strange[0]} is on no row to learn from", where=str(train.path))
    shares = made.predict_proba(given)
    context().charge(documents=len(labels) + len(wanted))
    places = np.array([known[int(label)] for label in wanted])
    return Scores.write(context().output("scores"), rankings.scores(shares, places, f"{type(made).__name__} on {train.identity}"))
