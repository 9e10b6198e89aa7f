"""A scaling law as a measurement: exact on trainings that follow one, and wrong in the known way with the wrong count."""

from __future__ import annotations

from pathlib import Path

import pytest

from paredown.artifacts.model import Model
from paredown.core.context import Context, running
from paredown.core.errors import DataError
from paredown.measure.scaling_law import ScalingLaw


def loss(n: float, d: float) -> float:
    return 1.2 + 40 / n**0.4 + 90 / d**0.35


def trained(
    folder: Path, tokens: float, initial: float, average: float, final: float, outside: int = 500, held_out: float | None = 0
) -> Model:
    """A model whose loss follows the law of its average parameters in the blocks."""
    folder.mkdir(parents=True)
    found = Model(folder)
    counts = {"initial": initial + outside, "final": final + outside, "average": average + outside, "outside": outside}
    value = loss(average, tokens) if held_out == 0 else held_out
    found.note_training({"tokens": tokens, "parameters": counts, "held_out_loss": value})
    return found


@pytest.fixture
def dense(tmp_path: Path) -> tuple[Model, ...]:
    return tuple(trained(tmp_path / f"d{n}-{d}", d, n, n, n) for n in (1e4, 3e4, 1e5) for d in (1e5, 3e5, 1e6))


@pytest.fixture
def sparse(tmp_path: Path) -> tuple[Model, ...]:
    return tuple(trained(tmp_path / f"s{share}", 5e5, 1e5, 1e5 * share, 2e4) for share in (0.4, 0.6, 0.8))


def measured(tmp_path: Path, strategy: ScalingLaw, fit: tuple[Model, ...], predict: tuple[Model, ...]):
    with running(Context(tmp_path / f"out-{strategy.parameters}-{strategy.count}", tmp_path / "scratch")):
        return strategy(fit, predict)


def test_the_count_that_the_losses_follow_foresees_them_and_the_others_do_not(tmp_path, dense, sparse):
    found = {p: measured(tmp_path, ScalingLaw(parameters=p), dense, sparse) for p in ("average", "final", "initial")}
    assert found["average"].value("error") < 1e-4
    assert found["average"].value("fitting_error") < 1e-4
    assert found["average"].value("alpha") == pytest.approx(0.4, rel=0.02)
    assert found["average"].value("E") == pytest.approx(1.2, rel=0.02)
    expected = {"final": [2e4] * 3, "initial": [1e5] * 3}
    for which, counts in expected.items():
        errors = [abs(loss(n, 5e5) - loss(1e5 * s, 5e5)) / loss(1e5 * s, 5e5) for n, s in zip(counts, (0.4, 0.6, 0.8), strict=True)]
        assert found[which].value("error") == pytest.approx(sum(errors) / 3, rel=0.02)
        items = found[which].items().sort("item")
        assert items["value"].to_list() == pytest.approx(errors, rel=0.03)


def test_all_weights_count_the_embeddings_too(tmp_path, sparse):
    many = tuple(trained(tmp_path / f"m{n}-{d}", d, n, n, n, outside=9000) for n in (1e4, 3e4, 1e5) for d in (1e5, 3e5, 1e6))
    assert measured(tmp_path, ScalingLaw(), many, sparse).value("alpha") == pytest.approx(0.4, rel=0.02)
    assert measured(tmp_path, ScalingLaw(count="all"), many, sparse).value("alpha") > 0.45  # 19,000 to 109,000 weights do as much


def test_what_cannot_be_fitted_says_so(tmp_path, dense, sparse):
    with pytest.raises(DataError, match="no model to foresee"):
        measured(tmp_path, ScalingLaw(), dense, ())
    with pytest.raises(DataError, match="no held-out loss"):
        measured(tmp_path, ScalingLaw(), (*dense[1:], trained(tmp_path / "x", 1e5, 1e4, 1e4, 1e4, held_out=None)), sparse)
    with pytest.raises(DataError):
        measured(tmp_path, ScalingLaw(), dense[:3], sparse)
    (tmp_path / "bare").mkdir()
    with pytest.raises(DataError, match=r"no training\.json"):
        measured(tmp_path, ScalingLaw(), dense, (Model(tmp_path / "bare"),))
