"""Words and type facts that the checker of recipes shares."""

from __future__ import annotations

import dataclasses
import functools
import re
import typing
from collections.abc import Iterable, Iterator
from typing import Any

from pydantic import BaseModel

from paredown.core import catalog
from paredown.core.artifact import Artifact, Bundle
from paredown.core.errors import Mistake, nearest
from paredown.core.strategy import Part, Signature, alternatives
from paredown.core.yaml import Node

TYPES = {  # the beginnings of pydantic's error types, in the recipe's words
    "int": "a whole number", "float": "a number", "bool": "true or false", "string": "text", "tuple": "a list", "list": "a list",
    "dict": "a mapping", "model": "a mapping",
}  # fmt: skip


def elsewhere(node: Node, file: str) -> Node:
    value = node.value
    if isinstance(value, dict):
        value = {k: elsewhere(v, file) for k, v in value.items()}
    elif isinstance(value, list):
        value = [elsewhere(v, file) for v in value]
    return dataclasses.replace(node, value=value, file=file)


def is_seed(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def kind_of(node: Node) -> str:
    value = node.value
    if isinstance(value, dict):
        return "a mapping"
    if isinstance(value, list):
        return "a list"
    if value is None:
        return "nothing"
    text = repr(value) if not isinstance(value, bool) else str(value).lower()
    return text if len(text) <= 60 else text[:57] + "..."


def did_you_mean(name: str, choices: Iterable[str], prefix: str = "") -> str:
    close = nearest(name, choices)
    return f"did you mean {prefix}{close[0]}?" if close else ""


def distinct(mistakes: Iterable[Mistake]) -> list[Mistake]:
    """Each mistake once: one that several arms share names the strategy of the first."""
    found: dict[tuple[str, int, int, str], Mistake] = {}
    for mistake in mistakes:
        found.setdefault((mistake.file, mistake.line, mistake.column, mistake.what.partition(" (")[0]), mistake)
    return list(found.values())


def known_keys(kind: type[BaseModel], loc: tuple[int | str, ...]) -> list[str]:
    """Keys of the mapping that holds the last key of a pydantic location; none where that is no mapping with fixed keys."""
    for step in loc[:-1]:
        info = kind.model_fields.get(str(step))
        nested = [a for a in alternatives(info.annotation) if isinstance(a, type) and issubclass(a, BaseModel)] if info else []
        if not nested:
            return []
        kind = nested[0]
    return list(kind.model_fields)


def say(annotation: Any) -> str:
    return getattr(annotation, "__name__", str(annotation))


def takes(signature: Signature) -> str:
    pieces = []
    for name, annotation in signature.inputs.items():
        kinds = " or ".join(say(a) for a in alternatives(annotation))
        pieces.append(f"{name}: {kinds}" + (" (optional)" if name in signature.optional else ""))
    return ", ".join(pieces)


@functools.cache
def parts_of(result: Any) -> dict[str, Any]:
    """Part name to artifact type for a bundle, in order; empty for a single artifact."""
    if not (isinstance(result, type) and issubclass(result, Bundle)):
        return {}
    hints = typing.get_type_hints(result)
    return {f.name: alternatives(hints[f.name])[0] for f in dataclasses.fields(result)}


def main_type(result: Any) -> type[Artifact]:
    parts = parts_of(result)
    kind: type[Artifact] = next(iter(parts.values())) if parts else result
    return kind


def main_part(result: Any) -> str | None:
    return next(iter(parts_of(result)), None)


def part_kinds(annotation: Any) -> Iterator[type[Part]]:
    """The kinds of part that a field's annotation mentions anywhere."""
    if typing.get_origin(annotation) is not None:
        for argument in typing.get_args(annotation):
            yield from part_kinds(argument)
    elif isinstance(annotation, type) and issubclass(annotation, Part):
        yield annotation


def parts_of_kinds(kinds: tuple[type, ...]) -> str:
    names = [e.name for e in catalog.entries() if e.kind in {k.__name__ for k in kinds}]
    return f"there are {', '.join(names)}" if names else ""


def locate(node: Node, knobs: dict[str, Node], loc: tuple[int | str, ...]) -> tuple[Node, list[str]]:
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


def culprit(said: str, keys: Any) -> Node | None:
    """Of the given keys that a finding about a whole mapping names, the one that stands last: an override rather than what it overrides."""
    named = [keys[word] for word in dict.fromkeys(re.findall(r"\w+", said)) if word in keys] if isinstance(keys, dict) else []
    return max(named, key=lambda node: (bool(node.file), node.key), default=None)


def message(item: Any) -> str:
    """pydantic's finding in the recipe's words."""
    context = item.get("ctx", {})
    value = item["input"]
    shown = kind_of(Node(value)) if value is None or isinstance(value, (bool, dict)) else repr(value)
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
        limit = context[bound]
        return f"{shown} is not {word} {int(limit) if float(limit).is_integer() else limit}"
    if kind.partition("_")[0] in TYPES and kind.endswith(("_type", "_parsing", "_from_float")):
        return f"{shown} is not {TYPES[kind.partition('_')[0]]}"
    if kind == "literal_error":
        close = nearest(str(value), [c.strip("'") for c in re.findall(r"'[^']*'", context["expected"])])
        return f"{shown} is none of {context['expected']}" + (f"; did you mean {close[0]}?" if close else "")
    if kind in ("too_short", "string_too_short"):
        least, of = context["min_length"], "character" if kind == "string_too_short" else "value"
        return f"{shown} is too short: it needs {least} {of}{'s' * (least != 1)} at least"
    if kind == "extra_forbidden":
        return "no such key"
    if kind == "value_error":
        return str(context.get("error", item["msg"]))
    expected = item["msg"].removeprefix("Input should be ").removeprefix("a valid ")
    return f"{shown} is not {expected}" if item["msg"].startswith("Input should be") else item["msg"]
