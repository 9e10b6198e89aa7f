from __future__ import annotations

import math

import pytest
import tiny_models as tiny
import torch

from paredown.core.context import Context, running
from paredown.core.errors import DataError, UserError
from paredown.measure.perplexity import Perplexity, bits_per_byte

TEXTS = ["def f(x):\n    return x + 1\n", "", "héllo wörld 漢字", "import os\n" * 20]


@pytest.fixture
def step(tmp_path):
    (tmp_path / "scratch").mkdir()
    with running(Context(folder=tmp_path / "out", scratch=tmp_path / "scratch", name="quality")) as found:
        yield found


def test_bits_per_byte_by_hand():
    assert bits_per_byte(math.log(256) * 10, 10) == pytest.approx(8)


def test_an_even_model_needs_the_logarithm_of_its_vocabulary(tmp_path, step):
    module = tiny.module()
    with torch.no_grad():
        module.get_output_embeddings().weight.zero_()
    tokens, model = tiny.tokens(tmp_path / "t", TEXTS), tiny.model(tmp_path / "m" / "model")
    module.save_pretrained(model.path)
    scores = Perplexity()(model, tokens)
    predicted, size = sum(len(t.encode()) + 1 for t in TEXTS if t), sum(len(t.encode()) for t in TEXTS)
    assert scores.value("perplexity") == pytest.approx(tiny.VOCABULARY)
    assert scores.value("loss") == pytest.approx(math.log(tiny.VOCABULARY))
    assert scores.value("bits_per_byte") == pytest.approx(math.log2(tiny.VOCABULARY) * predicted / size)
    assert [row.subject for row in scores.rows()] == [model.identity] * 3


def test_items_sum_to_the_rows_and_cost_is_charged(tmp_path, step):
    tokens, model = tiny.tokens(tmp_path / "t", TEXTS), tiny.model(tmp_path / "m" / "model")
    scores = Perplexity(length=16, stride=8)(model, tokens)
    items = scores.items()
    weights = {name: frame["weight"].sum() for (name,), frame in items.group_by("metric")}
    total = {name: (frame["value"] * frame["weight"]).sum() for (name,), frame in items.group_by("metric")}
    for name in ("bits_per_byte", "loss"):
        assert total[name] / weights[name] == pytest.approx(scores.value(name))
    assert total["bits_per_byte"] * math.log(2) == pytest.approx(total["loss"]), "the same nats"
    assert weights["bits_per_byte"] == step.facts["text_bytes"]
    assert items.filter(metric="loss")["item"].to_list() == [0, 2, 3], "what holds no text is left out"
    assert step.cost.documents == 4
    assert step.cost.tokens > weights["loss"]  # the overlap of the windows is counted too
    assert step.cost.flops > 0
    assert step.facts["stride"] == 8
    assert {row.better for row in scores.rows()} == {"lower"}
    assert {row.n for row in scores.rows()} == {3}
    assert step.facts["documents_left_out"] == 1


def test_same_bytes_twice_and_any_batch_agrees(tmp_path):
    tokens, model = tiny.tokens(tmp_path / "t", TEXTS), tiny.model(tmp_path / "m" / "model")
    first, second, wide = Perplexity()(model, tokens), Perplexity()(model, tokens), Perplexity(batch=1)(model, tokens)
    for name in ("scores.parquet", "items.parquet"):
        assert (first.path / name).read_bytes() == (second.path / name).read_bytes()
    assert wide.value("loss") == pytest.approx(first.value("loss"), abs=1e-5)


def test_max_tokens_keeps_whole_documents(tmp_path, step):
    tokens, model = tiny.tokens(tmp_path / "t", ["abcd" * 4] * 30), tiny.model(tmp_path / "m" / "model")
    scores = Perplexity(max_tokens=100)(model, tokens)
    assert {row.n for row in scores.rows()} == {5}
    assert step.facts["documents_left_out"] == 25
    assert step.facts["predicted_tokens"] == 85


@pytest.mark.parametrize(("knobs", "message"), [({"length": 65}, "do not fit"), ({"length": 8, "stride": 9}, "skips tokens")])
def test_impossible_windows(tmp_path, knobs, message):
    tokens, model = tiny.tokens(tmp_path / "t", TEXTS), tiny.model(tmp_path / "m" / "model")
    with pytest.raises(UserError, match=message):
        Perplexity(**knobs)(model, tokens)


@pytest.mark.parametrize("texts", [[], [""], ["", ""]])
def test_nothing_to_measure_on(tmp_path, texts):
    tokens, model = tiny.tokens(tmp_path / "t", texts), tiny.model(tmp_path / "m" / "model")
    with pytest.raises(DataError, match=r"no document|no text"):
        Perplexity()(model, tokens)
