"""Orders, letters, votes and frontiers against enumeration."""

from __future__ import annotations

import itertools
import math
from collections import Counter
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from scripted import scripted

from paredown.artifacts.examples import Examples
from paredown.core.context import Context
from paredown.core.errors import DataError
from paredown.engines.choosing import (
    Item,
    Meter,
    balanced,
    items,
    letter_of,
    majority,
    on_frontier,
    option_of,
    read,
    same,
    shown,
    shuffled_orders,
    swapped,
)
from paredown.engines.generator import Question, Sampling, opened

ITEM = Item("1", "what?", ("red", "green", "blue", "grey"), 2)


def test_letters_come_back_from_every_order() -> None:
    for order in itertools.permutations(range(4)):
        for option in range(4):
            letter = letter_of(option, order)
            assert option_of(letter, order) == option
            assert f"{letter}. {ITEM.options[option]}" in shown(ITEM, order).split("\n")
    assert option_of("E", same(ITEM)) is None


def test_an_answerer_that_always_says_a_votes_evenly() -> None:
    votes = Counter(option_of("A", order) for order in itertools.permutations(range(4)))
    assert set(votes.values()) == {6}


def test_orders_differ_while_there_are_any() -> None:
    rng = np.random.default_rng(0)
    assert len(set(shuffled_orders(ITEM, 24, rng))) == 24
    two = Item("2", "?", ("a", "b"), 0)
    drawn = shuffled_orders(two, 5, rng)
    assert len(drawn) == 5
    assert set(drawn[:2]) == set(drawn[2:4]) == {(0, 1), (1, 0)}


@pytest.mark.parametrize(
    ("text", "choice"),
    [("so it is [B] or [ C ]", 2), ("Answer: [D]", 3), ("B. because", 1), ("Answer: A", 0), (" C", 2), ("no idea", None), ("[E]", None), ("", None), ("Because of B", None)],
)  # fmt: skip
def test_answers_are_read(text: str, choice: int | None) -> None:
    assert read(text, same(ITEM)) == choice
    turned = (3, 2, 1, 0)
    assert read(text, turned) == (None if choice is None else 3 - choice)


@pytest.mark.parametrize("p", [0.25, 0.4, 0.7])
@pytest.mark.parametrize("votes", [1, 3, 5])
def test_the_vote_of_an_independent_answerer_is_the_multinomial_one(votes: int, p: float) -> None:
    """p on the right option and the rest on three equal ones. Of options with equally many votes any may have been first, so that each
    has an equal part of the tie; the vote itself is taken of every sequence of answers."""
    wrong = (1 - p) / 3
    exact = 0.0
    for counts in itertools.product(range(votes + 1), repeat=4):
        if sum(counts) == votes and counts[0] == max(counts):
            ways = math.factorial(votes) / math.prod(math.factorial(count) for count in counts)
            exact += ways * p ** counts[0] * wrong ** (votes - counts[0]) / counts.count(counts[0])
    found = sum(
        math.prod(wrong if option else p for option in said) for said in itertools.product(range(4), repeat=votes) if majority(said) == 0
    )
    assert found == pytest.approx(exact, rel=1e-12)
    if votes == 1 or p == 0.25:
        assert exact == pytest.approx(p)


def test_what_cannot_be_read_does_not_vote() -> None:
    assert majority([None, 2, None]) == 2
    assert majority([3, 1, 1, 3]) == 3
    assert majority([None]) is None


def test_places_are_balanced_and_texts_unchanged() -> None:
    for count in range(1, 30):
        places = Counter(balanced(count, 4, np.random.default_rng(count)))
        assert sum(places.values()) == count
        assert all(count // 4 <= places[place] <= -(-count // 4) for place in range(4))
    for place in range(4):
        order = swapped(ITEM, place)
        assert order[place] == ITEM.gold
        assert sorted(order) == [0, 1, 2, 3]
        assert sum(a != b for a, b in enumerate(order)) in (0, 2)


def test_the_frontier_holds_what_nothing_beats() -> None:
    assert on_frontier(np.array([1, 2, 3]), np.array([0.5, 0.4, 0.7])).tolist() == [True, False, True]
    rng = np.random.default_rng(0)
    costs, qualities = rng.integers(0, 8, (6, 40)), rng.integers(0, 8, (6, 40))
    found = on_frontier(costs, qualities)
    for row in range(6):
        points = list(zip(costs[row].tolist(), qualities[row].tolist(), strict=True))
        for number, p in enumerate(points):
            assert found[row, number] == (not any(q[0] <= p[0] and q[1] >= p[1] and q != p for q in points))


def test_what_items_took_adds_up_to_what_was_used(tmp_path: Path) -> None:
    """Each answer once, for the item that asked first; what is asked for all is shared."""
    some = [Item(str(n), f"q{n}", ("a", "b"), 0) for n in range(3)]
    with opened(scripted(lambda q, s: "one two three"), Context(tmp_path / "out", tmp_path)) as generator:
        meter = Meter(generator, some)
        meter.ask([Question("a b c d e f")], Sampling())
        assert meter.spent.tolist() == [[2, 1, 0]] * 3
        meter.ask([Question("x y"), Question("z")], Sampling(), some[1:])
        meter.ask([Question("x y"), Question("x y"), Question("u")], Sampling(), some)
        assert meter.spent.tolist() == [[2, 1, 0], [4, 4, 0], [2 + 1 + 1, 1 + 3 + 3, 0]]
        assert meter.spent.sum(axis=0).tolist() == [generator.usage.prompt_tokens, generator.usage.completion_tokens, 0]
        meter.ask([Question("x y")], Sampling(temperature=1), some[:1])
        assert meter.spent[0].tolist() == [4, 4, 0], "another draw is another answer"


def test_bad_items_are_named(tmp_path: Path) -> None:
    one = Examples.write(tmp_path / "a", pl.DataFrame([{"question": "q", "options": ["x"], "answer": "x"}]))
    with pytest.raises(DataError, match="1 options"):
        items(one, "question", "options", "answer")


def test_weighted_votes_are_summed_by_option() -> None:
    rng = np.random.default_rng(3)
    for _ in range(300):
        votes = [None if vote == 4 else vote for vote in rng.integers(0, 5, 7).tolist()]
        weights = rng.choice([0.5, 1.0, 2.0], 7).tolist()
        totals = {option: sum(w for v, w in zip(votes, weights, strict=True) if v == option) for option in set(votes) - {None}}
        best = [option for option in totals if totals[option] == max(totals.values())]
        assert majority(votes, weights) == min(best, key=votes.index, default=None)
    assert majority([1, 0, 0], [2.0, 1.0, 1.0]) == 1
    assert majority([1, 0, 0], [0.5, 1.0, 1.0]) == 0
