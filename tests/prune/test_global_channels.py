"""Wanda-sp over all blocks and FLAP: scores by hand, one threshold, biases that stand for what is gone, uneven heads."""

from __future__ import annotations

import json
from typing import Any

import pytest
import tiny_models
import torch
import transformers
from torch import nn

from paredown.artifacts.block_shapes import SHAPES
from paredown.artifacts.model import Model
from paredown.core.errors import UserError
from paredown.engines import structure
from paredown.prune.flap import Flap, fluctuation
from paredown.prune.wanda_sp import WandaSp, wanda_scores

TEXTS = [f"def function_{n}(value):\n    return value * {n} + {n % 7}\n" for n in range(60)]
CALIBRATED = {"calibration_tokens": 10**6, "length": 32}
IDS = torch.randint(0, 200, (2, 16), generator=torch.Generator().manual_seed(0))


def report(model: Model) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = json.loads((model.path / "pruning.json").read_text())
    return rows


def inputs(model: Model, tokens: Any, layer: str) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """Weight and inputs (tokens, features) of that layer of each block of the dense model, on all windows."""
    module: Any = model.load()
    ids = torch.from_numpy(tokens.ids[: tokens.tokens // 32 * 32].astype("int64")).view(-1, 32)
    layers = [block.get_submodule(layer) for block in module.model.layers]
    seen: list[torch.Tensor] = []
    hooks = [one.register_forward_pre_hook(lambda _m, args: seen.append(args[0].flatten(0, 1))) for one in layers]
    with torch.no_grad():
        module(input_ids=ids)
    for hook in hooks:
        hook.remove()
    return [(one.weight.detach(), x) for one, x in zip(layers, seen, strict=True)]


def masked(model: Model, small: Model, with_mean: dict[str, list[torch.Tensor]] | None = None) -> nn.Module:
    """The dense model with the columns of what is gone at zero, and a bias of what they gave on average."""
    module: Any = model.load()
    for number, (block, row) in enumerate(zip(module.model.layers, report(small), strict=True)):
        for kind, layer in (("channels", block.mlp.down_proj), ("heads", block.self_attn.o_proj)):
            if kind not in row:
                continue
            gone = torch.ones(row[kind], dtype=torch.bool)
            gone[row[f"{kind}_kept"]] = False
            columns = gone.repeat_interleave(layer.in_features // row[kind])
            with torch.no_grad():
                if with_mean:
                    layer.bias = nn.Parameter(layer.weight[:, columns] @ with_mean[kind][number][columns])
                layer.weight[:, columns] = 0
    return module  # type: ignore[no-any-return]


def close(one: Any, other: Any, atol: float = 1e-3) -> bool:
    with torch.no_grad():
        return torch.allclose(one(input_ids=IDS).logits, other(input_ids=IDS).logits, atol=atol)


def test_scores_by_hand():
    down = torch.tensor([[1.0, -2.0, 0.0], [3.0, 0.0, 0.0]])
    s = torch.tensor([1.0, 2.0, 5.0])  # means of |W| s: 2, 2, 0
    assert wanda_scores(down, s).tolist() == pytest.approx([1 / 3**0.5, 1 / 3**0.5, -2 / 3**0.5])
    x = torch.tensor([[1.0, 4.0, 7.0], [3.0, 4.0, 8.0]])  # sample variances 2, 0, 0.5
    assert fluctuation(x, down).tolist() == [2 * 10, 0, 0]
    assert fluctuation(x[:1], down).tolist() == [0, 0, 0], "one token does not vary, and gives no NaN"


def test_one_threshold_for_all_blocks(tmp_path):
    """Against the formula on the dense model in memory: standardise, put together, sort."""
    model, tokens = tiny_models.model(tmp_path / "model", "llama"), tiny_models.tokens(tmp_path / "tokens", TEXTS)
    small = WandaSp(sparsity=0.4, **CALIBRATED)(model, tokens)
    scores = []
    for weight, x in inputs(model, tokens, "mlp.down_proj"):
        score = (weight.abs() * x.norm(dim=0)).mean(dim=0)
        scores.append((score - score.mean()) / score.std())
    kept = torch.cat(scores).argsort(descending=True)[: 96 - 38]
    expected = [sorted(int(i) - 48 * n for i in kept if 48 * n <= i < 48 * (n + 1)) for n in range(2)]
    assert [row["channels_kept"] for row in report(small)] == expected
    assert len(expected[0]) != len(expected[1])
    assert close(small.load(), masked(model, small))


@pytest.mark.parametrize("heads", [False, True])
def test_a_bias_stands_for_what_is_gone(tmp_path, heads):
    model, tokens = tiny_models.model(tmp_path / "model", "llama"), tiny_models.tokens(tmp_path / "tokens", TEXTS)
    small = Flap(sparsity=0.4, heads=heads, **CALIBRATED)(model, tokens)
    layers = {"channels": "mlp.down_proj", "heads": "self_attn.o_proj"}
    means = {kind: [x.mean(dim=0) for _, x in inputs(model, tokens, layer)] for kind, layer in layers.items()}
    assert close(small.load(), masked(model, small, means))
    biases = small.config[SHAPES]["layers"]["biases"]
    assert biases == (["mlp.down_proj", "self_attn.o_proj"] if heads else ["mlp.down_proj"])
    plain = Flap(sparsity=0.4, heads=heads, bias=False, **CALIBRATED)(model, tokens)
    assert report(plain) == report(small)
    assert close(plain.load(), masked(model, plain))
    assert not close(plain.load(), small.load())


def test_channels_that_fluctuate_least_go(tmp_path):
    model, tokens = tiny_models.model(tmp_path / "model", "llama"), tiny_models.tokens(tmp_path / "tokens", TEXTS)
    small = Flap(sparsity=0.3, **CALIBRATED)(model, tokens)
    scores = []
    for weight, x in inputs(model, tokens, "mlp.down_proj"):
        score = x.var(dim=0) * weight.square().sum(dim=0)
        scores.append((score - score.mean()) / score.std())
    kept = torch.cat(scores).argsort(descending=True)[: 96 - 28]
    assert [row["channels_kept"] for row in report(small)] == [
        sorted(int(i) - 48 * n for i in kept if 48 * n <= i < 48 * (n + 1)) for n in (0, 1)
    ]


def test_a_constant_channel_goes_without_any_loss(tmp_path):
    """Channels that are the same for every token are exactly what the bias says."""
    module = tiny_models.module("opt")
    with torch.no_grad():
        for layer in module.model.decoder.layers:
            layer.fc1.weight[::2] = 0
            layer.fc1.bias[::2] = 2.0
            layer.fc1.bias[1::2] = 100.0  # so that its ReLU never holds one at zero
    first = tiny_models.model(tmp_path / "model", "opt")
    module.save_pretrained(first.path)
    small = Flap(sparsity=0.5, **CALIBRATED)(Model(first.path), tiny_models.tokens(tmp_path / "tokens", TEXTS))
    assert SHAPES not in small.config, "OPT has biases, and both blocks lose the same"
    assert [row["channels_kept"] for row in report(small)] == [list(range(1, 48, 2))] * 2
    stock = transformers.AutoModelForCausalLM.from_pretrained(small.path).eval()
    assert close(stock, module)


def test_a_head_weighs_as_much_as_it_has_weights(tmp_path):
    """40% of the weights of heads and channels together, as near as whole units come to it."""
    model, tokens = tiny_models.model(tmp_path / "model", "llama"), tiny_models.tokens(tmp_path / "tokens", TEXTS)
    small = Flap(sparsity=0.4, heads=True, bias=False, **CALIBRATED)(model, tokens)
    channel, head = 3 * 32, (2 + 2 + 1 + 1) * 8 * 32
    assert structure.heads(model, whole=True).weights() == [float(head)] * 2
    assert structure.channels(model).weights() == [float(channel)] * 2
    total = 2 * (48 * channel + 2 * head)
    left = sum(len(row["channels_kept"]) * channel + len(row["heads_kept"]) * head for row in report(small))
    assert abs(left - 0.6 * total) <= head
    assert small.parameters()["total"] == model.parameters()["total"] - total + left


def test_stock_llama_loads_the_uniform_model_with_its_biases(tmp_path):
    model, tokens = tiny_models.model(tmp_path / "model", "llama"), tiny_models.tokens(tmp_path / "tokens", TEXTS)
    uneven = Flap(sparsity=0.4, heads=True, **CALIBRATED)(model, tokens)
    uniform = Flap(sparsity=0.4, heads=True, uniform=True, **CALIBRATED)(model, tokens)
    assert SHAPES not in uniform.config
    assert uniform.config["mlp_bias"]
    assert uniform.config["attention_bias"]
    assert close(transformers.AutoModelForCausalLM.from_pretrained(uniform.path).eval(), uneven.load())


def test_a_bias_that_stock_transformers_would_not_read_is_refused(tmp_path):
    model, tokens = tiny_models.model(tmp_path / "model", "qwen3"), tiny_models.tokens(tmp_path / "tokens", TEXTS)
    with pytest.raises(UserError, match=r"Qwen3ForCausalLM has no place for a bias of mlp\.down_proj"):
        Flap(sparsity=0.4, uniform=True, **CALIBRATED)(model, tokens)
    uneven = Flap(sparsity=0.4, **CALIBRATED)(model, tokens)
    assert uneven.config[SHAPES]["layers"]["biases"] == ["mlp.down_proj"]
    uniform = Flap(sparsity=0.4, bias=False, uniform=True, **CALIBRATED)(model, tokens)
    assert transformers.AutoModelForCausalLM.from_pretrained(uniform.path).config.intermediate_size < 48
