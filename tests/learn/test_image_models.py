"""The residual network and the perceptron: counts, arithmetic, rebuilding from knobs, training, mistakes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
from pydantic import ValidationError
from safetensors.torch import load_file, save_file
from torch.nn import functional

from paredown.artifacts.examples import Examples
from paredown.artifacts.model import Model
from paredown.core.catalog import build
from paredown.core.context import Context, running
from paredown.core.errors import DataError, UserError
from paredown.engines.batches import pieces, take
from paredown.engines.classifiers import logits
from paredown.engines.modules import initialized
from paredown.engines.parts import Architecture
from paredown.learn.models.mlp import Mlp
from paredown.learn.models.resnet import Resnet
from paredown.learn.train import Train

SHAPES: list[Architecture] = [
    Resnet(),
    Resnet(channels=1, classes=7, widths=(4, 4, 10), blocks=(1, 3, 2)),
    Resnet(channels=2, classes=3, widths=(4, 8), blocks=(2, 1), inner=(1, 9, 3)),
    Resnet(widths=(5,), blocks=(1,), inner=(2,)),
    Mlp(),
    Mlp(inputs=12, hidden=(), classes=3),
    Mlp(inputs=12, hidden=(5, 9, 2), classes=3),
]


def images(folder: Path, rows: int = 40, channels: int = 1, size: int = 8, classes: int = 3) -> Examples:
    """Images whose label says which third of them is bright."""
    draw = np.random.default_rng(0)
    label = np.arange(rows) % classes
    image = draw.integers(0, 60, (rows, channels, size, size))
    for row, name in enumerate(label):
        image[row, :, name * size // classes : (name + 1) * size // classes] += 150
    kind = pl.Array(pl.UInt8, (channels, size, size))
    return Examples.write(folder, pl.DataFrame({"image": pl.Series(image.astype(np.uint8), dtype=kind), "label": label.astype(np.int64)}))


@pytest.mark.parametrize("shape", SHAPES, ids=lambda s: s.strategy_name())
def test_the_count_of_weights_is_exact(shape):
    assert shape.parameters(0) == sum(p.numel() for p in shape.build(0, 0).parameters())


def test_three_blocks_a_stage_have_the_published_count():
    """He et al. 2015, table 6: ResNet-20 has 0.27 million weights, ResNet-56 0.85 million."""
    assert round(Resnet().parameters(0) / 1e6, 2) == 0.27
    assert round(Resnet(blocks=(9, 9, 9)).parameters(0) / 1e6, 2) == 0.85


def test_a_perceptron_is_its_formula():
    module = Mlp(inputs=12, hidden=(5, 4), classes=3).build(0, 0)
    x = torch.randn(6, 3, 2, 2)
    weights = dict(module.named_parameters())
    for value in weights.values():
        torch.nn.init.normal_(value)
    values = x.reshape(6, 12)
    for number in (0, 1):
        values = (values @ weights[f"blocks.{number}.linear.weight"].T + weights[f"blocks.{number}.linear.bias"]).clamp(min=0)
    torch.testing.assert_close(module(x), values @ weights["head.weight"].T + weights["head.bias"])


def test_a_residual_network_is_its_formula():
    """Every block written out: batch norm by its definition, the shortcut by slicing and a concatenation of zeros."""
    module = Resnet(channels=2, classes=3, widths=(4, 6), blocks=(1, 2), inner=(3, 5, 1)).build(0, 0).eval()
    state = module.state_dict()
    generator = torch.Generator().manual_seed(0)
    for name, value in state.items():
        if value.is_floating_point():
            value.copy_(torch.rand(value.shape, generator=generator) - (0.0 if "running_var" in name else 0.3))

    def norm(x: torch.Tensor, name: str) -> torch.Tensor:
        mean, variance, gamma, beta = (
            state[f"{name}.{key}"].view(1, -1, 1, 1) for key in ("running_mean", "running_var", "weight", "bias")
        )
        return (x - mean) / (variance + 1e-5).sqrt() * gamma + beta

    x = torch.randn(3, 2, 7, 7, generator=generator)
    y = norm(functional.conv2d(x, state["conv.weight"], padding=1), "norm").clamp(min=0)
    for number, (stride, more) in enumerate([(1, 0), (2, 2), (1, 0)]):
        name = f"blocks.{number}"
        inside = functional.conv2d(y, state[f"{name}.conv1.weight"], padding=1, stride=stride)
        inside = norm(
            functional.conv2d(norm(inside, f"{name}.norm1").clamp(min=0), state[f"{name}.conv2.weight"], padding=1), f"{name}.norm2"
        )
        beside = y[:, :, ::stride, ::stride]
        y = (inside + torch.cat([beside, beside.new_zeros(3, more, *beside.shape[2:])], dim=1)).clamp(min=0)
    torch.testing.assert_close(module(x), y.mean(dim=(2, 3)) @ state["head.weight"].T + state["head.bias"])


def test_initial_weights_have_kaimings_spread():
    module = Resnet(widths=(64, 128), blocks=(1, 1)).build(0, 0)
    for name, value in module.named_parameters():
        if value.dim() > 1:
            inputs = value[0].numel()
            assert value.std().item() == pytest.approx((2 / inputs) ** 0.5, rel=5 / value.numel() ** 0.5), name
        elif name.endswith("bias"):
            assert not value.any()


@pytest.mark.parametrize("shape", SHAPES, ids=lambda s: s.strategy_name())
def test_a_model_is_rebuilt_from_its_knobs(shape, tmp_path):
    module = initialized(shape, None, 0)
    for value in module.buffers():
        value.copy_(torch.rand(value.shape) + 0.5)
    loaded = Model.save(tmp_path / "model", module).load()
    assert loaded.architecture == shape.spec()
    expected = module.state_dict()
    assert all(torch.equal(value, expected[name]) for name, value in loaded.state_dict().items())


def test_weights_of_another_shape_are_named(tmp_path):
    path = Model.save(tmp_path / "model", initialized(Mlp(), None, 0)).path
    weights = load_file(path / "model.safetensors")
    weights["head.bias"] = torch.zeros(11)
    save_file(weights, path / "model.safetensors")
    with pytest.raises(DataError, match=r"head\.bias"):
        Model(path).load()


@pytest.mark.parametrize(
    "shape", [Resnet(channels=1, classes=3, widths=(4, 8), blocks=(1, 1), inner=(3, 5)), Mlp(inputs=64, hidden=(16,), classes=3)],
    ids=lambda s: s.strategy_name(),
)  # fmt: skip
def test_training_learns_and_gives_the_same_bytes_twice(shape, tmp_path):
    data = images(tmp_path / "data")
    given: dict[str, Any] = {"objective": build("learn.objectives.classification"), "device": "cpu", "precision": "fp32", "batch_size": 20}
    made = []
    for name in ("a", "b"):
        with running(Context(tmp_path / name / "out", tmp_path / name / "scratch", seed=0)):
            made.append(Train(budget={"epochs": 25}, learning_rate=0.02, **given)(shape, examples=data, held_out=data))
    weights = [(model.path / "model.safetensors").read_bytes() for model in made]
    assert weights[0] == weights[1]
    assert made[0].training["held_out_loss"] < 0.2
    assert made[0].training["parameters"]["final"] == shape.parameters(0)
    with torch.no_grad():
        found = made[0].load()(torch.from_numpy(data.arrays()["image"].copy()).float() / 127.5 - 1)
    assert (found.argmax(1).numpy() == data.arrays()["label"]).mean() > 0.95


def test_two_processes_learn_from_examples_like_one(tmp_path):
    data, shape = images(tmp_path / "data"), Mlp(inputs=64, hidden=(16,), classes=3)
    given: dict[str, Any] = {"objective": build("learn.objectives.classification"), "device": "cpu", "precision": "fp32", "batch_size": 20}
    made = []
    for name, more in (("one", {}), ("two", {"parallel": "ddp", "processes": 2})):
        with running(Context(tmp_path / name / "out", tmp_path / name / "scratch", seed=0)):
            made.append(Train(budget={"epochs": 3}, learning_rate=0.02, **given, **more)(shape, examples=data, held_out=data))
    one, two = (dict(model.load().named_parameters()) for model in made)
    for name, value in one.items():
        torch.testing.assert_close(two[name], value, rtol=1e-2, atol=1e-3)
    assert [model.training["epochs"] for model in made] == [3, 3]


def test_rows_of_another_shape_are_refused_with_the_knob_to_set():
    with pytest.raises(UserError, match="1 channel") as caught:
        Resnet(channels=1).build(0, 0)(torch.zeros(2, 3, 8, 8))
    assert "channels: 3" in caught.value.todo
    with pytest.raises(UserError, match="channels"):
        Resnet().build(0, 0)(torch.zeros(2, 3))
    with pytest.raises(UserError, match="64 numbers"):
        Mlp().build(0, 0)(torch.zeros(2, 3, 8, 8))


@pytest.mark.parametrize(
    ("knobs", "said"),
    [
        ({"widths": (16, 32)}, "same stages"),
        ({"widths": (), "blocks": ()}, "same stages"),
        ({"widths": (16, 8, 64)}, "must not fall"),
        ({"inner": (1, 2)}, "each of the 9 blocks"),
        ({"inner": (0,) * 9}, "greater than or equal to 1"),
    ],
)
def test_knobs_that_do_not_fit_are_refused(knobs, said):
    with pytest.raises(ValidationError, match=said):
        Resnet(**knobs)


def test_labels_that_the_model_does_not_have_are_named():
    module, rows = Mlp(inputs=4, classes=3).build(0, 0), torch.zeros(2, 4)
    with pytest.raises(UserError, match=r"the label 3, but the model tells 3 labels apart, 0 to 2") as caught:
        logits(module, {"features": rows, "label": torch.tensor([0, 3])})
    assert caught.value.todo == "set classes: 4"
    with pytest.raises(UserError, match="the label -1"):
        logits(module, {"features": rows, "label": torch.tensor([-1, 2])})
    assert logits(module, {"features": rows, "label": torch.tensor([0, 2])}).shape == (2, 3)


def test_labels_on_a_device_that_is_not_asked_are_named_too(tmp_path):
    """On CUDA such a label ends the process; the meta device cannot be asked for values either."""
    objective, data = build("learn.objectives.classification"), images(tmp_path, rows=12, classes=3)
    source = objective.rows(data, 0)
    rows = source.fill(np.arange(4, 12))
    label = data.arrays()["label"][4:]
    assert rows["label_span"] == (label.min(), label.max()) == (0, 2)
    assert [type(value) for value in rows["label_span"]] == [int, int]
    for part in (*pieces(rows, 3), take(rows, slice(0, 2))):
        assert part["label_span"] == (0, 2)
        batch = {name: torch.from_numpy(v).to("meta") if isinstance(v, np.ndarray) else v for name, v in part.items()}
        with pytest.raises(UserError, match=r"the label 2, but the model tells 2 labels apart, 0 to 1"):
            objective.loss(Mlp(inputs=64, classes=2).build(0, 0).to("meta"), batch)
        objective.loss(Mlp(inputs=64, classes=3).build(0, 0).to("meta"), batch)
    assert "label_span" not in source.fill(np.arange(0))


@pytest.mark.parametrize("wrong", [-1, 3])
def test_training_on_a_label_that_the_model_lacks_is_refused(tmp_path, wrong):
    frame = images(tmp_path / "good").frame()
    data = Examples.write(tmp_path / "data", frame.with_columns(label=pl.Series([0] * 39 + [wrong])))
    step = Context(tmp_path / "out", tmp_path / "scratch", seed=0)
    with pytest.raises(UserError, match=f"the label {wrong}, but the model tells 3 labels"), running(step):
        Train(budget={"epochs": 2}, objective=build("learn.objectives.classification"), device="cpu", batch_size=20)(
            Mlp(inputs=64, classes=3), examples=data
        )


def test_images_of_bytes_become_numbers_from_minus_one_to_one():
    module = Mlp(inputs=2, hidden=(), classes=2).build(0, 0)
    found = logits(module, {"image": torch.tensor([[[[0, 255]]]], dtype=torch.uint8)})
    torch.testing.assert_close(found[0], module.head.weight[:, 1] - module.head.weight[:, 0])
    with pytest.raises(UserError, match="image, features"):
        logits(module, {"text": torch.zeros(0, 2)})
