"""Texts with common beginnings as a forest: what several texts begin with stands in it once. Imports no torch."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, field

Ids = Sequence[int]


@dataclass(eq=False)
class Stretch:
    """Tokens start..end (of the text `of` and of every text below); `texts` are those that end here."""

    start: int
    end: int
    of: int
    texts: list[int] = field(default_factory=list)
    children: list[Stretch] = field(default_factory=list)

    @property
    def length(self) -> int:
        return self.end - self.start

    def total(self) -> int:
        """Tokens of this stretch and all below it."""
        return self.length + sum(child.total() for child in self.children)

    def walk(self) -> list[Stretch]:
        """This stretch and all below it, each before those that go on from it; the shortest child first."""
        found = [self]
        for child in sorted(self.children, key=lambda each: each.total()):
            found += child.walk()
        return found


def forest(texts: Sequence[Ids], least: int) -> list[Stretch]:
    """The texts as stretches, those shared only where at least `least` tokens (0: never) are common to two texts or more.

    In the order of the texts where nothing is shared. Every text ends at exactly one stretch; equal texts at the same one.
    """
    if least < 1:
        return [Stretch(0, len(ids), number, [number]) for number, ids in enumerate(texts)]
    order = sorted(range(len(texts)), key=lambda number: tuple(texts[number]))
    shared = [0] + [_common(texts[a], texts[b]) for a, b in itertools.pairwise(order)]  # with the one before
    return sorted(_grown(texts, order, shared, 0, least), key=lambda stretch: stretch.of)


def _grown(texts: Sequence[Ids], order: list[int], shared: list[int], depth: int, least: int) -> list[Stretch]:
    """Stretches from `depth` on for texts in lexicographic `order`, which agree in their first `depth` tokens."""
    found: list[Stretch] = []
    first = 0
    while first < len(order):
        last = first + 1
        while last < len(order) and shared[last] >= depth + least:
            last += 1
        group = order[first:last]
        end = len(texts[group[0]]) if len(group) == 1 else min(shared[first + 1 : last])
        stretch = Stretch(depth, end, min(group))
        stretch.texts = [number for number in group if len(texts[number]) == end]
        going_on = len(stretch.texts)  # texts that end here are the first of the group
        if going_on < len(group):
            stretch.children = _grown(texts, group[going_on:], [0, *shared[first + going_on + 1 : last]], end, least)
        found.append(stretch)
        first = last
    return found


def _common(one: Ids, other: Ids) -> int:
    """How many tokens two texts begin with alike."""
    most = min(len(one), len(other))
    low, high = 0, most
    if list(one[:most]) == list(other[:most]):
        return most
    while high - low > 1:  # one[:low] agrees, one[:high] does not
        middle = (low + high) // 2
        if list(one[low:middle]) == list(other[low:middle]):
            low = middle
        else:
            high = middle
    return low
