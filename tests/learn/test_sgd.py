"""Gradient descent with momentum and a rate that falls in steps: closed forms, resuming, mistakes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import ValidationError
from torch import nn

from paredown.core.catalog import build
from paredown.core.context import Context
from paredown.engines.parts import Budget
from paredown.engines.trainer import fit
from paredown.engines.training import Setup
from paredown.learn.models.mlp import Mlp
from paredown.learn.optimizers.sgd import Sgd
from paredown.learn.schedules.step_decay import StepDecay


@pytest.mark.parametrize("nesterov", [False, True])
def test_steps_are_the_textbooks_and_only_matrices_decay(nesterov):
    torch.manual_seed(0)
    module = nn.Sequential(nn.Conv2d(2, 3, 3), nn.BatchNorm2d(3))
    optimizer = Sgd(momentum=0.8, weight_decay=0.5, nesterov=nesterov).build(module)
    expected = {n: p.detach().clone() for n, p in module.named_parameters()}
    velocity = {n: torch.zeros_like(p) for n, p in expected.items()}
    for rate in (0.1, 0.02, 0.3):
        for group in optimizer.param_groups:
            group["lr"] = rate
        for n, p in module.named_parameters():
            p.grad = torch.randn_like(p)
            gradient = p.grad + (0.5 * expected[n] if p.ndim >= 2 else 0)
            velocity[n] = 0.8 * velocity[n] + gradient
            expected[n] = expected[n] - rate * (gradient + 0.8 * velocity[n] if nesterov else velocity[n])
        optimizer.step()
    for n, p in module.named_parameters():
        torch.testing.assert_close(p.detach(), expected[n])


def test_steps_down_are_where_they_should_be():
    schedule = StepDecay()
    assert [schedule.factor(p) for p in (0, 0.49, 0.5, 0.74, 0.75, 1.2)] == pytest.approx([1, 1, 0.1, 0.1, 0.01, 0.01])
    assert [StepDecay(places=(0.2,), times=0.5).factor(p) for p in (0.1, 0.3)] == [1, 0.5]
    assert StepDecay(places=()).factor(0.9) == 1
    assert [sum(schedule.factor((i + 0.5) / 8) == pytest.approx(f) for i in range(8)) for f in (1, 0.1, 0.01)] == [4, 2, 2]


def train(folder: Path, stop: int = -1) -> nn.Module:
    parts = {"objective": "objectives.classification", "optimizer": "optimizers.sgd", "schedule": "schedules.step_decay"}
    setup = Setup(
        **{name: build(f"learn.{use}") for name, use in parts.items()},
        budget=Budget(steps=20), learning_rate=0.1, device="cpu", precision="fp32", checkpoint_seconds=1e-9,
    )  # fmt: skip
    torch.manual_seed(0)
    module = Mlp(inputs=6, hidden=(5,), classes=3).build(0, 0)
    generator = torch.Generator().manual_seed(1)
    rows = {
        "features": torch.randn(20, 8, 6, generator=generator).numpy(),
        "label": torch.randint(0, 3, (20, 8), generator=generator).numpy(),
    }

    def batch(state: Any) -> dict[str, Any]:
        if state.step == stop:
            raise KeyboardInterrupt
        return {name: value[state.step] for name, value in rows.items()}

    outcome = fit(module, batch, setup, seed=0, step=Context(folder / "out", folder / "scratch", seed=0))
    assert (outcome.facts["resumed_at"] > 0) == (folder.name == "cut")
    return outcome.module


def test_momentum_is_in_the_checkpoint(tmp_path):
    whole = train(tmp_path / "whole").state_dict()
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path / "cut", stop=12)
    again = train(tmp_path / "cut").state_dict()
    assert all(torch.equal(value, again[name]) for name, value in whole.items())


def test_knobs_that_do_not_fit_are_refused():
    with pytest.raises(ValidationError, match="momentum above 0"):
        Sgd(momentum=0, nesterov=True)
    with pytest.raises(ValidationError, match="must ascend"):
        StepDecay(places=(0.5, 0.5))
    with pytest.raises(ValidationError, match="less than 1"):
        StepDecay(places=(1.0,))
