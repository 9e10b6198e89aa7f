"""Masks against counting and sorting in plain Python."""

from __future__ import annotations

import time

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from paredown.core.errors import UserError
from paredown.engines import masks
from paredown.engines.masks import choose, clear, lowest, lowest_in_groups, lowest_in_rows, share


def by_sorting(row: list[float], count: int) -> list[bool]:
    """Equal scores go by position."""
    chosen = sorted(range(len(row)), key=lambda i: (row[i], i))[:count]
    return [i in chosen for i in range(len(row))]


@settings(max_examples=200, deadline=None)
@given(st.lists(st.integers(0, 5), min_size=1, max_size=24), st.integers(0, 24))
def test_rows_and_layers_equal_sorting_with_ties(values, count):
    count = min(count, len(values))
    scores = torch.tensor([values], dtype=torch.float32)
    assert lowest_in_rows(scores, count).tolist() == [by_sorting(values, count)]
    assert lowest(scores, count).flatten().tolist() == by_sorting(values, count)


@settings(max_examples=60, deadline=None)
@given(
    st.integers(0, 2**32 - 1),
    st.sampled_from([0.05, 0.1, 0.5, 0.95, 1.0]),
    st.sampled_from([0.0, -2.5, 1e30, -1e30, float("-inf"), 1e-42]),
    st.floats(0, 1),
    st.sampled_from([torch.float32, torch.bfloat16, torch.float64]),
)
def test_long_runs_of_the_lowest_score_change_nothing(seed, share_equal, least, place, dtype):
    """Rows in which the lowest score stands many times, of another count in each row, with other equal scores above it."""
    draw = torch.Generator().manual_seed(seed)
    above = max(least, -1e35) + torch.randint(1, 200, (3, 700), generator=draw).double() * max(abs(max(least, -1e35)), 1e-40) / 50
    equal = torch.rand(3, 700, generator=draw) < share_equal * torch.tensor([[1.0], [0.7], [0.0]])
    scores = torch.where(equal, torch.tensor(least, dtype=torch.float64), above).to(dtype)
    count = round(place * 700)
    with pytest.MonkeyPatch.context() as patch:
        found = lowest_in_rows(scores, count), lowest(scores, 3 * count)
        patch.setattr(masks, "LONG", 10**9)
        assert torch.equal(lowest_in_rows(scores, count), found[0])
        assert torch.equal(lowest(scores, 3 * count), found[1])
    assert found[0].tolist() == [by_sorting(row, count) for row in scores.tolist()]
    assert found[1].flatten().tolist() == by_sorting(scores.flatten().tolist(), 3 * count)


def test_a_sparse_matrix_is_selected_from_about_as_fast_as_a_dense_one():
    """Without standing in for the zeros, selecting took twenty times as long."""
    dense = torch.rand(2000, 2000, generator=torch.Generator().manual_seed(0))
    sparse = torch.where(torch.rand(2000, 2000, generator=torch.Generator().manual_seed(1)) < 0.7, 0.0, dense)
    took = []
    for scores in (dense, sparse):
        begun = [time.thread_time()]
        for _ in range(3):
            lowest(scores, 3_000_000)
            begun.append(time.thread_time())
        took.append(min(np.diff(begun)))
    assert took[1] < 8 * took[0]


def test_groups_equal_sorting_in_each_group():
    scores = torch.randint(0, 4, (6, 16), generator=torch.Generator().manual_seed(0)).float()
    for taken, of in ((2, 4), (4, 8)):
        mask = lowest_in_groups(scores, taken, of)
        for row in range(6):
            for group in range(0, 16, of):
                assert mask[row, group : group + of].tolist() == by_sorting(scores[row, group : group + of].tolist(), taken)


def test_counts_are_exact():
    scores = torch.rand(7, 30, generator=torch.Generator().manual_seed(1))
    assert int(choose(scores, 0.7).sum()) == 147
    assert choose(scores, 0.7, compare="row").sum(dim=1).tolist() == [21] * 7
    assert share(10, 0.7) == 7
    assert share(10, 0.75) == 7
    assert not choose(scores, 0.0).any()


def test_a_row_that_no_group_fits_is_a_clear_error():
    with pytest.raises(UserError, match="2:4 needs rows of a multiple of 4"):
        choose(torch.rand(2, 6), 0.5, "2:4")


def test_clearing_leaves_plain_zeros_and_nothing_else_changed():
    weight = torch.tensor([[-1.5, 2.0, -0.0, -3.0]])
    clear(weight, torch.tensor([[True, False, False, True]]))
    assert weight.tolist() == [[0.0, 2.0, 0.0, 0.0]]
    assert not torch.signbit(weight).any()  # -0.0 and 0.0 are other bytes in the file


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.float16])
def test_other_number_formats(dtype):
    scores = torch.rand(5, 33, generator=torch.Generator().manual_seed(2)).to(dtype)
    expected = [by_sorting(row, 12) for row in scores.tolist()]
    assert lowest_in_rows(scores, 12).tolist() == expected
