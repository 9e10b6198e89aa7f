"""The three tasks: text alone counts, the same items for every model, the mode that was asked for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny_models as tiny
import torch

from paredown.artifacts.model import Model
from paredown.artifacts.tokens import Tokens
from paredown.core.catalog import build
from paredown.core.context import Context, running
from paredown.core.errors import DataError, UserError
from paredown.engines import encoder_decoders
from paredown.engines.byte_pairs import extended
from paredown.engines.scoring import spread_order
from paredown.measure.denoising import Denoising

MARKS = list(range(tiny.VOCABULARY, tiny.VOCABULARY + 20))
S2S = tiny.VOCABULARY + 21


@pytest.fixture
def data(tmp_path: Path) -> Tokens:
    vocabulary = extended(tiny.byte_tokenizer(), [*(f"<extra_id_{n}>" for n in range(20)), "[NLU]", "[S2S]"])
    ids = np.random.default_rng(0).integers(1, 250, 700)
    return Tokens.write(tmp_path / "tokens", [(ids, 700)], tokenizer=vocabulary, vocab_size=S2S + 1)


def model(folder: Path, name: str, modes: dict[str, str] | None = None, prefix: bool = False) -> Model:
    torch.manual_seed(0)
    module: Any = build({"use": f"learn.models.{name}", "hidden_size": 16, "heads": 2}).build(S2S + 1, 0)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.mul_(3)
    encoder_decoders.note(module, prefix=prefix, modes=modes or {})
    return Model.save(folder, module)


@pytest.mark.parametrize("name", ["t5", "llama"])
def test_a_continuation_is_the_loss_of_the_second_half_given_the_first(name: str, data: Tokens, tmp_path: Path) -> None:
    made = model(tmp_path / "model", name, {"S": "[S2S]"}, prefix=name == "llama")
    found = Denoising(chunks=5, length=40, batch=2)(made, data)
    module, items = made.load(), found.items()
    assert items is not None
    chosen = spread_order(702 // 40)[:5]
    mine = items.filter(metric="continuation")
    assert mine["item"].to_list() == chosen.tolist()
    assert mine["weight"].to_list() == [20.0] * 5
    for number, value in zip(chosen.tolist(), mine["value"], strict=True):
        text = torch.from_numpy(data.ids[number * 40 : number * 40 + 40].astype(np.int64))
        read, rest = torch.cat([torch.tensor([S2S]), text[:20]]), text[20:]
        with torch.no_grad():
            if name == "t5":
                logits = module(input_ids=read[None], decoder_input_ids=torch.cat([torch.tensor([0]), rest[:-1]])[None]).logits[0]
            else:
                logits = encoder_decoders.decoder_logits(module, torch.cat([read, rest[:-1]])[None], torch.tensor([21]))[0, 20:]
        assert value == pytest.approx(float(torch.nn.functional.cross_entropy(logits, rest)), rel=1e-4)
    assert found.value("worst") == max(found.value(m) for m in ("infill", "continuation", "long_infill"))


@pytest.mark.parametrize("name", ["t5", "llama"])
def test_sentinels_and_the_end_are_read_but_not_scored(name: str, data: Tokens, tmp_path: Path) -> None:
    made = model(tmp_path / "model", name)
    with running(Context(tmp_path / "out", tmp_path)) as step:
        found = Denoising(chunks=6, length=60, batch=4)(made, data)
    items = found.items()
    assert items is not None
    assert items.filter(metric="infill")["weight"].to_list() == [9.0] * 6  # 15% of 60
    assert items.filter(metric="long_infill")["weight"].to_list() == [32.0] * 6
    assert step.facts["infill"] == {"mode": "", "text_tokens": 54}
    assert step.cost.tokens == 6 * ((60 + 2 * 3 + 1) + (60 + 1) + (60 + 2 + 1))
    assert step.cost.flops > 0
    same = Denoising(chunks=6, length=60, batch=1)(made, data).items()
    assert same is not None
    assert same["value"].to_list() == pytest.approx(items["value"].to_list(), rel=1e-4)


def test_modes_and_gaps_change_what_is_asked(data: Tokens, tmp_path: Path) -> None:
    made = model(tmp_path / "model", "t5", {"R": "[NLU]", "S": "[S2S]"})

    def values(**knobs: Any) -> list[float]:
        scores = Denoising(chunks=4, length=60, **knobs)(made, data)
        return [scores.value(metric) for metric in ("infill", "continuation", "long_infill")]

    auto = values()
    assert values(infill_mode="[NLU]", continuation_mode="[S2S]", long_infill_mode="") == auto
    wrong = values(infill_mode="[S2S]", continuation_mode="[NLU]")
    assert wrong[0] != auto[0]
    assert wrong[1] != auto[1]
    assert wrong[2] == auto[2]
    assert values(continuation="gap")[1] != auto[1]


def test_mistakes_are_told(data: Tokens, tmp_path: Path) -> None:
    made = model(tmp_path / "model", "t5")
    with pytest.raises(UserError, match=r"no special token '\[NLG\]'"):
        Denoising(long_infill_mode="[NLG]")(made, data)
    few = Tokens.write(tmp_path / "few", [(data.ids[1:30], 29)], tokenizer=(data.path / "tokenizer.json").read_text(), vocab_size=S2S + 1)
    with pytest.raises(DataError, match="31 tokens are less than a chunk of 96"):
        Denoising()(made, few)
    with pytest.raises(UserError, match="sentinels, but the vocabulary has 20"):
        Denoising(length=500)(made, data)
