"""Schedules, optimizer, hook and models of the stage learn: closed forms and exact checks."""

from __future__ import annotations

import itertools
import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from paredown.core.catalog import build
from paredown.core.context import Context
from paredown.engines.orders import shuffled
from paredown.engines.parts import Budget, Draw
from paredown.engines.sparse_training import zero_masks
from paredown.engines.trainer import fit
from paredown.engines.training import Setup
from paredown.learn.hooks.keep_zeros import KeepZeros
from paredown.learn.models.llama import Llama
from paredown.learn.objectives.next_token import next_token_loss
from paredown.learn.optimizers.adamw import Adamw
from paredown.learn.samplers.shuffled import Shuffled
from paredown.learn.schedules.cosine import Cosine, cosine_factor
from paredown.learn.schedules.linear import Linear
from paredown.learn.schedules.warmup_stable_decay import WarmupStableDecay


@pytest.mark.parametrize("schedule", [Cosine(floor=0.1), Linear(floor=0.1), WarmupStableDecay(floor=0.1, decay=0.25)])
def test_schedules_go_from_the_peak_to_their_floor_and_never_rise(schedule):
    values = [schedule.factor(p) for p in np.linspace(0, 1, 101)]
    assert values[0] == 1
    assert values[-1] == pytest.approx(0.1)
    assert all(a >= b for a, b in itertools.pairwise(values))
    assert schedule.factor(1.5) == pytest.approx(0.1)


def test_cosine_is_the_closed_form():
    assert Cosine().factor(0.5) == pytest.approx(0.5)
    assert Cosine().factor(1 / 3) == pytest.approx(0.75)
    assert cosine_factor(0.25, 0.2) == pytest.approx(0.2 + 0.8 * (1 + math.sqrt(0.5)) / 2)


def test_linear_is_a_line():
    assert [Linear().factor(p) for p in (0.25, 0.5, 0.9)] == pytest.approx([0.75, 0.5, 0.1])


def test_stable_decay_holds_and_then_falls():
    schedule = WarmupStableDecay(decay=0.2)
    assert [schedule.factor(p) for p in (0, 0.5, 0.8, 0.9, 0.95)] == pytest.approx([1, 1, 1, 0.5, 0.25])


def of(rows: int) -> Any:
    return SimpleNamespace(rows=rows)


@given(st.integers(1, 40), st.integers(0, 2**32), st.integers(1, 9))
def test_shuffled_visits_every_row_once_an_epoch_and_any_batch_can_be_asked_for(rows, seed, size):
    """Batches laid end to end are epochs laid end to end, also where a batch reaches over the end of one."""
    sampler, batches = Shuffled(), range(rows)  # `size` epochs
    order = [sampler.choose(of(rows), Draw(seed, i, size)) for i in batches]
    for epoch in np.concatenate(order).reshape(size, rows):
        assert sorted(epoch) == list(range(rows))
    for i in reversed(batches):
        assert Shuffled().choose(of(rows), Draw(seed, i, size)).tolist() == order[i].tolist() == shuffled(rows, seed, i, size).tolist()


def test_shuffled_orders_each_epoch_and_each_seed_in_its_own_way():
    orders = [Shuffled().choose(of(1000), Draw(seed, epoch, 1000)).tolist() for seed in (0, 1) for epoch in (0, 1)]
    assert len({tuple(order) for order in orders}) == 4


def test_next_token_loss_is_the_mean_over_predicted_targets():
    logits = torch.tensor([[[2.0, 0.0, 1.0], [0.5, 0.5, 0.0], [9.0, 1.0, 1.0]]])
    targets = torch.tensor([[2, 0, -100]])
    by_hand = -(math.log(math.e / (math.e**2 + 1 + math.e)) + math.log(math.exp(0.5) / (2 * math.exp(0.5) + 1))) / 2
    assert next_token_loss(logits, targets, 2).item() == pytest.approx(by_hand, abs=1e-6)


def test_adamw_is_the_textbook_step_and_decays_matrices_only():
    """One step by hand: bias-corrected Adam moves by the sign of the gradient; decay pulls matrices by lr x decay x weight."""
    torch.manual_seed(0)
    module = nn.Linear(3, 2)
    before = {n: p.detach().clone() for n, p in module.named_parameters()}
    optimizer = Adamw(weight_decay=0.5, epsilon=1e-12).build(module)
    for group in optimizer.param_groups:
        group["lr"] = 0.01
    grads = {n: torch.randn_like(p) for n, p in module.named_parameters()}
    for n, p in module.named_parameters():
        p.grad = grads[n].clone()
    optimizer.step()
    torch.testing.assert_close(module.weight.detach(), before["weight"] * (1 - 0.01 * 0.5) - 0.01 * grads["weight"].sign())
    torch.testing.assert_close(module.bias.detach(), before["bias"] - 0.01 * grads["bias"].sign())


def test_a_base_width_slows_linear_layers_of_wider_models_and_nothing_else():
    from paredown.core.errors import UserError

    module = build("learn.models.llama").build(50, 0)  # 128 wide, tied embeddings
    groups = Adamw(base_width=32).build(module).param_groups
    scaled = {id(p) for group in groups if group.get("lr_scale") == 32 / 128 for p in group["params"]}
    whole = {id(p) for group in groups if "lr_scale" not in group for p in group["params"]}
    assert scaled == {id(child.weight) for child in module.model.layers.modules() if isinstance(child, torch.nn.Linear)}
    assert scaled | whole == {id(p) for p in module.parameters()}
    assert not scaled & whole
    assert {group["weight_decay"] for group in groups if "lr_scale" in group} == {0.1}
    with pytest.raises(UserError, match="no token embeddings"):
        Adamw(base_width=32).build(torch.nn.Linear(2, 2))


@pytest.mark.parametrize("name", ["adamw", "sgd"])
def test_optimizers_share_their_groups_and_leave_out_what_is_frozen(name):
    module = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.Linear(2, 3))
    module[2].weight.requires_grad = False
    groups = build({"use": f"learn.optimizers.{name}", "weight_decay": 0.3}).build(module).param_groups
    ids = [[id(p) for p in group["params"]] for group in groups]
    vectors = [module[0].bias, *module[1].parameters(), module[2].bias]
    assert ids == [[id(module[0].weight)], [id(p) for p in vectors]]
    assert [group["weight_decay"] for group in groups] == [0.3, 0.0]
    nn.Module.requires_grad_(module[0], False)
    assert len(build(f"learn.optimizers.{name}").build(module).param_groups) == 1


def pruned_llama(share: float = 0.7) -> Any:
    torch.manual_seed(0)
    module = Llama(hidden_size=16, layers=2, heads=2, intermediate_size=24).build(32, 0)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for name, layer in module.named_modules():
            if isinstance(layer, nn.Linear) and name != "lm_head":
                layer.weight[torch.rand(layer.weight.shape, generator=generator) < share] = 0
    return module


def heal(module: Any, folder: Path, hooks: tuple[Any, ...]) -> Any:
    parts = {
        name: build(f"learn.{use}")
        for name, use in (("objective", "objectives.next_token"), ("optimizer", "optimizers.adamw"), ("schedule", "schedules.cosine"))
    }
    setup = Setup(**parts, budget=Budget(steps=15), learning_rate=0.05, hooks=hooks, device="cpu", precision="fp32")
    ids = torch.randint(0, 32, (4, 17), generator=torch.Generator().manual_seed(0)).numpy()
    batch = {"ids": ids[:, :-1], "targets": ids[:, 1:]}
    return fit(module, lambda i: batch, setup, seed=0, step=Context(folder / "out", folder / "scratch", seed=0)).module


def test_keep_zeros_keeps_exactly_the_zeros(tmp_path):
    before = {n: p.detach().clone() for n, p in pruned_llama().named_parameters()}
    masks = zero_masks(pruned_llama())
    assert len(masks) == 14
    healed = dict(heal(pruned_llama(), tmp_path, (KeepZeros(),)).named_parameters())
    for name, mask in masks.items():
        assert torch.equal(healed[name] == 0, before[name] == 0)
        assert torch.equal(mask, before[name] == 0)
        assert not torch.equal(healed[name], before[name])
    assert not torch.equal(healed["model.embed_tokens.weight"], before["model.embed_tokens.weight"])


def test_without_it_they_grow_back(tmp_path):
    healed = dict(heal(pruned_llama(), tmp_path, ()).named_parameters())
    assert all((healed[name] == 0).float().mean() < 0.01 for name in zero_masks(pruned_llama()))


def test_keep_zeros_masks_gradient_and_state(tmp_path):
    from paredown.engines.parts import Hook

    class Look(Hook):
        def gradient(self, state: Any) -> None:
            assert len(list(state.memory["keep_zeros"])) == 14
            for parameter, mask in state.memory["keep_zeros"]:
                assert (parameter.grad[mask == 0] == 0).all()

        def step(self, state: Any) -> None:
            for parameter, mask in state.memory["keep_zeros"]:
                assert (state.optimizer.state[parameter]["exp_avg"][mask == 0] == 0).all()
            state.module.looked = True

    assert heal(pruned_llama(), tmp_path, (KeepZeros(), Look())).looked


def test_keep_zeros_of_a_dense_model_masks_nothing():
    assert zero_masks(Llama(hidden_size=16, layers=1, heads=2).build(32, 0)) == {}


@pytest.mark.parametrize(
    "knobs", [{}, {"tie_embeddings": False}, {"heads": 4, "key_value_heads": 2, "hidden_size": 32, "layers": 1}, {"intermediate_size": 40}]
)
def test_llama_counts_what_it_builds(knobs):
    part = Llama(**{"hidden_size": 16, "heads": 2, "layers": 2, **knobs})
    module = part.build(50, 0)
    assert part.parameters(50) == sum(p.numel() for p in module.parameters())


def test_llama_trains_the_mark_too():
    """A padding token in the configuration would freeze the embedding of the mark that each document begins with."""
    module = Llama(hidden_size=16, heads=2, layers=1).build(50, 0)
    assert module.get_input_embeddings().padding_idx is None
    assert module.get_input_embeddings().weight[0].abs().sum() > 0


@pytest.mark.parametrize("knobs", [{"heads": 3}, {"heads": 4, "key_value_heads": 3}, {"heads": 128}])
def test_llama_refuses_shapes_that_do_not_divide(knobs):
    with pytest.raises(ValueError, match="must divide"):
        Llama(**knobs)


def test_the_quickstart_shape():
    part = Llama(hidden_size=128, layers=3, heads=4)
    assert part.feed_forward == 344
    assert part.parameters(512) == 659_328
