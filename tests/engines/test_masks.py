"""Masks against counting and sorting in plain Python."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from paredown.core.errors import UserError
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
