"""Block-wise reconstruction: errors fall or nothing changes, zeros stay, dense stays dense, killed and resumed is the same."""

from __future__ import annotations

import json
import signal
from pathlib import Path
from typing import Any

import pytest
import tiny_models
import torch

from paredown.artifacts.model import Model
from paredown.artifacts.tokens import Tokens
from paredown.core.catalog import build
from paredown.core.context import Context, running
from paredown.core.errors import UserError
from paredown.engines.adapters import block_layers
from paredown.engines.parts import Hook
from paredown.engines.training import State
from paredown.prune.magnitude import Magnitude
from paredown.tune.perp import Perp
from paredown.tune.reconstruct import REPORT, Reconstruct

TEXTS = [f"def f{i}(x):\n    return x + {i} * {'y' * (i % 7)}\n" * (1 + i % 4) for i in range(40)]
SMALL: dict[str, Any] = {"calibration_tokens": 640, "length": 32, "batch_size": 4, "steps": 30, "learning_rate": 1e-2, "precision": "fp32"}
PERP = Perp(rank=4)


def both(folder: Path, shape: str = "opt", sparsity: float = 0.5) -> tuple[Model, Model, Tokens]:
    """(pruned, dense, calibration)."""
    dense = tiny_models.model(folder / "dense" / "model", shape)
    with running(Context(folder / "pruned", folder / "pruning", name="pruned")):
        pruned = Magnitude(sparsity=sparsity)(dense)
    return pruned, dense, tiny_models.tokens(folder / "tokens", TEXTS)


def heal(folder: Path, pruned: Model, dense: Model, calibration: Tokens, **knobs: Any) -> Model:
    step = Context(folder / "out", folder / "scratch", seed=0, name="healed")
    step.scratch.mkdir(parents=True, exist_ok=True)
    with running(step):
        healed: Model = Reconstruct(**{**SMALL, "hooks": (PERP,), **knobs})(pruned, dense, calibration)
    return healed


def errors(model: Model) -> list[dict[str, float]]:
    return [row["error"] for row in json.loads((model.path / REPORT).read_text())]


def weights(model: Model) -> dict[str, torch.Tensor]:
    return {name: value.detach() for name, value in model.load().named_parameters()}


@pytest.mark.parametrize("shape", ["opt", "llama", "gpt2"])
def test_every_blocks_error_falls_and_zeros_stay(shape, tmp_path):
    pruned, dense, calibration = both(tmp_path, shape)
    healed = heal(tmp_path, pruned, dense, calibration)
    found = errors(healed)
    assert len(found) == 2
    assert all(error["after"] < error["before"] for error in found)
    before, after = weights(pruned), weights(healed)
    layers = [f"{name}.weight" for name in block_layers(pruned.load())]
    assert all(torch.equal(after[name] == 0, before[name] == 0) and not torch.equal(after[name], before[name]) for name in layers)
    outside = [name for name in after if "embed" in name or "wte" in name or "wpe" in name or "lm_head" in name]
    assert outside
    assert all(torch.equal(after[name], before[name]) for name in outside)
    ids = torch.from_numpy(calibration.ids[:512].astype("int64")).view(16, 32)
    with torch.no_grad():
        wanted, first, second = (model.load()(input_ids=ids).logits for model in (dense, pruned, healed))
    assert (second - wanted).square().mean() < (first - wanted).square().mean()


def test_the_errors_are_those_of_the_dense_block_on_the_healed_stream(tmp_path):
    """Written out: the second block of the dense model and of the healed one, on what the first healed block gives."""
    pruned, dense, calibration = both(tmp_path, "llama")
    healed = heal(tmp_path, pruned, dense, calibration, calibration_tokens=10**6)
    ids = torch.from_numpy(calibration.ids[: calibration.tokens // 32 * 32].astype("int64")).view(-1, 32)
    caught: dict[str, Any] = {}
    module, other, raw = healed.load(), dense.load(), pruned.load()
    module.model.layers[1].register_forward_pre_hook(lambda _, args, more: caught.update(args=args, more=more), with_kwargs=True)
    with torch.no_grad():
        module(input_ids=ids, use_cache=False)
        given, wanted, plain = (m.model.layers[1].forward(*caught["args"], **caught["more"]) for m in (module, other, raw))
    error = errors(healed)[1]
    assert error["after"] == pytest.approx(float((given - wanted).double().square().mean()), rel=1e-4)
    assert error["before"] == pytest.approx(float((plain - wanted).double().square().mean()), rel=1e-4)


def test_nothing_pruned_is_nothing_to_do(tmp_path):
    """Sparsity 0: the loss is 0 and every tensor stays as it is."""
    pruned, dense, calibration = both(tmp_path, sparsity=0.0)
    healed = heal(tmp_path, pruned, dense, calibration)
    assert errors(healed) == [{"before": 0.0, "after": 0.0}] * 2
    before, after = weights(dense), weights(healed)
    assert all(torch.equal(after[name], before[name]) for name in before)


def test_a_block_that_did_not_get_better_stays_as_it_was(tmp_path):
    pruned, dense, calibration = both(tmp_path)
    healed = heal(tmp_path, pruned, dense, calibration, learning_rate=3.0, steps=5, warmup=0.0)
    assert all(error["after"] == error["before"] for error in errors(healed))
    before, after = weights(pruned), weights(healed)
    assert all(torch.equal(after[name], before[name]) for name in before)


def test_all_weights_that_are_left_can_train(tmp_path):
    pruned, dense, calibration = both(tmp_path)
    healed = heal(tmp_path, pruned, dense, calibration, hooks=(build("learn.hooks.keep_zeros"),))
    before, after = weights(pruned), weights(healed)
    layers = [f"{name}.weight" for name in block_layers(pruned.load())]
    assert all(torch.equal(after[name] == 0, before[name] == 0) for name in layers)
    assert all(error["after"] < error["before"] for error in errors(healed))


def test_a_half_precision_model_stays_so_and_its_errors_are_of_what_is_stored(tmp_path):
    pruned, _, calibration = both(tmp_path)
    half = Model.save(tmp_path / "half", pruned.load().to(torch.bfloat16), pruned)
    dense = Model.save(tmp_path / "half-dense", tiny_models.module("opt").to(torch.bfloat16), pruned)
    healed = heal(tmp_path, half, dense, calibration)
    assert healed.load().dtype == torch.bfloat16
    assert all(error["after"] < error["before"] for error in errors(healed))


class Interrupt(Hook):
    """Ctrl-C in the middle of the second block."""

    seen: list[int] = []

    def step(self, state: State) -> None:
        self.seen.append(state.step)
        if len(self.seen) == 45:
            signal.raise_signal(signal.SIGINT)


def test_stopped_inside_a_block_and_resumed_is_the_same_to_the_byte(tmp_path):
    pruned, dense, calibration = both(tmp_path)
    whole = heal(tmp_path / "whole", pruned, dense, calibration)
    hook = Interrupt(seen=[])
    with pytest.raises(KeyboardInterrupt):
        heal(tmp_path, pruned, dense, calibration, hooks=(PERP, hook))
    assert len(list((tmp_path / "scratch" / "blocks").glob("*.json"))) == 1
    assert list((tmp_path / "scratch" / "block-00001" / "checkpoints").glob("step-0000000015-*"))
    hook.seen.clear()
    again = heal(tmp_path, pruned, dense, calibration, hooks=(PERP, hook))
    assert hook.seen == list(range(16, 31)), "the first block is not trained again, the second goes on"
    for path in whole.path.iterdir():
        assert path.read_bytes() == (again.path / path.name).read_bytes(), path.name


def test_mistakes_are_named(tmp_path):
    pruned, dense, calibration = both(tmp_path)
    other = tiny_models.model(tmp_path / "other" / "model", "llama")
    with pytest.raises(UserError, match="other names"):
        heal(tmp_path / "a", pruned, other, calibration)
    with pytest.raises(UserError, match="no output head"):
        heal(tmp_path / "b", pruned, dense, calibration, hooks=(Perp(head=True),))
    with pytest.raises(UserError, match="leaves files beside"):
        heal(tmp_path / "c", pruned, dense, calibration, hooks=(Perp(variant="lora"),))
