"""From a checked recipe to the steps to run: every arm and seed, each distinct step once, with its key and estimate."""

from __future__ import annotations

import functools
import hashlib
import itertools
import json
import sys
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from paredown.core import catalog
from paredown.core.artifact import Artifact, Bundle, Reference
from paredown.core.errors import DataError, MissingExtra, PareError, RecipeError
from paredown.core.recipe import Recipe, Step, stands_for
from paredown.core.strategy import Part, Strategy, alternatives, wires
from paredown.core.workspace import FORMAT, Record, Workspace


@dataclass(frozen=True)
class Source:
    """Where an input comes from: a node of the plan, whole or a part."""

    key: str
    part: str | None


@dataclass
class Task:
    """One distinct step; several arms and seeds may share it."""

    key: str
    name: str  # in the first arm that needs it
    strategy: Strategy
    inputs: dict[str, Source | Part | tuple[Source, ...]]
    seed: int | None
    cells: list[tuple[str, int, str]] = field(default_factory=list)  # (arm, seed, name) that need it

    @property
    def use(self) -> str:
        return self.strategy.strategy_name()

    @property
    def arms(self) -> list[str]:
        return list(dict.fromkeys(cell[0] for cell in self.cells))

    @property
    def gives(self) -> Any:
        """The annotation of its result."""
        return type(self.strategy).signature().result

    def sources(self) -> list[Source]:
        found = []
        for value in self.inputs.values():
            found += [value] if isinstance(value, Source) else list(value) if isinstance(value, tuple) else []
        return found


@dataclass
class Plan:
    recipe: Recipe
    tasks: dict[str, Task]  # by key, in an order in which they can run
    skipped: dict[tuple[str, int, str], Source]  # (arm, seed, name) -> what stands in for it

    def names(self, arm: str, seed: int) -> dict[str, str]:
        """Step name to key within one arm and seed, in order; skipped steps are left out."""
        return self._names.get((arm, seed), {})

    @functools.cached_property
    def _names(self) -> dict[tuple[str, int], dict[str, str]]:
        found: dict[tuple[str, int], dict[str, str]] = {}
        for task in self.tasks.values():
            for arm, seed, name in task.cells:
                found.setdefault((arm, seed), {})[name] = task.key
        ordered = {cell: [name for name in self.recipe.arms[cell[0]] if name in keys] for cell, keys in found.items()}
        return {cell: {name: found[cell][name] for name in names} for cell, names in ordered.items()}

    def shared(self, task: Task) -> bool:
        return len(task.arms) == len(self.recipe.arms)


def made_by(plan: Plan, key: str) -> list[Task]:
    """The step itself and all that it was made from, in the plan's order."""
    wanted = {key}
    for task in reversed(list(plan.tasks.values())):
        if task.key in wanted:
            wanted.update(source.key for source in task.sources())
    return [task for task in plan.tasks.values() if task.key in wanted]


def make(recipe: Recipe) -> Plan:
    """Every step of every arm and seed with its key; imports nothing heavy and runs nothing.

    Raises:
        RecipeError: the outside world does not hold what a step reads, such as a missing file.
    """
    plan = Plan(recipe, {}, {})
    outside: dict[str, Any] = {}
    mistakes = []
    for seed in recipe.seeds:
        for arm, steps in recipe.arms.items():
            keys: dict[str, Source] = {}
            for step in steps.values():
                if not stands_for(step, steps):  # skipped, and nothing reads it in this arm
                    continue
                try:
                    source = _add(plan, step, arm, seed, keys, outside)
                except PareError as error:
                    named = [n for key, n in step.node.value.items() if key != "use" and isinstance(n.value, str) and n.value in error.what]
                    mistakes.append((named or [step.node])[0].mistake(f"{step.name}: {error.what}", error.todo))
                    source = Source("0" * 64, None)
                keys[step.name] = source
    if mistakes:
        raise RecipeError(recipe.file, dict.fromkeys(mistakes))
    return plan


def _add(plan: Plan, step: Step, arm: str, seed: int, keys: dict[str, Source], outside: dict[str, Any]) -> Source:
    def source(reference: Reference) -> Source:
        found = keys[reference.step]
        if (arm, seed, reference.step) in plan.skipped:  # a part of a skipped step is its first one: what stands in for the step
            return found
        return Source(found.key, reference.part if reference.part is not None and found.part is None else found.part)

    if step.skip and step.handed_through:
        stands_in = source(step.handed_through)
        plan.skipped[arm, seed, step.name] = stands_in
        return stands_in
    assert step.strategy is not None
    inputs: dict[str, Source | Part | tuple[Source, ...]] = {}
    for name, value in step.inputs.items():
        if isinstance(value, Reference):
            inputs[name] = source(value)
        elif isinstance(value, tuple):
            inputs[name] = tuple(source(r) for r in value)
        else:
            inputs[name] = value
    own_seed = (seed if step.seed is None else step.seed) if step.strategy.seeded else None
    spec = json.dumps(step.strategy.spec(), sort_keys=True)
    if spec not in outside:  # looked at once a plan: arms and seeds share it, and a folder of many files takes a second
        outside[spec] = step.strategy.external()
    key = step_key(step.strategy, inputs, own_seed, outside[spec])
    task = plan.tasks.setdefault(key, Task(key, step.name, step.strategy, inputs, own_seed))
    task.cells.append((arm, seed, step.name))
    return Source(key, None)


def step_key(strategy: Strategy, inputs: dict[str, Source | Part | tuple[Source, ...]], seed: int | None, external: Any) -> str:
    """Hash of all that decides the step's bytes; `external` is what the strategy says of the outside world."""

    def plain(value: Source | Part | tuple[Source, ...]) -> Any:
        if isinstance(value, Part):
            return {**value.spec(), "source": catalog.source_hash(value.strategy_name())}
        if isinstance(value, tuple):
            return [plain(item) for item in value]
        return [value.key, value.part]

    parts = sorted(_used([strategy.knobs(), *(value.spec() for value in inputs.values() if isinstance(value, Part))]))
    extras = [*strategy.extras, *itertools.chain(*(catalog.load(name).extras for name in parts))]
    described = {
        "format": FORMAT,
        "strategy": strategy.strategy_name(),
        "source": catalog.source_hash(strategy.strategy_name()),
        "parts": {name: catalog.source_hash(name) for name in parts},
        "knobs": strategy.knobs(),
        "inputs": {name: plain(value) for name, value in inputs.items()},
        "seed": seed,
        "external": external,
        "python": sys.version_info[:2],  # its Unicode tables decide what a word is
        "libraries": {name: catalog.version(name) for name in ("polars", *itertools.chain(*map(catalog.libraries, extras)))},
    }
    return hashlib.sha256(json.dumps(described, sort_keys=True).encode()).hexdigest()


def parts_used(task: Task) -> set[str]:
    """Names of the parts that a step is made with, in its knobs and as its inputs."""
    inputs = [value.spec() for value in task.inputs.values() if isinstance(value, Part)]
    return _used([task.strategy.knobs(), *inputs])


def _used(knobs: Any) -> set[str]:
    """Names of the parts in a step's knobs."""
    if isinstance(knobs, dict):
        own = {knobs["use"]} if isinstance(knobs.get("use"), str) else set()
        return own.union(*(_used(v) for v in knobs.values())) if knobs else own
    if isinstance(knobs, list):
        return set().union(*(_used(v) for v in knobs)) if knobs else set()
    return set()


def resolve(
    task: Task, find: dict[str, Record], annotations: dict[str, Any], foreseen: dict[str, dict[str, float]] | None = None
) -> dict[str, Any]:
    """The task's inputs as artifacts, bundles and parts, by what each parameter of the callee takes.

    What its parts take stands under dotted names; `strategy.wired` puts it in.
    What is not made yet is given as its entry in `foreseen`.

    Raises:
        DataError: a part was not kept by the step that would make it.
    """
    takes = dict(type(task.strategy).signature().inputs)
    for prefix, holder in (("", task.strategy), *((f"{name}.", part) for name, part in task.inputs.items() if isinstance(part, Part))):
        takes |= {prefix + path: annotation for path, _, annotation in wires(holder)}

    def one(source: Source, annotation: Any) -> Artifact | Bundle | dict[str, float]:
        if foreseen and source.key in foreseen:
            return foreseen[source.key]
        result = find[source.key].result(annotations[source.key])
        if source.part is None:
            if isinstance(result, Bundle) and not any(isinstance(a, type) and isinstance(result, a) for a in alternatives(annotation)):
                return next(iter(result.parts().values()))
            return result
        assert isinstance(result, Bundle)
        parts = result.parts()
        if source.part not in parts:
            raise DataError(
                f"{find[source.key].strategy} made no {source.part} in this run; it made {', '.join(parts)}",
                todo="see its knobs with paredown show; filters keep what they rejected with keep_rejected: true",
            )
        return parts[source.part]

    resolved: dict[str, Any] = {}
    for name, value in task.inputs.items():
        if isinstance(value, Source):
            resolved[name] = one(value, takes[name])
        elif isinstance(value, tuple):
            resolved[name] = tuple(one(item, Artifact) for item in value)
        else:
            resolved[name] = value
    return resolved


@dataclass(frozen=True)
class Forecast:
    """What a run will take, summed over the steps that are not cached."""

    steps: int
    cached: int
    seconds: float
    disk: float
    memory: float
    tokens: float


def forecast(plan: Plan, guesses: dict[str, dict[str, float]]) -> Forecast:
    """Sum of the steps' own estimates; a step that says nothing counts as a second."""

    def total(what: str, otherwise: float = 0.0) -> float:
        return sum(guess.get(what, otherwise) for guess in guesses.values())

    memory = max((guess.get("memory", 0.0) for guess in guesses.values()), default=0.0)
    return Forecast(len(plan.tasks), len(plan.tasks) - len(guesses), total("seconds", 1.0), total("disk"), memory, total("tokens"))


def estimates(plan: Plan, workspace: Workspace) -> dict[str, dict[str, float]]:
    """What each step that is not made yet will take, by key; from knobs, from what exists, and from what earlier steps foresee.

    Raises:
        MissingExtra: a step that is to be made needs a library that is not installed.
    """
    guesses: dict[str, dict[str, float]] = {}
    records: dict[str, Record] = {}
    annotations: dict[str, Any] = {}
    found = {key: workspace.find(key, task.use) for key, task in plan.tasks.items()}
    _check_extras([task for key, task in plan.tasks.items() if found[key] is None])
    for task in plan.tasks.values():
        record = found[task.key]
        if record:
            records[task.key] = record
            annotations[task.key] = task.gives
        else:
            guesses[task.key] = task.strategy.estimate(resolve(task, records, annotations, guesses))
    return guesses


def urgent_first(plan: Plan, guesses: dict[str, dict[str, float]]) -> list[Task]:
    """The steps, those first that hold up the longest chain of steps that are not made yet; of equal ones in the plan's order."""
    chains = dict.fromkeys(plan.tasks, 0.0)  # seconds, the step itself included
    for key, task in reversed(plan.tasks.items()):  # a step stands after those that it reads
        chains[key] += guesses[key].get("seconds", 1.0) if key in guesses else 0.0
        for source in task.sources():
            chains[source.key] = max(chains[source.key], chains[key])
    return sorted(plan.tasks.values(), key=lambda task: -chains[task.key])


def _check_extras(tasks: Iterable[Task]) -> None:
    """Before anything runs: the libraries of every extra that a step or one of its parts declares."""
    needing: dict[str, str] = {}
    for task in tasks:
        for name in (task.use, *parts_used(task)):
            if catalog.entry(name).module.startswith("paredown."):
                for extra in catalog.entry(name).extras:
                    needing.setdefault(extra, name)
    missing = {extra: library for extra in needing if (library := catalog.lacking(extra))}
    if missing:
        extra, library = next(iter(missing.items()))
        raise MissingExtra(",".join(sorted(missing)), needing[extra], library)
