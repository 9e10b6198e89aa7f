from __future__ import annotations

import math
import random

import pytest
import sample

from paredown.report import axes, numbers, pareto, steps
from paredown.report.pareto import Point
from paredown.report.table import Table, apart


def skyline(points, x_better, y_better):
    """The front by a sweep from the best cost on, which compares no pairs."""
    a, b = (1 if side == "lower" else -1 for side in (x_better, y_better))
    found, least = [], math.inf
    for x in sorted({a * p.x for p in points}):
        column = [p for p in points if a * p.x == x]
        best = min(b * p.y for p in column)
        if best < least:
            found += [p for p in column if b * p.y == best]
            least = best
    return {p.arm for p in found}


@pytest.mark.parametrize("x_better", ["lower", "higher"])
@pytest.mark.parametrize("y_better", ["lower", "higher"])
def test_front_is_what_no_other_beats(x_better, y_better):
    draw = random.Random(7)
    for _ in range(300):
        few = draw.choice([4, 50])  # with few values there are ties
        points = [Point(i, draw.randint(0, few), draw.randint(0, few)) for i in range(draw.randint(1, 14))]
        found = pareto.front(points, x_better, y_better)
        assert {p.arm for p in found} == skyline(points, x_better, y_better)
        assert [p.x for p in found] == sorted(p.x for p in found)


def test_front_of_known_points():
    points = [Point(i, x, y) for i, (x, y) in enumerate([(1, 5), (2, 3), (2, 4), (3, 3), (4, 1), (4, 1), (5, 2)])]
    assert [(p.x, p.y) for p in pareto.front(points, "lower", "lower")] == [(1, 5), (2, 3), (4, 1), (4, 1)]
    assert [(p.x, p.y) for p in pareto.front(points, "higher", "lower")] == [(4, 1), (4, 1), (5, 2)]
    assert [(p.x, p.y) for p in pareto.front(points, "lower", "higher")] == [(1, 5)]


def test_beaten_surely_needs_bounds_that_do_not_touch():
    good, bad = Point(0, 1, 2.0, None, (1.9, 2.1)), Point(1, 1, 2.3, None, (2.2, 2.4))
    assert pareto.beats_surely(good, bad, "lower", "lower")
    assert not pareto.beats_surely(bad, good, "lower", "lower")
    assert pareto.beats_surely(bad, good, "lower", "higher")
    assert not pareto.beats_surely(good, Point(1, 1, 2.3, None, (2.05, 2.5)), "lower", "lower")
    assert pareto.beats_surely(Point(0, 1, 2.0), Point(1, 2, 2.0), "lower", "lower")  # counted, and alike in the other


def view(summary):
    rows = steps.groups(summary)
    return pareto.view(summary, rows, steps.colours(summary))


@pytest.mark.parametrize("summary", [sample.summary(1), sample.summary(3), sample.old(3), sample.crowded()])
def test_every_pair_of_axes_has_its_front(summary):
    data = view(summary)["data"]
    titles = [column["title"] for column in summary["table"]["columns"]]
    rows = summary["table"]["rows"]
    assert len(data["costs"]) * len(data["metrics"]) >= 18
    assert {axis["better"] for axis in data["costs"]} == {"lower", "higher"}
    for metric, pairs in zip(data["metrics"], data["pairs"], strict=True):
        for cost, pair in zip(data["costs"], pairs, strict=True):
            x, y = (titles.index(axis["title"]) for axis in (cost, metric))
            points = [Point(i, row["values"][x], row["values"][y]) for i, row in enumerate(rows)]
            assert set(pair["front"]) == skyline(points, cost["better"], metric["better"])
            assert {int(i) for i in pair["beaten"]} == set(range(len(rows))) - set(pair["front"])
            drawn = [cost["points"][i]["at"] for i in pair["front"]]
            assert drawn == sorted(drawn)


def test_axes_are_costs_and_speeds_in_which_arms_differ():
    summary = sample.summary(3)
    data = view(summary)["data"]
    assert [axis["title"] for axis in data["costs"]] == ["FLOPs to get there", "training tokens", "seconds to get there", "parameters", "non-zero", "bytes at rest", "prefill tokens/s", "decode tokens/s"]  # fmt: skip
    assert [axis["title"] for axis in data["metrics"]] == ["bits per byte, pruned", "bits per byte, healed", "perplexity, healed"]
    assert data["start"] == {
        "metric": 1,
        "cost": 3,
    }  # dense is best and cheapest in FLOPs, tokens and seconds: parameters are the first choice
    for row in summary["table"]["rows"]:
        row["values"] = [*row["values"][:6], 2e6, *row["values"][7:]]
    assert "training tokens" not in [axis["title"] for axis in view(summary)["data"]["costs"]]


def test_whiskers_are_intervals_or_spreads_or_nothing():
    for summary, low, word in ((sample.summary(3), 0.991, "95% intervals"), (sample.old(3), 0.995, "lowest to the highest seed")):
        found = view(summary)
        point = found["data"]["metrics"][1]["points"][2]
        assert point["range"].startswith(f"{2.008 * low:.3f} to ")
        assert point["low"] < point["at"] < point["high"]
        assert "low" not in found["data"]["costs"][0]["points"][2]
        assert word in found["note"]
    single = view(sample.summary(1))
    assert not any("low" in point for axis in single["data"]["metrics"] for point in axis["points"])
    assert "1 seed" in single["note"]


def test_overlapping_intervals_are_said():
    pairs = view(sample.summary(3))["data"]["pairs"][1]
    assert pairs[3]["front"] == [3, 0]  # narrow, dense
    assert pairs[3]["beaten"]["2"] == "beaten by narrow, dense"
    assert pairs[7]["beaten"]["2"] == "beaten by narrow, but their intervals overlap"
    assert view(sample.old(3))["data"]["pairs"][1][-1]["beaten"]["2"] == "beaten by narrow"


def test_zeros_and_a_busy_machine_are_said_on_their_axes():
    costs = {axis["title"]: axis["warn"] for axis in view(sample.summary())["data"]["costs"]}
    assert costs["non-zero"] == "zeros; no kernel here uses them"
    assert not costs["parameters"]
    assert "do not compare" in costs["decode tokens/s"]
    summary = sample.summary()
    for step in summary["steps"]:
        step["facts"] = {}
    assert not any(axis["warn"] for axis in view(summary)["data"]["costs"] if axis["unit"] or "/s" in axis["title"])


def test_an_arm_without_a_value_is_on_no_front():
    summary = sample.summary()
    summary["table"]["rows"][3]["values"][1] = None
    data = view(summary)["data"]
    assert data["metrics"][1]["points"][3] is None
    for pair in data["pairs"][1]:
        assert 3 not in pair["front"]
        assert "3" not in pair["beaten"]


def test_nothing_to_trade():
    summary = sample.summary()
    for row in summary["table"]["rows"]:
        row["values"] = [*row["values"][:3], *sample.VALUES["dense"][3:]]
    assert view(summary) is None
    assert view({"format": 1}) is None
    summary = sample.summary()
    summary["table"]["rows"] = summary["table"]["rows"][:1]
    assert view(summary) is None


@pytest.mark.parametrize("unit", ["", "FLOPs", "bytes", "seconds", "parameters", "tokens/s"])
def test_axes_hold_their_values_and_ticks_say_what_they_are(unit):
    draw = random.Random(3)
    parse = {"": 1, " B": 1, " kB": 1e3, " MB": 1e6, " GB": 1e9, " TB": 1e12, " s": 1, " min": 60, " h": 3600, "k": 1e3, "M": 1e6, "B": 1e9}
    for _ in range(300):
        middle = 10 ** draw.uniform(0, 9)
        values = [middle * (1 + draw.choice([1e-4, 0.02, 0.5, 400]) * draw.random()) for _ in range(5)]
        axis = axes.axis(values, unit)
        assert all(0 <= axis.at(v) <= 1 for v in values)
        assert axis.log == (max(values) / min(values) > axes.WIDE)
        assert 2 <= len(axis.ticks) <= 9
        assert len({text for _, text in axis.ticks}) == len(axis.ticks)
        for value, text in axis.ticks:
            assert 0 <= axis.at(value) <= 1 + 1e-9
            number = text.rstrip(" BkMGThinms") if unit != "FLOPs" else text
            said = float(number.replace(",", "")) * parse[text[len(number) :]]
            assert said == pytest.approx(value, rel=1e-9)


def test_wide_bounds_do_not_press_the_values_together():
    for values, bounds in (
        ([4.53, 4.58, 4.55], [1.2, 7.9]),
        ([10.0, 900.0], [-400.0, 1e6]),
        ([1.0, 2.0], [0.9, 2.2]),
        ([3.0, 3.0], [1.0, 5.0]),
    ):
        axis = axes.axis(values, "", bounds)
        least, most = axis.at(min(values)), axis.at(max(values))
        assert 0 < least <= most < 1
        assert most - least > 0.33 or len(set(values)) == 1
        assert axis.at(bounds[0]) <= least
        assert axis.at(bounds[1]) >= most
    assert axes.axis([1.0, 2.0], "", [0.9, 2.2]).at(0.9) > 0  # in reach: seen whole
    assert axes.axis([4.53, 4.58], "", [1.2, 7.9]).at(1.2) == 0  # cut
    summary = sample.summary(3)
    assert "beyond the picture" not in view(summary)["note"]
    summary["table"]["rows"][0]["interval"][1] = [0.1, 9.0]
    assert "beyond the picture" in view(summary)["note"]


def test_axis_of_one_value_and_of_nothing_but_zero():
    assert axes.axis([5.0, 5.0]).at(5.0) == pytest.approx(0.5)
    assert axes.axis([0.0]).at(0.0) == 0
    below = axes.axis([-0.2, 0.1])
    assert any(text.startswith("−") for _, text in below.ticks)


def test_precise_figures_tell_close_values_apart():
    assert numbers.precise(8.14159e12, "FLOPs") == "8.142e12"
    assert numbers.precise(660_608, "parameters") == "660,608"
    assert numbers.precise(2_641_384, "bytes") == "2.641 MB"
    assert numbers.precise(2.0, "", 3) == "2.000"
    assert numbers.precise(-0.5) == "−0.5"
    assert numbers.precise(0, "FLOPs") == "0"


def test_bounds_of_a_table():
    table = Table.of(sample.summary(3))
    assert table.sure == "interval"
    assert table.bounds(table.rows[0], 1) == pytest.approx((1.95 * 0.991, 1.95 * 1.009))
    assert table.bounds(table.rows[0], 5) is None
    assert Table.of(sample.old(3)).sure == "spread"
    assert Table.of(sample.summary(1)).sure == ""
    assert apart((1, 2), (3, 4))
    assert apart((3, 4), (1, 2))
    assert not apart((1, 3), (2, 4))
    assert not apart((1, 2), None)
