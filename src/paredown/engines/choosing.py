"""Questions with options, as they are asked and answered: orders of options, letters, votes, what each took, and what a frontier is.

An order is a permutation: place p shows option order[p]. Choices are always numbers of options as the item has them.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from paredown.artifacts.examples import Examples
from paredown.core.errors import DataError
from paredown.engines.generator import Answer, Generator, Question, Sampling, answer_key
from paredown.engines.multiple_choice import items as read_items

Array = np.ndarray[Any, Any]
Order = tuple[int, ...]
LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
MARKED = re.compile(r"\[\s*([A-Z])\s*\]")
FIRST = re.compile(r"\b([A-Z])\b")


@dataclass(frozen=True)
class Item:
    """One question with options."""

    key: str  # what tells it from others, across sets too
    question: str
    options: tuple[str, ...]
    gold: int  # number of the right option


class Ask(Protocol):
    """What a way of prompting asks through."""

    def __call__(self, questions: Sequence[Question], sampling: Sampling, about: Sequence[Item] = ()) -> list[Answer]:
        """The answers; `about` names the item that each question is about, and is empty where they are asked for all items together."""


class Chooser(Protocol):
    """A way of prompting, opened."""

    def choose(self, items: Sequence[Item], orders: Sequence[Order], number: int) -> list[int | None]:
        """An option of each item, shown in the given order; None where the answer could not be read. `number` is the round, from 0."""


class Meter:
    """Asks, and notes what each item took.

    An answer counts once, however often it is asked for, and then for the item that asked first. What is asked for all items
    together, such as chains of thought of the known ones, is shared by them all. So the items' sums are what the generator used.
    """

    def __init__(self, generator: Generator, items: Sequence[Item]) -> None:
        self.generator = generator
        self.places = {item.key: place for place, item in enumerate(items)}
        self.spent = np.zeros((len(items), 3))  # prompt tokens, completion tokens, money
        self._seen = set[bytes]()

    def ask(self, questions: Sequence[Question], sampling: Sampling, about: Sequence[Item] = ()) -> list[Answer]:
        answers = self.generator.answer(questions, sampling)
        for number, (question, answer) in enumerate(zip(questions, answers, strict=True)):
            key = answer_key(self.generator.identity, question, sampling)
            if key in self._seen:
                continue
            self._seen.add(key)
            took = np.array([answer.prompt_tokens, answer.completion_tokens, self.generator.backend.price(answer) or 0.0])
            if about:
                self.spent[self.places[about[number].key]] += took
            else:
                self.spent += took / len(self.spent)
        return answers


def items(examples: Examples, question: str, options: str | Sequence[str], answer: str, what: str = "") -> list[Item]:
    """Rows of Examples as items; `what` makes their keys differ from those of another set.

    Raises:
        UserError: a column is missing.
        DataError: an answer is none of its options, an item has one option or too many.
    """
    found = []
    for number, row in enumerate(read_items(examples, (question,), answer, options)):
        if not 2 <= len(row.options) <= len(LETTERS):
            raise DataError(
                f"example {number:,} has {len(row.options)} options; there must be 2 to {len(LETTERS)}", where=str(examples.path)
            )
        found.append(Item(f"{what}{number}", row.texts[0], row.options, row.options.index(row.answer)))
    return found


def same(item: Item) -> Order:
    """The order in which the item has its options."""
    return tuple(range(len(item.options)))


def shuffled_orders(item: Item, count: int, generator: np.random.Generator) -> list[Order]:
    """`count` random orders, different ones as long as there are any."""
    size, found = len(item.options), list[Order]()
    while len(found) < count:
        drawn = tuple(int(place) for place in generator.permutation(size))
        if drawn not in found[len(found) // math.factorial(size) * math.factorial(size) :]:
            found.append(drawn)
    return found


def shown(item: Item, order: Order) -> str:
    """Question and options as a prompt shows them."""
    return "\n".join([f"Question: {item.question}", *(f"{LETTERS[place]}. {item.options[option]}" for place, option in enumerate(order))])


def solved(item: Item, order: Order, reasons: str, chains: bool) -> str:
    """A question with its answer; `reasons` are lines that come before it. With chains of thought it stands in brackets, as these may name letters, too."""
    letter = letter_of(item.gold, order)
    return f"{shown(item, order)}\n{reasons}Answer: {f'[{letter}]' if chains else letter}"


def prompt(examples: Sequence[str], item: Item, order: Order, instruction: str = "") -> str:
    """A question to be answered, behind some that are solved; with an instruction what follows is a chain of thought."""
    return "\n\n".join([*examples, f"{shown(item, order)}\n{instruction or 'Answer:'}"])


def letter_of(option: int, order: Order) -> str:
    return LETTERS[order.index(option)]


def option_of(letter: str, order: Order) -> int | None:
    """The option behind a letter; None for a letter that was not shown."""
    place = LETTERS.find(letter)
    return order[place] if 0 <= place < len(order) else None


def read(text: str, order: Order) -> int | None:
    """The option that an answer names: by its last `[X]`, else by a letter that it begins with."""
    marked = MARKED.findall(text)
    if marked:
        return option_of(marked[-1], order)
    first = FIRST.match(text.strip().removeprefix("Answer:").strip())
    return option_of(first[1], order) if first else None


def majority(votes: Sequence[int | None], weights: Sequence[float] | None = None) -> int | None:
    """The option with the most votes; of equals the one that was voted for first. What could not be read does not vote."""
    counted: dict[int, float] = {}  # in the order of their first votes, which max keeps
    for vote, weight in zip(votes, weights or [1.0] * len(votes), strict=True):
        if vote is not None:
            counted[vote] = counted.get(vote, 0.0) + weight
    return max(counted, key=lambda option: counted[option], default=None)


def ballots(
    chooser: Chooser, items: Sequence[Item], orders: Sequence[Order], number: int, votes: int, generator: np.random.Generator | None
) -> list[tuple[int | None, ...]]:
    """What `votes` answers to each item say, asked in another order of options each time where a generator is given to draw them."""
    if generator is None:
        drawn = [[order] * votes for order in orders]
    else:
        drawn = [shuffled_orders(item, votes, generator) for item in items]
    rounds = [chooser.choose(items, [of[vote] for of in drawn], number * votes + vote) for vote in range(votes)]
    return list(zip(*rounds, strict=True))


def balanced(count: int, letters: int, generator: np.random.Generator) -> list[int]:
    """Places for the right options of `count` examples: shuffled blocks of all places, so that none is more frequent by more than one."""
    blocks = [generator.permutation(letters) for _ in range(-(-count // letters))]
    return [int(place) for place in np.concatenate(blocks)[:count]] if count else []


def swapped(item: Item, place: int) -> Order:
    """The item's own order with the right option and the one at `place` changed over."""
    order = list(same(item))
    order[place], order[item.gold] = order[item.gold], order[place]
    return tuple(order)


def on_frontier(costs: Array, qualities: Array) -> Array:
    """Which points no other beats: none is as cheap and better, nor cheaper and as good. Both (..., N), booleans (..., N)."""
    cost, quality = costs[..., :, None], qualities[..., :, None]  # of the point; those of the others lie along the last axis
    others, theirs = costs[..., None, :], qualities[..., None, :]
    beaten = (others <= cost) & (theirs >= quality) & ((others < cost) | (theirs > quality))
    return np.asarray(~beaten.any(axis=-1))
