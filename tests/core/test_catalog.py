"""The catalog: listing imports nothing heavy, a broken file breaks only itself, other packages join by entry point."""

from __future__ import annotations

import ast
import gc
import subprocess
import sys
from pathlib import Path

import pytest

from paredown.core import catalog, plan, recipe
from paredown.core.errors import MissingExtra, UserError
from paredown.core.workspace import Workspace

HEAVY = ("torch", "transformers", "polars", "pyarrow", "numba", "numpy", "scipy", "accelerate", "tokenizers", "ray", "datasets")


def test_every_entry_is_sound_and_importable() -> None:
    for entry in catalog.entries():
        assert not entry.broken, entry
        assert catalog.load(entry.name).strategy_name() == entry.name


def test_listing_validation_and_schema_import_nothing_heavy() -> None:
    recipe = Path(__file__).parents[2] / "recipes" / "quickstart.yaml"
    code = (
        "import sys\nfrom paredown.core import catalog, recipe, schemas, plan\ncatalog.entries()\nschemas.recipe()\n"
        f"plan.make(recipe.load({str(recipe)!r}))\n"
        f"print([m for m in {HEAVY!r} if m in sys.modules])"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"


def test_another_package_joins_through_its_entry_point() -> None:
    assert catalog.entry("toy.double").summary == "Write every text twice."
    assert catalog.load("toy.double").strategy_name() == "toy.double"
    assert "toy._helper" not in catalog.paths()


@pytest.mark.parametrize("enabled", [True, False])
def test_reading_cards_leaves_the_collector_as_it_was(enabled: bool) -> None:
    before = gc.isenabled()
    (gc.enable if enabled else gc.disable)()
    try:
        with catalog._uncollected():
            assert not gc.isenabled()
            catalog.entry.__wrapped__("toy.double")
            assert not gc.isenabled()
        assert gc.isenabled() is enabled
        with pytest.raises(KeyError):
            catalog.entry.__wrapped__("toy.none")
        assert gc.isenabled() is enabled
    finally:
        (gc.enable if before else gc.disable)()


def test_an_unknown_name_gets_the_nearest() -> None:
    with pytest.raises(UserError, match=r"no strategy toy\.doubel") as caught:
        catalog.load("toy.doubel")
    assert "did you mean toy.double?" in caught.value.todo


def test_a_broken_file_breaks_only_its_own_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "wrong.py").write_text("def (:\n")
    (tmp_path / "empty.py").write_text("x = 1\n")
    (tmp_path / "raises.py").write_text('class Raises:\n    """A."""\nraise ValueError("at import")\n')
    roots = [*catalog._roots(), ("more", tmp_path, "paredown_more")]
    monkeypatch.setattr(catalog, "_roots", lambda: roots)
    catalog.paths.cache_clear()
    catalog.entry.cache_clear()
    try:
        assert "does not parse" in catalog.entry("more.wrong").broken
        assert "no class named like the file" in catalog.entry("more.empty").broken
        with pytest.raises(UserError, match=r"more\.wrong is broken"):
            catalog.load("more.wrong")
        with pytest.raises(UserError, match=r"more\.raises cannot be imported"):
            catalog.load("more.raises")
        assert not catalog.entry("toy.double").broken
    finally:
        monkeypatch.undo()
        catalog.paths.cache_clear()
        catalog.entry.cache_clear()


def test_knob_comments_and_sections_are_read() -> None:
    entry = catalog.entry("toy.numbers")
    assert [(k.name, k.default, k.comment) for k in entry.knobs] == [("count", "5", "documents"), ("upper", "1000", "largest number")]
    assert entry.source == "none (ours)."
    assert entry.seeded


def test_every_import_of_a_syntax_tree_is_found_in_the_text(tmp_path: Path) -> None:
    import json

    odd = tmp_path / "odd.py"
    odd.write_text(
        "import a.b as c, d; import e\nif True: from f import g\nfrom h import (  # why\n    i,  # not, this\n    j as k,\n)\n"
        "from l import m, \\\n    n\ntry:\n    from . import o\nexcept ImportError: import p\nfrom ..q.r import s\nfrom t import *\n".replace(
            "\n\tfrom", "\nfrom"
        )
    )
    assert catalog._imports(odd, "x.y.odd") == tuple(
        sorted(["a.b", "d", "e", "f", "f.g", "h", "h.i", "h.j", "l", "l.m", "l.n", "x.y", "x.y.o", "p", "x.q.r", "x.q.r.s", "t", "t.*"])
    )
    for path in [*catalog.PACKAGE.rglob("*.py"), *Path(json.__file__).parents[1].glob("*.py")]:
        found = set(catalog._imports(path, "x.y.z"))
        tree = ast.parse(path.read_bytes())
        guarded = (n for n in tree.body if isinstance(n, ast.If) and isinstance(n.test, ast.Name) and n.test.id == "TYPE_CHECKING")
        typed = {id(inner) for block in guarded for statement in block.body for inner in ast.walk(statement)}
        for node in ast.walk(tree):
            if id(node) in typed:
                continue
            if isinstance(node, ast.Import):
                assert {alias.name for alias in node.names} <= found, path
            elif isinstance(node, ast.ImportFrom) and not node.level:
                assert {f"{node.module}.{alias.name}" for alias in node.names} <= found, path


def test_what_is_imported_for_annotations_alone_does_not_count(tmp_path: Path) -> None:
    """A change in an engine makes the steps that compute with it anew, not all whose signatures name its types."""
    module = tmp_path / "typed.py"
    module.write_text(
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from a import b\n\n    import c\n\nfrom d import e\n\ndef f():\n    import g\n"
    )
    assert catalog._imports(module, "x.typed") == ("d", "d.e", "g", "typing", "typing.TYPE_CHECKING")
    embedder = catalog._module_path("paredown.engines.parts")
    assert embedder
    assert "paredown.engines.training" not in catalog._imports(embedder, "paredown.engines.parts")


def test_a_library_that_is_missing_is_named_with_its_extra_before_anything_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An import inside of a step would fail only when the step's turn comes."""
    version = catalog.version

    def without(name: str) -> str | None:
        return None if name == "pillow" else version(name)

    assert catalog.lacking("vision") is None
    planned = plan.make(recipe.loads("steps:\n  digits: {use: corpus.read.digits}\n"))
    place = Workspace(tmp_path)
    assert plan.estimates(planned, place)
    monkeypatch.setattr(catalog, "version", without)
    with pytest.raises(MissingExtra, match=r"corpus\.read\.digits needs the Python package 'pillow'") as found:
        plan.estimates(planned, place)
    assert found.value.todo == 'pip install "paredown[vision]"'
    assert plan.estimates(plan.make(recipe.loads("steps:\n  library: {use: corpus.read.stdlib}\n")), place)
