"""docs/catalog.md is what the code generates, so that no strategy is missing from it."""

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


def test_every_strategy_of_ours_is_on_it_and_none_of_others() -> None:
    page = script().page()
    for entry in catalog.entries():
        assert (f"| `{entry.name}` |" in page) == entry.module.startswith("paredown."), entry.name
