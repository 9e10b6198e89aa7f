"""What `paredown plan` does with a recipe: its finished trainings as points, models that could be trained, the proposal as a run."""

from __future__ import annotations

import json
import re
import statistics
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from paredown.artifacts.scores import Scores
from paredown.artifacts.tokens import Tokens
from paredown.core import plan as plans
from paredown.core.errors import DataError, PareError, RecipeError, UserError, nearest
from paredown.core.plan import Plan, Task, made_by
from paredown.core.recipe import Recipe
from paredown.core.recipe_checks import RecipeChecker
from paredown.core.workspace import Record, Workspace
from paredown.core.yaml import Node
from paredown.engines.compute_planning import Candidate, Measured, Size, weights_in_time
from paredown.engines.parts import Architecture
from paredown.engines.scaling_laws import LEAST_RUNS, Run

WIDTH = "hidden_size"  # the knob that is varied
INNER = "intermediate_size"
WIDER = 4  # times the largest hidden size that was trained
MOST_SIZES = 256
TRAIN, SPEED = "learn.train", "measure.speed"
PLAIN = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]*\Z")


@dataclass(frozen=True)
class Point:
    """One finished training of the recipe."""

    task: Task
    record: Record
    run: Run
    flops: float  # of the training, counted
    weights: float  # all that the model has
    outside: float | None  # of these, what no hook may prune, where the training noted it

    @property
    def pruned(self) -> bool:
        return self.run.count("final") < 0.999 * self.weights

    @property
    def pruning(self) -> dict[str, Any] | None:
        """The hook that pruned, as the recipe says it."""
        hooks = self.record.knobs.get("hooks") or ()
        return next((hook for hook in hooks if "sparsity" in hook), None) if self.pruned else None


@dataclass(frozen=True)
class Points:
    """The finished trainings of one step over all arms and seeds."""

    plan: Plan
    step: str
    found: list[Point]
    workspace: Path

    @property
    def place(self) -> Workspace:
        return Workspace(self.workspace)

    @property
    def runs(self) -> list[Run]:
        return [point.run for point in self.found]

    def largest(self, *, pruned: bool) -> Point | None:
        """The training of the most FLOPs among those that pruned, or did not."""
        return max((p for p in self.found if p.pruned == pruned), key=lambda p: (p.flops, p.weights), default=None)

    def pattern(self) -> tuple[Point, Architecture]:
        """(the largest dense training, its architecture): what a proposal varies.

        Raises:
            UserError: the step trains no architecture whose width could be varied.
        """
        point = self.largest(pruned=False) or max(self.found, key=lambda p: p.flops)
        _, part = _architecture(point.task)
        if part is None:
            raise UserError(
                f"the step {self.step} trains no new architecture, so there is no size to propose", todo="name another with --step"
            )
        if WIDTH not in type(part).model_fields:
            raise UserError(f"{part.strategy_name()} has no {WIDTH} that could be varied", where=f"step {self.step}")
        return point, part


def _architecture(task: Task) -> tuple[str, Architecture | None]:
    """(the input that holds the architecture which a step trains, the architecture)."""
    return next(((name, value) for name, value in task.inputs.items() if isinstance(value, Architecture)), ("", None))


def collect(recipe: Recipe, step: str, workspace: Path) -> Points:
    """The finished runs of a step, by default of the first that trains a new architecture.

    Raises:
        UserError: there is no such step, or fewer than six runs are finished.
    """
    plan = plans.make(recipe)
    tasks = _tasks(plan, step)
    place = Workspace(workspace) if workspace.exists() else None
    found, without = [], 0
    for task in tasks:
        record = place.find(task.key, task.use) if place else None
        training = record.facts.get("training") if record else None
        if record is None or not training:
            continue
        loss = training.get("held_out_loss")
        if loss is None:
            without += 1
            continue
        found.append(_point(task, record, training, float(loss)))
    name = tasks[0].name
    if without and len(found) < LEAST_RUNS:
        raise UserError(
            f"{without} of {len(tasks)} runs of {name} have no held-out loss, which is what a scaling law foresees",
            where=f"step {name}",
            todo=f"give the step held_out, such as {name}.held_out: $tokens.held_out",
        )
    if len(found) < LEAST_RUNS:
        raise UserError(
            f"{len(found)} of {len(tasks)} runs of {name} are finished; a scaling law needs at least {LEAST_RUNS}",
            where=str(workspace),
            todo=f"paredown compare {recipe.file} makes them"
            + ("" if len(tasks) >= LEAST_RUNS else ", but the recipe has too few arms: add sizes and budgets"),
        )
    return Points(plan, name, found, workspace)


def _tasks(plan: Plan, step: str) -> list[Task]:
    def named(task: Task, name: str) -> bool:
        return any(cell[2] == name for cell in task.cells)

    if not step:
        first = next((task for task in plan.tasks.values() if task.use == TRAIN and _architecture(task)[1]), None)
        if first is None:
            raise UserError(f"no step of {plan.recipe.file} trains a new architecture ({TRAIN} with a model of learn.models)")
        step = first.name
    found = [task for task in plan.tasks.values() if named(task, step)]
    if not found:
        names = list(dict.fromkeys(cell[2] for task in plan.tasks.values() for cell in task.cells))
        close = nearest(step, names)
        raise UserError(f"--step: there is no step {step}", todo=f"did you mean {close[0]}?" if close else f"there are {', '.join(names)}")
    return found


def _point(task: Task, record: Record, training: dict[str, Any], loss: float) -> Point:
    counts = {name: float(value) for name, value in training["parameters"].items()}
    run = Run(counts["initial"], float(training["tokens"]), loss, counts["average"], counts["final"])
    weights = float((record.parameters or {}).get("total") or counts["initial"])
    return Point(task, record, run, float(training["flops"]), weights, counts.get("outside"))


def differences(points: Points) -> list[str]:
    """What beside size, budget and hooks sets the runs apart: a law takes all of them for one way to train."""
    apart = set()
    for name in points.found[0].record.knobs:
        if name not in ("budget", "hooks") and len({json.dumps(p.record.knobs.get(name), sort_keys=True) for p in points.found}) > 1:
            apart.add(name)
    specs = [part.spec() for _, part in (_architecture(p.task) for p in points.found) if part]
    for name in {key for spec in specs for key in spec} - {WIDTH, INNER}:
        if len({json.dumps(spec.get(name), sort_keys=True) for spec in specs}) > 1:
            apart.add(f"model.{name}")
    notes = [f"the runs differ in {', '.join(sorted(apart))}, too; the law knows of their parameters and tokens only"] if apart else []
    held = {p.task.inputs.get("held_out") for p in points.found}
    if len(held) > 1:
        notes.append(f"the losses are of {len(held)} different held-out parts, so they differ by more than the runs do")
    return notes


def sizes(points: Points) -> list[Size]:
    """Models like the largest one, from the smallest width that was trained to four times the largest."""
    point, part = points.pattern()
    parts = [_architecture(p.task)[1] for p in points.found]
    trained = {int(getattr(other, WIDTH)) for other in parts if isinstance(other, type(part))}
    vocabulary = _vocabulary(part, point)
    fixed = _unprunable(points)
    low, high = min(trained), WIDER * max(trained)
    step = 8
    while (high - low) / step > MOST_SIZES:
        step *= 2
    found = []
    for width in sorted(trained | set(range(-(-low // step) * step, high + 1, step))):
        made = _resized(part, width)
        if made is None:
            continue
        weights = made.parameters(vocabulary)
        found.append(Size(width, weights, max(0.0, weights - fixed * width) if fixed else 0.0))
    return found


def _resized(part: Architecture, width: int) -> Architecture | None:
    """The architecture at another width, or None where its other knobs do not allow that."""
    try:
        return type(part)(**{**part.knobs(), **resized_knobs(part, width)})
    except (ValidationError, PareError):
        return None


def resized_knobs(part: Architecture, width: int) -> dict[str, int]:
    """What changes with the width; an inner width that is given grows with it, in steps of 8."""
    inner = getattr(part, INNER, None)
    return {WIDTH: width} | ({INNER: max(8, round(inner * width / getattr(part, WIDTH) / 8) * 8)} if inner else {})


def _vocabulary(part: Architecture, point: Point) -> int:
    """The vocabulary with which the architecture has as many weights as were counted: they grow along a line with it.

    Raises:
        UserError: it has not, so that sizes cannot be foreseen.
    """
    one, two = part.parameters(1), part.parameters(2)
    found = 1 + round((point.weights - one) / (two - one)) if two != one else 0
    if abs(part.parameters(found) - point.weights) > 0.01 * point.weights:
        raise UserError(
            f"{part.strategy_name()} says that it has {part.parameters(found):,} weights, but the trained model has {point.weights:,.0f}",
            where=f"step {point.task.name}",
        )
    return found


def _unprunable(points: Points) -> float:
    """Weights that pruning leaves alone, for each unit of width (embeddings and norms grow with it); 0 where nothing pruned."""
    found = []
    for p in points.found:
        hook, width = p.pruning, getattr(_architecture(p.task)[1], WIDTH, None)
        if hook and width and hook["sparsity"] > 0:
            found.append((p.weights - (p.weights - p.run.count("final")) / hook["sparsity"] if p.outside is None else p.outside) / width)
    return statistics.median(found) if found else 0.0


def measured(points: Points, ms: float | None) -> Measured:
    """What the runs cost and how pruning went.

    Raises:
        UserError: `ms` is given, but nothing measured speed.
    """
    pruned = []
    for p in points.found:
        hook = p.pruning
        final, span = p.run.count("final"), p.weights - p.run.count("final")
        if hook and span > 0:
            pruned.append((float(hook["sparsity"]), (p.run.count("average") - final) / span))
    most = weights_in_time(_speeds(points.plan, points.place), ms) if ms else float("inf")
    costs = tuple((p.weights, p.flops / p.run.tokens) for p in points.found)
    return Measured(costs, max(p.run.tokens for p in points.found), tuple(pruned), most)


def _speeds(plan: Plan, place: Workspace) -> list[tuple[float, float]]:
    """(weights, milliseconds a decoded token) of what measure.speed has measured."""
    tasks = [task for task in plan.tasks.values() if task.use == SPEED]
    if not tasks:
        raise UserError(
            f"--budget ms: no step of {plan.recipe.file} measures speed", todo=f"add one, such as speed: {{use: {SPEED}, model: $dense}}"
        )
    found = []
    for task in tasks:
        record = place.find(task.key, task.use)
        if record:
            made = record.result(task.gives)
            assert isinstance(made, Scores)
            rate = made.value("decode_tokens_per_second")  # of all prompts that are answered at once
            found.append((made.value("parameters"), 1000 * float(record.knobs.get("batch") or 1) / rate))
    return found


def passes(points: Points, tokens: float) -> tuple[float, float] | None:
    """Passes over the training tokens that so many make, and the most that a fitted run made; None where that cannot be known."""
    task, place = points.pattern()[0].task, points.place
    records = {s.key: place.find(s.key, points.plan.tasks[s.key].use) for s in task.sources()}
    there = {key: record for key, record in records.items() if record}
    if len(there) < len(records):
        return None
    kinds = {key: points.plan.tasks[key].gives for key in there}
    data = plans.resolve(task, there, kinds).get("tokens")
    if not isinstance(data, Tokens) or not data.tokens:
        return None
    return tokens / data.tokens, max(p.run.tokens for p in points.found) / data.tokens


@dataclass(frozen=True)
class Proposal:
    """A candidate as overrides of one arm of the recipe."""

    arm: str
    seed: int
    step: str
    overrides: dict[str, Any]  # dotted, such as dense.model.hidden_size

    def settings(self) -> list[str]:
        """As `--set` takes them."""
        return [f"{path}={flow(value)}" for path, value in self.overrides.items()]


def propose(points: Points, candidate: Candidate, flops: float | None) -> Proposal:
    """The candidate in the words of the recipe: the arm of the largest run of its kind, with what must change."""
    point, _ = points.pattern()
    if candidate.kind == "sparse":
        point = points.largest(pruned=True) or point
    name, part = _architecture(point.task)
    assert part is not None
    arm, seed, step = point.task.cells[0]
    knobs = resized_knobs(part, candidate.width)
    node = points.plan.recipe.arms[arm][step].node.value[name]
    if isinstance(node.value, dict):
        overrides: dict[str, Any] = {f"{step}.{name}.{knob}": value for knob, value in knobs.items()}
    else:  # written as a bare name
        overrides = {f"{step}.{name}": {"use": part.strategy_name(), **knobs}}
    # The trainer counts products of zeros too, so what a sparse run may spend is said in tokens.
    spent = {"flops": flops} if flops and candidate.kind == "dense" else {"tokens": int(candidate.tokens)}
    overrides[f"{step}.budget"] = spent
    if candidate.kind == "sparse":
        pruning = point.pruning or {}
        hooks = [{**hook, "sparsity": round(candidate.sparsity, 6)} if hook is pruning else hook for hook in point.record.knobs["hooks"]]
        overrides[f"{step}.hooks"] = hooks
    return Proposal(arm, seed, step, overrides)


def flow(value: Any) -> str:
    """A value as YAML on one line."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key}: {flow(value[key])}" for key in sorted(value, key=lambda key: key != "use")) + "}"
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(flow(item) for item in value) + "]"
    if isinstance(value, float) and float(short := f"{value:.6g}".replace("e+", "e")) == value:
        return short
    if isinstance(value, str) and PLAIN.match(value) and value not in ("true", "false", "null"):
        return value
    return json.dumps(value)


def planned(points: Points, proposal: Proposal) -> tuple[Plan, Task]:
    """(the steps that the proposal's training needs, the training): one arm, one seed, under a name of its own.

    Raises:
        RecipeError: the overrides do not fit the recipe.
    """
    recipe = points.plan.recipe
    steps = {name: step.node for name, step in recipe.arms[proposal.arm].items()}  # as this arm has them
    top = {"name": Node(f"{recipe.name}-plan"), "seed": Node(proposal.seed), "steps": Node(steps)}
    checker = RecipeChecker(recipe.file)
    made = checker.recipe(Node(top), recipe.text, proposal.settings())
    if checker.mistakes or made is None:
        raise RecipeError(recipe.file, checker.mistakes)
    whole = plans.make(made)
    task = next(t for t in whole.tasks.values() if any(cell[2] == proposal.step for cell in t.cells))
    return Plan(made, {t.key: t for t in made_by(whole, task.key)}, whole.skipped), task


def outcome(place: Workspace, task: Task) -> tuple[float, Record]:
    """(held-out loss, record) of a training that is finished.

    Raises:
        DataError: it has none.
    """
    record = place.find(task.key, task.use)
    loss = ((record.facts.get("training") or {}) if record else {}).get("held_out_loss")
    if record is None or loss is None:
        raise DataError("the training that was to check the proposal left no held-out loss", where=f"step {task.name}")
    return float(loss), record
