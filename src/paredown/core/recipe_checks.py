"""Checks a recipe as a whole: its keys, arms, seeds, claims and summary, on top of its steps."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path
from typing import Any

from paredown.core.claim_checks import ClaimChecker
from paredown.core.errors import nearest
from paredown.core.recipe import Paper, Recipe, Step, shipped
from paredown.core.step_checks import NAME
from paredown.core.wording import did_you_mean, is_seed, kind_of
from paredown.core.yaml import Node

TOP = (
    "name", "description", "seed", "seeds", "steps", "arms", "grid", "sizes", "reference", "control", "claims", "summary",
    "system", "published", "differs", "found",
)  # fmt: skip
FILE_NAME = re.compile(r"\w[\w .-]{0,99}\Z")


class RecipeChecker(ClaimChecker):
    """Makes a `Recipe` of a parsed file, or collects why that cannot be."""

    def recipe(self, root: Node, text: str, settings: list[str], size: str = "") -> Recipe | None:
        if not isinstance(root.value, dict):
            self.add(root.mistake("a recipe is a mapping with the key steps", f"for an example see {shipped()}"))
            return None
        top: dict[str, Node] = root.value
        for key, node in top.items():
            if key not in TOP:
                self.add(node.mistake(f"{key}: no such key of a recipe", did_you_mean(key, TOP), at_key=True))
        steps = self._mapping(top.get("steps"), "steps", root)
        if not steps:
            if "steps" not in top:
                if any(nearest(key, TOP) == ["steps"] for key in top):
                    return None  # a misspelt one is reported as such
                self.add(root.mistake("steps: missing", "a recipe needs at least one step"))
            elif isinstance(top["steps"].value, dict):
                self.add(top["steps"].mistake("steps: empty", "a recipe needs at least one step"))
            return None
        for name, node in steps.items():
            if not NAME.match(name):
                self.add(
                    node.mistake(f"{name!r} is no name for a step", "letters, digits, _ and -; not beginning with a digit", at_key=True)
                )
        sizes = self._mapping(top.get("sizes"), "sizes", root)
        every = {name: self._sized(top, steps, name, overrides, settings, root) for name, overrides in {"": Node({}), **sizes}.items()}
        if size not in every:
            hint = did_you_mean(size, sizes) or (f"its sizes are {', '.join(sizes)}" if sizes else "it has no sizes")
            self.add(Node(None, file=f"--size {size}").mistake("the recipe has no such size", hint))
        checked, seeds = every.get(size, every[""])
        claims = self._claims(top.get("claims"), checked)
        summary = self._summary(top.get("summary"), checked, root)
        names = {key: self._arm_name(top.get(key), key, checked) for key in ("reference", "control")}
        name = self._name(top.get("name"))
        paper = self._paper(top, root)
        if self.mistakes:
            return None
        ordered = {arm: self._ordered(variant) for arm, variant in checked.items()}
        if self.mistakes:
            return None
        control = names["control"] or ("control" if "control" in checked else None)
        return Recipe(
            self.file,
            text,
            name,
            self._text(top.get("description"), "description"),
            seeds,
            ordered,
            claims,
            summary,
            names["reference"],
            control,
            tuple(sizes),
            paper,
        )

    def _sized(
        self, top: dict[str, Node], steps: dict[str, Node], name: str, size: Node, settings: list[str], root: Node
    ) -> tuple[dict[str, dict[str, Step]], list[int]]:
        """The checked arms and the seeds of one size. All sizes are checked, so that a mistake in one does not wait for its day."""
        overrides = dict(self._mapping(size, f"sizes.{name}", root))
        seeds = self._seeds({**top, "seeds": overrides.pop("seeds")} if "seeds" in overrides else top)
        of_arms = {path: overrides.pop(path) for path in list(overrides) if path.startswith("arms.")}
        for path, value in overrides.items():
            steps = self._override(steps, path, value)
        arms = self._arms(top.get("arms"), self._apply_settings(steps, settings), root)
        for path, value in of_arms.items():
            _, arm, *rest = path.split(".")
            if arm in arms:
                arms[arm] = self._override(arms[arm], ".".join(rest), value)
            else:
                self.add(value.mistake(f"sizes.{name}.{path}: there is no arm {arm}", did_you_mean(arm, arms, "arms."), at_key=True))
        arms = self._over_grid(arms, top.get("grid"), root)
        return {arm: self._steps(variant) for arm, variant in arms.items()}, seeds

    def _over_grid(self, arms: dict[str, dict[str, Node]], grid: Node | None, root: Node) -> dict[str, dict[str, Node]]:
        """Every arm at every point of the grid, named by the values: `hidden_size=64, tokens=1e6`."""
        axes = self._mapping(grid, "grid", root)
        for path, values in axes.items():
            if not isinstance(values.value, list) or not values.value:
                self.add(values.mistake(f"grid.{path}: expected a list of values, found {kind_of(values)}"))
                return arms
            for number, value in enumerate(values.value):
                if any(_said(value) == _said(other) for other in values.value[:number]):
                    self.add(value.mistake(f"grid.{path}: {_said(value)} stands twice"))
        short = [path.rpartition(".")[2] for path in axes]
        titles = [path if short.count(end) > 1 else end for path, end in zip(axes, short, strict=True)]
        for path, title in zip(axes, titles, strict=True):
            arms = {
                ", ".join(filter(None, [arm, f"{title}={_said(value)}"])): self._override(
                    steps, path, dataclasses.replace(value, key=axes[path].key)
                )
                for arm, steps in arms.items()
                for value in axes[path].value
            }
        return arms

    def _paper(self, top: dict[str, Node], root: Node) -> Paper | None:
        if not any(key in top for key in ("system", "published", "differs", "found")):
            return None
        for key in ("system", "published"):
            if key not in top:
                self.add(root.mistake(f"{key}: missing", "a recipe that proves a published system says which one, and what was published"))
        number = top.get("system")
        if number is not None and (isinstance(number.value, bool) or not isinstance(number.value, int) or number.value < 1):
            self.add(number.mistake(f"system: expected the number of a published system, found {kind_of(number)}", "paredown prove --list"))
            return None
        said = {key: self._text(top.get(key), key) for key in ("published", "differs", "found")}
        return Paper(number.value, **said) if number is not None else None

    def _name(self, node: Node | None) -> str:
        name = self._text(node, "name") or Path(self.file).stem
        if node and isinstance(node.value, str) and not FILE_NAME.match(name):
            self.add(node.mistake(f"name: {name!r} is no file name", "the report is stored under it: letters, digits, spaces, . _ and -"))
        return name

    def _arm_name(self, node: Node | None, what: str, arms: dict[str, Any]) -> str | None:
        if node is None:
            return None
        if not isinstance(node.value, str) or node.value not in arms:
            self.add(node.mistake(f"{what}: {node.plain()!r} is no arm", did_you_mean(str(node.value), arms)))
            return None
        return node.value

    def _seeds(self, top: dict[str, Node]) -> list[int]:
        seeds: list[int] = []
        seed = top.get("seed")
        if seed is not None and not is_seed(seed.value):
            self.add(seed.mistake(f"seed: expected a whole number of 0 or more, found {kind_of(seed)}"))
        many = top.get("seeds")
        if many is None:
            return [seed.value if seed is not None and is_seed(seed.value) else 0]
        if not isinstance(many.value, list) or not many.value:
            self.add(many.mistake(f"seeds: expected a list such as [0, 1, 2], found {kind_of(many)}"))
            return [0]
        for node in many.value:
            if not is_seed(node.value):
                self.add(node.mistake(f"seeds: expected a whole number of 0 or more, found {kind_of(node)}"))
            elif node.value in seeds:
                self.add(node.mistake(f"seeds: {node.value} stands twice"))
            else:
                seeds.append(node.value)
        return seeds


def _said(node: Node) -> str:
    """A value in an arm's name: short, but never the same for two values."""
    value = node.plain()
    return f"{value:g}" if isinstance(value, float) and float(f"{value:g}") == value else str(value)
