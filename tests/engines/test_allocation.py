"""Whole numbers that add up, and choices over all blocks: closed forms and brute force."""

from __future__ import annotations

import itertools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from paredown.engines.allocation import apportioned, best, best_of_all, standardised


def test_largest_remainders_by_hand():
    assert apportioned([10.6, 10.3, 9.1], [20, 20, 20], 30) == [11, 10, 9]
    assert apportioned([10.5, 10.5, 9.0], [20, 20, 20], 30) == [11, 10, 9], "of equals the first"
    assert apportioned([1.0, 1.0], [100, 100], 100) == [50, 50], "only the proportions count"
    assert apportioned([70.0, 50.0, 30.0], [100, 100, 100], 150, 8) == [72, 48, 32], (
        "150 is 18.75, so 19 eights; the first remainder gets it"
    )
    assert apportioned([90.0, 1.0], [50, 50], 60) == [50, 10], "what does not fit is passed on"
    assert apportioned([100.0, 100.0], [100, 100], 200, 8) == [100, 100], "all of it, though it is no multiple"
    assert apportioned([1e-9, 1.0], [10, 10], 5) == [1, 4], "one at least"


@settings(deadline=None, max_examples=200)
@given(st.lists(st.tuples(st.floats(0.01, 50), st.integers(1, 60)), min_size=1, max_size=8), st.floats(0.01, 1), st.integers(1, 9))
def test_parts_add_up_within_their_limits(parts, share, multiple):
    wanted, most = [w for w, _ in parts], [m for _, m in parts]
    total = int(share * sum(most))
    found = apportioned(wanted, most, total, multiple)
    assert all(1 <= count <= limit and (count % multiple == 0 or count == limit) for count, limit in zip(found, most, strict=True))
    if multiple == 1:
        assert sum(found) == max(total, len(most))


def test_standardised_scores():
    assert standardised(torch.tensor([1.0, 2.0, 3.0])).tolist() == pytest.approx([-1, 0, 1])
    assert standardised(torch.tensor([5.0, 5.0])).tolist() == [0, 0]
    assert standardised(torch.tensor([5.0])).tolist() == [0]


def test_of_equals_the_first_stays():
    assert best(torch.tensor([1.0, 3.0, 3.0, 3.0]), 2).tolist() == [1, 2]


def test_the_best_of_all_against_brute_force():
    draw = torch.Generator().manual_seed(0)
    for _ in range(20):
        scores = [torch.randn(3, generator=draw), torch.randn(4, generator=draw)]
        for count in range(2, 8):
            found = best_of_all(scores, [1.0, 1.0], count)
            ways = [
                (a, b)
                for size in range(max(1, count - 4), min(3, count - 1) + 1)
                for a in itertools.combinations(range(3), size)
                for b in itertools.combinations(range(4), count - size)
            ]
            value = max(sum(scores[0][i] for i in a) + sum(scores[1][i] for i in b) for a, b in ways)
            assert float(scores[0][found[0]].sum() + scores[1][found[1]].sum()) == pytest.approx(float(value), abs=1e-5)


def test_dear_units_come_as_near_to_the_budget_as_they_can():
    scores = [torch.tensor([9.0, 1.0]), torch.tensor([8.0, 7.0, 6.0])]
    assert [row.tolist() for row in best_of_all(scores, [10.0, 1.0], 12)] == [[0], [0, 1]]
    assert [row.tolist() for row in best_of_all(scores, [10.0, 1.0], 16)] == [[0], [0, 1, 2]], "13 is nearer to 16 than 23"
    assert [row.tolist() for row in best_of_all(scores, [10.0, 1.0], 1)] == [[0], [0]], "one of each group at least"
