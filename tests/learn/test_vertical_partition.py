"""Contrast between parts of columns: the cover of a partition, the loss against a brute force, and training with it."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny_tables
import torch
from hypothesis import given
from hypothesis import strategies as st

from paredown.artifacts.examples import Examples
from paredown.core.catalog import build
from paredown.core.context import Context, running
from paredown.core.errors import UserError
from paredown.engines import telemetry
from paredown.engines.batches import randomness
from paredown.engines.table_rows import READS
from paredown.learn.models.mlp import Mlp
from paredown.learn.models.transtab import Transtab
from paredown.learn.objectives.vertical_partition import PartitionRows, VerticalPartition, contrastive_loss, partition
from paredown.learn.train import Train


@given(st.integers(2, 30), st.integers(2, 6), st.floats(0, 0.99))
def test_groups_cover_all_columns_and_neighbours_share_the_overlap(columns, groups, overlap):
    """The last two share it twice: the one takes from the front of the other, the other from the back of the one."""
    if columns < groups:
        return
    parts = partition(list(range(columns)), groups, overlap)
    assert set().union(*parts) == set(range(columns))
    plain = [len(part) for part in np.array_split(np.arange(columns), groups)]
    wanted = math.ceil(overlap * plain[0])
    for at in range(groups - 1):
        shared = set(parts[at]) & set(parts[at + 1])
        from_next = min(wanted, plain[at + 1])
        assert set(parts[at + 1][:from_next]) <= shared
        if at + 1 < groups - 1:
            assert len(shared) == from_next
        else:
            assert len(shared) == from_next + min(wanted, plain[at])
    assert all(len(part) == len(set(part)) for part in parts), "no column twice in a group"


def test_a_partition_is_the_references():
    assert partition(list("abcdefg"), 3, 0.5) == [["a", "b", "c", "d", "e"], ["d", "e", "f", "g"], ["f", "g", "d", "e"]]
    assert partition([0, 1, 2, 3], 2, 0) == [[0, 1], [2, 3]]


def brute(views: torch.Tensor, tables: list[int], labels: list[int] | None, temperature: float, base: float) -> float:
    """View by view and pair by pair, as the formula says."""
    rows, count, _ = views.shape
    places = [(row, view) for row in range(rows) for view in range(count)]
    losses = []
    for a in places:
        rivals = [b for b in places if b != a and tables[b[0]] == tables[a[0]]]
        scores = {b: math.exp(float(views[a] @ views[b]) / temperature) for b in rivals}
        alike = [b for b in rivals if (b[0] == a[0] if labels is None else labels[b[0]] == labels[a[0]])]
        losses.append(-sum(math.log(scores[p] / sum(scores.values())) for p in alike) / len(alike))
    return temperature / base * sum(losses) / len(losses)


@pytest.mark.parametrize("labels", [None, [0, 1, 0, 2, 1]])
@pytest.mark.parametrize("tables", [[0] * 5, [0, 1, 1, 0, 1]])
def test_the_loss_is_its_formula(labels, tables):
    views = torch.randn(5, 3, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    given_labels = None if labels is None else torch.tensor(labels)
    found = contrastive_loss(views, torch.tensor(tables), given_labels, 2.0, 5.0)
    assert float(found) == pytest.approx(brute(views, tables, labels, 2.0, 5.0), rel=1e-12)


def test_with_labels_all_different_it_is_the_loss_without_labels():
    views = torch.randn(6, 2, 5)
    tables = torch.zeros(6, dtype=torch.long)
    assert torch.equal(contrastive_loss(views, tables, torch.arange(6), 10, 10), contrastive_loss(views, tables, None, 10, 10))


def test_two_views_of_one_row_leave_nothing_to_tell_apart():
    assert float(contrastive_loss(torch.randn(1, 2, 5), torch.zeros(1, dtype=torch.long), None, 10, 10)) == 0
    apart = contrastive_loss(torch.randn(3, 2, 5), torch.arange(3), None, 10, 10)
    assert float(apart) == 0, "rows of other tables are no rivals"


def test_views_that_are_all_alike_have_the_loss_of_chance():
    views = torch.ones(8, 2, 3)
    assert float(contrastive_loss(views, torch.zeros(8, dtype=torch.long), None, 10, 10)) == pytest.approx(math.log(2 * 8 - 1))


def tables(folder: Path) -> Examples:
    [data] = tiny_tables.worded(folder, tiny_tables.mixed(folder / "table", rows=40))
    return data


def test_views_are_cells_of_their_columns_only_and_depend_on_the_generator_only(tmp_path):
    source: Any = VerticalPartition(groups=2, overlap=0).rows(tables(tmp_path), 0)
    chosen = np.arange(40)
    first, again, other = (source.fill(chosen, randomness(seed, 3)) for seed in (0, 0, 1))
    assert all(np.array_equal(first[name], again[name]) for name in first)
    assert any(first[name].shape != other[name].shape or not np.array_equal(first[name], other[name]) for name in READS)
    assert first["numbers"].shape[:2] == (40, 2)
    whole = source.source.bags(chosen)
    words = (first["ids"] != 0).sum(axis=(1, 2))
    assert np.array_equal(words, (whole["ids"] != 0).sum(axis=1)), "without an overlap each cell is in one view"
    assert np.array_equal((first["given"] == 2).sum(axis=(1, 2)), (whole["given"] == 2).sum(axis=1))
    assert np.array_equal(first["label"], chosen % 2)


def test_without_shuffling_the_groups_are_always_the_same(tmp_path):
    source: Any = VerticalPartition(shuffle=False).rows(tables(tmp_path), 0)
    first, other = (source.fill(np.arange(4), randomness(seed, 0)) for seed in (0, 1))
    assert all(np.array_equal(first[name], other[name]) for name in READS)


def train(data: Examples, folder: Path, steps: int = 6, shape: Any = None, **knobs: Any) -> Any:
    step = Context(folder / "out", folder / "scratch", seed=0)
    (folder / "scratch").mkdir(parents=True, exist_ok=True)
    train = Train(
        budget={"steps": steps}, objective=VerticalPartition(**knobs), batch_size=16, learning_rate=3e-3, device="cpu", precision="fp32",
        sampler=build("learn.samplers.grouped"), evaluate_every=0,
    )  # fmt: skip
    with running(step):
        return train(shape or Transtab(**tiny_tables.SMALL, classes=0), examples=data, held_out=data)


class Killed(Exception):
    pass


def test_a_killed_training_draws_the_same_views_when_it_goes_on(tmp_path, monkeypatch):
    first, second = tiny_tables.worded(
        tmp_path, tiny_tables.mixed(tmp_path / "a", rows=40), tiny_tables.numbers(tmp_path / "b", ("x", "y", "z"), rows=30)
    )
    data = tiny_tables.together(tmp_path / "both", first, second)
    whole = train(data, tmp_path / "whole")
    filled, batches = PartitionRows.fill, 0

    def fill(self: PartitionRows, chosen: Any, generator: Any) -> dict[str, Any]:
        nonlocal batches
        batches += 1
        if batches in (8, 16):  # five of the evaluation are filled before, each time
            raise Killed
        return filled(self, chosen, generator)

    monkeypatch.setattr(PartitionRows, "fill", fill)
    monkeypatch.setattr(telemetry.Due, "due", lambda self: True)
    for _ in range(2):
        with pytest.raises(Killed):
            train(data, tmp_path / "killed")
    again = train(data, tmp_path / "killed")
    assert batches == 16 + 5 + 2, "six steps: two before the first kill, two before the second, two after it"
    assert (again.path / "model.safetensors").read_bytes() == (whole.path / "model.safetensors").read_bytes()


@pytest.mark.parametrize("supervised", [False, True])
def test_training_lowers_the_loss_below_that_of_chance(supervised, tmp_path):
    """Columns that say the same twice: a view of one names the view of the other."""
    draw = np.random.default_rng(0)
    import polars as pl

    from paredown.artifacts.tables import Column, Table, write_table

    hidden = draw.standard_normal((60, 3))
    cells = pl.DataFrame({f"{time} {trait}": hidden[:, n] for time in ("a", "b") for n, trait in enumerate(("x", "y", "z"))})
    table = Table("t", tuple(Column(name, "num") for name in cells.columns))
    plain = write_table(tmp_path / "t", cells, pl.Series((hidden[:, 0] > 0).astype(np.int64)), (table,))
    [data] = tiny_tables.worded(tmp_path, plain)
    losses = [
        train(data, tmp_path / str(steps), steps, supervised=supervised, shuffle=False).training["held_out_loss"] for steps in (1, 150)
    ]
    assert losses[1] < 0.9 * losses[0]


def test_models_and_data_that_do_not_fit_are_named(tmp_path):
    data = tables(tmp_path)
    with pytest.raises(UserError, match="5 columns: too few for 6 groups") as caught:
        VerticalPartition(groups=6).rows(data, 0)
    assert caught.value.todo == "lower groups to 5"
    with pytest.raises(UserError, match="projects rows"):
        train(data, tmp_path / "a", shape=Transtab(**tiny_tables.SMALL, classes=2))
    with pytest.raises(UserError, match="projects rows"):
        train(data, tmp_path / "b", shape=Mlp())
    plain = Examples.write(tmp_path / "plain", data.frame().select("label"))
    with pytest.raises(UserError, match="learns from tables"):
        VerticalPartition().rows(plain, 0)
    assert isinstance(VerticalPartition().rows(data, 0), PartitionRows)
