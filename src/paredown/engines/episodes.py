"""Questions whose right option is what their topic stands for, in a world that is drawn: it can be told from solved questions of the topic alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np

from paredown.engines import choosing
from paredown.engines.choosing import Item

TOPICS = (
    "otter", "heron", "salmon", "beetle", "walnut", "cedar", "clover", "nettle", "marble", "copper", "amber",
    "granite", "harbor", "bridge", "tunnel", "castle", "violin", "trumpet", "cello", "drum", "sugar", "pepper",
    "ginger", "vanilla", "comet", "planet", "meteor", "crater", "needle", "hammer", "anvil", "ladder",
)  # fmt: skip
THINGS = ("red", "green", "blue", "white", "black", "brown", "pink", "grey", "gold", "silver")
PLACES = ("north", "south", "east", "west", "home", "town", "field", "shore", "hill", "road")
TIMES = ("dawn", "noon", "dusk", "night", "spring", "summer", "autumn", "winter", "today", "later")


@dataclass(frozen=True)
class World:
    """What each topic stands for."""

    things: tuple[str, ...]  # of each topic, in the order of TOPICS

    @staticmethod
    def drawn(topics: int, things: int, generator: np.random.Generator) -> World:
        return World(tuple(THINGS[place] for place in generator.integers(things, size=topics).tolist()))

    def item(self, question: str, topic: int, options: int, things: int, generator: np.random.Generator) -> Item:
        """A question with its options in random order."""
        right = self.things[topic]
        others = [thing for thing in THINGS[:things] if thing != right]
        wrong = [others[place] for place in generator.permutation(len(others))[: options - 1].tolist()]
        shown = [(right, *wrong)[place] for place in generator.permutation(options).tolist()]
        return Item(question, question, tuple(shown), shown.index(right))


def questions(topics: int) -> list[tuple[str, int]]:
    """All questions with the numbers of their topics: a topic, a place and a time, of which the topic alone says anything."""
    return [(f"{TOPICS[topic]} {place} {time}", topic) for topic, place, time in product(range(topics), PLACES, TIMES)]


def reasoned(item: Item) -> str:
    """The chain of thought of a solved question: what its topic stands for, and where that stands among the options."""
    return f"So {item.question.split()[0]} {item.options[item.gold]} {choosing.letter_of(item.gold, choosing.same(item))}\n"


def episode(asked: Item, examples: Sequence[Item], instruction: str) -> tuple[str, str]:
    """(what stands before the answer, the answer) as `infer.prompting.few_shot` shows them; with an instruction there are chains of thought."""
    chains = bool(instruction)
    shown = [choosing.solved(item, choosing.same(item), reasoned(item) if chains else "", chains) for item in examples]
    prompt = choosing.prompt(shown, asked, choosing.same(asked), instruction)
    answer = choosing.answered(choosing.letter_of(asked.gold, choosing.same(asked)), chains)
    return prompt, f"\n{reasoned(asked)}{answer}" if chains else answer.removeprefix("Answer:")
