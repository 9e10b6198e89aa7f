from __future__ import annotations

import pytest
import tiny_models as tiny
import torch

from paredown.artifacts.model import Model
from paredown.artifacts.tokens import Tokenizer
from paredown.core.context import Context, running
from paredown.core.errors import DataError, UserError
from paredown.engines import encoder_decoders, generation
from paredown.engines.byte_pairs import extended
from paredown.infer.answerers.local import Local
from paredown.infer.generate import Generate

TEXTS = ["def f(x):\n    return x + 1\n", "", "héllo wörld 漢字", "import os\n" * 20]


@pytest.fixture
def inputs(tmp_path):
    return tiny.model(tmp_path / "m" / "model"), tiny.tokens(tmp_path / "t", TEXTS)


def test_prompts_equal_transformers(inputs):
    model, _ = inputs
    prompts = ("def f(", "x", "", "漢字 = ")
    frame = Generate(prompts=prompts, new_tokens=12)(model).frame()
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
    def run(name, seed, answerer=inputs[0]):
        (tmp_path / name).mkdir()
        with running(Context(folder=tmp_path / name / "out", scratch=tmp_path / name, seed=seed)):
            return Generate(prompts=("a", "bcd", "ef", "a"), new_tokens=10, temperature=1.5, top_k=40)(answerer).frame()

    first = run("a", 0)
    assert first.equals(run("b", 0))
    alone = Local(model=inputs[0], batch_tokens=1)
    assert first.equals(run("c", 0, alone))
    assert not first.equals(run("d", 1))
    assert first["completion"][0] != first["completion"][3], "a prompt that stands twice is drawn twice"


def test_same_bytes_twice(inputs):
    first, second = Generate()(*inputs), Generate()(*inputs)
    assert (first.path / "examples.parquet").read_bytes() == (second.path / "examples.parquet").read_bytes()


def test_a_long_prompt_keeps_its_end(inputs, tmp_path):
    with running(Context(folder=tmp_path / "out", scratch=tmp_path)) as step:
        frame = Generate(prompts=("y" * 300 + "ab",), new_tokens=64)(inputs[0]).frame()
    assert (step.facts["prompts"], step.facts["prompts_cut"]) == (1, 1)
    (usage,) = step.facts["answers"].values()
    assert usage["prompt_tokens"] == 32
    assert usage["cut_tokens"] == 303 - 32, "300 letters, two more and the mark of the beginning"
    assert usage["flops"] == step.cost.flops > 0
    assert frame["prompt"][0].endswith("ab")
    assert 32 < step.cost.tokens <= 64


def test_nothing_to_complete(inputs):
    with pytest.raises(UserError, match="nothing to complete"):
        Generate()(inputs[0])
    with pytest.raises(DataError, match="longer than 500"):
        Generate(prompt_tokens=500)(*inputs)


def test_the_mode_of_a_model_is_put_before_each_prompt(tmp_path):
    folder = tmp_path / "t"
    folder.mkdir()
    (folder / "tokenizer.json").write_text(extended(tiny.byte_tokenizer(), ["[NLU]", "[S2S]", "<extra_id_0>"]))
    module = tiny.module(seed=1)
    module.resize_token_embeddings(tiny.VOCABULARY + 3)
    with torch.no_grad():
        module.get_input_embeddings().weight[-3:].normal_(0, 0.3)
    encoder_decoders.note(module, prefix=False, modes={"R": "[NLU]", "S": "[S2S]"})
    model = Model.save(tmp_path / "model", module, Tokenizer(folder).fast)

    def answers(*prompts, **knobs):
        return Generate(prompts=prompts, new_tokens=8)(Local(model=model, **knobs)).frame()["completion"].to_list()

    def expected(ids):
        made = generation.generate(module, [ids], new_tokens=8, stop=frozenset({0}))[0]
        return model.tokenizer.decode([i for i in made if i not in (257, 258)])

    r, s, gap = 257, 258, 259
    a = model.tokenizer("a")["input_ids"][0]
    assert answers("a") == answers("a", mode="[S2S]") == [expected([s, 0, a])]
    assert answers("a", mode="[NLU]") == [expected([r, 0, a])]
    assert answers("a", mode="") == [expected([0, a])]
    assert answers("a<extra_id_0>a") == [expected([r, 0, a, gap, a])]
    assert len({answers("a", mode=mode)[0] for mode in ("", "[NLU]", "[S2S]")}) == 3
    with pytest.raises(UserError, match=r"no token '\[NLG\]'"):
        answers("a", mode="[NLG]")
    long = Generate(prompts=("y" * 300,), new_tokens=64)(model)
    assert long.rows == 1
