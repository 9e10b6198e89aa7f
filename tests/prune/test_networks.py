"""Magnitude and random pruning of perceptrons and residual networks: convolutions are rows of their filters."""

from __future__ import annotations

import json

import pytest
import tiny_models
import torch
from torch import nn

from paredown.artifacts.model import Model
from paredown.core.context import Context, running
from paredown.core.errors import UserError
from paredown.engines import layers
from paredown.engines.blocks import find_blocks, linear_layers
from paredown.engines.modules import initialized
from paredown.learn.models.mlp import Mlp
from paredown.learn.models.resnet import Resnet
from paredown.prune.magnitude import Magnitude
from paredown.prune.random import Random
from paredown.prune.wanda import Wanda

RESNET = Resnet(channels=1, classes=3, widths=(4, 8), blocks=(1, 2), inner=(3, 8, 5))
MLP = Mlp(inputs=12, hidden=(16, 8), classes=3)
PRUNED = {
    "resnet": [f"blocks.{n}.conv{k}.weight" for n in range(3) for k in (1, 2)],
    "mlp": ["blocks.0.linear.weight", "blocks.1.linear.weight"],
}


def model(folder, shape, seed=0) -> Model:
    module = initialized(shape, None, seed)
    for name, value in module.named_buffers():
        value.copy_(torch.full_like(value, 7) if "tracked" in name else torch.rand(value.shape) + 0.5)
    return Model.save(folder / "model", module)


@pytest.mark.parametrize("kind", ["resnet", "mlp"])
@pytest.mark.parametrize("compare", ["layer", "row"])
def test_the_smallest_weights_of_each_layer_or_filter_go_and_nothing_else_changes(tmp_path, kind, compare):
    dense = model(tmp_path, {"resnet": RESNET, "mlp": MLP}[kind])
    before = dense.load().state_dict()
    after = Magnitude(sparsity=0.6, compare=compare)(dense).load().state_dict()
    assert before.keys() == after.keys()
    assert [name for name in before if not torch.equal(before[name], after[name])] == PRUNED[kind]
    for name in PRUNED[kind]:
        rows = before[name].reshape(1 if compare == "layer" else len(before[name]), -1)
        taken = int(0.6 * rows.shape[1] + 1e-9)
        limit = rows.abs().sort(dim=1).values[:, taken - 1 : taken]
        expected = torch.where(rows.abs() <= limit, 0.0, rows).view(before[name].shape)
        assert torch.equal(after[name], expected), name


@pytest.mark.parametrize("kind", ["resnet", "mlp"])
def test_random_takes_the_same_share_of_each_layer(tmp_path, kind):
    dense = model(tmp_path, {"resnet": RESNET, "mlp": MLP}[kind])
    pruned = Random(sparsity=0.5)
    made = []
    for seed in (0, 0, 1):
        folder = tmp_path / f"{len(made)}"
        (folder / "scratch").mkdir(parents=True)
        with running(Context(folder / "out", folder / "scratch", seed=seed)):
            made.append(pruned(dense).load().state_dict())
    for name in PRUNED[kind]:
        assert [int((state[name] == 0).sum()) for state in made] == [made[0][name].numel() // 2] * 3
        assert torch.equal(made[0][name], made[1][name])
    assert any(not torch.equal(made[0][name], made[2][name]) for name in PRUNED[kind])


def test_the_report_names_every_layer(tmp_path):
    pruned = Magnitude(sparsity=0.5)(model(tmp_path, RESNET))
    rows = json.loads((pruned.path / "pruning.json").read_text())
    weights = pruned.load().state_dict()
    assert [row["name"] for row in rows] == [name.removesuffix(".weight") for name in PRUNED["resnet"]]
    assert [row["zeros"] for row in rows] == [int((weights[name] == 0).sum()) for name in PRUNED["resnet"]]
    assert [row["weights"] for row in rows] == [weights[name].numel() for name in PRUNED["resnet"]]


def test_a_list_of_bare_layers_is_a_list_of_blocks():
    """Each block is itself a layer; weights of convolutions are seen as views, so that editing one edits the other."""
    module = nn.ModuleDict({"layers": nn.ModuleList([nn.Linear(3, 2), nn.Conv2d(2, 4, 3, groups=2)]), "head": nn.Linear(2, 2)})
    blocks = find_blocks(module)
    assert list(blocks) == ["layers.0", "layers.1"]
    found = [next(linear_layers(block)) for block in blocks.values()]
    assert [(name, parameter, tuple(weight.shape)) for name, parameter, weight in found] == [
        ("", "weight", (2, 3)),
        ("", "weight", (4, 9)),
    ]
    with torch.no_grad():
        found[1][2].zero_()
    assert not module["layers"][1].weight.any()
    block = layers.Block(0, "layers.0", {})
    assert str(layers.Layer("", block, found[0][2], "layers.0.weight")) == "layers.0"


def test_calibrated_pruning_says_that_it_is_for_language_models(tmp_path):
    with pytest.raises(UserError, match="no architecture 'ResidualNetwork'"):
        Wanda(calibration_tokens=64)(model(tmp_path, RESNET), tiny_models.tokens(tmp_path / "tokens", ["abc" * 40]))
