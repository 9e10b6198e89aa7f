"""Models whose blocks differ: what they compute, and that they survive saving, loading, copying, training and generating."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers

from paredown.artifacts.block_shapes import SHAPES, entry, merged, shaped
from paredown.artifacts.model import Model
from paredown.engines.modules import reinitialized

IDS = torch.arange(1, 9)[None]
BASE: dict[str, Any] = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "vocab_size": 50,
    "bos_token_id": 0,
    "eos_token_id": 0,
    "pad_token_id": 0,
}
HEADS = {"num_attention_heads": [3, 6], "num_key_value_heads": [3, 3]}
MADE: dict[str, tuple[str, dict[str, Any], dict[str, Any]]] = {
    "llama": ("layers", {"intermediate_size": 48, "num_attention_heads": 8, "num_key_value_heads": 4, "head_dim": 4}, {"widths": {"intermediate_size": [3, 40], **HEADS}, "biases": ["mlp.down_proj"]}),
    "qwen2": ("layers", {"intermediate_size": 48, "num_attention_heads": 8, "num_key_value_heads": 4}, {"widths": {"intermediate_size": [3, 40]}}),
    "gpt2": ("h", {"n_embd": 32, "n_head": 4, "n_layer": 2, "n_inner": 64}, {"widths": {"n_inner": [5, 64]}}),
    "opt": ("decoder.layers", {"ffn_dim": 48, "num_attention_heads": 4, "word_embed_proj_dim": 32}, {"widths": {"ffn_dim": [20, 30]}}),
    "mixtral": ("layers", {"intermediate_size": 24, "num_attention_heads": 4, "num_key_value_heads": 2, "num_local_experts": 4}, {"widths": {"num_local_experts": [3, 2]}}),
    "phi3": ("layers", {"intermediate_size": 24, "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 8}, {"widths": {"intermediate_size": [3, 9], "num_attention_heads": [2, 4]}}),
}  # fmt: skip


def built(family: str) -> Any:
    name, shape, shapes = MADE[family]
    config = transformers.AutoConfig.for_model(family, **BASE, **shape, **{SHAPES: {name: shapes}})
    kind: Any = type(transformers.AutoModelForCausalLM.from_config(config))
    torch.manual_seed(0)
    return shaped(kind, config)(config).eval()


@pytest.mark.parametrize("family", MADE)
def test_what_is_saved_is_what_is_loaded(tmp_path: Path, family: str) -> None:
    module = built(family)
    for parameter in module.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    name, _, shapes = MADE[family]
    model = Model.save(tmp_path / "model", module)
    assert model.config["architectures"] == [type(module).__name__]
    assert model.config[SHAPES] == {name: shapes}
    loaded: Any = model.load()
    expected = module(input_ids=IDS).logits
    assert torch.equal(loaded(input_ids=IDS).logits, expected)
    assert torch.equal(copy.deepcopy(loaded)(input_ids=IDS).logits, expected)
    again = Model.save(tmp_path / "again", loaded)
    assert (again.path / "model.safetensors").read_bytes() == (model.path / "model.safetensors").read_bytes()
    loaded.set_attn_implementation("eager")
    assert torch.allclose(loaded(input_ids=IDS).logits, expected, atol=1e-5), "blocks follow what is set of the whole model"
    prompt = {"max_new_tokens": 5, "do_sample": False}
    assert torch.equal(loaded.generate(IDS, use_cache=True, **prompt), loaded.generate(IDS, use_cache=False, **prompt))


@pytest.mark.parametrize("family", ["llama", "mixtral"])
def test_fresh_weights_are_drawn_as_the_class_draws_them(tmp_path: Path, family: str) -> None:
    model = Model.save(tmp_path / "model", built(family))
    module = reinitialized(model, 1)
    assert module.state_dict().keys() == built(family).state_dict().keys()
    assert all(0.015 < float(p.detach().std()) < 0.025 for p in module.parameters() if p.numel() > 300 and p.dim() > 1)


def test_the_stock_class_refuses_it(tmp_path: Path) -> None:
    model = Model.save(tmp_path / "model", built("qwen2"))
    with pytest.raises(RuntimeError, match="ignore_mismatched_sizes"):
        transformers.AutoModelForCausalLM.from_pretrained(model.path)


def test_as_many_widths_as_blocks() -> None:
    config = transformers.Qwen2Config(
        **BASE, num_attention_heads=4, num_key_value_heads=2, **{SHAPES: {"layers": {"widths": {"intermediate_size": [3]}}}}
    )
    with pytest.raises(ValueError, match="1 values of intermediate_size for 2 blocks"):
        shaped(transformers.Qwen2ForCausalLM, config)(config)


def test_a_plain_configuration_keeps_its_class() -> None:
    assert shaped(transformers.Qwen2ForCausalLM, transformers.Qwen2Config()) is transformers.Qwen2ForCausalLM


def test_entries_that_are_merged() -> None:
    """What is said of all blocks ends what was said of each."""
    uneven = {SHAPES: {"layers": {"widths": {"a": [1, 2], "b": [3, 4]}}}}
    config = merged({"a": 9, "b": 9, "c": 9}, uneven)
    assert [entry(config, f"layers.{n}", key) for n in (0, 1) for key in "abc"] == [1, 3, 9, 2, 4, 9]
    assert merged(config, {"a": 5}) == {"a": 5, "b": 9, "c": 9, SHAPES: {"layers": {"widths": {"b": [3, 4]}}}}
    assert merged(merged(config, {"a": 5}), {"b": 6}) == {"a": 5, "b": 6, "c": 9}
    biased = merged(config, {SHAPES: {"layers": {"biases": ["x"]}}})
    assert biased[SHAPES] == {"layers": {"widths": {"a": [1, 2], "b": [3, 4]}, "biases": ["x"]}}
    assert merged(biased, {SHAPES: {"layers": {"widths": {"a": [7, 8]}, "biases": ["w"]}}})[SHAPES]["layers"] == {
        "widths": {"a": [7, 8], "b": [3, 4]},
        "biases": ["w", "x"],
    }
