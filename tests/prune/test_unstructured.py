"""Magnitude, random, Wanda and SparseGPT on whole models."""

from __future__ import annotations

import json

import pytest
import tiny_models
import torch

from paredown.artifacts.model import Model
from paredown.core.context import Context, running
from paredown.core.errors import DataError, PareError
from paredown.engines import layers
from paredown.engines.blocks import find_blocks, linear_layers
from paredown.prune.magnitude import Magnitude, magnitude_mask
from paredown.prune.random import Random
from paredown.prune.sparsegpt import Sparsegpt
from paredown.prune.wanda import Wanda, wanda_mask

TEXTS = [f"def function_{n}(value):\n    return value * {n} + {n % 7}\n" for n in range(60)]
CALIBRATED = {"calibration_tokens": 1024, "length": 64}


def linear_weights(model: Model) -> dict[str, torch.Tensor]:
    module = model.load().base_model
    return {f"{name}.{short}": weight.detach() for name, block in find_blocks(module).items() for short, _, weight in linear_layers(block)}


def test_wandas_mask_is_the_definition_row_by_row():
    """Brute force: in each row the lowest |w| ||x||, equal scores by position."""
    generator = torch.Generator().manual_seed(0)
    weight, x = torch.randn(9, 30, generator=generator), torch.randn(200, 30, generator=generator) * torch.rand(30, generator=generator)
    norm = x.norm(dim=0)
    for sparsity in (0.0, 0.1, 0.5, 0.77):
        mask = wanda_mask(weight, norm, sparsity)
        for row in range(9):
            score = [abs(float(weight[row, j])) * float(norm[j]) for j in range(30)]
            assert set(mask[row].nonzero().flatten().tolist()) == set(
                sorted(range(30), key=lambda j: score[j])[: int(sparsity * 30 + 1e-9)]
            )


def test_magnitude_by_layer_and_by_row():
    weight = torch.tensor([[1.0, -2.0, 3.0, -4.0], [0.1, 0.2, 0.3, 0.4]])
    assert magnitude_mask(weight, 0.5).tolist() == [[False] * 4, [True] * 4]
    assert magnitude_mask(weight, 0.5, compare="row").tolist() == [[True, True, False, False]] * 2
    assert magnitude_mask(weight, 0.5, "2:4").tolist() == [[True, True, False, False]] * 2


@pytest.mark.parametrize("family", ["llama", "gpt2", "opt", "gpt_neox", "bert", "mixtral", "qwen2_moe"])
@pytest.mark.parametrize("kind", ["magnitude", "random", "wanda", "sparsegpt"])
def test_every_linear_layer_loses_its_share_and_nothing_else_changes(tmp_path, family, kind):
    model = tiny_models.model(tmp_path / "model", family)
    tokens = tiny_models.tokens(tmp_path / "tokens", TEXTS)
    pruned = {
        "magnitude": lambda: Magnitude(sparsity=0.6)(model),
        "random": lambda: Random(sparsity=0.6)(model),
        "wanda": lambda: Wanda(sparsity=0.6, **CALIBRATED)(model, tokens),
        "sparsegpt": lambda: Sparsegpt(sparsity=0.6, **CALIBRATED)(model, tokens),
    }[kind]()
    before, after = linear_weights(model), linear_weights(pruned)
    assert before.keys() == after.keys()
    for name, weight in after.items():
        share = float((weight == 0).float().mean())
        assert abs(share - 0.6) < 0.04, name  # by rows or blocks of columns the whole number below is taken
        if kind != "sparsegpt":
            assert torch.equal(weight[weight != 0], before[name][weight != 0])
    rest = {n: p for n, p in pruned.load().named_parameters() if "layers" not in n and "h." not in n and "layer." not in n}
    whole = dict(model.load().named_parameters())
    assert rest
    assert all(torch.equal(p, whole[n]) for n, p in rest.items())
    rows = json.loads((pruned.path / "pruning.json").read_text())
    assert {row["name"]: row["zeros"] for row in rows} == {name: int((w == 0).sum()) for name, w in after.items()}


@pytest.mark.parametrize("pattern", ["2:4", "4:8"])
@pytest.mark.parametrize("kind", [Magnitude, Random, Wanda, Sparsegpt])
def test_patterns_hold_everywhere(tmp_path, kind, pattern):
    model = tiny_models.model(tmp_path / "model", "llama")
    tokens = tiny_models.tokens(tmp_path / "tokens", TEXTS)
    calibrated = kind in (Wanda, Sparsegpt)
    pruned = kind(pattern=pattern, **(CALIBRATED if calibrated else {}))(model, *([tokens] if calibrated else []))
    taken, of = (int(n) for n in pattern.split(":"))
    for weight in linear_weights(pruned).values():
        assert ((weight == 0).view(weight.shape[0], -1, of).sum(-1) == taken).all()


def test_wandas_zeros_are_those_of_the_inputs_it_saw(tmp_path):
    """The first layer's inputs are known without any walk: the normed embeddings."""
    model = tiny_models.model(tmp_path / "model", "llama")
    tokens = tiny_models.tokens(tmp_path / "tokens", TEXTS)
    (tmp_path / "scratch").mkdir()
    with running(Context(folder=tmp_path / "out", scratch=tmp_path / "scratch")):
        ids = layers.calibration(tokens, model, 1024, 64)
        pruned = Wanda(sparsity=0.5, **CALIBRATED)(model, tokens)
    module = model.load().model
    with torch.no_grad():
        norm = module.layers[0].input_layernorm(module.embed_tokens(ids)).flatten(0, 1).norm(dim=0)
    for name in ("q_proj", "k_proj", "v_proj"):
        weight = getattr(module.layers[0].self_attn, name).weight
        kept = getattr(pruned.load().model.layers[0].self_attn, name).weight
        assert torch.equal(kept == 0, wanda_mask(weight, norm, 0.5))


def test_sparsegpt_keeps_outputs_better_than_wanda_and_that_better_than_magnitude(tmp_path):
    """On the layers' own error; inputs with very unequal features, for which the order is not in doubt."""
    model = tiny_models.model(tmp_path / "model", "llama")
    tokens = tiny_models.tokens(tmp_path / "tokens", TEXTS)
    ids = torch.from_numpy(tokens.ids[:512].astype("int64")).view(8, 64)
    whole = model.load()

    def error(pruned: Model) -> float:
        caught = {}
        handle = whole.model.layers[0].mlp.down_proj.register_forward_pre_hook(lambda _, args: caught.update(x=args[0]))
        with torch.no_grad():
            whole(input_ids=ids)
            handle.remove()
            x = caught["x"].flatten(0, 1)
            w, p = whole.model.layers[0].mlp.down_proj.weight, pruned.load().model.layers[0].mlp.down_proj.weight
            return float((x @ (w - p).T).square().sum())

    errors = [error(Magnitude(sparsity=0.5)(model)), error(Wanda(sparsity=0.5, **CALIBRATED)(model, tokens)), error(Sparsegpt(sparsity=0.5, **CALIBRATED)(model, tokens))]  # fmt: skip
    assert errors[2] < errors[1] < errors[0]


def test_random_depends_on_the_seed_only(tmp_path):
    model = tiny_models.model(tmp_path / "model", "llama")

    def pruned(seed: int, name: str) -> torch.Tensor:
        (tmp_path / name).mkdir()
        with running(Context(folder=tmp_path / name / "out", scratch=tmp_path / name, seed=seed)):
            return Random(sparsity=0.5)(model).load().model.layers[1].mlp.up_proj.weight

    assert torch.equal(pruned(1, "a"), pruned(1, "b"))
    assert not torch.equal(pruned(1, "c"), pruned(2, "d"))


def test_bad_input_is_a_clear_error(tmp_path):
    model = tiny_models.model(tmp_path / "model", "llama")
    with pytest.raises(DataError, match="nothing to calibrate on"):
        Wanda()(model, tiny_models.tokens(tmp_path / "empty", []))
    (model.path / "model.safetensors").rename(model.path / "pytorch_model.bin")
    with pytest.raises(PareError, match="pickle"):
        Magnitude()(Model(model.path))
