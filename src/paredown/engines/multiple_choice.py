"""Tasks with a right answer, asked of whatever answers: items from Examples, prompts from a format, right or wrong from an answer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import polars as pl

from paredown.core.errors import DataError, UserError
from paredown.engines.generator import Question, Sampling
from paredown.engines.prompt_formats import Format, Shape, label, matches, render

if TYPE_CHECKING:
    from paredown.artifacts.examples import Examples
    from paredown.engines.generator import Generator

Array = np.ndarray[Any, Any]
Scoring = Literal["rank", "prefix"]


@dataclass(frozen=True)
class Item:
    """One question of a task."""

    texts: tuple[str, ...]  # of the fields before the answer
    options: tuple[str, ...]  # what can be answered; empty where anything can
    answer: str  # one of the options, where there are any


def items(examples: Examples, fields: Sequence[str], answer: str, options: Sequence[str] | str) -> list[Item]:
    """The rows of Examples as items. `options` are the same for all rows, or name a column of lists of text.

    Raises:
        UserError: a column is missing, or that of the options holds no lists.
        DataError: there is no row, a value is missing, or an answer is none of its options.
    """
    frame = examples.frame()
    wanted = [*fields, answer, *([options] if isinstance(options, str) and options else [])]
    for name in wanted:
        if name not in frame.columns:
            raise UserError(f"the examples have no column {name}", where=str(examples.path), todo=f"there is {', '.join(frame.columns)}")
    if not frame.height:
        raise DataError("there is no example to ask about", where=str(examples.path))
    if isinstance(options, str) and options and frame.schema[options].base_type() not in (pl.List, pl.Array):
        raise UserError(
            f"the column {options} holds no lists of options", where=str(examples.path), todo="options: [...] are those of all rows"
        )
    found = []
    for number, row in enumerate(frame.select(list(dict.fromkeys(wanted))).iter_rows(named=True)):
        if any(value is None for value in row.values()):
            missing = next(name for name, value in row.items() if value is None)
            raise DataError(f"{missing} of example {number:,} is missing", where=str(examples.path))
        named = row[options] if isinstance(options, str) and options else options
        choices, gold = tuple(str(o) for o in named), str(row[answer])
        if any(o is None for o in named):
            raise DataError(f"an option of example {number:,} is missing", where=str(examples.path))
        if choices and gold not in choices:
            raise DataError(
                f"the answer of example {number:,}, {gold!r}, is none of its options", where=str(examples.path), todo=", ".join(choices)
            )
        found.append(Item(tuple(str(row[name]) for name in fields), choices, gold))
    return found


def shots(shown: Sequence[Item], count: int, itself: int, generator: np.random.Generator) -> tuple[Item, ...]:
    """Demonstrations, drawn from all but the one at the place `itself` (-1: from all)."""
    drawn = generator.choice(len(shown), size=min(len(shown), count + 1), replace=False)
    return tuple(shown[int(place)] for place in drawn if place != itself)[:count]


@dataclass(frozen=True)
class Task:
    """Items with their demonstrations, the same for every format."""

    shape: Shape
    items: tuple[Item, ...]
    shots: tuple[tuple[Item, ...], ...]  # demonstrations of each item
    instruction: str = ""
    between: str = "\n\n"  # examples of a prompt
    scoring: Scoring = "rank"
    max_tokens: int = 8  # of a generated answer

    def prompt(self, chosen: Format, number: int) -> str:
        """The item in a format, after its demonstrations in the same one."""
        shown = [self._one(chosen, shot, answered=True) for shot in self.shots[number]]
        return self.between.join(
            [*([self.instruction] if self.instruction else []), *shown, self._one(chosen, self.items[number], answered=False)]
        )

    def _one(self, chosen: Format, item: Item, answered: bool) -> str:
        named = item.options if self.shape.options is not None else ()
        return render(self.shape, chosen, item.texts, named, self.called(chosen, item, item.answer) if answered else None)

    def called(self, chosen: Format, item: Item, answer: str) -> str:
        """What an answer is called in a format: its label where options are numbered, else itself."""
        return label(chosen, item.options.index(answer)) if self.shape.options is not None else answer

    def right(self, generator: Generator, chosen: Format, numbers: Sequence[int]) -> Array:
        """Whether each of the items is answered rightly in a format, booleans.

        rank takes the likeliest of the options; prefix generates and looks whether the text begins with the right one.
        """
        asked = [self.items[number] for number in numbers]
        prompts = [self.prompt(chosen, number) for number in numbers]
        if self.scoring == "prefix":
            answers = generator.answer([Question(text) for text in prompts], Sampling(max_tokens=self.max_tokens))
            return np.array([matches(a.text, self.called(chosen, item, item.answer)) for a, item in zip(answers, asked, strict=True)])
        named = [tuple(self.called(chosen, item, option) for option in item.options) for item in asked]
        answers = generator.answer([Question(text, options) for text, options in zip(prompts, named, strict=True)])
        best = [int(np.argmax(answer.logprobs)) for answer in answers]
        return np.array([item.options[place] == item.answer for place, item in zip(best, asked, strict=True)])
