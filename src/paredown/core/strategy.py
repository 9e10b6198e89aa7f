"""The two kinds of things that a recipe names: steps (`Strategy`) and what plugs into them (`Part`)."""

from __future__ import annotations

import functools
import inspect
import typing
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, ClassVar

from pydantic import BaseModel, ConfigDict, Field, ValidationInfo, field_validator

from paredown.core.artifact import Artifact, Reference

Share = Annotated[float, Field(ge=0, lt=1)]  # a share that may be nothing but not all
Positive = Annotated[float, Field(gt=0)]
Count = Annotated[int, Field(ge=1)]
WIRED = "$artifact"  # stands in a part's knobs for an artifact


class Configured(BaseModel):
    """Typed, frozen knobs; an unknown knob, NaN and infinity are errors. A trailing comment documents each knob."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, validate_default=True, protected_namespaces=())

    tags: ClassVar[tuple[str, ...]] = ()  # taxonomy: when, what, speed-up, needs
    systems: ClassVar[tuple[int, ...]] = ()  # numbers of the published systems that use it
    extras: ClassVar[tuple[str, ...]] = ()  # optional dependencies that it needs

    @field_validator("*", mode="before")
    @classmethod
    def _as_meant(cls, value: Any, info: ValidationInfo) -> Any:
        """Refuse what pydantic would bend without a word: true for a number, one part for a list (it would be read as none)."""
        members = alternatives(cls.model_fields[info.field_name or ""].annotation)
        kinds = [typing.get_args(m)[0] if typing.get_origin(m) is Annotated else m for m in members]
        if isinstance(value, bool) and (int in kinds or float in kinds) and bool not in kinds:
            raise ValueError(f"{str(value).lower()} is not a number")
        if isinstance(value, Part) and any(typing.get_origin(k) is tuple for k in kinds):
            raise ValueError(f"expected a list, such as [{value.strategy_name()}]")
        return value

    @classmethod
    def strategy_name(cls) -> str:
        """The name in recipes, such as `prune.wanda`; computed from where the class lives."""
        module = cls.__module__
        if module.startswith("paredown."):
            return module.removeprefix("paredown.")
        from paredown.core import catalog

        return catalog.name_of(module)

    def knobs(self) -> dict[str, Any]:
        """The knobs as plain YAML values; parts become `{use: name, ...}`."""
        return {name: _plain(getattr(self, name)) for name in type(self).model_fields}

    def spec(self) -> dict[str, Any]:
        """What a recipe would say: `{use: name, **knobs}`."""
        return {"use": self.strategy_name(), **self.knobs()}


def _plain(value: Any) -> Any:
    if isinstance(value, Part):
        return value.spec()
    if isinstance(value, BaseModel):
        return {name: _plain(getattr(value, name)) for name in type(value).model_fields if getattr(value, name) is not None}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (Reference, Artifact)):
        return WIRED  # which one it is stands among the step's inputs
    return value


def wires(value: Any, path: str = "") -> Iterator[tuple[str, Reference | Artifact, Any]]:
    """The artifacts that parts take: (dotted path such as `sampler.reference` or `hooks.0.teacher`, what is there, the field's annotation)."""
    if isinstance(value, (list, tuple)):
        for index, item in enumerate(value):
            yield from wires(item, f"{path}.{index}" if path else str(index))
    elif isinstance(value, Configured):
        for name, info in type(value).model_fields.items():
            held, place = getattr(value, name), f"{path}.{name}" if path else name
            if isinstance(held, (Reference, Artifact)):
                yield place, held, info.annotation
            else:
                yield from wires(held, place)


def wired(value: Any, found: Mapping[str, Any]) -> Any:
    """A strategy or part, or several of them, with the artifacts at these dotted paths put in."""
    heads: dict[str, dict[str, Any]] = {}
    for path, artifact in found.items():
        head, _, rest = path.partition(".")
        heads.setdefault(head, {})[rest] = artifact
    if not heads:
        return value
    if isinstance(value, (list, tuple)):
        return tuple(wired(item, heads.get(str(index), {})) for index, item in enumerate(value))
    changed = {head: below[""] if "" in below else wired(getattr(value, head), below) for head, below in heads.items()}
    return value.model_copy(update=changed)


def handed(strategy: Strategy, found: Mapping[str, Any]) -> tuple[Strategy, dict[str, Any]]:
    """The strategy and the inputs to call it with, after what stands under dotted names was put into its parts."""
    inputs = {name: value for name, value in found.items() if "." not in name}
    below: dict[str, dict[str, Any]] = {}
    for path, artifact in found.items():
        head, _, rest = path.partition(".")
        if rest:
            below.setdefault(head, {})[rest] = artifact
    inputs |= {name: wired(part, below.pop(name)) for name, part in inputs.items() if name in below}
    return wired(strategy, {f"{head}.{rest}": artifact for head, some in below.items() for rest, artifact in some.items()}), inputs


class Part(Configured):
    """Plugs into a step's field or input: an objective, a schedule, a sampler, an optimizer, a hook, an architecture.

    A field may be an artifact (`teacher: Model`, or `Model | None = None`): recipes write `$step.part`, and it counts as an input
    of the step that the part plugs into.
    """


class Strategy(Configured):
    """A step: a typed function from artifacts to artifacts.

    A subclass defines `__call__` with annotated inputs and result. The docstring is its card: one sentence, then the
    lines `Source:`, `Costs:`, `Control:` and, where useful, `Not for:`.
    """

    seeded: ClassVar[bool] = False  # draws random numbers; only then is the seed part of the step's key
    measures_time: ClassVar[bool] = False  # its result is a clock's: two runs never give the same bytes, and no step runs beside it
    reads_costs: ClassVar[bool] = (
        False  # `context().made_from` tells it what its inputs took; the clock's part of its result is no twice the same
    )
    one_of: ClassVar[tuple[str, ...]] = ()  # optional inputs of which exactly one must be given
    metrics: ClassVar[tuple[str, ...]] = ()  # of a measurement: the rows that it always writes, so that a recipe's metrics can be checked

    def external(self) -> Any:
        """State of the outside world that the result depends on (files read, the precision of this machine).

        A JSON value that becomes part of the step's key; must be quick and import nothing heavy.
        """
        return None

    def estimate(self, inputs: dict[str, Any]) -> dict[str, float]:
        """What the step will take, for the pre-flight: any of `seconds`, `disk`, `memory` (bytes), `tokens`.

        More keys may say what is known of the result beforehand, such as `vocab_size` or `parameters`. `inputs` are the
        artifacts that exist already, the parts, and for what is not made yet the estimate of the step that will make it.
        """
        return {}

    @classmethod
    def signature(cls) -> Signature:
        return Signature.of(cls)


class Signature:
    """Inputs and result of a strategy's `__call__`, with their annotations resolved."""

    def __init__(self, inputs: dict[str, Any], optional: set[str], result: Any) -> None:
        self.inputs = inputs
        self.optional = optional
        self.result = result

    @staticmethod
    @functools.cache
    def of(strategy: type[Strategy]) -> Signature:
        call: Any = strategy.__call__
        hints = typing.get_type_hints(call)
        parameters = list(inspect.signature(call).parameters.values())[1:]
        inputs = {p.name: hints[p.name] for p in parameters}
        optional = {p.name for p in parameters if p.default is not inspect.Parameter.empty}
        return Signature(inputs, optional, hints["return"])


def alternatives(annotation: Any) -> tuple[Any, ...]:
    """The members of a union, or the annotation alone; None is left out."""
    origin = typing.get_origin(annotation)
    if origin is typing.Union or type(annotation).__name__ == "UnionType":
        return tuple(a for a in typing.get_args(annotation) if a is not type(None))
    return (annotation,)
