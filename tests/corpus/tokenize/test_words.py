"""Words of tables: what is learnt, what stays unknown, and that models and tables must agree."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import polars as pl
import pytest
import tiny_tables

from paredown.artifacts.examples import Examples
from paredown.artifacts.model import Model
from paredown.artifacts.tables import Column, Table, Worded, cells_of, tokenizer_text, write_table
from paredown.core.context import Context, running
from paredown.core.errors import DataError, UserError
from paredown.corpus.tokenize.words import Words
from paredown.engines.words import Words as Ids
from paredown.learn.models.transtab import Transtab
from paredown.learn.train import Train
from paredown.measure.auc import Auc


def run(folder: Path, *given: Any, **more: Any) -> tuple[Worded, Context]:
    knobs = {name: more.pop(name) for name in ("vocab_size", "pieces") if name in more}
    step = Context(folder / "out", folder / "scratch", seed=None)
    with running(step):
        return Words(**knobs)(*given, **more), step


def vocabulary(examples: Examples) -> dict[str, int]:
    found: dict[str, int] = examples.read_json("tokenizer.json")["model"]["vocab"]
    return found


def test_words_of_names_and_cells_are_learnt_the_frequent_ones_first(tmp_path):
    data = tiny_tables.mixed(tmp_path / "table", rows=12)
    found, step = run(tmp_path, data, pieces=False)
    known = vocabulary(found.train)
    assert {"<|endoftext|>": 0, "[UNK]": 1}.items() <= known.items()
    assert set(known) - {"<|endoftext|>", "[UNK]"} == {
        "body",
        "age",
        "pulse",
        "eye",
        "color",
        "smokes",
        "works",
        "at",
        "night",
        "red",
        "dark",
        "blue",
        "green",
    }
    assert known["blue"] < known["green"] < known["age"], "cells count as often as they stand there"
    assert found.train.vocab_size == len(known) == step.facts["vocabulary"]
    assert found.train.frame().equals(data.frame()), "the rows stay"
    assert tokenizer_text(found.tokenizer) == tokenizer_text(found.train)


def test_the_least_frequent_words_go_where_there_are_too_many(tmp_path):
    found, step = run(tmp_path, tiny_tables.mixed(tmp_path / "table"), pieces=False, vocab_size=6)
    assert len(vocabulary(found.train)) == 6
    assert "eye color" in step.facts["unknown_words"]


def test_words_are_cut_as_bert_cuts_them_and_at_underscores(tmp_path):
    table = Table("t", (Column("Worst_Radius (mm)", "num"), Column("café", "cat")))
    data = write_table(tmp_path / "t", pl.DataFrame({"Worst_Radius (mm)": [1.0], "café": ["<=50K"]}), pl.Series([0]), (table,))
    found, _ = run(tmp_path, data, pieces=False)
    assert set(vocabulary(found.train)) == {"<|endoftext|>", "[UNK]", "worst", "radius", "(", "mm", ")", "cafe", "<", "=", "50k"}


def test_unknown_words_are_one_or_are_cut_into_pieces(tmp_path):
    data = tiny_tables.mixed(tmp_path / "table")
    whole, pieces = (run(tmp_path / str(cut), data, pieces=cut)[0].train for cut in (False, True))
    assert Ids(tokenizer_text(whole)).ids("agile") == [1]
    ids = Ids(tokenizer_text(pieces)).ids("agile")
    assert len(ids) > 1
    assert 1 not in ids
    assert len(Ids(tokenizer_text(pieces)).ids("smokes")) == 1, "a word that was learnt is one token"


def test_the_mark_inside_a_cell_is_no_padding(tmp_path):
    table = Table("t", (Column("x", "cat"),))
    data = write_table(tmp_path / "t", pl.DataFrame({"x": ["<|endoftext|> [UNK]"]}), pl.Series([0]), (table,))
    for cut in (False, True):
        found, _ = run(tmp_path / str(cut), data, pieces=cut)
        assert 0 not in Ids(tokenizer_text(found.train)).ids("<|endoftext|> [UNK]")


def test_held_out_and_later_tables_use_the_same_words(tmp_path):
    data, later = tiny_tables.mixed(tmp_path / "a"), tiny_tables.numbers(tmp_path / "b", ("late pulse",))
    found, _ = run(tmp_path / "x", data, tiny_tables.mixed(tmp_path / "c", seed=1), others=(later,), pieces=False)
    assert found.held_out is not None
    assert vocabulary(found.train) == vocabulary(found.held_out)
    assert "late" in vocabulary(found.train)
    again, _ = run(tmp_path / "y", later, tokenizer=found.tokenizer)
    assert vocabulary(again.train) == vocabulary(found.train)
    assert cells_of(again.train).equals(cells_of(later))


def test_a_model_hands_its_words_to_a_new_table_and_refuses_other_words(tmp_path):
    data = tiny_tables.mixed(tmp_path / "a")
    first, _ = run(tmp_path / "first", data, pieces=False)
    with running(Context(tmp_path / "t" / "out", tmp_path / "t" / "scratch", seed=0)):
        from paredown.core.catalog import build

        model = Train(budget={"steps": 2}, objective=build("learn.objectives.classification"), batch_size=4)(
            Transtab(**tiny_tables.SMALL), examples=first.train
        )
    new = tiny_tables.numbers(tmp_path / "b", ("age at night", "pulse"))
    taken, _ = run(tmp_path / "taken", new, tokenizer=model)
    assert vocabulary(taken.train) == vocabulary(first.train)
    with running(Context(tmp_path / "m" / "out", tmp_path / "m" / "scratch", seed=None)):
        assert 0 <= Auc()(model, taken.train).value("auc") <= 1, "columns that it never saw"
    own, _ = run(tmp_path / "own", new, pieces=False)
    for which, said in ((own.train, "by another tokenizer"), (new, "words of the tables are not known")):
        with running(Context(tmp_path / said / "out", tmp_path / said / "scratch", seed=None)), pytest.raises(UserError, match=said):
            Auc()(model, which)
    many, _ = run(tmp_path / "many", new, pieces=True)
    with (
        running(Context(tmp_path / "n" / "out", tmp_path / "n" / "scratch", seed=0)),
        pytest.raises(UserError, match=r"another (vocabulary|tokenizer)"),
    ):
        Train(budget={"steps": 2}, objective=build("learn.objectives.classification"))(model, examples=many.train)


def test_what_has_no_words_is_named(tmp_path):
    data = tiny_tables.mixed(tmp_path / "a")
    with pytest.raises(UserError, match="no table"):
        run(tmp_path / "x", Examples.write(tmp_path / "plain", data.frame().select("label")))
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match=r"no tokenizer\.json"):
        run(tmp_path / "y", data, tokenizer=Model(tmp_path / "empty"))
    table = Table("t", (Column(" ", "num"),))
    with pytest.raises(DataError, match="hold a word"):
        run(tmp_path / "z", write_table(tmp_path / "t", pl.DataFrame({" ": [1.0]}), pl.Series([0]), (table,)))
