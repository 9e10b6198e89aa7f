"""YAML with positions, built from parser events: no tags, no anchors, no construction of objects, bounded size and depth."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.events import AliasEvent, Event, MappingEndEvent, MappingStartEvent, ScalarEvent, SequenceEndEvent, SequenceStartEvent

from paredown.core.errors import Mistake, RecipeError

MAX_DEPTH = 24
MAX_NODES = 20_000
MAX_BYTES = 1_000_000

_NULL = re.compile(r"(~|null|Null|NULL|)\Z")
_BOOL = {"true": True, "True": True, "TRUE": True, "false": False, "False": False, "FALSE": False}
_INT = re.compile(r"[-+]?[0-9][0-9_]*\Z")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9][0-9_]*(\.[0-9_]*)?)([eE][-+]?[0-9]+)?\Z")
_KEY = re.compile(r"\s+[\w.-]+\s*\Z")  # what stands before the colon of a line that holds a key
_NOT_FINITE = re.compile(r"([-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN))\Z")


@dataclass(frozen=True)
class Node:
    """A value with its place (line and column from 1); `key` is the place of the key that it stands under."""

    value: Any  # dict[str, Node], list[Node] or a scalar
    line: int = 1
    column: int = 1
    key: tuple[int, int] = (1, 1)
    file: str = ""  # other than the recipe's own, such as "--set"

    def plain(self) -> Any:
        """The value without places."""
        if isinstance(self.value, dict):
            return {key: node.plain() for key, node in self.value.items()}
        if isinstance(self.value, list):
            return [node.plain() for node in self.value]
        return self.value

    def mistake(self, what: str, hint: str = "", *, at_key: bool = False) -> Mistake:
        line, column = self.key if at_key else (self.line, self.column)
        return Mistake(line, column, what, hint, self.file)


def parse(text: str, file: str) -> Node:
    """The one document of `text`.

    Raises:
        RecipeError: it is not plain YAML, or too large or too deep; with line and column.
    """
    if len(text) > MAX_BYTES:
        raise RecipeError(file, [Mistake(1, 1, f"the file is larger than {MAX_BYTES:,} characters")])
    try:
        events = YAML(typ="safe", pure=True).parse(io.StringIO(text))
        return _Builder(file).document(events)
    except MarkedYAMLError as error:
        raise RecipeError(file, [_explained(error, text)]) from None
    except (YAMLError, ValueError, RecursionError, IndexError, AttributeError, TypeError, AssertionError) as error:
        # the reader's own errors (control characters) carry an offset, not a mark; the scanner can also fail on broken input
        line, column = _place_of_bad_character(text)
        reason = "a control character" if isinstance(error, YAMLError) else f"{type(error).__name__} in the parser"
        raise RecipeError(file, [Mistake(line, column, f"no valid YAML: {reason}")]) from None


def scalar(text: str) -> Any:
    """A plain scalar by the YAML 1.2 core schema, with 2e6 a float; raises ValueError for NaN and infinity."""
    if _NULL.match(text):
        return None
    if text in _BOOL:
        return _BOOL[text]
    if _INT.match(text) and len(text) < 40:
        return int(text.replace("_", ""))
    if _FLOAT.match(text) and len(text) < 40:
        value = float(text.replace("_", ""))
        if value in (float("inf"), float("-inf")):
            raise ValueError(f"{text} is not a finite number")
        return value
    if _NOT_FINITE.match(text):
        raise ValueError(f"{text} is not a finite number")
    return text


class _Builder:
    def __init__(self, file: str) -> None:
        self.file = file
        self.nodes = 0

    def fail(self, event: Event, what: str) -> RecipeError:
        return RecipeError(self.file, [Mistake(event.start_mark.line + 1, event.start_mark.column + 1, what)])

    def document(self, events: Iterator[Event]) -> Node:
        root = None
        for event in events:
            if isinstance(event, (ScalarEvent, SequenceStartEvent, MappingStartEvent, AliasEvent)):
                if root is not None:
                    raise self.fail(event, "a recipe is one YAML document; a second one begins here")
                root = self.node(event, events, 0)
        return root if root is not None else Node(None)

    def node(self, event: Event, events: Iterator[Event], depth: int, key: tuple[int, int] = (1, 1)) -> Node:
        self.nodes += 1
        if self.nodes > MAX_NODES:
            raise self.fail(event, f"more than {MAX_NODES:,} values")
        if depth > MAX_DEPTH:
            raise self.fail(event, f"nested more than {MAX_DEPTH} levels deep")
        if isinstance(event, AliasEvent) or getattr(event, "anchor", None):
            raise self.fail(event, "anchors and aliases are not used in recipes; refer to a step by $name")
        if getattr(event, "tag", None):
            raise self.fail(event, "tags (!name) are not used in recipes; nothing in a recipe is executed")
        line, column = event.start_mark.line + 1, event.start_mark.column + 1
        if isinstance(event, ScalarEvent):
            try:
                value = scalar(event.value) if event.implicit[0] else event.value
            except ValueError as error:
                raise self.fail(event, str(error)) from None
            return Node(value, line, column, key)
        if isinstance(event, SequenceStartEvent):
            items = []
            while not isinstance(item := next(events), SequenceEndEvent):
                items.append(self.node(item, events, depth + 1, (item.start_mark.line + 1, item.start_mark.column + 1)))
            return Node(items, line, column, key)
        mapping: dict[str, Node] = {}
        while not isinstance(name := next(events), MappingEndEvent):
            if not isinstance(name, ScalarEvent) or not isinstance(name.value, str):
                raise self.fail(name, "a key must be a plain name")
            if name.tag or name.anchor:
                raise self.fail(name, "tags and anchors are not used in recipes")
            if name.value in mapping:
                raise self.fail(name, f"{name.value!r} stands twice in the same mapping")
            place = (name.start_mark.line + 1, name.start_mark.column + 1)
            mapping[name.value] = self.node(next(events), events, depth + 1, place)
        return Node(mapping, line, column, key)


def _explained(error: MarkedYAMLError, text: str) -> Mistake:
    """The parser's finding at the token that is to blame, with the usual cause of its kind in plain words."""
    problem = " ".join(str(error.problem or error.context or "cannot be read").split())
    mark, opened = error.problem_mark or error.context_mark, error.context_mark
    line, column = (mark.line + 1, mark.column + 1) if mark else (1, 1)
    lines = text.split("\n")
    before = lines[line - 1][: column - 1] if line <= len(lines) else ""
    hint = ""
    if line <= len(lines) and lines[line - 1][column - 1 : column] == "\t":
        problem = "a tab; YAML is indented with spaces"
    elif problem.startswith("mapping values are not allowed") and _KEY.match(before):
        problem, column = "a key where a value goes on", len(before) - len(before.lstrip()) + 1
        hint = "is the line indented deeper than its neighbours above?"
    elif problem.startswith("mapping values are not allowed"):
        hint = "text that holds a colon and a blank is written in quotes"
    elif "block end" in problem:
        problem, hint = "a key that belongs to nothing above it", "is the line indented like its neighbours?"
    elif problem.startswith("expected ',' or") and opened:
        bracket = problem.partition("',' or '")[2][:1]
        hint = f"a comma is missing before it, or the {'{' if bracket == '}' else '['} of line {opened.line + 1}, column {opened.column + 1} is not closed"
    elif opened and ("end of stream" in problem or "expected ':'" in problem):
        line, column = opened.line + 1, opened.column + 1
        problem = "a quote that is not closed" if "end of stream" in problem else "a line that is neither a key with its colon nor a value"
    return Mistake(line, column, f"no valid YAML: {problem}", hint)


def _place_of_bad_character(text: str) -> tuple[int, int]:
    for number, line in enumerate(text.split("\n"), 1):
        for column, character in enumerate(line, 1):
            if (ord(character) < 32 and character not in "\t\r") or 127 <= ord(character) < 160 or 0xD800 <= ord(character) < 0xE000:
                return number, column
    return 1, 1
