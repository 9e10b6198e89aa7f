"""Channels that are really gone: shapes, configuration, outputs, and stock transformers."""

from __future__ import annotations

import pytest
import tiny_models
import torch
import transformers

from paredown.core.errors import UserError
from paredown.prune.channels import Channels, channel_scores, kept_channels

TEXTS = [f"def function_{n}(value):\n    return value * {n} + {n % 7}\n" for n in range(60)]
CALIBRATED = {"calibration_tokens": 1024, "length": 64}
FAMILIES = {"llama": "intermediate_size", "qwen3": "intermediate_size", "mistral": "intermediate_size", "gpt2": "n_inner", "gpt_neox": "intermediate_size", "opt": "ffn_dim", "bert": "intermediate_size"}  # fmt: skip


@pytest.mark.parametrize("score", ["activations", "weights", "random"])
@pytest.mark.parametrize("family", FAMILIES)
def test_the_narrow_model_computes_what_the_zeroed_one_does(tmp_path, family, score):
    """Removing a channel equals zeroing the weights that use it: checked on the dense model with exactly those columns zeroed."""
    model = tiny_models.model(tmp_path / "model", family)
    tokens = tiny_models.tokens(tmp_path / "tokens", TEXTS)
    narrow = Channels(sparsity=0.5, score=score, **CALIBRATED)(model, tokens)
    kind = transformers.AutoModelForMaskedLM if family == "bert" else transformers.AutoModelForCausalLM
    stock = kind.from_pretrained(narrow.path).eval()
    width = 128 if family == "gpt2" else 48
    assert getattr(stock.config, FAMILIES[family]) == width // 2
    assert narrow.parameters()["total"] < model.parameters()["total"]
    dense, small = dict(model.load().named_parameters()), dict(stock.named_parameters())
    zeroed = model.load()
    changed = 0
    for name, parameter in zeroed.named_parameters():
        if parameter.shape != small[name].shape:
            changed += 1
            dim = next(d for d in range(parameter.dim()) if parameter.shape[d] != small[name].shape[d])
            whole = dense[name].movedim(dim, 0).flatten(1) if parameter.dim() > 1 else dense[name][:, None]
            left = small[name].movedim(dim, 0).flatten(1) if parameter.dim() > 1 else small[name][:, None]
            kept = [bool((row == left).all(dim=1).any()) for row in whole]
            assert sum(kept) == width // 2
            with torch.no_grad():
                parameter.movedim(dim, 0)[~torch.tensor(kept)] = 0
    assert changed
    ids = torch.randint(0, 200, (2, 16), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        assert torch.allclose(stock(input_ids=ids).logits, zeroed(input_ids=ids).logits, atol=1e-4)


def test_stock_transformers_generates(tmp_path):
    model = tiny_models.model(tmp_path / "model", "llama")
    narrow = Channels(sparsity=0.5, score="weights")(model)
    loaded = transformers.AutoModelForCausalLM.from_pretrained(narrow.path)
    assert loaded.generate(torch.tensor([[1, 2, 3]]), max_new_tokens=4, do_sample=False).shape == (1, 7)
    assert transformers.AutoTokenizer.from_pretrained(narrow.path)("abc").input_ids == model.tokenizer("abc").input_ids


def test_scores_by_hand():
    down = torch.tensor([[1.0, -2.0], [3.0, 0.5]])  # (hidden, channels)
    up = torch.tensor([[3.0, 4.0], [1.0, 0.0]])  # (channels, hidden)
    assert channel_scores(down, [up], torch.tensor([2.0, 4.0])).tolist() == [8.0, 10.0]
    assert channel_scores(down, [up, up], None).tolist() == pytest.approx([10**0.5 * 25, 4.25**0.5])


def test_the_number_of_channels_is_rounded_up():
    scores = torch.tensor([5.0, 1.0, 4.0, 2.0, 3.0, 0.0, 6.0, 7.0, 8.0, 9.0])
    assert kept_channels(scores, 0.5, 1).tolist() == [0, 6, 7, 8, 9]
    assert kept_channels(scores, 0.5, 4).tolist() == [0, 2, 3, 4, 6, 7, 8, 9]
    assert kept_channels(scores, 0.0, 1).tolist() == list(range(10))
    assert len(kept_channels(scores, 0.05, 8)) == 10


def test_activations_beat_chance_where_few_channels_matter(tmp_path):
    """Channels whose use is tiny are the ones that go."""
    module = tiny_models.module("llama")
    with torch.no_grad():
        for layer in module.model.layers:
            layer.mlp.down_proj.weight[:, ::2] *= 1e-3
    from paredown.artifacts.model import Model

    first = tiny_models.model(tmp_path / "model", "llama")
    module.save_pretrained(first.path)
    narrow = Channels(sparsity=0.5, **CALIBRATED)(Model(first.path), tiny_models.tokens(tmp_path / "tokens", TEXTS)).load()
    for layer, old in zip(narrow.model.layers, module.model.layers, strict=True):
        assert torch.equal(layer.mlp.down_proj.weight, old.mlp.down_proj.weight[:, 1::2])


def test_what_it_cannot_do_it_says(tmp_path):
    with pytest.raises(UserError, match="needs calibration tokens"):
        Channels()(tiny_models.model(tmp_path / "model", "llama"))
    with pytest.raises(UserError, match="has experts"):
        Channels(score="weights")(tiny_models.model(tmp_path / "moe", "mixtral"))
