"""Packed windows: every token once an epoch, batch i a pure function of (seed, i), packing never seen by the loss."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from paredown.core.errors import DataError
from paredown.engines import batches
from paredown.engines.batches import IGNORED, PackedRows, best_fit, counted, cut, pieces, share, shuffled_batch


def rows_of(sizes: list[int], length: int, seed: int = 0) -> PackedRows:
    """Documents of these sizes; ids count up, so that every position of the corpus is told apart."""
    offsets = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)
    return PackedRows(np.arange(offsets[-1]), offsets, length)


@settings(deadline=None)
@given(st.lists(st.integers(1, 32), max_size=60))
def test_best_fit_never_overfills_and_is_near_the_bound(sizes):
    sizes = np.array(sorted(sizes, reverse=True), dtype=np.int64)
    rows = best_fit(sizes, 32)
    used = np.bincount(rows, weights=sizes) if sizes.size else np.array([])
    assert (used <= 32).all()
    bound = -(-int(sizes.sum()) // 32)
    assert len(used) <= 11 / 9 * bound + 4  # the proven bound of best fit decreasing (Johnson 1974)


@settings(deadline=None)
@given(st.lists(st.integers(0, 50), min_size=1, max_size=40), st.integers(1, 12))
def test_an_epoch_trains_every_token_once_from_its_own_document(sizes, length):
    if max(sizes) < 2:
        with pytest.raises(DataError):
            rows_of(sizes, length)
        return
    rows = rows_of(sizes, length)
    starts = np.concatenate([[0], np.cumsum(sizes)])
    seen = []
    for row in range(rows.rows):
        batch = rows.fill(np.array([row]))
        for ids, target in zip(batch["ids"][0], batch["targets"][0], strict=True):
            if target != IGNORED:
                assert target == ids + 1
                seen.append(int(target))
    firsts = set(starts[:-1].tolist())
    assert sorted(seen) == [i for i in range(int(starts[-1])) if i not in firsts]
    assert rows.tokens == len(seen)


def test_positions_restart_at_each_window_and_are_left_out_where_none_does():
    rows = rows_of([5, 4, 9], 8)  # 4 and 3 positions share a row, 8 fill one
    found = {tuple(w for _, w in rows.windows(r)): rows.fill(np.array([r])) for r in range(rows.rows)}
    assert "positions" not in found[(8,)]
    assert found[(4, 3)]["positions"].tolist() == [[0, 1, 2, 3, 0, 1, 2, 3]]


def test_batches_are_pure_functions_of_seed_and_index():
    sizes = [17, 3, 40, 8, 8, 25]
    one, other = rows_of(sizes, 8), rows_of(sizes, 8)
    forward = [shuffled_batch(one, 7, i, 3) for i in range(20)]
    for i in reversed(range(20)):
        again = shuffled_batch(other, 7, i, 3)
        assert again.keys() == forward[i].keys()
        assert all((again[k] == forward[i][k]).all() for k in again)
    assert any((shuffled_batch(one, 8, i, 3)["ids"] != forward[i]["ids"]).any() for i in range(3))


def test_epochs_follow_one_another_in_new_orders():
    rows = rows_of([30, 30, 30], 8)
    order = np.concatenate([shuffled_batch(rows, 0, i, 4)["ids"][:, 0] for i in range(3 * rows.rows)])
    epochs = order[: 12 * rows.rows].reshape(12, rows.rows)
    assert all(sorted(e) == sorted(epochs[0]) for e in epochs)
    assert len({tuple(e) for e in epochs}) > 10


def test_blocks_do_not_change_what_is_trained(monkeypatch):
    sizes = list(np.random.default_rng(0).integers(0, 30, 100))
    monkeypatch.setattr(batches, "BLOCK", 7)
    rows = rows_of(sizes, 8)
    targets = np.concatenate([rows.fill(np.array([r]))["targets"].ravel() for r in range(rows.rows)])
    firsts = set(np.concatenate([[0], np.cumsum(sizes)]).tolist())
    assert sorted(t for t in targets if t != IGNORED) == [i for i in range(sum(sizes)) if i not in firsts]


def test_packing_wastes_little():
    rows = rows_of(list(np.random.default_rng(0).integers(2, 300, 5000)), 128)
    assert rows.tokens / (rows.rows * 128) > 0.99


def test_a_cut_batch_holds_exactly_the_tokens_left():
    batch = shuffled_batch(rows_of([30, 7, 7, 30], 8), 0, 0, 6)
    for limit in (1, 5, 8, 20, counted(batch)):
        found = cut(batch, limit)
        assert counted(found) == limit
        assert (found["targets"] != IGNORED).any(axis=1).all()


def test_processes_and_micro_batches_share_the_rows():
    batch = shuffled_batch(rows_of([30, 7, 7, 30], 8), 0, 0, 5)
    shares = [share(batch, rank, 2) for rank in range(2)]
    assert sum(counted(s) for s in shares) == counted(batch)
    parts = [p for s in shares for p in pieces(s, 2)]
    assert sum(counted(p) for p in parts) == counted(batch)
    assert counted(share(batch, 6, 7)) == 0
