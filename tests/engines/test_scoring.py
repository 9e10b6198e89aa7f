from __future__ import annotations

import numpy as np
import pytest
import tiny_models as tiny
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils.flop_counter import FlopCounterMode

from paredown.core.context import Context, running
from paredown.core.errors import DataError, UserError
from paredown.engines import scoring

TEXTS = ["def f(x):\n    return x + 1\n", "", "héllo wörld 漢字", "a", "import os\n" * 20, "x = 1\n" * 9]


@given(st.lists(st.integers(2, 90), max_size=6), st.integers(1, 20), st.data())
@settings(max_examples=200, deadline=None)
def test_every_token_is_scored_once_with_enough_context(sizes, length, data):
    stride = data.draw(st.integers(1, length))
    parts = scoring.windows(np.array(sizes, dtype=np.int64), length, stride)
    for document, size in enumerate(sizes):
        scored = []
        for w in np.flatnonzero(parts.row == document):
            start, end = parts.start[w], parts.start[w] + parts.size[w]
            assert 1 <= parts.size[w] <= length
            assert end <= size - 1
            new = range(start + parts.skip[w] + 1, end + 1)
            scored += new
            assert all(target - start >= min(target, length - stride + 1) for target in new)
        assert scored == list(range(1, size))


def test_batches_hold_every_window_and_keep_to_the_bound():
    sizes = np.array([5, 1, 9, 9, 2, 3])
    found = list(scoring.batches(sizes, 18))
    assert sorted(np.concatenate(found)) == list(range(6))
    assert all(len(b) == 1 or len(b) * sizes[b].max() <= 18 for b in found)


def brute(module, ids, length, stride):
    """Nats of a document, token by token, each with exactly the context that its window shows."""
    total = 0.0
    for target in range(1, len(ids)):
        number = 0 if target <= length else -(-(target - length) // stride)
        start = number * stride
        with torch.inference_mode():
            logits = module(input_ids=torch.tensor([ids[start:target]])).logits[0, -1].double()
        total -= float(logits.log_softmax(-1)[ids[target]])
    return total


@pytest.mark.parametrize("shape", tiny.CAUSAL)
def test_equals_a_loop_over_single_tokens(tmp_path, shape):
    tokens, module = tiny.tokens(tmp_path / "t", TEXTS), tiny.module(shape)
    found = scoring.nats(module, tokens, np.arange(len(TEXTS)), length=32, stride=12, batch=3)
    for document in range(len(TEXTS)):
        ids = tokens.ids[tokens.offsets[document] : tokens.offsets[document + 1]].tolist()
        assert found.nats[document] / (len(ids) - 1) == pytest.approx(brute(module, ids, 32, 12) / (len(ids) - 1), abs=1e-5)
    assert found.tokens.tolist() == (np.diff(tokens.offsets) - 1).tolist()
    assert found.text_bytes.tolist() == [len(t.encode()) for t in TEXTS]


def test_whole_documents_equal_transformers_loss(tmp_path):
    tokens, module = tiny.tokens(tmp_path / "t", TEXTS), tiny.module()
    found = scoring.nats(module, tokens, np.array([0, 2]), length=64, stride=64, batch=8)
    for row, document in enumerate((0, 2)):
        ids = torch.tensor(tokens.ids[tokens.offsets[document] : tokens.offsets[document + 1]].astype(np.int64))[None]
        with torch.inference_mode():
            loss = module(input_ids=ids, labels=ids).loss.item()
        assert found.nats[row] / found.tokens[row] == pytest.approx(loss, abs=1e-5)


@pytest.mark.parametrize("shape", ["llama", "gpt2", "gpt_neox"])
def test_flops_equal_the_counter(shape):
    module = tiny.module(shape)
    a, b = scoring.forward_flops(module, 64)
    module.set_attn_implementation("eager")
    for length in (5, 40):
        with FlopCounterMode(display=False) as counter, torch.inference_mode():
            module(input_ids=torch.zeros((1, length), dtype=torch.long), use_cache=False)
        assert a * length + b * length**2 == pytest.approx(counter.get_total_flops(), rel=1e-6)


def test_killed_and_resumed_is_the_same(tmp_path, monkeypatch):
    tokens, module = tiny.tokens(tmp_path / "t", TEXTS), tiny.module()
    whole = scoring.nats(module, tokens, np.arange(6), length=16, stride=8, batch=2)
    (tmp_path / "scratch").mkdir()
    monkeypatch.setattr(scoring, "SAVE_EVERY", 1)
    rows, calls = scoring._texts, []

    def killed(*arguments):
        calls.append(1)
        if len(calls) == 4:
            raise KeyboardInterrupt
        return rows(*arguments)

    step = Context(folder=tmp_path / "out", scratch=tmp_path / "scratch")
    monkeypatch.setattr(scoring, "_texts", killed)
    with running(step), pytest.raises(KeyboardInterrupt):
        scoring.nats(module, tokens, np.arange(6), length=16, stride=8, batch=2)
    assert (tmp_path / "scratch" / "nats.npz").exists()
    with running(step):
        again = scoring.nats(module, tokens, np.arange(6), length=16, stride=8, batch=2)
    assert again.nats.tobytes() == whole.nats.tobytes()
    assert len(calls) == 4 + len(list(scoring.batches(scoring.windows(np.diff(tokens.offsets), 16, 8).size, 32))) - 3


def test_documents_are_the_same_for_every_arm_and_spread(tmp_path):
    tokens = tiny.tokens(tmp_path / "t", ["a" * 9] * 100)
    few, more = scoring.first_documents(tokens, 100), scoring.first_documents(tokens, 300)
    assert len(few) == 10
    assert set(few) < set(more)
    assert few.max() - few.min() > 50
    assert len(scoring.first_documents(tokens, 1)) == 1
    assert scoring.first_documents(tokens, None).tolist() == list(range(100))
    with pytest.raises(DataError, match="no document"):
        scoring.first_documents(tiny.tokens(tmp_path / "e", []), None)


def test_a_model_with_nan_weights_is_named(tmp_path):
    tokens, module = tiny.tokens(tmp_path / "t", TEXTS), tiny.module()
    with torch.no_grad():
        module.get_output_embeddings().weight[3] = torch.nan
    with pytest.raises(DataError, match=r"document \d+ is not finite"):
        scoring.nats(module, tokens, np.arange(6), length=16, stride=8, batch=2)


def test_another_vocabulary_is_refused(tmp_path):
    tokens, model = tiny.tokens(tmp_path / "t", TEXTS), tiny.model(tmp_path / "m" / "model")
    scoring.check_vocabulary(model, tokens, tiny.VOCABULARY)
    with pytest.raises(UserError, match="vocabulary"):
        scoring.check_vocabulary(model, tokens, 100)
    changed = tiny.byte_tokenizer().replace('"!":', '"TMP":').replace('"A":', '"!":').replace('"TMP":', '"A":')
    assert changed != tiny.byte_tokenizer()
    (tokens.path / "tokenizer.json").write_text(changed)
    with pytest.raises(UserError, match="another tokenizer"):
        scoring.check_vocabulary(model, tokens, tiny.VOCABULARY)
