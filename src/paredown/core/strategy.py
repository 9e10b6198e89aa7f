"""The two kinds of things that a recipe names: steps (`Strategy`) and what plugs into them (`Part`)."""

from __future__ import annotations

import functools
import inspect
import typing
from typing import Annotated, Any, ClassVar

from pydantic import BaseModel, ConfigDict, Field, ValidationInfo, field_validator

Share = Annotated[float, Field(ge=0, lt=1)]  # a share that may be nothing but not all
Positive = Annotated[float, Field(gt=0)]
Count = Annotated[int, Field(ge=1)]


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
    return value


class Part(Configured):
    """Plugs into a step's field or input: an objective, a schedule, a sampler, an optimizer, a hook, an architecture."""


class Strategy(Configured):
    """A step: a typed function from artifacts to artifacts.

    A subclass defines `__call__` with annotated inputs and result. The docstring is its card: one sentence, then the
    lines `Source:`, `Costs:`, `Control:` and, where useful, `Not for:`.
    """

    seeded: ClassVar[bool] = False  # draws random numbers; only then is the seed part of the step's key
    measures_time: ClassVar[bool] = False  # its result is a clock's: two runs never give the same bytes, and no step runs beside it
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
