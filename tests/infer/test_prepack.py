"""Prepacking and its controls: the same logits, keys and tokens from all of them; what each computes is what it says."""

from __future__ import annotations

import numpy as np
import pytest
import tiny_models as tiny
import torch

from paredown.core.errors import UserError
from paredown.engines import generation
from paredown.engines.prefill import Text
from paredown.infer.length_sorted import LengthSorted, sorted_batches
from paredown.infer.one_by_one import OneByOne, singles
from paredown.infer.pad_batch import PadBatch, in_order
from paredown.infer.prepack import Prepack, prepacked_rows

RNG = np.random.default_rng(5)
PROMPTS = [RNG.integers(1, 250, length).tolist() for length in (3, 1, 17, 40, 8, 8, 25, 1, 2, 33, 12)]
WAYS = [
    PadBatch(),
    PadBatch(batch=4),
    LengthSorted(batch=3),
    Prepack(),
    Prepack(batch_tokens=41, share=0),
    Prepack(attention="mask"),
    Prepack(attention="rows"),
    Prepack(packing="exact"),
    Prepack(drop_last=True, spare_slot=True, attention="mask", share=0),  # the published form
    Prepack(capacity=64, least_gain=4.0),
]


def test_pure_faces():
    assert in_order(5, 2) == [[[0], [1]], [[2], [3]], [[4]]]
    assert sorted_batches([5, 1, 3, 1], 3) == [[[1], [3], [2]], [[0]]]
    assert singles(2) == [[[0]], [[1]]]
    assert prepacked_rows([4, 2, 2, 1]) == [[0], [1, 2], [3]]
    assert prepacked_rows([6, 5, 4, 3, 3, 3], 12, exact=True) != prepacked_rows([6, 5, 4, 3, 3, 3], 12)
    assert prepacked_rows([]) == []


@pytest.mark.parametrize("how", WAYS, ids=lambda how: f"{how.strategy_name()}{' '.join(sorted(how.model_fields_set))}")
def test_every_way_gives_the_logits_and_the_tokens_of_one_by_one(how):
    module = tiny.module(seed=1, scale=0.1)
    expected, found = (each.begin(module, PROMPTS, 4) for each in (OneByOne(), how))
    torch.testing.assert_close(found.logits, expected.logits, atol=1e-5, rtol=0)
    assert found.lengths == expected.lengths == [len(prompt) for prompt in PROMPTS]
    alone, together = (generation.generate(module, PROMPTS, new_tokens=16, stop=frozenset({0}), how=each) for each in (OneByOne(), how))
    assert together == alone


def computed(how):
    """Tokens that go through the model."""
    module = tiny.module()
    how.begin(module, PROMPTS, 1)  # trying which way the module takes is not counted
    seen = []
    module.get_input_embeddings().register_forward_hook(lambda _, inputs, __: seen.append(inputs[0].numel()))
    list(how.read(module, [Text(prompt, [len(prompt) - 1]) for prompt in PROMPTS]))
    return sum(seen)


def test_what_is_computed():
    real, longest = sum(map(len, PROMPTS)), max(map(len, PROMPTS))
    assert computed(OneByOne()) == computed(Prepack()) == real
    assert computed(PadBatch()) == longest * len(PROMPTS)
    lengths = sorted(map(len, PROMPTS))
    assert computed(LengthSorted(batch=4)) == sum(len(lengths[at : at + 4]) * lengths[at : at + 4][-1] for at in (0, 4, 8))
    rows = prepacked_rows([len(prompt) for prompt in PROMPTS])
    assert computed(Prepack(attention="mask")) == len(rows) * max(sum(len(PROMPTS[i]) for i in row) for row in rows)


def test_a_module_that_cannot_take_the_published_mask_says_so():
    with pytest.raises(UserError, match="does not take attention: mask"):
        Prepack(attention="mask").begin(tiny.module("mistral"), PROMPTS, 1)
