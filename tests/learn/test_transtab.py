"""Tables through the rest of the house: several tables and processes in one training, selection of rows, pruning."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import tiny_tables
import torch
from pydantic import ValidationError

from paredown.artifacts.examples import Examples
from paredown.artifacts.model import Model
from paredown.artifacts.tables import tables_of
from paredown.core.catalog import build
from paredown.core.context import Context, running
from paredown.core.errors import DataError, UserError
from paredown.corpus.select.random import Random
from paredown.engines.modules import initialized
from paredown.engines.parts import Hook
from paredown.engines.training import State
from paredown.learn.models.transtab import Transtab
from paredown.learn.train import Train
from paredown.measure.auc import Auc
from paredown.prune.magnitude import Magnitude


def train(folder: Path, data: Examples, model: Any = None, seed: int = 0, **knobs: Any) -> Model:
    given: dict[str, Any] = {
        "budget": {"steps": 12}, "objective": build("learn.objectives.classification"), "sampler": build("learn.samplers.grouped"),
        "batch_size": 8, "learning_rate": 3e-3, "device": "cpu", "precision": "fp32", "evaluate_every": 0, **knobs,
    }  # fmt: skip
    with running(Context(folder / "out", folder / "scratch", seed=seed)):
        return Train(**given)(model or Transtab(**tiny_tables.SMALL), examples=data, held_out=data)


def two_tables(folder: Path) -> Examples:
    first, second = tiny_tables.worded(
        folder / "w", tiny_tables.mixed(folder / "a", 40), tiny_tables.numbers(folder / "b", ("night pulse", "age", "eye"), 30)
    )
    return tiny_tables.together(folder / "both", first, second)


def test_two_tables_are_learnt_in_one_run_with_the_same_bytes_twice(tmp_path):
    data = two_tables(tmp_path)
    made = [train(tmp_path / name, data) for name in ("a", "b")]
    assert (made[0].path / "model.safetensors").read_bytes() == (made[1].path / "model.safetensors").read_bytes()
    assert made[0].training["tokens"] == 12 * 8, "twelve full batches, each of one table"
    assert made[0].tokenizer.get_vocab() == data.tokenizer.fast.get_vocab()


def test_what_a_table_says_is_learnt(tmp_path):
    import polars as pl

    from paredown.artifacts.tables import cells_of, write_table

    plain = tiny_tables.mixed(tmp_path / "t", 120)
    labels = (cells_of(plain)["eye color"].fill_null("red") == "green").cast(pl.Int64)
    [data] = tiny_tables.worded(tmp_path / "w", write_table(tmp_path / "l", cells_of(plain), labels, tables_of(plain)))
    model = train(tmp_path, data, budget={"steps": 60})
    with running(Context(tmp_path / "auc" / "out", tmp_path / "auc" / "scratch", seed=None)):
        assert Auc()(model, data).value("auc") > 0.99


class Mode(Hook):
    """Notes whether the model is in training mode when a step is done."""

    seen: ClassVar[list[bool]] = []

    def step(self, state: State) -> None:
        self.seen.append(state.module.training)


def test_an_evaluation_leaves_dropout_on(tmp_path):
    Mode.seen.clear()
    shape = Transtab(**{**tiny_tables.SMALL, "dropout": 0.5})
    model = train(tmp_path, two_tables(tmp_path), shape, budget={"steps": 6}, evaluate_every=2, hooks=(Mode(),))
    assert len(model.training["evaluations"]) >= 3
    assert Mode.seen == [True] * 6


def test_two_processes_learn_as_one(tmp_path):
    data = two_tables(tmp_path)
    one, two = (train(tmp_path / name, data, **more) for name, more in (("one", {}), ("two", {"parallel": "ddp", "processes": 2})))
    assert two.training["held_out_loss"] == pytest.approx(one.training["held_out_loss"], rel=1e-4)
    expected = dict(two.load().named_parameters())
    for name, value in one.load().named_parameters():
        if not name.endswith("key.bias"):  # its gradient is zero but for rounding, which Adam makes steps of
            torch.testing.assert_close(value, expected[name], rtol=1e-2, atol=1e-3)


def test_rows_that_are_selected_are_still_a_table_with_its_words(tmp_path):
    data = two_tables(tmp_path)
    with running(Context(tmp_path / "s" / "out", tmp_path / "s" / "scratch", seed=0)):
        kept = Random(fraction=0.5)(data).kept
    assert kept.rows == 35
    assert tables_of(kept) == tables_of(data)
    assert kept.vocab_size == data.vocab_size
    assert train(tmp_path, kept, budget={"steps": 2}).training["tokens"] == 16


def test_the_blocks_can_be_pruned(tmp_path):
    model = train(tmp_path, two_tables(tmp_path), budget={"steps": 2})
    with running(Context(tmp_path / "p" / "out", tmp_path / "p" / "scratch", seed=None)):
        pruned = Magnitude(sparsity=0.5)(model)
    share = {name: float((value == 0).float().mean()) for name, value in pruned.load().named_parameters() if value.dim() > 1}
    assert all(0.4 < zeros < 0.6 for name, zeros in share.items() if name.startswith("blocks.") and ".gate." not in name)
    assert share["align.weight"] == share["head.linear.weight"] == 0
    assert (pruned.path / "tokenizer.json").exists()


def test_a_table_whose_words_are_not_known_cannot_be_learnt(tmp_path):
    with pytest.raises(UserError, match="words of the tables are not known") as caught:
        train(tmp_path, tiny_tables.mixed(tmp_path / "t"), Transtab(**tiny_tables.SMALL, vocabulary=50))
    assert "corpus.tokenize.words" in caught.value.todo
    with pytest.raises(UserError, match="how many words there are"):
        Transtab().build(0, 0)
    assert initialized(Transtab(**tiny_tables.SMALL, vocabulary=7), None, 0).architecture["vocabulary"] == 7


def test_a_number_that_is_not_finite_is_named(tmp_path):
    import polars as pl

    from paredown.artifacts.tables import cells_of, write_table

    plain = tiny_tables.mixed(tmp_path / "t")
    for number, bad in enumerate((np.nan, np.inf)):
        cells = cells_of(plain).with_columns(pl.lit(bad).alias("pulse"))
        [data] = tiny_tables.worded(
            tmp_path / f"w{number}", write_table(tmp_path / f"b{number}", cells, plain.frame()["label"], tables_of(plain))
        )
        with pytest.raises(DataError, match="pulse holds a number that is not finite"):
            train(tmp_path / str(number), data)


@pytest.mark.parametrize(
    ("knobs", "said"), [({"hidden_size": 10, "heads": 4}, "multiple of heads"), ({"classes": 1}, "one label leaves nothing")]
)
def test_knobs_that_do_not_fit_are_refused(knobs, said):
    with pytest.raises(ValidationError, match=said):
        Transtab(**knobs)
