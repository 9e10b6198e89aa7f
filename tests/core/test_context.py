"""The surroundings of a step outside of a run, as in a notebook."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest

from paredown.core.context import Context, context, running


def test_what_only_tells_of_progress_makes_no_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "TemporaryDirectory", None)
    context().progress(1, 2, "documents")
    context().drop("short", 1)
    context().says = "said"
    assert context().derived_seed("a") == context().derived_seed("a")


def test_every_call_has_folders_of_its_own_and_what_was_paid_for_lies_in_one_place() -> None:
    first, second = context(), context()
    assert first.scratch.is_dir()
    assert first.scratch == first.scratch, "one place, however often it is asked for"
    assert first.scratch != second.scratch
    assert first.output("model").is_dir()
    assert second.output("model").is_dir()
    assert first.shared == second.shared is not None
    assert first.shared.is_dir()
    with running(first) as step:
        assert context() is step


def test_a_step_of_a_run_keeps_the_folders_that_it_was_given(tmp_path: Path) -> None:
    given = Context(tmp_path / "out", tmp_path / "scratch")
    with running(given):
        assert context().scratch == given.scratch
        assert context().shared is None
