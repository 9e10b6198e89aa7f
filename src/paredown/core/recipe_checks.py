"""Checks a recipe as a whole: its keys, arms, seeds, claims and summary, on top of its steps."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from paredown.core.errors import nearest
from paredown.core.recipe import Claim, Recipe, Step, shipped
from paredown.core.step_checks import NAME, StepChecker
from paredown.core.wording import did_you_mean, is_seed, kind_of, say
from paredown.core.yaml import Node

TOP = ("name", "description", "seed", "seeds", "steps", "arms", "reference", "control", "claims", "summary")
KINDS = ("beats", "not_worse_than", "equals")
BUDGETS = ("tokens", "flops", "steps", "seconds", "labels")
FILE_NAME = re.compile(r"\w[\w .-]{0,99}\Z")
Arms = dict[str, dict[str, Step]]


class RecipeChecker(StepChecker):
    """Makes a `Recipe` of a parsed file, or collects why that cannot be."""

    def recipe(self, root: Node, text: str, settings: list[str]) -> Recipe | None:
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
        steps = self._apply_settings(steps, settings)
        arms = self._arms(top.get("arms"), steps, root)
        checked = {arm: self._steps(variant) for arm, variant in arms.items()}
        seeds = self._seeds(top)
        claims = self._claims(top.get("claims"), checked)
        summary = self._summary(top.get("summary"), checked, root)
        names = {key: self._arm_name(top.get(key), key, arms) for key in ("reference", "control")}
        name = self._name(top.get("name"))
        if self.mistakes:
            return None
        ordered = {arm: self._ordered(variant) for arm, variant in checked.items()}
        if self.mistakes:
            return None
        control = names["control"] or ("control" if "control" in arms else None)
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
        )

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

    def _claims(self, node: Node | None, arms: Arms) -> list[Claim]:
        if node is None:
            return []
        if not isinstance(node.value, list):
            self.add(node.mistake(f"claims: expected a list, found {kind_of(node)}"))
            return []
        found = []
        for item in node.value:
            claim = self._claim(item, arms)
            if claim:
                found.append(claim)
        return found

    def _claim(self, item: Node, arms: Arms) -> Claim | None:
        if not isinstance(item.value, dict):
            self.add(item.mistake(f"claims: expected a mapping with metric, arm and one of {', '.join(KINDS)}; found {kind_of(item)}"))
            return None
        fields: dict[str, Node] = item.value
        known = ("metric", "arm", *KINDS, "by", "within", "budget")
        before = len(self.mistakes)
        for key, child in fields.items():
            if key not in known:
                self.add(child.mistake(f"claims: no such key {key}", did_you_mean(key, known), at_key=True))
        kinds = [k for k in KINDS if k in fields]
        meant = {found for key in fields if key not in known for found in nearest(key, known)}
        if len(kinds) > 1 or not (kinds or meant.intersection(KINDS)):
            self.add(item.mistake(f"claims: give exactly one of {', '.join(KINDS)}"))
        for key in ("metric", "arm"):
            if key not in fields and key not in meant:
                self.add(item.mistake(f"claims.{key}: missing"))
        for key in ["arm", *kinds]:
            if key in fields and (not isinstance(fields[key].value, str) or fields[key].value not in arms):
                self.add(
                    fields[key].mistake(f"claims.{key}: {fields[key].plain()!r} is no arm", did_you_mean(str(fields[key].value), arms))
                )
        named = [fields[key].value for key in ("arm", *kinds) if key in fields and fields[key].plain() in [*arms]]
        if len(kinds) == 1 and len(named) == 2 and named[0] == named[1]:
            self.add(fields[kinds[0]].mistake(f"claims.{kinds[0]}: {named[0]} is compared with itself"))
        if "metric" in fields:
            self._metric("claims.metric", fields["metric"], arms, named)
        for key in ("by", "within"):
            if key in fields and (
                isinstance(fields[key].value, bool) or not isinstance(fields[key].value, (int, float)) or fields[key].value < 0
            ):
                self.add(fields[key].mistake(f"claims.{key}: expected a number of 0 or more, found {kind_of(fields[key])}"))
        if kinds and kinds[0] == "beats" and "within" in fields:
            self.add(fields["within"].mistake("claims.within: a beats claim takes by", at_key=True))
        if kinds and kinds[0] != "beats" and "by" in fields:
            self.add(fields["by"].mistake(f"claims.by: a {kinds[0]} claim takes within", at_key=True))
        if "budget" in fields and fields["budget"].plain() not in BUDGETS:
            found = fields["budget"]
            self.add(
                found.mistake(f"claims.budget: {found.plain()!r} is none of {', '.join(BUDGETS)}", did_you_mean(str(found.value), BUDGETS))
            )
        if len(self.mistakes) > before:
            return None
        margin = next((float(fields[k].value) for k in ("by", "within") if k in fields), 0.0)
        budget = fields["budget"].value if "budget" in fields else ""
        return Claim(fields["metric"].value, fields["arm"].value, kinds[0], fields[kinds[0]].value, margin, budget)

    def _metric(self, where: str, node: Node, arms: Arms, every: list[str]) -> tuple[str, str] | None:
        """(step, metric) where each of the arms `every` makes it, and at least one arm where none is named."""
        steps = next(iter(arms.values()))
        step, _, metric = node.value.partition(".") if isinstance(node.value, str) else ("", "", "")
        if not metric:
            self.add(node.mistake(f"{where}: expected step.metric, such as quality.bits_per_byte; found {kind_of(node)}"))
            return None
        if step not in steps:
            self.add(node.mistake(f"{where}: there is no step {step}", did_you_mean(step, steps)))
            return None
        made = {arm: self._made(arms[arm], step) for arm in every or arms}
        lacking = [arm for arm, names in made.items() if names is not None and metric not in names]
        if lacking if every else len(lacking) == len(arms):
            measured = arms[lacking[0]][step]
            names = made[lacking[0]]
            using = measured.node.value["use"].value
            if names:
                hint = did_you_mean(metric, names, f"{step}.") or f"its metrics are {', '.join(names)}"
                self.add(node.mistake(f"{where}: {step} makes no {metric} ({using})", hint))
            else:
                measuring = [name for name, other in steps.items() if _is_scores(other.result)]
                hint = f"what measures is {', '.join(measuring)}" if measuring else ""
                self.add(node.mistake(f"{where}: {step} makes no metrics ({using} gives {say(measured.result)})", hint))
            return None
        return step, metric

    def _made(self, steps: dict[str, Step], name: str) -> Sequence[str] | None:
        """The metrics that a step of an arm makes; None where that shows only when it runs, or the step has a mistake."""
        step = steps[name]
        seen = {name}
        while step.skip and step.handed_through and step.handed_through.step in steps and step.handed_through.step not in seen:
            step = steps[step.handed_through.step]
            seen.add(step.name)
        if step.strategy is None or step.result is None:
            return None
        if not _is_scores(step.result):
            return ()
        return type(step.strategy).metrics or None

    def _summary(self, node: Node | None, arms: Arms, root: Node) -> dict[str, tuple[str, str]]:
        found = {}
        for title, child in self._mapping(node, "summary", root).items():
            metric = self._metric(f"summary.{title}", child, arms, [])
            if metric:
                found[title] = metric
        return found


def _is_scores(result: Any) -> bool:
    """Whether a step's result is measured rows (`artifacts.scores`, which core does not import)."""
    return getattr(result, "kind", "") == "Scores"
