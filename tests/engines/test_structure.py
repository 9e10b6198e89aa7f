"""Which tensors belong to a unit: against gradients through the real network, family by family; and what is refused."""

from __future__ import annotations

import sys
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import tiny_models
import torch
import transformers
from torch import Tensor

from paredown.artifacts.model import Model
from paredown.core.errors import MissingExtra, UserError
from paredown.engines import dependencies, feed_forward, structure, units
from paredown.engines.blocks import find_blocks
from paredown.engines.units import Group, Part, Units
from paredown.learn.models.mlp import Mlp
from paredown.learn.models.resnet import Resnet

SIZES: dict[str, Any] = {
    "hidden_size": 32, "intermediate_size": 24, "num_attention_heads": 8, "num_key_value_heads": 4, "num_hidden_layers": 2, "max_position_embeddings": 64,
    "head_dim": 6,
}  # fmt: skip
MORE = {"gemma2": "Gemma2Config", "phi3": "Phi3Config", "glm4": "Glm4Config", "cohere2": "Cohere2Config", "olmo2": "Olmo2Config"}
GROUPED = ["llama", "qwen2", "qwen3", "mistral", "mixtral", "gemma2", "phi3", "glm4", "cohere2"]


def made(folder: Path, family: str) -> Model:
    """A tiny model; those of MORE have heads whose width is not hidden_size / heads, and four heads of keys."""
    if family in MORE:
        tiny_models.SHAPES.setdefault(family, lambda **k: getattr(transformers, MORE[family])(**SIZES, **k))
    try:
        return tiny_models.model(folder / "model", family)
    finally:
        if family in MORE:
            del tiny_models.SHAPES[family]


def moved(module: Any, into: str, watched: list[str], columns: list[int]) -> dict[str, list[int]]:
    """By a backward pass: the outputs of each watched layer that change these inputs of the layer `into`."""
    outputs: dict[str, Tensor] = {}
    inputs: list[Tensor] = []
    hooks = [
        module.get_submodule(name).register_forward_hook(lambda _m, _i, out, name=name: outputs.__setitem__(name, out)) for name in watched
    ]
    hooks.append(module.get_submodule(into).register_forward_pre_hook(lambda _m, args: inputs.append(args[0])))
    module(input_ids=torch.arange(1, 9)[None], use_cache=False)
    for hook in hooks:
        hook.remove()
    found = (inputs[0][..., columns] ** 2).sum()
    gradients = torch.autograd.grad(found, [outputs[name] for name in watched], allow_unused=True)
    return {
        name: [] if g is None else (g.abs().flatten(0, -2).sum(0) > 0).nonzero().flatten().tolist()
        for name, g in zip(watched, gradients, strict=True)
    }


@pytest.mark.parametrize("family", GROUPED)
def test_what_belongs_to_a_head_is_what_moves_it(tmp_path, family):
    model = made(tmp_path, family)
    module = model.load()
    whole, single = structure.heads(model, whole=True), structure.heads(model, whole=False)
    keys, queries = module.config.num_key_value_heads, module.config.num_attention_heads
    assert (whole.groups[0].units, single.groups[0].units, single.sets) == (keys, queries, keys)
    base = module.base_model
    for group, alone in zip(whole.groups, single.groups, strict=True):
        layers = [f"{group.block}.{part.layer}" for part in group.makes]
        into = f"{group.block}.{group.uses[0].layer}"
        for head in range(keys):
            columns = group.uses[0].indices[head].tolist()
            found = moved(base, into, layers, columns)
            assert found == {name: part.indices[head].tolist() for name, part in zip(layers, group.makes, strict=True)}
        for query in range(queries):
            columns = alone.uses[0].indices[query].tolist()
            assert set(columns) < set(group.uses[0].indices[query * keys // queries].tolist())
            for part in alone.makes:
                mine = moved(base, into, [f"{group.block}.{part.layer}"], columns)[f"{group.block}.{part.layer}"]
                others = [c for c in range(alone.uses[0].indices.numel()) if c not in columns]
                theirs = moved(base, into, [f"{group.block}.{part.layer}"], others)[f"{group.block}.{part.layer}"]
                assert part.indices[query].tolist() == sorted(set(mine) - set(theirs))


@pytest.mark.parametrize("family", ["llama", "qwen3", "gpt2", "gpt_neox", "opt", "bert", "gemma2", "phi3", "glm4"])
def test_what_belongs_to_a_channel_is_what_moves_it(tmp_path, family):
    """Phi3 and GLM-4 make two products of a channel with one matrix."""
    model = made(tmp_path, family)
    found = structure.channels(model)
    base = model.load().base_model
    group = found.groups[-1]
    layers = list(dict.fromkeys(f"{group.block}.{part.layer}" for part in group.makes))
    if family == "opt":  # a channel that its ReLU holds at zero is moved by nothing
        base.get_submodule(layers[0]).bias.data.fill_(100)
    for channel in range(0, group.units, 5):
        seen = moved(base, f"{group.block}.{group.uses[0].layer}", layers, [channel])
        for name in layers:
            rows = [int(part.indices[channel]) for part in group.makes if f"{group.block}.{part.layer}" == name]
            assert seen[name] == sorted(rows)


def test_graph_and_order_of_use_agree(tmp_path):
    """For plain feed-forward networks the graph finds what the order in which layers are used does."""
    for family in ("llama", "opt", "bert"):
        model = made(tmp_path / family, family)
        plain = feed_forward.find(model)
        graph = dependencies.of_block(units.hollow(model), plain.blocks[0], plain.down)
        members = graph.group(plain.down, "uses", list(range(plain.channels[0])))
        assert {m.name for m in members if m.role == "makes"} == set(plain.up)
        assert all(m.indices == m.roots == list(range(plain.channels[0])) for m in members)


def test_filters_are_those_that_only_the_next_layer_reads(tmp_path):
    model = tiny_models.network(tmp_path / "network", Resnet(channels=1, widths=(4, 4, 10), blocks=(2, 1, 2), inner=(4, 6, 8, 4, 12)))
    found = structure.filters(model)
    assert [(g.makes[0].layer, g.between[0].layer, g.uses[0].layer) for g in found.groups] == [
        (f"blocks.{n}.conv1", f"blocks.{n}.norm1", f"blocks.{n}.conv2") for n in range(5)
    ]
    assert [group.units for group in found.groups] == [4, 6, 8, 4, 12]
    assert sorted(found.groups[0].between[0].dims) == ["bias", "running_mean", "running_var", "weight"]
    perceptron = structure.filters(tiny_models.network(tmp_path / "m", Mlp(inputs=12, hidden=(5, 9), classes=3)))
    assert [(g.makes[0].layer, g.uses[0].layer, g.units) for g in perceptron.groups] == [
        ("blocks.0.linear", "blocks.1.linear", 5), ("blocks.1.linear", "head", 9),
    ]  # fmt: skip


@pytest.mark.parametrize("architecture", [Resnet(widths=(4, 8), blocks=(1, 2)), Resnet(widths=(4,), blocks=(2,), inner=(4, 4)), Mlp(inputs=6, hidden=(5, 9), classes=3)], ids=["resnet", "inner", "mlp"])  # fmt: skip
def test_the_knobs_follow_the_filters(tmp_path, architecture):
    """What is left is what a new network of the changed knobs is made of."""
    model = tiny_models.network(tmp_path / "network", architecture)
    found = structure.filters(model)
    kept = [max(1, group.units - 2 - number) for number, group in enumerate(found.groups)]
    found.check(kept)
    knob = "hidden" if isinstance(architecture, Mlp) else "inner"
    entries = found.entries(kept)
    assert entries == {"paredown": {**architecture.spec(), knob: kept}}
    again = type(architecture)(**{k: v for k, v in entries["paredown"].items() if k != "use"}).build(0, 0)
    assert units.sizes(again) == units.left(found.shapes, found.groups, kept)
    assert found.entries([group.units for group in found.groups]) == {}


def test_nothing_is_taken_where_only_the_output_is_left(tmp_path):
    with pytest.raises(UserError, match="no filters that only the next layer reads"):
        structure.filters(tiny_models.network(tmp_path / "network", Mlp(inputs=6, hidden=(), classes=3)))


def test_cuts_by_hand():
    """Two units of width 2 in a matrix of 4 outputs; the second reads across, and a tensor is cut in both dimensions."""
    first = Part("a", {"weight": 0, "bias": 0}, torch.tensor([[0, 2], [1, 3]]))
    groups = (Group("", (first,), (Part("b", {"weight": 1}, torch.tensor([[0], [1]])),)), Group("", (Part("b", {"weight": 0}, torch.arange(3)[:, None]),), (Part("c", {"weight": 1}, torch.arange(3)[:, None]),)))  # fmt: skip
    shapes = {"a.weight": (4, 7), "a.bias": (4,), "b.weight": (3, 2), "c.weight": (1, 3), "d": (5,)}
    found = units.cuts(shapes, groups, [torch.tensor([1]), torch.tensor([0, 2])])
    assert {name: [(c.dim, c.kept.tolist()) for c in several] for name, several in found.items()} == {
        "a.weight": [(0, [1, 3])], "a.bias": [(0, [1, 3])], "b.weight": [(1, [1]), (0, [0, 2])], "c.weight": [(1, [0, 2])],
    }  # fmt: skip
    assert units.left(shapes, groups, [1, 2]) == {"a.weight": (2, 7), "a.bias": (2,), "b.weight": (2, 1), "c.weight": (1, 2), "d": (5,)}
    assert units.cuts(shapes, groups, [torch.arange(2), torch.arange(3)]) == {}


def heads_of_eight(folder: Path, family: str, **more: Any) -> Units:
    shape = {k: v for k, v in (SIZES | {"num_key_value_heads": 8, "head_dim": 4} | more).items() if v is not None}
    old = tiny_models.SHAPES[family]
    kind = type(old(vocab_size=9))
    try:
        tiny_models.SHAPES[family] = lambda **k: kind(**shape, **k)
        return structure.heads(tiny_models.model(folder / family, family), whole=True)
    finally:
        tiny_models.SHAPES[family] = old


def test_llama_takes_numbers_of_heads_that_divide_its_hidden_size(tmp_path):
    found = heads_of_eight(tmp_path, "llama")
    for heads in range(1, 9):
        if 32 % heads == 0:
            found.check([heads, heads])
            continue
        below, above = next(b for b in pairwise((1, 2, 4, 8)) if b[0] < heads < b[1])
        with pytest.raises(UserError) as caught:
            found.check([heads, heads])
        assert "is not a multiple of the number of attention heads" in str(caught.value)
        assert caught.value.todo == f"set heads: {1 - below / 8:g} ({below} heads stay) or {1 - above / 8:g} ({above} heads stay)"


def test_qwen_takes_every_number(tmp_path):
    found = heads_of_eight(tmp_path, "qwen2")
    for heads in range(1, 9):
        found.check([heads, heads])
        assert found.entries([heads]) == {"num_attention_heads": heads, "num_key_value_heads": heads, "head_dim": 4}


@pytest.mark.parametrize("family", ["gpt2", "bert", "gpt_neox", "opt"])
def test_a_class_without_a_width_of_heads_is_refused(tmp_path, family):
    with pytest.raises(UserError, match="the stock class cannot hold fewer heads of the same width"):
        structure.heads(made(tmp_path, family), whole=True)


def test_heads_that_are_normalized_together_are_refused(tmp_path):
    """OLMo-2 takes the mean square over the queries of all heads: the others would change."""
    with pytest.raises(UserError, match=r"handles several heads together in self_attn\..*norm"):
        structure.heads(made(tmp_path, "olmo2"), whole=True)


def test_indices_that_do_not_cover_a_layer_are_not_believed(tmp_path):
    """The library's indices for a matrix that holds query, key and value of each head in turn lie outside of it."""
    model = made(tmp_path, "gpt_neox")
    module = units.hollow(model)
    width = module.config.hidden_size // module.config.num_attention_heads
    queries = [range(n * width, (n + 1) * width) for n in range(module.config.num_attention_heads)]
    with pytest.raises(UserError, match="belongs to a head of GPTNeoXForCausalLM cannot be told"):
        structure._queries(model, module, next(iter(find_blocks(module))), "attention.dense", queries, 1, True)


def test_without_the_library_only_what_needs_it_fails(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch_pruning", None)
    model = made(tmp_path, "llama")
    assert structure.channels(model).groups[0].units == 48
    for call in (
        lambda: structure.heads(model, whole=True),
        lambda: structure.filters(tiny_models.network(tmp_path / "network", Resnet())),
    ):
        with pytest.raises(MissingExtra, match="torch_pruning") as caught:
            call()
        assert caught.value.todo == 'pip install "paredown[prune]"'


def test_a_class_that_makes_other_shapes_is_refused_before_anything_is_read(tmp_path):
    model = made(tmp_path, "llama")
    found = structure.channels(model)
    odd = Units(model, "channels", found.groups, found.shapes, lambda kept: {"intermediate_size": kept[0] + 1})
    with pytest.raises(UserError, match=r"LlamaForCausalLM has no place for what is left: of layers\.0\.mlp\.down_proj\.weight"):
        odd.check([20, 20])
