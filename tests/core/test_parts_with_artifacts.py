"""Parts that take artifacts: written as references, checked, ordered and keyed as the inputs of the step that they plug into."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from toy_runs import run

from paredown.core import recipe as recipes
from paredown.core import schemas
from paredown.core.catalog import build
from paredown.core.errors import RecipeError
from paredown.core.plan import make
from paredown.core.strategy import handed, wires

RECIPE = """\
steps:
  kept: {use: toy.known, corpus: $all, dictionaries: [{use: toy.dictionary, words: $first}, {use: toy.dictionary, words: $halves.train, more: $first}]}
  all: {use: toy.words, words: [a, b, c, d]}
  first: {use: toy.words, words: [a, x]}
  halves: {use: toy.halves, corpus: $all}
arms:
  one: {}
  other: {kept.dictionaries: [{use: toy.dictionary, words: $all}]}
"""


def mistakes(text: str) -> list[tuple[int, int, str, str]]:
    with pytest.raises(RecipeError) as caught:
        recipes.loads(text)
    return [(m.line, m.column, m.what, m.hint) for m in caught.value.mistakes]


def texts(folder: Path) -> list[str]:
    from paredown.artifacts.corpus import Corpus

    return sorted(t for frame in Corpus(folder).frames() for t in frame["text"])


def test_the_artifacts_reach_the_parts(tmp_path: Path) -> None:
    plan, made = run(RECIPE, tmp_path)
    of_arm = {arm: made[plan.names(arm, 0)["kept"]] for arm in ("one", "other")}
    train = texts(made[plan.names("one", 0)["halves"]].folder / "train")
    assert texts(of_arm["one"].folder / "corpus") == sorted({"a", *train})
    assert texts(of_arm["other"].folder / "corpus") == ["a", "b", "c", "d"]
    assert set(of_arm["one"].inputs) == {"corpus", "dictionaries.0.words", "dictionaries.1.words", "dictionaries.1.more"}


def test_the_key_holds_what_the_artifact_is_made_from_and_not_its_name() -> None:
    def key(text: str) -> str:
        plan = make(recipes.loads(text))
        return plan.names("other", 0)["kept"]

    renamed = RECIPE.replace("all:", "everything:").replace("$all", "$everything")
    assert key(renamed) == key(RECIPE)
    assert key(RECIPE.replace("words: $all}]", "words: $first}]")) != key(RECIPE)
    assert key(RECIPE.replace("[a, b, c, d]", "[a, b, c]")) != key(RECIPE)


@pytest.mark.parametrize(
    ("old", "new", "column", "what", "hint"),
    [
        ("words: $first}, {", "words: $frist}, {", 84, "kept.dictionaries[0].words: there is no step frist", "did you mean $first?"),
        (
            "words: $first}, {",
            "words: first}, {",
            84,
            "kept.dictionaries[0].words: expected a reference to Corpus, such as $step",
            "documents",
        ),
        (", words: $first}, {", "}, {", 55, "kept.dictionaries[0].words: missing", "documents whose texts"),
        ("more: $first", "more: $score", 143, "kept.dictionaries[1].more: takes Corpus, but $score is Scores (toy.length)", ""),
        ("more: $first", "more: $kept", 3, "steps wait for each other: kept", ""),
        ("more: $first", "more: $halves.tarin", 143, "$halves.tarin is no part of halves (toy.halves)", "did you mean $halves.train?"),
    ],
)
def test_mistakes_have_their_places(old: str, new: str, column: int, what: str, hint: str) -> None:
    text = RECIPE.partition("arms:")[0].replace(old, new) + "  score: {use: toy.length, corpus: $all}\n"
    assert old in RECIPE
    found = mistakes(text)
    assert [(line, place) for line, place, said, said_hint in found if what in said and hint in said_hint] == [(2, column)], found


def test_in_a_notebook_the_field_is_the_artifact(tmp_path: Path) -> None:
    from paredown.artifacts.corpus import Corpus

    corpus = Corpus.from_texts(tmp_path / "c", ["a", "b"])
    part = build({"use": "toy.dictionary", "words": corpus})
    known = build({"use": "toy.known", "dictionaries": [part]})
    assert [path for path, _, _ in wires(known)] == ["dictionaries.0.words"]
    assert texts(known(corpus).path) == ["a", "b"]  # type: ignore[operator]
    spec = known.spec()
    json.dumps(spec)
    again, inputs = handed(build(spec), {"dictionaries.0.words": corpus, "corpus": corpus})  # type: ignore[arg-type]
    assert inputs == {"corpus": corpus}
    assert again.dictionaries[0].words is corpus  # type: ignore[attr-defined]


def test_the_schema_asks_for_a_reference() -> None:
    fields = schemas.strategy("toy.dictionary")
    assert fields["properties"]["words"]["pattern"].startswith("^\\$")
    assert fields["required"] == ["use", "words"]
