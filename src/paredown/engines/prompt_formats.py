"""A grammar of prompt formats that all mean the same: casing, separators, spaces, and how options are numbered.

A prompt is some fields, `descriptor separator text` each, joined by a space; where a task has options, they stand as items,
`descriptor gap label separator text` each, joined by a space of their own. Fields of a kind share their casing and their
separator, so that one choice changes all of them alike. The values are those of Sclar et al. 2023, arXiv 2310.11324,
appendix A, without the one that stands twice in the published lists.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from paredown.core.errors import UserError

SEPARATORS = ("", "::: ", ":: ", ": ", " \n\t", "\n    ", " : ", " - ", " ", "\n ", "\n\t", ":", "::", "- ", "\t")
SPACES = ("", " ", "\n", " \n", " -- ", "  ", "; \n", " || ", " <sep> ", ", ", " \n ", " , ", "\n ", ". ", " ,  ")
GAPS = ("", " ", "  ", "\t")
CASINGS = ("as_is", "title", "upper", "lower")
WRAPPERS = ("({})", "{}.", "{})", "{} )", "[{}]", "<{}>")
NUMBERS = ("1", "A", "a", "\u2160", "i", "I")
ROMAN = ("i", "ii", "iii", "iv", "v", "vi", "vii", "viii", "ix", "x", "xi", "xii")
STRIPPED = " .,()\n-><"


@dataclass(frozen=True)
class Shape:
    """What a task's prompts are made of; the last field is the answer."""

    fields: tuple[str, ...]  # descriptors, such as ("Question", "Answer")
    options: str | None = None  # descriptor of each option, "" for none; None where the task has no options
    space_only: bool = False  # between fields white space alone


@dataclass(frozen=True, order=True)
class Format:
    """One choice of every value; those of options are empty where there are none."""

    casing: str = "as_is"
    separator: str = ": "
    space: str = "\n"
    item_casing: str = ""
    gap: str = ""
    wrapper: str = ""
    numbers: str = ""
    item_separator: str = ""
    item_space: str = ""

    def changes(self, other: Format) -> int:
        """In how many of its values it differs."""
        return sum(a != b for a, b in zip(dataclasses.astuple(self), dataclasses.astuple(other), strict=True))


def values(shape: Shape) -> dict[str, tuple[str, ...]]:
    """What can be chosen for each part of a format."""
    found = {"casing": CASINGS, "separator": SEPARATORS, "space": SPACES}
    if shape.options is not None:
        items = {"item_casing": CASINGS, "gap": GAPS} if shape.options else {}
        found |= {**items, "wrapper": WRAPPERS, "numbers": NUMBERS, "item_separator": SEPARATORS, "item_space": SPACES}
    return found


def valid(shape: Shape, chosen: Format) -> bool:
    """Whether a format keeps its fields apart.

    A field is not glued to its text, nor fields to each other; no line breaks within what stands on one line with others.
    """
    if chosen.separator == "" or chosen.space == "" or (shape.space_only and not chosen.space.isspace()):
        return False
    inside = chosen.separator + (chosen.item_separator if shape.options is not None else "")
    if "\n" not in chosen.space and "\n" in inside:
        return False
    return shape.options is None or "\n" in chosen.item_space or "\n" not in chosen.item_separator + chosen.gap


def every(shape: Shape) -> Iterator[Format]:
    """All valid formats in a fixed order; a task with options has hundreds of thousands."""
    names = values(shape)
    for choice in itertools.product(*names.values()):
        chosen = Format(**dict(zip(names, choice, strict=True)))
        if valid(shape, chosen):
            yield chosen


def sample(shape: Shape, count: int, generator: np.random.Generator) -> list[Format]:
    """Different formats, each value drawn evenly and invalid ones drawn again.

    Raises:
        UserError: there are not so many formats.
    """
    names = values(shape)
    most = math.prod(len(v) for v in names.values())
    if count > most or (most <= 1000 and count > sum(1 for _ in every(shape))):
        raise UserError(f"there are fewer than {count:,} formats of this shape", todo="ask for fewer formats")
    found: dict[Format, None] = {}
    while len(found) < count:
        chosen = Format(**{name: some[int(generator.integers(len(some)))] for name, some in names.items()})
        if valid(shape, chosen):
            found[chosen] = None
    return list(found)


def neighbors(shape: Shape, chosen: Format) -> list[Format]:
    """The valid formats that differ in one value."""
    others = (dataclasses.replace(chosen, **{name: value}) for name, some in values(shape).items() for value in some)
    return [other for other in others if other != chosen and valid(shape, other)]


def cased(text: str, casing: str) -> str:
    return text if casing == "as_is" else str(getattr(text, casing)())


def number(index: int, style: str) -> str:
    """How item `index`, from 0, is numbered: 1, A, a, a Roman sign of Unicode, i or I."""
    if style == "1":
        return str(index + 1)
    if style in "Aa":
        return chr(ord(style) + index)
    if index >= len(ROMAN):
        raise UserError(f"Roman numbers go to {len(ROMAN)}, but there are more options")
    return chr(0x2160 + index) if style == "\u2160" else cased(ROMAN[index], "upper" if style == "I" else "as_is")


def label(chosen: Format, index: int) -> str:
    """What option `index` is called, such as `(b)`."""
    return chosen.wrapper.format(number(index, chosen.numbers))


def render(shape: Shape, chosen: Format, texts: Sequence[str], options: Sequence[str] = (), answer: str | None = None) -> str:
    """One example; without an answer it ends where the answer begins.

    `texts` are those of all fields but the last; options stand before the last field.
    """
    pieces = [cased(name, chosen.casing) + chosen.separator + text for name, text in zip(shape.fields[:-1], texts, strict=True)]
    if shape.options is not None:
        heads = (cased(shape.options, chosen.item_casing) if shape.options else "") + chosen.gap
        items = [heads + label(chosen, index) + chosen.item_separator + text for index, text in enumerate(options)]
        pieces.append(chosen.item_space.join(items))
    pieces.append(cased(shape.fields[-1], chosen.casing) + chosen.separator + (answer or ""))
    return chosen.space.join(pieces)


def matches(generated: str, gold: str) -> bool:
    """Whether an answer begins with the gold one, as a whole: stripped of brackets and the like, in any casing."""
    text, wanted = generated.strip(STRIPPED).lower(), gold.strip(STRIPPED).lower()
    return text.startswith(wanted) and not text[len(wanted) : len(wanted) + 1].isalnum()
