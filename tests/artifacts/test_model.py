"""Models on disk: what counts as a weight."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import tiny_models
import torch
from safetensors import safe_open
from torch import nn

from paredown.artifacts.model import Model
from paredown.learn.models.llama import Llama
from paredown.learn.models.mlp import Mlp
from paredown.learn.models.resnet import Resnet


def counts(module: nn.Module) -> dict[str, int]:
    weights = list(module.parameters())
    return {"total": sum(p.numel() for p in weights), "nonzero": sum(int((p != 0).sum()) for p in weights)}


@pytest.mark.parametrize("shape", [Resnet(), Resnet(widths=(4, 6), blocks=(1, 2), inner=(3, 5, 2)), Mlp()], ids=["20", "odd", "mlp"])
def test_averages_of_batch_norms_are_no_weights(tmp_path: Path, shape: Any) -> None:
    module = shape.build(0, 0)
    module.architecture = shape.spec()
    with torch.no_grad():
        for weight in module.parameters():
            weight[torch.rand(weight.shape) < 0.3] = 0
        for buffer in module.buffers():
            buffer.add_(1)
    model = Model.save(tmp_path / "model", module)
    before = torch.get_rng_state()
    assert model.parameters() == counts(module) == counts(model.load())
    assert torch.equal(torch.get_rng_state(), before)
    assert model.parameters()["total"] == shape.parameters(0)
    assert model.summary().startswith(f"{shape.parameters(0) / 1e6:.2f}M parameters")


def test_tied_weights_count_once_whichever_name_they_are_stored_under(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def build() -> Any:
        module: Any = nn.ModuleDict({"b": nn.Linear(3, 3), "a": nn.Linear(3, 3), "norm": nn.BatchNorm1d(3)})
        module["a"].weight = module["b"].weight
        module.architecture = {"use": "learn.models.mlp"}
        return module

    monkeypatch.setattr(Model, "empty", lambda self: build())
    module = build()
    model = Model.save(tmp_path / "own", module)
    with safe_open(model.path / "model.safetensors", framework="pt") as stored:
        assert len({"a.weight", "b.weight"} & set(stored.keys())) == 1
    assert model.parameters() == counts(module)


@pytest.mark.parametrize("shape", list(tiny_models.SHAPES))
def test_models_of_transformers_count_every_tensor(tmp_path: Path, shape: str) -> None:
    assert tiny_models.model(tmp_path / "m", shape).parameters() == counts(tiny_models.module(shape))


def test_tied_embeddings_count_once(tmp_path: Path) -> None:
    shape = Llama(hidden_size=16, layers=1, heads=2)
    assert Model.save(tmp_path / "m", shape.build(50, 0)).parameters()["total"] == shape.parameters(50)


def test_counting_does_not_import_the_compiler(tmp_path: Path) -> None:
    """Random numbers on the meta device would, and take longer than all the rest."""
    shape = Resnet(widths=(4,), blocks=(1,))
    module: Any = shape.build(0, 0)
    module.architecture = shape.spec()
    Model.save(tmp_path / "model", module)
    code = f"import sys; from paredown.artifacts.model import Model; print(Model({str(tmp_path / 'model')!r}).parameters()['total'])"
    ran = subprocess.run(
        [sys.executable, "-c", f"{code}; assert 'torch._dynamo' not in sys.modules"], capture_output=True, text=True, check=True
    )
    assert int(ran.stdout) == shape.parameters(0)
