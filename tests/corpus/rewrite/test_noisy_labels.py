"""Label noise: exactly the share is wrong, each wrong label as likely."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from paredown.artifacts.examples import Examples
from paredown.core.errors import UserError
from paredown.corpus.rewrite.noisy_labels import NoisyLabels, with_noise


@settings(deadline=None)
@given(st.integers(2, 5), st.integers(1, 60), st.floats(0, 1), st.integers(0, 9))
def test_exactly_the_share_is_wrong(classes: int, rows: int, share: float, seed: int) -> None:
    labels = 3 * (np.arange(max(rows, classes)) % classes)
    noisy, changed = with_noise(labels, share, np.random.default_rng(seed))
    assert np.flatnonzero(noisy != labels).tolist() == changed.tolist()
    assert len(changed) == round(share * len(labels))
    assert set(noisy.tolist()) <= set(labels.tolist())


def test_every_other_label_is_as_likely() -> None:
    labels = np.repeat(np.arange(4), 3000)
    noisy, _ = with_noise(labels, 0.5, np.random.default_rng(0))
    counts = np.bincount(noisy[(labels == 1) & (noisy != labels)], minlength=4)
    assert counts[1] == 0
    assert np.abs(counts[[0, 2, 3]] / counts.sum() - 1 / 3).max() < 4 * np.sqrt(2 / 9 / counts.sum())


def test_all_else_stays(tmp_path: Path) -> None:
    frame = pl.DataFrame({"features": pl.Series(np.eye(6), dtype=pl.Array(pl.Float64, 6)), "label": [0, 1, 2, 0, 1, 2]})
    found = NoisyLabels(share=0.5)(Examples.write(tmp_path / "e", frame)).frame()
    assert found.drop("label").equals(frame.drop("label"))
    assert found["label"].dtype == frame["label"].dtype
    assert (found["label"] != frame["label"]).sum() == 3


def test_one_label_cannot_be_wrong(tmp_path: Path) -> None:
    data = Examples.write(tmp_path / "e", pl.DataFrame({"features": pl.Series(np.eye(2), dtype=pl.Array(pl.Float64, 2)), "label": [1, 1]}))
    with pytest.raises(UserError, match="the same label"):
        NoisyLabels()(data)
    assert NoisyLabels(share=0)(data).frame().equals(data.frame())
