"""Encoder-decoders and decoders that read their input both ways: against transformers, against one example alone, and by what may not change."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import tiny_models as tiny
import torch
import transformers

from paredown.artifacts.model import Model
from paredown.core.catalog import build
from paredown.core.errors import UserError
from paredown.engines import encoder_decoders, generation
from paredown.engines.layers import calibration

PROMPTS = [[0, 5, 9, 200], [0], [0, 7], [0, 3, 3, 3, 3, 3, 3, 3, 3, 60, 61]]


def t5(seed: int = 0) -> Any:
    torch.manual_seed(seed)
    return build({"use": "learn.models.t5", "hidden_size": 32, "heads": 2, "decoder_layers": 1}).build(tiny.VOCABULARY, 0).eval()


def bart() -> Any:
    sizes = {"d_model": 32, "encoder_layers": 1, "decoder_layers": 1, "encoder_ffn_dim": 32, "decoder_ffn_dim": 32}
    config = transformers.BartConfig(
        vocab_size=100, encoder_attention_heads=2, decoder_attention_heads=2, max_position_embeddings=64, **sizes
    )
    return transformers.BartForConditionalGeneration(config).eval()


@pytest.mark.parametrize("make", [t5, bart])
def test_answers_equal_those_of_transformers_and_do_not_depend_on_the_batch(make: Any) -> None:
    module = make()
    module.config.decoder_start_token_id = module.generation_config.decoder_start_token_id = 0
    prompts = [[i % 90 for i in p] for p in PROMPTS]
    together = generation.generate(module, prompts, new_tokens=12, stop=frozenset({95}))
    assert together == [generation.generate(module, [p], new_tokens=12, stop=frozenset({95}))[0] for p in prompts]
    for prompt, made in zip(prompts, together, strict=True):
        ids = torch.tensor([prompt])
        settings = {"do_sample": False, "num_beams": 1, "eos_token_id": 95, "forced_bos_token_id": None, "forced_eos_token_id": None}
        theirs = module.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=12, pad_token_id=1, **settings)[0, 1:].tolist()
        assert made == (theirs[: theirs.index(95)] if 95 in theirs else theirs)


@pytest.mark.parametrize("knobs", [{}, {"layers": 3, "decoder_layers": 1, "head_dim": 12, "intermediate_size": 40, "buckets": 8}])
def test_the_weights_of_a_t5_are_foreseen(knobs: dict[str, Any]) -> None:
    shape = build({"use": "learn.models.t5", "hidden_size": 32, "heads": 2, **knobs})
    assert shape.parameters(300) == sum(p.numel() for p in shape.build(300, 0).parameters())


@pytest.mark.parametrize("knobs", [{"heads": 3, "hidden_size": 32}, {"buckets": 9}, {"buckets": 64, "max_distance": 32}])
def test_a_t5_that_cannot_be_is_refused(knobs: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="must"):
        build({"use": "learn.models.t5", **knobs})


def test_several_examples_of_a_row_do_not_see_each_other() -> None:
    module = t5()
    encoder_decoders.pack_examples(module)
    draw = torch.Generator().manual_seed(0)
    ids, answers = torch.randint(1, 200, (2, 12), generator=draw), torch.randint(1, 200, (2, 7), generator=draw)
    parts = torch.tensor([[1] * 5 + [2] * 6 + [0], [1] * 3 + [2] * 9])
    answer_parts = torch.tensor([[1] * 3 + [2] * 2 + [0] * 2, [1] * 1 + [2] * 6])
    with torch.no_grad():
        together = encoder_decoders.encoder_decoder_logits(module, ids, parts, answers, answer_parts)
        assert torch.isfinite(together).all()
        for row in (0, 1):
            for part in (1, 2):
                read, made = ids[row, parts[row] == part][None], answers[row, answer_parts[row] == part][None]
                alone = module(input_ids=read, decoder_input_ids=made).logits[0]
                torch.testing.assert_close(together[row, answer_parts[row] == part], alone, rtol=1e-4, atol=1e-4)
        again = module(input_ids=ids, decoder_input_ids=answers).logits  # without parts the module reads as before
        hooked, fresh = again, t5()(input_ids=ids, decoder_input_ids=answers).logits
    assert torch.equal(hooked, fresh)


def test_models_with_absolute_positions_do_not_pack() -> None:
    with pytest.raises(UserError, match="counted from the row's start"):
        encoder_decoders.pack_examples(bart())


@pytest.mark.parametrize("shape", ["llama", "gpt2", "qwen3", "mixtral"])
def test_a_prefix_is_read_both_ways_and_nothing_else_is(shape: str) -> None:
    module = tiny.module(shape)
    encoder_decoders.check_prefix(module)
    ids = torch.randint(1, 200, (1, 12), generator=torch.Generator().manual_seed(0))

    def logits(place: int | None = None, prefix: int = 6) -> torch.Tensor:
        changed = ids.clone()
        if place is not None:
            changed[0, place] = 201
        with torch.no_grad():
            return encoder_decoders.decoder_logits(module, changed, torch.tensor([prefix]))[0]

    for place in range(6, 12):  # a later token of the target
        torch.testing.assert_close(logits(place)[:place], logits()[:place], rtol=1e-5, atol=1e-5)
    for place in range(1, 6):  # a later token of the input
        assert not torch.allclose(logits(place)[0], logits()[0], atol=1e-4)
        assert not torch.allclose(logits(place)[8], logits()[8], atol=1e-4)
    with torch.no_grad():
        torch.testing.assert_close(logits(prefix=0), module(input_ids=ids).logits[0], rtol=1e-4, atol=1e-4)


def test_a_model_that_makes_its_own_mask_does_not_read_both_ways() -> None:
    with pytest.raises(UserError, match="takes no mask of its own"):
        encoder_decoders.check_prefix(tiny.module("opt"))


def test_a_decoder_trained_on_prefixes_reads_prompts_both_ways() -> None:
    module, causal = tiny.module(seed=1), tiny.module(seed=1)
    encoder_decoders.note(module, prefix=True, modes={})
    together = generation.generate(module, PROMPTS, new_tokens=10, stop=frozenset())
    assert together == [generation.generate(module, [p], new_tokens=10, stop=frozenset())[0] for p in PROMPTS]
    assert together != generation.generate(causal, PROMPTS, new_tokens=10, stop=frozenset())
    for prompt, made in zip(PROMPTS, together, strict=True):
        ids, found = list(prompt), []
        for _ in range(10):
            with torch.no_grad():
                logits = encoder_decoders.decoder_logits(module, torch.tensor([ids]), torch.tensor([len(prompt)]))
            found.append(int(logits[0, -1].argmax()))
            ids.append(found[-1])
        assert made == found


def test_how_a_model_was_trained_goes_with_it(tmp_path: Path) -> None:
    module = tiny.module()
    Model.save(tmp_path / "plain", module)
    assert not {"prefix_lm", "modes"} & set(Model(tmp_path / "plain").config)
    encoder_decoders.note(module, prefix=True, modes={"R": "[NLU]"})
    loaded = Model.save(tmp_path / "noted", module).load()
    assert encoder_decoders.reads_both_ways(loaded)
    assert encoder_decoders.modes(loaded) == {"R": "[NLU]"}
    build("learn.objectives.next_token").prepare(loaded)
    assert not encoder_decoders.reads_both_ways(loaded)
    assert encoder_decoders.modes(loaded) == {"R": "[NLU]"}


def test_what_needs_a_decoder_refuses_an_encoder_decoder(tmp_path: Path) -> None:
    model, tokens = Model.save(tmp_path / "model", t5()), tiny.tokens(tmp_path / "tokens", ["some text"])
    for name in ("measure.perplexity", "measure.speed"):
        with pytest.raises(UserError, match="is an encoder-decoder"):
            build(name)(model, *([tokens] if name == "measure.perplexity" else []))
    with pytest.raises(UserError, match="is an encoder-decoder"):
        build("learn.objectives.next_token").prepare(t5())
    with pytest.raises(UserError, match="is an encoder-decoder"):
        calibration(tokens, model, 64, 8)
    pruned = build({"use": "prune.magnitude", "sparsity": 0.5})(model)  # needs no pass
    assert pruned.parameters()["nonzero"] < 0.7 * model.parameters()["total"]
