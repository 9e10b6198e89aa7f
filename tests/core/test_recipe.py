"""Recipes: positions, nearest names, type checks, arms; every mistake at once and never a traceback."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import ValidationError

from paredown.core import catalog
from paredown.core import recipe as recipes
from paredown.core.errors import RecipeError, UserError
from paredown.core.plan import Source, make

GOOD = """\
seed: 3
steps:
  numbers: {use: toy.numbers, count: 4}
  double: {use: toy.double, corpus: $numbers}
  halves: {use: toy.halves, corpus: $double}
  score: {use: toy.length, corpus: $halves.train}
"""


def mistakes(text: str, *settings: str) -> list[tuple[int, int, str, str]]:
    with pytest.raises(RecipeError) as caught:
        recipes.loads(text, settings=settings)
    return [(m.line, m.column, m.what, m.hint) for m in caught.value.mistakes]


def test_a_sound_recipe_is_ordered_and_planned() -> None:
    recipe = recipes.loads(GOOD)
    assert list(recipe.arms) == [""]
    assert list(recipe.arms[""]) == ["numbers", "double", "halves", "score"]
    assert recipe.seeds == [3]
    assert [t.seed for t in make(recipe).tasks.values()] == [3, None, None, None]


def test_steps_may_stand_in_any_order() -> None:
    lines = GOOD.splitlines()
    shuffled = "\n".join([lines[0], lines[1], *reversed(lines[2:])])
    assert list(recipes.loads(shuffled).arms[""]) == ["numbers", "double", "halves", "score"]


@pytest.mark.parametrize(
    ("old", "new", "line", "column", "what", "hint"),
    [
        ("toy.double,", "toy.doubel,", 4, 17, "double.use: no strategy toy.doubel", "did you mean toy.double?"),
        ("count: 4", "count: 0", 3, 38, "numbers.count: 0 is not at least 1", "documents"),
        ("count: 4", "count: lots", 3, 38, "numbers.count: 'lots' is not", "documents"),
        ("count: 4", "cuont: 4", 3, 31, "numbers.cuont: no such knob of toy.numbers", "did you mean count?"),
        ("count: 4", "count: .nan", 3, 38, ".nan is not a finite number", ""),
        ("$numbers", "$nubmers", 4, 37, "double.corpus: there is no step nubmers", "did you mean $numbers?"),
        ("$numbers", "numbers", 4, 37, "double.corpus: expected a reference, found 'numbers'", "a step's result is written $step"),
        ("$halves.train", "$halves.trian", 6, 36, "score.corpus: $halves.trian is no part of halves (toy.halves)", "did you mean $halves.train?"),
        ("$numbers}", "$score}", 4, 37, "double.corpus: takes Corpus, but $score is Scores (toy.length)", ""),
        ("steps:", "stesp:", 2, 1, "stesp: no such key of a recipe", "did you mean steps?"),
        ("seed: 3", "seed: -3", 1, 7, "seed: expected a whole number of 0 or more, found -3", ""),
        ("corpus: $numbers", "mark: x", 4, 3, "double.corpus: missing", "toy.double takes corpus: Corpus"),
        ("{use: toy.numbers, count: 4}", "!!python/object:os.system {}", 3, 12, "tags (!name) are not used in recipes", ""),
        ("{use: toy.numbers, count: 4}", "&a {use: toy.numbers}", 3, 12, "anchors and aliases are not used", ""),
        ("count: 4", "count: 4, count: 5", 3, 41, "'count' stands twice in the same mapping", ""),
        ("count: 4}", "count: 4", 4, 9, "no valid YAML", ""),
    ],
)  # fmt: skip
def test_each_kind_of_mistake_has_its_place(old: str, new: str, line: int, column: int, what: str, hint: str) -> None:
    found = mistakes(GOOD.replace(old, new, 1))
    assert any((ln, c) == (line, column) and what in w and hint in h for ln, c, w, h in found), found


def test_all_mistakes_are_reported_together() -> None:
    found = mistakes(GOOD.replace("toy.double", "toy.duble").replace("count: 4", "count: 0").replace("$halves.train", "$nothing"))
    assert [(line, what.split(":")[0]) for line, _, what, _ in found] == [(3, "numbers.count"), (4, "double.use"), (6, "score.corpus")]


def test_a_ring_of_steps_is_named() -> None:
    text = "steps:\n  a: {use: toy.double, corpus: $b}\n  b: {use: toy.double, corpus: $a}\n"
    assert "steps wait for each other: a, b" in mistakes(text)[0][2]


ARMS = (
    GOOD
    + """\
arms:
  plain: {double.skip: true}
  control: {}
  star: {double.mark: "*"}
reference: plain
claims:
  - {metric: score.length, arm: star, beats: control, by: 0.5}
"""
)


def test_arms_share_their_common_prefix_and_skip_hands_through() -> None:
    recipe = recipes.loads(ARMS)
    plan = make(recipe)
    by_name = [(t.name, tuple(t.arms)) for t in plan.tasks.values()]
    assert by_name[0] == ("numbers", ("plain", "control", "star"))
    assert len([n for n, _ in by_name if n == "double"]) == 2
    assert ("plain", 3, "double") in plan.skipped
    assert str(recipe.claims[0]) == "score.length: star beats control by 0.5"
    assert recipe.control == "control"


def test_the_outside_world_is_looked_at_once_a_plan(monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder of many files takes a second to look through, and four arms with three seeds would do it twelve times."""
    looks: list[str] = []
    monkeypatch.setattr(catalog.load("toy.numbers"), "external", lambda self: looks.append(self.strategy_name()))
    plan = make(recipes.loads(ARMS + "seeds: [0, 1, 2]\n"))
    assert len([t for t in plan.tasks.values() if t.name == "numbers"]) == 3
    assert looks == ["toy.numbers"]


@pytest.mark.parametrize(
    ("old", "new", "what"),
    [
        ("star: {double.mark", "star: {duoble.mark", "duoble.mark: there is no step duoble"),
        ("double.mark:", "double.makr:", "double.makr: no such knob of toy.double"),
        ("beats: control", "beats: contrl", "claims.beats: 'contrl' is no arm"),
        ("metric: score.length", "metric: scores.length", "claims.metric: there is no step scores"),
        ("metric: score.length", "metric: double.length", "claims.metric: double makes no metrics (toy.double gives Corpus)"),
        ("by: 0.5", "by: -1", "claims.by: expected a number of 0 or more"),
        ("by: 0.5", "within: 0.5", "claims.within: a beats claim takes by"),
        ("reference: plain", "reference: plane", "reference: 'plane' is no arm"),
        ("double.skip: true", "halves.skip: 3", "halves.skip: expected true or false"),
        ('star: {double.mark: "*"}', "star: {score.skip: true}", "claims.metric: score is skipped in arm star"),
        (
            "plain: {double.skip: true}",
            "plain: {numbers.skip: true}",
            "numbers: cannot be skipped: it takes no Corpus that could be handed through to",
        ),
    ],
)
def test_mistakes_in_arms_and_claims(old: str, new: str, what: str) -> None:
    assert any(what in found for _, _, found, _ in mistakes(ARMS.replace(old, new, 1)))


def test_a_step_that_nothing_reads_can_be_left_out_of_an_arm() -> None:
    """What an arm does not use it does not pay for either, such as the model beside a boosted control."""
    plan = make(recipes.loads(GOOD + "arms:\n  all: {}\n  short: {score.skip: true}\n"))
    assert "score" in plan.names("all", 3)
    assert "score" not in plan.names("short", 3)
    assert [t.arms for t in plan.tasks.values() if t.name == "score"] == [["all"]]


def test_a_part_of_a_skipped_step_is_what_stands_in_for_it() -> None:
    """`$halves.train` of a skipped step is the corpus that it would have cut, which has no part `train`."""
    plan = make(recipes.loads(GOOD + "arms:\n  whole: {halves.skip: true}\n"))
    double, score = (next(t for t in plan.tasks.values() if t.name == name) for name in ("double", "score"))
    assert score.inputs == {"corpus": Source(double.key, None)}
    found = mistakes(GOOD.replace("$halves.train", "$halves.held_out") + "arms:\n  whole: {halves.skip: true}\n")
    assert "$halves.held_out is not there: halves is skipped in this arm" in found[0][2]


def test_what_pydantic_would_bend_is_refused_in_a_notebook_too() -> None:
    """A single part where a list belongs was read as an empty list: the hook would have been left out without a word."""
    train = catalog.load("learn.train")
    with pytest.raises(ValidationError, match=r"expected a list, such as \[learn\.hooks\.keep_zeros\]"):
        train(budget={"steps": 1}, hooks=catalog.build("learn.hooks.keep_zeros"))
    with pytest.raises(ValidationError, match="true is not a number"):
        train(budget={"steps": True})
    assert catalog.load("corpus.clean.code")(keep_rejected=True).knobs()["keep_rejected"] is True


def test_a_measurement_that_declares_no_metrics_may_make_any() -> None:
    assert recipes.loads(ARMS.replace("score.length", "score.width")).claims[0].metric == "score.width"


def test_set_overrides_and_its_mistakes_name_the_option() -> None:
    recipe = recipes.loads(GOOD, settings=["numbers.count=9"])
    assert recipe.arms[""]["numbers"].strategy.knobs()["count"] == 9  # type: ignore[union-attr]
    with pytest.raises(RecipeError) as caught:
        recipes.loads(GOOD, settings=["numbers.count=0"])
    assert "--set numbers.count=0  numbers.count: 0 is not at least 1" in str(caught.value)
    with pytest.raises(RecipeError, match="there is no step nubmers"):
        recipes.loads(GOOD, settings=["nubmers.count=1"])


def test_a_change_of_strategy_forgets_the_knobs_of_the_former_one() -> None:
    recipe = recipes.loads(GOOD.replace("corpus: $numbers}", "corpus: $numbers, mark: x}"), settings=["double.use=toy.slow"])
    assert recipe.arms[""]["double"].strategy.strategy_name() == "toy.slow"  # type: ignore[union-attr]


@pytest.mark.parametrize(
    "text",
    ["", "[]", "3", "steps: 3", "steps: {}", "steps: []", "steps: {a: }", "steps: {a: 3}", "steps: {a: {}}", "steps: {a: {use: }}", "steps: {a: {use: [1]}}",
     "? [1]\n: 2", "a: b: c", "\x00", "steps: {a: {use: toy.numbers}}\n---\nsteps: {}", "%YAML 9.9\n--- {}", "steps: {1: {use: toy.numbers}}", "x: *y", "\ud800",
     "steps:\n\t- x", "steps: {a: {use: toy.numbers, count: 1e999}}", "'unclosed"],
)  # fmt: skip
def test_odd_files_are_clean_errors(text: str) -> None:
    with pytest.raises(RecipeError):
        recipes.loads(text)


def test_deep_and_exploding_files_are_clean_errors() -> None:
    assert "levels deep" in mistakes("steps: " + "[" * 2000 + "]" * 2000)[0][2]
    laughs = "a: &a [x, x]\nb: &b [*a, *a]\nc: [*b, *b]\n"
    assert "anchors and aliases" in mistakes(laughs)[0][2]
    assert "more than" in mistakes("steps: [" + "1," * 30_000 + "1]")[0][2]


def test_a_recipe_that_is_not_there_names_the_nearest_or_the_one_that_ships(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text(GOOD)
    with pytest.raises(UserError) as caught:
        recipes.load(tmp_path / "mien.yaml")
    assert caught.value.todo == f"did you mean {tmp_path / 'mine.yaml'}?"
    with pytest.raises(UserError) as caught:
        recipes.load(tmp_path / "away" / "x.yaml")
    shipped = caught.value.todo.partition(" ships with paredown")[0]
    assert Path(shipped).read_text() == (Path(__file__).parents[2] / "recipes" / "quickstart.yaml").read_text()
