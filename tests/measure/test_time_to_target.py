"""Time to a target: exact on a hand-made curve, infinite where it is not reached, and what came before is added once."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from toy_runs import run  # type: ignore[import-not-found]

from paredown.artifacts.model import Model
from paredown.core.context import Context, running
from paredown.core.errors import DataError, UserError
from paredown.core.workspace import Record
from paredown.engines.curves import before, first_cost
from paredown.measure.time_to_target import TimeToTarget

COSTS, VALUES = [10.0, 20.0, 30.0, 40.0], [0.3, 0.6, 0.5, 0.8]


@pytest.mark.parametrize(
    ("target", "cost"), [(0, 10), (0.3, 10), (0.31, 20), (0.6, 20), (0.61, 40), (0.8, 40), (0.81, math.inf), (2, math.inf)]
)
def test_the_first_point_that_reaches_the_target_counts(target: float, cost: float) -> None:
    assert first_cost(COSTS, VALUES, target, "higher") == cost
    assert first_cost(COSTS, VALUES, target, "higher", overhead=7) == cost + 7
    assert first_cost(COSTS, [-v for v in VALUES], -target) == cost


@settings(deadline=None)
@given(st.lists(st.floats(0, 1), max_size=12), st.floats(0, 1), st.floats(0, 1))
def test_a_higher_target_is_never_reached_earlier(values: list[float], one: float, other: float) -> None:
    costs = [float(n) for n in range(len(values))]
    low, high = sorted((one, other))
    assert first_cost(costs, values, low, "higher") <= first_cost(costs, values, high, "higher")


def record(strategy: str, flops: float, seconds: float, **facts: Any) -> Record:
    return Record(key=strategy, strategy=strategy, parts={}, single=True, cost={"flops": flops, "seconds": seconds}, facts=facts)


def test_what_came_before_is_added_once_and_reading_is_not() -> None:
    made = [
        record("corpus.read.digits", 5, 50),
        record("learn.train", 100, 8),
        record("corpus.select.el2n", 20, 2),
        record("learn.train", 1e9, 99),
    ]
    assert before(made) == (120, 10)
    assert before(made[-1:]) == before([]) == (0, 0)


def model(folder: Path, values: list[float] = VALUES, **more: Any) -> Model:
    folder.mkdir(parents=True)
    points = [
        {"step": n, "tokens": n, "flops": cost, "accuracy": v, "loss": 1 - v}
        for n, (cost, v) in enumerate(zip(COSTS, values, strict=False))
    ]
    made = Model(folder)
    made.note_training({"evaluations": points, **more})
    return made


def measured(folder: Path, strategy: TimeToTarget, *inputs: Any, made: list[Record] | None = None) -> dict[str, float]:
    step = Context(folder / "out", folder / "scratch", None, "time", made_from={"model": made} if made else {})
    with running(step):
        found = strategy(*inputs)
    return {row.metric: row.value for row in found.rows()}


def test_flops_and_seconds_of_the_training_and_of_its_scorer(tmp_path: Path) -> None:
    made = [record("learn.train", 100, 8), record("learn.train", 40, 5, evaluated_at_seconds=[1.0, 2.0, 3.0, 4.0])]
    found = measured(tmp_path, TimeToTarget(target=0.6), model(tmp_path / "model"), made=made)
    assert found == {"flops": 120, "seconds": 10, "flops_alone": 20, "flops_before": 100, "seconds_before": 8, "target": 0.6, "last": 0.8}
    never = measured(tmp_path / "never", TimeToTarget(target=0.9), model(tmp_path / "other"), made=made)
    assert never["flops"] == never["seconds"] == math.inf


def test_outside_of_a_run_no_clock_is_known(tmp_path: Path) -> None:
    found = measured(tmp_path, TimeToTarget(target=0.6), model(tmp_path / "model"))
    assert found["flops"] == 20
    assert math.isnan(found["seconds"])
    assert math.isnan(found["seconds_before"])


def test_the_target_may_be_what_the_best_of_others_ended_with(tmp_path: Path) -> None:
    others = (model(tmp_path / "a", [0.9, 0.45]), model(tmp_path / "b", [0.1, 0.55]))
    found = measured(tmp_path / "1", TimeToTarget(), model(tmp_path / "model"), others)
    assert (found["target"], found["flops"]) == (0.55, 20)
    loss = measured(tmp_path / "2", TimeToTarget(metric="loss", slack=0.1), model(tmp_path / "again"), others)
    assert (loss["target"], loss["flops"]) == (pytest.approx(0.55), 20)


def test_mistakes_are_named(tmp_path: Path) -> None:
    whole = model(tmp_path / "model")
    with pytest.raises(UserError, match="either target or best_of"):
        measured(tmp_path / "1", TimeToTarget(), whole)
    with pytest.raises(UserError, match="either target or best_of"):
        measured(tmp_path / "2", TimeToTarget(target=0.5), whole, (whole,))
    with pytest.raises(DataError, match="never evaluated") as found:
        measured(tmp_path / "3", TimeToTarget(target=0.5), model(tmp_path / "none", evaluations=[]))
    assert "held_out" in found.value.todo
    with pytest.raises(DataError, match="no accuracy; there is loss"):
        measured(
            tmp_path / "4",
            TimeToTarget(target=0.5),
            model(tmp_path / "text", evaluations=[{"step": 1, "tokens": 1, "flops": 1.0, "loss": 2.0}]),
        )


RECIPE = """\
seed: 1
steps:
  digits: {use: corpus.read.digits, held_out: 0.5}
  scorer: {use: learn.train, model: {use: learn.models.mlp, hidden: [8]}, examples: $digits.train, objective: learn.objectives.classification, budget: {steps: 3}}
  subset: {use: corpus.select.el2n, examples: $digits.train, models: [$scorer], fraction: 0.1}
  model: {use: learn.train, model: {use: learn.models.mlp, hidden: [8]}, examples: $subset, held_out: $digits.held_out, objective: learn.objectives.classification, evaluate_every: 2, budget: {steps: 5}}
  time: {use: measure.time_to_target, model: $model, target: 0}
"""


def test_in_a_run_the_scorer_and_the_scoring_are_counted_and_the_evaluations_are_not(tmp_path: Path) -> None:
    plan, records = run(RECIPE, tmp_path)
    steps = {name: records[key] for name, key in plan.names("", 1).items()}
    found = {row.metric: row.value for row in steps["time"].result(plan.tasks[steps["time"].key].gives).rows()}
    spent = {name: step.cost for name, step in steps.items()}
    assert found["flops_before"] == spent["scorer"]["flops"] + spent["subset"]["flops"] > spent["scorer"]["flops"] > 0
    assert found["seconds_before"] == pytest.approx(spent["scorer"]["seconds"] + spent["subset"]["seconds"])
    training = steps["model"].facts["training"]
    assert [point["step"] for point in training["evaluations"]] == [2, 4, 5]
    assert found["flops"] == found["flops_before"] + training["flops"] * 2 / 5
    assert training["flops"] < spent["model"]["flops"], "the evaluations are part of the step's cost"
    clock = steps["model"].facts["evaluated_at_seconds"]
    assert clock == sorted(clock)
    assert found["seconds"] == pytest.approx(found["seconds_before"] + clock[0])
    assert {"loss", "accuracy"} <= set(training["evaluations"][0])


def test_evaluations_survive_a_stop_and_their_clock_goes_on(tmp_path: Path) -> None:
    import shutil

    from paredown.core.catalog import build
    from paredown.corpus.read.digits import Digits
    from paredown.learn.train import Train

    with running(Context(tmp_path / "digits", tmp_path / "scratch", None, "digits")):
        digits = Digits(held_out=0.9)()
    strategy = Train(
        budget={"steps": 12}, objective=build("learn.objectives.classification"), evaluate_every=2, batch_size=8, checkpoint_seconds=1e-3,
        device="cpu", precision="fp32",
    )  # fmt: skip

    def trained(folder: Path, stop: int | None = None) -> Context:
        step = Context(folder / "out", folder / "scratch", 0, "train")
        if stop is not None:
            left = iter(range(stop))

            def progress(*_: Any) -> None:
                if next(left, None) is None:
                    raise KeyboardInterrupt

            step.listener.progress = progress  # type: ignore[method-assign]
        with running(step):
            strategy(build({"use": "learn.models.mlp", "hidden": [8]}), examples=digits.train, held_out=digits.held_out)
        return step

    whole = trained(tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        trained(tmp_path / "cut", stop=0)
    shutil.rmtree(tmp_path / "cut" / "out", ignore_errors=True)
    again = trained(tmp_path / "cut")
    assert again.facts["training"]["evaluations"] == whole.facts["training"]["evaluations"]
    assert [point["step"] for point in again.facts["training"]["evaluations"]] == [2, 4, 6, 8, 10, 12]
    clock = again.facts["evaluated_at_seconds"]
    assert clock == sorted(clock)
    assert len(clock) == 6
