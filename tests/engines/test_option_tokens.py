"""Options behind a prompt that ends with a blank: tokens that join the blank with an option are scored as they are written."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import tiny_models as tiny
import torch
import transformers
from tokenizers import Tokenizer as Fast
from tokenizers import decoders, models, pre_tokenizers

from paredown.artifacts.model import Model
from paredown.artifacts.tokens import END_OF_TEXT, Tokenizer
from paredown.core.context import Context
from paredown.engines.generator import Question, opened

BLANK = "\u0120"  # how a blank is written in such vocabularies
JOINED = tiny.VOCABULARY  # id of the blank with an A


def model(folder: Path) -> Model:
    """A model whose tokenizer knows ` A` as one token, and no other pair."""
    vocabulary = {END_OF_TEXT: 0, **{sign: number + 1 for number, sign in enumerate(tiny.ALPHABET)}, f"{BLANK}A": JOINED}
    fast = Fast(models.BPE(vocab=vocabulary, merges=[(BLANK, "A")]))
    fast.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    fast.decoder = decoders.ByteLevel()
    fast.add_special_tokens([END_OF_TEXT])
    (folder / "tokenizer").mkdir(parents=True)
    (folder / "tokenizer" / "tokenizer.json").write_text(fast.to_str())
    torch.manual_seed(0)
    config = tiny.SHAPES["llama"](vocab_size=JOINED + 1, bos_token_id=0, eos_token_id=0, pad_token_id=0, tie_word_embeddings=False)
    made = transformers.AutoModelForCausalLM.from_config(config)
    with torch.no_grad():
        for parameter in made.parameters():
            if parameter.dim() > 1:
                parameter.normal_(0, 0.3)
    return Model.save(folder / "model", made.eval(), Tokenizer(folder / "tokenizer").fast)


def said(module: Any, before: list[int], ids: list[int]) -> float:
    """The log-probability of ids, one after another."""
    total = 0.0
    for place, wanted in enumerate(ids):
        with torch.inference_mode():
            total += float(module(torch.tensor([[*before, *ids[:place]]])).logits[0, -1].log_softmax(-1)[wanted])
    return total


def test_a_separator_that_ends_with_a_blank_does_not_change_how_an_option_is_written(tmp_path: Path) -> None:
    made = model(tmp_path)
    (tmp_path / "scratch").mkdir()
    with opened(made, Context(tmp_path / "out", tmp_path / "scratch")) as generator:
        outside, inside = generator.answer([Question("Answer:", options=(" A", " B")), Question("Answer: ", options=("A", "B"))])
    module, tokenizer = made.load(), made.tokenizer
    blank, b = tokenizer.convert_tokens_to_ids([BLANK, "B"])
    assert tokenizer("Answer: A")["input_ids"][-1] == JOINED, "joined"
    before = [0, *tokenizer("Answer:")["input_ids"]]
    wanted = (said(module, before, [JOINED]), said(module, before, [blank, b]))
    for answer in (outside, inside):
        assert answer.logprobs == pytest.approx(wanted, abs=1e-4)
        assert answer.option_tokens == (1, 2)
    alone = said(module, [*before, blank], tokenizer("A")["input_ids"])
    assert abs(inside.logprobs[0] - alone) > 0.1, "nobody writes the blank and the letter apart"
