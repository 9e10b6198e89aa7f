"""Whole experts and whole blocks: what is left against models built by hand from the dense one's tensors, in stock transformers."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import tiny_models
import torch
import transformers

from paredown.artifacts.block_shapes import SHAPES
from paredown.artifacts.model import Model
from paredown.core.context import Context, running
from paredown.core.errors import UserError
from paredown.engines import depth, hidden_states, structure
from paredown.learn.models.mlp import Mlp
from paredown.prune.cfsp import Cfsp
from paredown.prune.experts import Experts, kept_experts
from paredown.prune.layers import Layers, kept_blocks

TEXTS = [f"def function_{n}(value):\n    return value * {n} + {n % 7}\n" for n in range(60)]
CALIBRATED = {"calibration_tokens": 1024, "length": 64}
COUNT = {"mixtral": "num_local_experts", "qwen2_moe": "num_experts"}
IDS = torch.randint(0, 200, (2, 16), generator=torch.Generator().manual_seed(0))


def report(model: Model) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = json.loads((model.path / "pruning.json").read_text())
    return rows


def logits(module: Any) -> torch.Tensor:
    with torch.no_grad():
        found: torch.Tensor = module(input_ids=IDS).logits
    return found


def without_experts(model: Model, kept: list[list[int]]) -> Any:
    """The dense model in memory with experts and rows of the router cut by hand."""
    module: Any = model.load()
    for layer, rows in zip(module.model.layers, kept, strict=True):
        experts, gate = layer.mlp.experts, layer.mlp.gate
        for holder, name in ((experts, "gate_up_proj"), (experts, "down_proj"), (gate, "weight")):
            setattr(holder, name, torch.nn.Parameter(getattr(holder, name)[rows]))
        experts.num_experts = gate.num_experts = len(rows)
    return module


@pytest.mark.parametrize("score", ["usage", "weights", "random"])
@pytest.mark.parametrize("family", COUNT)
def test_stock_transformers_loads_what_is_left_of_the_experts(tmp_path, family, score):
    model, tokens = tiny_models.model(tmp_path / "model", family), tiny_models.tokens(tmp_path / "tokens", TEXTS)
    small = Experts(sparsity=0.25, score=score, **CALIBRATED)(model, tokens)
    kept = [row["experts_kept"] for row in report(small)]
    assert [len(rows) for rows in kept] == [3, 3]
    stock = transformers.AutoModelForCausalLM.from_pretrained(small.path).eval()
    assert getattr(stock.config, COUNT[family]) == 3
    assert torch.allclose(logits(stock), logits(without_experts(model, kept)), atol=1e-5)


@pytest.mark.parametrize("family", COUNT)
def test_blocks_may_keep_different_numbers_of_experts(tmp_path, family):
    model = tiny_models.model(tmp_path / "model", family)
    module: Any = model.load()
    with torch.no_grad():
        module.model.layers[0].mlp.experts.down_proj[1:] *= 0.1
    module.save_pretrained(model.path)
    small = Experts(sparsity=0.25, score="weights", compare="all", **CALIBRATED)(Model(model.path))
    kept = [row["experts_kept"] for row in report(small)]
    assert [len(rows) for rows in kept] == [2, 4]
    assert small.config[SHAPES] == {"layers": {"widths": {COUNT[family]: [2, 4]}}}
    assert torch.allclose(logits(small.load()), logits(without_experts(Model(model.path), kept)), atol=1e-5)


def test_experts_that_no_token_chooses_go_without_a_trace(tmp_path):
    """Of t, -t, u, -u, 0, 0 the last two are never among the two largest."""
    model, tokens = deep(tmp_path, "mixtral", num_local_experts=6), tiny_models.tokens(tmp_path / "tokens", TEXTS)
    module: Any = model.load()
    with torch.no_grad():
        for number, layer in enumerate(module.model.layers):
            gate, order = layer.mlp.gate.weight, torch.arange(6).roll(number)
            gate[order[1]], gate[order[3]], gate[order[4:]] = -gate[order[0]], -gate[order[2]], 0
    module.save_pretrained(model.path)
    small = Experts(sparsity=1 / 3, **CALIBRATED)(Model(model.path), tokens)
    for number, row in enumerate(report(small)):
        assert row["experts_kept"] == sorted(torch.arange(6).roll(number)[:4].tolist())
        assert sum(row["score"]) == 2 * 1024, "each of the tokens goes to two experts"
    assert torch.allclose(logits(small.load()), logits(module), atol=1e-5)


def test_which_experts_stay_by_hand():
    scores = [torch.tensor([4.0, 3.0, 2.0, 1.0]), torch.tensor([40.0, 30.0, 20.0, 10.0])]
    assert [rows.tolist() for rows in kept_experts(scores, 0.5, "block", 2)] == [[0, 1], [0, 1]]
    assert [rows.tolist() for rows in kept_experts(scores, 0.75, "block", 2)] == [[0, 1], [0, 1]], "as many as a token chooses"
    assert [rows.tolist() for rows in kept_experts(scores, 0.25, "all", 2)] == [[0, 1], [0, 1, 2, 3]]
    assert [rows.tolist() for rows in kept_experts(scores, 0.5, "all", 1)] == [[0], [0, 1, 2]]


def test_what_has_no_experts_says_so(tmp_path):
    model, tokens = tiny_models.model(tmp_path / "model", "llama"), tiny_models.tokens(tmp_path / "tokens", TEXTS)
    with pytest.raises(UserError, match="LlamaForCausalLM has no experts"):
        Experts(score="weights")(model)
    with pytest.raises(UserError, match="needs calibration tokens"):
        Experts()(model)
    units = structure.experts(tiny_models.model(tmp_path / "moe" / "model", "mixtral"))
    with pytest.raises(UserError, match="needs 2 experts in each block"):
        units.check([1, 2])
    assert tokens.tokens


DEEP = {"num_hidden_layers": 4}


def deep(folder: Path, family: str, **more: Any) -> Model:
    old = tiny_models.SHAPES[family]
    kind = type(old(vocab_size=9))
    base = {k: v for k, v in old(vocab_size=9).to_dict().items() if k in KEPT}
    four = {"n_layer": 4} if family == "gpt2" else DEEP
    tiny_models.SHAPES[family] = lambda **k: kind(**(base | four | more), **k)
    try:
        return tiny_models.model(folder / "model", family)
    finally:
        tiny_models.SHAPES[family] = old


KEPT = (
    "hidden_size", "intermediate_size", "num_attention_heads", "num_key_value_heads", "max_position_embeddings", "n_embd", "n_head", "n_positions", "ffn_dim",
    "word_embed_proj_dim", "num_local_experts", "moe_intermediate_size", "shared_expert_intermediate_size", "num_experts", "num_experts_per_tok",
    "head_dim", "sliding_window",
)  # fmt: skip


@pytest.mark.parametrize("score", ["influence", "random"])
@pytest.mark.parametrize("family", ["llama", "qwen2", "gpt2", "opt", "gpt_neox", "mixtral", "qwen2_moe", "bert"])
def test_stock_transformers_loads_what_is_left_of_the_blocks(tmp_path, family, score):
    model, tokens = deep(tmp_path, family), tiny_models.tokens(tmp_path / "tokens", TEXTS)
    small = Layers(sparsity=0.5, score=score, **CALIBRATED)(model, tokens)
    kept = [number for number, row in enumerate(report(small)) if row["kept"]]
    kind = transformers.AutoModelForMaskedLM if family == "bert" else transformers.AutoModelForCausalLM
    stock = kind.from_pretrained(small.path).eval()
    dense: Any = model.load()
    name = depth.block_names(model)[0].rpartition(".")[0]
    parent, _, last = name.rpartition(".")
    blocks = dense.base_model.get_submodule(name)
    setattr(dense.base_model.get_submodule(parent), last, torch.nn.ModuleList([blocks[number] for number in kept]))
    if hasattr(dense.config, "num_hidden_layers"):
        dense.config.num_hidden_layers = 2
    with torch.no_grad():
        assert torch.allclose(logits(stock), dense(input_ids=IDS, use_cache=False).logits if family != "bert" else logits(dense), atol=1e-5)


def test_influence_against_the_states_of_the_loaded_model(tmp_path):
    model, tokens = deep(tmp_path, "llama"), tiny_models.tokens(tmp_path / "tokens", TEXTS)
    small = Layers(sparsity=0.25, calibration_tokens=10**6, length=32)(model, tokens)
    ids = torch.from_numpy(tokens.ids[: tokens.tokens // 32 * 32].astype("int64")).view(-1, 32)
    dense: Any = model.load()
    seen: list[torch.Tensor] = []
    for layer in dense.model.layers:
        layer.register_forward_hook(lambda _m, args, out: seen.append(1 - torch.cosine_similarity(args[0], out, dim=-1).mean()))
    with torch.no_grad():
        dense(input_ids=ids)
    scores = [row["score"] for row in report(small)]
    assert scores == pytest.approx([float(value) for value in seen], rel=1e-4)
    assert [row["kept"] for row in report(small)] == [score > min(scores) for score in scores]


def test_which_blocks_stay_by_hand():
    assert kept_blocks([1.0, 0.5, 0.5, 2.0], 0.25) == [0, 1, 3], "of equals the first"
    assert kept_blocks([1.0, 0.5, 0.25, 2.0], 0.5) == [0, 3]
    assert kept_blocks([1.0], 0.9) == [0]


def test_a_block_that_changes_nothing_goes_without_a_trace(tmp_path):
    model, tokens = deep(tmp_path, "llama"), tiny_models.tokens(tmp_path / "tokens", TEXTS)
    module: Any = model.load()
    with torch.no_grad():
        module.model.layers[1].mlp.down_proj.weight.zero_()
        module.model.layers[1].self_attn.o_proj.weight.zero_()
    module.save_pretrained(model.path)
    for score in ("influence", "angular"):
        small = Layers(sparsity=0.25, score=score, **CALIBRATED)(Model(model.path), tokens)
        assert [row["kept"] for row in report(small)] == [True, False, True, True]
        assert report(small)[1]["score"] == pytest.approx(0, abs=1e-6)
        assert torch.equal(logits(small.load()), logits(module))


def test_a_block_whose_computation_depends_on_its_place_is_refused(tmp_path):
    tokens = tiny_models.tokens(tmp_path / "tokens", TEXTS)
    with pytest.raises(UserError, match="compute with their number"):
        Layers(score="last")(deep(tmp_path / "gpt2", "gpt2", scale_attn_by_inverse_layer_idx=True), tokens)
    with pytest.raises(UserError, match="no blocks that can be removed"):
        Layers(score="last")(tiny_models.network(tmp_path / "network", Mlp(inputs=6, hidden=(5,), classes=3)))


def test_settings_of_each_block_go_with_it(tmp_path):
    """Qwen2 with windows in some blocks: the list of kinds loses those of the blocks that go; without that list it is refused."""
    kinds = ["full_attention", "sliding_attention", "full_attention", "sliding_attention"]
    model = deep(tmp_path, "qwen2", layer_types=kinds, use_sliding_window=True, sliding_window=4, max_window_layers=1)
    (tmp_path / "scratch").mkdir()
    with running(Context(tmp_path / "out", tmp_path / "scratch", None, "test")):
        small = depth.take(model, [1, 2])
    assert small.config["layer_types"] == ["sliding_attention", "full_attention"]
    assert small.load().config.num_hidden_layers == 2
    broken = json.loads((model.path / "config.json").read_text())
    broken["layer_types"] = [*kinds, "full_attention"]
    (tmp_path / "again").mkdir()
    odd = Model(model.path)
    odd.__dict__["config"] = broken
    with (
        running(Context(tmp_path / "other", tmp_path / "again", None, "test")),
        pytest.raises(UserError, match=r"another kind of block|does not take"),
    ):
        depth.take(odd, [1, 2])


def test_uneven_blocks_keep_their_widths(tmp_path):
    model, tokens = deep(tmp_path, "llama"), tiny_models.tokens(tmp_path / "tokens", TEXTS)
    uneven = Cfsp(sparsity=0.5, steepness=40, **CALIBRATED)(model, tokens)
    widths = uneven.config[SHAPES]["layers"]["widths"]["intermediate_size"]
    small = Layers(sparsity=0.25, **CALIBRATED)(uneven, tokens)
    kept = [number for number, row in enumerate(report(small)) if row["kept"]]
    assert small.config[SHAPES]["layers"]["widths"]["intermediate_size"] == [widths[number] for number in kept]
    assert logits(small.load()).isfinite().all()
    single = Layers(sparsity=0.75, **CALIBRATED)(uneven, tokens)
    assert SHAPES not in single.config
    assert transformers.AutoModelForCausalLM.from_pretrained(single.path).config.intermediate_size in widths


def test_shards_keep_their_names(tmp_path):
    model, tokens = deep(tmp_path, "llama"), tiny_models.tokens(tmp_path / "tokens", TEXTS)
    loaded: Any = model.load()
    (model.path / "model.safetensors").unlink()
    loaded.save_pretrained(model.path, max_shard_size="30KB")
    small = Layers(sparsity=0.5, **CALIBRATED)(Model(model.path), tokens)
    mapping = json.loads((small.path / "model.safetensors.index.json").read_text())["weight_map"]
    assert {int(re.findall(r"layers\.(\d+)\.", key)[0]) for key in mapping if "layers." in key} == {0, 1}
    assert set(mapping.values()) == {path.name for path in small.path.glob("*.safetensors")}
    assert torch.equal(logits(transformers.AutoModelForCausalLM.from_pretrained(small.path).eval()), logits(small.load()))


def test_the_change_of_states_of_no_length():
    assert hidden_states.change(torch.zeros(2, 3), torch.ones(2, 3)) == pytest.approx(1), "no direction turns half way"
