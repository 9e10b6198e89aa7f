"""What it took to get somewhere: training curves against their cost, and the cost of all that came before."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from paredown.core.errors import DataError
from paredown.core.workspace import Record

Better = Literal["higher", "lower"]
READING = "corpus.read."  # stage whose steps everybody pays alike: they are no part of what a method costs
PLACES = ("step", "tokens", "flops")  # of an evaluation: where it stands; the rest was measured


def first_cost(costs: Sequence[float], values: Sequence[float], target: float, better: Better = "lower", overhead: float = 0.0) -> float:
    """`overhead` plus the cost of the first point whose value is at least (at most, where lower is better) the target; inf if none is.

    Points are in the order of their cost. Between two points nothing is assumed: a coarse curve reaches its target late.
    """
    for cost, value in zip(costs, values, strict=True):
        if value >= target if better == "higher" else value <= target:
            return overhead + cost
    return math.inf


def evaluated(training: Mapping[str, Any], metric: str, where: str) -> tuple[list[float], list[float]]:
    """(FLOPs, values) of a training's held-out evaluations, as `learn.train` noted them; what evaluating took is left out.

    Raises:
        DataError: there was no evaluation, or none of this metric.
    """
    points = training.get("evaluations") or []
    if not points:
        raise DataError("the training was never evaluated", where=where, todo="give learn.train the input held_out, and set evaluate_every")
    if metric not in points[0]:
        there = ", ".join(sorted(set(points[0]) - {*PLACES}))
        raise DataError(f"the training's evaluations have no {metric}; there is {there}", where=where)
    return [p["flops"] for p in points], [p[metric] for p in points]


def clock(made: Sequence[Record]) -> list[float]:
    """Seconds of the loop at each evaluation of the training that comes last in `made`; empty where no run tells."""
    return list(made[-1].facts.get("evaluated_at_seconds") or []) if made else []


def before(made: Sequence[Record]) -> tuple[float, float]:
    """(FLOPs, seconds) of all steps but the last: scorers that were trained, scoring, selection. Each counts once; reading does not."""
    counted = [record.cost for record in made[:-1] if not record.strategy.startswith(READING)]
    return math.fsum(cost.get("flops") or 0.0 for cost in counted), math.fsum(cost.get("seconds") or 0.0 for cost in counted)
