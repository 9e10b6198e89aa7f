"""RS2: coverage, quotas, and that without replacement it is plain training under a shorter budget, bit for bit."""

from __future__ import annotations

import math
import tracemalloc
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from paredown.artifacts.examples import Examples
from paredown.core.catalog import build
from paredown.core.context import Context, running
from paredown.core.errors import UserError
from paredown.engines.orders import apportioned
from paredown.engines.parts import Draw, Hook
from paredown.learn.samplers.rs2 import Rs2, round_size
from paredown.learn.samplers.shuffled import Shuffled
from paredown.learn.train import Train


@dataclass(frozen=True)
class Rows:
    """So many rows, without content."""

    rows: int
    labels: tuple[int, ...] = ()

    def fill(self, chosen: Any, generator: Any) -> dict[str, Any]:
        return {}

    def column(self, name: str) -> Any:
        return np.array(self.labels)


def stream(sampler: Any, rows: Rows, places: int, size: int = 1, seed: int = 3) -> np.ndarray[Any, Any]:
    """The first `places` indices of all batches laid end to end."""
    batches = [sampler.choose(rows, Draw(seed, index, size)) for index in range(-(-places // size))]
    assert all(len(batch) == size for batch in batches)
    return np.concatenate(batches)[:places]


SHAPES = st.tuples(st.integers(1, 80), st.floats(0.01, 1), st.integers(0, 9), st.integers(1, 17))


@settings(deadline=None)
@given(SHAPES)
def test_no_replacement_counts_differ_by_one_at_most(shape: tuple[int, float, int, int]) -> None:
    rows, fraction, seed, size = shape
    count = round_size(rows, fraction)
    read = stream(Rs2(fraction=fraction), Rows(rows), math.ceil(rows / count) * count, size, seed)
    seen = np.bincount(read, minlength=rows)
    assert seen.max() - seen.min() <= 1
    assert seen.min() >= 1


def test_a_permutation_that_is_used_up_within_a_round_is_followed_by_a_fresh_one() -> None:
    """10 rows in rounds of 3: the fourth round is whole, and the first ten places hold every row once (the reference is one short there)."""
    read = stream(Rs2(fraction=0.3), Rows(10), 40)
    assert all(sorted(read[begin : begin + 10].tolist()) == list(range(10)) for begin in range(0, 40, 10))
    assert len(read[9:12]) == round_size(10, 0.3)


@settings(deadline=None)
@given(SHAPES)
def test_no_replacement_reads_what_plain_shuffling_reads(shape: tuple[int, float, int, int]) -> None:
    rows, fraction, seed, size = shape
    for sampler in (Rs2(fraction=fraction), Rs2(fraction=1.0, mode="replacement")):
        assert stream(sampler, Rows(rows), 3 * rows, size, seed).tolist() == stream(Shuffled(), Rows(rows), 3 * rows, size, seed).tolist()


@settings(deadline=None)
@given(SHAPES)
def test_rounds_with_replacement_are_distinct_rows_drawn_anew(shape: tuple[int, float, int, int]) -> None:
    rows, fraction, seed, size = shape
    count = round_size(rows, fraction)
    rounds = stream(Rs2(fraction=fraction, mode="replacement"), Rows(rows), 5 * count, size, seed).reshape(5, count)
    assert all(len(set(row)) == count for row in rounds.tolist())


def test_coverage_with_replacement_is_the_closed_form() -> None:
    """N (1 - (1 - r)^m) distinct rows after m rounds, within four standard deviations (of independent rows, which is more than there is)."""
    rows, share = 5000, 0.1
    for seed in range(3):
        read = stream(Rs2(fraction=share, mode="replacement"), Rows(rows), 12 * 500, 50, seed).reshape(12, 500)
        for m in (2, 5, 12):
            missed = (1 - share) ** m
            assert abs(len(np.unique(read[:m])) - rows * (1 - missed)) <= 4 * math.sqrt(rows * missed * (1 - missed))
    together = np.concatenate([stream(Rs2(fraction=share, mode="replacement"), Rows(rows), 500, 50, seed) for seed in range(40)])
    counts = np.bincount(together, minlength=rows)
    assert abs(counts.var() / (40 * share * (1 - share)) - 1) < 0.1, "every row is as likely as any other"


@settings(deadline=None)
@given(st.lists(st.integers(1, 40), min_size=1, max_size=6), st.floats(0.2, 1), st.integers(0, 5), st.integers(1, 13))
def test_stratified_rounds_hold_the_quotas_and_each_class_is_used_up_before_it_comes_again(sizes, fraction, seed, size) -> None:
    labels = tuple(np.random.default_rng(seed).permutation(np.repeat(np.arange(len(sizes)), sizes)).tolist())
    rows = Rows(len(labels), labels)
    count = round_size(rows.rows, fraction)
    shares = np.array(sizes) * count / len(labels)
    sampler = Rs2(fraction=fraction, mode="stratified")
    if (apportioned(np.array(sizes), count) == 0).any():
        with pytest.raises(UserError, match="would never be drawn"):
            stream(sampler, rows, 1, size, seed)
        return
    rounds = stream(sampler, rows, 6 * count, size, seed).reshape(6, count)
    quotas = [np.bincount(np.array(labels)[row], minlength=len(sizes)) for row in rounds]
    assert all((quota == quotas[0]).all() and quota.sum() == count for quota in quotas)
    assert (np.abs(quotas[0] - shares) < 1).all()
    for label in range(len(sizes)):
        own = rounds.ravel()[np.array(labels)[rounds.ravel()] == label]
        seen = np.bincount(own, minlength=rows.rows)[np.array(labels) == label]
        assert seen.max() - seen.min() <= 1


@settings(deadline=None)
@given(SHAPES)
def test_static_rounds_are_always_of_the_same_rows(shape: tuple[int, float, int, int]) -> None:
    rows, fraction, seed, size = shape
    count = round_size(rows, fraction)
    rounds = stream(Rs2(fraction=fraction, mode="static"), Rows(rows), 4 * count, size, seed).reshape(4, count)
    assert len({tuple(sorted(row)) for row in rounds.tolist()}) == 1
    assert len(set(rounds[0].tolist())) == count


def test_static_subsets_depend_on_the_seed_and_orders_on_the_round() -> None:
    subset = [stream(Rs2(fraction=0.1, mode="static"), Rows(1000), 300, 10, seed).reshape(3, 100) for seed in (0, 1)]
    assert set(subset[0][0].tolist()) != set(subset[1][0].tolist())
    assert subset[0][0].tolist() != subset[0][1].tolist()


@pytest.mark.parametrize("mode", ["no_replacement", "replacement", "stratified", "static"])
def test_any_batch_can_be_asked_for(mode: Any) -> None:
    rows = Rows(60, tuple(n % 3 for n in range(60)))
    forward = [Rs2(fraction=0.3, mode=mode).choose(rows, Draw(1, index, 7)).tolist() for index in range(20)]
    again = [Rs2(fraction=0.3, mode=mode).choose(rows, Draw(1, index, 7)).tolist() for index in reversed(range(20))]
    assert forward == again[::-1]
    assert forward != [Rs2(fraction=0.3, mode=mode).choose(rows, Draw(2, index, 7)).tolist() for index in range(20)]


@pytest.mark.parametrize("mode", ["no_replacement", "replacement", "static"])
def test_memory_does_not_grow_with_the_rows(mode: Any) -> None:
    sampler = Rs2(fraction=0.1, mode=mode)
    sampler.choose(Rows(10_000_000), Draw(0, 0, 64))
    tracemalloc.start()
    for index in (1, 5, 999_999):
        sampler.choose(Rows(10_000_000), Draw(0, index, 64))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 200_000


def test_a_label_that_no_round_would_hold_is_an_error() -> None:
    with pytest.raises(UserError, match="1 labels would never be drawn, such as 7: a round has 5 rows") as found:
        Rs2(fraction=0.05, mode="stratified").choose(Rows(100, (0,) * 97 + (7,) * 3), Draw(0, 0, 4))
    assert "raise fraction" in found.value.todo


# in a training ------------------------------------------------------------------------------------------------------


class Rates(Hook):
    """Remember the learning rates."""

    seen: ClassVar[list[float]] = []

    def start(self, state: Any) -> None:
        self.seen.clear()

    def step(self, state: Any) -> None:
        self.seen.append(state.learning_rate)


def examples(folder: Path, rows: int = 96) -> Examples:
    draw = np.random.default_rng(0)
    label = np.arange(rows) % 3
    features = draw.normal(size=(rows, 4)) + label[:, None]
    return Examples.write(folder, pl.DataFrame({"features": pl.Series(features, dtype=pl.Array(pl.Float64, 4)), "label": label}))


def trained(folder: Path, data: Examples, sampler: Any, budget: dict[str, Any], **knobs: Any) -> tuple[dict[str, Any], Context]:
    step = Context(folder / "out", folder / "scratch", 5, "train")
    strategy = Train(
        budget=budget, sampler=sampler, objective=build("learn.objectives.classification"), batch_size=8, warmup=0, device="cpu",
        precision="fp32", **knobs,
    )  # fmt: skip
    with running(step):
        model = strategy(build({"use": "learn.models.mlp", "inputs": 4, "hidden": [6], "classes": 3}), examples=data)
    return {name: tensor.numpy() for name, tensor in model.load().state_dict().items()}, step


def same(a: dict[str, Any], b: dict[str, Any]) -> bool:
    return all(np.array_equal(a[name], b[name]) for name in a)


def test_full_rounds_are_plain_training_bit_for_bit(tmp_path: Path) -> None:
    data = examples(tmp_path / "examples", 90)  # 8 does not divide 90
    plain, _ = trained(tmp_path / "plain", data, Shuffled(), {"epochs": 2})
    for mode in ("no_replacement", "replacement"):
        assert same(plain, trained(tmp_path / mode, data, Rs2(fraction=1.0, mode=mode), {"epochs": 2})[0])
    assert not same(plain, trained(tmp_path / "other", data, Rs2(fraction=0.5, mode="replacement"), {"epochs": 2})[0])


def test_rounds_without_replacement_are_full_epochs_under_the_shorter_budget_bit_for_bit(tmp_path: Path) -> None:
    """8 rounds of a quarter are 2 epochs."""
    data = examples(tmp_path / "examples")
    full, step = trained(tmp_path / "full", data, Shuffled(), {"epochs": 2})
    rounds, other = trained(tmp_path / "rounds", data, Rs2(fraction=0.25), {"epochs": 8 * 0.25})
    assert same(full, rounds)
    assert step.facts["steps"] == other.facts["steps"] == 8 * 24 // 8


def test_the_schedule_spans_exactly_all_rounds(tmp_path: Path) -> None:
    trained(tmp_path, examples(tmp_path / "examples"), Rs2(fraction=0.25), {"epochs": 8 * 0.25}, learning_rate=0.1, hooks=(Rates(),))
    steps = 24
    assert Rates.seen == pytest.approx([0.1 * (1 + math.cos(math.pi * (i + 0.5) / steps)) / 2 for i in range(steps)])


def test_it_reads_packed_rows_of_text_as_it_reads_examples(tmp_path: Path) -> None:
    import tiny_models

    from paredown.engines.batches import packed

    rows = packed(tiny_models.tokens(tmp_path / "tokens", [f"def f{i}(x): return x + {i}\n" * 3 for i in range(60)]), 16)
    read = stream(Rs2(fraction=0.1), rows, rows.rows, 4)  # type: ignore[arg-type]
    assert sorted(read.tolist()) == list(range(rows.rows))
    assert rows.fill(read[:4])["ids"].shape == (4, 16)
    with pytest.raises(UserError, match="rows of tokens have no label"):
        Rs2(fraction=0.1, mode="stratified").choose(rows, Draw(0, 0, 4))  # type: ignore[arg-type]
