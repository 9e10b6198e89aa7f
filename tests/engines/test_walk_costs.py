"""What a walk costs: FLOPs as the counter counts them over the whole model, and blocks that are really let go."""

from __future__ import annotations

import gc
import weakref
from pathlib import Path

import pytest
import tiny_models
import torch

from paredown.core.context import Context, running
from paredown.engines import layers
from paredown.engines.flops import counter
from paredown.engines.memory import give_back
from paredown.engines.model_files import finite

IDS = torch.randint(0, tiny_models.VOCABULARY, (6, 24), generator=torch.Generator().manual_seed(2))


def walked(model, folder: Path, edit) -> Context:
    (folder / "scratch").mkdir(parents=True, exist_ok=True)
    step = Context(folder=folder / "out", scratch=folder / "scratch", name="test")
    with running(step):
        layers.walk(model, IDS, edit)
    return step


def nothing(layer, inputs):
    pass


@pytest.mark.parametrize("family", ["gpt2", "opt", "mixtral"])
def test_flops_are_those_of_the_whole_pass(tmp_path, family):
    """The first block of each shape is counted and stands for the others; beside blocks there are no large products here."""
    model = tiny_models.model(tmp_path / "model", family)
    module = model.load().base_model
    module.config._experts_implementation = "eager"
    with counter() as counting, torch.no_grad():
        module(input_ids=IDS, use_cache=False)
    cost = walked(model, tmp_path / "walk", nothing).cost
    assert cost.tokens == IDS.numel()
    # the rotary angles, made before the blocks, are the only products left out
    assert cost.flops == pytest.approx(counting.get_total_flops(), rel=1e-3)


def test_what_an_editor_multiplies_counts_in_every_block(tmp_path):
    model = tiny_models.model(tmp_path / "model", "llama")
    plain = walked(model, tmp_path / "plain", nothing).cost.flops
    square = torch.ones(10, 10)
    more = walked(model, tmp_path / "more", lambda layer, inputs: torch.mm(square, square)).cost.flops
    assert more - plain == 2 * 7 * 2 * 10**3  # two blocks of seven layers


def test_a_block_goes_without_the_garbage_collector(tmp_path):
    """Blocks and layers refer to each other; left to the collector, their weights would pile up."""
    model = tiny_models.model(tmp_path / "model", "llama")
    storages: list[tuple[str, weakref.ref]] = []
    alive: dict[str, set[str]] = {}

    def edit(layer, inputs):
        storages.append((layer.block.name, weakref.ref(layer.weight)))
        alive[layer.block.name] = {name for name, weight in storages if weight() is not None}

    gc.collect()
    gc.disable()
    try:
        walked(model, tmp_path / "walk", edit)
    finally:
        gc.enable()
    assert alive == {"layers.0": {"layers.0"}, "layers.1": {"layers.1"}}


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.float16, torch.bfloat16])
def test_finite_finds_every_kind_of_no_number(dtype):
    values = torch.full((3, 50), torch.finfo(dtype).max, dtype=dtype)  # their sum overflows, yet each is finite
    assert finite(values)
    assert finite(values[:0])
    for bad in (float("nan"), float("inf"), -float("inf")):
        for place in ((0, 0), (2, 49)):
            spoiled = values.clone()
            spoiled[place] = bad
            assert not finite(spoiled)


def test_finite_knows_one_byte_formats():
    values = torch.ones(20).to(torch.float8_e4m3fn)
    assert finite(values)
    values[3] = float("nan")
    assert not finite(values)


def test_giving_memory_back_keeps_tensors():
    kept = torch.arange(1_000_000)
    give_back()
    assert torch.equal(kept, torch.arange(1_000_000))
