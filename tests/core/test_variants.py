"""Grids and sizes: arms named by their values, none lost, and every mistake at its place whether or not the size was asked for."""

from __future__ import annotations

from typing import Any

import pytest

from paredown.core import recipe as recipes
from paredown.core.errors import RecipeError
from paredown.core.plan import make
from paredown.core.recipe import Recipe

STEPS = """\
steps:
  numbers: {use: toy.numbers, count: 6}
  double: {use: toy.double, corpus: $numbers}
  score: {use: toy.noisy, corpus: $numbers}
"""


def knobs(recipe: Recipe, step: str, knob: str) -> dict[str, Any]:
    return {arm: getattr(steps[step].strategy, knob) for arm, steps in recipe.arms.items()}


def mistakes(text: str, **given: Any) -> list[tuple[int, int, str, str]]:
    with pytest.raises(RecipeError) as caught:
        recipes.loads(text, "r.yaml", **given)
    return [(m.line, m.column, m.what, m.hint) for m in caught.value.mistakes]


def test_every_arm_runs_at_every_point_of_the_grid() -> None:
    recipe = recipes.loads(STEPS + "grid:\n  numbers.count: [2, 3]\n  score.shift: [0.5, 1e6, -1]\n")
    assert list(recipe.arms) == [f"count={count}, shift={shift}" for count in (2, 3) for shift in ("0.5", "1e+06", "-1")]
    assert list(knobs(recipe, "numbers", "count").values()) == [2, 2, 2, 3, 3, 3]
    assert list(knobs(recipe, "score", "shift").values()) == [0.5, 1e6, -1] * 2
    recipe = recipes.loads(STEPS + "arms: {control: {}, star: {double.mark: '*'}}\ngrid:\n  numbers.count: [2, 3]\n")
    assert list(recipe.arms) == ["control, count=2", "control, count=3", "star, count=2", "star, count=3"]
    assert list(knobs(recipe, "double", "mark").values()) == ["+", "+", "*", "*"]
    assert len(make(recipe).tasks) == 2 + 4 + 2, "numbers and score at two points, double at two points in two arms"


def test_paths_with_the_same_end_are_told_apart() -> None:
    text = STEPS.replace("score:", "more: {use: toy.numbers}\n  score:")
    recipe = recipes.loads(text + "grid:\n  numbers.count: [2]\n  more.count: [3]\n  score.shift: [1.5]\n")
    assert list(recipe.arms) == ["numbers.count=2, more.count=3, shift=1.5"]


def test_values_that_look_alike_are_not_the_same_arm() -> None:
    recipe = recipes.loads(STEPS + "grid:\n  score.shift: [0.1, 0.10000001, 1234567.5, 1234567.25]\n")
    assert knobs(recipe, "score", "shift") == {
        "shift=0.1": 0.1, "shift=0.10000001": 0.10000001, "shift=1234567.5": 1234567.5, "shift=1234567.25": 1234567.25,
    }  # fmt: skip
    assert mistakes(STEPS + "grid:\n  score.shift: [0.1, 2, 1e-1, 2.0]\n") == [
        (6, 25, "grid.score.shift: 0.1 stands twice", ""),
        (6, 31, "grid.score.shift: 2 stands twice", ""),
    ]


def test_claims_reference_and_control_name_points_of_the_grid() -> None:
    grid = STEPS + "seeds: [0, 1, 2]\ngrid:\n  score.shift: [0.0, -0.5]\n"
    recipe = recipes.loads(grid + 'control: shift=0\nclaims:\n  - {metric: score.loss, arm: "shift=-0.5", beats: shift=0}\n')
    assert (recipe.control, recipe.claims[0].arm, recipe.claims[0].other) == ("shift=0", "shift=-0.5", "shift=0")
    assert mistakes(grid + "reference: shift=0.0\n") == [(8, 12, "reference: 'shift=0.0' is no arm", "did you mean shift=0?")]
    assert recipes.loads(STEPS + "arms: {control: {}}\ngrid: {score.shift: [0.0]}\n").control is None


@pytest.mark.parametrize(
    ("grid", "expected"),
    [
        ("numbers.cuont: [2, 3]", [(6, 3, "numbers.cuont: no such knob of toy.numbers", "did you mean count?")]),
        ("numbres.count: [2, 3]", [(6, 3, "numbres.count: there is no step numbres", "did you mean numbers?")]),
        ("numbers.count: [2, x, 0]", [(6, 22, "numbers.count: 'x' is not a whole number", "documents"), (6, 25, "numbers.count: 0 is not at least 1", "documents")]),
        ("numbers.count: 2", [(6, 18, "grid.numbers.count: expected a list of values, found 2", "")]),
        ("numbers.count: []", [(6, 18, "grid.numbers.count: expected a list of values, found a list", "")]),
        ("numbers: [2]", [(6, 3, "numbers: an override names a step and a knob, such as numbers.use", "")]),
    ],
)  # fmt: skip
def test_mistakes_of_a_grid_are_said_once_and_have_their_place(grid: str, expected: list[tuple[int, int, str, str]]) -> None:
    assert mistakes(STEPS + f"grid:\n  {grid}\n") == expected
    assert mistakes(STEPS + f"arms: {{a: {{}}, b: {{double.mark: x}}}}\ngrid:\n  {grid}\n") == [(7, *rest) for _, *rest in expected]


SIZES = STEPS + "seed: 7\nsizes:\n  big: {numbers.count: 60, seeds: [1, 2]}\n  huge: {numbers.count: 600}\n"


def test_a_size_overrides_before_settings_and_arms() -> None:
    def counts(text: str = SIZES, **given: Any) -> tuple[list[int], list[int]]:
        recipe = recipes.loads(text, **given)
        assert recipe.sizes == ("big", "huge")
        return list(knobs(recipe, "numbers", "count").values()), recipe.seeds

    assert counts() == ([6], [7])
    assert counts(size="big") == ([60], [1, 2])
    assert counts(size="huge") == ([600], [7])
    assert counts(size="big", seeds=[5]) == ([60], [5])
    assert counts(size="big", settings=["numbers.count=61"]) == ([61], [1, 2])
    arms = SIZES + "arms: {a: {}, b: {numbers.count: 2}}\n"
    assert counts(arms, size="big", settings=["numbers.count=61"]) == ([61, 2], [1, 2])
    assert counts(SIZES + "grid: {numbers.count: [3, 4]}\n", size="big") == ([3, 4], [1, 2])


@pytest.mark.parametrize(
    ("size", "hint"), [("bgi", "did you mean big?"), ("gigantic", "its sizes are big, huge"), ("small", "its sizes are big, huge")]
)
def test_an_unknown_size_names_those_there_are(size: str, hint: str) -> None:
    assert mistakes(SIZES, size=size) == [(1, 1, "the recipe has no such size", hint)]
    assert mistakes(STEPS, size=size) == [(1, 1, "the recipe has no such size", "it has no sizes")]


@pytest.mark.parametrize("size", ["", "big", "huge"])
@pytest.mark.parametrize(
    ("big", "expected"),
    [
        ("{numbers.count: six}", [(7, 24, "numbers.count: 'six' is not a whole number", "documents")]),
        ("{numbers.cuont: 6}", [(7, 9, "numbers.cuont: no such knob of toy.numbers", "did you mean count?")]),
        ("{numbres.count: 6}", [(7, 9, "numbres.count: there is no step numbres", "did you mean numbers?")]),
        ("{numbers.use: toy.nubmers}", [(7, 22, "numbers.use: no strategy toy.nubmers", "did you mean toy.numbers?  (paredown list)")]),
        ("{double.corpus: $score}", [(7, 24, "double.corpus: takes Corpus, but $score is Scores (toy.noisy)", "there is $numbers")]),
        ("{seeds: [1, -1]}", [(7, 20, "seeds: expected a whole number of 0 or more, found -1", "")]),
        ("{seeds: 3}", [(7, 16, "seeds: expected a list such as [0, 1, 2], found 3", "")]),
        ("3", [(7, 8, "sizes.big: expected a mapping, found 3", "")]),
    ],
)
def test_mistakes_of_a_size_are_found_whichever_runs(size: str, big: str, expected: list[tuple[int, int, str, str]]) -> None:
    text = SIZES.replace("{numbers.count: 60, seeds: [1, 2]}", big)
    assert mistakes(text, size=size) == expected
    assert mistakes(text + "arms: {a: {}, b: {double.mark: x}}\n", size=size) == expected


def test_one_mistake_of_the_steps_is_not_said_for_every_size() -> None:
    wrong = SIZES.replace("toy.double,", "toy.duoble,")
    assert [what for _, _, what, _ in mistakes(wrong)] == ["double.use: no strategy toy.duoble"]
    assert [what for _, _, what, _ in mistakes(SIZES, settings=["double.makr=x"])] == ["double.makr: no such knob of toy.double"]


def test_a_size_reaches_what_an_arm_sets_itself() -> None:
    text = (
        "steps:\n  numbers: {use: toy.numbers, count: 2}\narms:\n  few: {}\n  many: {numbers.count: 20}\n"
        "sizes:\n  large: {numbers.count: 3, arms.many.numbers.count: 30}\n"
    )
    counts = {
        size: [arm["numbers"].strategy.knobs()["count"] for arm in recipes.loads(text, size=size).arms.values()] for size in ("", "large")
    }
    assert counts == {"": [2, 20], "large": [3, 30]}
    with pytest.raises(RecipeError, match="1 mistake") as found:
        recipes.loads(text.replace("arms.many", "arms.mnay"))
    assert "there is no arm mnay" in str(found.value)
    assert "did you mean arms.many?" in str(found.value)
