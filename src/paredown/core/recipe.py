"""Recipes: read, checked whole before anything runs, every mistake with its place and the nearest valid name."""

from __future__ import annotations

import dataclasses
import re
import typing
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from pydantic.fields import FieldInfo

from paredown.core import catalog
from paredown.core.artifact import Artifact, Bundle
from paredown.core.errors import Mistake, PareError, RecipeError, UserError, nearest
from paredown.core.strategy import Configured, Part, Signature, Strategy, alternatives
from paredown.core.yaml import Node, parse

TOP = ("name", "description", "seed", "seeds", "steps", "arms", "reference", "control", "claims", "summary")
KINDS = ("beats", "not_worse_than", "equals")
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_-]*\Z")
_REFERENCE = re.compile(r"\$([A-Za-z_][A-Za-z0-9_-]*)(?:\.([A-Za-z_][A-Za-z0-9_]*))?\Z")


@dataclass(frozen=True)
class Reference:
    """`$step` or `$step.part`; without a part the callee gets the step's whole result or its first part."""

    step: str
    part: str | None = None

    def __str__(self) -> str:
        return f"{self.step}.{self.part}" if self.part else self.step


Value = Reference | Part | tuple[Reference, ...]


@dataclass
class Step:
    """One checked step of one arm."""

    name: str
    strategy: Strategy | None  # None where an error kept it from being built
    inputs: dict[str, Value]
    result: Any  # annotation of the result
    skip: bool = False
    handed_through: Reference | None = None  # what stands in for the result of a skipped step
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


@dataclass(frozen=True)
class Claim:
    """`arm` compared with another arm on a metric `step.metric`; verdicts need seeds."""

    metric: str
    arm: str
    kind: str  # beats, not_worse_than, equals
    other: str
    margin: float = 0.0  # `by` or `within`, in the metric's unit
    budget: str = ""  # the cost that must be equal, where named

    def __str__(self) -> str:
        words = {"beats": "beats", "not_worse_than": "is not worse than", "equals": "equals"}[self.kind]
        margin = f" {'by' if self.kind == 'beats' else 'within'} {self.margin:g}" if self.margin else ""
        return f"{self.metric}: {self.arm} {words} {self.other}{margin}"


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


def load(file: str | Path, settings: Iterable[str] = ()) -> Recipe:
    """Read and check a recipe; `settings` are dotted overrides such as `tokens.vocab_size=2048`.

    Raises:
        UserError: the file cannot be read.
        RecipeError: it has mistakes; all of them are in the error.
    """
    path = Path(file)
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise UserError(
            f"no such recipe: {file}", todo="paredown run recipes/quickstart.yaml runs the one that ships with paredown"
        ) from None
    except UnicodeDecodeError as error:
        raise UserError(f"the recipe is no UTF-8 text: byte {error.start} cannot be read", where=str(file)) from None
    except OSError as error:
        raise UserError(f"the recipe cannot be read: {error.strerror}", where=str(file)) from None
    return loads(text, str(file), settings)


def loads(text: str, file: str = "recipe.yaml", settings: Iterable[str] = ()) -> Recipe:
    """Check a recipe's text."""
    root = parse(text, file)
    checker = _Checker(file)
    recipe = checker.recipe(root, text, list(settings))
    if checker.mistakes:
        raise RecipeError(file, dict.fromkeys(checker.mistakes))
    if recipe is None:
        raise RecipeError(file, [Mistake(1, 1, "the recipe holds nothing")])
    return recipe


class _Checker:
    def __init__(self, file: str) -> None:
        self.file = file
        self.mistakes: list[Mistake] = []

    def add(self, mistake: Mistake) -> None:
        self.mistakes.append(mistake)

    # -- the file as a whole ------------------------------------------------------------------------------------------

    def recipe(self, root: Node, text: str, settings: list[str]) -> Recipe | None:
        if not isinstance(root.value, dict):
            self.add(root.mistake("a recipe is a mapping with the key steps", "for an example: paredown show recipe"))
            return None
        top: dict[str, Node] = root.value
        for key, node in top.items():
            if key not in TOP:
                self.add(node.mistake(f"{key}: no such key of a recipe", _did_you_mean(key, TOP), at_key=True))
        steps = self._mapping(top.get("steps"), "steps", root)
        if not steps:
            if "steps" not in top:
                self.add(root.mistake("steps: missing", "a recipe needs at least one step"))
            elif isinstance(top["steps"].value, dict):
                self.add(top["steps"].mistake("steps: empty", "a recipe needs at least one step"))
            return None
        for name, node in steps.items():
            if not _NAME.match(name):
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

    def _mapping(self, node: Node | None, what: str, root: Node) -> dict[str, Node]:
        if node is None:
            return {}
        if isinstance(node.value, dict):
            return node.value
        self.add(node.mistake(f"{what}: expected a mapping, found {_kind(node)}"))
        return {}

    def _text(self, node: Node | None, what: str) -> str:
        if node is None or isinstance(node.value, str):
            return node.value if node else ""
        self.add(node.mistake(f"{what}: expected text, found {_kind(node)}"))
        return ""

    def _arm_name(self, node: Node | None, what: str, arms: dict[str, Any]) -> str | None:
        if node is None:
            return None
        if not isinstance(node.value, str) or node.value not in arms:
            self.add(node.mistake(f"{what}: {node.plain()!r} is no arm", _did_you_mean(str(node.value), arms)))
            return None
        return node.value

    def _seeds(self, top: dict[str, Node]) -> list[int]:
        seeds: list[int] = []
        seed = top.get("seed")
        if seed is not None and not _is_seed(seed.value):
            self.add(seed.mistake(f"seed: expected a whole number of 0 or more, found {_kind(seed)}"))
        many = top.get("seeds")
        if many is None:
            return [seed.value if seed is not None and _is_seed(seed.value) else 0]
        if not isinstance(many.value, list) or not many.value:
            self.add(many.mistake(f"seeds: expected a list such as [0, 1, 2], found {_kind(many)}"))
            return [0]
        for node in many.value:
            if not _is_seed(node.value):
                self.add(node.mistake(f"seeds: expected a whole number of 0 or more, found {_kind(node)}"))
            elif node.value in seeds:
                self.add(node.mistake(f"seeds: {node.value} stands twice"))
            else:
                seeds.append(node.value)
        return seeds

    # -- overrides ----------------------------------------------------------------------------------------------------

    def _apply_settings(self, steps: dict[str, Node], settings: list[str]) -> dict[str, Node]:
        for setting in settings:
            path, sign, raw = setting.partition("=")
            place = Node(None, file=f"--set {setting}")
            if not sign or not path.strip():
                self.add(place.mistake("expected step.knob=value"))
                continue
            try:
                value = parse(raw, place.file)
            except RecipeError as error:
                self.mistakes += [dataclasses.replace(m, file=place.file) for m in error.mistakes]
                continue
            steps = self._override(steps, path.strip(), _elsewhere(value, place.file))
        return steps

    def _arms(self, node: Node | None, steps: dict[str, Node], root: Node) -> dict[str, dict[str, Node]]:
        arms = self._mapping(node, "arms", root)
        if not arms:
            return {"": steps}
        found = {}
        for arm, overrides in arms.items():
            if not _NAME.match(arm):
                self.add(overrides.mistake(f"{arm!r} is no name for an arm", at_key=True))
            variant = steps
            if overrides.value is not None:
                for path, value in self._mapping(overrides, f"arms.{arm}", root).items():
                    variant = self._override(variant, path, value)
            found[arm] = variant
        return found

    def _override(self, steps: dict[str, Node], path: str, value: Node) -> dict[str, Node]:
        """`steps` with one dotted override; `step.use` also forgets the knobs that the new strategy does not know."""
        step, *rest = path.split(".")
        if step not in steps:
            self.add(value.mistake(f"{path}: there is no step {step}", _did_you_mean(step, steps), at_key=True))
            return steps
        if not rest or not all(rest):
            self.add(value.mistake(f"{path}: an override names a step and a knob, such as {step}.use", at_key=True))
            return steps
        changed = self._replace(steps[step], rest, value, path)
        return {**steps, step: changed}

    def _replace(self, node: Node, rest: list[str], value: Node, path: str) -> Node:
        if not rest:
            return value
        if not isinstance(node.value, dict):
            self.add(value.mistake(f"{path}: {rest[0]} cannot be set on {_kind(node)}", at_key=True))
            return node
        old = node.value.get(rest[0], Node({} if len(rest) > 1 else None, value.line, value.column, value.key, value.file))
        children = {**node.value, rest[0]: self._replace(old, rest[1:], value, path)}
        if rest[0] == "use" and isinstance(value.value, str) and isinstance(old.value, str) and old.value != value.value:
            children = {key: child for key, child in children.items() if key in ("use", "skip") or self._knows(value.value, key, old.value)}
        return dataclasses.replace(node, value=children)

    def _knows(self, strategy: str, key: str, former: str) -> bool:
        """Whether a key survives a change of strategy: kept unless only the former strategy knew it."""
        if strategy not in catalog.paths() or former not in catalog.paths():
            return True
        new, old = catalog.entry(strategy), catalog.entry(former)
        names = {k.name for k in new.knobs} | {i[0] for i in new.inputs}
        return key in names or key not in {k.name for k in old.knobs} | {i[0] for i in old.inputs}

    # -- steps --------------------------------------------------------------------------------------------------------

    def _steps(self, nodes: dict[str, Node]) -> dict[str, Step]:
        steps = {name: self._step(name, node) for name, node in nodes.items()}
        for step in steps.values():
            self._hand_through(step, steps)
        for step in steps.values():
            self._check_references(step, steps)
        return steps

    def _step(self, name: str, node: Node) -> Step:
        broken = Step(name, None, {}, None, node=node)
        if not isinstance(node.value, dict):
            self.add(node.mistake(f"{name}: expected a mapping with use, found {_kind(node)}"))
            return broken
        loaded = self._load(name, node)
        if loaded is None:
            return broken
        if not issubclass(loaded, Strategy):
            self.add(
                node.value["use"].mistake(
                    f"{name}.use: {loaded.strategy_name()} is a part, not a step", "parts stand inside a step's field"
                )
            )
            return broken
        signature = loaded.signature()
        inputs: dict[str, Value] = {}
        knobs: dict[str, Node] = {}
        skip = False
        for key, child in node.value.items():
            if key == "skip":
                if isinstance(child.value, bool):
                    skip = child.value
                else:
                    self.add(child.mistake(f"{name}.skip: expected true or false, found {_kind(child)}"))
            elif key in signature.inputs:
                value = self._input(f"{name}.{key}", child, signature.inputs[key])
                if value is not None:
                    inputs[key] = value
            elif key != "use":
                knobs[key] = child
        for key in signature.inputs:
            if key not in node.value and key not in signature.optional:
                self.add(node.mistake(f"{name}.{key}: missing", f"{loaded.strategy_name()} takes {_takes(signature)}", at_key=True))
        strategy = self._configured(name, node, loaded, knobs, tuple(signature.inputs))
        return Step(name, strategy, inputs, signature.result, skip, node=node)  # type: ignore[arg-type]

    def _load(self, name: str, node: Node) -> type[Configured] | None:
        use = node.value.get("use")
        if use is None:
            self.add(node.mistake(f"{name}.use: missing", "it names the strategy, such as use: prune.wanda", at_key=True))
            return None
        if not isinstance(use.value, str):
            self.add(use.mistake(f"{name}.use: expected the name of a strategy, found {_kind(use)}"))
            return None
        try:
            return catalog.load(use.value)
        except PareError as error:
            self.add(use.mistake(f"{name}.use: {error.what}", error.todo))
            return None

    def _input(self, where: str, node: Node, annotation: Any) -> Value | None:
        members = alternatives(annotation)
        if isinstance(node.value, list) and any(typing.get_origin(m) is tuple for m in members):
            found = [self._reference(f"{where}[{i}]", item) for i, item in enumerate(node.value)]
            return tuple(r for r in found if r is not None)
        kinds = tuple(m for m in members if isinstance(m, type) and issubclass(m, Part))
        inline = isinstance(node.value, dict) and "use" in node.value
        if kinds and (inline or (isinstance(node.value, str) and not node.value.startswith("$"))):
            part = self._part(where, node, kinds)
            return part
        return self._reference(where, node, takes_part=bool(kinds))

    def _reference(self, where: str, node: Node, takes_part: bool = False) -> Reference | None:
        match = _REFERENCE.match(node.value) if isinstance(node.value, str) else None
        if match is None:
            hint = "a step's result is written $step or $step.part" + (", a part {use: name, ...}" if takes_part else "")
            self.add(node.mistake(f"{where}: expected a reference, found {_kind(node)}", hint))
            return None
        return Reference(match[1], match[2])

    def _part(self, where: str, node: Node, kinds: tuple[type, ...]) -> Part | None:
        mapping = node if isinstance(node.value, dict) else dataclasses.replace(node, value={"use": node})
        loaded = self._load(where, mapping)
        if loaded is None:
            return None
        if not issubclass(loaded, kinds):
            wanted = " or ".join(k.__name__ for k in kinds)
            self.add(mapping.value["use"].mistake(f"{where}.use: {loaded.strategy_name()} is no {wanted}", _parts_of(kinds)))
            return None
        built = self._configured(where, mapping, loaded, {k: v for k, v in mapping.value.items() if k != "use"}, ())
        return built if isinstance(built, Part) else None

    def _configured(
        self, where: str, node: Node, kind: type[Configured], knobs: dict[str, Node], inputs: tuple[str, ...]
    ) -> Configured | None:
        """An instance, or None with the mistakes noted."""
        values: dict[str, Any] = {}
        sound = True
        for key, child in knobs.items():
            info = kind.model_fields.get(key)
            if info is None:
                names = [*kind.model_fields, *inputs]
                hint = _did_you_mean(key, names) or (
                    f"its knobs are {', '.join(kind.model_fields)}" if kind.model_fields else "it has no knobs"
                )
                self.add(child.mistake(f"{where}.{key}: no such knob of {kind.strategy_name()}", hint, at_key=True))
                sound = False
                continue
            value = self._knob(f"{where}.{key}", child, info)
            if value is _BROKEN:
                sound = False
            else:
                values[key] = value
        if not sound:
            known = {k: v for k, v in values.items() if k in kind.model_fields}
            self._try(where, node, kind, known, knobs, only=set(known))
            return None
        return self._try(where, node, kind, values, knobs, only=None)

    def _try(
        self, where: str, node: Node, kind: type[Configured], values: dict[str, Any], knobs: dict[str, Node], only: set[str] | None
    ) -> Configured | None:
        try:
            return kind(**values)
        except ValidationError as error:
            comments = (
                {k.name: k.comment for k in catalog.entry(kind.strategy_name()).knobs} if kind.strategy_name() in catalog.paths() else {}
            )
            for item in error.errors(include_url=False):
                loc = item["loc"]
                first = str(loc[0]) if loc else ""
                if only is not None and first not in only:
                    continue
                place, dotted = _locate(node, knobs, loc)
                missing = item["type"] == "missing"
                message = "missing" if missing else _message(item)
                self.add(place.mistake(f"{'.'.join([where, *dotted])}: {message}", comments.get(first, ""), at_key=missing))
            return None
        except PareError as error:
            self.add(node.mistake(f"{where}: {error.what}", error.todo))
            return None

    def _knob(self, where: str, node: Node, info: FieldInfo) -> Any:
        """A knob's plain value, with nested parts built."""
        kinds = tuple(_part_kinds(info.annotation))
        if kinds:
            if isinstance(node.value, list):
                built = [self._part(f"{where}[{i}]", item, kinds) for i, item in enumerate(node.value)]
                return _BROKEN if None in built else tuple(built)
            if isinstance(node.value, (dict, str)):
                part = self._part(where, node, kinds)
                return _BROKEN if part is None else part
        return node.plain()

    # -- references ---------------------------------------------------------------------------------------------------

    def _hand_through(self, step: Step, steps: dict[str, Step]) -> None:
        """A skipped step hands the first input of its result's type through."""
        if not step.skip or step.result is None:
            return
        wanted = _main(step.result)
        signature = type(step.strategy).signature() if step.strategy else None
        for name, value in step.inputs.items():
            accepted = alternatives(signature.inputs[name]) if signature else ()
            if isinstance(value, Reference) and any(isinstance(a, type) and issubclass(a, wanted) for a in accepted):
                step.handed_through = value
                return
        self.add(
            step.node.value["skip"].mistake(f"{step.name}: cannot be skipped: it takes no {_say(wanted)} that could be handed through")
        )

    def _check_references(self, step: Step, steps: dict[str, Step]) -> None:
        if step.strategy is None:
            signature = None
        else:
            signature = type(step.strategy).signature()
        for name, value in step.inputs.items():
            child = step.node.value[name]
            references = value if isinstance(value, tuple) else (value,)
            for index, reference in enumerate(references):
                if isinstance(reference, Reference):
                    node = child.value[index] if isinstance(value, tuple) else child
                    self._check_reference(f"{step.name}.{name}", node, reference, signature.inputs[name] if signature else None, steps)

    def _check_reference(self, where: str, node: Node, reference: Reference, annotation: Any, steps: dict[str, Step]) -> None:
        source = steps.get(reference.step)
        if source is None:
            self.add(node.mistake(f"{where}: there is no step {reference.step}", _did_you_mean(reference.step, steps, "$")))
            return
        result = source.result
        seen = set()
        while source.skip and source.handed_through and source.name not in seen:  # the type that a skipped step really hands on
            seen.add(source.name)
            if reference.part not in (None, _main_part(source.result)):
                self.add(node.mistake(f"{where}: ${reference} is not there: {source.name} is skipped in this arm"))
                return
            reference = source.handed_through
            source = steps.get(reference.step)
            if source is None:
                return
            result = source.result
        if result is None:
            return
        using = source.strategy.strategy_name() if source.strategy else "?"
        parts = _parts(result)
        if reference.part is not None and reference.part not in parts:
            listing = f"its parts are {', '.join(parts)}" if parts else f"it gives one {_say(result)}: write ${reference.step}"
            hint = _did_you_mean(reference.part, parts, f"${reference.step}.") or listing
            self.add(node.mistake(f"{where}: ${reference} is no part of {reference.step} ({using})", hint))
            return
        if annotation is None:
            return
        members = [m for a in alternatives(annotation) for m in (typing.get_args(a)[:1] if typing.get_origin(a) is tuple else (a,))]
        given = [parts[reference.part]] if reference.part else ([result] if not parts else [result, _main(result)])
        if not any(isinstance(g, type) and isinstance(m, type) and issubclass(g, m) for g in given for m in members):
            wanted = " or ".join(_say(m) for m in members)
            fitting = [f"${reference.step}.{p}" for p, t in parts.items() if t in members]
            hint = f"did you mean {fitting[0]}?" if fitting else ""
            self.add(node.mistake(f"{where}: takes {wanted}, but ${reference} is {_say(given[-1])} ({using})", hint))

    def _ordered(self, steps: dict[str, Step]) -> dict[str, Step]:
        """Steps in an order in which they can run; as written where that is one."""
        done: dict[str, Step] = {}
        waiting = dict(steps)
        while waiting:
            ready = [s for s in waiting.values() if all(r.step in done for r in s.references())]
            if not ready:
                ring = ", ".join(waiting)
                self.add(next(iter(waiting.values())).node.mistake(f"steps wait for each other: {ring}", at_key=True))
                return done
            done[ready[0].name] = waiting.pop(ready[0].name)
        return done

    # -- claims and summary -------------------------------------------------------------------------------------------

    def _claims(self, node: Node | None, arms: dict[str, Any], steps: dict[str, Node], root: Node) -> list[Claim]:
        if node is None:
            return []
        if not isinstance(node.value, list):
            self.add(node.mistake(f"claims: expected a list, found {_kind(node)}"))
            return []
        found = []
        for item in node.value:
            claim = self._claim(item, arms, steps)
            if claim:
                found.append(claim)
        return found

    def _claim(self, item: Node, arms: dict[str, Any], steps: dict[str, Node]) -> Claim | None:
        if not isinstance(item.value, dict):
            self.add(item.mistake(f"claims: expected a mapping with metric, arm and one of {', '.join(KINDS)}; found {_kind(item)}"))
            return None
        fields: dict[str, Node] = item.value
        known = ("metric", "arm", *KINDS, "by", "within", "budget")
        before = len(self.mistakes)
        for key, child in fields.items():
            if key not in known:
                self.add(child.mistake(f"claims: no such key {key}", _did_you_mean(key, known), at_key=True))
        kinds = [k for k in KINDS if k in fields]
        if len(kinds) != 1:
            self.add(item.mistake(f"claims: give exactly one of {', '.join(KINDS)}"))
        for key in ("metric", "arm"):
            if key not in fields:
                self.add(item.mistake(f"claims.{key}: missing"))
        for key in ["arm", *kinds]:
            if key in fields and (not isinstance(fields[key].value, str) or fields[key].value not in arms):
                self.add(
                    fields[key].mistake(f"claims.{key}: {fields[key].plain()!r} is no arm", _did_you_mean(str(fields[key].value), arms))
                )
        if "metric" in fields:
            self._metric("claims.metric", fields["metric"], steps)
        for key in ("by", "within"):
            if key in fields and (
                isinstance(fields[key].value, bool) or not isinstance(fields[key].value, (int, float)) or fields[key].value < 0
            ):
                self.add(fields[key].mistake(f"claims.{key}: expected a number of 0 or more, found {_kind(fields[key])}"))
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
            self.add(node.mistake(f"{where}: expected step.metric, such as quality.bits_per_byte; found {_kind(node)}"))
            return None
        if step not in steps:
            self.add(node.mistake(f"{where}: there is no step {step}", _did_you_mean(step, steps)))
            return None
        return step, metric

    def _summary(self, node: Node | None, steps: dict[str, Node], root: Node) -> dict[str, tuple[str, str]]:
        found = {}
        for title, child in self._mapping(node, "summary", root).items():
            metric = self._metric(f"summary.{title}", child, steps)
            if metric:
                found[title] = metric
        return found


_BROKEN = object()


def _elsewhere(node: Node, file: str) -> Node:
    value = node.value
    if isinstance(value, dict):
        value = {k: _elsewhere(v, file) for k, v in value.items()}
    elif isinstance(value, list):
        value = [_elsewhere(v, file) for v in value]
    return dataclasses.replace(node, value=value, file=file)


def _is_seed(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _kind(node: Node) -> str:
    value = node.value
    if isinstance(value, dict):
        return "a mapping"
    if isinstance(value, list):
        return "a list"
    if value is None:
        return "nothing"
    text = repr(value) if not isinstance(value, bool) else str(value).lower()
    return text if len(text) <= 60 else text[:57] + "..."


def _did_you_mean(name: str, choices: Iterable[str], prefix: str = "") -> str:
    close = nearest(name, choices)
    return f"did you mean {prefix}{close[0]}?" if close else ""


def _say(annotation: Any) -> str:
    return getattr(annotation, "__name__", str(annotation))


def _takes(signature: Signature) -> str:
    pieces = []
    for name, annotation in signature.inputs.items():
        kinds = " or ".join(_say(a) for a in alternatives(annotation))
        pieces.append(f"{name}: {kinds}" + (" (optional)" if name in signature.optional else ""))
    return ", ".join(pieces)


def _parts(result: Any) -> dict[str, Any]:
    """Part name to artifact type for a bundle, in order; empty for a single artifact."""
    if not (isinstance(result, type) and issubclass(result, Bundle)):
        return {}
    hints = typing.get_type_hints(result)
    return {f.name: alternatives(hints[f.name])[0] for f in dataclasses.fields(result)}


def _main(result: Any) -> type[Artifact]:
    parts = _parts(result)
    kind: type[Artifact] = next(iter(parts.values())) if parts else result
    return kind


def _main_part(result: Any) -> str | None:
    return next(iter(_parts(result)), None)


def _part_kinds(annotation: Any) -> Iterator[type[Part]]:
    """The kinds of part that a field's annotation mentions anywhere."""
    if typing.get_origin(annotation) is not None:
        for argument in typing.get_args(annotation):
            yield from _part_kinds(argument)
    elif isinstance(annotation, type) and issubclass(annotation, Part):
        yield annotation


def _parts_of(kinds: tuple[type, ...]) -> str:
    names = [e.name for e in catalog.entries() if e.kind in {k.__name__ for k in kinds}]
    return f"there are {', '.join(names)}" if names else ""


def _locate(node: Node, knobs: dict[str, Node], loc: tuple[int | str, ...]) -> tuple[Node, list[str]]:
    """The node that a pydantic location points to, and the location's dotted names."""
    dotted: list[str] = []
    place: Node = node
    children: Any = knobs
    for step in loc:
        if isinstance(children, dict) and step in children:
            place = children[str(step)]
        elif isinstance(children, list) and isinstance(step, int) and step < len(children):
            place = children[step]
        else:
            if isinstance(step, str) and isinstance(children, dict) and not step[:1].isupper() and "[" not in step:
                dotted.append(step)
            break
        children = place.value
        dotted.append(str(step))
    return place, dotted


def _message(item: Any) -> str:
    """pydantic's finding in the recipe's words."""
    context = item.get("ctx", {})
    value = item["input"]
    shown = repr(value) if not isinstance(value, bool) else str(value).lower()
    shown = shown if len(shown) <= 60 else shown[:57] + "..."
    limits = {
        "less_than": ("below", "lt"),
        "less_than_equal": ("at most", "le"),
        "greater_than": ("above", "gt"),
        "greater_than_equal": ("at least", "ge"),
    }
    kind = item["type"]
    if kind in limits:
        word, bound = limits[kind]
        return f"{shown} is not {word} {context[bound]}"
    if kind == "literal_error":
        close = nearest(str(value), [c.strip("'") for c in re.findall(r"'[^']*'", context["expected"])])
        return f"{shown} is none of {context['expected']}" + (f"; did you mean {close[0]}?" if close else "")
    if kind == "extra_forbidden":
        return "no such key"
    if kind == "value_error":
        return str(context.get("error", item["msg"]))
    expected = item["msg"].removeprefix("Input should be ").removeprefix("a valid ")
    return f"{shown} is not {expected}" if item["msg"].startswith("Input should be") else item["msg"]
