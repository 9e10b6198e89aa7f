"""Fresh weights: the same shape and format, nothing inherited, the same draw only for the same seed, variant and model."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any

import pytest
import tiny_models
import torch
from safetensors.torch import load_file, save_file

from paredown.artifacts.examples import Examples
from paredown.artifacts.model import Model
from paredown.core.catalog import build
from paredown.core.context import Context, running
from paredown.core.errors import UserError
from paredown.engines.modules import initialized
from paredown.learn.initialize import Initialize
from paredown.learn.models.llama import Llama
from paredown.learn.models.mlp import Mlp
from paredown.learn.models.resnet import Resnet
from paredown.learn.train import Train
from paredown.prune.magnitude import Magnitude

FAMILIES = ["llama", "gpt2", "opt", "bert", "mixtral"]
State = dict[str, torch.Tensor]


def run(folder: Path, *given: Any, seed: int = 0, **knobs: Any) -> Model:
    (folder / "scratch").mkdir(parents=True)
    with running(Context(folder / "out", folder / "scratch", seed=seed)):
        return Initialize(**knobs)(*given)


def own(folder: Path) -> Model:
    module = initialized(Resnet(channels=1, classes=3, widths=(4, 6), blocks=(1, 1), inner=(3, 5)), None, 0)
    for value in [*module.parameters(), *module.buffers()]:
        torch.nn.init.constant_(value, 3)
    return Model.save(folder, module)


def made_of(folder: Path, family: str) -> Model:
    model = own(folder) if family == "resnet" else tiny_models.model(folder, family)
    model.seal({"key": "test"})
    return model


def state(model: Model) -> State:
    return model.load().state_dict()


def matrices(values: State) -> State:
    return {name: value for name, value in values.items() if value.dim() > 1}


@pytest.mark.parametrize("family", [*FAMILIES, "resnet"])
def test_shapes_stay_and_no_matrix_is_inherited(tmp_path, family):
    model = made_of(tmp_path / "model" / "m", family)
    before, after = state(model), state(run(tmp_path / "run", model))
    assert {name: value.shape for name, value in before.items()} == {name: value.shape for name, value in after.items()}
    assert matrices(after)
    assert not any(torch.equal(value, before[name]) for name, value in matrices(after).items())


def test_batch_norms_forget_what_they_gathered(tmp_path):
    after = state(run(tmp_path / "run", made_of(tmp_path / "m", "resnet")))
    assert after["norm.running_mean"].tolist() == [0] * 4
    assert after["norm.running_var"].tolist() == after["norm.weight"].tolist() == [1] * 4
    assert after["norm.num_batches_tracked"] == 0


@pytest.mark.parametrize("family", ["llama", "resnet", "architecture"])
def test_only_the_same_seed_and_variant_draw_the_same(tmp_path, family):
    given = Mlp() if family == "architecture" else made_of(tmp_path / "model" / "m", family)
    drawn = [
        matrices(state(run(tmp_path / str(n), given, seed=seed, variant=variant)))
        for n, (seed, variant) in enumerate([(0, 0), (0, 0), (1, 0), (0, 1), (1, 1), (0, 2)])
    ]
    assert all(torch.equal(value, drawn[1][name]) for name, value in drawn[0].items())
    for a, b in itertools.combinations(drawn[1:], 2):
        assert not any(torch.equal(value, b[name]) for name, value in a.items())


def test_another_model_of_the_same_shape_gives_another_draw(tmp_path):
    """So that a fresh start for a pruned model is not the start that the dense one had."""
    dense = made_of(tmp_path / "model" / "m", "llama")
    pruned = Magnitude(sparsity=0.5)(dense)
    pruned.seal({"key": "test"})
    a, b = (matrices(state(run(tmp_path / name, model))) for name, model in (("a", dense), ("b", pruned)))
    assert not any(torch.equal(value, b[name]) for name, value in a.items())


def test_an_architecture_starts_as_its_training_does(tmp_path):
    """A training without steps to speak of, at a learning rate of next to nothing."""
    import numpy as np
    import polars as pl

    rows = pl.DataFrame({"features": pl.Series(np.eye(4), dtype=pl.Array(pl.Float64, 4)), "label": [0, 1, 2, 0]})
    data, shape = Examples.write(tmp_path / "data", rows), Mlp(inputs=4, hidden=(5,), classes=3)
    train = Train(
        budget={"steps": 1}, learning_rate=1e-30, objective=build("learn.objectives.classification"),
        optimizer=build("learn.optimizers.sgd"), device="cpu", precision="fp32",
    )  # fmt: skip
    (tmp_path / "train" / "scratch").mkdir(parents=True)
    with running(Context(tmp_path / "train" / "out", tmp_path / "train" / "scratch", seed=3)):
        trained = state(train(shape, examples=data))
    fresh = state(run(tmp_path / "fresh", shape, seed=3))
    assert all(torch.equal(value, fresh[name]) for name, value in matrices(trained).items())


def test_weights_have_the_spread_that_the_architecture_gives_them(tmp_path):
    model = made_of(tmp_path / "model" / "m", "llama")  # its matrices have a spread of 0.3
    after = state(run(tmp_path / "run", model))
    weight = after["model.layers.0.mlp.down_proj.weight"]
    assert weight.std().item() == pytest.approx(0.02, rel=5 / weight.numel() ** 0.5)
    assert torch.equal(after["model.norm.weight"], torch.ones(32))


def test_tokenizer_number_format_and_generation_settings_are_handed_on(tmp_path):
    module = tiny_models.module("llama").bfloat16()
    module.generation_config.max_length = 17
    tiny_models.model(tmp_path / "model" / "m")
    model = Model.save(tmp_path / "half", module, Model(tmp_path / "model" / "m"))
    made = run(tmp_path / "run", model)
    assert made.load().dtype == torch.bfloat16
    assert json.loads((made.path / "generation_config.json").read_text())["max_length"] == 17
    assert (made.path / "tokenizer.json").read_bytes() == (model.path / "tokenizer.json").read_bytes()
    tokens = tiny_models.tokens(tmp_path / "tokens", ["abc", "de"])
    fresh = run(tmp_path / "fresh", Llama(hidden_size=16, layers=1, heads=2), tokens)
    assert fresh.tokenizer.decode(fresh.tokenizer("abc")["input_ids"]) == "abc"


def test_a_model_of_uneven_widths_starts_fresh_in_its_widths(tmp_path):
    after = run(tmp_path / "run", made_of(tmp_path / "m", "resnet")).load()
    assert [block.conv1.out_channels for block in after.blocks] == [3, 5]


def test_the_callers_random_numbers_are_left_alone(tmp_path):
    model = made_of(tmp_path / "model" / "m", "llama")
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    run(tmp_path / "run", model)
    assert torch.equal(torch.rand(3), expected)


def test_mistakes_are_named(tmp_path):
    with pytest.raises(UserError, match=r"learn\.models\.llama needs to know a vocabulary"):
        run(tmp_path / "a", Llama())
    model = own(tmp_path / "model")
    weights = load_file(model.path / "model.safetensors")
    weights["blocks.1.conv1.weight"] = torch.zeros(7, 4, 3, 3)
    save_file(weights, model.path / "model.safetensors")
    with pytest.raises(UserError, match=r"blocks\.1\.conv1\.weight has the shape \(7, 4, 3, 3\), but config\.json asks for \(5, 4, 3, 3\)"):
        run(tmp_path / "b", model)
