"""Packing: every text once, no row too full, few rows; against the integer programme and against trying everything."""

from __future__ import annotations

import itertools
import math
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as some

from paredown.engines import bins


def check(rows, sizes, capacity):
    assert sorted(itertools.chain.from_iterable(rows)) == list(range(len(sizes)))
    assert all(sum(sizes[text] for text in row) <= capacity for row in rows)
    assert len(rows) >= math.ceil(sum(sizes) / capacity)


@settings(deadline=None)  # the first call compiles
@given(some.lists(some.integers(0, 40), min_size=1, max_size=60), some.integers(0, 30))
def test_every_text_once_and_no_row_too_full(sizes, more):
    capacity = max(1, max(sizes)) + more
    check(bins.fullest_first(sizes, capacity), sizes, capacity)


def least_rows(sizes, capacity):
    """By trying every place of every text; rows are alike, so that only one empty one is tried."""

    def place(left, rooms, best):
        if len(rooms) >= best:
            return best
        if not left:
            return len(rooms)
        for row in {room: at for at, room in enumerate(rooms) if room >= left[0]}.values():
            best = place(left[1:], [*rooms[:row], rooms[row] - left[0], *rooms[row + 1 :]], best)
        return place(left[1:], [*rooms, capacity - left[0]], best)

    return place(sorted(sizes, reverse=True), [], len(sizes) + 1)


def test_the_integer_programme_finds_the_least_number_of_rows():
    generator = np.random.default_rng(3)
    better = 0
    for _ in range(25):
        sizes = generator.integers(1, 21, 9).tolist()
        rows = bins.fewest(sizes, 20)
        check(rows, sizes, 20)
        assert len(rows) == least_rows(sizes, 20)
    for sizes, capacity, least in (([6, 5, 4, 3, 3, 3], 12, 2), ([4, 4, 5, 5, 5, 7], 15, 2)):
        assert len(bins.fewest(sizes, capacity)) == least_rows(sizes, capacity) == least
        better += len(bins.fullest_first(sizes, capacity)) > least
    assert better  # else the greedy rule alone would pass


def test_the_greedy_rule_keeps_its_bound_on_200_sets():
    generator = np.random.default_rng(0)
    for _ in range(200):
        sizes = np.clip(generator.lognormal(2.5, 0.7, int(generator.integers(2, 13))), 1, 40).astype(int).tolist()
        capacity = max(sizes)
        greedy, best = bins.fullest_first(sizes, capacity), bins.fewest(sizes, capacity)
        check(greedy, sizes, capacity)
        check(best, sizes, capacity)
        assert len(best) <= len(greedy) <= 11 / 9 * len(best) + 1


def test_texts_of_one_length_and_texts_that_are_too_long():
    assert bins.fullest_first([7] * 5, 7) == bins.fewest([7] * 5, 7) == [[0], [1], [2], [3], [4]]
    rows = bins.fullest_first([9, 2, 3], 5)
    assert sorted(map(sorted, rows)) == [[0], [1, 2]]
    assert sorted(map(sorted, bins.fewest([9, 2, 3], 5))) == [[0], [1, 2]]


@settings(deadline=None)  # the first call compiles
@given(some.lists(some.integers(0, 60), max_size=50), some.integers(1, 200), some.booleans())
def test_passes_hold_every_text_and_keep_to_their_tokens(sizes, tokens, exactly_one):
    passes = bins.by_length(sizes, tokens) if exactly_one else bins.prepacked(sizes, tokens)
    assert sorted(text for each in passes for row in each for text in row) == list(range(len(sizes)))
    for each in passes:
        width = max(sum(sizes[text] for text in row) for row in each)
        assert len(each) == 1 or len(each) * width <= tokens
        assert width <= max(sizes)  # rows are not longer than the longest text


def test_nothing_is_packed_where_it_would_not_pay():
    same = [50] * 20
    assert bins.prepacked(same, 200) == bins.by_length(same, 200)
    assert bins.prepacked([100, 100, 100, 100, 99, 1], 400, gain=1.3) == bins.by_length([100, 100, 100, 100, 99, 1], 400)
    packed = bins.prepacked([100, 100, 100, 100, 99, 1], 400, gain=1.1)
    assert sum(len(each) for each in packed) == 5


def test_a_spare_slot_for_every_text_needs_no_fewer_rows():
    generator = np.random.default_rng(1)
    lost = 0
    for _ in range(100):
        sizes = generator.integers(0, 12, 30).tolist()
        own, published = (sum(len(each) for each in bins.prepacked(sizes, 100, gain=1, spare=spare)) for spare in (0, 1))
        assert own <= published
        lost += own < published
    assert lost


def test_slots_count_what_rows_are_padded_to():
    assert bins.slots([[[0, 1], [2]], [[3]]], [2, 3, 4, 1]) == 2 * 5 + 1
    assert bins.slots([], []) == 0


@pytest.mark.parametrize("module", ["bins", "prefixes", "parts"])
def test_no_torch_is_needed(module):
    code = f"import sys, paredown.engines.{module}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
