"""What to train for a budget: which size, on how many tokens, dense or pruned while it trains, by a fitted scaling law."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from paredown.core.errors import DataError, UserError
from paredown.engines.scaling_laws import Fit, Law, Prediction

BYTES_PER_WEIGHT = 4  # models are stored in fp32
PER_WEIGHT = 6.0  # FLOPs that a weight of a linear layer costs a token: two forward, four backward


@dataclass(frozen=True)
class Limits:
    """A budget; None where it does not limit."""

    flops: float | None = None  # of the training
    bytes: float | None = None  # of the model at rest
    ms: float | None = None  # milliseconds a token decoded


@dataclass(frozen=True)
class Size:
    """A model that could be trained."""

    width: int  # its hidden size
    weights: int  # all of them
    prunable: float = 0.0  # of these, what a hook may prune; 0: none


@dataclass(frozen=True)
class Measured:
    """What finished runs showed beside their losses."""

    costs: tuple[tuple[float, float], ...]  # (all weights, training FLOPs a token) of each run
    most_tokens: float  # of any run
    pruned: tuple[tuple[float, float], ...] = ()  # (final sparsity, (average - final) / (initial - final)) of each run that pruned
    most_weights: float = float("inf")  # that decode in time; a limit on what is trained, as zeros are not skipped

    def flops_per_token(self, weights: float) -> float:
        """FLOPs of training on a token, between the runs' sizes along straight lines of logs, beyond them by the last slope."""
        sizes = sorted({size for size, _ in self.costs})
        x = np.log(sizes)
        y = np.log([np.median([cost for size, cost in self.costs if size == wanted]) for wanted in sizes])
        y = np.maximum.accumulate(y)  # a larger model is not cheaper
        at = float(np.log(weights))
        if len(sizes) == 1:
            return float(np.exp(y[0] + at - x[0]))
        if at < x[0]:
            return float(np.exp(y[0] + (at - x[0]) * (y[1] - y[0]) / (x[1] - x[0])))
        if at > x[-1]:
            return float(np.exp(y[-1] + (at - x[-1]) * (y[-1] - y[-2]) / (x[-1] - x[-2])))
        return float(np.exp(np.interp(at, x, y)))

    def decline(self, sparsity: float) -> float:
        """Where the average lies between final (0) and initial (1) parameters, for the schedule that the runs had."""
        known = sorted({s for s, _ in self.pruned})
        means = [float(np.mean([share for s, share in self.pruned if s == wanted])) for wanted in known]
        return float(np.interp(sparsity, known, means))


@dataclass(frozen=True)
class Candidate:
    """One way to spend the budget, with what the law foresees."""

    kind: Literal["dense", "sparse"]
    width: int
    initial: float  # parameters
    final: float  # those that are not zero in the end
    average: float  # over the training tokens
    sparsity: float  # share of the prunable weights that is zero in the end
    tokens: float
    flops: float  # nominal: a weight that is zero costs nothing
    counted: float  # as the products are really made: zeros are not skipped
    prediction: Prediction

    def parameters(self, which: str) -> float:
        """The number that a law fitted with `which` parameters is asked with."""
        return {"initial": self.initial, "final": self.final, "average": self.average}[which]


def optimum(law: Law, flops: float, most_bytes: float | None = None) -> tuple[float, float]:
    """Parameters and tokens of the least loss for so many FLOPs, PER_WEIGHT a parameter and token; where the bytes hold fewer, as many as
    they hold, since below the optimum more are better."""
    n, d = law.optimum(flops, PER_WEIGHT)
    if most_bytes is None or n <= most_bytes / BYTES_PER_WEIGHT:
        return n, d
    n = most_bytes / BYTES_PER_WEIGHT
    return n, flops / PER_WEIGHT / n


def dense(fit: Fit, sizes: Sequence[Size], limits: Limits, measured: Measured) -> list[Candidate]:
    """Every size that fits, trained dense on the tokens that the FLOPs pay for; without FLOPs on the most tokens of any run."""
    found = []
    most = min(measured.most_weights, limits.bytes / BYTES_PER_WEIGHT if limits.bytes else np.inf)
    for size in sizes:
        cost = measured.flops_per_token(size.weights)
        tokens = limits.flops / cost if limits.flops else measured.most_tokens
        if size.weights <= most and tokens >= 1:
            n = float(size.weights)
            found.append(Candidate("dense", size.width, n, n, n, 0.0, tokens, cost * tokens, cost * tokens, fit.predict(n, tokens)))
    return found


def sparse(fit: Fit, sizes: Sequence[Size], limits: Limits, measured: Measured) -> list[Candidate]:
    """Every size that fits once it is pruned, with the least sparsity that makes it fit.

    Only what runs showed: no sparser than the sparsest of them, on their schedule. FLOPs are nominal: PER_WEIGHT a token less
    for every weight that is zero, on average.
    """
    if not limits.bytes or not measured.pruned:
        return []
    found = []
    final = limits.bytes / BYTES_PER_WEIGHT
    sparsest = max(sparsity for sparsity, _ in measured.pruned)
    for size in sizes:
        sparsity = (size.weights - final) / size.prunable if size.prunable else 0.0
        if not 0 < sparsity <= sparsest or size.weights > measured.most_weights:
            continue
        average = final + measured.decline(sparsity) * (size.weights - final)
        full = measured.flops_per_token(size.weights)
        cost = full - PER_WEIGHT * (size.weights - average)
        tokens = limits.flops / cost if limits.flops else measured.most_tokens
        if cost <= 0 or tokens < 1:
            continue
        asked = {"initial": float(size.weights), "final": final, "average": average}[fit.parameters]
        foreseen = fit.predict(asked, tokens)
        found.append(
            Candidate("sparse", size.width, float(size.weights), final, average, sparsity, tokens, cost * tokens, full * tokens, foreseen)
        )
    return found


def best(candidates: Sequence[Candidate]) -> Candidate | None:
    """The least predicted loss; of equals the smallest."""
    return min(candidates, key=lambda c: (c.prediction.loss, c.initial), default=None)


def difference(fit: Fit, one: Candidate, other: Candidate) -> tuple[float, float, float]:
    """Predicted loss of `one` less that of `other`, with its 95% interval over the resamples of the law."""
    value = one.prediction.loss - other.prediction.loss
    if not len(fit.resamples):
        return value, value, value
    drawn = fit.draws(one.parameters(fit.parameters), one.tokens) - fit.draws(other.parameters(fit.parameters), other.tokens)
    low, high = np.percentile(drawn, (2.5, 97.5))
    return value, float(low), float(high)


def weights_in_time(points: Sequence[tuple[float, float]], ms: float) -> float:
    """How many weights decode a token in `ms` milliseconds, by a line through (weights, milliseconds) of measured models.

    Raises:
        DataError: fewer than two sizes were measured.
        UserError: no model is that quick.
    """
    if len({weights for weights, _ in points}) < 2:
        raise DataError(
            f"speed was measured for {len({w for w, _ in points})} sizes of models; two are needed to say how it depends on size",
            todo="paredown compare RECIPE measures the arms that are not measured yet",
        )
    x, y = np.array(points, float).T
    slope, start = np.polyfit(x, y, 1)
    if slope <= 0:  # so small that what a step costs beside its products decides
        if ms >= y.min():
            return float("inf")
        raise UserError(f"no model is so quick: {y.min():.3g} ms a token were the least, whatever the size", todo="allow more ms")
    most = (ms - start) / slope
    if most < 1:
        raise UserError(f"no model is so quick: {start:.3g} ms a token go by without any weights", todo="allow more ms")
    return float(most)
