"""The OPT shape: counted before it is built, and passed so that no packed window sees another."""

from __future__ import annotations

import pytest
import torch

from paredown.core.catalog import build
from paredown.engines.packing import way_of
from paredown.learn.models.opt import Opt


@pytest.mark.parametrize("knobs", [{}, {"tie_embeddings": False, "max_length": 64}, {"intermediate_size": 40, "layers": 1}])
def test_parameters_are_counted_without_building(knobs):
    shape = Opt(**{"hidden_size": 32, "layers": 3, "heads": 4, **knobs})
    assert sum(p.numel() for p in shape.build(300, 0).parameters()) == shape.parameters(300)


def test_every_embedding_trains_and_windows_do_not_see_each_other():
    torch.manual_seed(0)
    module = Opt(hidden_size=32, layers=2, heads=4, max_length=64).build(50, 0)
    ids = torch.arange(50).view(1, 50)
    module(input_ids=ids, labels=ids).loss.backward()
    assert bool((module.get_input_embeddings().weight.grad.abs().sum(dim=1) > 0).all())
    assert way_of(module) in ("mask", "unpacked"), "positions that restart are ignored by it"


def test_heads_must_divide_the_width():
    with pytest.raises(ValueError, match="must divide hidden_size"):
        build({"use": "learn.models.opt", "hidden_size": 30, "heads": 4})
