"""Checks the claims of a recipe and the metrics that they and its summary name."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from paredown.core.errors import nearest
from paredown.core.recipe import Claim, Step, stands_for
from paredown.core.step_checks import StepChecker
from paredown.core.wording import did_you_mean, kind_of, say
from paredown.core.yaml import Node

KINDS = ("beats", "not_worse_than", "equals")
BUDGETS = ("tokens", "processed", "flops", "nominal_flops", "steps", "epochs", "seconds", "labels")
Arms = dict[str, dict[str, Step]]


class ClaimChecker(StepChecker):
    """Makes `Claim`s of what a recipe says, or collects why that cannot be."""

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
        known = ("metric", "arm", *KINDS, "by", "within", "budget", "says")
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
        says = self._text(fields.get("says"), "claims.says")
        if len(self.mistakes) > before:
            return None
        margin = next((float(fields[k].value) for k in ("by", "within") if k in fields), 0.0)
        budget = fields["budget"].value if "budget" in fields else ""
        return Claim(fields["metric"].value, fields["arm"].value, kinds[0], fields[kinds[0]].value, margin, budget, says)

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
        left_out = [arm for arm in every if not stands_for(arms[arm][step], arms[arm])]
        if left_out:
            self.add(node.mistake(f"{where}: {step} is skipped in arm {left_out[0]}"))
            return None
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
        step = stands_for(steps[name], steps)
        if step is None:
            return ()
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
