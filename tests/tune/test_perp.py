"""PERP in a training: what trains is the closed form, nothing else moves, no zero is lost, killed and resumed is the same."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Any

import pytest
import tiny_models
import torch
from torch import nn

from paredown.artifacts.model import Model
from paredown.artifacts.tokens import Tokens
from paredown.core.catalog import build
from paredown.core.context import Context, running
from paredown.core.errors import UserError
from paredown.engines.adapters import block_layers
from paredown.engines.parts import Hook
from paredown.engines.training import State
from paredown.learn.models.mlp import Mlp
from paredown.learn.train import Train
from paredown.prune.magnitude import Magnitude
from paredown.prune.sparsegpt import Sparsegpt
from paredown.tune.perp import Perp

TEXTS = [f"def f{i}(x):\n    return x + {i} * {'y' * (i % 7)}\n" * (1 + i % 4) for i in range(40)]
SMALL: dict[str, Any] = {"length": 32, "batch_size": 4, "learning_rate": 1e-2, "device": "cpu", "precision": "fp32", "warmup": 0.1}
VARIANTS = ("none", "lora", "lora_prune", "scale_lora", "mask_lora")
KEEP = [variant for variant in VARIANTS if variant != "lora"]


class Interrupt(Hook):
    """Ctrl-C in the middle of the training."""

    def step(self, state: State) -> None:
        if state.step == 5:
            signal.raise_signal(signal.SIGINT)


def tokens(folder: Path) -> Tokens:
    return tiny_models.tokens(folder / "tokens", TEXTS)


def pruned(folder: Path, shape: str = "opt", **knobs: Any) -> Model:
    with running(Context(folder / "pruned", folder / "pruning", name="pruned")):
        model: Model = Magnitude(**{"sparsity": 0.6, **knobs})(tiny_models.model(folder / "base" / "model", shape))
    return model


def tune(folder: Path, model: Model, source: Tokens, *hooks: Hook, steps: int = 8, **knobs: Any) -> tuple[Model, Context]:
    step = Context(folder / "out", folder / "scratch", seed=0, name="tuned")
    with running(step):
        return Train(budget={"steps": steps}, hooks=hooks, **{**SMALL, **knobs})(model, source), step


def weights(model: Model) -> dict[str, torch.Tensor]:
    return {name: value.detach() for name, value in model.load().named_parameters()}


@pytest.mark.parametrize("variant", VARIANTS)
def test_only_what_is_chosen_moves_and_zeros_stay(variant, tmp_path):
    base, source = pruned(tmp_path), tokens(tmp_path)
    tuned, step = tune(tmp_path, base, source, Perp(variant=variant, rank=3))
    before, after = weights(base), weights(tuned)
    layers = {f"{name}.weight" for name in block_layers(base.load())}
    for name, value in after.items():
        if name in layers:
            kept = variant != "lora"
            assert torch.equal(value == 0, before[name] == 0) == kept, name
            assert torch.equal(value, before[name]) == (variant == "none"), name
        elif not name.endswith("bias") and "layer_norm" not in name:
            assert torch.equal(value, before[name]), f"{name} is frozen"
    assert any(not torch.equal(after[name], before[name]) for name in after if "layer_norm.weight" in name)
    losses = [point[2] for point in step.facts["curves"]["loss"]]
    assert losses
    assert (tuned.path / "adapters").exists() == (variant == "lora")


@pytest.mark.parametrize("pruner", [Magnitude(pattern="2:4"), Magnitude(pattern="4:8"), Sparsegpt(sparsity=0.7, calibration_tokens=512)])
@pytest.mark.parametrize("variant", KEEP)
def test_zeros_of_any_pattern_and_pruner_stay(variant, pruner, tmp_path):
    source = tokens(tmp_path)
    (tmp_path / "pruning").mkdir()
    with running(Context(tmp_path / "pruned", tmp_path / "pruning", seed=0, name="pruned")):
        dense = tiny_models.model(tmp_path / "base" / "model", "llama")
        base = pruner(dense, source) if isinstance(pruner, Sparsegpt) else pruner(dense)
    tuned, _ = tune(tmp_path, base, source, Perp(variant=variant, rank=2, head=True))
    before, after = weights(base), weights(tuned)
    layers = [f"{name}.weight" for name in block_layers(base.load())]
    assert all(torch.equal(after[name] == 0, before[name] == 0) for name in layers)
    assert tuned.parameters()["total"] == base.parameters()["total"]


@pytest.mark.parametrize(("variant", "exact"), [("mask_lora", True), ("scale_lora", True), ("lora", True), ("lora_prune", False)])
def test_the_merged_model_is_the_trained_one_but_for_lora_prune(variant, exact, tmp_path):
    """The held-out loss is measured before the merge, and again here after it."""
    base, source = pruned(tmp_path), tokens(tmp_path)
    tuned, _ = tune(tmp_path, base, source, Perp(variant=variant, rank=3), steps=30, learning_rate=3e-2, log_every=1)
    trained = Train(budget={"steps": 30}, hooks=(Perp(variant=variant, rank=3),), **{**SMALL, "learning_rate": 3e-2})
    step = Context(tmp_path / "again", tmp_path / "again-scratch", seed=0, name="tuned")
    with running(step):
        trained(base, source, source)
    before = step.facts["training"]["held_out_loss"]
    step = Context(tmp_path / "look", tmp_path / "look-scratch", seed=0, name="tuned")
    with running(step):
        Train(budget={"steps": 1}, **{**SMALL, "learning_rate": 1e-30})(tuned, source, source)
    after = step.facts["training"]["held_out_loss"]
    assert (abs(after - before) < 1e-5) == exact


@pytest.mark.parametrize("variant", VARIANTS[1:])
def test_the_first_loss_is_the_pruned_models(variant, tmp_path):
    base, source = pruned(tmp_path), tokens(tmp_path)
    first = {}
    for name, hooks in (("plain", ()), ("perp", (Perp(variant=variant, rank=3, head=True),))):
        _, step = tune(tmp_path / name, base, source, *hooks, steps=1, log_every=1)
        first[name] = step.facts["curves"]["loss"][0][2]
    assert first["perp"] == first["plain"]


def test_what_trains_is_the_closed_form(tmp_path):
    base, source = pruned(tmp_path), tokens(tmp_path)
    d, f, rank, vocabulary, blocks = 32, 48, 3, tiny_models.VOCABULARY, 2
    biases, norms = blocks * (4 * d + f + d + 2 * d) + d, (blocks * 2 + 1) * 2 * d
    lora, head = blocks * rank * (4 * 2 * d + 2 * (d + f)), rank * (d + vocabulary)
    norm_biases = (blocks * 2 + 1) * d
    for number, (knobs, wanted) in enumerate(
        [
            ({"norms": False, "variant": "none"}, biases),
            ({"biases": False, "variant": "none"}, norms),
            ({"variant": "none"}, biases + norms - norm_biases),
            ({"biases": False, "norms": False, "variant": "none", "head": True}, head),
            ({"biases": False, "norms": False}, lora),
            ({"head": True}, biases + norms - norm_biases + lora + head),
            ({"biases": False, "norms": False, "layers": ("fc1",)}, blocks * rank * (d + f)),
        ]
    ):
        _, step = tune(tmp_path / str(number), base, source, Perp(rank=rank, **knobs), steps=1)
        assert step.facts["training"]["parameters"]["trainable"] == wanted
    assert step.facts["trained"] == {"biases": 0, "norms": 0, "adapters": blocks * rank * (d + f)}
    zeros = base.parameters()["total"] - base.parameters()["nonzero"]
    assert abs(base.parameters()["total"] - zeros - step.facts["training"]["parameters"]["final"]) < 200, "embeddings hold a zero row"


def test_unmerged_adapters_open_in_peft_on_top_of_the_pruned_model(tmp_path):
    from peft import PeftModel

    base, source = pruned(tmp_path), tokens(tmp_path)
    tuned, _ = tune(tmp_path, base, source, Perp(variant="lora", rank=3, head=True), steps=20)
    opened = PeftModel.from_pretrained(base.load(), tuned.path / "adapters")
    ids = torch.arange(20).view(2, 10)
    with torch.no_grad():
        wanted, given = tuned.load()(input_ids=ids).logits, opened(input_ids=ids).logits
    assert torch.allclose(given, wanted, atol=1e-5 * float(wanted.abs().max()))
    layers = block_layers(base.load())
    assert all(bool((opened.base_model.model.get_submodule(name).base_layer.weight == 0).any()) for name in layers), "the zeros are there"


def test_it_opens_in_stock_transformers(tmp_path):
    from transformers import AutoModelForCausalLM

    tuned, _ = tune(tmp_path, pruned(tmp_path), tokens(tmp_path), Perp(rank=2), steps=2)
    assert {name for name, _ in AutoModelForCausalLM.from_pretrained(tuned.path).named_parameters()} == set(weights(tuned))


@pytest.mark.parametrize("variant", VARIANTS)
def test_stopped_and_resumed_is_the_same_to_the_byte(variant, tmp_path):
    base, source = pruned(tmp_path), tokens(tmp_path)
    hook = Perp(variant=variant, rank=3, head=True)
    whole, _ = tune(tmp_path / "whole", base, source, hook, steps=12)

    with pytest.raises(KeyboardInterrupt):
        tune(tmp_path, base, source, hook, Interrupt(), steps=12)
    assert list((tmp_path / "scratch" / "checkpoints").glob("step-*"))
    again, step = tune(tmp_path, base, source, hook, steps=12)
    assert step.facts["resumed_at"] == 5
    names = sorted(p.relative_to(whole.path) for p in whole.path.rglob("*") if p.is_file())
    assert names == sorted(p.relative_to(again.path) for p in again.path.rglob("*") if p.is_file())
    assert all((whole.path / name).read_bytes() == (again.path / name).read_bytes() for name in names)


def test_norms_alone_of_a_network(tmp_path):
    """Vision: batch norms train, the rest stands."""
    module = build({"use": "learn.models.resnet", "classes": 3}).build(0, 0)
    with running(Context(tmp_path / "out", tmp_path / "scratch")):
        Perp(biases=False, variant="none").prepare(module)
    trained = {name for name, value in module.named_parameters() if value.requires_grad}
    owners = {name.rpartition(".")[0] for name in trained}
    assert owners
    assert all(isinstance(module.get_submodule(name), nn.BatchNorm2d) for name in owners)


def test_mistakes_are_named(tmp_path):
    base, source = pruned(tmp_path), tokens(tmp_path)
    with pytest.raises(ValueError, match="nothing would train"):
        Perp(biases=False, norms=False, variant="none")
    with pytest.raises(UserError, match="has an adapter already"):
        tune(tmp_path / "a", base, source, Perp(rank=1), Perp(rank=2))
    with pytest.raises(UserError, match="no linear layer up_proj"):
        tune(tmp_path / "b", base, source, Perp(layers=("up_proj",)))
    llama = pruned(tmp_path / "llama", "llama")
    with pytest.raises(UserError, match="has no biases, so nothing would train"):
        tune(tmp_path / "c", llama, source, Perp(norms=False, variant="none"))
    network = Mlp(inputs=6, hidden=(4,), classes=3).build(0, 0)
    with pytest.raises(UserError, match="no output head"), running(Context(tmp_path / "out", tmp_path / "scratch")):
        Perp(variant="none", head=True).prepare(network)


def test_several_processes_with_a_share_of_the_weights_each_heal_like_one(tmp_path):
    """Masks are whole in every process, adapters are shared out."""
    base, source = pruned(tmp_path, "llama"), tokens(tmp_path)  # without dropout, which each process draws for itself
    hook = Perp(variant="mask_lora", rank=3, head=True)
    knobs: dict[str, Any] = {"steps": 6, "optimizer": build("learn.optimizers.sgd")}
    one, alone = tune(tmp_path / "one", base, source, hook, **knobs)
    two, step = tune(tmp_path / "two", base, source, hook, parallel="fsdp", processes=2, **knobs)
    assert step.facts["processes"] == 2
    assert step.facts["training"]["parameters"] == alone.facts["training"]["parameters"]
    layers = [f"{name}.weight" for name in block_layers(base.load())]
    before, wanted, after = weights(base), weights(one), weights(two)
    assert all(torch.equal(after[name] == 0, before[name] == 0) for name in layers)
    for name, value in wanted.items():
        torch.testing.assert_close(after[name], value, rtol=1e-4, atol=1e-5)
    assert any(not torch.equal(wanted[name], before[name]) for name in layers)
