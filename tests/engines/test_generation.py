from __future__ import annotations

import numpy as np
import pytest
import tiny_models as tiny
import torch

from paredown.engines import generation

PROMPTS = [[0, 5, 9, 200], [0], [0, 7], [0, 3, 3, 3, 3, 3, 3, 3, 3, 60, 61]]


@pytest.mark.parametrize("shape", tiny.CAUSAL)
def test_a_batch_equals_one_by_one_and_transformers(shape):
    module = tiny.module(shape, seed=1)
    together = generation.generate(module, PROMPTS, new_tokens=20, stop=frozenset({0}))
    alone = [generation.generate(module, [p], new_tokens=20, stop=frozenset({0}))[0] for p in PROMPTS]
    assert together == alone
    assert any(len(set(made)) > 3 for made in alone)  # else the test would see nothing
    for prompt, made in zip(PROMPTS, alone, strict=True):
        ids = torch.tensor([prompt])
        theirs = module.generate(
            ids, attention_mask=torch.ones_like(ids), max_new_tokens=20, do_sample=False, eos_token_id=0, pad_token_id=0
        )
        expected = theirs[0, len(prompt) :].tolist()
        assert made == (expected[: expected.index(0)] if 0 in expected else expected)


def test_stops_at_an_end_token_and_rows_do_not_wait_for_each_other():
    module = tiny.module(seed=1)
    free = generation.generate(module, PROMPTS, new_tokens=12, stop=frozenset())
    assert [len(row) for row in free] == [12] * 4
    end = free[0][4]
    stopped = generation.generate(module, PROMPTS, new_tokens=12, stop=frozenset({end}))
    assert stopped == [row[: row.index(end)] if end in row else row for row in free]


def test_sampling_inverts_the_distribution():
    logits = torch.tensor([[1.0, 3.0, 2.0, -1.0]]).repeat(40_000, 1)
    uniforms = np.random.default_rng(0).random((40_000, 1))
    for temperature, top_k in ((1.0, 0), (0.5, 0), (2.0, 2)):
        picked = generation.sampled(uniforms, temperature, top_k)(logits, 0)
        expected = (logits[0].double() / temperature).softmax(0)
        if top_k:
            expected[[0, 3]] = 0
            expected /= expected.sum()
        assert torch.bincount(picked, minlength=4) / 40_000 == pytest.approx(expected.numpy(), abs=0.01)


def test_sampling_draws_the_same_alone_and_in_a_batch():
    module = tiny.module(seed=1, scale=0.1)
    uniforms = np.random.default_rng(0).random((4, 10))
    together = generation.generate(module, PROMPTS, new_tokens=10, stop=frozenset(), choose=generation.sampled(uniforms, 1.0, 50))
    for row, prompt in enumerate(PROMPTS):
        choose = generation.sampled(uniforms[row : row + 1], 1.0, 50)
        assert generation.generate(module, [prompt], new_tokens=10, stop=frozenset(), choose=choose)[0] == together[row]


def test_a_tiny_temperature_is_greedy():
    module = tiny.module(seed=1)
    choose = generation.sampled(np.full((4, 8), 0.999), 1e-6, 0)
    greedy = generation.generate(module, PROMPTS, new_tokens=8, stop=frozenset())
    assert generation.generate(module, PROMPTS, new_tokens=8, stop=frozenset(), choose=choose) == greedy


def test_stop_tokens_come_from_the_settings():
    module = tiny.module()
    module.generation_config.eos_token_id = [3, 4]
    assert generation.stop_tokens(module) == {3, 4}
    module.generation_config.eos_token_id = None
    assert generation.stop_tokens(module) == {0}


def test_timing_is_positive_and_the_loop_runs_to_the_end():
    timing = generation.timed_decode(tiny.module(), torch.ones((2, 8), dtype=torch.long), 5)
    assert timing.prefill > 0
    assert timing.decode > 0


@pytest.mark.parametrize(("top_p", "kept"), [(1.0, 4), (0.95, 3), (0.75, 2), (0.7, 2), (0.5, 1), (0.01, 1)])
def test_a_nucleus_is_the_likeliest_tokens_up_to_its_probability(top_p, kept):
    """Of 0.05, 0.5, 0.2, 0.25 the token that reaches the probability stays, and what is left is drawn in proportion."""
    probabilities = np.array([0.05, 0.5, 0.2, 0.25])
    order = [1, 3, 2, 0][:kept]
    draws = 2000
    uniforms = ((np.arange(draws) + 0.5) / draws)[:, None]
    logits = torch.from_numpy(np.log(probabilities)).float().repeat(draws, 1)
    drawn = generation.sampled(uniforms, 1.0, 0, top_p)(logits, 0)
    shares = np.bincount(drawn.numpy(), minlength=4) / draws
    wanted = np.where(np.isin(np.arange(4), order), probabilities, 0)
    assert np.abs(shares - wanted / wanted.sum()).max() < 2 / draws
