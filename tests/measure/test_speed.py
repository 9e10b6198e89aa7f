from __future__ import annotations

import pytest
import tiny_models as tiny

from paredown.core.context import Context, running
from paredown.core.errors import UserError
from paredown.engines import generation
from paredown.measure.speed import KERNEL, Speed


@pytest.fixture
def step(tmp_path):
    (tmp_path / "scratch").mkdir()
    with running(Context(folder=tmp_path / "out", scratch=tmp_path / "scratch", name="speed")) as found:
        yield found


def test_rates_follow_from_the_clock(tmp_path, step, monkeypatch):
    times = iter([9.0, 0.1, 0.3, 0.2])  # the first is the warm-up
    monkeypatch.setattr(generation, "timed_decode", lambda module, ids, new: generation.Timing(t := next(times), 2 * t))
    scores = Speed(batch=2, length=30, new_tokens=11, repeats=3)(tiny.model(tmp_path / "m" / "model"))
    assert scores.value("prefill_tokens_per_second") == pytest.approx(2 * 30 / 0.2)
    assert scores.value("decode_tokens_per_second") == pytest.approx(2 * 10 / 0.4)
    assert step.facts["prefill"]["min"] == pytest.approx(200)
    assert step.facts["prefill"]["max"] == pytest.approx(600)
    assert step.facts["kernel"] == KERNEL
    assert {row.metric: row.better for row in scores.rows()}["decode_tokens_per_second"] == "higher"


def test_real_model_sizes_and_cost(tmp_path, step):
    model = tiny.model(tmp_path / "m" / "model")
    scores = Speed(repeats=2)(model)
    count = model.parameters()
    assert scores.value("parameters") == count["total"]
    assert scores.value("nonzero") == count["nonzero"]
    assert scores.value("bytes_at_rest") == (model.path / "model.safetensors").stat().st_size
    assert scores.value("decode_tokens_per_second") > 0
    assert step.facts["length"] == 32
    assert step.facts["new_tokens"] == 16
    assert step.cost.tokens == 47 * 3
    assert step.cost.flops > 2 * 32 * tiny.VOCABULARY * step.cost.tokens


def test_too_long_for_the_model(tmp_path):
    with pytest.raises(UserError, match="do not fit"):
        Speed(length=60, new_tokens=8)(tiny.model(tmp_path / "m" / "model"))


def test_says_that_it_measures_time():
    assert Speed.measures_time
