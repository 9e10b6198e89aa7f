"""What a training took until it was good enough, with all that came before it."""

from __future__ import annotations

import math
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from paredown.artifacts.model import Model
from paredown.artifacts.scores import Score, Scores
from paredown.core.context import context
from paredown.core.errors import UserError
from paredown.core.strategy import Strategy


class TimeToTarget(Strategy):
    """Measure the FLOPs and the seconds until a training's held-out curve first reaches a target, and what was spent before it began.

    The curve is that of `learn.train` with `held_out` and `evaluate_every`. Scorers that were trained, scoring and selection
    are added once, whether other arms use them or not; reading the data is not. `flops_alone` leaves all of that out, as if it were there
    anyway. FLOPs are the same in every run; seconds are a clock's, and known only within a run. The target is a number, or what the best of other trainings had at its end.

    Source: Coleman et al. 2017, DAWNBench (time to accuracy); with the overhead of selection as in Okanovic et al. 2023, arXiv 2305.18424, section 4.
    Costs: nothing; the evaluations that it reads were made by the training.
    Control: none (a measurement)
    Not for: the noise of a single curve; a target is reached by luck earlier the more often one looks, so compare arms with the same `evaluate_every`.
    """

    tags: ClassVar[tuple[str, ...]] = ("when-after", "what-weights", "speedup-none")
    systems: ClassVar[tuple[int, ...]] = (12,)
    extras: ClassVar[tuple[str, ...]] = ("train",)
    reads_costs: ClassVar[bool] = True
    metrics: ClassVar[tuple[str, ...]] = ("flops", "seconds", "flops_alone", "flops_before", "seconds_before", "target", "last")

    metric: Literal["accuracy", "loss"] = "accuracy"  # what must become high (accuracy) or low (loss)
    target: Annotated[float, Field(ge=0)] | None = None  # value to reach
    slack: Annotated[float, Field(ge=0)] = 0.0  # how much worse than the target is good enough

    def __call__(self, model: Model, best_of: tuple[Model, ...] = ()) -> Scores:
        """Rows `flops` and `seconds` until the target (infinite where it is not reached; seconds outside of a run are NaN),
        `flops_alone` of the training itself, `flops_before` and `seconds_before` it, which the first two contain, the `target`, and the
        `last` value of the curve.

        Raises:
            UserError: neither a target nor `best_of` is given, or both.
            DataError: a training was never evaluated, or not on this metric.
        """
        from paredown.engines import curves

        if (self.target is None) == (not best_of):
            raise UserError("give either target or best_of", where="measure.time_to_target")
        better: curves.Better = "higher" if self.metric == "accuracy" else "lower"
        flops, values = curves.evaluated(model.training, self.metric, str(model.path))
        made = context().made_from.get("model", [])
        before_flops, before_seconds = curves.before(made)
        target = self.target
        if target is None:
            ends = [curves.evaluated(other.training, self.metric, str(other.path))[1][-1] for other in best_of]
            target = max(ends) if better == "higher" else min(ends)
        target += -self.slack if better == "higher" else self.slack
        clock = curves.clock(made)
        seconds = curves.first_cost(clock, values, target, better, before_seconds) if clock else math.nan
        found = {
            "flops": (curves.first_cost(flops, values, target, better, before_flops), "FLOPs", "lower"),
            "seconds": (seconds, "s", "lower"),
            "flops_alone": (curves.first_cost(flops, values, target, better), "FLOPs", "lower"),
            "flops_before": (before_flops, "FLOPs", "lower"),
            "seconds_before": (before_seconds if made else math.nan, "s", "lower"),
            "target": (target, "", "none"),
            "last": (values[-1], "", better),
        }
        context().says = f"{self.metric} {target:.3g} after {found['flops'][0]:.3g} FLOPs, {before_flops:.2g} of them before it began"
        rows = [
            Score(subject=model.identity, metric=name, value=value, unit=unit, better=sense, n=len(values))
            for name, (value, unit, sense) in found.items()
        ]
        return Scores.write(context().output("scores"), rows)
