"""Masks of weights in training: exact counts, what is prunable, and shares of compute as shares of tokens."""

from __future__ import annotations

from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import tiny_models
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from paredown.core.errors import UserError
from paredown.engines import masks
from paredown.engines.sparse_training import (
    Masks,
    average_share,
    hold,
    lowest_of_all,
    maskable,
    prunable,
    ramp,
    recount,
    sparsity_at,
    token_shares,
)

share = st.floats(0, 1)
sparsities = st.floats(0, 0.99)
shapes = st.sampled_from(["cubic", "linear"])


def parameters(*sizes: tuple[int, ...], seed: int = 0) -> dict[str, nn.Parameter]:
    generator = torch.Generator().manual_seed(seed)
    return {f"p{number}": nn.Parameter(torch.randn(size, generator=generator)) for number, size in enumerate(sizes)}


def magnitude(name: str, weight: torch.Tensor) -> torch.Tensor:
    return weight.abs()


# --- compute and tokens


@given(st.floats(0, 0.95), share, share, shapes)
def test_shares_of_compute_are_found_again_by_adding_up_what_tokens_cost(sparsity, one, other, shape):
    """The tokens one after another, in 100,000 pieces."""
    start, end = sorted((one, other))
    begin, finish = token_shares(sparsity, start, end, shape)
    assert -1e-9 <= begin <= finish + 1e-9 <= 1 + 2e-9
    edges = np.linspace(0, 1, 100_001)
    place = (edges[1:] + edges[:-1]) / 2
    x = np.clip((place - begin) / max(finish - begin, 1e-12), 0, 1)
    risen = np.where(place >= finish, 1, x if shape == "linear" else 1 - (1 - x) ** 3)
    costs = 1 - sparsity * risen
    assert [1 - sparsity_at(p, sparsity, begin, finish, shape) for p in place[::999]] == pytest.approx(costs[::999])
    assert costs.mean() == pytest.approx(average_share(sparsity, start, end, shape), abs=1e-3)
    for token_share, expected in ((begin, start), (finish, end)):
        assert np.interp(token_share, edges, np.concatenate([[0], costs.cumsum()])) / costs.sum() == pytest.approx(expected, abs=1e-3)


@given(sparsities, share, share)
def test_the_average_is_the_closed_form_in_shares_of_the_tokens(sparsity, one, other):
    """Linear: a + (b - a) (1 + r) / 2 + (1 - b) r; cubic: (b - a) (r + (1 - r) / 4) in the middle; r is the share that stays."""
    start, end = sorted((one, other))
    stays = 1 - sparsity
    for shape, middle in (("linear", (1 + stays) / 2), ("cubic", stays + (1 - stays) / 4)):
        a, b = token_shares(sparsity, start, end, shape)
        assert average_share(sparsity, start, end, shape) == pytest.approx(a + (b - a) * middle + (1 - b) * stays, rel=1e-9)


def test_a_quarter_of_the_compute_is_less_than_a_quarter_of_the_tokens():
    begin, finish = token_shares(0.75, 0.25, 0.75, "linear")
    mean = 1 / (0.25 + 0.5 / 0.625 + 0.25 / 0.25)  # 0.4878 by hand
    assert (begin, finish) == pytest.approx((0.25 * mean, 1 - mean))
    assert begin < 0.125
    assert token_shares(0.0, 0.25, 0.75, "cubic") == pytest.approx((0.25, 0.75))
    assert token_shares(0.9, 1.0, 1.0, "cubic") == pytest.approx((1, 1))
    assert token_shares(0.9, 0.0, 0.0, "cubic") == pytest.approx((0, 0))


def test_ramps_are_the_papers_curves():
    assert [ramp(x, "linear") for x in (-1, 0, 0.3, 1, 2)] == pytest.approx([0, 0, 0.3, 1, 1])
    assert [ramp(x, "cubic") for x in (-1, 0, 0.5, 0.9, 1, 2)] == pytest.approx([0, 0, 0.875, 0.999, 1, 1])
    assert sparsity_at(0.5, 0.8, 0.25, 0.75, "cubic") == pytest.approx(0.8 * 0.875)
    assert sparsity_at(0.25, 0.8, 0.25, 0.75, "cubic") == 0
    assert sparsity_at(0.75, 0.8, 0.25, 0.75, "cubic") == 0.8
    assert [sparsity_at(x, 0.8, 0.5, 0.5, "cubic") for x in (0.499, 0.5, 0.501)] == [0, 0.8, 0.8]


# --- which weights


@pytest.mark.parametrize("shape", list(tiny_models.SHAPES))
def test_prunable_is_every_matrix_of_the_blocks_but_routers(shape):
    module = tiny_models.module(shape)
    found = prunable(module)
    names = [n for n, p in module.named_parameters() if p.dim() > 1]
    assert list(found) == [
        n
        for n in names
        if ".layers." in n or ".h." in n or ".layer." in n
        if not any(word in n for word in ("mlp.gate.", "shared_expert_gate"))
    ]
    assert all(found[name] is module.get_parameter(name) for name in found)
    assert not any(word in name for name in found for word in ("embed", "wte", "wpe", "lm_head", "norm"))


def test_tied_embeddings_stay_out_and_shared_weights_count_once():
    class Block(nn.Module):
        def __init__(self, table: nn.Embedding) -> None:
            super().__init__()
            self.up, self.again, self.tied = nn.Linear(4, 6), nn.Linear(4, 6), nn.Linear(4, 9, bias=False)
            self.again.weight = self.up.weight
            self.tied.weight = table.weight

    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.table = nn.Embedding(9, 4)
            self.blocks = nn.ModuleList(Block(self.table) for _ in range(2))
            self.head = nn.Linear(4, 9, bias=False)
            self.head.weight = self.table.weight

    assert list(prunable(Model())) == ["blocks.0.up.weight", "blocks.1.up.weight"]


@pytest.mark.parametrize("shape", list(tiny_models.SHAPES))
def test_maskable_is_every_matrix_but_embeddings_and_the_routers_of_stacked_experts(shape):
    module = tiny_models.module(shape)
    found = maskable(module)
    words = ("embed", "wte", "wpe", "mlp.gate.")
    out = {id(p) for n, p in module.named_parameters() if any(word in n for word in words)}
    expected = {n: p for n, p in module.named_parameters() if p.dim() > 1 and id(p) not in out}
    assert list(found) == list(expected)
    assert all(found[name] is expected[name] for name in found)
    assert prunable(module).keys() <= found.keys()


def test_maskable_knows_every_convolution_and_a_shared_weight_once():
    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.table = nn.Embedding(9, 4)
            self.line, self.plane, self.back = nn.Conv1d(4, 4, 3), nn.Conv2d(4, 4, 3), nn.ConvTranspose2d(4, 4, 3)
            self.norm = nn.BatchNorm2d(4)
            self.up, self.again, self.head = nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 9)
            self.again.weight, self.head.weight = self.up.weight, self.table.weight
            self.experts = nn.Module()
            self.experts.up = nn.Parameter(torch.zeros(2, 3, 4))

    module = Model()
    assert list(maskable(module)) == ["line.weight", "plane.weight", "back.weight", "up.weight", "experts.up"]
    assert list(maskable(nn.Linear(2, 2))) == ["weight"]


def test_convolutions_of_blocks_are_prunable():
    from transformers import ResNetConfig, ResNetForImageClassification

    module = ResNetForImageClassification(ResNetConfig(embedding_size=4, hidden_sizes=[4, 8], depths=[1, 1], layer_type="basic"))
    found = prunable(module)
    convolutions = [f"{n}.weight" for n, m in module.named_modules() if isinstance(m, nn.Conv2d) and ".stages." in n]
    assert list(found) == convolutions
    assert len(found) > 3


def test_a_module_without_blocks_is_refused():
    with pytest.raises(UserError, match="nothing to prune"):
        prunable(nn.Linear(3, 3))


@pytest.fixture
def one_process() -> Iterator[None]:
    torch.distributed.init_process_group("gloo", store=torch.distributed.HashStore(), rank=0, world_size=1)
    yield
    torch.distributed.destroy_process_group()


def test_weights_shared_out_over_processes_can_be_held_but_not_chosen_from(one_process):
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layers = nn.ModuleList([nn.Linear(4, 6)])

        def forward(self) -> None: ...

    module = Model()
    weight = module.get_parameter("layers.0.weight")
    assert prunable(module) == {"layers.0.weight": weight}
    fully_shard(module, mesh=init_device_mesh("cpu", (1,)))
    sharded: Any = module.get_parameter("layers.0.weight")
    with pytest.raises(UserError, match="fsdp"):
        prunable(module)
    optimizer = torch.optim.AdamW(module.parameters(), lr=0.1)
    sharded.grad = torch.ones_like(sharded)
    masked = Masks({"layers.0.weight": sharded}, {"layers.0.weight": sharded.detach() > 0})
    held = masked.taken["layers.0.weight"].full_tensor()  # type: ignore[attr-defined]
    masked.mask_gradients()
    optimizer.step()
    masked.keep(optimizer)
    assert masked.count == int(held.sum()) > 0
    for value in (sharded, sharded.grad, optimizer.state[sharded]["exp_avg"]):
        assert torch.equal(value.full_tensor() == 0, held)


# --- how many


@given(st.lists(st.integers(1, 12), min_size=1, max_size=4), st.integers(0, 50), st.integers(0, 5))
def test_the_lowest_of_all_are_those_of_a_sort(sizes, count, levels):
    """With many equal scores; position decides among them."""
    generator = torch.Generator().manual_seed(sum(sizes))
    scores = {str(n): torch.randint(0, levels + 1, (size, 2), generator=generator).float() for n, size in enumerate(sizes)}
    found = lowest_of_all(scores, count)
    flat = torch.cat([s.flatten() for s in scores.values()])
    expected = torch.zeros(len(flat), dtype=torch.bool)
    expected[flat.argsort(stable=True)[:count]] = True
    assert torch.equal(torch.cat([found[name].flatten() for name in scores]), expected)
    assert all(found[name].shape == scores[name].shape for name in scores)


@pytest.mark.parametrize("scope", ["global", "uniform"])
def test_pruning_takes_exact_counts_and_gives_nothing_back(scope):
    weights = parameters((7, 9), (5, 5), (4, 3, 3, 3))
    masked = Masks(weights, {})
    before: dict[str, torch.Tensor] = {}
    for sparsity in (0.0, 0.004, 0.1, 0.1, 0.55, 0.9):
        masked.prune(sparsity, scope, magnitude)
        each = [masks.share(p.numel(), sparsity) for p in weights.values()]
        zeros = [int((p == 0).sum()) for p in weights.values()]
        assert masked.count == sum(zeros) == (masks.share(masked.weights, sparsity) if scope == "global" else sum(each))
        assert scope == "global" or zeros == each
        assert all(bool(masked.taken[name][mask].all()) for name, mask in before.items())
        before = dict(masked.taken)
        with torch.no_grad():
            for p, live in masked:
                p.add_(torch.randn(p.shape) * live)
    assert masked.prune(0.5, scope, magnitude) is False


def test_one_pruning_of_each_layer_is_magnitude_pruning():
    from paredown.prune.magnitude import magnitude_mask

    weights = parameters((8, 16), (6, 10))
    expected = {name: magnitude_mask(p.detach(), 0.6) for name, p in weights.items()}
    masked = Masks(weights, {})
    assert masked.prune(0.6, "uniform", magnitude)
    assert all(torch.equal(masked.taken[name], mask) for name, mask in expected.items())


def test_masks_hold_weight_gradient_and_moments_and_can_be_given_back():
    weights = parameters((6, 4), (3, 3))
    masked = Masks(weights, {})
    masked.prune(0.5, "uniform", magnitude)
    optimizer = torch.optim.AdamW(weights.values(), lr=0.1, weight_decay=0.1)
    for _ in range(3):
        for p in weights.values():
            p.grad = torch.randn(p.shape)
        masked.mask_gradients()
        assert all(bool((p.grad[live == 0] == 0).all()) for p, live in masked if p.grad is not None)
        optimizer.step()
        masked.keep(optimizer)
        for p, live in masked:
            for value in (p, optimizer.state[p]["exp_avg"], optimizer.state[p]["exp_avg_sq"]):
                assert torch.equal(value == 0, live == 0)
    masked.put("p0", torch.zeros(6, 4, dtype=torch.bool))
    assert "p0" not in masked.taken
    assert masked.count == masks.share(9, 0.5)


def test_a_stale_moment_of_a_weight_that_goes_is_cleared():
    """Without it the weight would move again at the next step, by its old momentum."""
    weights = parameters((4, 4))
    optimizer = torch.optim.AdamW(weights.values(), lr=0.1)
    weights["p0"].grad = torch.ones(4, 4)
    optimizer.step()
    masked = Masks(weights, {})
    masked.prune(0.5, "global", magnitude)
    masked.keep(optimizer)
    weights["p0"].grad = torch.zeros(4, 4)
    optimizer.step()
    assert int((weights["p0"] == 0).sum()) == 8


# --- what is counted


def test_active_weights_are_those_that_no_hook_holds():
    weights = parameters((4, 5), (3, 3))
    module = nn.ParameterDict(weights)
    state: Any = SimpleNamespace(module=module, memory={})
    one = {"p0": torch.zeros(4, 5, dtype=torch.bool)}
    one["p0"][0] = True
    hold(state, "one", weights, one)
    assert state.active == 29 - 5
    two = {"p0": torch.zeros(4, 5, dtype=torch.bool), "p1": torch.ones(3, 3, dtype=torch.bool)}
    two["p0"][:, 0] = True
    masked = hold(state, "two", weights, two)
    assert state.active == 29 - (5 + 4 - 1) - 9
    masked.put("p1", torch.zeros(3, 3, dtype=torch.bool))
    recount(state)
    assert state.active == 29 - 8
    with pytest.raises(UserError, match="twice"):
        hold(state, "two", weights, {})
