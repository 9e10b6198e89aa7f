"""Channels, heads and filters that are really gone: shapes, configuration, outputs, and stock transformers."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny_models
import torch
import transformers
from torch import nn

from paredown.artifacts.model import Model
from paredown.core.context import Context, Listener, running
from paredown.core.errors import DataError, UserError
from paredown.learn.models.llama import Llama
from paredown.learn.models.mlp import Mlp
from paredown.learn.models.resnet import Resnet
from paredown.prune.channels import Channels, kept_units, unit_scores

TEXTS = [f"def function_{n}(value):\n    return value * {n} + {n % 7}\n" for n in range(60)]
CALIBRATED = {"calibration_tokens": 1024, "length": 64}
FAMILIES = {"llama": "intermediate_size", "qwen3": "intermediate_size", "mistral": "intermediate_size", "gpt2": "n_inner", "gpt_neox": "intermediate_size", "opt": "ffn_dim", "bert": "intermediate_size"}  # fmt: skip


def same_as_masked(dense_model: Model, small_model: Model) -> int:
    """The small model computes what the dense one does where everything that is gone is zero; gives the number of cut tensors."""
    kind = transformers.AutoModelForMaskedLM if "bert" in dense_model.config["model_type"] else transformers.AutoModelForCausalLM
    stock = kind.from_pretrained(small_model.path).eval()
    dense, small = dict(dense_model.load().named_parameters()), dict(stock.named_parameters())
    zeroed = dense_model.load()
    changed = 0
    for name, parameter in zeroed.named_parameters():
        if parameter.shape != small[name].shape:
            changed += 1
            dim = next(d for d in range(parameter.dim()) if parameter.shape[d] != small[name].shape[d])
            whole = dense[name].movedim(dim, 0).flatten(1) if parameter.dim() > 1 else dense[name][:, None]
            left = small[name].movedim(dim, 0).flatten(1) if parameter.dim() > 1 else small[name][:, None]
            kept = [bool((row == left).all(dim=1).any()) for row in whole]
            assert sum(kept) == len(left)
            with torch.no_grad():
                parameter.movedim(dim, 0)[~torch.tensor(kept)] = 0
    ids = torch.randint(0, 200, (2, 16), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        assert torch.allclose(stock(input_ids=ids).logits, zeroed(input_ids=ids).logits, atol=1e-4)
    return changed


@pytest.mark.parametrize("score", ["activations", "weights", "l1", "random"])
@pytest.mark.parametrize("family", FAMILIES)
def test_the_narrow_model_computes_what_the_zeroed_one_does(tmp_path, family, score):
    """Removing a channel equals zeroing the weights that make and use it."""
    model = tiny_models.model(tmp_path / "model", family)
    tokens = tiny_models.tokens(tmp_path / "tokens", TEXTS)
    narrow = Channels(sparsity=0.5, score=score, **CALIBRATED)(model, tokens)
    assert narrow.load().config.to_dict()[FAMILIES[family]] == (128 if family == "gpt2" else 48) // 2
    assert narrow.parameters()["total"] < model.parameters()["total"]
    assert same_as_masked(model, narrow) >= 2


def wider(folder: Path, family: str, **more: Any) -> Model:
    """A tiny model with eight heads, four of keys and values."""
    shape: dict[str, Any] = {
        "hidden_size": 32, "intermediate_size": 48, "num_attention_heads": 8, "num_key_value_heads": 4, "head_dim": 6, "num_hidden_layers": 2,
        "max_position_embeddings": 64,
    }  # fmt: skip
    old = tiny_models.SHAPES.get(family)
    kind = getattr(transformers, {"phi3": "Phi3Config", "gemma2": "Gemma2Config"}.get(family, "") or type(old(vocab_size=9)).__name__)
    tiny_models.SHAPES[family] = lambda **k: kind(**(shape | more), **k)
    try:
        return tiny_models.model(folder / "model", family)
    finally:
        if old is None:
            del tiny_models.SHAPES[family]
        else:
            tiny_models.SHAPES[family] = old


@pytest.mark.parametrize("score", ["activations", "weights", "l1", "random"])
@pytest.mark.parametrize("grouped", ["whole", "within"])
@pytest.mark.parametrize("family", ["llama", "qwen2", "qwen3", "gemma2", "phi3"])
def test_a_model_without_heads_computes_what_the_masked_one_does(tmp_path, family, grouped, score):
    model = wider(tmp_path, family)
    tokens = tiny_models.tokens(tmp_path / "tokens", TEXTS)
    small = Channels(sparsity=0.25, heads=0.5, grouped=grouped, score=score, **CALIBRATED)(model, tokens)
    config = small.load().config
    assert (config.num_attention_heads, config.num_key_value_heads, config.head_dim) == (4, 2 if grouped == "whole" else 4, 6)
    assert config.intermediate_size == 36
    attention = {"llama": 3, "qwen2": 3, "qwen3": 3, "gemma2": 3, "phi3": 1}[family] + 1
    feed_forward = 2 if family == "phi3" else 3
    biases = {"qwen2": 3}.get(family, 0)
    kept_keys = 0 if family == "phi3" or grouped == "whole" else 2 + (2 if biases else 0)
    assert same_as_masked(model, small) == 2 * (attention + biases + feed_forward - kept_keys)


def test_heads_alone_and_in_a_mixture_of_experts(tmp_path):
    model = tiny_models.model(tmp_path / "model", "mixtral")
    tokens = tiny_models.tokens(tmp_path / "tokens", TEXTS)
    small = Channels(sparsity=0.0, heads=0.5, **CALIBRATED)(model, tokens)
    assert small.config["intermediate_size"] == model.config["intermediate_size"]
    assert same_as_masked(model, small) == 2 * 4


def test_stock_transformers_generates(tmp_path):
    model = tiny_models.model(tmp_path / "model", "llama")
    narrow = Channels(sparsity=0.5, score="weights")(model)
    loaded = transformers.AutoModelForCausalLM.from_pretrained(narrow.path)
    assert loaded.generate(torch.tensor([[1, 2, 3]]), max_new_tokens=4, do_sample=False).shape == (1, 7)
    assert transformers.AutoTokenizer.from_pretrained(narrow.path)("abc").input_ids == model.tokenizer("abc").input_ids


def test_scores_by_hand():
    down = torch.tensor([[1.0, -2.0], [3.0, 0.5]])  # (hidden, channels)
    up = torch.tensor([[3.0, 4.0], [1.0, 0.0]])  # (channels, hidden)
    each = torch.arange(2)[:, None]
    uses, makes = [(down, each)], [(up, each)]
    assert unit_scores(makes, uses, "activations", torch.tensor([2.0, 4.0])).tolist() == [8.0, 10.0]
    assert unit_scores(makes * 2, uses, "weights").tolist() == pytest.approx([10**0.5 * 25, 4.25**0.5])
    assert unit_scores(makes, [], "l1").tolist() == [7.0, 1.0]


def test_scores_of_heads_by_hand():
    """Two heads of width 2; the second head of keys has rows 1 and 3 of its matrix."""
    out = torch.tensor([[1.0, -2.0, 3.0, 4.0], [0.0, 1.0, -1.0, 0.0]])  # (hidden, columns)
    keys = torch.tensor([[1.0], [2.0], [-3.0], [4.0]])
    uses, makes = [(out, torch.tensor([[0, 1], [2, 3]]))], [(keys, torch.tensor([[0, 2], [1, 3]]))]
    assert unit_scores(makes, uses, "activations", torch.tensor([1.0, 2.0, 3.0, 0.5])).tolist() == [1 + 6, 12 + 2]
    assert unit_scores(makes, uses, "l1").tolist() == [4 + 4, 8 + 6]
    assert unit_scores(makes, uses, "weights").tolist() == pytest.approx([(6 * 10) ** 0.5, (26 * 20) ** 0.5])


def test_the_number_of_channels_is_rounded_up():
    scores = torch.tensor([5.0, 1.0, 4.0, 2.0, 3.0, 0.0, 6.0, 7.0, 8.0, 9.0])
    assert kept_units(scores, 0.5, 1).tolist() == [0, 6, 7, 8, 9]
    assert kept_units(scores, 0.5, 4).tolist() == [0, 2, 3, 4, 6, 7, 8, 9]
    assert kept_units(scores, 0.0, 1).tolist() == list(range(10))
    assert len(kept_units(scores, 0.05, 8)) == 10
    assert kept_units(scores, 0.5, 1, sets=5).tolist() == [0, 2, 4, 7, 9], "the better one of each pair"
    assert kept_units(torch.ones(6), 0.5, 1).tolist() == [0, 1, 2], "of equals the first"


def test_activations_beat_chance_where_few_channels_matter(tmp_path):
    """Channels whose use is tiny are the ones that go."""
    module = tiny_models.module("llama")
    with torch.no_grad():
        for layer in module.model.layers:
            layer.mlp.down_proj.weight[:, ::2] *= 1e-3
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


def test_the_heads_whose_output_is_least_used_go(tmp_path):
    model = wider(tmp_path, "llama")
    module: Any = model.load()
    with torch.no_grad():
        for number, layer in enumerate(module.model.layers):
            columns = layer.self_attn.o_proj.weight.view(32, 4, 12)
            columns[:, number] *= 1e-3
            columns[:, 3] *= 1e-3
    module.save_pretrained(model.path)
    for score in ("activations", "weights"):
        small: Any = Channels(heads=0.5, score=score, **CALIBRATED)(
            Model(model.path), tiny_models.tokens(tmp_path / f"tokens-{score}", TEXTS)
        ).load()
        for number, (layer, old) in enumerate(zip(small.model.layers, module.model.layers, strict=True)):
            stays = [head for head in range(4) if head not in (number, 3)]
            for name in ("k_proj", "v_proj"):
                whole = getattr(old.self_attn, name).weight.view(4, 6, 32)
                assert torch.equal(getattr(layer.self_attn, name).weight, whole[stays].reshape(12, 32))


def test_heads_that_the_class_cannot_hold_are_refused_before_pruning(tmp_path):
    model = wider(tmp_path, "llama", num_key_value_heads=8)
    for share, nearest in ((0.25, r"set heads: 0.5 \(4 heads stay\) or 0 \(8 heads stay\)"), (0.65, r"0.75 \(2 heads stay\) or 0.5")):
        with pytest.raises(UserError, match=nearest):
            Channels(heads=share, score="weights")(model)
    with pytest.raises(UserError, match="cannot hold fewer heads of the same width"):
        Channels(heads=0.5, score="weights")(tiny_models.model(tmp_path / "bert" / "m", "bert"))


def test_nothing_removed_is_the_same_file(tmp_path):
    for family in ("llama", "gpt2"):
        model = tiny_models.model(tmp_path / family / "model", family)
        same = Channels(sparsity=0.0, score="l1")(model)
        assert (same.path / "model.safetensors").read_bytes() == (model.path / "model.safetensors").read_bytes()


def test_an_interrupted_removal_goes_on(tmp_path):
    class Stop(Listener):
        def progress(self, done: float, total: float | None, unit: str, note: str) -> None:
            raise KeyboardInterrupt

    model, tokens = wider(tmp_path, "llama"), tiny_models.tokens(tmp_path / "tokens", TEXTS)
    strategy = Channels(heads=0.5, **CALIBRATED)
    digests = []
    for scratch, listener in (("one", Listener()), ("two", Stop()), ("two", Listener())):
        (tmp_path / scratch).mkdir(exist_ok=True)
        step = Context(tmp_path / f"out{len(digests)}", tmp_path / scratch, 0, "prune.channels", listener=listener)
        with running(step):
            try:
                digests.append(hashlib.sha256((strategy(model, tokens).path / "model.safetensors").read_bytes()).hexdigest())
            except KeyboardInterrupt:
                digests.append("")
    assert digests[0] == digests[2] != digests[1] == ""


def test_a_fresh_llama_has_the_same_shape(tmp_path):
    """What training the small shape from scratch needs: knobs that describe the pruned model exactly."""
    dense = Llama(hidden_size=32, layers=2, heads=8, key_value_heads=4, intermediate_size=48, max_length=64)
    model = Model.save(tmp_path / "dense", dense.build(300, 0))
    small = Channels(sparsity=0.5, heads=0.5, score="l1")(model)
    knobs = {"heads": 4, "key_value_heads": 2, "head_dim": 4, "intermediate_size": 24}
    fresh = Llama(hidden_size=32, layers=2, max_length=64, **knobs)
    built = fresh.build(300, 0)
    loaded = small.load()
    assert {n: p.shape for n, p in built.named_parameters()} == {n: p.shape for n, p in loaded.named_parameters()}
    assert fresh.parameters(300) == sum(p.numel() for p in built.parameters()) == small.parameters()["total"]
    ours, theirs = built.config.to_dict(), loaded.config.to_dict()
    assert {key for key in ours if ours[key] != theirs.get(key)} <= {"_name_or_path", "architectures", "dtype", "transformers_version"}
    built.load_state_dict(loaded.state_dict())
    ids = torch.arange(1, 20)[None]
    assert torch.equal(built.eval()(ids).logits, loaded(ids).logits)


@pytest.mark.parametrize(
    "knobs", [{"heads": 4}, {"heads": 4, "head_dim": 6}, {"heads": 2, "key_value_heads": 1, "head_dim": 32, "tie_embeddings": False}]
)
def test_the_count_of_a_llama_with_its_own_width_of_heads_is_exact(knobs):
    shape = Llama(hidden_size=32, layers=2, **knobs)
    assert shape.parameters(50) == sum(p.numel() for p in shape.build(50, 0).parameters())
    assert shape.build(50, 0).config.head_dim == knobs.get("head_dim", 8)


def test_the_width_of_a_head_must_be_even():
    with pytest.raises(ValueError, match=r"head_dim \(5\) must be even"):
        Llama(hidden_size=32, head_dim=5)


RESNETS = [Resnet(channels=1, classes=3, widths=(8, 12), blocks=(2, 2)), Resnet(channels=2, widths=(4,), blocks=(2,), inner=(9, 6))]


@pytest.mark.parametrize("score", ["l1", "weights", "random"])
@pytest.mark.parametrize("architecture", RESNETS, ids=["stages", "inner"])
def test_a_network_without_filters_computes_what_the_masked_one_does(tmp_path, architecture, score):
    model = tiny_models.network(tmp_path / "network", architecture)
    small = Channels(sparsity=0.5, score=score, multiple=1)(model)
    masked: Any = model.load()
    report = json.loads((small.path / "pruning.json").read_text())
    widths = [block.conv1.out_channels for block in masked.blocks]
    assert [(row["name"], row["filters"]) for row in report] == [(f"blocks.{n}.conv1", width) for n, width in enumerate(widths)]
    for block, row in zip(masked.blocks, report, strict=True):
        gone = torch.ones(row["filters"], dtype=torch.bool)
        gone[row["kept"]] = False
        assert int(gone.sum()) == row["filters"] // 2
        with torch.no_grad():  # a filter that is zero still leaves the shift of its norm
            block.norm1.weight[gone] = 0
            block.norm1.bias[gone] = 0
    x = torch.randn(5, architecture.channels, 12, 12, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        assert torch.allclose(small.load()(x), masked(x), atol=1e-5)
    if score == "l1":
        for block, row in zip(model.load().blocks, report, strict=True):  # type: ignore[union-attr]
            norms = np.abs(block.conv1.weight.detach().double().numpy()).sum(axis=(1, 2, 3))
            assert row["kept"] == sorted(np.argsort(-norms, kind="stable")[: len(row["kept"])].tolist())


@pytest.mark.parametrize("architecture", RESNETS, ids=["stages", "inner"])
def test_a_fresh_resnet_has_the_same_shape(tmp_path, architecture):
    model = tiny_models.network(tmp_path / "network", architecture)
    small = Channels(sparsity=0.5, score="l1")(model)
    inner = [-(-(width - width // 2) // 4) * 4 for width in architecture.inner or (8, 8, 12, 12)]
    assert small.config["paredown"] == {**architecture.spec(), "inner": [min(8, i) for i in inner]}
    fresh = architecture.model_copy(update={"inner": tuple(small.config["paredown"]["inner"])})
    assert {n: t.shape for n, t in fresh.build(0, 0).state_dict().items()} == {n: t.shape for n, t in small.load().state_dict().items()}
    assert fresh.parameters(0) == sum(p.numel() for p in small.load().parameters()) < architecture.parameters(0)
    again = Channels(sparsity=0.5, score="l1", multiple=1)(small)
    assert again.config["paredown"]["inner"] == [i - i // 2 for i in small.config["paredown"]["inner"]], "what is pruned can be pruned"


def test_all_filters_are_the_same_model_bit_for_bit(tmp_path):
    model = tiny_models.network(tmp_path / "network", RESNETS[0])
    same = Channels(sparsity=0.0, score="l1")(model)
    for name in ("model.safetensors", "config.json"):
        assert (same.path / name).read_bytes() == (model.path / name).read_bytes()


def test_hidden_units_of_a_perceptron(tmp_path):
    """The unit with the smallest L1 norm of incoming weights goes; what is left is the network without it."""
    model = tiny_models.network(tmp_path / "network", Mlp(inputs=6, hidden=(8, 12), classes=3))
    small = Channels(sparsity=0.5, score="l1")(model)
    assert small.config["paredown"]["hidden"] == [4, 8]
    module, rows = model.load(), json.loads((small.path / "pruning.json").read_text())
    first, second = (module.get_submodule(f"blocks.{n}.linear") for n in (0, 1))
    assert rows[0]["kept"] == sorted(first.weight.abs().sum(1).argsort(descending=True)[:4].tolist())
    x = torch.randn(5, 6, generator=torch.Generator().manual_seed(1))
    hidden = torch.relu(first(x))[:, rows[0]["kept"]]
    hidden = torch.relu(hidden @ second.weight[:, rows[0]["kept"]].T + second.bias)[:, rows[1]["kept"]]
    expected = hidden @ module.get_submodule("head").weight[:, rows[1]["kept"]].T + module.get_submodule("head").bias
    assert torch.allclose(small.load()(x), expected, atol=1e-5)


def test_what_a_network_cannot_lose_it_says(tmp_path):
    model = tiny_models.network(tmp_path / "network", RESNETS[0])
    with pytest.raises(UserError, match="scored by their weights"):
        Channels()(model)
    with pytest.raises(UserError, match="no heads"):
        Channels(score="l1", heads=0.5)(model)
    module = model.load()
    with torch.no_grad():
        module.get_submodule("blocks.1.conv1").weight[0, 0, 0, 0] = float("nan")
    module.architecture = RESNETS[0].spec()  # type: ignore[assignment]
    with pytest.raises(DataError, match=r"blocks\.1\.conv1\.weight holds 1 weights that are NaN"):
        Channels(score="l1")(Model.save(tmp_path / "nan", module))


def test_later_layers_are_calibrated_on_what_is_left(tmp_path):
    """Heads and channels of the second block, chosen by hand on the dense model with all that went before them set to zero."""
    model, tokens = wider(tmp_path, "llama"), tiny_models.tokens(tmp_path / "tokens", TEXTS)
    small: Any = Channels(sparsity=0.5, heads=0.5, calibration_tokens=10**6, length=32)(model, tokens).load()
    ids = torch.from_numpy(tokens.ids[: tokens.tokens // 32 * 32].astype("int64")).view(-1, 32)
    masked: Any = model.load()

    def stays(left: torch.Tensor, whole: torch.Tensor) -> torch.Tensor:
        return torch.tensor([bool((row == left).all(dim=1).any()) for row in whole])

    def scores(layer: nn.Linear) -> torch.Tensor:
        seen: list[torch.Tensor] = []
        hook = layer.register_forward_pre_hook(lambda _m, args: seen.append(args[0].flatten(0, 1)))
        with torch.no_grad():
            masked(input_ids=ids)
        hook.remove()
        return layer.weight.detach().abs().sum(dim=0) * seen[0].norm(dim=0)

    for block, left in zip(masked.model.layers, small.model.layers, strict=True):
        by_head = scores(block.self_attn.o_proj).view(4, 12).sum(dim=1)
        kept = stays(left.self_attn.k_proj.weight, block.self_attn.k_proj.weight).view(4, 6)
        assert kept.all(dim=1).nonzero().flatten().tolist() == sorted(by_head.topk(2).indices.tolist())
        with torch.no_grad():
            block.self_attn.o_proj.weight.view(32, 4, 12)[:, ~kept.all(dim=1)] = 0
        by_channel = scores(block.mlp.down_proj)
        kept = stays(left.mlp.up_proj.weight, block.mlp.up_proj.weight)
        assert kept.nonzero().flatten().tolist() == sorted(by_channel.topk(24).indices.tolist())
        with torch.no_grad():
            block.mlp.down_proj.weight[:, ~kept] = 0


def test_what_is_pruned_can_be_pruned(tmp_path):
    model = wider(tmp_path, "qwen3", num_key_value_heads=8)
    once = Channels(heads=0.25, score="l1")(model)
    twice = Channels(heads=0.5, score="l1")(once)
    assert [m.config["num_attention_heads"] for m in (model, once, twice)] == [8, 6, 3]
    assert same_as_masked(once, twice) == 2 * (4 + 3)
