"""`learn.train` as a step: same bytes twice, stock transformers loads the result, mistakes are named."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny_models
import torch

from paredown.artifacts.model import Model
from paredown.artifacts.tokens import Tokens
from paredown.core.catalog import build, entry
from paredown.core.context import Context, running
from paredown.core.errors import DataError, UserError
from paredown.learn.models.llama import Llama
from paredown.learn.models.pretrained import Pretrained
from paredown.learn.models.resnet import Resnet
from paredown.learn.train import Train, training_flops

TEXTS = [f"def f{i}(x):\n    return x + {i} * {'y' * (i % 7)}\n" * (1 + i % 4) for i in range(40)]
SMALL: dict[str, Any] = {"length": 32, "batch_size": 4, "learning_rate": 1e-2, "device": "cpu", "precision": "fp32"}


def shape() -> Llama:
    return Llama(hidden_size=16, layers=1, heads=2, intermediate_size=24, max_length=64)


def tokens(folder: Path) -> Tokens:
    return tiny_models.tokens(folder / "tokens", TEXTS)


def run(folder: Path, strategy: Any, *inputs: Any, seed: int | None = 0) -> tuple[Any, Context]:
    step = Context(folder / "out", folder / "scratch", seed=seed, name="dense")
    with running(step):
        return strategy(*inputs), step


def digest(model: Model) -> dict[str, str]:
    return {p.name: hashlib.sha256(p.read_bytes()).hexdigest() for p in sorted(model.path.iterdir())}


def test_a_trained_model_loads_in_stock_transformers_and_generates(tmp_path):
    from transformers import AutoModelForCausalLM, AutoTokenizer

    source = tokens(tmp_path)
    model, step = run(tmp_path, Train(budget={"steps": 12}, evaluate_every=5, **SMALL), shape(), source, source)
    module, tokenizer = AutoModelForCausalLM.from_pretrained(model.path), AutoTokenizer.from_pretrained(model.path)
    found = module.generate(**tokenizer("def f", return_tensors="pt", return_token_type_ids=False), max_new_tokens=5, do_sample=False)
    assert tokenizer.decode(found[0]).startswith("def f")
    assert [p[0] for p in step.facts["curves"]["held_out_loss"]] == [5, 10, 12]
    assert step.facts["precision"] == "fp32"
    assert step.cost.tokens == step.facts["tokens"] > 0
    assert step.cost.flops_how == "counted"
    weights = sum(p.numel() for p in module.parameters())
    _, alone = run(tmp_path / "alone", Train(budget={"steps": 12}, **SMALL), shape(), source)
    assert 0.5 < alone.cost.flops / training_flops(weights, alone.cost.tokens) < 1.5
    from torch.utils.flop_counter import FlopCounterMode

    from paredown.engines.batches import evaluation, packed
    from paredown.engines.flops import CPU_ATTENTION

    with FlopCounterMode(display=False, custom_mapping=CPU_ATTENTION) as once, torch.no_grad():
        for batch in evaluation(packed(source, SMALL["length"]), SMALL["batch_size"], 16_384 // SMALL["length"]):
            module(input_ids=torch.from_numpy(batch["ids"]), use_cache=False)
    assert step.cost.flops - alone.cost.flops == 3 * once.get_total_flops(), "evaluations are part of the cost"


def test_same_seed_same_bytes_other_seed_other_bytes(tmp_path):
    source = tokens(tmp_path)
    strategy = Train(budget={"tokens": 600}, **SMALL)
    one, two, other = (run(tmp_path / n, strategy, shape(), source, seed=s)[0] for n, s in (("a", 0), ("b", 0), ("c", 1)))
    assert digest(one) == digest(two)
    assert digest(one) != digest(other)


def test_training_goes_on_from_a_model_and_leaves_it_as_it_was(tmp_path):
    source = tokens(tmp_path)
    base = tiny_models.model(tmp_path / "base" / "model")
    before = digest(base)
    healed, step = run(tmp_path, Train(budget={"steps": 20}, hooks=(build("learn.hooks.keep_zeros"),), **SMALL), base, source)
    assert digest(base) == before
    losses = [p[2] for p in step.facts["curves"]["loss"]]
    assert losses[-1] < losses[0]
    assert healed.tokenizer.get_vocab() == base.tokenizer.get_vocab()
    assert healed.load().dtype == base.load().dtype


def test_a_half_precision_model_stays_half_precision(tmp_path):
    base = Model.save(tmp_path / "base", tiny_models.module().to(torch.bfloat16))
    assert run(tmp_path, Train(budget={"steps": 1}, **SMALL), base, tokens(tmp_path))[0].load().dtype == torch.bfloat16


def test_it_works_in_a_notebook(tmp_path):
    model = Train(budget={"steps": 1}, **SMALL)(shape(), tokens(tmp_path))
    assert (model.path / "model.safetensors").exists()


def test_empty_tokens_are_an_error(tmp_path):
    with pytest.raises(DataError, match="nothing to train on"):
        run(tmp_path, Train(budget={"steps": 1}, **SMALL), shape(), tiny_models.tokens(tmp_path / "tokens", []))


def test_documents_without_a_token_to_predict_are_an_error(tmp_path):
    path = tmp_path / "tokens"
    Tokens.write(path, [], tokenizer=tiny_models.byte_tokenizer(), vocab_size=5)
    np.save(path / "ids.npy", np.zeros(2, np.uint16))
    np.save(path / "offsets.npy", np.array([0, 1, 2]))
    info = json.loads((path / "tokens.json").read_bytes()) | {"tokens": 2, "documents": 2}
    (path / "tokens.json").write_text(json.dumps(info))
    with pytest.raises(DataError, match="nothing to train on"):
        run(tmp_path, Train(budget={"steps": 1}, **SMALL), shape(), Tokens(path))


def test_mistakes_are_named(tmp_path):
    source = tokens(tmp_path)
    with pytest.raises(UserError, match="do not fit"):
        run(tmp_path / "a", Train(budget={"steps": 1}, length=65), shape(), source)
    small = Model.save(tmp_path / "small", Llama(hidden_size=16, layers=1, heads=2).build(50, 0))
    with pytest.raises(UserError, match="another vocabulary"):
        run(tmp_path / "b", Train(budget={"steps": 1}, **SMALL), small, source)
    for knobs in ({"budget": {"tokens": 5, "steps": 5}}, {"budget": {}}, {"budget": {"steps": 1}, "learning_rat": 1}):
        with pytest.raises(ValueError):
            Train(**knobs)


def test_it_diverges_with_the_step_named(tmp_path):
    with pytest.raises(DataError, match=r"no finite number .* at step \d+"):
        run(tmp_path, Train(budget={"steps": 60}, **{**SMALL, "learning_rate": 1e30, "clip": 0.0}), shape(), tokens(tmp_path))


def test_the_recipe_form_and_the_card():
    made = build({"use": "learn.train", "budget": {"tokens": 2e6}, "schedule": {"use": "learn.schedules.linear", "floor": 0.1}})
    assert made.spec()["schedule"] == {"use": "learn.schedules.linear", "floor": 0.1}
    assert build(made.spec()) == made
    card = entry("learn.train")
    assert all(knob.comment for knob in card.knobs)
    assert card.seeded


def test_the_estimate_knows_weights_tokens_and_time():
    guess = Train(budget={"tokens": 2e6}, device="cpu").estimate({"model": Llama(), "tokens": None})
    assert guess["tokens"] == 2e6
    assert 30 < guess["seconds"] < 2000
    assert Train(budget={"seconds": 60}).estimate({})["seconds"] == 60
    assert Train(budget={"steps": 10}, batch_size=4, length=32).estimate({})["tokens"] == 1280
    assert Train(budget={"flops": 1e12}).estimate({"model": Llama(), "tokens": None})["tokens"] > 0


def test_flops_do_not_foresee_how_many_images_a_convolution_sees():
    """A weight is used at every pixel, so six FLOPs a weight and row would foresee far too many rows, and so far too long a time."""
    inputs: dict[str, Any] = {"model": Resnet(), "examples": {"rows": 1000}}
    flops = Train(budget={"flops": 1e12}, device="cpu").estimate(inputs)
    assert flops["seconds"] == Train(budget={"flops": 1e12}, device="cpu").estimate({"model": Llama()})["seconds"] == 20
    assert "tokens" not in flops
    assert Train(budget={"epochs": 3}).estimate(inputs)["tokens"] == 3000
    assert Train(budget={"steps": 10}, batch_size=4).estimate(inputs)["tokens"] == 40


# --- several processes

SCRIPT = """
import sys; sys.path.insert(0, {tests!r})
from pathlib import Path
import tiny_models
from paredown.artifacts.tokens import Tokens
from paredown.core.context import Context, running
from paredown.learn.train import Train
from paredown.learn.models.llama import Llama
step = Context(Path({folder!r}) / "out", Path({folder!r}) / "scratch", seed=0)
with running(step):
    model = Train(budget={{"tokens": 1000}}, parallel={parallel!r}, **{small!r})(Llama(hidden_size=16, layers=1, heads=2, intermediate_size=24, max_length=64), Tokens({tokens!r}))
assert (model.path / "model.safetensors").exists()
print("tokens", step.cost.tokens, "flops", step.cost.flops)
"""


def weights(model: Model) -> dict[str, torch.Tensor]:
    return dict(model.load().named_parameters())


@pytest.mark.parametrize("parallel", ["ddp", "fsdp"])
def test_two_processes_under_torchrun_train_like_one(tmp_path, parallel):
    source = tokens(tmp_path)
    one, _step = run(tmp_path / "one", Train(budget={"tokens": 1000}, **SMALL), shape(), source)
    script = tmp_path / "script.py"
    folder = tmp_path / "two"
    script.write_text(
        SCRIPT.format(
            tests=str(Path(tiny_models.__file__).parent), folder=str(folder), parallel=parallel, small=SMALL, tokens=str(source.path)
        )
    )
    command = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--nproc-per-node=2",
        "--rdzv-backend=c10d",
        "--rdzv-endpoint=127.0.0.1:0",
        str(script),
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    assert "tokens 1000 " in done.stdout
    two = Model(folder / "out" / "model")
    for name, value in weights(one).items():
        torch.testing.assert_close(weights(two)[name], value, rtol=1e-2, atol=1e-3)


def test_processes_are_started_by_a_knob(tmp_path):
    source = tokens(tmp_path)
    knobs: dict[str, Any] = {"budget": {"tokens": 1000}, **SMALL}
    one, _ = run(tmp_path / "one", Train(**knobs), shape(), source)
    two, step = run(tmp_path / "two", Train(parallel="ddp", processes=2, **knobs), shape(), source)
    assert step.cost.tokens == 1000
    assert step.facts["processes"] == 2
    assert step.facts["curves"]["loss"]
    for name, value in weights(one).items():
        torch.testing.assert_close(weights(two)[name], value, rtol=1e-2, atol=1e-3)


def test_an_error_in_another_process_is_the_same_error(tmp_path):
    with pytest.raises(DataError, match="nothing to train on"):
        run(
            tmp_path, Train(parallel="ddp", processes=2, budget={"steps": 1}, **SMALL), shape(), tiny_models.tokens(tmp_path / "tokens", [])
        )


# --- models that exist


def test_a_pretrained_folder_is_taken_without_its_code(tmp_path):
    base = tiny_models.model(tmp_path / "base")
    (base.path / "modeling.py").write_text("raise SystemExit")
    model, _ = run(tmp_path, Pretrained(source=str(base.path)))
    assert not (model.path / "modeling.py").exists()
    assert all(torch.equal(value, weights(model)[name]) for name, value in weights(base).items())
    assert model.tokenizer.get_vocab() == base.tokenizer.get_vocab()


def test_a_pickled_checkpoint_is_refused(tmp_path):
    folder = tmp_path / "pickled"
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    (folder / "pytorch_model.bin").write_bytes(b"\x80\x04")
    with pytest.raises(DataError, match="pickle"):
        run(tmp_path, Pretrained(source=str(folder)))


def test_a_folder_that_is_not_there_is_named(tmp_path):
    with pytest.raises(UserError, match="no folder"):
        run(tmp_path, Pretrained(source=str(tmp_path / "none")))
    with pytest.raises(DataError, match=r"config\.json"):
        run(tmp_path, Pretrained(source=str(tmp_path)))


def test_what_a_local_folder_holds_is_part_of_the_key(tmp_path):
    base = tiny_models.model(tmp_path / "base")
    before = Pretrained(source=str(base.path)).external()
    (base.path / "config.json").write_text("{ }")
    assert Pretrained(source=str(base.path)).external() != before
    assert Pretrained(source="owner/name").external() == {"hub": "owner/name"}
