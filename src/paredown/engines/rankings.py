"""How well scores tell labels apart, and the rows of a measurement of it; imports nothing heavy."""

from __future__ import annotations

from typing import Any

import numpy as np

from paredown.artifacts.scores import Score
from paredown.core.errors import DataError

Array = np.ndarray[Any, Any]


def auc(scores: Array, positive: Array) -> float:
    """Share of the pairs of a positive and a negative row whose positive has the higher score; equal ones count half.

    Raises:
        DataError: all rows are positive, or none is.
    """
    count = int(positive.sum())
    if count in (0, len(positive)):
        raise DataError("an area under the curve needs rows with a label and rows without it", todo="measure on more rows")
    _, place, ties = np.unique(scores, return_inverse=True, return_counts=True)
    ranks = (np.cumsum(ties) - (ties - 1) / 2)[place]
    return float((ranks[positive].sum() - count * (count + 1) / 2) / (count * (len(positive) - count)))


def mean_auc(shares: Array, labels: Array) -> float:
    """Of two labels the area under the curve, of more the mean over labels of each against the rest; `shares` (rows, labels).

    Raises:
        DataError: a label is that of no row or of all.
    """
    if shares.shape[1] == 2:
        return auc(shares[:, 1], labels == 1)
    return float(np.mean([auc(shares[:, label], labels == label) for label in range(shares.shape[1])]))


def scores(shares: Array, labels: Array, subject: str, flops: float = 0.0, seconds: float = 0.0) -> list[Score]:
    """Rows `auc`, `accuracy` and `loss` of probabilities (rows, labels).

    Raises:
        DataError: there is no row, or a label is that of no row or of all.
    """
    if not len(labels):
        raise DataError("there is no example to measure on")
    area = mean_auc(shares, labels)
    nats = -np.log(np.maximum(shares[np.arange(len(labels)), labels], 1e-15))
    cost: dict[str, Any] = {"subject": subject, "n": len(labels), "flops": flops, "seconds": seconds}
    return [
        Score(metric="auc", value=area, better="higher", **cost),
        Score(metric="accuracy", value=float((shares.argmax(axis=1) == labels).mean()), better="higher", **cost),
        Score(metric="loss", value=float(nats.mean()), unit="nats/example", better="lower", **cost),
    ]
