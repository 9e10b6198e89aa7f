"""A grammar of prompt formats that all mean the same: casing, separators, spaces, and how options are numbered.

A prompt is some fields, `descriptor separator text` each, joined by a space; where a task has options, they stand as items,
`descriptor gap label separator text` each, joined by a space of their own. Fields of a kind share their casing and their
separator, so that one choice changes all of them alike. The values are those of Sclar et al. 2023, arXiv 2310.11324,
appendix A; the space that stands twice in the published lists stands once here, unless a caller wants it as published.
"""

from __future__ import annotations

import dataclasses
import hashlib
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
TWICE = " -- "  # stands twice in the published list of spaces, and so is drawn twice as often
Choices = dict[str, tuple[str, ...]]  # what can be chosen for each part of a format


@dataclass(frozen=True)
class Shape:
    """What a task's prompts are made of; the last field is the answer."""

    fields: tuple[str, ...]  # descriptors, such as ("Question", "Answer")
    options: str | None = None  # descriptor of each option, "" for none; None where the task has no options
    space_only: bool = False  # between fields white space alone


def shape_of(fields: Sequence[str], answer: str, descriptors: Sequence[str], options: bool, enumerated: bool) -> Shape:
    """What the prompts of a task with these columns are made of; columns' names describe them where `descriptors` are empty.

    Raises:
        ValueError: the answer is one of the fields, there are descriptors, but not one for each field and the answer, or options are to be
            enumerated that are not there.
    """
    if answer in fields:
        raise ValueError(f"{answer} is the answer: as one of the fields it would stand in its own question")
    if enumerated and not options:
        raise ValueError("enumerate_options needs options")
    if descriptors and len(descriptors) != len(fields) + 1:
        raise ValueError(f"descriptors name the fields and the answer: {len(fields) + 1}, not {len(descriptors)}")
    return Shape(tuple(descriptors or (*fields, answer)), "option" if enumerated else None)


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

    def key(self, copy: int = 0) -> int:
        """63 bits that say which format it is, whatever others were drawn with it."""
        digest = hashlib.blake2b(repr((*dataclasses.astuple(self), copy)).encode(), digest_size=8).digest()
        return int.from_bytes(digest, "little") >> 1


def usual(shape: Shape) -> Format:
    """`question: text` on lines of their own, and where there are options `option A: text`."""
    items = {"item_casing": "as_is", "gap": " ", "wrapper": "{}", "numbers": "A", "item_separator": ": ", "item_space": "\n"}
    return Format(**(items if shape.options is not None else {}))


def values(shape: Shape, reference: bool = False) -> Choices:
    """What can be chosen for each part of a format; `reference`: with the space that the published list has twice."""
    spaces = (*SPACES, TWICE) if reference else SPACES
    found = {"casing": CASINGS, "separator": SEPARATORS, "space": spaces}
    if shape.options is not None:
        items = {"item_casing": CASINGS, "gap": GAPS} if shape.options else {}
        found |= {**items, "wrapper": WRAPPERS, "numbers": NUMBERS, "item_separator": SEPARATORS, "item_space": spaces}
    return found


def some_values(shape: Shape, share: float, generator: np.random.Generator) -> Choices:
    """A share of what can be chosen for each part, drawn, what the usual format has among them; all of it and that with a share of 1."""
    kept = dataclasses.asdict(usual(shape))
    found = {}
    for name, some in values(shape).items():
        others = [some[int(place)] for place in generator.permutation(len(some)) if some[int(place)] != kept[name]]
        size = len(others) if share == 1 else math.ceil(share * len(some)) - 1
        found[name] = (kept[name], *others[:size])
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


def every(shape: Shape, choices: Choices | None = None) -> Iterator[Format]:
    """All valid formats in a fixed order, each once; a task with options has hundreds of thousands."""
    names = choices or values(shape)
    for choice in itertools.product(*(dict.fromkeys(some) for some in names.values())):
        chosen = Format(**dict(zip(names, choice, strict=True)))
        if valid(shape, chosen):
            yield chosen


def draw(shape: Shape, choices: Choices, generator: np.random.Generator) -> Format:
    """A format with each value drawn evenly, and drawn again where it is not valid."""
    while True:
        chosen = Format(**{name: some[int(generator.integers(len(some)))] for name, some in choices.items()})
        if valid(shape, chosen):
            return chosen


def sample(shape: Shape, count: int, generator: np.random.Generator, choices: Choices | None = None) -> list[Format]:
    """Different formats, each value drawn evenly and invalid ones drawn again.

    Raises:
        UserError: there are not so many formats.
    """
    names = choices or values(shape)
    most = math.prod(len(set(some)) for some in names.values())
    if count > most or (most <= 1000 and count > sum(1 for _ in every(shape, names))):
        raise UserError(f"there are fewer than {count:,} formats of this shape", todo="ask for fewer formats")
    found: dict[Format, None] = {}
    while len(found) < count:
        found[draw(shape, names, generator)] = None
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
