"""Packed texts are read as if each were alone: logits, keys and values, whatever stands beside them, on every kind of model."""

from __future__ import annotations

import numpy as np
import pytest
import tiny_models as tiny
import torch
import transformers

from paredown.core.errors import UserError
from paredown.engines import bins, generation, prefill, segments

RNG = np.random.default_rng(0)
SHARED = RNG.integers(1, 250, 20).tolist()
TEXTS = [
    *(RNG.integers(1, 250, length).tolist() for length in (1, 5, 30, 7, 7, 1, 40, 7)),
    *([*SHARED, token] for token in (1, 2)),
    [*SHARED, *RNG.integers(1, 250, 9).tolist()],
    SHARED,
]
ALONE = [[[number]] for number in range(len(TEXTS))]


def packed(module, texts, limit, **more):
    return prefill.packed(module, texts, lambda lengths: bins.prepacked(lengths, limit), limit=limit, **more)


def by_text(readings, texts):
    """Text number -> its wanted logits."""
    found = {}
    for reading in readings:
        at = 0
        for text in reading.texts:
            count = len(texts[text].wanted)
            assert text not in found
            found[text] = reading.logits[at : at + count]
            at += count
        assert at == len(reading.logits)
    return [found[number] for number in range(len(texts))]


@pytest.fixture(scope="module", params=tiny.CAUSAL)
def module(request):
    return tiny.module(request.param, seed=2, scale=0.1)


@pytest.fixture(scope="module")
def alone(module):
    with torch.inference_mode():
        return [module(input_ids=torch.tensor([ids]), use_cache=True, past_key_values=transformers.DynamicCache()) for ids in TEXTS]


def test_every_causal_model_takes_segments(module):
    assert prefill.way_of(module) == "segments"


@pytest.mark.parametrize("way", prefill.WAYS)
@pytest.mark.parametrize("share", [0, 8])
@pytest.mark.parametrize("limit", [16, 64])
def test_logits_are_those_of_each_text_alone(module, alone, way, share, limit):
    if not prefill.takes(module, way):
        assert (way, module.config.model_type) == ("mask", "mistral")  # a mask of ours knows no sliding window
        with pytest.raises(UserError, match="does not take attention: mask"):
            next(packed(module, [], limit, way=way))
        return
    texts = [prefill.Text(ids, range(len(ids))) for ids in TEXTS]
    for found, expected in zip(by_text(packed(module, texts, limit, share=share, way=way), texts), alone, strict=True):
        torch.testing.assert_close(found, expected.logits[0], atol=1e-5, rtol=0)


@pytest.mark.parametrize("way", prefill.WAYS)
@pytest.mark.parametrize("share", [0, 8])
def test_keys_and_values_are_those_of_each_text_alone(module, alone, way, share):
    if not prefill.takes(module, way):
        assert (way, module.config.model_type) == ("mask", "mistral")
        return
    begun = prefill.begin(module, TEXTS, lambda texts: packed(module, texts, 32, share=share, way=way, keep=True), more=3)
    assert begun.lengths == [len(ids) for ids in TEXTS]
    for number, expected in enumerate(alone):
        for ours, theirs in zip(begun.cache.layers, expected.past_key_values.layers, strict=True):
            for name in ("keys", "values"):
                mine = getattr(ours, name)[number, :, -len(TEXTS[number]) :]
                torch.testing.assert_close(mine, getattr(theirs, name)[0], atol=1e-5, rtol=0)
        torch.testing.assert_close(begun.logits[number], expected.logits[0, -1], atol=1e-5, rtol=0)


@pytest.mark.parametrize("drop_last", [False, True])
def test_decoding_goes_on_as_transformers_does(module, drop_last):
    begun = prefill.begin(module, TEXTS, lambda texts: packed(module, texts, 32, share=8, keep=True), more=2, drop_last=drop_last)
    made = generation.decode(module, begun, generation.Rules(20, frozenset({0})))
    for ids, ours in zip(TEXTS, made, strict=True):
        given = torch.tensor([ids])
        theirs = module.generate(
            given, attention_mask=torch.ones_like(given), max_new_tokens=20, do_sample=False, eos_token_id=0, pad_token_id=0
        )
        expected = theirs[0, len(ids) :].tolist()
        assert ours == (expected[: expected.index(0)] if 0 in expected else expected)


def test_only_one_token_prompts():
    module = tiny.module()
    for drop_last in (False, True):
        begun = prefill.begin(module, [[3], [4], [3]], lambda texts: packed(module, texts, 32, keep=True), more=2, drop_last=drop_last)
        with torch.inference_mode():
            expected = module(input_ids=torch.tensor([[3], [4], [3]])).logits[:, -1]
        torch.testing.assert_close(begun.logits, expected, atol=1e-5, rtol=0)
        assert begun.lengths == [1, 1, 1]


@pytest.mark.parametrize("way", ["segments", "mask"])
def test_another_prompt_of_the_row_changes_no_bit(way):
    module = tiny.module(seed=4)
    texts = [prefill.Text(ids, range(len(ids))) for ids in TEXTS]
    first = by_text(packed(module, texts, 64, way=way), texts)
    changed = [prefill.Text([token + 1 for token in ids] if number in (2, 6) else ids, range(len(ids))) for number, ids in enumerate(TEXTS)]
    second = by_text(packed(module, changed, 64, way=way), texts)
    beside = [row for chosen in bins.prepacked([len(ids) for ids in TEXTS], 64) for row in chosen if {2, 6} & set(row) and len(row) > 1]
    assert beside  # else nothing stands beside what changes
    for number, (one, other) in enumerate(zip(first, second, strict=True)):
        assert torch.equal(one, other) == (number not in (2, 6))


@pytest.mark.parametrize("way", prefill.WAYS)
def test_positions_restart_at_every_text_and_nowhere_else(way):
    module = tiny.module()
    assert prefill.takes(module, way)
    given = []
    hook = module.register_forward_pre_hook(lambda _, __, inputs: given.append(inputs), with_kwargs=True)
    list(packed(module, [prefill.Text(ids, [len(ids) - 1]) for ids in TEXTS], 64, way=way))
    hook.remove()
    found = []
    for inputs in given:
        for row, ids in enumerate(inputs["input_ids"].tolist()):
            if way == "rows":  # the model counts by itself, and nothing stands behind a text but padding
                assert "position_ids" not in inputs
                found.append([token for token in ids if token])
                continue
            for token, position in zip(ids, inputs["position_ids"][row].tolist(), strict=True):
                if position == 0:
                    found.append([])
                assert position == len(found[-1])
                found[-1].append(token)
    assert sorted(ids for ids in found if ids != [0]) == sorted(TEXTS), "a slot of padding is a text of its own, at position 0"
    assert way == "rows" or len(given) < len(TEXTS)


def test_what_is_shared_is_read_once():
    module = tiny.module()
    read = []
    hook = module.get_input_embeddings().register_forward_hook(lambda _, inputs, __: read.append(inputs[0].numel()))
    texts = [prefill.Text(ids, [len(ids) - 1]) for ids in TEXTS[8:]]
    prefill.way_of(module)
    for share, limit in ((0, 1000), (8, 1000), (8, 10)):
        read.clear()
        list(packed(module, texts, limit, share=share))
        assert sum(read) == (sum(map(len, TEXTS[8:])) if not share else len(SHARED) + 1 + 1 + 9)
    hook.remove()


def test_texts_of_one_length_are_the_padded_run():
    module = tiny.module()
    texts = [prefill.Text(RNG.integers(1, 250, 12).tolist(), [11]) for _ in range(6)]
    passes = bins.prepacked([12] * 6, 1000)
    assert passes == [[[0], [1], [2], [3], [4], [5]]]
    ours, usual = (by_text(each, texts) for each in (packed(module, texts, 1000), prefill.padded(module, texts, passes)))
    torch.testing.assert_close(torch.stack(ours), torch.stack(usual), atol=1e-6, rtol=0)


def test_the_mask_counts_what_each_slot_sees():
    """Sums over a row of the mask are position + 1, and padding sees itself alone: no row of nothing, so no NaN."""
    laid = [segments.Segment(0, 0, 3), segments.Segment(0, 3, 2, ((0, 3),)), segments.Segment(1, 0, 2)]
    mask = segments.Layout(laid).mask(2, 6, torch.float32, torch.device("cpu"))
    assert mask.shape == (2, 1, 6, 6)
    assert (mask == 0).sum(-1)[:, 0].tolist() == [[1, 2, 3, 4, 5, 1], [1, 2, 1, 1, 1, 1]]
    assert mask.softmax(-1).isfinite().all()


def test_padding_gives_no_nan_in_half_precision():
    module = tiny.module().to(torch.bfloat16)
    texts = [prefill.Text(ids, [len(ids) - 1]) for ids in TEXTS]
    for way in prefill.WAYS:
        assert all(logits.isfinite().all() for logits in by_text(packed(module, texts, 64, way=way), texts))


def test_a_mask_takes_no_window_and_a_window_is_kept_inside_a_segment():
    """Sliding windows: longer texts than the window, and a window that reaches back over a shared beginning."""
    config = transformers.MistralConfig(
        hidden_size=32, intermediate_size=48, num_attention_heads=4, num_key_value_heads=2, num_hidden_layers=2, sliding_window=5,
        vocab_size=60, max_position_embeddings=64,
    )  # fmt: skip
    torch.manual_seed(0)
    module = transformers.MistralForCausalLM(config).eval()
    texts = [prefill.Text([token % 60 for token in ids], range(len(ids))) for ids in TEXTS]
    assert prefill.way_of(module) == "segments"
    for limit in (16, 200):
        for found, text in zip(by_text(packed(module, texts, limit, share=8), texts), texts, strict=True):
            with torch.inference_mode():
                torch.testing.assert_close(found, module(input_ids=torch.tensor([text.ids])).logits[0], atol=1e-5, rtol=0)


STATES = {
    "mamba": lambda: transformers.MambaConfig(hidden_size=16, num_hidden_layers=2, state_size=4, vocab_size=60),
    "lfm2": lambda: transformers.Lfm2Config(
        hidden_size=32, intermediate_size=48, num_attention_heads=4, num_key_value_heads=2, num_hidden_layers=2, vocab_size=60,
        layer_types=["conv", "full_attention"],
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", STATES)
def test_a_model_that_keeps_a_state_goes_one_prompt_a_row(name):
    torch.manual_seed(0)
    module = transformers.AutoModelForCausalLM.from_config(STATES[name]()).eval()
    assert prefill.way_of(module) == "rows"
    assert not prefill.keeps(module)
    texts = [prefill.Text([token % 60 for token in ids], [len(ids) - 1]) for ids in TEXTS]
    for found, text in zip(by_text(packed(module, texts, 64), texts), texts, strict=True):
        with torch.inference_mode():
            torch.testing.assert_close(found[0], module(input_ids=torch.tensor([text.ids])).logits[0, -1], atol=1e-5, rtol=0)
    prompts = [list(text.ids) for text in texts[:3]]
    made = generation.generate(module, prompts, new_tokens=5, stop=frozenset())
    for ids, ours in zip(prompts, made, strict=True):
        given = torch.tensor([ids])
        theirs = module.generate(given, attention_mask=torch.ones_like(given), max_new_tokens=5, do_sample=False, eos_token_id=None)
        assert ours == theirs[0, len(ids) :].tolist()


def test_the_attention_is_put_back():
    module = tiny.module()
    before = module.config._attn_implementation
    readings = packed(module, [prefill.Text([1, 2], [1])], 8)
    next(readings)
    assert module.config._attn_implementation == segments.NAME
    readings.close()
    assert module.config._attn_implementation == before
