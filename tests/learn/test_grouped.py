"""Batches of one group: every row once an epoch of its group, any batch can be asked for, large groups come more often."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from paredown.core.errors import UserError
from paredown.engines.parts import Draw
from paredown.learn.samplers.grouped import Grouped, group_batch


class Rows:
    """Rows of three groups that lie mixed among each other."""

    def __init__(self, sizes: tuple[int, ...]) -> None:
        self.groups = np.random.default_rng(0).permutation(np.repeat(np.arange(len(sizes)), sizes))
        self.rows = len(self.groups)

    def column(self, name: str) -> np.ndarray:
        if name != "table":
            raise UserError(f"rows have no {name}")
        return self.groups


def test_a_batch_is_of_one_group_and_an_epoch_of_a_group_has_each_row_once():
    rows = Rows((24, 40, 5))
    batches = [Grouped().choose(rows, Draw(7, index, 8)) for index in range(9 * 5)]
    assert all(len(set(rows.groups[batch])) == 1 for batch in batches)
    for group, size in enumerate((24, 40, 5)):
        own = np.concatenate([batch for batch in batches if rows.groups[batch[0]] == group])
        assert len(own) >= 5 * size
        for epoch in range(5):
            assert sorted(own[epoch * size : (epoch + 1) * size]) == np.flatnonzero(rows.groups == group).tolist()


def test_groups_come_in_proportion_to_their_rows_in_an_order_of_each_round():
    rows = Rows((24, 40, 5))
    orders = []
    for number in range(20):
        found = [int(rows.groups[Grouped().choose(rows, Draw(0, number * 9 + place, 8))[0]]) for place in range(9)]
        assert Counter(found) == {0: 3, 1: 5, 2: 1}
        orders.append(tuple(found))
    assert len(set(orders)) > 5


def test_a_small_group_gives_all_of_its_rows_and_no_more():
    rows = Rows((24, 5))
    small = [batch for index in range(4) if rows.groups[(batch := Grouped().choose(rows, Draw(0, index, 8)))[0]] == 1]
    assert [sorted(batch) for batch in small] == [np.flatnonzero(rows.groups == 1).tolist()]


def test_any_batch_can_be_asked_for_and_depends_on_the_seed():
    rows = Rows((24, 40, 5))
    forward = [Grouped().choose(rows, Draw(3, index, 8)).tolist() for index in range(20)]
    assert [Grouped().choose(rows, Draw(3, index, 8)).tolist() for index in reversed(range(20))] == forward[::-1]
    assert [Grouped().choose(rows, Draw(4, index, 8)).tolist() for index in range(20)] != forward


def test_one_group_is_an_order_of_all_rows():
    assert sorted(np.concatenate([group_batch([np.arange(12)], 0, index, 4) for index in range(3)])) == list(range(12))


def test_a_column_that_does_not_exist_is_named():
    with pytest.raises(UserError, match="no school"):
        Grouped(by="school").choose(Rows((3, 3)), Draw(0, 0, 2))
