from __future__ import annotations

import pytest
import tiny_models as tiny
import torch

from paredown.core.context import Context, running
from paredown.core.errors import DataError, UserError
from paredown.infer.generate import Generate

TEXTS = ["def f(x):\n    return x + 1\n", "", "héllo wörld 漢字", "import os\n" * 20]


@pytest.fixture
def inputs(tmp_path):
    return tiny.model(tmp_path / "m" / "model"), tiny.tokens(tmp_path / "t", TEXTS)


def test_prompts_equal_transformers(inputs):
    model, _ = inputs
    prompts = ("def f(", "x", "", "漢字 = ")
    frame = Generate(prompts=prompts, new_tokens=12, batch=3)(model).frame()
    assert frame["prompt"].to_list() == list(prompts)
    assert frame["reference"].to_list() == [None] * 4
    module, tokenizer = model.load(), model.tokenizer
    for prompt, completion in zip(prompts, frame["completion"], strict=True):
        ids = torch.tensor([[0, *tokenizer(prompt)["input_ids"]]])
        theirs = module.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=12, do_sample=False)
        assert completion == tokenizer.decode(theirs[0, ids.shape[1] :], skip_special_tokens=True)


def test_beginnings_and_their_true_continuation(inputs):
    frame = Generate(documents=9, prompt_tokens=10, new_tokens=6)(*inputs).frame()
    found = dict(zip(frame["prompt"], frame["reference"], strict=True))
    assert found["def f(x):\n"[:10]] == "    re"
    assert found["import os\n"] == "import"
    assert len(found) == 3


def test_sampling_is_seeded_and_does_not_depend_on_the_batch(inputs, tmp_path):
    def run(name, seed, **knobs):
        with running(Context(folder=tmp_path / name, scratch=tmp_path, seed=seed)):
            return Generate(prompts=("a", "bcd", "ef"), new_tokens=10, temperature=1.5, top_k=40, **knobs)(inputs[0]).frame()

    first = run("a", 0)
    assert first.equals(run("b", 0))
    assert first.equals(run("c", 0, batch=1))
    assert not first.equals(run("d", 1))


def test_same_bytes_twice(inputs):
    first, second = Generate()(*inputs), Generate()(*inputs)
    assert (first.path / "examples.parquet").read_bytes() == (second.path / "examples.parquet").read_bytes()


def test_a_long_prompt_keeps_its_end(inputs, tmp_path):
    with running(Context(folder=tmp_path / "out", scratch=tmp_path)) as step:
        frame = Generate(prompts=("y" * 300 + "ab",), new_tokens=64)(inputs[0]).frame()
    assert step.facts == {"prompts": 1, "prompts_cut": 1, "new_tokens": 32}
    assert frame["prompt"][0].endswith("ab")
    assert 32 < step.cost.tokens <= 64


def test_nothing_to_complete(inputs):
    with pytest.raises(UserError, match="nothing to complete"):
        Generate()(inputs[0])
    with pytest.raises(DataError, match="longer than 500"):
        Generate(prompt_tokens=500)(*inputs)
