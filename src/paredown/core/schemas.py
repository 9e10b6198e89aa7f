"""JSON Schema of recipes, generated from the catalog's classes."""

from __future__ import annotations

import typing
from typing import Any

from pydantic import TypeAdapter

from paredown.core import catalog
from paredown.core.artifact import REFERENCE_SCHEMA as REFERENCE
from paredown.core.claim_checks import BUDGETS, KINDS
from paredown.core.recipe_checks import FILE_NAME
from paredown.core.strategy import Configured, Part, Strategy, alternatives

DOTTED = {"pattern": r"^[^.]+\.[^.].*$"}  # a step and a knob


def recipe() -> dict[str, Any]:
    """Schema of a whole recipe (draft 2020-12)."""
    steps, parts = [], {}
    for entry in catalog.entries():
        if entry.broken:
            continue
        loaded = catalog.load(entry.name)
        if issubclass(loaded, Strategy):
            steps.append(strategy(entry.name))
        else:
            parts[entry.name] = strategy(entry.name)
    named = {"type": "string"}
    claim = {
        "type": "object",
        "properties": {
            "metric": named,
            "arm": named,
            **dict.fromkeys(KINDS, named),
            "by": {"type": "number"},
            "within": {"type": "number"},
            "budget": {"enum": list(BUDGETS)},
            "says": named,
        },
        "required": ["metric", "arm"],
        "additionalProperties": False,
    }
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "paredown recipe",
        "type": "object",
        "required": ["steps"],
        "additionalProperties": False,
        "properties": {
            "name": {**named, "pattern": FILE_NAME.pattern.replace(r"\Z", "$")},
            "description": named,
            "seed": {"type": "integer", "minimum": 0},
            "seeds": {"type": "array", "items": {"type": "integer", "minimum": 0}, "minItems": 1, "uniqueItems": True},
            "steps": {"type": "object", "minProperties": 1, "additionalProperties": {"oneOf": steps}},
            "arms": {"type": "object", "additionalProperties": {"type": ["object", "null"], "propertyNames": DOTTED}},
            "grid": {"type": "object", "propertyNames": DOTTED, "additionalProperties": {"type": "array", "minItems": 1}},
            "sizes": {
                "type": "object",
                "additionalProperties": {"type": "object", "propertyNames": {"anyOf": [DOTTED, {"const": "seeds"}]}},
            },
            "system": {"type": "integer", "minimum": 1},
            "published": named,
            "differs": named,
            "found": named,
            "reference": named,
            "control": named,
            "claims": {"type": "array", "items": claim},
            "summary": {"type": "object", "additionalProperties": {"type": "string", "pattern": r"^[^.]+\.[^.]+$"}},
        },
        "$defs": parts,
    }


def strategy(name: str) -> dict[str, Any]:
    """Schema of one step or part as a recipe writes it."""
    entry = catalog.find(name)
    loaded = catalog.load(name)
    comments = {k.name: k.comment for k in entry.knobs}
    properties: dict[str, Any] = {"use": {"const": name}}
    required = ["use"]
    one_of: tuple[str, ...] = ()
    if issubclass(loaded, Strategy):
        properties["skip"] = {"type": "boolean", "description": "leave the step out and hand its input through"}
        if loaded.seeded:
            properties["seed"] = {"type": "integer", "minimum": 0, "description": "its own seed, whatever the recipe's seeds are"}
        signature = loaded.signature()
        for key, annotation in signature.inputs.items():
            properties[key] = _input(annotation)
            if key not in signature.optional:
                required.append(key)
        one_of = loaded.one_of
    for key, info in loaded.model_fields.items():
        properties[key] = {**_knob(loaded, key), **({"description": comments[key]} if comments.get(key) else {})}
        if info.is_required():
            required.append(key)
    found = {"type": "object", "description": entry.summary, "properties": properties, "required": required, "additionalProperties": False}
    return found | ({"oneOf": [{"required": [key]} for key in one_of]} if one_of else {})


def _input(annotation: Any) -> dict[str, Any]:
    choices: list[dict[str, Any]] = [REFERENCE]
    for member in alternatives(annotation):
        if isinstance(member, type) and issubclass(member, Part):
            choices += _choices(member)
        elif typing.get_origin(member) is tuple:
            choices.append({"type": "array", "items": REFERENCE})
    return choices[0] if len(choices) == 1 else {"anyOf": choices}


def _choices(kind: type[Part]) -> list[dict[str, Any]]:
    """A part may be written as a mapping with use, or as its bare name."""
    names = [e.name for e in catalog.entries() if e.kind == kind.__name__]
    return [{"enum": names}, {"type": "object", "required": ["use"], "properties": {"use": {"enum": names}}}]


def _knob(loaded: type[Configured], key: str) -> dict[str, Any]:
    info = loaded.model_fields[key]
    kinds = _parts(info.annotation)
    if kinds:
        choices = [choice for kind in kinds for choice in _choices(kind)]
        many = any(typing.get_origin(a) is tuple for a in (info.annotation, *typing.get_args(info.annotation)))
        item: dict[str, Any] = {"anyOf": choices}
        return {"type": "array", "items": item} if many else item
    annotation: Any = typing.Annotated[info.annotation, *info.metadata] if info.metadata else info.annotation
    found: dict[str, Any] = TypeAdapter(annotation).json_schema()
    found.pop("title", None)
    found.pop("description", None)
    return found


def _parts(annotation: Any) -> list[type[Part]]:
    if typing.get_origin(annotation) is not None:
        return [kind for argument in typing.get_args(annotation) for kind in _parts(argument)]
    return [annotation] if isinstance(annotation, type) and issubclass(annotation, Part) else []
