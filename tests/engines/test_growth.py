"""Growth: the same function by closed forms, in any width and depth; heads are copied whole; what cannot grow says so."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import transformers as t
from torch import nn

from paredown.artifacts.model import Model
from paredown.core.context import Context, running
from paredown.core.errors import UserError
from paredown.engines import dimensions
from paredown.engines.growth import even_map, expand, random_map, stacked
from paredown.learn.growth.bert2bert import Bert2bert
from paredown.learn.growth.direct_copy import DirectCopy, cornered
from paredown.learn.growth.stack import Stack
from paredown.learn.models.mlp import Mlp
from paredown.learn.models.t5 import T5

IDS = torch.arange(24).reshape(2, 12) * 5 % 40
HIDDEN, CHANNELS = 16, 24
SHAPE: dict[str, Any] = {
    "hidden_size": HIDDEN,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "max_position_embeddings": 32,
    "vocab_size": 40,
}
LLAMA = {**SHAPE, "intermediate_size": CHANNELS, "bos_token_id": 0, "eos_token_id": 0, "pad_token_id": 1}
TIED = {"tie_word_embeddings": True}
CONFIGS: dict[str, Any] = {
    "llama": lambda: t.LlamaConfig(**LLAMA),
    "tied": lambda: t.LlamaConfig(**LLAMA, **TIED),
    "grouped": lambda: t.LlamaConfig(**{**LLAMA, "num_attention_heads": 4, "num_key_value_heads": 2}),
    "qwen2": lambda: t.Qwen2Config(**{**LLAMA, "num_attention_heads": 4}, num_key_value_heads=2, **TIED),
    "qwen3": lambda: t.Qwen3Config(**LLAMA, num_key_value_heads=1, head_dim=8, **TIED),
    "opt": lambda: t.OPTConfig(**SHAPE, ffn_dim=CHANNELS, word_embed_proj_dim=HIDDEN, bos_token_id=0, eos_token_id=0, pad_token_id=1),
    "bert": lambda: t.BertConfig(**SHAPE, intermediate_size=CHANNELS),
    "roberta": lambda: t.RobertaConfig(**{**SHAPE, "max_position_embeddings": 40}, intermediate_size=CHANNELS),
    "gpt2": lambda: t.GPT2Config(n_embd=HIDDEN, n_layer=2, n_head=2, n_positions=32, n_inner=CHANNELS, vocab_size=40, bos_token_id=0, eos_token_id=0),
    "neox": lambda: t.GPTNeoXConfig(**LLAMA, tie_word_embeddings=False),
    "phi3": lambda: t.Phi3Config(**{**LLAMA, "num_attention_heads": 4}, num_key_value_heads=2, original_max_position_embeddings=32),
}  # fmt: skip
MASKED = ("bert", "roberta")
TWICE = {"hidden_size": 2 * HIDDEN, "intermediate_size": 2 * CHANNELS}


def module_of(family: str, **more: Any) -> Any:
    torch.manual_seed(0)
    config = CONFIGS[family]()
    for name, value in more.items():
        setattr(config, name, value)
    made: Any = (t.AutoModelForMaskedLM if family in MASKED else t.AutoModelForCausalLM).from_config(config)
    with torch.no_grad():
        for name, parameter in made.named_parameters():  # far from even, and biases and norms that say something
            gain = parameter.ndim == 1 and name.endswith("weight")
            parameter.normal_(1.0 if gain else 0.0, 0.2 if parameter.ndim == 1 else 0.4)
    return made.eval()


def saved(folder: Path, family: str, double: bool = False, **more: Any) -> Model:
    made = module_of(family, **more)
    return Model.save(folder, made.double() if double else made, None)


def grow(folder: Path, model: Model, strategy: Any = None, seed: int = 0, **knobs: Any) -> Model:
    with running(Context(folder / "out", folder / "scratch", seed=seed)):
        return (strategy or Bert2bert)(**knobs)(model)


def logits(model: Model) -> Any:
    module: Any = model.load()
    with torch.no_grad():
        return module(input_ids=IDS).logits


def tensors(model: Model) -> dict[str, torch.Tensor]:
    return dict(model.load().state_dict())


# --- the same function


@pytest.mark.parametrize("family", list(CONFIGS))
def test_twice_the_width_is_the_same_function_with_norms(tmp_path: Path, family: str) -> None:
    """Every unit has exactly one copy, so norms see the same statistics."""
    model = saved(tmp_path / "small", family, double=True)
    grown = grow(tmp_path, model, **TWICE)
    single = family not in ("opt", "bert", "roberta", "gpt2", "neox")  # norms of these classes compute in fp32 whatever they are given
    torch.testing.assert_close(logits(grown), logits(model), rtol=0, atol=1e-5 if single else 1e-10)
    old, new = model.load().config, grown.load().config
    assert new.num_attention_heads == 2 * old.num_attention_heads
    assert getattr(new, "tie_word_embeddings", False) == getattr(old, "tie_word_embeddings", False), "norms before the head take the shares"
    assert new.hidden_size == 2 * old.hidden_size
    stock: Any = getattr(t, grown.config["architectures"][0]).from_pretrained(grown.path)
    torch.testing.assert_close(stock(input_ids=IDS).logits, logits(grown).to(stock.dtype))


@pytest.mark.parametrize("mapping", ["even", "random"])
@pytest.mark.parametrize("family", ["llama", "tied"])
def test_any_map_is_the_same_function_without_norms(tmp_path: Path, family: str, mapping: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """24 places copy half of 16 twice; a norm would see that, so norms only scale."""
    from transformers.models.llama.modeling_llama import LlamaRMSNorm

    monkeypatch.setattr(LlamaRMSNorm, "forward", lambda self, x: x * self.weight)
    for seed in range(3):
        model = saved(tmp_path / f"small{seed}", family, double=True)
        grown = grow(tmp_path / str(seed), model, seed=seed, hidden_size=24, intermediate_size=31, mapping=mapping)
        torch.testing.assert_close(logits(grown), logits(model), rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("family", list(CONFIGS))
def test_nothing_to_grow_changes_nothing(tmp_path: Path, family: str) -> None:
    model = saved(tmp_path / "small", family)
    for number, added in enumerate(("own", "next")):
        grown = grow(tmp_path / str(number), model, hidden_size=HIDDEN, layers=2, added=added)
        assert torch.equal(logits(grown), logits(model))
        assert tensors(grown).keys() == tensors(model).keys()


def test_shares_sum_to_what_was_there() -> None:
    weight, generator = torch.randn(7, 5, dtype=torch.float64), torch.Generator().manual_seed(0)
    for chosen in (even_map(13, 5), random_map(13, 5, generator)):
        grown = expand(weight, 1, chosen, reads=True)
        for old in range(5):
            torch.testing.assert_close(grown[:, chosen == old].sum(1), weight[:, old], rtol=1e-14, atol=0)
    assert torch.equal(expand(weight, 0, even_map(9, 7), reads=False), weight[torch.tensor([0, 1, 2, 3, 4, 5, 6, 0, 1])])
    assert torch.equal(expand(weight, 1, even_map(20, 5), reads=True).reshape(7, 4, 5).sum(1), weight), "powers of two: to the bit"


@pytest.mark.parametrize("family", ["llama", "gpt2", "neox", "bert"])
def test_copies_of_heads_attend_like_their_source(tmp_path: Path, family: str) -> None:
    model = saved(tmp_path / "small", family)
    maps = []
    for made in (model, grow(tmp_path, model, **TWICE)):
        module: Any = made.load()
        module.set_attn_implementation("eager")
        with torch.no_grad():
            maps.append(module(input_ids=IDS, output_attentions=True).attentions)
    for small, large in zip(*maps, strict=True):
        assert float(small.var(1).mean()) > 1e-4, "heads differ"
        torch.testing.assert_close(large, small[:, torch.tensor([0, 1, 0, 1])], rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("family", ["neox", "phi3", "gpt2"])
def test_what_one_matrix_holds_is_told_by_gradients(family: str, tmp_path: Path) -> None:
    """Rows of a query, key or value, by the head whose attention they reach."""
    model = saved(tmp_path / "small", family)
    size = dimensions.width(model)
    found = dimensions.find(model, size, model.load())
    name = next(n for n in found if n.endswith(("c_attn.weight", "query_key_value.weight", "qkv_proj.weight")))
    (made,) = [of for of in found[name].values() if of.kind == "heads"]
    expected = {
        "neox": [torch.arange(48).reshape(2, 24)],  # each head's query, key and value lie together
        "gpt2": [torch.arange(n, n + 16).reshape(2, 8) for n in (0, 16, 32)],  # all queries, all keys, all values
        "phi3": [torch.arange(16).reshape(2, 8), torch.arange(16, 24).reshape(2, 4), torch.arange(24, 32).reshape(2, 4)],
    }[family]
    assert len(made.stretches) == len(expected)
    assert all(map(torch.equal, made.stretches, expected))


# --- neurons of the next block


def test_added_neurons_of_the_next_block(tmp_path: Path) -> None:
    model = saved(tmp_path / "small", "llama")
    own, nxt = (tensors(grow(tmp_path / added, model, **TWICE, added=added)) for added in ("own", "next"))
    for name, old in (("mlp.up_proj.weight", CHANNELS), ("self_attn.q_proj.weight", HIDDEN), ("self_attn.o_proj.weight", HIDDEN)):
        first = nxt[f"model.layers.0.{name}"]
        assert torch.equal(first[:old], own[f"model.layers.0.{name}"][:old])
        assert torch.equal(first[old:], own[f"model.layers.1.{name}"][old:])
        assert torch.equal(nxt[f"model.layers.1.{name}"], own[f"model.layers.1.{name}"]), "the last block keeps to its own"
    for name in ("model.embed_tokens.weight", "lm_head.weight", "model.layers.0.input_layernorm.weight"):
        assert torch.equal(nxt[name], own[name])


def test_added_heads_of_one_matrix_come_from_the_next_block(tmp_path: Path) -> None:
    model = saved(tmp_path / "small", "gpt2")
    small, large = tensors(model), tensors(grow(tmp_path, model, **TWICE, added="next"))
    weight = large["transformer.h.0.attn.c_attn.bias"].reshape(3, 2, HIDDEN)  # query, key, value; those that were there and those added
    for part in range(3):
        for number in (0, 1):
            expected = small[f"transformer.h.{number}.attn.c_attn.bias"].reshape(3, HIDDEN)[part]
            assert torch.equal(weight[part, number], expected)


@pytest.mark.parametrize("family", ["llama", "gpt2", "bert"])
def test_with_equal_blocks_both_are_the_same(tmp_path: Path, family: str) -> None:
    module = module_of(family)
    blocks: Any = module.base_model.encoder.layer if family == "bert" else module.transformer.h if family == "gpt2" else module.model.layers
    blocks[1].load_state_dict(blocks[0].state_dict())
    model = Model.save(tmp_path / "small", module, None)
    own, nxt = (grow(tmp_path / added, model, **TWICE, layers=4, added=added) for added in ("own", "next"))
    assert torch.equal(logits(own), logits(nxt))


def test_noise_breaks_the_symmetry_a_little(tmp_path: Path) -> None:
    model = saved(tmp_path / "small", "llama")
    rough = grow(tmp_path, model, **TWICE, noise=1e-3)
    assert 0 < (logits(rough) - logits(model)).abs().mean() < 0.02
    weight = tensors(rough)["model.layers.0.mlp.up_proj.weight"]
    assert not torch.equal(weight[:CHANNELS], weight[CHANNELS:])


# --- depth


def test_stacking_repeats_whole_stacks_and_then_the_top() -> None:
    assert stacked(3, 6) == [0, 1, 2, 0, 1, 2]
    assert stacked(3, 8) == [0, 1, 2, 0, 1, 2, 1, 2]
    assert stacked(4, 4) == [0, 1, 2, 3]


@pytest.mark.parametrize("family", ["llama", "tied", "gpt2"])
def test_depth_alone_stacks_the_blocks(tmp_path: Path, family: str) -> None:
    model = saved(tmp_path / "small", family)
    small, large = tensors(model), tensors(grow(tmp_path, model, Stack, layers=5))
    stem = "transformer.h" if family == "gpt2" else "model.layers"
    inside = {name.removeprefix(f"{stem}.0.") for name in small if name.startswith(f"{stem}.0.")}
    for block, source in enumerate([0, 1, 0, 1, 1]):
        assert all(torch.equal(large[f"{stem}.{block}.{name}"], small[f"{stem}.{source}.{name}"]) for name in inside)
    assert all(torch.equal(large[name], value) for name, value in small.items() if not name.startswith(stem))
    assert f"{stem}.5.{min(inside)}" not in large


def test_experts_and_what_a_configuration_says_of_each_block_are_stacked_too(tmp_path: Path) -> None:
    torch.manual_seed(0)
    experts = t.MixtralForCausalLM(t.MixtralConfig(**LLAMA, num_local_experts=2, num_key_value_heads=2))
    made = grow(tmp_path / "a", Model.save(tmp_path / "mixtral", experts, None), Stack, layers=3)
    assert logits(made).shape == (*IDS.shape, 40)
    kinds = t.Qwen3ForCausalLM(
        t.Qwen3Config(
            **LLAMA, num_key_value_heads=2, use_sliding_window=True, sliding_window=4, layer_types=["full_attention", "sliding_attention"],
        )
    )  # fmt: skip
    made = grow(tmp_path / "b", Model.save(tmp_path / "qwen3", kinds, None), Stack, layers=4)
    assert made.config["layer_types"] == ["full_attention", "sliding_attention"] * 2


# --- the corner


@pytest.mark.parametrize("family", ["llama", "tied"])
def test_a_corner_holds_the_small_model(tmp_path: Path, family: str) -> None:
    model = saved(tmp_path / "small", family)
    made = grow(tmp_path, model, DirectCopy, **TWICE, layers=3)
    small, large = tensors(model), tensors(made)
    for name, value in small.items():
        assert torch.equal(large[name][tuple(slice(0, n) for n in value.shape)], value)
    rest = large["model.layers.0.mlp.up_proj.weight"][CHANNELS:]
    assert rest.std() == pytest.approx(0.02, rel=0.2), "as the class draws them"
    assert large["model.layers.2.mlp.up_proj.weight"].std() == pytest.approx(0.02, rel=0.2)
    assert made.load().config.tie_word_embeddings == (family == "tied")


def test_a_corner_of_one_matrix_for_three_lies_in_each_of_them(tmp_path: Path) -> None:
    assert cornered(torch.zeros(3, 2), torch.ones(2, 2), {0: torch.tensor([0, 2])}).tolist() == [[1, 1], [0, 0], [1, 1]]
    model = saved(tmp_path / "small", "gpt2")
    small, large = tensors(model), tensors(grow(tmp_path, model, DirectCopy, **TWICE))
    name = "transformer.h.1.attn.c_attn.weight"
    there = large[name].reshape(2 * HIDDEN, 3, 2 * HIDDEN)[:HIDDEN, :, :HIDDEN]
    assert torch.equal(there, small[name].reshape(HIDDEN, 3, HIDDEN))
    assert large[name].reshape(2 * HIDDEN, 3, 2 * HIDDEN)[HIDDEN:].std() == pytest.approx(0.02, rel=0.2)


# --- what lies around it


def test_other_draws_come_from_other_seeds_and_the_callers_stay(tmp_path: Path) -> None:
    model = saved(tmp_path / "small", "llama")
    for strategy, knobs in ((DirectCopy, {}), (Bert2bert, {"mapping": "random"}), (Bert2bert, {"noise": 0.1})):
        torch.manual_seed(5)
        made = [
            tensors(
                grow(
                    tmp_path / f"{strategy.__name__}{len(knobs)}{n}{min(knobs, default='')}", model, strategy, seed, hidden_size=24, **knobs
                )
            )
            for n, seed in enumerate((0, 0, 1))
        ]
        assert torch.equal(torch.rand(3), torch.rand(3, generator=torch.Generator().manual_seed(5)))
        name = "model.layers.0.mlp.down_proj.weight"
        assert torch.equal(made[0][name], made[1][name])
        assert not torch.equal(made[0][name], made[2][name])


def test_number_format_and_generation_settings_are_handed_on(tmp_path: Path) -> None:
    module = module_of("llama").bfloat16()
    module.generation_config.max_length = 17
    made = grow(tmp_path, Model.save(tmp_path / "small", module, None), **TWICE)
    assert made.load().dtype == torch.bfloat16
    assert made.load().generation_config.max_length == 17


def test_how_far_the_outputs_moved_is_said(tmp_path: Path) -> None:
    step = Context(tmp_path / "out", tmp_path / "scratch", seed=0)
    with running(step):
        Bert2bert(**TWICE)(saved(tmp_path / "small", "llama"))
    assert 0 <= step.facts["outputs_apart"] < 1e-5
    assert step.facts["weights_after"] > 3 * step.facts["weights_before"]
    assert "outputs move by up to" in step.says


@pytest.mark.parametrize(
    ("family", "knobs", "said"),
    [
        ("llama", {"hidden_size": 8}, "hidden_size: 8 is smaller than the model's 16"),
        ("llama", {"layers": 1}, "layers: 1 is smaller than the model's 2"),
        ("llama", {"heads": 1}, "heads: 1 is smaller than the model's 2"),
        ("gpt2", {"intermediate_size": 23}, "intermediate_size: 23 is smaller than the model's 24"),
        ("grouped", {"heads": 5}, "5 heads cannot be shared out"),
        ("bert", {"hidden_size": 20}, "2 heads of 8 do not make a hidden size of 20: heads keep their size"),
        ("gpt2", {"heads": 3}, "3 heads of 8 do not make a hidden size of 16"),
        ("llama", {"hidden_size": 32, "heads": 3}, "LlamaForCausalLM does not take"),
    ],
)
def test_what_cannot_grow_says_so_before_a_weight_is_read(
    tmp_path: Path, family: str, knobs: dict[str, int], said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = saved(tmp_path / "small", family)
    monkeypatch.setattr(Model, "load", lambda *_: pytest.fail("weights were read"))
    for strategy in (Bert2bert, DirectCopy):
        with pytest.raises(UserError, match=said):
            grow(tmp_path, model, strategy, **knobs)


def test_other_kinds_of_models_are_refused(tmp_path: Path) -> None:
    experts = t.MixtralForCausalLM(t.MixtralConfig(**LLAMA, num_local_experts=2, num_key_value_heads=2))
    with pytest.raises(UserError, match="has experts: it can be made deeper but not wider"):
        grow(tmp_path, Model.save(tmp_path / "mixtral", experts, None), **TWICE)
    encoder_decoder = T5(hidden_size=16, layers=1, heads=2, intermediate_size=24).build(40, 0)
    with pytest.raises(UserError, match="growing needs a decoder, but T5ForConditionalGeneration is an encoder-decoder"):
        grow(tmp_path, Model.save(tmp_path / "t5", encoder_decoder, None), Stack, layers=3)
    network: nn.Module = Mlp(inputs=4, hidden=(5,), classes=3).build(0, 0)
    network.architecture = {"use": "learn.models.mlp", "inputs": 4, "hidden": [5], "classes": 3}  # type: ignore[assignment]
    with pytest.raises(UserError, match="a network of our own has no blocks"):
        grow(tmp_path, Model.save(tmp_path / "mlp", network, None), **TWICE)
    one = t.GPT2LMHeadModel(t.GPT2Config(n_embd=16, n_layer=1, n_head=1, n_positions=16, vocab_size=40, bos_token_id=0, eos_token_id=0))
    with pytest.raises(UserError, match="belongs to one of 1 heads cannot be told"):
        grow(tmp_path, Model.save(tmp_path / "gpt2", one, None), hidden_size=32)
