"""Documents of which a part is given: encoded apart, read and not predicted, in training and in measures."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch

from paredown.artifacts.corpus import Corpus
from paredown.artifacts.tokens import Tokenized, Tokens
from paredown.core.context import Context, running
from paredown.core.errors import UserError
from paredown.corpus.tokenize.bpe import Bpe
from paredown.corpus.tokenize.encode import Encode
from paredown.engines import scoring
from paredown.engines.batches import IGNORED, PackedRows, counted

ROWS = [("three plus four is ", "seven"), ("", "no question at all"), ("what? ", ""), ("ünder ", "wéar\n")]


def run(folder: Path, strategy: Any, *given: Any) -> Any:
    with running(Context(folder / "out", folder / "scratch", seed=0)):
        return strategy(*given)


@pytest.fixture
def made(tmp_path: Path) -> tuple[Tokens, Tokens]:
    """(questions and answers, the same texts whole)"""
    learned: Tokenized = run(tmp_path / "bpe", Bpe(vocab_size=280), Corpus.from_texts(tmp_path / "c", [a + b for a, b in ROWS] * 3))
    assert learned.tokenizer
    frame = pl.DataFrame({"id": [str(i) for i in range(4)], "text": [b for _, b in ROWS], "question": [a for a, _ in ROWS]})
    corpus = Corpus.write(tmp_path / "asked", [frame])
    whole = Corpus.write(tmp_path / "whole", [frame.with_columns(text=pl.col("question") + pl.col("text"))])
    return run(tmp_path / "a", Encode(given="question"), corpus, learned.tokenizer), run(tmp_path / "b", Encode(), whole, learned.tokenizer)


def test_both_parts_are_there_and_the_bytes_are_of_what_is_predicted(made: Any) -> None:
    asked, whole = made
    fast = asked.tokenizer.fast
    for number, (question, answer) in enumerate(ROWS):
        ids = np.asarray(asked.ids[asked.offsets[number] : asked.offsets[number + 1]]).tolist()
        assert ids[0] == ids[-1] == 0
        cut = 1 + int(asked.given[number])
        assert fast.decode(ids[1:cut]) == question
        assert fast.decode(ids[cut:-1]) == answer
    assert asked.document_bytes.tolist() == [len(answer.encode()) for _, answer in ROWS]
    assert whole.given is None
    assert not (whole.path / "given.npy").exists()


@pytest.mark.parametrize("length", [3, 7, 64])
def test_training_asks_for_answers_only_and_for_each_once(made: Any, length: int) -> None:
    asked, _ = made
    rows = PackedRows(asked.ids, asked.offsets, length, asked.given)
    batch = rows.fill(np.arange(rows.rows))
    bounds = zip(asked.offsets[:-1], asked.offsets[1:], asked.given, strict=True)
    expected = np.concatenate([asked.ids[a + 1 + g : b] for a, b, g in bounds])
    found = batch["targets"][batch["targets"] != IGNORED]
    assert sorted(found.tolist()) == sorted(expected.tolist())
    assert counted(batch) == len(expected)
    free = PackedRows(asked.ids, asked.offsets, length).fill(np.arange(rows.rows))
    assert (batch["ids"] == free["ids"]).all()
    assert (batch["targets"][batch["targets"] != IGNORED] == free["targets"][batch["targets"] != IGNORED]).all()


@pytest.mark.parametrize(("length", "stride"), [(4, 2), (64, 32)])
def test_measures_count_answers_only(made: Any, length: int, stride: int) -> None:
    from transformers import LlamaConfig, LlamaForCausalLM

    asked, whole = made
    torch.manual_seed(0)
    shape = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 1, "num_attention_heads": 2, "max_position_embeddings": 64}
    module: Any = LlamaForCausalLM(LlamaConfig(vocab_size=asked.vocab_size, **shape)).eval()
    documents = np.arange(4)
    found = scoring.nats(module, asked, documents, length=length, stride=stride, batch=2)
    assert found.tokens.tolist() == [int(b - a - 1 - g) for a, b, g in zip(asked.offsets[:-1], asked.offsets[1:], asked.given, strict=True)]
    if length == 64:
        for number in documents:
            ids = torch.tensor(np.asarray(asked.ids[asked.offsets[number] : asked.offsets[number + 1]]).astype(int))[None]
            with torch.no_grad():
                logs = module(input_ids=ids[:, :-1]).logits.log_softmax(-1).gather(-1, ids[:, 1:, None])[0, :, 0]
            assert found.nats[number] == pytest.approx(-float(logs[int(asked.given[number]) :].sum()), rel=1e-4)
    assert whole.tokens >= asked.tokens - 8


def test_a_column_that_is_not_there_is_named(tmp_path: Path, made: Any) -> None:
    corpus = Corpus.from_texts(tmp_path / "plain", ["a"])
    with pytest.raises(UserError, match="no column of text named question"):
        run(tmp_path / "x", Encode(given="question"), corpus, made[0].tokenizer)
