"""Adapters: equal to the product written out, to its autograd and to peft; exact merges that lose no zero; groups that train."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import tiny_models
import torch
from torch import nn
from torch.nn import functional

from paredown.core.errors import UserError
from paredown.engines import adapters, weight_groups
from paredown.engines.adapters import Adapter, attach, block_layers, merge
from paredown.engines.masks import choose

SCALE = 2.0


def pruned(shape: str = "opt", sparsity: float = 0.6, pattern: str = "unstructured", tied: bool = False) -> Any:
    """A module with zeros in every linear layer of its blocks."""
    module = tiny_models.module(shape)
    if tied:
        module.config.tie_word_embeddings = True
        module.get_output_embeddings().weight = module.get_input_embeddings().weight
    with torch.no_grad():
        for name in block_layers(module):
            weight = module.get_submodule(name).weight
            weight[choose(weight.abs(), sparsity, pattern)] = 0
    return module


def masks(module: nn.Module) -> dict[str, torch.Tensor]:
    return {name: module.get_submodule(name).weight.detach() != 0 for name in block_layers(module)}


def moved(module: nn.Module, seed: int = 1) -> None:
    """Adapters as if they had trained."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for _, _, adapter in adapters.adapted(module):
            for value in (adapter.a, adapter.b):
                value.add_(0.1 * torch.randn(value.shape, generator=generator))


def logits(module: Any) -> torch.Tensor:
    ids = torch.arange(24).view(2, 12) * 7 % tiny_models.VOCABULARY
    with torch.no_grad():
        found: torch.Tensor = module(input_ids=ids).logits
    return found


def put(module: nn.Module, form: Any, *, masked: bool = True, rank: int = 3, names: list[str] | None = None) -> None:
    names = names or block_layers(module)
    attach(module, dict.fromkeys(names, rank), SCALE * rank, form, masks(module) if masked else None)


@pytest.mark.parametrize("form", ["add", "mask", "scale"])
def test_outputs_and_gradients_are_those_of_the_product_written_out(form):
    torch.manual_seed(0)
    weight, bias, x = torch.randn(7, 5), torch.randn(7), torch.randn(2, 3, 5, requires_grad=True)
    mask = torch.rand(7, 5) > 0.5
    weight *= mask
    adapter = Adapter(weight, 2, SCALE * 2, form, mask if form == "mask" else None)
    with torch.no_grad():
        adapter.b.normal_()
        adapter.a.normal_()
    bias.requires_grad_(True)
    a, b, x2, bias2 = (value.detach().clone().requires_grad_(True) for value in (adapter.a, adapter.b, x, bias))
    made = weight * (b @ a) if form == "scale" else weight + SCALE * ((mask if form == "mask" else 1) * (b @ a))
    wanted, given = functional.linear(x2, made, bias2), adapter(x, weight, bias)
    assert torch.allclose(given, wanted, atol=1e-5)
    pull = torch.randn_like(wanted)
    wanted.backward(pull)
    given.backward(pull)
    for mine, theirs in ((adapter.a, a), (adapter.b, b), (x, x2), (bias, bias2)):
        assert torch.allclose(mine.grad, theirs.grad, atol=1e-5)
    assert torch.allclose(adapter.merged(weight), made.detach(), atol=1e-6)


@pytest.mark.parametrize("form", ["mask", "scale"])
def test_nothing_of_the_size_of_the_weight_is_kept_for_the_backward_pass(form):
    """Beside the weight and the mask, which are there anyway."""
    weight = torch.randn(64, 48)
    mask = weight > 0
    adapter = Adapter(weight, 4, 8.0, form, mask if form == "mask" else None)
    kept: list[torch.Tensor] = []
    with torch.autograd.graph.saved_tensors_hooks(lambda value: kept.append(value) or value, lambda value: value):
        adapter(torch.randn(3, 48, requires_grad=True), weight, None)
    assert kept
    assert {value.data_ptr() for value in kept if value.numel() >= weight.numel()} <= {weight.data_ptr(), mask.data_ptr()}


@pytest.mark.parametrize("shape", ["llama", "opt", "gpt2"])
@pytest.mark.parametrize("form", ["add", "mask", "scale"])
def test_a_new_adapter_changes_nothing_and_a_merged_one_changes_nothing(shape, form):
    module = pruned(shape)
    before, classes = logits(module), [type(child) for child in module.modules()]
    put(module, form)
    if shape == "gpt2":  # its layers multiply the other way round, which rounds otherwise
        assert torch.allclose(logits(module), before, atol=1e-5)
    else:
        assert torch.equal(logits(module), before)
    moved(module)
    if form == "add":
        for _, _, adapter in adapters.adapted(module):
            adapter.mask = None
    trained = logits(module)
    assert not torch.allclose(trained, before, atol=1e-2)
    merge(module)
    assert [type(child) for child in module.modules()] == classes
    close = 1e-5 * float(trained.abs().max()) if form == "add" else 1e-5  # what adds is another sum before the merge
    torch.testing.assert_close(logits(module), trained, atol=close, rtol=0)
    assert not list(adapters.adapted(module))


@pytest.mark.parametrize("pattern", ["unstructured", "2:4", "4:8"])
@pytest.mark.parametrize("form", ["add", "mask", "scale"])
def test_zeros_are_the_same_after_the_merge(form, pattern):
    module = pruned("opt", pattern=pattern)
    there = masks(module)
    put(module, form)
    moved(module)
    trained = logits(module)
    merge(module)
    after = masks(module)
    assert all(torch.equal(after[name], there[name]) for name in there)
    if form == "add":
        assert not torch.allclose(logits(module), trained, atol=1e-2), "pruning what was added changes the function"


def test_the_mask_is_stored_and_not_read_off_the_weights():
    """A weight that lives and happens to be zero may move."""
    layer = nn.Sequential(nn.Linear(4, 4, bias=False))
    mask = torch.ones(4, 4, dtype=torch.bool)
    mask[0, 0] = False
    with torch.no_grad():
        layer[0].weight[0, 0] = layer[0].weight[1, 1] = 0.0
    attach(layer, {"0": 2}, 4.0, "mask", {"0": mask})
    moved(layer)
    merge(layer)
    assert layer[0].weight[0, 0] == 0
    assert layer[0].weight[1, 1] != 0


def test_scaling_starts_at_exactly_one_and_uses_its_whole_rank():
    for rank in range(1, 12):
        adapter = Adapter(torch.randn(6, 5), rank, 1.0, "scale")
        assert torch.equal(adapter.b @ adapter.a, torch.ones(6, 5))
    torch.manual_seed(0)
    weight, wanted = torch.randn(6, 5), torch.randn(6, 5)
    adapter = Adapter(weight, 3, 1.0, "scale")
    optimizer = torch.optim.Adam(adapter.parameters(), lr=0.05)
    for _ in range(200):
        loss = (adapter(torch.eye(5), weight, None) - wanted.T).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert torch.linalg.matrix_rank(adapter.b @ adapter.a) == 3


def test_a_layer_without_zeros_adds():
    assert Adapter(torch.randn(3, 3), 1, 1.0, "mask", None).form == "add"


def test_counts_are_the_closed_form_and_a_shared_adapter_counts_once():
    module = pruned("llama")
    names = block_layers(module)
    ranks = {name: 2 + number for number, name in enumerate(names)}
    attach(module, ranks, 8.0)
    shapes = {name: module.get_submodule(name).weight.shape for name in names}
    assert adapters.count(module) == sum(ranks[name] * sum(shapes[name]) for name in names)
    tied = pruned("opt", tied=True)
    head = weight_groups.head_of(tied)
    attach(tied, {head.name: 4}, 8.0)
    assert adapters.count(tied) == 4 * (tiny_models.VOCABULARY + 32)


def test_a_tied_head_and_the_embeddings_share_their_adapter_and_stay_tied():
    module = pruned("opt", tied=True)
    before = logits(module)
    put(module, "add", names=["lm_head"], masked=False)
    assert torch.equal(logits(module), before)
    moved(module)
    trained = logits(module)
    merge(module)
    assert module.lm_head.weight is module.get_input_embeddings().weight
    assert torch.allclose(logits(module), trained, atol=1e-5 * float(trained.abs().max()))


def test_frozen_weights_do_not_move_and_those_of_the_groups_do():
    module = pruned("opt")
    chosen = weight_groups.biases(module) | weight_groups.norms(module)
    weight_groups.train_only(module, chosen.values())
    put(module, "mask")
    before = {name: value.detach().clone() for name, value in module.named_parameters()}
    optimizer = torch.optim.AdamW([p for p in module.parameters() if p.requires_grad], lr=0.01)
    for _ in range(2):  # A has no gradient as long as B is zero
        logits_of = module(input_ids=torch.arange(12).view(1, 12)).logits
        logits_of.square().mean().backward()
        optimizer.step()
        optimizer.zero_grad()
    # a bias of keys shifts all scores of a row alike, which softmax does not see
    still = {name for name, value in module.named_parameters() if torch.equal(value, before[name])}
    frozen = {name for name in before if name not in chosen and ".adapter." not in name}
    assert still - {name for name in chosen if "k_proj" in name} == frozen


@pytest.mark.parametrize(
    ("shape", "biases", "norms"),
    [
        ("llama", 0, 2 * 2 * 32 + 32),
        ("opt", 2 * (4 * 32 + 48 + 32 + 2 * 32) + 32, 2 * 2 * 2 * 32 + 2 * 32),
        ("gpt2", 2 * (3 * 32 + 32 + 128 + 32 + 2 * 32) + 32, 2 * 2 * 2 * 32 + 2 * 32),
    ],
)
def test_groups_are_the_closed_form(shape, biases, norms):
    module = tiny_models.module(shape)
    assert sum(p.numel() for p in weight_groups.biases(module).values()) == biases
    assert sum(p.numel() for p in weight_groups.norms(module).values()) == norms


def test_batch_norms_are_norms():
    network = nn.Sequential(nn.Conv2d(1, 3, 3, bias=False), nn.BatchNorm2d(3), nn.Linear(3, 2))
    assert set(weight_groups.norms(network)) == {"1.weight", "1.bias"}
    assert set(weight_groups.biases(network)) == {"1.bias", "2.bias"}


def test_half_precision_does_not_train():
    module = tiny_models.module("opt").to(torch.bfloat16)
    with pytest.raises(UserError, match="half precision"):
        weight_groups.train_only(module, weight_groups.norms(module).values())


def test_adapters_of_a_half_precision_weight_are_fp32_and_autocast_computes_in_half():
    module = pruned("opt").to(torch.bfloat16)
    for form in ("add", "mask"):
        put(module, form)
        assert {value.dtype for _, _, adapter in adapters.adapted(module) for value in adapter.parameters()} == {torch.float32}
        assert module(input_ids=torch.arange(6).view(1, 6)).logits.dtype == torch.bfloat16
        adapters.drop(module)
    module = module.float()
    put(module, "mask")
    with torch.autocast("cpu", dtype=torch.bfloat16):
        given = module.model.decoder.layers[0].fc1(torch.randn(3, 32))
    assert given.dtype == torch.bfloat16
    given.sum().backward()
    assert module.model.decoder.layers[0].fc1.adapter.b.grad.dtype == torch.float32


@pytest.mark.parametrize("shape", ["opt", "llama", "gpt2"])
def test_what_is_saved_opens_in_peft_with_the_same_function(shape, tmp_path):
    """Different ranks, the head, and biases and norms that trained beside."""
    from peft import PeftModel

    module = pruned(shape)
    ranks = {name: 2 + number % 2 for number, name in enumerate([*block_layers(module), "lm_head"])}
    weight_groups.train_only(module, (weight_groups.biases(module) | weight_groups.norms(module)).values())
    attach(module, ranks, 6.0)
    moved(module)
    with torch.no_grad():
        for value in module.parameters():
            if value.requires_grad:
                value.add_(0.05)
    adapters.save(module, tmp_path / "adapters")
    opened = PeftModel.from_pretrained(pruned(shape), tmp_path / "adapters")
    wanted = logits(module)
    assert torch.allclose(logits(opened), wanted, atol=1e-5 * float(wanted.abs().max()))
    assert sum(value.numel() for name, value in opened.named_parameters() if "lora_" in name) == adapters.count(module)
    written = (tmp_path / "adapters" / "adapter_config.json").read_text()
    assert json.loads(written)["target_modules"] == sorted(ranks)
    adapters.save(module, tmp_path / "again")
    for name in ("adapter_config.json", "adapter_model.safetensors"):
        assert (tmp_path / "adapters" / name).read_bytes() == (tmp_path / "again" / name).read_bytes()


def test_a_tied_head_opens_in_peft(tmp_path):
    from peft import PeftModel

    module = pruned("opt", tied=True)
    weight_groups.train_only(module, [])
    put(module, "add", names=["lm_head"], masked=False)
    moved(module)
    adapters.save(module, tmp_path)
    opened = PeftModel.from_pretrained(pruned("opt", tied=True), tmp_path)
    assert torch.allclose(logits(opened), logits(module), atol=1e-4)


def test_only_what_adds_has_a_form_in_peft(tmp_path):
    module = pruned("opt")
    put(module, "mask")
    with pytest.raises(UserError, match="only adapters that add"):
        adapters.save(module, tmp_path)
    adapters.drop(module)
    put(module, "add")
    with pytest.raises(UserError, match="trains beside the adapters"):
        adapters.save(module, tmp_path)


def test_mistakes_are_named(tmp_path: Path):
    module = pruned("opt")
    with pytest.raises(UserError, match="no linear layer o_proj"):
        block_layers(module, ["o_proj"])
    assert [name.rpartition(".")[2] for name in block_layers(module, ["q_proj", "fc1"])] == ["q_proj", "fc1"] * 2
    put(module, "add")
    with pytest.raises(UserError, match="has an adapter already"):
        put(module, "add")
    with pytest.raises(UserError, match="not a plain linear layer"):
        attach(module, {"model.decoder.embed_tokens": 1}, 1.0)
    experts = tiny_models.module("mixtral")
    with pytest.raises(UserError, match="stacked"):
        attach(experts, dict.fromkeys(block_layers(experts), 1), 1.0)
    with pytest.raises(UserError, match="nothing to adapt"):
        block_layers(nn.Linear(2, 2))
