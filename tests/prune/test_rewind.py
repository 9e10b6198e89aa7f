"""Rewinding: exactly the given weights times the mask, the same mask for every start, and clear words where shapes differ."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import tiny_models
import torch

from paredown.artifacts.examples import Examples
from paredown.artifacts.model import Model
from paredown.core.catalog import build
from paredown.core.context import Context, running
from paredown.core.errors import DataError, UserError
from paredown.engines.modules import initialized
from paredown.learn.initialize import Initialize
from paredown.learn.models.mlp import Mlp
from paredown.learn.models.resnet import Resnet
from paredown.learn.train import Train
from paredown.prune.magnitude import Magnitude
from paredown.prune.rewind import Rewind

RESNET = Resnet(channels=1, classes=3, widths=(4, 6), blocks=(1, 1))


def made(folder: Path, kind: str, seed: int) -> Model:
    if kind == "resnet":
        module = initialized(RESNET, None, seed)
        for value in module.buffers():
            value.add_(seed + 1)
        return Model.save(folder, module)
    return tiny_models.model(folder / "m", kind, seed)


@pytest.mark.parametrize("kind", ["resnet", "llama", "gpt2", "mixtral"])
def test_the_ticket_is_exactly_the_weights_times_the_mask(tmp_path, kind):
    start, other = made(tmp_path / "start", kind, 0), made(tmp_path / "other", kind, 1)
    pruned = Magnitude(sparsity=0.7)(other)
    ticket = Rewind()(pruned, start).load().state_dict()
    theta, mask = start.load().state_dict(), pruned.load().state_dict()
    zeros = 0
    for name, value in theta.items():
        cut = mask[name] == 0 if value.dim() > 1 else torch.zeros_like(value, dtype=torch.bool)
        assert torch.equal(ticket[name], torch.where(cut, torch.zeros_like(value), value)), name
        zeros += int(cut.sum())
    assert zeros == sum(row["zeros"] for row in json.loads((pruned.path / "pruning.json").read_text())) > 0


def test_both_arms_have_the_same_mask(tmp_path):
    start = made(tmp_path / "start", "resnet", 0)
    pruned = Magnitude(sparsity=0.6)(made(tmp_path / "other", "resnet", 1))
    arms = [Rewind()(pruned, weights).load() for weights in (start, made(tmp_path / "fresh", "resnet", 2))]
    for (name, a), (_, b), (_, c) in zip(*(module.named_parameters() for module in (*arms, pruned.load())), strict=True):
        if a.dim() > 1:
            assert torch.equal(a == 0, b == 0), name
            assert torch.equal(a == 0, c == 0), name


def test_a_ticket_trains_and_its_zeros_stay(tmp_path):
    """The whole protocol on a perceptron: start, train, prune, rewind, train again."""
    draw = np.random.default_rng(0)
    x = draw.normal(size=(60, 5))
    columns = {"features": pl.Series(x, dtype=pl.Array(pl.Float64, 5)), "label": (x[:, 0] + x[:, 1] > 0).astype(np.int64)}
    data = Examples.write(tmp_path / "data", pl.DataFrame(columns))
    given: dict[str, Any] = {
        "objective": build("learn.objectives.classification"),
        "device": "cpu",
        "precision": "fp32",
        "learning_rate": 0.05,
    }

    def step(name: str, strategy: Any, **inputs: Any) -> Any:
        (tmp_path / name / "scratch").mkdir(parents=True)
        with running(Context(tmp_path / name / "out", tmp_path / name / "scratch", seed=0)):
            return strategy(**inputs)

    start = step("start", Initialize(), model=Mlp(inputs=5, hidden=(12, 12), classes=2))
    dense = step("dense", Train(budget={"steps": 40}, **given), model=start, examples=data)
    pruned = step("pruned", Magnitude(sparsity=0.5), model=dense)
    ticket = step("ticket", Rewind(), model=pruned, weights=start)
    hooks = (build("learn.hooks.keep_zeros"),)
    trained = step("trained", Train(budget={"steps": 40}, hooks=hooks, **given), model=ticket, examples=data, held_out=data)
    assert trained.training["held_out_loss"] < 0.3
    for name in ("blocks.0.linear.weight", "blocks.1.linear.weight"):
        masks = [model.load().state_dict()[name] == 0 for model in (pruned, ticket, trained)]
        assert 0 < masks[0].sum() == masks[0].numel() // 2
        assert torch.equal(masks[0], masks[1])
        assert torch.equal(masks[1], masks[2])


def test_zeros_of_convolutions_stay_too(tmp_path):
    draw = np.random.default_rng(0)
    image = pl.Series(draw.integers(0, 256, (24, 1, 8, 8), dtype=np.uint8))
    data = Examples.write(tmp_path / "data", pl.DataFrame({"image": image, "label": [0, 1, 2] * 8}))
    pruned = Magnitude(sparsity=0.5)(made(tmp_path / "dense", "resnet", 0))
    before = pruned.load().state_dict()
    given: dict[str, Any] = {"objective": build("learn.objectives.classification"), "device": "cpu", "precision": "fp32"}
    for hooks in ((build("learn.hooks.keep_zeros"),), ()):
        step = Context(tmp_path / f"{len(hooks)}" / "out", tmp_path / f"{len(hooks)}" / "scratch", seed=0)
        with running(step):
            after = Train(budget={"steps": 5}, hooks=hooks, batch_size=8, **given)(pruned, examples=data).load().state_dict()
        cut = {name: value == 0 for name, value in before.items() if value.dim() == 4 and (value == 0).any()}
        assert len(cut) == 4  # two of each block
        for name, mask in cut.items():
            assert torch.equal(after[name] == 0, mask) is bool(hooks), name
            assert not torch.equal(after[name], before[name])
        count = step.facts["training"]["parameters"]["final"]
        assert count == RESNET.parameters(0) - (sum(int(mask.sum()) for mask in cut.values()) if hooks else 0)


def test_weights_keep_their_number_format_and_tokenizer(tmp_path):
    source = tiny_models.model(tmp_path / "a" / "m")
    start = Model.save(tmp_path / "half", tiny_models.module("llama", 3).bfloat16(), source)
    ticket = Rewind()(Magnitude(sparsity=0.5)(source), start)
    assert ticket.load().dtype == torch.bfloat16
    assert (ticket.path / "tokenizer.json").read_bytes() == (start.path / "tokenizer.json").read_bytes()


def test_without_zeros_nothing_changes(tmp_path):
    start, dense = made(tmp_path / "a", "resnet", 0), made(tmp_path / "b", "resnet", 1)
    ticket = Rewind()(dense, start).load().state_dict()
    assert all(torch.equal(value, ticket[name]) for name, value in start.load().state_dict().items())


def test_a_zero_bias_or_norm_is_no_mask(tmp_path):
    module = initialized(RESNET, None, 0)
    with torch.no_grad():
        module.norm.weight.zero_()
    start = made(tmp_path / "start", "resnet", 1)
    ticket = Rewind()(Model.save(tmp_path / "pruned", module), start).load()
    assert ticket.norm.weight.all()


def test_shapes_that_differ_are_named(tmp_path):
    pruned = made(tmp_path / "a", "resnet", 0)
    wide = Model.save(tmp_path / "b", initialized(Resnet(channels=1, classes=3, widths=(4, 6), blocks=(1, 1), inner=(4, 5)), None, 0))
    with pytest.raises(
        UserError, match=r"in the pruned one blocks\.1\.conv1\.weight is of shape \(6, 4, 3, 3\), in the other .*\(5, 4, 3, 3\)"
    ):
        Rewind()(pruned, wide)
    with pytest.raises(UserError, match=r"in the other there is no conv\.weight"):
        Rewind()(pruned, tiny_models.model(tmp_path / "c" / "m"))


def test_weights_that_are_not_finite_are_refused(tmp_path):
    module = initialized(RESNET, None, 0)
    with torch.no_grad():
        module.blocks[0].conv1.weight[0, 0, 0, 0] = float("nan")
    with pytest.raises(DataError, match=r"blocks\.0\.conv1\.weight"):
        Rewind()(made(tmp_path / "a", "resnet", 0), Model.save(tmp_path / "b", module))
