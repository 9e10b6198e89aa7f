"""The transformer for tables: what its formulas say, and what must not matter (columns' order, padding, other tables in the batch)."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import tiny_tables
import torch
from torch import nn
from torch.nn import functional

from paredown.artifacts.examples import Examples
from paredown.artifacts.model import Model
from paredown.artifacts.tables import Column, Table, cells_of, tables_of, write_table
from paredown.engines.batches import on_device
from paredown.engines.modules import initialized
from paredown.engines.table_networks import GatedBlock, ScoreHead, TableTransformer
from paredown.engines.table_rows import READS, TableRows, together
from paredown.learn.models.transtab import Transtab


def scores(module: Any, bag: dict[str, Any]) -> torch.Tensor:
    with torch.no_grad():
        found: torch.Tensor = module(**{name: value for name, value in on_device(bag, torch.device("cpu")).items() if name in READS})
    return found


def rows_of(examples: Examples) -> TableRows:
    return TableRows(examples)


@pytest.mark.parametrize("bind", ["bag", "cell"])
def test_the_order_of_columns_does_not_matter(bind: Any, tmp_path: Path) -> None:
    [data] = tiny_tables.worded(tmp_path, tiny_tables.mixed(tmp_path / "table"))
    module = tiny_tables.network(data, bind=bind)
    source = rows_of(data)
    chosen = np.arange(source.rows)
    expected = scores(module, source.bags(chosen))
    for order in ([4, 3, 2, 1, 0], [2, 0, 4, 1, 3], [1, 4, 0, 3, 2]):
        torch.testing.assert_close(scores(module, source.bags(chosen, lambda _, order=order: order)), expected, atol=1e-5, rtol=0)  # type: ignore[misc]
    assert expected.std() > 0.05, "the rows differ"


def test_the_order_of_words_within_a_row_does_not_matter(tmp_path: Path) -> None:
    [data] = tiny_tables.worded(tmp_path, tiny_tables.mixed(tmp_path / "table"))
    module, bag = tiny_tables.network(data, bind="cell"), rows_of(data).bags(np.arange(12))
    turned = {**bag, "ids": bag["ids"][:, ::-1].copy(), "cells": bag["cells"][:, ::-1].copy()}
    torch.testing.assert_close(scores(module, turned), scores(module, bag), atol=1e-5, rtol=0)


def test_a_row_has_the_same_scores_alone_and_padded_by_longer_rows(tmp_path: Path) -> None:
    [data] = tiny_tables.worded(tmp_path, tiny_tables.mixed(tmp_path / "table"))
    module, source = tiny_tables.network(data), rows_of(data)
    all_rows = scores(module, source.bags(np.arange(12)))
    for row in range(12):
        torch.testing.assert_close(scores(module, source.bags(np.array([row])))[0], all_rows[row], atol=1e-5, rtol=0)


def test_rows_of_other_tables_in_the_batch_do_not_matter(tmp_path: Path) -> None:
    first, second = tiny_tables.worded(
        tmp_path, tiny_tables.mixed(tmp_path / "a"), tiny_tables.numbers(tmp_path / "b", tuple(f"word {n} of five" for n in "abcde"))
    )
    both = rows_of(tiny_tables.together(tmp_path / "both", first, second))
    module = tiny_tables.network(first)
    chosen = np.array([3, 15, 0, 21, 7, 12])
    found = scores(module, both.bags(chosen))
    apart = torch.cat([scores(module, rows_of(first).bags(np.arange(12))), scores(module, rows_of(second).bags(np.arange(10)))])
    torch.testing.assert_close(found, apart[torch.from_numpy(chosen)], atol=1e-5, rtol=0)


def test_the_gate_inside_the_activation_is_the_gate_outside_of_it() -> None:
    """relu(g h) = g relu(h), as g > 0."""
    torch.manual_seed(0)
    block = GatedBlock(8, 2, 12, 0.0)
    z = torch.randn(3, 5, 8)
    outside = block.down(torch.sigmoid(block.gate(z)) * functional.relu(block.up(z)))
    torch.testing.assert_close(block.feed_forward(z), outside, atol=1e-6, rtol=0)


def test_a_block_is_its_formula() -> None:
    """Attention by torch's own module, with the mask of what there is; norms after the sums."""
    torch.manual_seed(0)
    block = GatedBlock(8, 2, 12, 0.0).eval()
    theirs = nn.MultiheadAttention(8, 2, batch_first=True).eval()
    with torch.no_grad():
        theirs.in_proj_weight.copy_(torch.cat([block.query.weight, block.key.weight, block.value.weight]))
        theirs.in_proj_bias.copy_(torch.cat([block.query.bias, block.key.bias, block.value.bias]))
        theirs.out_proj.load_state_dict(block.out.state_dict())
        z, known = torch.randn(3, 5, 8), torch.tensor([[1, 1, 1, 1, 1], [1, 1, 0, 1, 0], [1, 0, 0, 0, 0]], dtype=torch.bool)
        mid = block.norm1(z + theirs(z, z, z, key_padding_mask=~known)[0])
        expected = block.norm2(mid + block.down(functional.relu(torch.sigmoid(mid @ block.gate.weight.T) * block.up(mid))))
        torch.testing.assert_close(block(z, known), expected, atol=1e-5, rtol=1e-5)


def test_the_vectors_of_a_row_are_their_formulas(tmp_path: Path) -> None:
    """A number is its scaled value times the mean of its name, plus the bias; words stand as they are; all through one map."""
    table = Table("t", (Column("body age", "num", 20, 60), Column("eye color", "cat"), Column("smokes", "bin"), Column("rich", "bin")))
    cells = pl.DataFrame({"body age": [50.0], "eye color": ["dark blue"], "smokes": [True], "rich": [False]})
    [data] = tiny_tables.worded(tmp_path, write_table(tmp_path / "t", cells, pl.Series([0]), (table,)))
    module = tiny_tables.network(data)
    bag = on_device(rows_of(data).bags(np.array([0])), torch.device("cpu"))
    vocabulary = data.read_json("tokenizer.json")["model"]["vocab"]
    vector = {word: module.words.norm(module.words.embedding.weight[number]) for word, number in vocabulary.items()}
    number = 0.5 * (vector["body"] + vector["age"]) / 2 + module.number_bias
    wanted = [number, vector["eye"], vector["color"], vector["dark"], vector["blue"], vector["smokes"]]
    with torch.no_grad():
        found, known = module.tokens(**{name: bag[name] for name in READS})
        torch.testing.assert_close(found[0], torch.stack(wanted) @ module.align.weight.T, atol=1e-5, rtol=1e-5)
    assert known.all()
    with torch.no_grad():
        module.bind = True
        found, _ = module.tokens(**{name: bag[name] for name in READS})
        named = (vector["eye"] + vector["color"]) / 2
        wanted = [number, vector["eye"], vector["color"], vector["dark"] + named, vector["blue"] + named, vector["smokes"]]
        torch.testing.assert_close(found[0], torch.stack(wanted) @ module.align.weight.T, atol=1e-5, rtol=1e-5)


def test_a_number_of_zero_is_the_same_vector_whatever_its_column_is_called(tmp_path: Path) -> None:
    """A b: which is why 0 as `missing` cannot be told from the least value, and `missing: drop` leaves the token out."""
    cells = pl.DataFrame({"first name": [0.0, None], "another": [0.0, 3.0]})
    table = Table("t", (Column("first name", "num"), Column("another", "num")))
    [data] = tiny_tables.worded(tmp_path, write_table(tmp_path / "t", cells, pl.Series([0, 1]), (table,)))
    module = tiny_tables.network(data)
    bag = on_device(rows_of(data).bags(np.arange(2)), torch.device("cpu"))
    given = {name: bag[name] for name in READS}
    with torch.no_grad():
        found, known = module.tokens(**given)
        zero = module.align.weight @ module.number_bias
        for token in (found[0, 0], found[0, 1], found[1, 0]):
            torch.testing.assert_close(token, zero, atol=1e-6, rtol=1e-6)
        assert known.tolist() == [[True, True], [True, True]]
        module.drop_missing = True
        assert module.tokens(**given)[1].tolist() == [[True, True], [False, True]]


def test_values_that_swap_their_columns_collide_unless_they_are_bound(tmp_path: Path) -> None:
    cells = pl.DataFrame({"color": ["red", "square"], "shape": ["square", "red"]})
    table = Table("t", (Column("color", "cat"), Column("shape", "cat")))
    [data] = tiny_tables.worded(tmp_path, write_table(tmp_path / "t", cells, pl.Series([0, 1]), (table,)))
    bag = rows_of(data).bags(np.arange(2))
    alike, apart = (scores(tiny_tables.network(data, bind=bind), bag) for bind in ("bag", "cell"))
    torch.testing.assert_close(alike[0], alike[1], atol=1e-5, rtol=0)
    assert (apart[0] - apart[1]).abs().max() > 1e-3


def test_two_scores_have_the_loss_of_one_logit() -> None:
    torch.manual_seed(0)
    head, z, label = ScoreHead(6, 2), torch.randn(5, 6), torch.tensor([0, 1, 1, 0, 1])
    logit = head.linear(head.norm(z))[:, 0]
    expected = functional.binary_cross_entropy_with_logits(logit, label.float())
    torch.testing.assert_close(functional.cross_entropy(head(z), label), expected)
    assert ScoreHead(6, 3)(z).shape == (5, 3)


def test_weights_start_as_the_reference_draws_them() -> None:
    module: Any = Transtab(vocabulary=4000, hidden_size=64, heads=4).build(0, 0)
    table = module.words.embedding.weight
    assert not table[0].any(), "the row of padding"
    assert table[1:].std().item() == pytest.approx(math.sqrt(2 / 64), rel=0.02)
    for value in (module.number_bias, module.cls):
        assert value.abs().max() <= 1 / math.sqrt(64)
        assert value.std().item() == pytest.approx(1 / math.sqrt(3 * 64), rel=0.2)


SHAPES = [
    {"vocabulary": 50},
    {"vocabulary": 9, "classes": 0, "hidden_size": 12, "heads": 3},
    {"vocabulary": 7, "classes": 5, "layers": 1, "hidden_size": 8, "heads": 2, "intermediate_size": 3},
]


@pytest.mark.parametrize("knobs", SHAPES)
def test_the_count_of_weights_is_exact(knobs: dict[str, Any]) -> None:
    shape = Transtab(**knobs)
    assert shape.parameters(0) == sum(p.numel() for p in shape.build(0, 0).parameters())
    assert Transtab(**{**knobs, "vocabulary": None}).parameters(knobs["vocabulary"]) == shape.parameters(0)


@pytest.mark.parametrize("classes", [0, 2, 3])
def test_a_model_is_rebuilt_from_its_knobs_with_the_vocabulary_of_its_tables(classes: int, tmp_path: Path) -> None:
    [data] = tiny_tables.worded(tmp_path, tiny_tables.mixed(tmp_path / "table"))
    module = initialized(Transtab(**tiny_tables.SMALL, classes=classes, bind="cell", missing="drop"), data, 0)
    saved = Model.save(tmp_path / "model", module)
    loaded: Any = saved.load()
    assert loaded.architecture["vocabulary"] == data.vocab_size
    assert isinstance(loaded, TableTransformer)
    assert (loaded.bind, loaded.drop_missing) == (True, True)
    bag = rows_of(data).bags(np.arange(12))
    assert torch.equal(scores(loaded, bag), scores(module.eval(), bag))


def test_a_table_without_numbers_and_one_without_words_are_read(tmp_path: Path) -> None:
    mixed = tiny_tables.mixed(tmp_path / "table")
    [data] = tiny_tables.worded(tmp_path, mixed)
    module, source = tiny_tables.network(data), rows_of(data)
    for columns in ([0], [0, 1], [2], [3], [3, 4]):
        found = scores(module, source.bags(np.arange(12), lambda _, columns=columns: columns))  # type: ignore[misc]
        assert torch.isfinite(found).all()
        assert found.shape == (12, 2)


def test_gradients_reach_every_weight(tmp_path: Path) -> None:
    [data] = tiny_tables.worded(tmp_path, tiny_tables.mixed(tmp_path / "table"))
    module = tiny_tables.network(data, bind="cell").train()
    bag = on_device(rows_of(data).bags(np.arange(12)), torch.device("cpu"))
    functional.cross_entropy(module(**{name: bag[name] for name in READS}), torch.arange(12) % 2).backward()
    for name, value in module.named_parameters():
        assert value.grad is not None, name
        assert value.grad.abs().sum() > 0 or name.endswith("key.bias"), name
    assert not module.words.embedding.weight.grad[0].any(), "padding learns nothing"


def test_views_on_a_new_axis_are_padded_alike(tmp_path: Path) -> None:
    [data] = tiny_tables.worded(tmp_path, tiny_tables.mixed(tmp_path / "table"))
    source, module = rows_of(data), tiny_tables.network(data)
    chosen = np.arange(6)
    views: list[list[int]] = [[0, 1, 2], [3], [2, 4]]
    bags = [source.bags(chosen, lambda _, view=view: view) for view in views]  # type: ignore[misc]
    stacked = together(bags, axis=1)
    for number, bag in enumerate(bags):
        apart = {name: values[:, number] for name, values in stacked.items()}
        torch.testing.assert_close(scores(module, apart), scores(module, bag), atol=1e-5, rtol=0)


def test_cells_and_tables_come_back_as_they_were_written(tmp_path: Path) -> None:
    data = tiny_tables.mixed(tmp_path / "table")
    assert [column.name for column in tables_of(data)[0].columns] == cells_of(data).columns
    assert tables_of(data)[0].columns[0] == Column("body age", "num", 20, 60)
    assert cells_of(data)["eye color"].null_count() == 1
