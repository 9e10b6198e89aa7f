"""Scaling laws: the loss of a run foreseen from its parameters and training tokens, fitted to smaller runs.

L(N, D) = E + A / N^alpha + B / D^beta (Hoffmann et al. 2022, arXiv 2203.15556, section 3.3): E is what no model can learn,
the other terms are what too few parameters N and too few tokens D cost. For models that are pruned while they train the
same law holds with N averaged over the training (Jin et al. 2025, arXiv 2501.12486, section 4).
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from scipy.optimize import minimize, nnls
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

from paredown.core.errors import DataError

Array = npt.NDArray[np.float64]
Parameters = Literal["average", "final", "initial"]

NAMES = ("E", "A", "B", "alpha", "beta")
DELTA = 1e-3  # residual of the log loss from which the Huber loss grows linearly
LEAST_RUNS = 6  # one more than the law has constants
LEAST_SIZES = 3  # different values of N, and of D: with two, E and the term cannot be told apart
EXPONENTS = (0.01, 3.0)  # bounds of alpha and beta
GRID = np.geomspace(0.03, 2.0, 12)  # starts of alpha, and of beta
STARTS = 24  # the best ones of the grid that are followed to their end
RESAMPLES = 1000
LEVEL = 0.95


@dataclass(frozen=True)
class Run:
    """One finished training."""

    params: float  # weights when training began
    tokens: float  # trained on
    loss: float  # held-out, nats a token
    average_params: float | None = None  # mean over the training tokens; None: nothing was pruned
    final_params: float | None = None  # weights that are not zero at the end; None: nothing was pruned

    def count(self, which: Parameters) -> float:
        """The number of parameters that the law is asked with."""
        if which == "initial":
            return self.params
        found = self.average_params if which == "average" else self.final_params
        return self.params if found is None else found


@dataclass(frozen=True)
class Law:
    """The five constants of L(N, D) = E + A / N^alpha + B / D^beta."""

    E: float
    A: float
    B: float
    alpha: float
    beta: float

    def loss(self, parameters: npt.ArrayLike, tokens: npt.ArrayLike) -> Array:
        """Loss of runs with so many parameters and tokens; arrays broadcast."""
        n, d = np.asarray(parameters, float), np.asarray(tokens, float)
        return np.asarray(self.E + self.A / n**self.alpha + self.B / d**self.beta)

    def optimum(self, flops: float, per_weight: float = 6.0) -> tuple[float, float]:
        """(parameters, tokens) of the least loss where N weights and D tokens take `per_weight` N D FLOPs.

        N = G (C/6)^(beta/(alpha+beta)) and D = (C/6) / N with G = (alpha A / (beta B))^(1/(alpha+beta)), arXiv 2203.15556 eq. 4.
        """
        total = self.alpha + self.beta
        shift = (math.log(self.alpha * self.A) - math.log(self.beta * self.B)) / total
        work = math.log(flops / per_weight)
        n = math.exp(shift + work * self.beta / total)
        return n, flops / per_weight / n


@dataclass(frozen=True)
class Prediction:
    """A foreseen loss with its 95% interval."""

    loss: float
    low: float
    high: float


@dataclass(frozen=True)
class Fit:
    """A law fitted to runs, and what the runs leave open."""

    law: Law
    parameters: Parameters  # which N the law was fitted with
    n: int  # runs
    objective: float  # sum of the Huber losses of the log losses
    r2: float  # share of the variance of the losses that the law explains
    mean_abs_relative_error: float
    resamples: Array  # (R, 5): E, A, B, alpha, beta of each bootstrap resample; R may be 0
    residuals: Array  # (n,): log of measured over fitted loss
    notes: tuple[str, ...] = ()  # what the runs cannot tell, in words

    def intervals(self) -> dict[str, tuple[float, float]]:
        """95% percentile intervals of the constants; empty without resamples."""
        if not len(self.resamples):
            return {}
        low, high = np.percentile(self.resamples, _percentiles(), axis=0)
        return {name: (float(low[i]), float(high[i])) for i, name in enumerate(NAMES)}

    def draws(self, parameters: float, tokens: float) -> Array:
        """(R,) losses by the law of each resample."""
        e, a, b, alpha, beta = self.resamples.T
        return np.asarray(e + a / parameters**alpha + b / tokens**beta)

    def predict(self, parameters: float, tokens: float, *, scatter: bool = True) -> Prediction:
        """The loss of a run with its interval, from the resamples.

        With `scatter` the interval is that of one measured run: each resample's law gets a residual of the fit, widened by
        sqrt(n / (n - 5)) for the five constants that were fitted to them. Without it the interval is that of the law alone.
        """
        value = float(self.law.loss(parameters, tokens))
        if not len(self.resamples):
            return Prediction(value, value, value)
        losses = self.draws(parameters, tokens)
        if scatter:
            wide = self.residuals * math.sqrt(self.n / max(1, self.n - len(NAMES)))
            drawn = np.random.default_rng(0).choice(wide, len(losses))
            losses = losses * np.exp(drawn)
        low, high = np.percentile(losses, _percentiles())
        return Prediction(value, min(value, float(low)), max(value, float(high)))


def fit(
    runs: Sequence[Run], parameters: Parameters = "average", *, resamples: int = RESAMPLES, seed: int = 0, starts: int | None = STARTS
) -> Fit:
    """Fit the law to runs, each a point of the same weight, and bootstrap it over the runs.

    The sum over runs of Huber(log L(N, D) - log loss) is minimised, so single runs that went wrong hardly count. Starts are a
    grid of alpha and beta with the best E, A and B for each; `starts` of them are followed by L-BFGS (None: all 144). Resamples
    with fewer than five different runs, or fewer than two values of N or D, are drawn again.

    Raises:
        DataError: the runs do not determine the law; the error says what is missing.
    """
    n, d, loss = np.array([(run.count(parameters), run.tokens, run.loss) for run in runs], float).reshape(-1, 3).T
    check(n, d, loss)
    problem = _Problem(n, d, loss)
    everything = np.ones(len(loss))
    with threadpool_limits(1, "blas"):  # scipy's L-BFGS hands 5 x 5 products to threads, which on a busy machine took 60 times longer
        best = min((problem.descend(start, everything) for start in problem.starts(starts)), key=lambda found: found[0])
        drawn = _bootstrap(problem, best[1], resamples, np.random.default_rng(seed)) if resamples else np.zeros((0, len(NAMES)))
    law = problem.law(best[1])
    fitted = law.loss(n, d)
    r2 = 1 - float(((loss - fitted) ** 2).sum() / ((loss - loss.mean()) ** 2).sum())
    error = float((np.abs(fitted - loss) / loss).mean())
    return Fit(law, parameters, len(loss), best[0] * DELTA**2, r2, error, drawn, np.log(loss / fitted), problem.notes(best[1]))


def check(n: Array, d: Array, loss: Array) -> None:
    """Say what is missing where runs cannot determine the law.

    Raises:
        DataError: with all that is missing.
    """
    for name, values in (("parameters", n), ("tokens", d), ("loss", loss)):
        if not (np.isfinite(values) & (values > 0)).all():
            raise DataError(f"a run's {name} is not above zero: {values[~(np.isfinite(values) & (values > 0))][0]:g}")
    lacking = []
    if len(loss) < LEAST_RUNS:
        lacking.append(f"{len(loss)} runs, at least {LEAST_RUNS} are needed")
    for name, values in (("numbers of parameters", n), ("numbers of tokens", d)):
        different = _different(values)
        if different < LEAST_SIZES:
            lacking.append(f"{different} different {name}, at least {LEAST_SIZES} are needed")
    if not lacking and np.ptp(loss) == 0:
        lacking.append(f"all losses are {loss[0]:g}")
    if not lacking and np.ptp(np.log(n / d)) < 1e-3:
        lacking.append("tokens grow in step with parameters in every run, so their shares of the loss cannot be told apart")
    if lacking:
        raise DataError(
            "the runs do not determine a scaling law: " + "; ".join(lacking),
            todo="train models of several sizes, each for several numbers of tokens: three sizes times three budgets is a start",
        )


def _different(values: Array) -> int:
    return len({f"{value:.4g}" for value in values})


def _percentiles() -> tuple[float, float]:
    return 50 * (1 - LEVEL), 50 * (1 + LEVEL)


class _Problem:
    """The objective in the five numbers a', b', e, alpha, beta, where a' = a - alpha mean(log N) is the log of the N-term of a run of
    middle size; so the numbers hang together less than a and alpha do, and the search is short.
    """

    def __init__(self, n: Array, d: Array, loss: Array) -> None:
        log_n, log_d, self.target = np.log(n), np.log(d), np.log(loss)
        self.middle = (float(log_n.mean()), float(log_d.mean()))
        self.x, self.y = log_n - self.middle[0], log_d - self.middle[1]
        low, high = float(self.target.min()), float(self.target.max())
        # A term below e^-10 of the least loss is nothing; without that bound its log would run away.
        self.bounds = [(low - 10, high + 3), (low - 10, high + 3), (low - 10, high), EXPONENTS, EXPONENTS]
        self.low, self.high = np.array(self.bounds).T

    def objective(self, point: Array, weights: Array) -> tuple[float, Array]:
        """Sum of Huber losses in units of DELTA^2, and its gradient: a sum, and of that size, as a mean lets tolerances end the search
        early (Besiroglu et al. 2024, arXiv 2404.10102, section 3)."""
        a, b, e, alpha, beta = point
        terms = np.stack([a - alpha * self.x, b - beta * self.y, np.full_like(self.x, e)])
        top = terms.max(axis=0)
        shares = np.exp(terms - top)
        total = shares.sum(axis=0)
        shares /= total
        residual = (top + np.log(total) - self.target) / DELTA
        clipped = np.clip(residual, -1, 1)
        value = float((weights * clipped * (residual - clipped / 2)).sum())
        by_term = shares * (weights * clipped / DELTA)
        slopes = by_term.sum(axis=1)
        return value, np.array([*slopes, -(by_term[0] @ self.x), -(by_term[1] @ self.y)])

    def starts(self, count: int | None) -> list[Array]:
        """The best starts of the grid: for each alpha and beta the law is linear in E, A and B, which least squares of the relative
        errors, none below zero, then gives."""
        found = []
        everything = np.ones_like(self.x)
        for alpha, beta in itertools.product(GRID, GRID):
            terms = np.stack([np.exp(-alpha * self.x), np.exp(-beta * self.y), np.ones_like(self.x)], axis=1)
            scales, _ = nnls(terms / np.exp(self.target)[:, None], everything)
            point = np.array([*np.log(np.maximum(scales, 1e-300)), alpha, beta])
            point = np.clip(point, self.low, self.high)
            found.append((self.objective(point, everything)[0], point))
        found.sort(key=lambda item: item[0])
        return [point for _, point in found[:count]]

    def descend(self, start: Array, weights: Array) -> tuple[float, Array]:
        """(least objective, where) as L-BFGS finds it from `start`."""
        options: dict[str, Any] = {"maxiter": 5000, "maxfun": 20_000, "ftol": 1e-13, "gtol": 1e-7, "maxcor": 20}
        done: Any = minimize(self.objective, start, args=(weights,), jac=True, method="L-BFGS-B", bounds=self.bounds, options=options)
        return float(done.fun), np.asarray(done.x)

    def law(self, point: Array) -> Law:
        a, b, e, alpha, beta = (float(value) for value in point)
        return Law(math.exp(e), math.exp(a + alpha * self.middle[0]), math.exp(b + beta * self.middle[1]), alpha, beta)

    def notes(self, point: Array) -> tuple[str, ...]:
        """Which of the constants the runs leave open."""
        at_bound = (point - self.low < 1e-3) | (self.high - point < 1e-3)
        found = []
        if at_bound[2]:
            found.append("E is not told apart from zero: larger runs are needed to see where the loss levels off")
        for term, exponent, name in ((0, 3, "parameters"), (1, 4, "tokens")):
            if at_bound[term] or at_bound[exponent]:
                found.append(f"the loss of these runs does not show how it depends on the number of {name}")
        return tuple(found)


def _bootstrap(problem: _Problem, best: Array, resamples: int, generator: np.random.Generator) -> Array:
    """(R, 5) constants of laws fitted to runs drawn with replacement, each search begun at the best fit."""
    n = len(problem.x)
    found: list[list[float]] = []
    tries = 0
    while len(found) < resamples and tries < 100 * resamples:
        tries += 1
        weights = np.bincount(generator.integers(0, n, n), minlength=n).astype(float)
        held = weights > 0
        if held.sum() < len(NAMES) or min(_different(np.exp(problem.x[held])), _different(np.exp(problem.y[held]))) < 2:
            continue
        law = problem.law(problem.descend(best, weights)[1])
        found.append([law.E, law.A, law.B, law.alpha, law.beta])
    return np.array(found).reshape(-1, len(NAMES))
