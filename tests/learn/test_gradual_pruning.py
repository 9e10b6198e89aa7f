"""Gradual pruning in a training: exact counts at exact places, nothing grows back, killed and resumed is the same."""

from __future__ import annotations

import itertools
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from paredown.core.catalog import build
from paredown.core.context import Context
from paredown.core.errors import UserError
from paredown.engines.masks import share
from paredown.engines.parts import Budget, Hook
from paredown.engines.sparse_training import average_share, prunable, token_shares
from paredown.engines.trainer import fit
from paredown.engines.training import Outcome, Setup, State
from paredown.learn.hooks.gradual_pruning import NAME, GradualPruning
from paredown.learn.hooks.keep_zeros import KeepZeros

ROWS, LENGTH, VOCAB = 4, 16, 32
TOKENS = ROWS * LENGTH  # of a step
STEPS = 120  # of a training whose averages are looked at


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Tensors are tiny, and threads that wait for each other slow them down."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def llama(seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    made: nn.Module = build({"use": "learn.models.llama", "hidden_size": 16, "layers": 2, "heads": 2, "intermediate_size": 24}).build(
        VOCAB, 0
    )
    return made


def batch(state: Any) -> dict[str, Any]:
    ids = np.random.default_rng(state.step).integers(0, VOCAB, (ROWS, LENGTH + 1)).cumsum(axis=1) % VOCAB
    return {"ids": ids[:, :-1], "targets": ids[:, 1:]}


def train(
    folder: Path, *hooks: Hook, module: nn.Module | None = None, budget: dict[str, Any] | None = None, seed: int = 3, **knobs: Any
) -> Outcome:
    uses = {"objective": "objectives.next_token", "optimizer": "optimizers.adamw", "schedule": "schedules.cosine"}
    parts = {name: build(f"learn.{use}") for name, use in uses.items()}
    values = {"learning_rate": 1e-2, "device": "cpu", "precision": "fp32", **knobs}
    setup = Setup(**parts, budget=Budget(**(budget or {"tokens": 60 * TOKENS})), hooks=hooks, **values)
    return fit(module or llama(), batch, setup, seed=seed, step=Context(folder / "out", folder / "scratch", seed=0))


def bits(module: nn.Module) -> dict[str, bytes]:
    return {name: p.detach().numpy().tobytes() for name, p in module.named_parameters()}


def zeros(module: nn.Module) -> dict[str, int]:
    return {name: int((p == 0).sum()) for name, p in prunable(module).items()}


LOG: list[dict[str, Any]] = []


class Watch(Hook):
    """Behind the pruning: notes what each step was trained with, and checks what a mask promises."""

    def start(self, state: State) -> None:
        LOG.clear()

    def gradient(self, state: State) -> None:
        taken = state.memory[NAME].taken
        for name, mask in taken.items():
            gradient = state.module.get_parameter(name).grad
            assert gradient is not None
            assert not gradient[mask].any()
        assert state.active == sum(p.numel() for p in state.module.parameters()) - sum(int(m.sum()) for m in taken.values())
        LOG.append({"active": state.active, "tokens": state.tokens})

    def step(self, state: State) -> None:
        masks = state.memory[NAME]
        for name, mask in masks.taken.items():
            parameter = state.module.get_parameter(name)
            kept = state.optimizer.state[parameter]
            for value in (parameter, kept["exp_avg"], kept["exp_avg_sq"]):
                assert not value[mask].any()
            assert kept["exp_avg"][~mask].any(), "the others go on"
        tokens, taken = state.tokens - LOG[-1]["tokens"], {name: mask.clone() for name, mask in masks.taken.items()}
        LOG[-1] |= {"step": state.step, "tokens": tokens, "place": state.spent(), "count": masks.count, "taken": taken}


class StopAt(Hook):
    at: int
    gently: bool = False  # as by Ctrl-C: with a checkpoint of the step

    def step(self, state: State) -> None:
        if state.step == self.at:
            if not self.gently:
                raise InterruptedError
            os.kill(os.getpid(), signal.SIGINT)


# --- counts


@pytest.mark.parametrize(
    ("schedule", "scope", "score"),
    [("cubic", "global", "magnitude"), ("linear", "uniform", "magnitude"), ("cubic", "uniform", "random"), ("linear", "global", "random")],
)
def test_counts_follow_the_schedule_and_nothing_grows_back(tmp_path, schedule, scope, score):
    hook = GradualPruning(sparsity=0.7, schedule=schedule, scope=scope, score=score, every=4)
    outcome = train(tmp_path, hook, Watch())
    sizes = [p.numel() for p in prunable(llama()).values()]
    begin, finish = token_shares(0.7, 0.25, 0.75, schedule)
    reached, events = 0.0, 0
    for row in LOG:
        if row["step"] % 4 == 0 or row["place"] >= finish:
            x = min(1.0, max(0.0, (row["place"] - begin) / (finish - begin)))
            reached = 0.7 * (x if schedule == "linear" else 1 - (1 - x) ** 3)
        slack = 1 if scope == "global" else len(sizes)
        assert row["count"] == pytest.approx(reached * sum(sizes), abs=slack)
        assert row["place"] > begin or row["count"] == 0
        assert row["place"] < finish or row["count"] == (share(sum(sizes), 0.7) if scope == "global" else sum(share(n, 0.7) for n in sizes))
    for before, after in itertools.pairwise(LOG):
        assert all(bool(after["taken"][name][mask].all()) for name, mask in before["taken"].items())
        events += after["count"] > before["count"]
    assert events >= 5
    assert sum(zeros(outcome.module).values()) == LOG[-1]["count"]
    if scope == "uniform":
        assert list(zeros(outcome.module).values()) == [share(n, 0.7) for n in sizes]


@pytest.mark.parametrize(("schedule", "begin", "finish"), [("cubic", 0.25, 0.75), ("linear", 0, 0.5), ("linear", 0.5, 1)])
def test_the_average_of_active_weights_is_the_closed_form(tmp_path, schedule, begin, finish):
    """Over tokens; each pruning comes at most `every` steps late, so the average lies above it by less than one such interval."""
    train(
        tmp_path,
        GradualPruning(sparsity=0.75, begin=begin, finish=finish, schedule=schedule, every=2),
        Watch(),
        budget={"tokens": STEPS * TOKENS},
    )
    n, total = sum(p.numel() for p in prunable(llama()).values()), sum(p.numel() for p in llama().parameters())
    tokens = sum(row["tokens"] for row in LOG)
    assert tokens == STEPS * TOKENS
    average = sum((row["active"] - (total - n)) * row["tokens"] for row in LOG) / tokens / n
    expected = average_share(0.75, begin, finish, schedule)
    assert expected - 1e-3 < average < expected + 0.75 * 2 / STEPS
    costs = np.cumsum([(row["active"] - (total - n)) * row["tokens"] for row in LOG])
    first = next(i for i, row in enumerate(LOG) if row["count"])
    last = next(i for i, row in enumerate(LOG) if row["count"] == share(n, 0.75))
    assert costs[first] / costs[-1] == pytest.approx(begin, abs=0.05), "it begins where so much of the compute is spent"
    assert costs[last] / costs[-1] == pytest.approx(finish, abs=0.02)


def test_the_trainer_reports_the_average(tmp_path):
    outcome = train(tmp_path, GradualPruning(sparsity=0.6, every=3), Watch())
    found, tokens = outcome.facts["training"]["parameters"], sum(row["tokens"] for row in LOG)
    total = sum(p.numel() for p in llama().parameters())
    assert found["initial"] == total
    assert found["final"] == total - LOG[-1]["count"] == total - sum(zeros(outcome.module).values())
    assert found["average"] == pytest.approx(sum(row["active"] * row["tokens"] for row in LOG) / tokens)


# --- places


def test_one_shot_comes_at_one_place(tmp_path):
    """At half of the compute, at the first step at or behind that share of the tokens, whatever `every` is."""
    train(tmp_path, GradualPruning(sparsity=0.5, begin=0.5, finish=0.5, every=50), Watch())
    counts = [row["count"] for row in LOG]
    n = sum(p.numel() for p in prunable(llama()).values())
    at = next(i for i, row in enumerate(LOG) if row["place"] >= 0.5 / (0.5 + 0.5 / 0.5))  # a third of the tokens
    assert counts == [0] * at + [n // 2] * (60 - at)


def test_sparse_from_the_beginning(tmp_path):
    module = llama()
    outcome = train(tmp_path, GradualPruning(sparsity=0.9, begin=0, finish=0, scope="uniform"), Watch(), module=module)
    assert len({row["active"] for row in LOG}) == 1
    assert outcome.facts["training"]["parameters"]["initial"] == LOG[0]["active"]
    for name, p in prunable(llama()).items():
        smallest = p.detach().abs().flatten().argsort(stable=True)[: share(p.numel(), 0.9)]
        held = torch.zeros(p.numel(), dtype=torch.bool)
        held[smallest] = True
        assert torch.equal(module.get_parameter(name).detach().flatten() == 0, held), "the smallest of the fresh weights"


@pytest.mark.parametrize("budget", [{"tokens": 37 * TOKENS + 5}, {"steps": 37}, {"flops": 3e7}, {"seconds": 0.5}])
def test_at_the_very_end(tmp_path, budget):
    outcome = train(tmp_path, GradualPruning(sparsity=0.5, begin=1, finish=1), budget=budget)
    n = sum(p.numel() for p in prunable(llama()).values())
    assert sum(zeros(outcome.module).values()) == n // 2


def test_a_sparsity_of_nothing_is_the_dense_training(tmp_path):
    dense, none = train(tmp_path / "dense"), train(tmp_path / "none", GradualPruning(sparsity=0, every=1))
    assert bits(dense.module) == bits(none.module)
    assert dense.facts["curves"] == none.facts["curves"]
    assert dense.facts["training"] == none.facts["training"]


def test_until_it_begins_it_is_the_dense_training(tmp_path):
    with pytest.raises(InterruptedError):
        train(tmp_path / "sparse", GradualPruning(begin=0.9, finish=1, every=1), StopAt(at=30), module=(sparse := llama()))
    with pytest.raises(InterruptedError):
        train(tmp_path / "dense", StopAt(at=30), module=(dense := llama()))
    assert bits(dense) == bits(sparse)


def test_random_depends_on_the_seed_and_magnitude_on_the_weights(tmp_path):
    knobs: dict[str, Any] = {"sparsity": 0.5, "begin": 0, "finish": 0}

    def left(score: str, seed: int) -> dict[str, bytes]:
        module = train(tmp_path / f"{score}{seed}", GradualPruning(score=score, **knobs), seed=seed, budget={"steps": 1}).module
        return {name: (p == 0).numpy().tobytes() for name, p in prunable(module).items()}

    one, magnitude = left("random", 1), left("magnitude", 1)
    assert one != left("random", 2)
    assert one != magnitude == left("magnitude", 2)
    counts = [sum(mask) / len(mask) for mask in one.values()]
    assert all(0.3 < c < 0.7 for c in counts), "about the same share of each layer"


# --- again, and after a kill


@pytest.mark.parametrize(("score", "kills"), [("magnitude", ((7, True), (21, True), (34, False))), ("random", ((21, True),))])
def test_killed_and_resumed_is_uninterrupted_and_that_is_the_same_twice(tmp_path, score, kills):
    hook = GradualPruning(sparsity=0.8, score=score, every=3)
    whole, twice = (train(tmp_path / name, hook, Watch()) for name in ("one", "two"))
    assert bits(whole.module) == bits(twice.module)
    for at, gently in kills:
        with pytest.raises(KeyboardInterrupt if gently else InterruptedError):
            train(tmp_path / "killed", hook, Watch(), StopAt(at=at, gently=gently))
    again = train(tmp_path / "killed", hook, Watch())
    assert again.facts["resumed_at"] == 21
    assert LOG[0]["active"] < sum(p.numel() for p in llama().parameters()), "it goes on sparse"
    assert bits(again.module) == bits(whole.module)
    assert again.facts["training"] == whole.facts["training"]


def test_with_kept_zeros_both_hold_and_the_count_is_of_both(tmp_path):
    module = llama()
    with torch.no_grad():
        for p in prunable(module).values():
            p[:, ::2] = 0
    outcome = train(tmp_path, KeepZeros(), GradualPruning(sparsity=0.7, every=5), module=module)
    assert all(not bool(p[:, ::2].any()) for p in prunable(outcome.module).values())
    n, total = sum(p.numel() for p in prunable(module).values()), sum(p.numel() for p in module.parameters())
    assert sum(zeros(outcome.module).values()) == share(n, 0.7), "zeros go first"
    found = outcome.facts["training"]["parameters"]
    assert (found["initial"], found["final"]) == (total - n // 2, total - share(n, 0.7))


# --- mistakes


def test_mistakes_are_named(tmp_path):
    with pytest.raises(ValueError, match="before begin"):
        GradualPruning(begin=0.6, finish=0.5)
    for knobs in ({"sparsity": 1.0}, {"begin": -0.1}, {"finish": 1.1}, {"every": 0}, {"score": "movement"}):
        with pytest.raises(ValueError):
            GradualPruning(**knobs)
    with pytest.raises(UserError, match="twice"):
        train(tmp_path, GradualPruning(), GradualPruning(sparsity=0.2))


SCRIPT = """
import sys; sys.path.insert(0, {here!r})
from pathlib import Path
import torch
from test_gradual_pruning import LOG, ROWS, GradualPruning, Watch, train
outcome = train(Path({folder!r}), GradualPruning(sparsity=0.8, every=3), Watch(), parallel="ddp")
mine = torch.cat([m.flatten() for row in LOG for m in row["taken"].values()]).to(torch.uint8)
both = [torch.empty_like(mine) for _ in range(2)]
torch.distributed.all_gather(both, mine)
assert torch.equal(*both) and mine.any(), "each process has the same masks at every step"
zeros = sum(int((p == 0).sum()) for p in outcome.module.parameters())
Path({folder!r}).with_name(f"seen-{{torch.distributed.get_rank()}}").write_text(f"{{zeros}} zeros, {{LOG[-1]['count']}} counted")
"""


def test_two_processes_have_the_same_masks(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(SCRIPT.format(here=str(Path(__file__).parent), folder=str(tmp_path / "run")))
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node=2", "--rdzv-backend=c10d", "--rdzv-endpoint=127.0.0.1:0"]
    done = subprocess.run([*command, str(script)], capture_output=True, text=True, timeout=120, check=False, env=os.environ)
    assert done.returncode == 0, done.stderr[-3000:]
    n = share(sum(p.numel() for p in prunable(llama()).values()), 0.8)
    assert [(tmp_path / f"seen-{rank}").read_text() for rank in range(2)] == [f"{n} zeros, {n} counted"] * 2
