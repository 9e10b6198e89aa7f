"""Generated tables: the distribution that was asked for, and the same columns whatever is told in words or as flags."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from paredown.artifacts.example_split import ExampleSplit
from paredown.artifacts.tables import cells_of, tables_of
from paredown.core.context import Context, running
from paredown.corpus.read.traits import NAMES, Traits, outcomes


def draw(folder: Path, seed: int = 0, **knobs: Any) -> ExampleSplit:
    with running(Context(folder / "out", folder / "scratch", seed=seed)):
        return Traits(**knobs)()


def test_labels_follow_the_sigmoid():
    traits = np.array([[0.0, 0.0], [1.0, 2.0], [1.0, 2.0]])
    chance = 1 / (1 + np.exp(-(1 * 0.5 - 2 * 0.25)))
    assert chance == 0.5
    assert outcomes(traits, np.array([0.5, -0.25]), np.array([0.49, 0.49, 0.51])).tolist() == [1, 1, 0]


def test_columns_are_traits_with_noise_time_by_time(tmp_path):
    made = draw(tmp_path, rows=20_000, held_out=2)
    cells = cells_of(made.train)
    assert cells.columns == [f"{time} {name}" for time in ("early", "late", "home") for name in NAMES]
    values = cells.to_numpy()
    assert np.abs(values.mean(axis=0)).max() < 0.05
    assert np.abs(values.std(axis=0) / np.sqrt(1.25) - 1).max() < 0.03
    correlation = np.corrcoef(values.T)
    assert correlation[0, 12] == pytest.approx(1 / 1.25, abs=0.02), "one trait at two times"
    assert abs(correlation[0, 1]) < 0.03, "two traits"


def test_effects_are_of_one_size_and_half_of_them_negative(tmp_path):
    made = draw(tmp_path, rows=20_000, held_out=2, noise=0, times=("once",))
    fitted = LogisticRegression(C=1e6).fit(cells_of(made.train).to_numpy(), made.train.frame()["label"])
    assert np.abs(np.abs(fitted.coef_[0]) - 0.8).max() < 0.1
    assert (fitted.coef_[0] > 0).sum() == 6
    other = draw(tmp_path / "other", seed=1, rows=20_000, held_out=2, noise=0, times=("once",))
    again = LogisticRegression(C=1e6).fit(cells_of(other.train).to_numpy(), other.train.frame()["label"])
    assert not np.array_equal(fitted.coef_[0] > 0, again.coef_[0] > 0)


def test_words_and_flags_tell_the_same_values(tmp_path):
    numbers, told = (cells_of(draw(tmp_path / str(n), words=n, flags=n, rows=3000).train) for n in (0, 4))
    for name in NAMES[:4]:
        levels = told[f"late {name}"]
        shares = dict(levels.value_counts(normalize=True).rows())
        assert shares == pytest.approx(dict.fromkeys(("low", "mid", "high"), 1 / 3), abs=0.03)
        of = numbers[f"late {name}"]
        assert of.filter(levels == "low").max() < of.filter(levels == "mid").min() < of.filter(levels == "high").min()
    for name in NAMES[4:8]:
        assert (told[f"home {name}"] == (numbers[f"home {name}"] > 0)).all()
    for name in NAMES[8:]:
        assert (told[f"home {name}"] == numbers[f"home {name}"]).all()


def test_scales_are_those_of_the_rows_to_learn_from(tmp_path):
    made = draw(tmp_path, rows=50)
    assert made.held_out is not None
    [table] = tables_of(made.held_out)
    values = cells_of(made.train)
    for column in table.columns:
        assert column.shift == values[column.name].min()
        assert column.scale == pytest.approx(values[column.name].max() - values[column.name].min())
