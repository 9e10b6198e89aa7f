"""docs/catalog.md and docs/taxonomy.md are what the code generates, so that no strategy is missing from them."""

from __future__ import annotations

import importlib.util
from types import ModuleType

from pages import ROOT  # type: ignore[import-not-found]

from paredown.core import catalog


def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("make_catalog", ROOT / "docs" / "make_catalog.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_page_is_what_the_code_generates() -> None:
    made = script()
    assert made.PAGE.read_text(encoding="utf-8") == made.page(), "write it again: .venv/bin/python docs/make_catalog.py"
    assert made.TAXONOMY.read_text(encoding="utf-8") == made.taxonomy_page(), "write it again: .venv/bin/python docs/make_catalog.py"


def test_every_strategy_of_ours_is_on_it_and_none_of_others() -> None:
    page = script().page()
    for entry in catalog.entries():
        assert (f"| `{entry.name}` |" in page) == entry.module.startswith("paredown."), entry.name


def test_the_taxonomy_has_every_strategy_of_ours_at_each_thing_it_acts_on() -> None:
    page = script().taxonomy_page()
    for entry in catalog.entries():
        acts_on = sum(tag.startswith("what-") for tag in entry.tags)
        assert page.count(f"| `{entry.name}` |") == (acts_on if entry.module.startswith("paredown.") else 0), entry.name


def test_the_taxonomy_says_when_each_acts() -> None:
    rows = [line.split("|")[1:-1] for line in script().taxonomy_page().splitlines() if line.startswith("|")]
    head = next(cells for cells in rows if cells[1].strip() == "strategy")
    names = [cell.strip() for cell in head]
    (wanda,) = [
        dict(zip(names, (c.strip() for c in cells), strict=True))
        for cells in rows
        if len(cells) == len(head) and "`prune.wanda`" in cells[1]
    ]
    assert {name for name, cell in wanda.items() if cell == "x"} == {"after"}
    assert (wanda["speed-up"], wanda["needs"], wanda["chosen by"]) == ("special", "data", "magnitude, norm within row")
