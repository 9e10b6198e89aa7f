"""Checks the steps of a recipe: overrides, strategies, knobs, references and their types."""

from __future__ import annotations

import dataclasses
import itertools
import re
import typing
from typing import Any

from pydantic import ValidationError
from pydantic.fields import FieldInfo

from paredown.core import catalog
from paredown.core.artifact import Reference
from paredown.core.errors import Mistake, PareError, RecipeError, nearest
from paredown.core.recipe import Step, Value, hand_through
from paredown.core.strategy import Configured, Part, Strategy, alternatives, wires
from paredown.core.wording import (
    culprit,
    did_you_mean,
    elsewhere,
    is_seed,
    kind_of,
    known_keys,
    locate,
    main_part,
    main_type,
    message,
    part_kinds,
    parts_of,
    parts_of_kinds,
    say,
    takes,
)
from paredown.core.yaml import Node, parse, scalar

NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_-]*\Z")
_BROKEN = object()


class StepChecker:
    """Collects the mistakes of all steps; a step with a mistake is still checked to its end."""

    def __init__(self, file: str) -> None:
        self.file = file
        self.mistakes: list[Mistake] = []

    def add(self, mistake: Mistake) -> None:
        self.mistakes.append(mistake)

    def _mapping(self, node: Node | None, what: str, root: Node) -> dict[str, Node]:
        if node is None:
            return {}
        if isinstance(node.value, dict):
            return node.value
        self.add(node.mistake(f"{what}: expected a mapping, found {kind_of(node)}"))
        return {}

    def _text(self, node: Node | None, what: str) -> str:
        if node is None or isinstance(node.value, str):
            return node.value if node else ""
        self.add(node.mistake(f"{what}: expected text, found {kind_of(node)}"))
        return ""

    def _apply_settings(self, steps: dict[str, Node], settings: list[str]) -> dict[str, Node]:
        for setting in settings:
            path, sign, raw = setting.partition("=")
            place = Node(None, file=f"--set {setting}")
            if not sign or not path.strip():
                self.add(place.mistake("expected step.knob=value"))
                continue
            try:
                quoted = raw.lstrip()[:1] in ("{", "[", "'", '"')  # anything else is one plain value, whatever it holds
                value = parse(raw, place.file) if quoted else Node(scalar(raw.strip()))
            except RecipeError as error:
                self.mistakes += [dataclasses.replace(m, file=place.file) for m in error.mistakes]
                continue
            except ValueError as error:
                self.add(place.mistake(str(error)))
                continue
            steps = self._override(steps, path.strip(), elsewhere(value, place.file))
        return steps

    def _arms(self, node: Node | None, steps: dict[str, Node], root: Node) -> dict[str, dict[str, Node]]:
        arms = self._mapping(node, "arms", root)
        if not arms:
            return {"": steps}
        found = {}
        for arm, overrides in arms.items():
            if not NAME.match(arm):
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
            self.add(value.mistake(f"{path}: there is no step {step}", did_you_mean(step, steps), at_key=True))
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
            self.add(value.mistake(f"{path}: {rest[0]} cannot be set on {kind_of(node)}", at_key=True))
            return node
        old = node.value.get(rest[0], Node({} if len(rest) > 1 else None, value.line, value.column, value.key, value.file))
        children = {**node.value, rest[0]: self._replace(old, rest[1:], value, path)}
        if rest[0] == "use" and isinstance(value.value, str) and isinstance(old.value, str) and old.value != value.value:
            children = {
                key: child for key, child in children.items() if key in ("use", "skip", "seed") or self._knows(value.value, key, old.value)
            }
        return dataclasses.replace(node, value=children)

    def _knows(self, strategy: str, key: str, former: str) -> bool:
        """Whether a key survives a change of strategy: kept unless only the former strategy knew it."""
        if strategy not in catalog.paths() or former not in catalog.paths():
            return True
        new, old = catalog.entry(strategy), catalog.entry(former)
        names = {k.name for k in new.knobs} | {i[0] for i in new.inputs}
        return key in names or key not in {k.name for k in old.knobs} | {i[0] for i in old.inputs}

    def _steps(self, nodes: dict[str, Node]) -> dict[str, Step]:
        steps = {name: self._step(name, node) for name, node in nodes.items()}
        for step in steps.values():
            hand_through(step)
        for step in steps.values():
            self._check_references(step, steps)
        return steps

    def _step(self, name: str, node: Node) -> Step:
        broken = Step(name, None, {}, None, node=node)
        if not isinstance(node.value, dict):
            self.add(node.mistake(f"{name}: expected a mapping with use, found {kind_of(node)}"))
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
        skip, seed = False, None
        for key, child in node.value.items():
            if key == "skip":
                if isinstance(child.value, bool):
                    skip = child.value
                else:
                    self.add(child.mistake(f"{name}.skip: expected true or false, found {kind_of(child)}"))
            elif key == "seed":
                seed = self._pinned(name, child, loaded)
            elif key in signature.inputs:
                value = self._input(f"{name}.{key}", child, signature.inputs[key])
                if value is not None:
                    inputs[key] = value
            elif key != "use":
                knobs[key] = child
        meant = {found for key in knobs if key not in loaded.model_fields for found in nearest(key, signature.inputs)}
        for key in signature.inputs:
            if key not in node.value and key not in signature.optional and key not in meant:  # a misspelt one is reported as such
                self.add(node.mistake(f"{name}.{key}: missing", f"{loaded.strategy_name()} takes {takes(signature)}", at_key=True))
        given = [key for key in loaded.one_of if key in node.value]
        if loaded.one_of and (len(given) > 1 or not (given or meant.intersection(loaded.one_of))):
            self.add(node.mistake(f"{name}: give exactly one of {', '.join(loaded.one_of)}", f"it has {' and '.join(given) or 'none'}"))
        strategy = self._configured(name, node, loaded, knobs, tuple(signature.inputs))
        takes_ = dict(signature.inputs)
        for path, reference, annotation in [
            *wires(strategy),
            *((f"{key}.{path}", r, a) for key, part in inputs.items() if isinstance(part, Part) for path, r, a in wires(part)),
        ]:
            if isinstance(reference, Reference):
                inputs[path], takes_[path] = reference, annotation
        return Step(name, strategy, inputs, signature.result, takes_, skip, seed=seed, node=node)  # type: ignore[arg-type]

    def _pinned(self, name: str, node: Node, loaded: type[Strategy]) -> int | None:
        """The seed of one step, whatever the recipe's seeds are."""
        if not is_seed(node.value):
            self.add(node.mistake(f"{name}.seed: expected a whole number of 0 or more, found {kind_of(node)}"))
        elif not loaded.seeded:
            self.add(node.mistake(f"{name}.seed: {loaded.strategy_name()} draws no random numbers", "leave it out", at_key=True))
        else:
            return int(node.value)
        return None

    def _load(self, name: str, node: Node) -> type[Configured] | None:
        use = node.value.get("use")
        meant = next((key for key in node.value if nearest(key, ["use"])), None)
        if use is None and meant:
            self.add(node.value[meant].mistake(f"{name}.{meant}: no such key of a step or part", "did you mean use?", at_key=True))
            return None
        if use is None:
            self.add(node.mistake(f"{name}.use: missing", "it names the strategy, such as use: prune.wanda", at_key=True))
            return None
        if not isinstance(use.value, str):
            self.add(use.mistake(f"{name}.use: expected the name of a strategy, found {kind_of(use)}"))
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
        found = Reference.read(node.value)
        if found is None:
            hint = "a step's result is written $step or $step.part" + (", a part {use: name, ...}" if takes_part else "")
            self.add(node.mistake(f"{where}: expected a reference, found {kind_of(node)}", hint))
        return found

    def _part(self, where: str, node: Node, kinds: tuple[type, ...]) -> Part | None:
        mapping = node if isinstance(node.value, dict) else dataclasses.replace(node, value={"use": node})
        loaded = self._load(where, mapping)
        if loaded is None:
            return None
        if not issubclass(loaded, kinds):
            wanted = " or ".join(k.__name__ for k in kinds)
            self.add(mapping.value["use"].mistake(f"{where}.use: {loaded.strategy_name()} is no {wanted}", parts_of_kinds(kinds)))
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
                names = [*kind.model_fields, *inputs, "use", *(["skip", "seed"] if issubclass(kind, Strategy) else [])]
                hint = did_you_mean(key, names) or (
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
                place, dotted = locate(node, knobs, loc)
                kind_of_error = item["type"]
                said = "missing" if kind_of_error == "missing" else message(item)
                hint = comments.get(first, "")
                if kind_of_error == "extra_forbidden":
                    hint = did_you_mean(str(loc[-1]), known_keys(kind, loc)) or hint
                at_key = kind_of_error in ("missing", "extra_forbidden")
                blamed = culprit(said, knobs if not loc else place.value) if kind_of_error == "value_error" else None
                self.add((blamed or place).mistake(f"{'.'.join([where, *dotted])}: {said}", hint, at_key=at_key or blamed is not None))
            return None
        except PareError as error:
            self.add(node.mistake(f"{where}: {error.what}", error.todo))
            return None

    def _knob(self, where: str, node: Node, info: FieldInfo) -> Any:
        """A knob's plain value, with nested parts built."""
        kinds = tuple(part_kinds(info.annotation))
        if kinds:
            if isinstance(node.value, list):
                built = [self._part(f"{where}[{i}]", item, kinds) for i, item in enumerate(node.value)]
                return _BROKEN if None in built else tuple(built)
            if isinstance(node.value, (dict, str)):
                part = self._part(where, node, kinds)
                return _BROKEN if part is None else part
        return node.plain()

    def _check_references(self, step: Step, steps: dict[str, Step]) -> None:
        for name, value in step.inputs.items():
            child, _ = locate(step.node, step.node.value, tuple(int(key) if key.isdigit() else key for key in name.split(".")))
            references = value if isinstance(value, tuple) else (value,)
            for index, reference in enumerate(references):
                if isinstance(reference, Reference):
                    node = child.value[index] if isinstance(value, tuple) else child
                    self._check_reference(step, name, node, reference, steps)

    def _check_reference(self, step: Step, name: str, node: Node, reference: Reference, steps: dict[str, Step]) -> None:
        where = re.sub(r"\.(\d+)", r"[\1]", f"{step.name}.{name}")
        source = steps.get(reference.step)
        if source is None:
            self.add(node.mistake(f"{where}: there is no step {reference.step}", did_you_mean(reference.step, steps, "$")))
            return
        seen = set()
        while source.skip and source.handed_through and source.name not in seen:  # the type that a skipped step really hands on
            seen.add(source.name)
            if reference.part not in (None, main_part(source.result)):
                if reference.part not in parts_of(source.result):
                    break  # it is no part of the step in the other arms either
                self.add(node.mistake(f"{where}: ${reference} is not there: {source.name} is skipped in this arm"))
                return
            reference = source.handed_through
            if reference.step not in steps:
                return
            source = steps[reference.step]
        if source.skip and not source.handed_through:
            if source.result is not None and not step.skip:
                kind = say(main_type(source.result))
                said = f"{source.name}: cannot be skipped: it takes no {kind} that could be handed through to {step.name}"
                self.add(source.node.value["skip"].mistake(said))
            return
        if source.result is None:
            return
        using = source.node.value["use"].value
        parts = parts_of(source.result)
        if reference.part is not None and reference.part not in parts:
            listing = f"its parts are {', '.join(parts)}" if parts else f"it gives one {say(source.result)}: write ${reference.step}"
            hint = did_you_mean(reference.part, parts, f"${reference.step}.") or listing
            self.add(node.mistake(f"{where}: ${reference} is no part of {reference.step} ({using})", hint))
            return
        if getattr(source.strategy, f"keep_{reference.part}", True) is False:  # by convention the knob that keeps a part is named so
            self.add(node.mistake(f"{where}: ${reference} is not kept by {using}", f"set {reference.step}.keep_{reference.part}: true"))
            return
        members = [m for a in alternatives(step.takes[name]) for m in (typing.get_args(a)[:1] if typing.get_origin(a) is tuple else (a,))]
        given = [parts[reference.part]] if reference.part else [source.result, main_type(source.result)]
        if not any(isinstance(g, type) and isinstance(m, type) and issubclass(g, m) for g in given for m in members):
            wanted = " or ".join(say(m) for m in members)
            fitting = [f"${reference.step}.{p}" for p, t in parts.items() if t in members]
            hint = f"did you mean {fitting[0]}?" if fitting else self._givers(members, step, steps)
            self.add(node.mistake(f"{where}: takes {wanted}, but ${reference} is {say(given[-1])} ({using})", hint))

    def _givers(self, members: list[Any], step: Step, steps: dict[str, Step]) -> str:
        """Which steps that stand before `step` give what it takes."""
        found = []
        for other in itertools.takewhile(lambda s: s is not step, steps.values()):
            parts = {"": main_type(other.result), **parts_of(other.result)} if other.result is not None else {}
            fitting = next((part for part, kind in parts.items() if kind in members), None)
            if fitting is not None:
                found.append(f"${other.name}" + (f".{fitting}" if fitting else ""))
        return f"there is {', '.join(found[-5:])}" if found else ""

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
