"""The loop: resume is bitwise, packing is invisible to the loss, FLOPs and budgets are exact, hooks act where they say."""

from __future__ import annotations

import math
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from paredown.core.catalog import build
from paredown.core.context import Context, Listener
from paredown.core.errors import DataError, UserError
from paredown.engines import checkpoints
from paredown.engines.batches import PackedRows, counted, shuffled_batch
from paredown.engines.flops import counter
from paredown.engines.parts import Budget, Hook, Objective, Schedule
from paredown.engines.trainer import fit
from paredown.engines.training import Outcome, Setup, State

LENGTH = 16


def rows(documents: int = 40, longest: int = 60, vocab: int = 32, seed: int = 0) -> PackedRows:
    rng = np.random.default_rng(seed)
    offsets = np.concatenate([[0], np.cumsum(rng.integers(2, longest, documents))]).astype(np.int64)
    return PackedRows(rng.integers(0, vocab, offsets[-1]), offsets, LENGTH)


def llama(**knobs: Any) -> nn.Module:
    torch.manual_seed(0)
    part = build({"use": "learn.models.llama", "hidden_size": 16, "layers": 2, "heads": 2, "intermediate_size": 24, **knobs})
    return part.build(32, 0)


def setup(budget: dict[str, float], **knobs: Any) -> Setup:
    values = {"learning_rate": 1e-2, "warmup": 0.1, "device": "cpu", "precision": "fp32", **knobs}
    parts = [build(f"learn.{name}") for name in ("objectives.next_token", "optimizers.adamw", "schedules.cosine")]
    names = ("objective", "optimizer", "schedule")
    return Setup(**{**dict(zip(names, parts, strict=True)), "budget": Budget(**budget), **values})


def train(folder: Path, budget: dict[str, float], module: nn.Module | None = None, held_out: Any = (), **knobs: Any) -> Outcome:
    step = Context(folder / "out", folder / "scratch", seed=0, listener=knobs.pop("listener", Listener()))
    source = rows()
    batches = knobs.pop("batches", lambda state: shuffled_batch(source, 0, state.step, 4))
    return fit(module or llama(), batches, setup(budget, **knobs), seed=3, step=step, held_out=held_out)


@pytest.mark.parametrize(
    ("budget", "expected"), [({"tokens": 200.0}, 0.35), ({"steps": 10}, 0.4), ({"flops": 1e3}, 0.5), ({"seconds": 6.0}, 0.5)]
)
def test_the_share_of_any_budget(budget, expected):
    nothing: Any = None
    done = {"tokens": 70, "step": 4, "flops": 500.0, "seconds": 3.0}
    state = State(nothing, nothing, nothing, setup(budget), 0, nothing, nothing, **done)
    assert state.spent() == expected
    assert state.spent({next(iter(budget)): next(iter(budget.values()))}) == expected + 0.5


def weights(module: nn.Module) -> dict[str, torch.Tensor]:
    return {name: p.detach().clone() for name, p in module.named_parameters()}


def same(a: nn.Module, b: nn.Module) -> bool:
    x, y = weights(a), weights(b)
    return x.keys() == y.keys() and all(torch.equal(x[name], y[name]) for name in x)


class Stopped(Exception):
    pass


class StopAt(Hook):
    """Raises at the point of a step, once."""

    at: int
    point: str = "step"

    def loss(self, state: State) -> None:
        self._maybe("loss", state.step)

    def step(self, state: State) -> None:
        self._maybe("step", state.step - 1)

    def _maybe(self, point: str, step: int) -> None:
        if point == self.point and step == self.at:
            raise Stopped


# --- packing


def small_models() -> dict[str, Any]:
    import transformers as t

    common: dict[str, Any] = {"vocab_size": 32, "bos_token_id": 0, "eos_token_id": 0}
    shape: dict[str, Any] = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "max_position_embeddings": 64}
    kv = {**shape, "num_key_value_heads": 1, "intermediate_size": 24}
    return {
        "llama": t.LlamaConfig(**common, **kv),
        "mistral": t.MistralConfig(**common, **kv, sliding_window=6, head_dim=8),
        "qwen2": t.Qwen2Config(**common, **kv),
        "qwen3": t.Qwen3Config(**common, **kv, head_dim=8),
        "gpt2": t.GPT2Config(**common, n_embd=16, n_layer=2, n_head=2, n_positions=64, resid_pdrop=0, embd_pdrop=0, attn_pdrop=0),
        "gpt_neox": t.GPTNeoXConfig(**common, **shape, intermediate_size=24),
        "opt": t.OPTConfig(**common, **shape, ffn_dim=24, word_embed_proj_dim=16, dropout=0.0),
    }


@pytest.mark.parametrize("family", list(small_models()))
@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_packed_loss_equals_the_loss_of_each_document_alone(family, attention):
    from transformers import AutoModelForCausalLM

    torch.manual_seed(0)
    module = AutoModelForCausalLM.from_config(small_models()[family], attn_implementation=attention).eval()
    source = rows(documents=30, longest=2 * LENGTH)
    objective = build("learn.objectives.next_token")
    batch = source.fill(np.arange(source.rows))
    assert "positions" in batch
    packed = {name: torch.from_numpy(value) for name, value in batch.items()}
    with torch.no_grad():
        found, n = objective.loss(module, packed)
        total, count = 0.0, 0
        for row in range(source.rows):
            for start, size in source.windows(row):
                ids = torch.from_numpy(source.ids[start : start + size + 1])
                logits = module(input_ids=ids[None, :-1]).logits[0]
                total += nn.functional.cross_entropy(logits, ids[1:], reduction="sum").item()
                count += size
    assert n == count == counted(batch)
    assert abs(found.item() - total / count) < 1e-5


# --- FLOPs


def test_counted_flops_equal_torchs_counter(tmp_path):
    """Eager attention, which torch's own counter sees whole: its count of every batch, added up."""
    module = llama()
    module.set_attn_implementation("eager")
    outcome = train(tmp_path, {"steps": 7}, module)
    source, expected = rows(), 0
    fresh = llama()
    fresh.set_attn_implementation("eager")
    build("learn.objectives.next_token").prepare(fresh)
    for index in range(7):
        batch = {name: torch.from_numpy(v) for name, v in shuffled_batch(source, 0, index, 4).items()}
        with FlopCounterMode(display=False) as counting:
            build("learn.objectives.next_token").loss(fresh, batch)[0].backward()
        expected += counting.get_total_flops()
    assert outcome.flops == expected > 0


def test_attention_of_a_cpu_is_counted_as_that_of_a_gpu():
    from torch.utils.flop_counter import sdpa_backward_flop_count, sdpa_flop_count

    shape = (2, 3, 8, 4)
    q, k, v = (torch.randn(shape, requires_grad=True) for _ in range(3))
    with counter() as counting:
        nn.functional.scaled_dot_product_attention(q, k, v, is_causal=True).sum().backward()
    expected = sdpa_flop_count(shape, shape, shape) + sdpa_backward_flop_count(shape, shape, shape, shape)
    assert counting.get_total_flops() == expected


# --- budgets


@pytest.mark.parametrize("tokens", [1, 63, 64, 65, 500])
def test_a_budget_of_tokens_is_exact(tmp_path, tokens):
    outcome = train(tmp_path, {"tokens": tokens})
    assert outcome.tokens == tokens


def test_a_budget_of_steps_is_exact(tmp_path):
    assert train(tmp_path, {"steps": 5}).steps == 5


def test_a_budget_of_flops_ends_with_the_batch_that_reaches_it(tmp_path):
    one = train(tmp_path / "one", {"steps": 1}).flops
    outcome = train(tmp_path / "more", {"flops": 6.5 * one})
    assert outcome.flops >= 6.5 * one
    assert outcome.flops < 8 * one


def test_a_budget_of_seconds_ends_with_the_batch_that_reaches_it(tmp_path):
    outcome = train(tmp_path, {"seconds": 0.3})
    assert 0.3 <= outcome.seconds < 5
    assert outcome.steps >= 1


# --- resume


@pytest.mark.parametrize(("at", "point"), [(1, "loss"), (6, "step"), (13, "loss"), (22, "step")])
def test_a_training_that_died_goes_on_bit_for_bit(tmp_path, at, point):
    """With dropout, so that random numbers count too; a checkpoint after every step, then death at any place."""
    held = [rows(seed=9).fill(np.arange(3))]
    knobs: dict[str, Any] = {"evaluate_every": 5, "held_out": held, "log_every": 4}

    def fresh() -> nn.Module:
        module = llama()
        module.config.attention_dropout = 0.1
        for layer in module.model.layers:
            layer.self_attn.attention_dropout = 0.1
        return module

    whole = train(tmp_path / "whole", {"tokens": 1500}, fresh(), **knobs)
    with pytest.raises(Stopped):
        train(tmp_path / "killed", {"tokens": 1500}, fresh(), checkpoint_seconds=1e-9, hooks=(StopAt(at=at, point=point),), **knobs)
    again = train(tmp_path / "killed", {"tokens": 1500}, fresh(), **knobs)
    assert same(whole.module, again.module)
    assert again.facts["curves"] == whole.facts["curves"]
    assert (again.steps, again.tokens, again.flops) == (whole.steps, whole.tokens, whole.flops)
    assert again.facts["resumed_at"] <= at
    assert whole.facts["resumed_at"] == 0


def test_a_torn_checkpoint_is_passed_over(tmp_path):
    """Saving is held to 5% of the time, so each of two deaths leaves one checkpoint at least."""
    whole = train(tmp_path / "whole", {"steps": 12})
    for at in (4, 8):
        with pytest.raises(Stopped):
            train(tmp_path / "killed", {"steps": 12}, checkpoint_seconds=1e-9, hooks=(StopAt(at=at),))
    folder = tmp_path / "killed" / "scratch" / "checkpoints"
    newest = checkpoints.newest(folder)
    assert newest is not None
    data = bytearray(newest.read_bytes())
    data[-5] ^= 1
    newest.write_bytes(bytes(data))
    (folder / "draft-1").write_bytes(b"half")
    before = checkpoints.newest(folder)
    assert before is not None
    assert before != newest
    again = train(tmp_path / "killed", {"steps": 12})
    assert 0 < again.facts["resumed_at"] < 8
    assert same(whole.module, again.module)


SCRIPT = """
import sys; sys.path.insert(0, {tests!r})
from pathlib import Path
from test_trainer import train
import torch
outcome = train(Path(sys.argv[1]), {{"steps": 150}}, checkpoint_seconds=1e-9)
torch.manual_seed(0)
from safetensors.torch import save_file
save_file({{n: p.detach().clone() for n, p in outcome.module.named_parameters()}}, sys.argv[1] + "/final.safetensors")
"""


def test_sigkill_and_ctrl_c_lose_nothing(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(SCRIPT.format(tests=str(Path(__file__).parent)))
    whole = train(tmp_path / "whole", {"steps": 150})
    folder = tmp_path / "killed"
    folder.mkdir()
    for how, code in ((signal.SIGKILL, -signal.SIGKILL), (signal.SIGINT, 1), (None, 0)):
        child = subprocess.Popen([sys.executable, script, folder], stderr=subprocess.PIPE, env=os.environ)
        if how is not None:
            seen = checkpoints.newest(folder / "scratch" / "checkpoints")
            deadline = time.monotonic() + 60
            while checkpoints.newest(folder / "scratch" / "checkpoints") == seen and child.poll() is None and time.monotonic() < deadline:
                time.sleep(0.02)
            child.send_signal(how)
        errors = child.communicate(timeout=120)[1].decode()
        assert child.returncode in (code, -signal.SIGINT), errors
        if how is signal.SIGINT:
            assert "it goes on from there" in errors
    from safetensors.torch import load_file

    final = load_file(folder / "final.safetensors")
    assert all(torch.equal(final[name], value) for name, value in weights(whole.module).items())


def test_the_callers_random_numbers_are_left_alone(tmp_path):
    module = llama()
    torch.manual_seed(1)
    np.random.seed(1)
    expected = torch.rand(1), np.random.rand()
    torch.manual_seed(1)
    np.random.seed(1)
    train(tmp_path, {"steps": 2}, module)
    assert (torch.rand(1), np.random.rand()) == expected


# --- the loop


def test_the_loop_equals_a_bare_one(tmp_path):
    """Same batches, plain torch: the same weights. The counted first batch of a shape rounds otherwise, hence 1e-6."""
    outcome = train(tmp_path, {"steps": 10}, clip=0.5, warmup=0.0)
    bare, source = llama().train(), rows()
    optimizer = build("learn.optimizers.adamw").build(bare)
    for index in range(10):
        batch = shuffled_batch(source, 0, index, 4)
        positions = {"position_ids": torch.from_numpy(batch["positions"])} if "positions" in batch else {}
        logits = bare(input_ids=torch.from_numpy(batch["ids"]), use_cache=False, **positions).logits
        nn.functional.cross_entropy(logits.flatten(0, 1), torch.from_numpy(batch["targets"]).flatten()).backward()
        nn.utils.clip_grad_norm_(bare.parameters(), 0.5)
        for group in optimizer.param_groups:
            group["lr"] = 1e-2 * (1 + math.cos(math.pi * (index + 0.5) / 10)) / 2
        optimizer.step()
        optimizer.zero_grad()
    for name, value in weights(bare).items():
        torch.testing.assert_close(weights(outcome.module)[name], value, rtol=1e-4, atol=1e-5)


def test_micro_batches_give_the_same_training(tmp_path):
    one = train(tmp_path / "1", {"steps": 8})
    four = train(tmp_path / "4", {"steps": 8}, accumulate=3)
    assert one.tokens == four.tokens
    for name, value in weights(one.module).items():
        torch.testing.assert_close(weights(four.module)[name], value, rtol=1e-3, atol=2e-4)


class Note(Hook):
    def start(self, state: State) -> None:
        state.memory["seen"] = ["start"]

    def batch(self, state: State) -> None:
        assert "ids" in state.batch
        state.memory["seen"].append("batch")

    def loss(self, state: State) -> None:
        assert state.loss.requires_grad
        state.memory["seen"].append("loss")

    def gradient(self, state: State) -> None:
        assert all(p.grad is not None for p in state.module.parameters())
        state.memory["seen"].append("gradient")

    def step(self, state: State) -> None:
        assert all(p.grad is None for p in state.module.parameters())
        state.memory["seen"].append("step")

    def end(self, state: State) -> None:
        assert state.memory["seen"] == ["start", *["batch", "loss", "batch", "loss", "gradient", "step"] * 2]
        state.memory["seen"] = None
        state.module.noted = True


def test_hooks_are_called_where_the_loop_says(tmp_path):
    assert train(tmp_path, {"steps": 2}, hooks=(Note(),), accumulate=2).module.noted


class Average(Hook):
    """Keeps a running mean of the weights in the checkpoint."""

    def start(self, state: State) -> None:
        state.kept.setdefault("average", {name: p.detach().clone() for name, p in state.module.named_parameters()})

    def step(self, state: State) -> None:
        for name, p in state.module.named_parameters():
            state.kept["average"][name].lerp_(p.detach(), 0.1)

    def end(self, state: State) -> None:
        for name, p in state.module.named_parameters():
            p.data.copy_(state.kept["average"][name])


def test_what_hooks_keep_is_resumed(tmp_path):
    whole = train(tmp_path / "whole", {"steps": 10}, hooks=(Average(),))
    with pytest.raises(Stopped):
        train(tmp_path / "killed", {"steps": 10}, hooks=(Average(), StopAt(at=6)), checkpoint_seconds=1e-9)
    again = train(tmp_path / "killed", {"steps": 10}, hooks=(Average(),))
    assert again.facts["resumed_at"] > 0
    assert same(whole.module, again.module)


class Regression(Objective):
    """Mean squared error on rows that are no tokens at all."""

    def loss(self, module: nn.Module, batch: dict[str, Any]) -> tuple[torch.Tensor, int]:
        return nn.functional.mse_loss(module(batch["x"]), batch["y"]), len(batch["x"])


class Constant(Schedule):
    def factor(self, progress: float) -> float:
        return 1.0


def test_any_module_with_any_objective(tmp_path):
    rng = np.random.default_rng(0)
    truth = rng.normal(size=(5, 1))

    def batches(state: State) -> dict[str, Any]:
        x = np.random.default_rng(state.step).normal(size=(64, 5))
        return {"x": x.astype(np.float32), "y": (x @ truth).astype(np.float32)}

    torch.manual_seed(0)
    module = nn.Linear(5, 1)
    knobs: dict[str, Any] = {"objective": Regression(), "schedule": Constant(), "learning_rate": 0.05, "clip": 0.0, "batches": batches}
    outcome = train(tmp_path, {"steps": 300}, module, **knobs)
    assert outcome.facts["curves"]["loss"][-1][2] < 1e-2
    assert outcome.tokens == 300 * 64


class Poison(Hook):
    at: int

    def loss(self, state: State) -> None:
        if state.step == self.at:
            state.loss = state.loss * float("nan")


def test_a_loss_that_is_no_number_ends_with_the_step_and_the_last_good_checkpoint(tmp_path):
    with pytest.raises(DataError) as raised:
        train(tmp_path / "a", {"steps": 30}, hooks=(Poison(at=16),), checkpoint_seconds=1e-9)
    assert "step 17" in raised.value.what
    assert "the checkpoint of step" in raised.value.kept
    with pytest.raises(DataError) as raised:
        train(tmp_path / "b", {"steps": 30}, hooks=(Poison(at=16),), log_every=10)
    assert "step 17" in raised.value.what
    assert "no checkpoint" in raised.value.kept


class Heard(Listener):
    def __init__(self) -> None:
        self.points: list[tuple[str, int]] = []
        self.told: list[tuple[float, float | None, str]] = []

    def curve(self, metric: str, step: int, value: float, tokens: int) -> None:
        self.points.append((metric, step))

    def progress(self, done: float, total: float | None, unit: str, note: str) -> None:
        self.told.append((done, total, unit))


def test_curves_and_progress_are_told(tmp_path):
    heard = Heard()
    held = [rows(seed=9).fill(np.arange(3))]
    outcome = train(tmp_path, {"steps": 25}, listener=heard, held_out=held, evaluate_every=10)
    assert heard.points == [("loss", 10), ("held_out_loss", 10), ("loss", 20), ("held_out_loss", 20), ("loss", 25), ("held_out_loss", 25)]
    assert [p[0] for p in outcome.facts["curves"]["loss"]] == [10, 20, 25]
    assert outcome.held_out_loss == outcome.facts["curves"]["held_out_loss"][-1][2]
    assert heard.told[0][1:] == (25.0, "steps")


def test_long_curves_are_thinned(tmp_path):
    from paredown.engines.telemetry import POINTS, thin

    points = [[i, 10 * i, float(i)] for i in range(1, 2 * POINTS + 2)]
    found = thin(points)
    assert len(found) == POINTS + 1
    assert found[0] == [2, 20, 1.5]
    assert found[-1] == points[-1]


def test_tensorboard_gets_the_curves(tmp_path):
    train(tmp_path, {"steps": 20}, trackers=("tensorboard",), tracker_folder=str(tmp_path / "logs"))
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    (file,) = (tmp_path / "logs").rglob("events*")
    events = EventAccumulator(str(file))
    events.Reload()
    assert [e.step for e in events.Scalars("loss")] == [10, 20]


def test_trackers_that_cannot_start_say_so(tmp_path):
    with pytest.raises(UserError, match="tracker_folder"):
        train(tmp_path, {"steps": 1}, trackers=("tensorboard",))
    with pytest.raises(UserError, match="no tracker tensorbord"):
        train(tmp_path, {"steps": 1}, trackers=("tensorbord",), tracker_folder=str(tmp_path))


def test_compiled_training_is_the_same_and_counts_the_same(tmp_path):
    plain, compiled = nn.Linear(5, 1), nn.Linear(5, 1)
    compiled.load_state_dict(plain.state_dict())
    batch = {"x": np.ones((8, 5), np.float32), "y": np.ones((8, 1), np.float32)}
    knobs: dict[str, Any] = {"objective": Regression(), "batches": lambda state: batch}
    one = train(tmp_path / "1", {"steps": 5}, plain, **knobs)
    try:
        two = train(tmp_path / "2", {"steps": 5}, compiled, compile=True, **knobs)
    except RuntimeError as error:
        pytest.skip(f"no compiler on this machine: {str(error)[:80]}")
    assert one.flops == two.flops > 0
    torch.testing.assert_close(weights(one.module), weights(two.module))
