"""Recipes: read, checked whole before anything runs, every mistake with its place and the nearest valid name."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from paredown.core import catalog
from paredown.core.artifact import Reference
from paredown.core.errors import Mistake, RecipeError, UserError, nearest
from paredown.core.strategy import Part, Strategy, alternatives
from paredown.core.wording import main_type
from paredown.core.yaml import Node, parse

QUICKSTART = "quickstart.yaml"


Value = Reference | Part | tuple[Reference, ...]


@dataclass
class Step:
    """One checked step of one arm."""

    name: str
    strategy: Strategy | None  # None where an error kept it from being built
    inputs: dict[str, Value]  # those of its parts under dotted names, such as `sampler.reference`
    result: Any  # annotation of the result
    takes: dict[str, Any] = field(default_factory=dict)  # input name -> annotation
    skip: bool = False
    handed_through: Reference | None = None  # what stands in for the result of a skipped step
    seed: int | None = None  # its own, whatever the recipe's seeds are
    node: Node = field(default_factory=lambda: Node(None))

    def references(self) -> Iterator[Reference]:
        if self.skip:
            if self.handed_through:
                yield self.handed_through
            return
        for value in self.inputs.values():
            if isinstance(value, Reference):
                yield value
            elif isinstance(value, tuple):
                yield from value


def hand_through(step: Step) -> None:
    """A skipped step hands the first input of its result's type through; one that has none may go where nothing reads it."""
    if not step.skip or step.result is None:
        return
    wanted = main_type(step.result)
    for name, value in step.inputs.items():
        accepted = alternatives(step.takes[name])
        if "." not in name and isinstance(value, Reference) and any(isinstance(a, type) and issubclass(a, wanted) for a in accepted):
            step.handed_through = value
            return


def stands_for(step: Step, steps: dict[str, Step]) -> Step | None:
    """The step itself or, where it is skipped, what it hands through in the end; None where that is nothing."""
    seen = set()
    while step.skip:
        if not step.handed_through or step.handed_through.step not in steps or step.name in seen:
            return None
        seen.add(step.name)
        step = steps[step.handed_through.step]
    return step


@dataclass(frozen=True)
class Claim:
    """`arm` compared with another arm on a metric `step.metric`; verdicts need seeds."""

    metric: str
    arm: str
    kind: str  # beats, not_worse_than, equals
    other: str
    margin: float = 0.0  # `by` or `within`, in the metric's unit
    budget: str = ""  # the cost that must be equal, where named
    says: str = ""  # the claim in a sentence of its author

    def __str__(self) -> str:
        words = {"beats": "beats", "not_worse_than": "is not worse than", "equals": "equals"}[self.kind]
        margin = f" {'by' if self.kind == 'beats' else 'within'} {self.margin:g}" if self.margin else ""
        return f"{self.metric}: {self.arm} {words} {self.other}{margin}"


@dataclass(frozen=True)
class Paper:
    """Of a recipe that proves a published system: which one, what was published, and how this differs from it."""

    system: int
    published: str
    differs: str = ""
    found: str = ""  # what its author made of the evidence


@dataclass
class Recipe:
    """A recipe without mistakes."""

    file: str
    text: str
    name: str
    description: str
    seeds: list[int]
    arms: dict[str, dict[str, Step]]  # arm -> its steps in an order in which they can run
    claims: list[Claim]
    summary: dict[str, tuple[str, str]]  # title -> (step, metric)
    reference: str | None = None  # the arm that the others are compared with in tables
    control: str | None = None  # the arm that is the honest control
    sizes: tuple[str, ...] = ()  # the names of all of them
    paper: Paper | None = None


def shipped() -> str:
    """The recipe that comes with the package."""
    found = catalog.shipped("recipes") / QUICKSTART
    return str(found.relative_to(Path.cwd()) if found.is_relative_to(Path.cwd()) else found)


def load(file: str | Path, settings: Iterable[str] = (), seeds: Sequence[int] = (), size: str = "") -> Recipe:
    """Read and check a recipe.

    `settings` are dotted overrides such as `tokens.vocab_size=2048`, `seeds` replace the recipe's, `size` is one of its `sizes`.

    Raises:
        UserError: the file cannot be read.
        RecipeError: it has mistakes; all of them are in the error.
    """
    path = Path(file)
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        beside = sorted(p.name for p in path.parent.glob("*.y*ml"))
        close = nearest(path.name, beside)
        todo = f"did you mean {path.parent / close[0]}?" if close else f"{shipped()} ships with paredown"
        raise UserError(f"no such recipe: {file}", todo=todo) from None
    except UnicodeDecodeError as error:
        raise UserError(f"the recipe is no UTF-8 text: byte {error.start} cannot be read", where=str(file)) from None
    except OSError as error:
        raise UserError(f"the recipe cannot be read: {error.strerror}", where=str(file)) from None
    return loads(text, str(file), settings, seeds, size)


def loads(text: str, file: str = "recipe.yaml", settings: Iterable[str] = (), seeds: Sequence[int] = (), size: str = "") -> Recipe:
    """Check a recipe's text."""
    from paredown.core.recipe_checks import RecipeChecker
    from paredown.core.wording import distinct

    root = parse(text, file)
    checker = RecipeChecker(file)
    recipe = checker.recipe(root, text, list(settings), size)
    if checker.mistakes:
        raise RecipeError(file, distinct(checker.mistakes))
    if recipe is None:
        raise RecipeError(file, [Mistake(1, 1, "the recipe holds nothing")])
    if seeds:
        recipe.seeds = list(dict.fromkeys(seeds))
    return recipe
