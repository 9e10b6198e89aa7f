"""What parts may do in the training loop: add weights before the optimizer is built, change what a batch computes, tell parts of a loss,
choose rows by what they keep."""

from __future__ import annotations

import signal
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from paredown.core.catalog import build
from paredown.core.context import Context
from paredown.engines.batches import randomness
from paredown.engines.parts import Budget, Draw, Hook, Objective, Sampler
from paredown.engines.trainer import fit
from paredown.engines.training import Outcome, Setup, State

X = np.random.default_rng(0).normal(size=(64, 6)).astype(np.float32)
Y = X @ np.arange(6, dtype=np.float32)[:, None]


class Halves(Objective):
    """Squared error; its parts are the rows of even and of odd number, of which a batch may hold none."""

    def loss(self, module: nn.Module, batch: dict[str, Any]) -> tuple[Tensor, int, dict[str, tuple[Tensor, int]]]:
        error = (module(batch["x"]) - batch["y"]).square().mean(1)
        odd = batch["number"] % 2 == 1
        parts = {name: (error[some].sum() / max(1, int(some.sum())), int(some.sum())) for name, some in (("odd", odd), ("even", ~odd))}
        return error.mean(), len(error), parts


class StopAfter(Hook):
    at: int

    def step(self, state: State) -> None:
        if state.step == self.at:
            signal.raise_signal(signal.SIGINT)  # the loop takes a checkpoint and stops


def rows(chosen: Any) -> dict[str, Any]:
    return {"x": X[chosen], "y": Y[chosen], "number": np.asarray(chosen)}


def train(folder: Path, module: nn.Module, *hooks: Hook, steps: int = 12, choose: Any = None, **knobs: Any) -> Outcome:
    optimizer, schedule = build("learn.optimizers.adamw"), build("learn.schedules.linear")
    values = {"hooks": hooks, "device": "cpu", "precision": "fp32", "log_every": 4, "checkpoint_seconds": 1e-9, **knobs}
    setup = Setup(objective=Halves(), optimizer=optimizer, schedule=schedule, budget=Budget(steps=steps), **values)
    step = Context(folder / "out", folder / "scratch", seed=0)
    choose = choose or (lambda state: rows(np.arange(state.step, state.step + 3)))
    return fit(module, choose, setup, seed=5, step=step, held_out=[rows(np.arange(5))])


def linear() -> nn.Module:
    torch.manual_seed(1)
    return nn.Sequential(nn.Linear(6, 6), nn.Linear(6, 1))


def same(a: nn.Module, b: nn.Module) -> bool:
    return all(torch.equal(x, y) for x, y in zip(a.state_dict().values(), b.state_dict().values(), strict=True))


class Adapted(nn.Module):
    def __init__(self, inner: nn.Linear) -> None:
        super().__init__()
        self.inner, self.added = inner.requires_grad_(False), nn.Linear(6, 6, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        found: Tensor = self.inner(x) + self.added(x)
        return found


class Adapter(Hook):
    """Trains an added layer alone; in the end it is part of the frozen one."""

    def prepare(self, module: nn.Module) -> None:
        module.requires_grad_(False)
        module[0] = Adapted(module[0])  # type: ignore[index, operator]

    def merge(self, module: nn.Module) -> None:
        adapted: Any = module[0]  # type: ignore[index]
        with torch.no_grad():
            adapted.inner.weight += adapted.added.weight
        module[0] = adapted.inner.requires_grad_()  # type: ignore[index, operator]


def test_what_a_hook_adds_is_trained_and_merged(tmp_path: Path) -> None:
    module = linear()
    before = {name: p.clone() for name, p in module.state_dict().items()}
    outcome = train(tmp_path, module, Adapter())
    after = outcome.module.state_dict()
    assert list(after) == list(before)
    assert [name for name in before if not torch.equal(before[name], after[name])] == ["0.weight"]
    assert outcome.facts["training"]["parameters"]["trainable"] == 36


def test_an_adapted_training_resumes_bit_for_bit(tmp_path: Path) -> None:
    whole = train(tmp_path / "a", linear(), Adapter())
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path / "b", linear(), Adapter(), StopAfter(at=7))
    again = train(tmp_path / "b", linear(), Adapter())
    assert again.facts["resumed_at"] == 7
    assert same(whole.module, again.module)
    assert whole.facts["curves"] == again.facts["curves"]


class Shallow(Hook):
    """Every other step goes through the last layer alone."""

    def batch(self, state: State) -> None:
        state.variant = f"from layer {state.step % 2}"
        state.module.skip = state.step % 2 == 1  # type: ignore[assignment]


class Two(nn.Module):
    skip = False

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(6, 6, bias=False), nn.Linear(6, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        found: Tensor = self.last(x if self.skip else self.first(x))
        return found


def test_flops_are_counted_for_each_variant_of_a_computation(tmp_path: Path) -> None:
    found = train(tmp_path, Two(), Shallow(), steps=10).facts["training"]["flops"]
    deep, shallow = 2 * 3 * (2 * 6 * 6 + 3 * 6), 2 * 3 * 2 * 6  # inputs need no gradient
    assert found == 5 * (deep + shallow)


def test_parts_of_a_loss_are_curves_of_their_own(tmp_path: Path) -> None:
    module = linear()
    frozen = {"learning_rate": 0.0}
    whole = train(tmp_path / "a", module, accumulate=2, **frozen)
    curves = whole.facts["curves"]
    with torch.no_grad():
        error = (module(torch.from_numpy(X)) - torch.from_numpy(Y)).square().mean(1)
    for name, odd in (("odd", 1), ("even", 0)):
        seen = [n for step in range(4) for n in range(step, step + 3) if n % 2 == odd]
        assert curves[name][0][2] == pytest.approx(float(error[seen].mean()), rel=1e-5)
        assert curves[f"held_out_{name}"][-1][2] == pytest.approx(float(error[odd:5:2].mean()), rel=1e-5)
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path / "b", linear(), StopAfter(at=7), accumulate=2, **frozen)
    assert train(tmp_path / "b", linear(), accumulate=2, **frozen).facts["curves"] == curves


class Hardest(Sampler):
    """From the fourth step on, the rows whose loss was highest at the fourth step."""

    def step(self, state: State) -> None:
        if state.step == 4:
            with torch.no_grad():
                error = (state.module(torch.from_numpy(X)) - torch.from_numpy(Y)).square().mean(1)
            state.kept["hardest"] = {"rows": error.argsort(descending=True)[:8].clone()}

    def choose(self, rows: Any, draw: Draw) -> Any:
        pool = draw.kept["rows"].numpy() if draw.kept else np.arange(rows.rows)
        return pool[randomness(draw.seed, draw.index).integers(0, len(pool), draw.size)]


def test_a_sampler_chooses_by_what_it_keeps_and_a_checkpoint_keeps_it(tmp_path: Path) -> None:
    sampler, seen = Hardest(), []

    def choose(state: State) -> dict[str, Any]:
        chosen = sampler.choose(SimpleNamespace(rows=64), Draw(5, state.step, 3, state.kept.get("hardest", {})))
        seen.append(chosen.tolist())
        return rows(chosen)

    whole = train(tmp_path / "a", linear(), sampler, choose=choose)
    assert len({n for chosen in seen[4:] for n in chosen}) <= 8
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path / "b", linear(), sampler, StopAfter(at=7), choose=choose)
    del seen[:]
    assert same(train(tmp_path / "b", linear(), sampler, choose=choose).module, whole.module)
    assert len(seen) == 5
