"""The walk against the whole model in memory: same inputs, same weights, whatever the family."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import tiny_models
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from paredown.artifacts.model import Model
from paredown.core.context import Context, running
from paredown.core.errors import DataError, UserError
from paredown.engines import layers
from paredown.engines.blocks import find_blocks
from paredown.engines.model_files import Files, layout

FAMILIES = ["llama", "mistral", "qwen2", "qwen3", "gpt2", "gpt_neox", "opt", "bert", "mixtral", "qwen2_moe"]
EXPERTS = {"mixtral": (["experts.gate_up_proj", "experts.down_proj"], 4), "qwen2_moe": (["experts.gate_up_proj", "experts.down_proj"], 4)}
IDS = torch.randint(0, tiny_models.VOCABULARY, (6, 24), generator=torch.Generator().manual_seed(2))


def step(folder: Path) -> Context:
    (folder / "scratch").mkdir(parents=True, exist_ok=True)
    return Context(folder=folder / "out", scratch=folder / "scratch", name="test")


def walk(model: Model, folder: Path, edit, ids=IDS) -> Model:
    with running(step(folder)):
        return layers.store(model, layers.walk(model, ids, edit))


def nothing(layer, inputs):
    pass


@pytest.mark.parametrize("family", FAMILIES)
def test_a_walk_that_edits_nothing_changes_no_tensor(tmp_path, family):
    model = tiny_models.model(tmp_path / "model", family)
    copy = walk(model, tmp_path / "walk", nothing)
    before, after = load_file(model.path / "model.safetensors"), load_file(copy.path / "model.safetensors")
    assert before.keys() == after.keys()
    assert all(torch.equal(before[key], after[key]) for key in before)
    loaded = copy.load()
    assert torch.equal(loaded(input_ids=IDS).logits, model.load()(input_ids=IDS).logits)


@pytest.mark.parametrize("family", FAMILIES)
def test_inputs_are_those_of_the_model_in_memory(tmp_path, family):
    """Norms and Gram matrices against hooks on the loaded model; every linear layer of every block is seen once."""
    model = tiny_models.model(tmp_path / "model", family)
    seen = {}

    def edit(layer, inputs):
        assert str(layer) not in seen
        seen[str(layer)] = (inputs.tokens, inputs.norms.clone(), inputs.gram.clone())

    walk(model, tmp_path / "walk", edit)
    whole, expected = model.load().base_model, {}
    blocks = find_blocks(whole)
    assert len(blocks) == 2
    for name, block in blocks.items():
        for short, child in block.named_modules():
            if type(child).__name__ in ("Linear", "Conv1D") and not short.endswith(("shared_expert_gate",)):
                child.register_forward_pre_hook(lambda _, args, key=f"{name}.{short}": expected.update({key: args[0].flatten(0, -2)}))
    with torch.no_grad():
        whole(input_ids=IDS)
    for key, x in expected.items():
        tokens, norms, gram = seen.pop(key)
        assert tokens == len(x) == IDS.numel()
        assert torch.allclose(norms, x.norm(dim=0), rtol=1e-4, atol=1e-4)
        assert torch.allclose(gram, x.T @ x, rtol=1e-3, atol=1e-3)
    parameters, experts = EXPERTS.get(family, ([], 0))
    left = {f"{block}.mlp.{parameter}[{e}]" for block in blocks for parameter in parameters for e in range(experts)}
    assert set(seen) == left
    for parameter in parameters[:1]:  # each token goes to two experts
        for block in blocks:
            assert sum(seen[f"{block}.mlp.{parameter}[{e}]"][0] for e in range(experts)) == 2 * IDS.numel()


def test_experts_get_exactly_their_own_tokens(tmp_path):
    model = tiny_models.model(tmp_path / "model", "mixtral")
    seen = {}
    walk(model, tmp_path / "walk", lambda layer, inputs: seen.update({str(layer): inputs.x.clone()}))
    whole, caught = model.load().base_model, {}
    whole.layers[0].mlp.experts.register_forward_pre_hook(lambda _, args: caught.update(x=args[0], top=args[1]))
    with torch.no_grad():
        whole(input_ids=IDS)
    for expert in range(4):
        tokens = (caught["top"] == expert).any(dim=-1)
        got = seen[f"layers.0.mlp.experts.gate_up_proj[{expert}]"]
        assert torch.allclose(got.sort(dim=0).values, caught["x"].reshape(-1, 32)[tokens].sort(dim=0).values, atol=1e-5)


@pytest.mark.parametrize("family", ["llama", "gpt2", "mixtral"])
def test_later_layers_see_what_earlier_ones_became(tmp_path, family):
    """After a walk that changes weights, the inputs seen are those of the written model."""
    model = tiny_models.model(tmp_path / "model", family)
    first, second = {}, {}

    def halve(layer, inputs):
        first[str(layer)] = inputs.norms.clone()
        layer.weight[:, ::2] = 0

    walked = walk(model, tmp_path / "walk", halve)
    walk(walked, tmp_path / "again", lambda layer, inputs: second.update({str(layer): inputs.norms.clone()}))
    assert first.keys() == second.keys()
    for name, norms in first.items():
        assert torch.allclose(norms, second[name], rtol=1e-4, atol=1e-4), name


def test_one_gram_matrix_for_layers_that_read_the_same(tmp_path):
    model = tiny_models.model(tmp_path / "model", "llama")
    groups: dict[int, list[str]] = {}
    keep = []

    def edit(layer, inputs):
        keep.append(inputs)
        groups.setdefault(id(inputs), []).append(layer.name.rpartition(".")[2])

    walk(model, tmp_path / "walk", edit)
    assert list(groups.values()) == [["q_proj", "k_proj", "v_proj"], ["o_proj"], ["gate_proj", "up_proj"], ["down_proj"]] * 2


def test_memory_does_not_hold_the_blocks(tmp_path):
    """While a block is worked on, no other block has weights."""
    model = tiny_models.model(tmp_path / "model", "llama")
    with running(step(tmp_path / "walk")), Files(model) as files:
        real = []

        def edit(layer, inputs):
            names = {name for name, block in walker.blocks.items() if any(p.device.type != "meta" for p in block.parameters())}
            outside = [n for n, p in walker.module.named_parameters() if p.device.type != "meta" and not n.startswith(tuple(walker.blocks))]
            real.append((layer.block.name, names, outside))

        folder = tmp_path / "blocks"
        folder.mkdir()
        walker = layers.Walker(model, files, edit, folder)
        walker.forward(IDS)
    assert len(real) == 14
    assert all(names == {block} and not outside for block, names, outside in real)


@pytest.mark.parametrize("at", [1, 5, 9])
def test_a_killed_walk_goes_on_and_ends_the_same(tmp_path, at):
    """The editor dies at some layer; the second try starts behind the last whole block."""
    model = tiny_models.model(tmp_path / "model", "llama")
    edited: list[str] = []

    def edit(layer, inputs):
        if len(edited) == at:
            raise KeyboardInterrupt
        edited.append(str(layer))
        layer.weight[layer.weight.abs() * inputs.norms < 1] = 0

    with pytest.raises(KeyboardInterrupt):
        walk(model, tmp_path / "walk", edit)
    assert len(list((tmp_path / "walk" / "scratch" / "blocks").glob("*.json"))) == at // 7
    before, at = list(edited), -1
    resumed = walk(model, tmp_path / "walk", edit)
    assert len(edited) - len(before) == 14 - 7 * (len(before) // 7)
    whole = walk(model, tmp_path / "whole", edit)
    assert {p.name: p.read_bytes() for p in resumed.path.iterdir()} == {p.name: p.read_bytes() for p in whole.path.iterdir()}


def test_shards_and_formats_stay(tmp_path):
    """Several files with an index, half precision: names, formats and untouched bytes are kept."""
    model = tiny_models.model(tmp_path / "one", "llama")
    module = model.load(torch.bfloat16)
    module.save_pretrained(tmp_path / "model", max_shard_size="40KB")
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (tmp_path / "model" / name).write_bytes((model.path / name).read_bytes())
    sharded = Model(tmp_path / "model")
    files = sorted(p.name for p in sharded.path.glob("*.safetensors"))
    assert len(files) > 1
    seen = []

    def edit(layer, inputs):
        seen.append(layer.weight.dtype)
        layer.weight[:, 0] = 1 / 3

    written = walk(sharded, tmp_path / "walk", edit)
    assert set(seen) == {torch.float32}
    assert sorted(p.name for p in written.path.glob("*.safetensors")) == files
    assert json.loads((written.path / "model.safetensors.index.json").read_text()) == json.loads(
        (sharded.path / "model.safetensors.index.json").read_text()
    )
    loaded = written.load()
    assert loaded.dtype == torch.bfloat16
    assert torch.equal(loaded.model.layers[1].mlp.down_proj.weight[:, 0], torch.full((32,), 1 / 3, dtype=torch.bfloat16))
    assert torch.equal(loaded.model.embed_tokens.weight, module.model.embed_tokens.weight)
    for file in files:
        with safe_open(written.path / file, framework="pt") as opened:
            assert opened.metadata() == {"format": "pt"}


@pytest.mark.parametrize("family", ["mixtral", "qwen2_moe", "opt", "bert"])
def test_the_layout_makes_the_parameters_that_transformers_loads(tmp_path, family):
    from paredown.engines.model_files import read

    model = tiny_models.model(tmp_path / "model", family)
    whole = model.load().base_model.state_dict()
    with Files(model) as files:
        skeleton = layers.skeleton(model).base_model
        pieces = layout(skeleton, files)
        assert pieces.keys() == whole.keys()
        for name, like in skeleton.state_dict().items():
            assert torch.equal(read(files.tensor, pieces[name], like, torch.float32, torch.device("cpu")), whole[name]), name


def test_weights_that_are_no_numbers_are_named(tmp_path):
    model = tiny_models.model(tmp_path / "model", "llama")
    tensors = load_file(model.path / "model.safetensors")
    tensors["model.layers.1.mlp.up_proj.weight"][3, 4] = float("nan")
    save_file(tensors, model.path / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(DataError, match=r"model\.layers\.1\.mlp\.up_proj\.weight holds 1 weights that are NaN"):
        walk(model, tmp_path / "walk", nothing)


def test_a_configuration_of_another_model_is_a_clear_error(tmp_path):
    model = tiny_models.model(tmp_path / "model", "llama")
    config = json.loads((model.path / "config.json").read_text())
    (model.path / "config.json").write_text(json.dumps({**config, "intermediate_size": 40}))
    with pytest.raises(UserError, match=r"config\.json asks for"):
        walk(Model(model.path), tmp_path / "walk", nothing)
    (model.path / "config.json").write_text(json.dumps({**config, "num_hidden_layers": 3}))
    with pytest.raises(UserError, match=r"no file holds layers\.2"):
        walk(Model(model.path), tmp_path / "again", nothing)
    (model.path / "config.json").write_text(json.dumps({**config, "architectures": ["NoSuchModel"]}))
    with pytest.raises(UserError, match="no architecture 'NoSuchModel'"):
        walk(Model(model.path), tmp_path / "third", nothing)


def test_calibration_windows(tmp_path):
    model = tiny_models.model(tmp_path / "model", "llama")
    tokens = tiny_models.tokens(tmp_path / "tokens", [f"some words to read, number {n}" for n in range(40)])
    stream = torch.from_numpy(tokens.ids[:].astype("int64"))
    with running(step(tmp_path / "a")):
        ids = layers.calibration(tokens, model, 320, 32)
        assert ids.shape == (10, 32)
        windows = stream.unfold(0, 32, 1)
        assert all((windows == row).all(dim=1).any() for row in ids)
    with running(step(tmp_path / "b")):
        assert torch.equal(layers.calibration(tokens, model, 320, 32), ids)
        assert layers.calibration(tokens, model, 10**9, 0).shape == (len(stream) // 64, 64)
        assert layers.calibration(tokens, model, 8, 0).shape == (1, 8)
        with pytest.raises(UserError, match="context is 64"):
            layers.calibration(tokens, model, 320, 65)
        with pytest.raises(DataError, match="nothing to calibrate on"):
            layers.calibration(tiny_models.tokens(tmp_path / "none", []), model, 320, 32)
