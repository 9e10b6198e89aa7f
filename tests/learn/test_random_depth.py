"""Random depth: which blocks learn in which step, what it costs, and that a stop and a start change nothing."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Any

import pytest
import tiny_models
import torch
from pydantic import ValidationError

from paredown.artifacts.model import Model
from paredown.core.context import Context, running
from paredown.core.errors import UserError
from paredown.engines.parts import Hook
from paredown.engines.trainer import State
from paredown.learn.hooks.random_depth import RandomDepth
from paredown.learn.models.llama import Llama
from paredown.learn.train import Train

TEXTS = [f"line {i} of {'abc'[i % 3] * (3 + i % 5)} and {i * 7}\n" for i in range(60)]
SEEN: list[tuple[str, set[str], float]] = []


class Watching(Hook):
    """Notes what moved in each step."""

    def start(self, state: State) -> None:
        state.memory["before"] = {name: p.detach().clone() for name, p in state.module.named_parameters()}
        state.memory["flops"] = state.flops

    def step(self, state: State) -> None:
        moved = {name for name, p in state.module.named_parameters() if not torch.equal(p, state.memory["before"][name])}
        SEEN.append((state.variant, moved, state.flops - state.memory["flops"]))
        self.start(state)


class Stop(Hook):
    def step(self, state: State) -> None:
        if state.step == 7:
            signal.raise_signal(signal.SIGINT)


def train(folder: Path, *hooks: Any, **knobs: Any) -> tuple[Model, Context]:
    step = Context(folder / "out", folder / "scratch", seed=0)
    step.scratch.mkdir(parents=True, exist_ok=True)
    values = {
        "budget": {"steps": 24},
        "batch_size": 2,
        "length": 32,
        "evaluate_every": 0,
        "device": "cpu",
        "precision": "fp32",
        "warmup": 0.0,
    }
    shape = Llama(hidden_size=16, layers=4, heads=2, intermediate_size=24, max_length=64)
    with running(step):
        return Train(**{**values, "hooks": hooks, **knobs})(shape, tiny_models.tokens(folder / "tokens", TEXTS)), step


def block(name: str) -> str:
    return name.split(".")[2] if ".layers." in name else ""


def test_a_shallow_step_trains_its_upper_blocks_and_costs_less(tmp_path: Path) -> None:
    SEEN.clear()
    train(tmp_path, RandomDepth(depths=(1, 2, 4), share=0.5), Watching())
    shallow, whole = SEEN[:12], SEEN[12:]
    expected = {"0 to 1 blocks": {"0"}, "1 to 2 blocks": {"1"}, "2 to 4 blocks": {"2", "3"}}
    assert {variant for variant, _, _ in shallow} == set(expected)
    for variant, moved, _ in shallow:
        assert {block(name) for name in moved} - {""} == expected[variant]
        assert "model.norm.weight" in moved
        assert ("model.embed_tokens.weight" in moved) == (variant[0] == "0" or not any("lm_head" in name for name in moved))
    for variant, moved, _ in whole:
        assert not variant
        assert {block(name) for name in moved} - {""} == {"0", "1", "2", "3"}
    costs = {variant: cost for variant, _, cost in SEEN}
    assert costs["0 to 1 blocks"] < costs["1 to 2 blocks"] < costs["2 to 4 blocks"] < costs[""]


def test_a_stop_and_a_start_give_the_same_bytes(tmp_path: Path) -> None:
    part = RandomDepth(depths=(2, 4), share=0.7)
    one, before = train(tmp_path / "one", part)
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path / "two", part, Stop())
    two, after = train(tmp_path / "two", part)
    assert after.facts["resumed_at"] == 7
    assert (one.path / "model.safetensors").read_bytes() == (two.path / "model.safetensors").read_bytes()
    assert before.cost.flops == after.cost.flops
    plain, _ = train(tmp_path / "three")
    assert (plain.path / "model.safetensors").read_bytes() != (one.path / "model.safetensors").read_bytes()
    none, _ = train(tmp_path / "four", RandomDepth(depths=(2, 4), share=0.0))
    assert (plain.path / "model.safetensors").read_bytes() == (none.path / "model.safetensors").read_bytes()


def test_mistakes_are_named(tmp_path: Path) -> None:
    with pytest.raises(ValidationError, match="depths must rise"):
        RandomDepth(depths=(3, 3))
    with pytest.raises(UserError, match="the model has 4 blocks, the last of depths is 6"):
        train(tmp_path, RandomDepth(depths=(3, 6)))
