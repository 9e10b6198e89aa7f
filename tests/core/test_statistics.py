"""Intervals and verdicts: closed forms, invariances, and the coverage that a 95% interval promises, simulated at 3, 5 and 10 seeds."""

from __future__ import annotations

import math
import subprocess
import sys
from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import stats

from paredown.core.statistics import (
    Interval,
    behrens_fisher,
    crossed,
    mean_interval,
    paired_interval,
    paired_interval_over_items,
    student,
    verdict,
)

Array = NDArray[np.float64]
SEEDS = [3, 5, 10]


def ends(interval: Interval) -> tuple[float, float, float]:
    return interval.mean, interval.low, interval.high


def arms(seeds: int = 4, items: int = 30, seed: int = 0) -> tuple[Array, Array]:
    """Two arms with effects of seeds, items and both."""
    rng = np.random.default_rng(seed)
    shared = 3 + rng.normal(size=items)
    a, b = (
        shared + shift + 0.3 * rng.normal(size=(seeds, 1)) + 0.5 * rng.normal(size=items) + rng.normal(size=(seeds, items))
        for shift in (0.4, 0.0)
    )
    return a, b


# closed forms


@pytest.mark.parametrize("seeds", [2, 3, 5, 10, 40])
@pytest.mark.parametrize("confidence", [0.8, 0.95, 0.99])
def test_over_seeds_it_is_the_paired_t_interval_of_scipy(seeds: int, confidence: float) -> None:
    rng = np.random.default_rng(seeds)
    a, b = rng.normal(5, 1, seeds), rng.normal(4, 2, seeds)
    found = paired_interval(a, b, confidence)
    expected = stats.ttest_rel(a, b).confidence_interval(confidence)
    assert ends(found) == pytest.approx((np.mean(a) - np.mean(b), expected.low, expected.high), rel=1e-9)
    assert (found.method, found.n, found.items) == ("paired t", seeds, 0)


def test_one_arms_mean_has_the_t_interval_of_scipy() -> None:
    values = [2.0, 2.5, 2.1, 2.2]
    expected = stats.ttest_1samp(values, 0).confidence_interval(0.9)
    found = mean_interval(values, 0.9)
    assert ends(found) == pytest.approx((2.2, expected.low, expected.high), rel=1e-9)
    assert (found.method, found.n) == ("Student t", 4)


def anova(d: Array) -> tuple[float, float, float]:
    """Mean squares of seeds, items and residual, cell by cell."""
    seeds, items = d.shape
    grand = d.mean()
    of_seeds = items * sum((d[s].mean() - grand) ** 2 for s in range(seeds)) / (seeds - 1)
    of_items = seeds * sum((d[:, i].mean() - grand) ** 2 for i in range(items)) / (items - 1)
    rest = sum((d[s, i] - d[s].mean() - d[:, i].mean() + grand) ** 2 for s in range(seeds) for i in range(items))
    return of_seeds, of_items, rest / ((seeds - 1) * (items - 1))


@pytest.mark.parametrize("weights", [None, np.full(30, 7.0), np.full((4, 30), 0.1)])
def test_equal_weights_give_the_two_way_analysis_of_variance(weights: Array | None) -> None:
    a, b = arms()
    of_seeds, of_items, rest = anova(a - b)
    assert of_items > rest  # else the case below is not met
    seed_error, item_error = math.sqrt(of_seeds / 120), math.sqrt((of_items - rest) / 120)
    half = float(behrens_fisher(seed_error, 3, item_error, 29, 0.95))
    found = paired_interval_over_items(a, b, weights)
    mean = float((a - b).mean())
    assert ends(found) == pytest.approx((mean, mean - half, mean + half), rel=1e-9)
    assert (found.method, found.n, found.items) == ("paired t over seeds and items", 4, 30)
    # the variance that the quantile stands on is the crossed one of the literature
    assert seed_error**2 + item_error**2 == pytest.approx((of_seeds + of_items - rest) / 120)


def test_without_effects_of_items_it_is_the_paired_t_over_seeds() -> None:
    rng = np.random.default_rng(3)
    b = rng.normal(size=(5, 40))
    weights = rng.exponential(size=40)
    shift = rng.normal(size=5)
    a = b + shift[:, None]  # each seed moves all items alike
    assert ends(paired_interval_over_items(a, b, weights)) == pytest.approx(ends(paired_interval(shift, np.zeros(5))), rel=1e-7)


def test_without_effects_of_seeds_it_is_the_paired_t_over_items() -> None:
    rng = np.random.default_rng(4)
    a, b = rng.normal(size=25), rng.normal(size=25)
    expected = stats.ttest_rel(a, b).confidence_interval(0.95)
    found = paired_interval_over_items(np.tile(a, (3, 1)), np.tile(b, (3, 1)))
    assert ends(found) == pytest.approx((np.mean(a - b), expected.low, expected.high), rel=1e-9)


def test_the_errors_of_a_ratio_are_those_of_leaving_one_item_out() -> None:
    rng = np.random.default_rng(5)
    d, weights = rng.normal(size=12), rng.exponential(size=12)
    left = np.array([np.average(np.delete(d, i), weights=np.delete(weights, i)) for i in range(12)])
    error = math.sqrt(11 / 12 * ((left - left.mean()) ** 2).sum())
    freedom = weights.sum() ** 2 / (weights**2).sum() - 1
    found = paired_interval_over_items(np.tile(d, (3, 1)), np.zeros((3, 12)), weights)
    assert found.mean == pytest.approx(np.average(d, weights=weights))
    assert found.high - found.mean == pytest.approx(stats.t.ppf(0.975, freedom) * error, rel=1e-9)


def test_the_mean_is_that_of_the_seeds_own_metrics() -> None:
    rng = np.random.default_rng(6)
    (a, b), weights = arms(), rng.exponential(size=(4, 30))
    metrics = [np.average(a[s], weights=weights[s]) - np.average(b[s], weights=weights[s]) for s in range(4)]
    assert paired_interval_over_items(a, b, weights).mean == pytest.approx(np.mean(metrics))


@pytest.mark.parametrize("confidence", [0.8, 0.95, 0.99])
def test_sum_of_two_student_variables(confidence: float) -> None:
    p = (1 + confidence) / 2
    one = stats.t(1).ppf(p)
    assert float(behrens_fisher(0.7, 1, 0.4, 1, confidence)) == pytest.approx(1.1 * one, rel=1e-4)  # two Cauchy variables
    assert float(behrens_fisher(0.7, 4, 0.0, 9, confidence)) == pytest.approx(0.7 * stats.t(4).ppf(p), rel=1e-9)
    assert float(behrens_fisher(0.0, 4, 0.7, 9, confidence)) == pytest.approx(0.7 * stats.t(9).ppf(p), rel=1e-9)
    assert float(behrens_fisher(0.3, 1e7, 0.4, 1e7, confidence)) == pytest.approx(0.5 * stats.norm.ppf(p), rel=1e-6)
    assert float(behrens_fisher(0.0, 4, 0.0, 9, confidence)) == 0


@pytest.mark.parametrize(("error", "freedom", "other", "other_freedom"), [(1, 2, 0.5, 99), (0.2, 2, 1, 19), (1, 4, 1, 4), (0.3, 9, 1, 1e4)])
def test_quantile_against_integration_by_scipy(error: float, freedom: float, other: float, other_freedom: float) -> None:
    from scipy.integrate import quad

    h = float(behrens_fisher(error, freedom, other, other_freedom, 0.95))
    first, second = stats.t(freedom, scale=error), stats.t(other_freedom, scale=other)
    inside = quad(lambda x: second.pdf(x) * (first.cdf(h - x) - first.cdf(-h - x)), -np.inf, np.inf, epsabs=1e-10, limit=400)[0]
    assert inside == pytest.approx(0.95, abs=2e-6)


# invariances


@pytest.mark.parametrize("over_items", [False, True])
def test_shift_scale_swap_and_order(over_items: bool) -> None:
    a, b = arms()
    weights = np.random.default_rng(1).exponential(size=30)

    def interval(x: Array, y: Array) -> Array:
        found = paired_interval_over_items(x, y, weights) if over_items else paired_interval(x[:, 0], y[:, 0])
        return np.array(ends(found))

    mean, low, high = interval(a, b)
    assert low < mean < high
    assert interval(a + 100, b + 100) == pytest.approx([mean, low, high])
    assert interval(1000 * a, 1000 * b) == pytest.approx([1000 * mean, 1000 * low, 1000 * high])
    assert interval(b, a) == pytest.approx([-mean, -high, -low])
    assert interval(a[::-1], b[::-1]) == pytest.approx([mean, low, high])
    assert (interval(a, b) == interval(a.copy(), b.copy())).all()


def test_weights_count_relative_to_each_other_and_items_without_weight_do_not() -> None:
    a, b = arms()
    weights = np.random.default_rng(1).exponential(size=30)
    expected = paired_interval_over_items(a, b, weights)
    assert ends(paired_interval_over_items(a, b, 50 * weights)) == pytest.approx(ends(expected))
    assert ends(paired_interval_over_items(a, b, np.tile(weights, (4, 1)))) == pytest.approx(ends(expected))
    order = np.random.default_rng(2).permutation(30)
    assert ends(paired_interval_over_items(a[:, order], b[:, order], weights[order])) == pytest.approx(ends(expected))
    extended = paired_interval_over_items(np.c_[a, np.full(4, 1e6)], np.c_[b, np.zeros(4)], np.r_[weights, 0])
    assert extended == expected


def test_it_is_wider_where_items_vary_and_never_much_narrower_than_over_seeds() -> None:
    rng = np.random.default_rng(8)
    noise = 0.1 * rng.normal(size=(5, 1)) + 0.1 * rng.normal(size=(5, 50))
    zero = np.zeros((5, 50))
    widths = []
    for spread in (0.0, 0.3, 1.0, 3.0):
        found = paired_interval_over_items(noise + spread * rng.normal(size=50), zero)
        widths.append(found.high - found.low)
    assert widths == sorted(widths)
    assert widths[-1] > 5 * widths[0]
    over_seeds = paired_interval(noise.mean(axis=1), zero[:, 0])
    assert widths[0] >= (over_seeds.high - over_seeds.low) * (1 - 1e-9)


# equal differences


def test_equal_differences_are_exact_only_for_what_is_counted() -> None:
    counted = paired_interval([30, 40, 50], [10, 20, 30], counted=True)
    assert ends(counted) == (20, 20, 20)
    assert counted.method == "exact: every seed differs by the same"
    measured = paired_interval([0.3, 0.4, 0.5], [0.1, 0.2, 0.3])  # the same up to rounding
    assert (measured.mean, measured.low, measured.high) == (pytest.approx(0.2), -math.inf, math.inf)
    assert measured.method == "no interval: every seed differs by the same"
    assert verdict(measured, "beats", 0, "higher") == "undecided"
    assert mean_interval([7, 7, 7], counted=True) == Interval(7, 7, 7, "exact: every seed gives the same", 3)
    assert mean_interval([7, 7, 7]) == Interval(7, -math.inf, math.inf, "no interval: every seed gives the same", 3)
    spread = paired_interval([30, 40, 51], [10, 20, 30], counted=True)
    assert spread == paired_interval([30, 40, 51], [10, 20, 30])
    assert spread.low < spread.mean < spread.high


def test_items_that_all_agree_bound_what_others_could_do() -> None:
    correct = np.array([1.0] * 70 + [0.0] * 30)
    found = paired_interval_over_items(np.tile(correct, (3, 1)), np.tile(correct, (3, 1)))
    assert found.method == "exact binomial bound: every item differs by the same"
    # the largest share of items that could differ, and none of 100 shows it: Clopper and Pearson's bound
    bound = stats.binomtest(0, 100).proportion_ci(0.95, method="exact").high
    assert (found.low, found.high) == pytest.approx((-bound, bound), rel=1e-9)
    percent = paired_interval_over_items(np.full((3, 100), 100.0), np.full((3, 100), 100.0))
    assert percent.high == pytest.approx(100 * bound)
    nothing = paired_interval_over_items(np.zeros((3, 100)), np.zeros((3, 100)))
    assert (nothing.low, nothing.high, nothing.method) == (-math.inf, math.inf, "no interval: every value is 0")


def test_seeds_that_agree_by_chance_give_no_false_certainty() -> None:
    a, b = np.zeros((3, 30)), np.zeros((3, 30))
    a[[0, 1, 2], [3, 11, 25]] = 1  # one other answer per seed: all seeds' accuracies equal, and items vary less than the residual
    found = paired_interval_over_items(a, b)
    assert found.mean == pytest.approx(1 / 30)
    assert found.low < 0 < found.high
    assert found.high - found.mean > 1 / 45


# verdicts


@pytest.mark.parametrize(
    ("kind", "margin", "low", "high", "expected"),
    [
        ("beats", 0.0, 0.1, 0.5, "holds"),
        ("beats", 0.0, 0.0, 0.5, "undecided"),
        ("beats", 0.0, -0.5, 0.0, "fails"),
        ("beats", 0.2, 0.1, 0.5, "undecided"),
        ("beats", 0.2, 0.05, 0.2, "fails"),
        ("beats", 0.2, 0.21, 0.5, "holds"),
        ("not_worse_than", 0.0, 0.0, 0.0, "holds"),
        ("not_worse_than", 0.1, -0.05, 0.5, "holds"),
        ("not_worse_than", 0.1, -0.2, 0.5, "undecided"),
        ("not_worse_than", 0.1, -0.5, -0.2, "fails"),
        ("equals", 0.0, 0.0, 0.0, "holds"),
        ("equals", 0.1, -0.05, 0.05, "holds"),
        ("equals", 0.1, -0.05, 0.2, "undecided"),
        ("equals", 0.1, -0.2, 0.2, "undecided"),
        ("equals", 0.1, 0.11, 0.2, "fails"),
        ("equals", 0.1, -0.2, -0.11, "fails"),
        ("beats", 0.1, -math.inf, math.inf, "undecided"),
        ("not_worse_than", 0.1, -math.inf, math.inf, "undecided"),
        ("equals", 0.1, -math.inf, math.inf, "undecided"),
    ],
)
def test_verdicts(kind: str, margin: float, low: float, high: float, expected: str) -> None:
    middle = (low + high) / 2 if math.isfinite(low) else 0.0
    assert verdict(Interval(middle, low, high, "", 3), kind, margin, "higher") == expected
    assert verdict(Interval(-middle, -high, -low, "", 3), kind, margin, "lower") == expected
    if kind == "equals":
        assert verdict(Interval(middle, low, high, "", 3), kind, margin, "none") == expected


# bad input


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_values_that_are_not_finite_are_named(bad: float) -> None:
    good, poor = [1.0, 2.0, 3.0], [1.0, 2.0, bad]
    with pytest.raises(ValueError, match=f"arm A, seed index 2: the value is {bad}"):
        paired_interval(poor, good)
    with pytest.raises(ValueError, match="arm B, seed index 2"):
        paired_interval(good, poor)
    with pytest.raises(ValueError, match="values, seed index 2"):
        mean_interval(poor)
    with pytest.raises(ValueError, match="arm B, seed index 1, item index 2"):
        paired_interval_over_items([good, good], [good, poor])


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: paired_interval([1, 2], [1, 2, 3]), "same seeds"),
        (lambda: paired_interval([1], [2]), "1 seed: "),
        (lambda: paired_interval([], []), "0 seeds: "),
        (lambda: paired_interval([[1, 2]], [[1, 2]]), "one value per seed"),
        (lambda: paired_interval([1, 2], [2, 4], confidence=95), "confidence is 95"),
        (lambda: mean_interval([1]), "1 seed: "),
        (lambda: paired_interval_over_items([[1, 2, 3]], [[1, 2, 4]]), "1 seed: "),
        (lambda: paired_interval_over_items([1, 2, 3], [1, 2, 4]), "one value per seed and item"),
        (lambda: paired_interval_over_items(np.ones((2, 3)), np.ones((2, 4))), "same seeds and items"),
        (lambda: paired_interval_over_items(np.ones((2, 1)), np.ones((2, 1))), "fewer than 2 items"),
        (lambda: paired_interval_over_items(*arms(2, 3), [1, 1]), "weights have shape"),
        (lambda: paired_interval_over_items(*arms(2, 3), [1, 1, -1]), "not negative"),
        (lambda: paired_interval_over_items(*arms(2, 3), [1, 1, math.nan]), "finite"),
        (lambda: paired_interval_over_items(*arms(2, 3), [0, 0, 0]), "fewer than 2 items"),
        (lambda: paired_interval_over_items(*arms(2, 3), [[1, 1, 1], [0, 0, 1]]), "seed index 1: fewer than 2 items"),
        (lambda: verdict(Interval(0, 0, 0, "", 3), "wins", 0, "lower"), "kind is 'wins'"),
        (lambda: verdict(Interval(0, 0, 0, "", 3), "beats", 0, "up"), "better is 'up'"),
        (lambda: verdict(Interval(0, 0, 0, "", 3), "beats", 0, "none"), "direction"),
        (lambda: verdict(Interval(0, 0, 0, "", 3), "not_worse_than", 0, "none"), "direction"),
        (lambda: verdict(Interval(0, 0, 0, "", 3), "equals", -1, "none"), "margin is -1"),
        (lambda: verdict(Interval(0, 0, 0, "", 3), "equals", math.nan, "none"), "margin is nan"),
    ],
)
def test_bad_input_is_refused(call: Callable[[], object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()


def test_importing_the_module_loads_neither_numpy_nor_scipy() -> None:
    code = "import sys, paredown.core.statistics; print([m for m in ('numpy', 'scipy') if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == "[]"


# coverage: what a nominal 95% interval holds, simulated

REPEATS = 4000


def logistic(x: Array) -> Array:
    return 1 / (1 + np.exp(-x))


def share_correct(ability: float, spread: float) -> float:
    """Mean of logistic(ability + spread * Z), Z standard normal."""
    nodes, weights = np.polynomial.hermite_e.hermegauss(80)
    return float((weights * logistic(ability + spread * nodes)).sum() / weights.sum())


def draws(rng: np.random.Generator, law: str, shape: tuple[int, ...]) -> Array:
    return rng.normal(size=shape) if law == "normal" else rng.exponential(size=shape) - 1


def hits(mean: Array, half: Array, truth: float) -> tuple[float, float, float]:
    """Share of intervals that hold the truth, and of those that lie above and below it."""
    return float((np.abs(mean - truth) <= half).mean()), float((mean - half > truth).mean()), float((mean + half < truth).mean())


def assert_coverage(law: str, mean: Array, half: Array, truth: float) -> None:
    covered, above, below = hits(mean, half, truth)
    if law == "normal":
        assert 0.92 <= covered <= 0.98, covered
    else:
        assert covered >= 0.87, covered
    assert max(above, below) < 0.05, (above, below)  # A is said to beat B, or B to beat A, by more than it does


@pytest.mark.parametrize("seeds", SEEDS)
@pytest.mark.parametrize("law", ["normal", "exponential", "accuracy"])
@pytest.mark.parametrize("effect", [0.0, 0.1])
def test_coverage_over_seeds(law: str, seeds: int, effect: float) -> None:
    rng = np.random.default_rng([seeds, len(law)])
    shape = (20_000, seeds)
    if law == "accuracy":  # over 50 items, the seeds of an arm differ in ability
        a, b = (rng.binomial(50, np.clip(p + 0.03 * rng.normal(size=shape), 0, 1)) / 50 for p in (0.7 + effect, 0.7))
    else:
        a, b = effect + draws(rng, law, shape), draws(rng, law, shape)
    mean, half = student(a - b, np.maximum(np.abs(a), np.abs(b)), 0.95)
    assert_coverage(law, mean, half, effect)
    for i in range(3):
        found = paired_interval(a[i], b[i])
        assert (found.low, found.high) == pytest.approx((mean[i] - half[i], mean[i] + half[i]))


@pytest.mark.parametrize("seeds", SEEDS)
@pytest.mark.parametrize("law", ["normal", "exponential"])
def test_two_arms_that_are_the_same_seldom_beat_each_other(law: str, seeds: int) -> None:
    rng = np.random.default_rng([seeds, 2])
    a, b = draws(rng, law, (REPEATS, seeds)), draws(rng, law, (REPEATS, seeds))
    found = [verdict(paired_interval(x, y), "beats", 0, "lower") for x, y in zip(a, b, strict=True)]
    assert 0 < found.count("holds") / REPEATS < 0.05
    assert 0 < found.count("fails") / REPEATS < 0.05


@pytest.mark.parametrize("seeds", SEEDS)
@pytest.mark.parametrize("law", ["normal", "exponential"])
def test_coverage_of_one_arms_mean(law: str, seeds: int) -> None:
    values = draws(np.random.default_rng([seeds, 1]), law, (20_000, seeds))
    mean, half = student(values, values, 0.95)
    covered, _, _ = hits(mean, half, 0)
    assert 0.92 <= covered <= 0.98 if law == "normal" else covered >= 0.87, covered


@pytest.mark.parametrize("seeds", SEEDS)
@pytest.mark.parametrize("law", ["normal", "exponential"])
@pytest.mark.parametrize(("of_seeds", "of_items", "weighted"), [(0.1, 1.0, False), (0.5, 0.5, False), (0.2, 1.0, True)])
def test_coverage_over_seeds_and_items(law: str, seeds: int, of_seeds: float, of_items: float, weighted: bool) -> None:
    """Each arm has its own effects of seeds and of items beside those that both share; weights differ up to a hundredfold."""
    rng = np.random.default_rng([seeds, round(100 * of_seeds), weighted])
    items = 40
    difficulty = 2 * draws(rng, law, (REPEATS, 1, items))
    a, b = (
        difficulty
        + of_seeds * draws(rng, law, (REPEATS, seeds, 1))
        + of_items * draws(rng, law, (REPEATS, 1, items))
        + draws(rng, law, (REPEATS, seeds, items))
        for _ in range(2)
    )
    weights = np.exp(rng.normal(size=(REPEATS, 1, items)).clip(-2.3, 2.3)) if weighted else np.ones(1)
    mean, half, _ = crossed(a, b, np.broadcast_to(weights, a.shape), 0.95)
    assert_coverage(law, mean, half, 0)
    for i in range(3):
        found = paired_interval_over_items(a[i], b[i], weights[i, 0] if weighted else None)
        assert (found.low, found.high) == pytest.approx((mean[i] - half[i], mean[i] + half[i]), rel=1e-4)


@pytest.mark.parametrize("seeds", SEEDS)
@pytest.mark.parametrize(("ability", "effect"), [(1.0, 0.0), (1.0, 0.6), (4.0, 0.0), (4.0, -1.0)])
def test_coverage_of_accuracy_over_seeds_and_items(seeds: int, ability: float, effect: float) -> None:
    """Binary answers about as often right as 0.7 or 0.97; `effect` is one arm's better ability."""
    rng = np.random.default_rng([seeds, round(10 * ability), round(10 * abs(effect))])
    items, of_seeds, of_items, own = 40, 0.2, 1.0, 0.5
    difficulty = of_items * rng.normal(size=(REPEATS, 1, items))
    a, b = (
        (
            rng.random((REPEATS, seeds, items))
            < logistic(level + difficulty + of_seeds * rng.normal(size=(REPEATS, seeds, 1)) + own * rng.normal(size=(REPEATS, 1, items)))
        ).astype(np.float64)
        for level in (ability + effect, ability)
    )
    spread = math.sqrt(of_seeds**2 + of_items**2 + own**2)
    truth = share_correct(ability + effect, spread) - share_correct(ability, spread)
    mean, half, _ = crossed(a, b, np.ones(a.shape), 0.95)
    assert_coverage("accuracy", mean, half, truth)


@pytest.mark.parametrize("seeds", SEEDS)
def test_an_arm_that_answers_alike_at_every_seed_is_covered_for_new_items(seeds: int) -> None:
    """Greedy answers of a fixed model: seeds tell nothing, often no item differs at all."""
    rng = np.random.default_rng(seeds)
    a, b = (np.broadcast_to(rng.random((REPEATS, 1, 60)) < p, (REPEATS, seeds, 60)).astype(np.float64) for p in (0.98, 1.0))
    mean, half, same = crossed(a, b, np.ones(a.shape), 0.95)
    assert same.mean() > 0.2  # the binomial bound is met often
    assert hits(mean, half, -0.02)[0] >= 0.87
    assert float((mean - half > 0).mean()) == 0  # never does the worse arm beat the better one
