"""Verdicts on constructed numbers: the right one for every kind of claim, the interval of scipy's paired t, and every refusal's reason."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from scipy import stats
from toy_runs import run  # type: ignore[import-not-found]

from paredown.artifacts.scores import Scores
from paredown.cli import tables
from paredown.core import compare, statistics
from paredown.core.compare import Judged
from paredown.core.plan import Plan
from paredown.core.recipe import Claim
from paredown.core.workspace import Record

Made = tuple[Plan, dict[str, Record]]
VALUES = {  # of seeds 0 to 4; lower is better in the step low, higher in the step high
    "control": (1.00, 1.04, 0.96, 1.02, 0.98),
    "half": (0.50, 0.55, 0.47, 0.51, 0.46),
    "twice": (2.00, 2.05, 1.94, 2.02, 1.97),
    "close": (1.002, 1.037, 0.963, 1.018, 0.981),
    "wild": (0.20, 2.50, 1.90, 0.10, 1.20),
}


def judge(made: Made, metric: str, arm: str, kind: str = "beats", other: str = "control", margin: float = 0.0, budget: str = "") -> Judged:
    plan, records = made
    return compare.judge(Claim(metric, arm, kind, other, margin, budget), plan, records, tables.reader(plan, records))


def recipe(steps: str, arms: dict[str, str], seeds: str = "[0, 1, 2]") -> str:
    return f"seeds: {seeds}\nsteps:\n{steps}\narms:\n" + "".join(f"  {arm}: {{{said}}}\n" for arm, said in arms.items())


@pytest.fixture(scope="module")
def given(tmp_path_factory: pytest.TempPathFactory) -> Made:
    steps = "  numbers: {use: toy.numbers}\n" + "\n".join(
        f"  {better[:-2]}: {{use: toy.given, corpus: $numbers, better: {better}}}" for better in ("lower", "higher")
    )
    arms = {arm: f"low.values: {list(values)}, high.values: {list(values)}" for arm, values in VALUES.items()}
    return run(recipe(steps, arms, "[0, 1, 2, 3, 4]"), tmp_path_factory.mktemp("given"))


def read(made: Made, arm: str, step: str, seed: int) -> Scores:
    plan, records = made
    return Scores(records[plan.names(arm, seed)[step]].folder / "scores")


@pytest.mark.parametrize(
    ("arm", "kind", "margin", "low", "high"),  # the verdicts where lower is better and where higher is
    [
        ("half", "beats", 0.0, "holds", "fails"),
        ("twice", "beats", 0.0, "fails", "holds"),
        ("wild", "beats", 0.0, "undecided", "undecided"),
        ("half", "beats", 0.45, "holds", "fails"),
        ("half", "beats", 0.55, "fails", "fails"),
        ("half", "beats", 0.5, "undecided", "fails"),
        ("twice", "beats", 0.9, "fails", "holds"),
        ("close", "beats", 0.01, "fails", "fails"),
        ("half", "not_worse_than", 0.0, "holds", "fails"),
        ("twice", "not_worse_than", 0.1, "fails", "holds"),
        ("twice", "not_worse_than", 1.1, "holds", "holds"),
        ("close", "not_worse_than", 0.01, "holds", "holds"),
        ("wild", "not_worse_than", 0.1, "undecided", "undecided"),
        ("close", "equals", 0.01, "holds", "holds"),
        ("half", "equals", 0.1, "fails", "fails"),
        ("twice", "equals", 0.1, "fails", "fails"),
        ("twice", "equals", 1.1, "holds", "holds"),
        ("wild", "equals", 0.5, "undecided", "undecided"),
        ("wild", "equals", 9.0, "holds", "holds"),
    ],
)
def test_every_kind_of_claim_gets_the_verdict_that_is_known(given: Made, arm: str, kind: str, margin: float, low: str, high: str) -> None:
    for step, expected in (("low", low), ("high", high)):
        judged = judge(given, f"{step}.loss", arm, kind, margin=margin)
        assert judged.verdict == expected, step
        assert bool(judged.reason) == (expected == "undecided")


@pytest.mark.parametrize("arm", ["half", "twice", "close", "wild"])
def test_the_interval_is_the_paired_t_of_what_lies_in_the_workspace(given: Made, arm: str) -> None:
    ours, theirs = ([read(given, name, "low", seed).value("loss") for seed in range(5)] for name in (arm, "control"))
    assert (tuple(ours), tuple(theirs)) == (VALUES[arm], VALUES["control"])
    expected = stats.ttest_rel(ours, theirs)
    interval = expected.confidence_interval(0.95)
    judged = judge(given, "low.loss", arm)
    assert judged.means == pytest.approx([np.mean(ours), np.mean(theirs)])
    assert judged.difference == pytest.approx(np.mean(ours) - np.mean(theirs))
    assert (judged.low, judged.high) == pytest.approx((interval.low, interval.high))
    assert (judged.method, judged.n, judged.items, judged.better) == ("paired t", 5, 0, "lower")
    assert (judged.verdict == "undecided") == (expected.pvalue > 0.05)
    other = judge(given, "low.loss", "control", other=arm)
    assert (other.low, other.high) == pytest.approx((-interval.high, -interval.low))


NOISY = "  numbers: {use: toy.numbers, count: 12}\n  score: {use: toy.noisy, corpus: $numbers}"


@pytest.fixture(scope="module")
def noisy(tmp_path_factory: pytest.TempPathFactory) -> Made:
    arms = {
        "control": "", "better": "score.shift: -0.2", "same": "score.shift: 0.0001",
        "moving": "score.moving: true", "apart": "score.moving: true, score.shift: -0.2",
    }  # fmt: skip
    return run(recipe(NOISY, arms), tmp_path_factory.mktemp("noisy"))


def test_items_count_where_all_seeds_and_both_arms_measured_the_same(noisy: Made) -> None:
    rows: dict[str, list[Any]] = {}
    weights = None
    for arm in ("better", "control"):
        for seed in range(3):
            scores = read(noisy, arm, "score", seed)
            items = scores.items()
            assert items is not None
            items = items.filter(pl.col("metric") == "loss").sort("item")
            weights = items["weight"].to_numpy()
            rows.setdefault(arm, []).append(items["value"].to_numpy())
            assert scores.value("loss") == pytest.approx(np.average(rows[arm][-1], weights=weights))
    expected = statistics.paired_interval_over_items(np.stack(rows["better"]), np.stack(rows["control"]), weights)
    judged = judge(noisy, "score.loss", "better")
    assert judged.method == "paired t over seeds and items"
    assert (judged.n, judged.items) == (3, 12)
    assert (judged.difference, judged.low, judged.high) == (expected.mean, expected.low, expected.high)
    assert judged.verdict == "holds"
    assert judged.difference == pytest.approx(judged.means[0] - judged.means[1])  # type: ignore[operator]
    assert judge(noisy, "score.loss", "same", "equals", margin=0.5).verdict == "holds"


@pytest.mark.parametrize(("arm", "other"), [("apart", "moving"), ("apart", "control"), ("better", "moving")])
def test_items_do_not_count_where_they_differ(noisy: Made, arm: str, other: str) -> None:
    judged = judge(noisy, "score.loss", arm, other=other)
    ours, theirs = ([read(noisy, name, "score", seed).value("loss") for seed in range(3)] for name in (arm, other))
    interval = stats.ttest_rel(ours, theirs).confidence_interval(0.95)
    assert (judged.method, judged.items) == ("paired t", 0)
    assert (judged.low, judged.high) == pytest.approx((interval.low, interval.high))


def test_seeds_that_share_one_run_are_no_seeds_but_a_count_is_decided(tmp_path: Path) -> None:
    steps = """\
  words: {use: toy.words}
  double: {use: toy.double, corpus: $words}
  measured: {use: toy.length, corpus: $double}
  counted: {use: toy.length, corpus: $double, unit: bytes}"""
    made = run(recipe(steps, {"control": "", "long": "double.mark: '****'"}, "[0, 1, 2, 3]"), tmp_path)
    measured = judge(made, "measured.length", "control", other="long")
    assert (measured.verdict, measured.low) == ("no verdict", None)
    assert measured.reason == "the seeds share one run: nothing before measured draws random numbers"
    counted = judge(made, "counted.length", "control", other="long", margin=2.5)
    assert (counted.verdict, counted.low, counted.high, counted.difference) == ("holds", -3.0, -3.0, -3.0)
    assert counted.method == "exact: every seed differs by the same"
    assert judge(made, "counted.length", "control", other="long", margin=3.0).verdict == "fails", "by 3 means by more than 3"
    assert judge(made, "counted.length", "long", "not_worse_than").verdict == "fails"
    assert judge(made, "counted.length", "long", "equals", margin=3.0).verdict == "holds"


def test_a_measured_metric_that_differs_by_the_same_at_every_seed_is_undecided(tmp_path: Path) -> None:
    steps = "  numbers: {use: toy.numbers}\n  score: {use: toy.given, corpus: $numbers, values: [1.0, 2.0, 4.0]}"
    arms = {"control": "", "lower": "score.values: [0.5, 1.5, 3.5]", "same": "score.nan_at: 9", "bytes": "score.unit: bytes"}
    made = run(recipe(steps, arms), tmp_path)
    for arm, difference in (("lower", -0.5), ("same", 0.0)):
        judged = judge(made, "score.loss", arm)
        assert (judged.verdict, judged.low, judged.high) == ("undecided", None, None)
        assert judged.difference == difference
        assert judged.reason == judged.method == "no interval: every seed differs by the same"
    assert judge(made, "score.loss", "bytes", "equals").verdict == "holds"


def test_a_plain_fact_can_equal_but_not_beat(tmp_path: Path) -> None:
    steps = "  numbers: {use: toy.numbers}\n  score: {use: toy.given, corpus: $numbers, better: none, values: [1.0, 2.0, 4.0]}"
    made = run(recipe(steps, {"control": "", "other": "score.values: [1.1, 1.9, 4.1]"}), tmp_path)
    judged = judge(made, "score.loss", "other")
    assert (judged.verdict, judged.reason) == ("no verdict", "loss is a plain fact: neither more nor less of it is better")
    assert judge(made, "score.loss", "other", "equals", margin=1.0).verdict == "holds"


@pytest.mark.parametrize(("seeds", "says"), [("[5]", "1 seed; a verdict takes 3"), ("[0, 1]", "2 seeds; a verdict takes 3")])
def test_few_seeds_give_means_but_no_verdict(tmp_path: Path, seeds: str, says: str) -> None:
    steps = "  numbers: {use: toy.numbers}\n  score: {use: toy.given, corpus: $numbers}"
    made = run(recipe(steps, {"control": "", "better": "score.values: [0.5]"}, seeds), tmp_path)
    judged = judge(made, "score.loss", "better")
    assert (judged.verdict, judged.reason, judged.means, judged.difference) == ("no verdict", says, [0.5, 1.0], -0.5)
    assert judged.low is None


def test_a_value_that_is_missing_or_no_number_is_named_by_arm_and_seed(tmp_path: Path) -> None:
    steps = "  numbers: {use: toy.numbers}\n  score: {use: toy.given, corpus: $numbers, values: [1.0, 1.1, 0.9]}"
    arms = {"control": "", "nan": "score.nan_at: 1", "gone": "score.missing_at: 2", "renamed": "score.metric: other"}
    made = run(recipe(steps, arms), tmp_path)
    for arm, other, reason in (
        ("nan", "control", "score.loss is nan in arm nan, seed 1"),
        ("control", "nan", "score.loss is nan in arm nan, seed 1"),
        ("gone", "control", "score.loss is missing in arm gone, seed 2"),
        ("control", "renamed", "score.loss is missing in arm renamed, seed 0, 1, 2"),
    ):
        judged = judge(made, "score.loss", arm, other=other)
        assert (judged.verdict, judged.reason, judged.difference, judged.low) == ("no verdict", reason, None, None)


TRAINED = """\
  numbers: {use: toy.numbers}
  train: {use: toy.trained, corpus: $numbers, tokens: 600, flops: 1e9}
  more: {use: toy.trained, corpus: $train, tokens: 400}
  score: {use: toy.given, corpus: $more, values: [1.0, 1.1, 0.9]}"""


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Made:
    better = "score.values: [0.5, 0.7, 0.3]"
    arms = {
        "control": "", "same": better, "near": f"{better}, more.tokens: 410", "far": f"{better}, more.tokens: 411",
        "fewer": f"{better}, more.tokens: 389", "heavy": f"{better}, train.flops: 1.5e9", "close": f"{better}, train.flops: 1.005e9",
        "labelled": f"{better}, more.labels: 50", "free": f"{better}, train.flops: 0", "gratis": "train.flops: 0",
    }  # fmt: skip
    return run(recipe(TRAINED, arms), tmp_path_factory.mktemp("trained"))


@pytest.mark.parametrize(
    ("arm", "budget", "ours", "theirs", "reason"),
    [
        ("same", "tokens", 1000, 1000, ""),
        ("near", "tokens", 1010, 1000, ""),
        ("far", "tokens", 1011, 1000, "the arms differ by 1.1% in tokens, and the claim is at equal tokens (allowed 1%)"),
        ("fewer", "tokens", 989, 1000, "the arms differ by 1.1% in tokens, and the claim is at equal tokens (allowed 1%)"),
        ("heavy", "tokens", 1000, 1000, ""),
        ("heavy", "flops", 1.5e9, 1e9, "the arms differ by 33.3% in FLOPs, and the claim is at equal FLOPs (allowed 1%)"),
        ("close", "flops", 1.005e9, 1e9, ""),
        ("free", "flops", 0, 1e9, "the arms differ by 100.0% in FLOPs, and the claim is at equal FLOPs (allowed 1%)"),
        ("same", "labels", None, None, "no step of arm same says how many labels it spent"),
        ("labelled", "labels", 50, None, "no step of arm control says how many labels it spent"),
        ("same", "epochs", None, None, "no step of arm same says how many epochs it spent"),
    ],
)
def test_a_named_budget_must_be_equal(trained: Made, arm: str, budget: str, ours: float, theirs: float, reason: str) -> None:
    judged = judge(trained, "score.loss", arm, budget=budget)
    assert (judged.verdict, judged.reason) == ("no verdict" if reason else "holds", reason)
    assert judged.budget is not None
    assert (judged.budget["name"], judged.budget["arm"], judged.budget["other"]) == (budget, ours, theirs)
    known = ours is not None and theirs is not None
    assert judged.budget["apart"] == (pytest.approx(abs(ours - theirs) / max(ours, theirs)) if known else None)
    assert (judged.low is None) == bool(reason)


def test_a_budget_of_which_nobody_spent_anything_is_not_equal_but_unknown(trained: Made) -> None:
    judged = judge(trained, "score.loss", "free", other="gratis", budget="flops")
    assert (judged.verdict, judged.reason) == ("no verdict", "no step of arm free says how many flops it spent")
    assert judge(trained, "score.loss", "free", other="gratis").verdict == "holds"


def test_without_a_budget_what_the_arm_cost_beyond_is_said(trained: Made) -> None:
    judged = judge(trained, "score.loss", "heavy")
    assert (judged.verdict, judged.budget, judged.extra) == ("holds", None, "+50.0% FLOPs in heavy")
    assert judge(trained, "score.loss", "heavy", budget="flops").extra == ""
    assert judge(trained, "score.loss", "same").extra == ""


def test_what_was_spent_is_summed_over_all_that_made_a_step_but_measuring(trained: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    plan, records = trained
    key = plan.names("labelled", 1)["score"]
    spent = compare.spent(plan, records, key)
    seconds = sum(records[k].cost["seconds"] for k in plan.names("labelled", 1).values())
    assert spent == {"flops": 1e9, "tokens": 1000, "labels": 50, "seconds": pytest.approx(seconds)}
    assert compare.spent(plan, records, plan.names("labelled", 1)["train"])["tokens"] == 600
    monkeypatch.setattr(compare, "MEASURING", ("toy.trained", "toy.given"))
    assert set(compare.spent(plan, records, key)) == {"flops", "seconds"}
    assert compare.spent(plan, records, key)["flops"] == 0


def test_measuring_counts_where_something_was_made_from_it(trained: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    """Texts that a model wrote for a training are paid for, though what writes them stands among what answers."""
    plan, records = trained
    key = plan.names("labelled", 1)["score"]
    made = [records[k].cost["seconds"] for name, k in plan.names("labelled", 1).items() if name != "score"]
    monkeypatch.setattr(compare, "MEASURING", ("toy.numbers", "toy.given"))
    assert compare.spent(plan, records, key)["seconds"] == pytest.approx(sum(made))


def test_verdicts_are_counted_in_words() -> None:
    assert compare.counted([]) == "no claims"
    assert compare.counted(["fails"]) == "1 claim: 1 fails"
    assert compare.counted(["holds", "no verdict", "holds", "undecided"]) == "4 claims: 2 hold, 1 undecided, 1 without a verdict"
