"""Lists, mappings and texts that are too short are said in the recipe's words."""

from __future__ import annotations

from typing import Annotated, Any

import pytest
from pydantic import BaseModel, Field, ValidationError

from paredown.core.wording import message


class Knobs(BaseModel):
    names: Annotated[tuple[str, ...], Field(min_length=1)] = ("a",)
    pair: Annotated[tuple[str, ...], Field(min_length=2)] = ("a", "b")
    shares: Annotated[dict[str, float], Field(min_length=1)] = {"a": 1}
    text: Annotated[str, Field(min_length=1)] = "a"


@pytest.mark.parametrize(
    ("knob", "value", "said"),
    [
        ("names", (), "() is too short: it needs 1 value at least"), ("pair", ["a"], "['a'] is too short: it needs 2 values at least"),
        ("shares", {}, "a mapping is too short: it needs 1 value at least"), ("text", "", "'' is too short: it needs 1 character at least"),
    ],
)  # fmt: skip
def test_what_is_too_short(knob: str, value: Any, said: str) -> None:
    with pytest.raises(ValidationError) as caught:
        Knobs(**{knob: value})
    assert message(caught.value.errors()[0]) == said
