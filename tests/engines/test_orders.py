"""Orders by arithmetic: every row once a round, any place can be asked for, memory does not grow."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from paredown.engines import orders
from paredown.engines.orders import apportioned, in_rounds, permuted, permuted_each


@pytest.mark.parametrize("size", [1, 2, 3, 7, 64, 65, 1000, 4097])
def test_a_permutation_reaches_every_place_once(size):
    found = permuted(np.arange(size), size, seed=5)
    assert sorted(found.tolist()) == list(range(size))


def test_permutations_depend_on_the_seed_only():
    assert permuted(np.arange(500), 500, 1).tolist() == permuted(np.arange(500), 500, 1).tolist()
    assert permuted(np.arange(500), 500, 1).tolist() != permuted(np.arange(500), 500, 2).tolist()
    one_by_one = [int(permuted(np.array([i]), 500, 1)[0]) for i in range(500)]
    assert one_by_one == permuted(np.arange(500), 500, 1).tolist()


def test_a_permutation_is_well_mixed():
    """Neighbours come apart: the mean distance of random places is a third of the size."""
    found = permuted(np.arange(10_000), 10_000, 3)
    assert abs(np.abs(np.diff(found)).mean() / 10_000 - 1 / 3) < 0.02


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(1, 500), st.integers(0, 5), st.floats(0, 1, exclude_max=True)), max_size=40))
def test_permutations_of_several_sizes_at_once_are_those_one_by_one(asked):
    index = np.array([int(place * size) for size, _, place in asked], dtype=np.int64)
    sizes, seeds = np.array([a[0] for a in asked], dtype=np.int64), np.array([a[1] for a in asked], dtype=np.int64)
    one_by_one = [int(permuted(np.array([i]), int(size), int(seed))[0]) for i, size, seed in zip(index, sizes, seeds, strict=True)]
    assert permuted_each(index, sizes, seeds).tolist() == one_by_one


@settings(deadline=None)
@given(st.integers(1, 60), st.floats(0, 1), st.integers(0, 99), st.integers(1, 50))
def test_a_round_draws_distinct_rows_and_rounds_differ(rows, share, seed, size):
    count = max(1, round(share * rows))
    whole = in_rounds(rows, count, seed, 0, 6 * count).reshape(6, count)
    assert all(len(set(row)) == count and set(row) <= set(range(rows)) for row in whole.tolist())
    pieces = [in_rounds(rows, count, seed, begin, min(begin + size, 6 * count)) for begin in range(0, 6 * count, size)]
    assert np.concatenate(pieces).tolist() == whole.ravel().tolist()


@settings(deadline=None)
@given(st.lists(st.integers(0, 1000), min_size=1, max_size=30), st.integers(0, 500))
def test_parts_sum_to_the_total_and_are_within_one_of_their_share(sizes, total):
    whole = sum(sizes)
    total = min(total, whole)
    parts = apportioned(np.array(sizes), total)
    assert parts.sum() == total
    if whole:
        assert (np.abs(parts - np.array(sizes) * total / whole) < 1).all()
        assert (parts <= np.array(sizes)).all()


def test_equal_remainders_go_to_the_earlier_parts():
    assert apportioned(np.array([3, 3, 3]), 4).tolist() == [2, 1, 1]
    assert apportioned(np.array([70, 20, 10]), 5).tolist() == [4, 1, 0]  # shares 3.5, 1.0, 0.5


@settings(deadline=None)
@given(st.integers(1, 90), st.integers(0, 3), st.integers(0, 40), st.integers(0, 200))
def test_a_remembered_order_is_the_one_by_arithmetic(rows, seed, index, size):
    """Place p of the endless sequence is place p % rows of epoch p // rows, whether epochs are kept or not."""
    place = np.arange(index * size, (index + 1) * size)
    one_by_one = [int(permuted(np.array([p % rows]), rows, orders.round_seed(seed, p // rows))[0]) for p in place.tolist()]
    found = orders.shuffled(rows, seed, index, size)
    assert found.tolist() == one_by_one
    found[:] = -1  # what is handed out is no view of what is kept
    assert orders.shuffled(rows, seed, index, size).tolist() == one_by_one
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(orders, "REMEMBERED", rows - 1)
        patch.setattr(orders, "_order", None)
        assert orders.shuffled(rows, seed, index, size).tolist() == one_by_one


def test_remembered_orders_stay_within_eight_megabytes():
    orders._order.cache_clear()
    for seed in range(6):
        assert orders.shuffled(orders.REMEMBERED, seed, 3, 64).size == 64
        assert orders.shuffled(orders.REMEMBERED + 1, seed, 3, 64).size == 64
    kept = orders._order.cache_info()
    assert kept.currsize == kept.maxsize
    assert kept.maxsize * orders._order(orders.REMEMBERED, orders.REMEMBERED, 5).nbytes <= 8 * 2**20
    orders._order.cache_clear()
