"""LoRA with ranks by importance: as many weights as one rank everywhere, more of them where CFSP kept more."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import tiny_models
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from paredown.artifacts.model import Model
from paredown.artifacts.tokens import Tokens
from paredown.core.context import Context, running
from paredown.core.errors import DataError, UserError
from paredown.engines import removal
from paredown.learn.train import Train
from paredown.prune.cfsp import Cfsp
from paredown.prune.layers import Layers
from paredown.tune.ig_lora import IgLora, block_ranks
from paredown.tune.perp import Perp

TEXTS = [f"def function_{n}(value):\n    return value * {n} + {n % 7}\n" for n in range(60)]
SMALL: dict[str, Any] = {"length": 32, "batch_size": 4, "learning_rate": 1e-2, "device": "cpu", "precision": "fp32", "evaluate_every": 0}


def test_ranks_by_hand():
    assert block_ranks([0.5, 0.5, 0.5], [10, 10, 10], 8) == [8, 8, 8]
    assert block_ranks([0.75, 0.5, 0.25], [10, 10, 10], 8) == [12, 8, 4]
    assert block_ranks([0.9, 0.1], [10, 10], 4) == [7, 1], "7.2 and 0.8"
    assert block_ranks([0.99, 0.001], [10, 10], 4) == [7, 1], "one at least"
    assert block_ranks([0.5, 0.5], [30, 10], 5) == [5, 5], "equal shares are equal ranks, whatever the sizes"


@settings(deadline=None, max_examples=200)
@given(st.lists(st.tuples(st.floats(0.2, 1), st.integers(50, 100)), min_size=1, max_size=12), st.integers(4, 64))
def test_as_many_weights_as_one_rank_everywhere(blocks, rank):
    shares, sizes = [share for share, _ in blocks], [size for _, size in blocks]
    found = block_ranks(shares, sizes, rank)
    assert abs(sum(count * size for count, size in zip(found, sizes, strict=True)) - rank * sum(sizes)) <= max(sizes)
    order = sorted(range(len(shares)), key=lambda n: shares[n])
    assert all(found[a] <= found[b] + 1 for a, b in pairwise(order))


def cut(folder: Path) -> tuple[Model, Tokens]:
    source = tiny_models.tokens(folder / "tokens", TEXTS)
    with running(Context(folder / "pruned", folder / "pruning", 0, "pruned")):
        pruner = Cfsp(sparsity=0.4, steepness=10, calibration_tokens=1024, length=64)
        return pruner(tiny_models.model(folder / "base" / "model", "llama"), source), source


def tune(folder: Path, model: Model, source: Tokens, hook: Any, steps: int = 6) -> tuple[Model, Context]:
    step = Context(folder / "out", folder / "scratch", seed=0, name="tuned")
    with running(step):
        return Train(budget={"steps": steps}, hooks=[hook], **SMALL)(model, source), step


def test_only_the_adapted_weights_move_and_the_adapters_open_in_peft(tmp_path):
    import peft

    model, source = cut(tmp_path)
    tuned, step = tune(tmp_path / "ig", model, source, IgLora(pruned=model, rank=4))
    ranks, shares = step.facts["trained"]["ranks"], removal.shares(model)
    assert (ranks[0] > ranks[1]) == (shares[0] > shares[1])
    assert ranks[0] != ranks[1]
    before, after = model.load(), tuned.load()
    moved = {
        name for (name, old), (_, new) in zip(before.named_parameters(), after.named_parameters(), strict=True) if not torch.equal(old, new)
    }
    assert moved == {name for name, _ in before.named_parameters() if name.endswith("_proj.weight")}
    for name in moved:
        change = after.get_parameter(name).detach() - before.get_parameter(name).detach()
        assert int(torch.linalg.matrix_rank(change, rtol=1e-4)) <= ranks[int(name.split(".")[2])]
    said = json.loads((tuned.path / "adapters" / "adapter_config.json").read_text())
    assert {said["r"], *said["rank_pattern"].values()} == set(ranks)
    ids = torch.arange(1, 20)[None]
    opened: Any = peft.PeftModel.from_pretrained(before, str(tuned.path / "adapters"))
    with torch.no_grad():
        assert torch.allclose(opened(input_ids=ids).logits, after(input_ids=ids).logits, atol=1e-3)


def test_the_control_has_as_many_weights(tmp_path):
    model, source = cut(tmp_path)
    _, ours = tune(tmp_path / "ig", model, source, IgLora(pruned=model, rank=4), steps=1)
    control = Perp(variant="lora", rank=4, alpha=16.0, biases=False, norms=False)
    _, theirs = tune(tmp_path / "uniform", model, source, control, steps=1)
    assert ours.facts["trained"]["adapters"] == pytest.approx(theirs.facts["trained"]["adapters"], rel=0.15), "whole ranks of two blocks"


def test_what_is_no_pruned_model_is_refused(tmp_path):
    model, source = cut(tmp_path)
    dense = tiny_models.model(tmp_path / "dense" / "model", "llama")
    with pytest.raises(DataError, match="what each block is worth"):
        tune(tmp_path / "a", model, source, IgLora(pruned=dense))
    with running(Context(tmp_path / "shallow", tmp_path / "cutting", 0, "shallow")):
        shallow = Layers(sparsity=0.5, score="last")(model)
    with pytest.raises(DataError, match="tells of 2 blocks, but the model has 1"):
        tune(tmp_path / "b", shallow, source, IgLora(pruned=model))
    with pytest.raises(UserError, match="no linear layer nothing"):
        tune(tmp_path / "c", model, source, IgLora(pruned=model, layers=("nothing",)))
