"""Which strategies a claim tests, what the index keeps of it, and how the catalog says it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from paredown.core import catalog, evidence
from paredown.core import recipe as recipes
from paredown.core.plan import make
from paredown.core.systems import System, systems
from paredown.report import evidence as writing
from paredown.report.evidence import Run, refresh

QUICKSTART = Path(__file__).parents[2] / "recipes" / "quickstart.yaml"
SPARSEGPT, MAGNITUDE = 32, 41  # a system that prune.sparsegpt serves, and one that only prune.magnitude does


def system(number: int) -> System:
    return systems()[number - 1]


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.setattr(evidence, "folder", lambda: tmp_path)
    evidence.index.cache_clear()
    yield tmp_path
    evidence.index.cache_clear()


def claims(*rows: tuple[str, str, str, str]) -> dict[str, Any]:
    return {"claims": [dict(zip(("metric", "arm", "other", "verdict"), row, strict=True)) for row in rows]}


def test_a_claim_tests_what_made_the_arm_and_not_the_other() -> None:
    run = Run(
        make(recipes.load(QUICKSTART)),
        claims(
            ("quality_after.bits_per_byte", "sparsegpt", "control", "holds"),
            ("pruned_quality.bits_per_byte", "sparsegpt", "control", "undecided"),
            ("speed.decode_tokens_per_second", "narrow", "dense", "fails"),
        ),
    )
    assert writing.tested(system(SPARSEGPT), [run]) == {
        "prune.sparsegpt": ["holds", "undecided"],
        "prune.magnitude": ["control", "control"],
        "prune.channels": ["fails"],
        "learn.hooks.keep_zeros": ["fails"],  # the narrow arm is healed, the dense one is not
    }


@pytest.mark.parametrize("number", [MAGNITUDE, SPARSEGPT, 1])
def test_where_only_knobs_differ_a_claim_tests_what_of_this_system_is_set_otherwise(number: int) -> None:
    text = QUICKSTART.read_text()
    arms = "arms:\n  control: {}\n  gentle: {smaller.sparsity: 0.5}\n  longer: {healed.budget.tokens: 4e5}\n"
    plan = make(recipes.loads(text[: text.index("\narms:") + 1] + arms))

    def found(arm: str, step: str) -> dict[str, list[str]]:
        return writing.tested(system(number), [Run(plan, claims((f"{step}.loss", arm, "control", "holds")))])

    def serving(*names: str) -> dict[str, list[str]]:
        return {name: ["holds"] for name in names if number in catalog.entry(name).systems}

    assert found("gentle", "pruned_quality") == serving("prune.magnitude", "measure.perplexity")
    assert ("prune.magnitude" in found("gentle", "pruned_quality")) == (number != 1)
    assert found("longer", "quality_after") == serving("learn.train", "learn.hooks.keep_zeros", "measure.perplexity"), "pruning is shared"
    assert found("longer", "pruned_quality") == {}, "nothing differs"


def entry(number: int, verdicts: list[str], strategies: dict[str, list[str]], size: str = "small") -> dict[str, Any]:
    return {
        "system": number, "slug": system(number).slug, "size": size, "file": f"{system(number)}.md", "verdicts": verdicts, "seconds": 90.0,
        "flops": 1e9, "trainings": 2, "strategies": strategies, "date": "2026-01-01",
    }  # fmt: skip


def test_the_index_grows_by_one_system_and_a_larger_size_replaces_no_small_one(tmp_path: Path) -> None:
    def stored() -> dict[str, Any]:
        loaded: dict[str, Any] = json.loads((tmp_path / "index.json").read_text())
        return loaded

    refresh(tmp_path)
    assert stored() == {"format": 1, "systems": {}, "strategies": {}}
    assert "0 proved, no claims." in (tmp_path / "README.md").read_text()
    refresh(tmp_path, entry(80, ["holds", "holds"], {"prune.wanda": ["holds", "holds"], "prune.magnitude": ["control"]}))
    refresh(tmp_path, entry(39, ["fails"], {"prune.wanda": ["fails"]}, size="gpu"))
    assert list(stored()["systems"]) == ["39", "80"], "by number, not as text and not as proved"
    assert stored()["strategies"] == {"prune.magnitude": [[80, "control"]], "prune.wanda": [[39, "fails"], [80, "holds"]]}
    refresh(tmp_path, entry(39, ["undecided"], {"prune.wanda": ["undecided"]}))
    refresh(tmp_path, entry(39, ["holds"], {}, size="gpu"))
    assert stored()["systems"]["39"] == entry(39, ["undecided"], {"prune.wanda": ["undecided"]})
    refresh(tmp_path, entry(80, ["no verdict"], {}))
    assert stored()["strategies"] == {"prune.wanda": [[39, "undecided"]]}
    page = (tmp_path / "README.md").read_text()
    assert "2 proved, 2 claims: 1 undecided, 1 without a verdict." in page
    assert f"| [{system(80)}]({system(80)}.md) | {system(80).title}, " in page
    assert "| 1 claim: 1 without a verdict | 1 m 30 s |" in page


@pytest.mark.parametrize("damage", ["", "{", "[]", '{"format": 1}'])
def test_a_damaged_index_is_begun_anew(place: Path, damage: str) -> None:
    (place / "index.json").write_text(damage)
    assert evidence.of("prune.wanda") == []
    refresh(place, entry(80, ["holds"], {"prune.wanda": ["holds"]}))
    evidence.index.cache_clear()
    assert evidence.of("prune.wanda") == [evidence.Finding(80, "holds")]


def test_without_evidence_nothing_is_said(place: Path) -> None:
    assert evidence.index() == {"systems": {}, "strategies": {}}
    assert evidence.in_words("prune.wanda") == ""
    assert evidence.rows("prune.wanda") == []


@pytest.mark.parametrize(
    ("found", "words"),
    [
        ([[41, "holds"]], "holds (041)"),
        ([[41, "holds"], [41, "undecided"], [41, "fails"]], "holds, fails, undecided (041)"),
        ([[41, "undecided"], [80, "holds"]], "holds, undecided"),
        ([[41, "control"], [80, "control"]], "control"),
        ([[41, "control"]], "control"),
        ([[41, "control"], [80, "no verdict"]], "no verdict (080)"),
        ([], ""),
    ],
)
def test_verdicts_fit_one_column(place: Path, found: list[Any], words: str) -> None:
    (place / "index.json").write_text(json.dumps({"format": 1, "systems": {}, "strategies": {"prune.wanda": found}}))
    assert evidence.in_words("prune.wanda") == words
    assert evidence.rows("prune.wanda") == [{"system": number, "verdict": verdict} for number, verdict in found]
    assert evidence.in_words("prune.magnitude") == ""


def test_evidence_lies_in_the_package_or_beside_its_sources() -> None:
    assert evidence.folder() in (catalog.PACKAGE / "evidence", catalog.PACKAGE.parents[1] / "docs" / "evidence")
