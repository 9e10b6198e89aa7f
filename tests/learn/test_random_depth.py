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
from paredown.engines.flops import counter
from paredown.engines.parts import Hook
from paredown.engines.training import State
from paredown.learn.hooks.random_depth import RandomDepth, drawn
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


SHAPE = Llama(hidden_size=16, layers=4, heads=2, intermediate_size=24, max_length=64)


def train(folder: Path, *hooks: Any, shape: Any = SHAPE, **knobs: Any) -> tuple[Model, Context]:
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
    with running(step):
        return Train(**{**values, "hooks": hooks, **knobs})(shape, tiny_models.tokens(folder / "tokens", TEXTS)), step


def block(name: str) -> str:
    return name.split(".")[2] if ".layers." in name else ""


def test_which_blocks_a_step_trains_depends_on_seed_and_step_only() -> None:
    depths = (3, 6, 9, 12)
    steps = [drawn(1, step, depths) for step in range(2000)]
    assert set(steps) == {(0, 3), (3, 6), (6, 9), (9, 12)}
    assert all(steps.count(one) == pytest.approx(500, abs=100) for one in set(steps)), "each as often, within five standard deviations"
    assert steps == [drawn(1, step, depths) for step in range(2000)]
    assert steps != [drawn(2, step, depths) for step in range(2000)]


@pytest.mark.parametrize("tied", [True, False])
def test_a_shallow_step_trains_its_upper_blocks_alone(tmp_path: Path, tied: bool) -> None:
    SEEN.clear()
    train(tmp_path, RandomDepth(depths=(1, 2, 4), share=0.5), Watching(), shape=SHAPE.model_copy(update={"tie_embeddings": tied}))
    shallow, whole = SEEN[:12], SEEN[12:]
    expected = {"0 to 1 blocks": {"0"}, "1 to 2 blocks": {"1"}, "2 to 4 blocks": {"2", "3"}}
    assert {variant for variant, _, _ in shallow} == set(expected)
    for variant, moved, _ in shallow:
        assert {block(name) for name in moved} - {""} == expected[variant]
        assert "model.norm.weight" in moved
        assert ("model.embed_tokens.weight" in moved) == (tied or variant[0] == "0"), "a shared one moves as the head that it is"
        assert tied or "lm_head.weight" in moved
    for variant, moved, _ in whole:
        assert not variant
        assert {block(name) for name in moved} - {""} == {"0", "1", "2", "3"}


def test_a_shallow_step_costs_its_forward_pass_and_the_backward_pass_above(tmp_path: Path) -> None:
    """As counted of the same module by hand: blocks forward alone, and blocks with a backward pass."""
    SEEN.clear()
    train(tmp_path, RandomDepth(depths=(1, 2, 4), share=0.5), Watching())
    costs: dict[str, float] = {variant: cost for variant, _, cost in SEEN}

    def counted(depth: int, *, backward: bool) -> float:
        module: Any = SHAPE.model_copy(update={"layers": depth}).build(tiny_models.VOCABULARY, 0)
        with counter() as counting:
            loss = module(input_ids=torch.zeros(2, 32, dtype=torch.long)).logits.sum()
            if backward:
                loss.backward()
        return float(counting.get_total_flops())

    forward = counted(2, backward=False) - counted(1, backward=False)
    both = counted(2, backward=True) - counted(1, backward=True)
    assert costs["0 to 1 blocks"] == counted(1, backward=True)
    assert costs[""] == counted(4, backward=True) == costs["0 to 1 blocks"] + 3 * both
    assert costs["1 to 2 blocks"] == costs["0 to 1 blocks"] + forward
    assert costs["2 to 4 blocks"] == costs["0 to 1 blocks"] + 2 * forward + both


def test_micro_batches_of_a_step_go_through_the_same_blocks(tmp_path: Path) -> None:
    SEEN.clear()
    train(tmp_path, RandomDepth(depths=(1, 4), share=0.9), Watching(), accumulate=2)
    assert {frozenset({block(name) for name in moved} - {""}) for variant, moved, _ in SEEN if variant} == {
        frozenset("0"),
        frozenset("123"),
    }


@pytest.mark.parametrize("parallel", ["ddp", "fsdp"])
def test_two_processes_train_like_one(tmp_path: Path, parallel: str) -> None:
    part = RandomDepth(depths=(1, 2, 4), share=0.5)
    one, alone = train(tmp_path / "one", part)
    two, step = train(tmp_path / "two", part, parallel=parallel, processes=2)
    assert step.facts["processes"] == 2
    assert step.cost.flops == pytest.approx(alone.cost.flops, rel=1e-3)
    for name, value in one.load().named_parameters():
        torch.testing.assert_close(dict(two.load().named_parameters())[name], value, rtol=1e-2, atol=1e-3)


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
    with pytest.raises(UserError, match="set compile: false"):
        train(tmp_path / "compiled", RandomDepth(depths=(2, 4)), compile=True)
