"""Checks a recipe as a whole: its keys, arms, seeds, claims and summary, on top of its steps."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from paredown.core.recipe import Claim, Recipe
from paredown.core.step_checks import NAME, StepChecker
from paredown.core.wording import did_you_mean, is_seed, kind_of
from paredown.core.yaml import Node

TOP = ("name", "description", "seed", "seeds", "steps", "arms", "reference", "control", "claims", "summary")
KINDS = ("beats", "not_worse_than", "equals")


class RecipeChecker(StepChecker):
    """Makes a `Recipe` of a parsed file, or collects why that cannot be."""

    def recipe(self, root: Node, text: str, settings: list[str]) -> Recipe | None:
        if not isinstance(root.value, dict):
            self.add(root.mistake("a recipe is a mapping with the key steps", "for an example: paredown show recipe"))
            return None
        top: dict[str, Node] = root.value
        for key, node in top.items():
            if key not in TOP:
                self.add(node.mistake(f"{key}: no such key of a recipe", did_you_mean(key, TOP), at_key=True))
        steps = self._mapping(top.get("steps"), "steps", root)
        if not steps:
            if "steps" not in top:
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
        claims = self._claims(top.get("claims"), arms, steps, root)
        summary = self._summary(top.get("summary"), steps, root)
        names = {key: self._arm_name(top.get(key), key, arms) for key in ("reference", "control")}
        name = self._text(top.get("name"), "name") or Path(self.file).stem
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

    def _claims(self, node: Node | None, arms: dict[str, Any], steps: dict[str, Node], root: Node) -> list[Claim]:
        if node is None:
            return []
        if not isinstance(node.value, list):
            self.add(node.mistake(f"claims: expected a list, found {kind_of(node)}"))
            return []
        found = []
        for item in node.value:
            claim = self._claim(item, arms, steps)
            if claim:
                found.append(claim)
        return found

    def _claim(self, item: Node, arms: dict[str, Any], steps: dict[str, Node]) -> Claim | None:
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
        if len(kinds) != 1:
            self.add(item.mistake(f"claims: give exactly one of {', '.join(KINDS)}"))
        for key in ("metric", "arm"):
            if key not in fields:
                self.add(item.mistake(f"claims.{key}: missing"))
        for key in ["arm", *kinds]:
            if key in fields and (not isinstance(fields[key].value, str) or fields[key].value not in arms):
                self.add(
                    fields[key].mistake(f"claims.{key}: {fields[key].plain()!r} is no arm", did_you_mean(str(fields[key].value), arms))
                )
        if "metric" in fields:
            self._metric("claims.metric", fields["metric"], steps)
        for key in ("by", "within"):
            if key in fields and (
                isinstance(fields[key].value, bool) or not isinstance(fields[key].value, (int, float)) or fields[key].value < 0
            ):
                self.add(fields[key].mistake(f"claims.{key}: expected a number of 0 or more, found {kind_of(fields[key])}"))
        if kinds and kinds[0] == "beats" and "within" in fields:
            self.add(fields["within"].mistake("claims.within: a beats claim takes by", at_key=True))
        if kinds and kinds[0] != "beats" and "by" in fields:
            self.add(fields["by"].mistake(f"claims.by: a {kinds[0]} claim takes within", at_key=True))
        if "budget" in fields and fields["budget"].value not in ("tokens", "flops", "steps", "seconds", "labels"):
            self.add(fields["budget"].mistake("claims.budget: expected tokens, flops, steps, seconds or labels"))
        if len(self.mistakes) > before:
            return None
        margin = next((float(fields[k].value) for k in ("by", "within") if k in fields), 0.0)
        budget = fields["budget"].value if "budget" in fields else ""
        return Claim(fields["metric"].value, fields["arm"].value, kinds[0], fields[kinds[0]].value, margin, budget)

    def _metric(self, where: str, node: Node, steps: dict[str, Node]) -> tuple[str, str] | None:
        step, _, metric = node.value.partition(".") if isinstance(node.value, str) else ("", "", "")
        if not metric:
            self.add(node.mistake(f"{where}: expected step.metric, such as quality.bits_per_byte; found {kind_of(node)}"))
            return None
        if step not in steps:
            self.add(node.mistake(f"{where}: there is no step {step}", did_you_mean(step, steps)))
            return None
        return step, metric

    def _summary(self, node: Node | None, steps: dict[str, Node], root: Node) -> dict[str, tuple[str, str]]:
        found = {}
        for title, child in self._mapping(node, "summary", root).items():
            metric = self._metric(f"summary.{title}", child, steps)
            if metric:
                found[title] = metric
        return found
