"""Growth: the same function by closed forms, in any width and depth; heads are copied whole; what cannot grow says so."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from paredown.artifacts.model import Model
from paredown.core.context import Context, running
from paredown.core.errors import UserError
from paredown.engines import growth
from paredown.engines.growth import Size, counts, even_map, expand, random_map, stacked_from
from paredown.learn.growth.bert2bert import Bert2bert
from paredown.learn.growth.direct_copy import DirectCopy, cornered

IDS = torch.arange(24).reshape(2, 12) * 5 % 40


def configs() -> dict[str, Any]:
    import transformers as t

    shape: dict[str, Any] = {
        "hidden_size": 16,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "max_position_embeddings": 32,
        "vocab_size": 40,
    }
    llama = {**shape, "intermediate_size": 24, "bos_token_id": 0, "eos_token_id": 0}
    return {
        "llama": t.LlamaConfig(**llama),
        "tied": t.LlamaConfig(**llama, tie_word_embeddings=True),
        "grouped": t.LlamaConfig(**{**llama, "num_attention_heads": 4, "num_key_value_heads": 2}),
        "qwen2": t.Qwen2Config(**llama, num_key_value_heads=2, tie_word_embeddings=False),
        "opt": t.OPTConfig(**shape, ffn_dim=24, word_embed_proj_dim=16, dropout=0.0, bos_token_id=0, eos_token_id=0, pad_token_id=1),
        "bert": t.BertConfig(**shape, intermediate_size=24, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0),
    }


def module_of(family: str) -> Any:
    import transformers as t

    torch.manual_seed(0)
    config = configs()[family]
    kind = t.BertForMaskedLM if family == "bert" else t.AutoModelForCausalLM
    made: Any = kind(config) if family == "bert" else kind.from_config(config)
    for parameter in made.parameters():  # biases and norms that say something
        if parameter.ndim == 1:
            nn.init.normal_(parameter, 1.0 if "norm" in family else 0.3, 0.2)
    return made.eval()


def saved(folder: Path, family: str) -> Model:
    return Model.save(folder, module_of(family), None)


def grow(folder: Path, model: Model, strategy: Any = None, **knobs: Any) -> Model:
    with running(Context(folder / "out", folder / "scratch", seed=0)):
        return (strategy or Bert2bert)(**knobs)(model)


def logits(model: Model, double: bool = False) -> Any:
    module = model.load()
    with torch.no_grad():
        return (module.double() if double else module.float())(input_ids=IDS).logits


TWICE = {"hidden_size": 32, "intermediate_size": 48}


@pytest.mark.parametrize("family", list(configs()))
def test_twice_the_width_is_the_same_function_with_norms(tmp_path: Path, family: str) -> None:
    model = saved(tmp_path / "small", family)
    grown = grow(tmp_path, model, **TWICE)
    torch.testing.assert_close(logits(grown, double=True), logits(model, double=True), rtol=1e-6, atol=1e-6)
    config = grown.load().config
    assert config.hidden_size // config.num_attention_heads == 16 // configs()[family].num_attention_heads


@pytest.mark.parametrize("mapping", ["even", "random"])
def test_any_map_is_the_same_function_without_norms(tmp_path: Path, mapping: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Width 24 copies half of 16 places twice; norms would see that, so they are put away."""
    from transformers.models.llama.modeling_llama import LlamaRMSNorm

    monkeypatch.setattr(LlamaRMSNorm, "forward", lambda self, x: x * self.weight)
    for seed in range(3):
        model = saved(tmp_path / f"small{seed}", "llama")
        with running(Context(tmp_path / f"o{seed}", tmp_path / "s", seed=seed)):
            grown = Bert2bert(hidden_size=24, intermediate_size=31, mapping=mapping)(model)
        torch.testing.assert_close(logits(grown, True), logits(model, True), rtol=1e-6, atol=1e-7)


def test_stacking_repeats_whole_stacks_and_then_the_top() -> None:
    assert stacked_from(3, 6) == [0, 1, 2, 0, 1, 2]
    assert stacked_from(3, 8) == [0, 1, 2, 0, 1, 2, 1, 2]
    assert stacked_from(4, 4) == [0, 1, 2, 3]


@pytest.mark.parametrize("added", ["own", "next"])
def test_nothing_to_grow_changes_nothing(tmp_path: Path, added: str) -> None:
    model = saved(tmp_path / "small", "llama")
    grown = grow(tmp_path, model, hidden_size=16, added=added)
    assert torch.equal(logits(grown), logits(model))


def test_depth_alone_stacks_the_blocks(tmp_path: Path) -> None:
    model = saved(tmp_path / "small", "llama")
    small, large = model.load().state_dict(), grow(tmp_path, model, layers=5).load().state_dict()
    for block, source in enumerate([0, 1, 0, 1, 1]):
        for name in ("self_attn.q_proj.weight", "mlp.down_proj.weight", "input_layernorm.weight"):
            assert torch.equal(large[f"model.layers.{block}.{name}"], small[f"model.layers.{source}.{name}"])


def test_shares_sum_to_what_was_there() -> None:
    weight, generator = torch.randn(7, 5, dtype=torch.float64), torch.Generator().manual_seed(0)
    for places in (even_map(13, 5), random_map(13, 5, generator)):
        grown = expand(weight, 1, places, reads=True)
        for old in range(5):
            torch.testing.assert_close(grown[:, places == old].sum(1), weight[:, old], rtol=1e-12, atol=0)
        assert counts(places, 5).sum() == 13
    assert torch.equal(expand(weight, 0, even_map(9, 7), reads=False), weight[torch.tensor([0, 1, 2, 3, 4, 5, 6, 0, 1])])


def test_copies_of_heads_attend_like_their_source(tmp_path: Path) -> None:
    model = saved(tmp_path / "small", "llama")
    grown = grow(tmp_path, model, **TWICE)
    maps = []
    for made in (model, grown):
        module = made.load()
        module.set_attn_implementation("eager")
        with torch.no_grad():
            maps.append(module(input_ids=IDS, output_attentions=True).attentions)
    for small, large in zip(*maps, strict=True):
        torch.testing.assert_close(large, small[:, torch.tensor([0, 1, 0, 1])], rtol=1e-4, atol=1e-6)


def test_added_neurons_of_the_next_block(tmp_path: Path) -> None:
    model = saved(tmp_path / "small", "llama")
    own, nxt = (grow(tmp_path / added, model, **TWICE, added=added).load().state_dict() for added in ("own", "next"))
    for name, old in (("mlp.up_proj.weight", 24), ("self_attn.q_proj.weight", 16), ("self_attn.o_proj.weight", 16)):
        first = nxt[f"model.layers.0.{name}"]
        assert torch.equal(first[:old], own[f"model.layers.0.{name}"][:old])
        assert torch.equal(first[old:], own[f"model.layers.1.{name}"][old:])
        assert torch.equal(nxt[f"model.layers.1.{name}"], own[f"model.layers.1.{name}"]), "the last block keeps to its own"
    for name in ("model.embed_tokens.weight", "lm_head.weight", "model.layers.0.input_layernorm.weight"):
        assert torch.equal(nxt[name], own[name])


def test_with_equal_blocks_both_are_the_same(tmp_path: Path) -> None:
    module = module_of("llama")
    module.model.layers[1].load_state_dict(module.model.layers[0].state_dict())
    model = Model.save(tmp_path / "small", module, None)
    own, nxt = (grow(tmp_path / added, model, **TWICE, added=added) for added in ("own", "next"))
    assert torch.equal(logits(own), logits(nxt))


def test_noise_breaks_the_symmetry_a_little(tmp_path: Path) -> None:
    model = saved(tmp_path / "small", "llama")
    rough = grow(tmp_path, model, **TWICE, noise=1e-3)
    difference = (logits(rough) - logits(model)).abs().max()
    assert 0 < difference < 0.05


def test_a_corner_holds_the_small_model(tmp_path: Path) -> None:
    assert cornered(torch.zeros(3, 3), torch.ones(2, 1)).tolist() == [[1, 0, 0], [1, 0, 0], [0, 0, 0]]
    model = saved(tmp_path / "small", "llama")
    made = grow(tmp_path, model, DirectCopy, **TWICE, layers=3)
    small, large = model.load().state_dict(), made.load().state_dict()
    for name, value in small.items():
        assert torch.equal(large[name][tuple(slice(0, n) for n in value.shape)], value)
    assert large["model.layers.2.mlp.up_proj.weight"].std() > 0


@pytest.mark.parametrize(
    ("family", "knobs", "said"),
    [
        ("llama", {"hidden_size": 8}, "smaller than the model's 16"),
        ("llama", {"layers": 1}, "num_hidden_layers: 1 is smaller"),
        ("grouped", {"heads": 5}, "5 heads cannot be shared out"),
        ("bert", {"hidden_size": 20}, "heads keep their size"),
    ],
)
def test_what_cannot_grow_says_so(tmp_path: Path, family: str, knobs: dict[str, int], said: str) -> None:
    with pytest.raises(UserError, match=said):
        grow(tmp_path, saved(tmp_path / "small", family), **knobs)


def test_one_matrix_for_queries_keys_and_values_is_refused(tmp_path: Path) -> None:
    import transformers as t

    model = Model.save(
        tmp_path / "gpt2", t.GPT2LMHeadModel(t.GPT2Config(n_embd=16, n_layer=1, n_head=2, n_positions=16, vocab_size=40)), None
    )
    with pytest.raises(UserError, match="one matrix"):
        grow(tmp_path, model, hidden_size=32)
    assert growth.Size() == Size()
