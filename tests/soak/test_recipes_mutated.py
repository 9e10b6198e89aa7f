"""Mutated recipes: always a clean error with a place, or a plan; never a traceback."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, seed, settings
from hypothesis import strategies as st

from paredown.core import plan as plans
from paredown.core import recipe as recipes
from paredown.core.errors import RecipeError

ROOT = Path(__file__).parents[2]
SOURCES = [
    (ROOT / "recipes" / "quickstart.yaml").read_text(),
    "seed: 1\nsteps:\n  a: {use: toy.numbers, count: 3}\n  b: {use: toy.double, corpus: $a}\narms: {x: {b.skip: true}, y: {b.mark: q}}\nseeds: [0, 1]\n",
]
PIECES = st.one_of(
    st.sampled_from([
        "$", "$a", "$tokens.train", ".", ":", "{", "}", "[", "]", "- ", "? ", "&x ", "*x", "!!python/name:os.system", "!x", "\n", "\n  ", "\t", "#", "'", '"', "|\n", ">-\n",
        "null", "true", "-1", "1e999", ".nan", "0x10", "use", "use: ", "skip: true", "steps", "arms:", "seeds: [1, 1]", "claims: [{}]", "<<: *x", "---\n", "...\n", "%YAML 1.2\n",
        "\x00", "\x1b", "\ud800", "\ufeff", "\u2028", "é", "汉", "9" * 50, "prune.wanda", "corpus.dedup.minhash",
    ]),
    st.text(max_size=6),
)  # fmt: skip


@st.composite
def mutated(draw: st.DrawFn) -> str:
    text = draw(st.sampled_from(SOURCES))
    for _ in range(draw(st.integers(1, 6))):
        kind = draw(st.sampled_from(["insert", "delete", "swap", "replace", "repeat"]))
        at = draw(st.integers(0, max(0, len(text) - 1)))
        size = draw(st.integers(1, 30))
        if kind == "insert":
            text = text[:at] + draw(PIECES) + text[at:]
        elif kind == "delete":
            text = text[:at] + text[at + size :]
        elif kind == "replace":
            text = text[:at] + draw(PIECES) + text[at + size :]
        elif kind == "repeat":
            text = text[:at] + text[at : at + size] * draw(st.integers(1, 4)) + text[at:]
        else:
            lines = text.split("\n")
            i, j = draw(st.integers(0, len(lines) - 1)), draw(st.integers(0, len(lines) - 1))
            lines[i], lines[j] = lines[j], lines[i]
            text = "\n".join(lines)
    return text


def outcome(text: str) -> str:
    """'plan' or 'mistakes'; anything else is raised."""
    found: RecipeError | None = None
    try:
        plan = plans.make(recipes.loads(text, "mutated.yaml"))
    except RecipeError as error:
        found = error
    if found is None:
        assert plan.tasks
        return "plan"
    assert found.mistakes
    for mistake in found.mistakes:
        assert mistake.line >= 1
        assert mistake.column >= 1
        assert mistake.what
    assert "Traceback" not in str(found)
    return "mistakes"


def test_mutated_recipes_end_in_a_plan_or_in_mistakes_with_places(request: pytest.FixtureRequest) -> None:
    count = 2000 if request.config.getoption("--soak") else 200
    seen = {"plan": 0, "mistakes": 0}

    @seed(20261124)
    @settings(max_examples=count, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    @given(mutated())
    def check(text: str) -> None:
        seen[outcome(text)] += 1

    check()
    print(f"{sum(seen.values())} mutated recipes: {seen['plan']} plans, {seen['mistakes']} clean errors, 0 tracebacks")
    assert seen["mistakes"] > count // 4
    assert seen["plan"] > 0
