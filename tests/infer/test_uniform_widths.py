"""Uneven models filled up with zeros: the same function in stock transformers, and what cannot be filled up."""

from __future__ import annotations

from typing import Any

import pytest
import tiny_models
import torch
import transformers

from paredown.artifacts.block_shapes import SHAPES
from paredown.artifacts.model import Model
from paredown.core.errors import UserError
from paredown.infer.uniform_widths import UniformWidths
from paredown.learn.models.mlp import Mlp
from paredown.prune.cfsp import Cfsp
from paredown.prune.experts import Experts
from paredown.prune.flap import Flap

TEXTS = [f"def function_{n}(value):\n    return value * {n} + {n % 7}\n" for n in range(60)]
CALIBRATED = {"calibration_tokens": 1024, "length": 64}
IDS = torch.randint(0, 200, (2, 16), generator=torch.Generator().manual_seed(0))


def same(uniform: Model, uneven: Model) -> bool:
    stock = transformers.AutoModelForCausalLM.from_pretrained(uniform.path).eval()
    with torch.no_grad():
        module: Any = uneven.load()
        return torch.allclose(stock(input_ids=IDS).logits, module(input_ids=IDS).logits, atol=1e-4)


@pytest.mark.parametrize("family", ["llama", "gpt2", "phi3"])
def test_channels(tmp_path, family):
    shape = {
        "hidden_size": 32,
        "intermediate_size": 24,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "num_hidden_layers": 2,
        "max_position_embeddings": 64,
    }
    tiny_models.SHAPES.setdefault(family, lambda **k: transformers.Phi3Config(**shape, **k))
    model, tokens = tiny_models.model(tmp_path / "model", family), tiny_models.tokens(tmp_path / "tokens", TEXTS)
    uneven = Cfsp(sparsity=0.4, steepness=40, **CALIBRATED)(model, tokens)
    assert SHAPES in uneven.config
    uniform = UniformWidths()(uneven)
    assert SHAPES not in uniform.config
    assert same(uniform, uneven)
    direct = Cfsp(sparsity=0.4, steepness=40, uniform=True, **CALIBRATED)(model, tokens)
    assert (direct.path / "model.safetensors").read_bytes() == (uniform.path / "model.safetensors").read_bytes()
    again = UniformWidths()(uniform)
    assert (again.path / "model.safetensors").read_bytes() == (uniform.path / "model.safetensors").read_bytes()


def test_heads_and_biases(tmp_path):
    """Llama takes 1, 2, 4 or 8 heads: what three are left of is filled up to four."""
    tiny_models.SHAPES["wide"] = lambda **k: transformers.LlamaConfig(
        hidden_size=32,
        intermediate_size=48,
        num_attention_heads=8,
        num_key_value_heads=8,
        num_hidden_layers=2,
        max_position_embeddings=64,
        **k,
    )
    model, tokens = tiny_models.model(tmp_path / "model", "wide"), tiny_models.tokens(tmp_path / "tokens", TEXTS)
    del tiny_models.SHAPES["wide"]
    found = set()
    for sparsity in (0.5, 0.6, 0.7):
        uneven = Flap(sparsity=sparsity, heads=True, **CALIBRATED)(model, tokens)
        uniform = UniformWidths()(uneven)
        found.add(tuple(uneven.config.get(SHAPES, {})["layers"]["widths"].get("num_attention_heads", ())))
        assert 32 % uniform.config["num_attention_heads"] == 0
        assert uniform.config["mlp_bias"]
        assert uniform.config["attention_bias"]
        assert same(uniform, uneven)
    assert any(max(heads, default=8) not in (1, 2, 4, 8) for heads in found), "a number that stock Llama does not take"


def test_what_cannot_be_filled_up_is_refused(tmp_path):
    moe, tokens = tiny_models.model(tmp_path / "moe", "mixtral"), tiny_models.tokens(tmp_path / "tokens", TEXTS)
    module: Any = moe.load()
    with torch.no_grad():
        module.model.layers[0].mlp.experts.down_proj[1:] *= 0.1
    module.save_pretrained(moe.path)
    uneven = Experts(sparsity=0.25, score="weights", compare="all")(Model(moe.path))
    with pytest.raises(UserError, match="different num_local_experts cannot be filled up"):
        UniformWidths()(uneven)
    biased = Flap(sparsity=0.4, **CALIBRATED)(tiny_models.model(tmp_path / "qwen" / "model", "qwen3"), tokens)
    with pytest.raises(UserError, match="no place for a bias"):
        UniformWidths()(biased)
    with pytest.raises(UserError, match="networks of our own"):
        UniformWidths()(tiny_models.network(tmp_path / "network", Mlp(inputs=6, hidden=(5,), classes=3)))
