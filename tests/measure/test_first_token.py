"""Time to the first token: lengths are drawn as said, what is counted is exact, and a way that reads wrongly is seen."""

from __future__ import annotations

import numpy as np
import pytest
import tiny_models as tiny

from paredown.core.context import Context, running
from paredown.core.errors import DataError, UserError
from paredown.infer.one_by_one import OneByOne
from paredown.infer.pad_batch import PadBatch
from paredown.infer.prepack import Prepack
from paredown.measure.first_token import FirstToken, prompt_lengths

KNOBS = {"batches": 2, "prompts": 6, "median": 8, "longest": 30, "new_tokens": 6, "repeats": 2}


@pytest.fixture
def inputs(tmp_path):
    letters = np.random.default_rng(0).integers(97, 123, (3, 120)).astype(np.uint8)  # so that no prompts begin alike
    return tiny.model(tmp_path / "m" / "model"), tiny.tokens(tmp_path / "t", [bytes(row).decode() for row in letters])


def measured(inputs, tmp_path, **knobs):
    with running(Context(folder=tmp_path / "out", scratch=tmp_path, seed=3)) as step:
        return FirstToken(**KNOBS, **knobs)(*inputs), step


def test_lengths_are_lognormal():
    lengths = prompt_lengths(np.random.default_rng(0), 20_000, 60, 0.9, 10_000)
    assert np.median(lengths) == pytest.approx(60, rel=0.03)
    assert np.std(np.log(lengths)) == pytest.approx(0.9, rel=0.03)
    assert set(prompt_lengths(np.random.default_rng(0), 50, 7, 0, 512)) == {7}
    cut = prompt_lengths(np.random.default_rng(0), 1000, 3, 2, 5)
    assert (min(cut), max(cut)) == (1, 5)


def test_rows_and_what_is_computed(inputs, tmp_path):
    scores, step = measured(inputs, tmp_path)
    assert [row.metric for row in scores.rows()] == list(FirstToken.metrics)
    lengths = step.facts["lengths"]
    real, padded = (sum(f(each) for each in lengths) for f in (sum, lambda each: len(each) * max(each)))
    assert scores.value("tokens_computed") == real / 2
    assert scores.value("expected_speedup") == pytest.approx(padded / real)
    assert scores.value("differing") == 0
    assert 0 < scores.value("logit_difference") < 1e-4
    assert 0 < scores.value("slowest_speedup") <= scores.value("speedup")
    assert scores.value("share_of_expected") == pytest.approx(scores.value("speedup") * real / padded)
    assert len(step.facts["seconds"]) == 2
    assert step.cost.flops > 0
    assert step.cost.tokens == 3 * (real + padded)


def test_the_same_prompts_for_every_way(inputs, tmp_path):
    first, second = (
        measured(inputs, tmp_path / name, prefill=how)[1].facts["lengths"] for name, how in (("a", OneByOne()), ("b", Prepack()))
    )
    assert first == second


class Wrong(PadBatch):
    """Forgets each prompt's beginning."""

    def begin(self, module, prompts, more):
        return super().begin(module, [prompt[-1:] for prompt in prompts], more)


def test_a_way_that_reads_wrongly_is_seen(inputs, tmp_path):
    scores, _ = measured(inputs, tmp_path, prefill=Wrong())
    assert scores.value("differing") > 6
    assert scores.value("logit_difference") > 1e-2


def test_bad_input(inputs, tmp_path):
    with pytest.raises(UserError, match="do not fit: the model's context is 64"):
        FirstToken(longest=60, new_tokens=5)(*inputs)
    with pytest.raises(DataError, match="no document has"):
        FirstToken(**{**KNOBS, "median": 30, "spread": 0})(inputs[0], tiny.tokens(tmp_path / "short", ["ab"]))
