"""Ridge regression on features of rows, with its strength chosen by cross-validation."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]
STRENGTHS = np.logspace(-4, 4, 17)  # of the penalty, times the mean square of a feature


@dataclass(frozen=True)
class Ridge:
    """y is about `intercept` + x `weights`."""

    weights: Array
    intercept: float
    strength: float

    def predict(self, features: Array) -> Array:
        found: Array = np.asarray(features, dtype=np.float64) @ self.weights + self.intercept
        return found


def fit_ridge(features: Array, values: Array, folds: int = 5) -> Ridge:
    """Minimize the squared error plus strength |weights|^2; the strength is that of the least error over `folds` parts left out in turn.

    `features` (N, F), `values` (N,). The parts are every `folds`-th row, so the result depends on nothing but the rows.
    """
    x, y = np.asarray(features, dtype=np.float64), np.asarray(values, dtype=np.float64)
    scale = float((x - x.mean(0)).var(0).mean()) * len(x) or 1.0
    errors = np.zeros(len(STRENGTHS))
    for fold in range(min(folds, len(y))):
        out = np.arange(len(y)) % folds == fold
        if out.all():
            continue
        for number, (weights, intercept) in enumerate(_solved(x[~out], y[~out], STRENGTHS * scale)):
            errors[number] += ((x[out] @ weights + intercept - y[out]) ** 2).sum()
    best = float(STRENGTHS[int(errors.argmin())]) * scale
    ((weights, intercept),) = _solved(x, y, np.array([best]))
    return Ridge(weights, intercept, best)


def _solved(x: Array, y: Array, strengths: Array) -> list[tuple[Array, float]]:
    """(weights, intercept) for every strength, from one singular value decomposition."""
    center, mean = x.mean(0), float(y.mean())
    u, s, vt = np.linalg.svd(x - center, full_matrices=False)
    projected = u.T @ (y - mean)
    found = []
    for strength in strengths:
        weights = vt.T @ (projected * s / (s**2 + strength))
        found.append((weights, mean - float(center @ weights)))
    return found


def hashed_ngrams(rows: Iterable[Array], buckets: int) -> Array:
    """Counts of 1- and 2-grams of token ids in `buckets`, each row divided by its length (L2), (rows, buckets) float32."""
    counts = []
    for row in rows:
        ids = np.asarray(row, dtype=np.uint64)
        pairs = (ids[:-1] * np.uint64(1_000_003) + ids[1:] + np.uint64(1)) * np.uint64(0x9E3779B97F4A7C15)
        ones = (ids + np.uint64(1)) * np.uint64(0xBF58476D1CE4E5B9)
        places = np.concatenate([ones, pairs]) >> np.uint64(40)
        counts.append(np.bincount((places % np.uint64(buckets)).astype(np.int64), minlength=buckets).astype(np.float32))
    found = np.stack(counts) if counts else np.zeros((0, buckets), dtype=np.float32)
    norms = np.sqrt((found**2).sum(1, keepdims=True))
    normed: Array = found / np.maximum(norms, 1e-12)
    return normed


def gumbel_top_k(scores: Array, count: int, generator: np.random.Generator) -> Array:
    """`count` different indices, drawn one after another with probabilities proportional to exp(score) of those left (Kool et al. 2019,
    arXiv 1903.06059, section 2.2); in the order in which they are drawn."""
    noisy = np.asarray(scores, dtype=np.float64) + generator.gumbel(size=len(scores))
    return np.argsort(-noisy, kind="stable")[:count]
