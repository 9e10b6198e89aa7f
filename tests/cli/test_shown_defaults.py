"""Defaults as one would write them in a recipe, also those that a module has a name for."""

from __future__ import annotations

import pytest

from paredown.cli.show import _default
from paredown.core import catalog


@pytest.mark.parametrize(
    ("source", "written"),
    [
        ("False", "false"), ("None", "null"), ("()", "[]"), ("('medium',)", "[medium]"), ("('\\n',)", '["\\n"]'), ("''", '""'),
        ("'auto'", "auto"), ("0.5", "0.5"), ("Field(default_factory=lambda: build('infer.prepack'))", "infer.prepack"), ("NAME", "NAME"),
    ],
)  # fmt: skip
def test_a_default_is_written_as_in_a_recipe(source: str, written: str) -> None:
    assert _default(source) == written


def test_a_constant_is_shown_by_what_it_is() -> None:
    knobs = {knob.name: knob.default or "" for knob in catalog.entry("infer.prompting.few_shot").knobs}
    assert _default(knobs["instruction"]).startswith("Explain step by step")
