"""Formats: counted by brute force, rendered so that the fields come back, different in one value where they are neighbours."""

from __future__ import annotations

import itertools
from collections import Counter

import numpy as np
import pytest

from paredown.core.errors import UserError
from paredown.engines.prompt_formats import (
    CASINGS,
    NUMBERS,
    SEPARATORS,
    SPACES,
    Format,
    Shape,
    cased,
    draw,
    every,
    label,
    matches,
    neighbors,
    number,
    render,
    sample,
    some_values,
    usual,
    valid,
    values,
)

ONE, TWO = Shape(("answer",)), Shape(("passage text", "answer"))
CHOICE = Shape(("Question", "Answer"), "option")


def test_the_number_of_formats_is_that_of_brute_force() -> None:
    """A field needs a separator, fields a space, and a line break inside of a line is none."""
    expected = 0
    for _, separator, space in itertools.product(CASINGS, SEPARATORS, SPACES):
        if separator == "" or space == "":
            continue
        expected += "\n" in space or "\n" not in separator
    found = list(every(TWO))
    assert len(found) == len(set(found)) == expected == 4 * (14 * 5 + 10 * 9)
    assert len({*SEPARATORS}) == 15
    assert len({*SPACES}) == 15, "the published list has one twice"


def test_options_have_rules_of_their_own() -> None:
    good = Format("as_is", ": ", "\n", "as_is", " ", "({})", "A", ": ", ", ")
    assert valid(CHOICE, good)
    for wrong in (
        {"item_separator": "\n\t"},  # a line break within an item, but none between items
        {"space": ", ", "item_separator": "\n\t", "item_space": "\n"},  # and none between fields
        {"separator": ""},
        {"space": ""},
        {"space": " -- ", "separator": "\n "},
    ):
        assert not valid(CHOICE, Format(**{**vars(good), **wrong})), wrong
    assert valid(CHOICE, Format(**{**vars(good), "item_separator": "", "item_space": ""}))
    assert not valid(Shape(TWO.fields, space_only=True), Format(space=" || "))


def test_a_rendered_prompt_gives_its_fields_back() -> None:
    texts, options, answer = ["47 apples", "x7"], ["north", "south", "west"], "south"
    some = sample(CHOICE, 300, np.random.default_rng(0))
    for shape, chosen in [*((TWO, made) for made in every(TWO)), *((CHOICE, made) for made in some)]:
        prompt = render(shape, chosen, texts[:1], options, answer)
        head = cased(shape.fields[0], chosen.casing) + chosen.separator
        tail = chosen.space + cased(shape.fields[-1], chosen.casing) + chosen.separator
        assert prompt.startswith(head)
        middle, found = prompt.removeprefix(head).rsplit(tail, 1)
        assert found == answer
        if shape is TWO:
            assert middle == texts[0]
            continue
        text, items = middle.split(chosen.space, 1) if chosen.space not in texts[0] else (texts[0], middle[len(texts[0] + chosen.space) :])
        assert text == texts[0] or middle.startswith(texts[0])
        items = middle[len(texts[0] + chosen.space) :]
        for index, option in enumerate(options):
            start = cased("option", chosen.item_casing) + chosen.gap + label(chosen, index) + chosen.item_separator + option
            assert items.startswith(start)
            items = items[len(start) :].removeprefix(chosen.item_space)
        assert items == ""
        assert render(shape, chosen, texts[:1], options) == prompt.removesuffix(answer)


def test_numbers_and_labels() -> None:
    assert [number(3, style) for style in NUMBERS] == ["4", "D", "d", "\u2163", "iv", "IV"]
    assert label(Format(wrapper="[{}]", numbers="i"), 1) == "[ii]"
    with pytest.raises(UserError, match="Roman"):
        number(12, "I")


def test_samples_differ_and_are_even() -> None:
    drawn = sample(CHOICE, 4000, np.random.default_rng(1))
    assert len(set(drawn)) == 4000
    assert all(valid(CHOICE, chosen) for chosen in drawn)
    casings = Counter(chosen.casing for chosen in drawn)
    assert max(casings.values()) - min(casings.values()) < 5 * (4000 * 0.25 * 0.75) ** 0.5
    assert sample(CHOICE, 50, np.random.default_rng(1)) == drawn[:50]
    assert len(sample(TWO, 640, np.random.default_rng(2))) == 640
    with pytest.raises(UserError, match="fewer than 641"):
        sample(TWO, 641, np.random.default_rng(2))


def test_the_published_list_draws_one_space_twice_as_often() -> None:
    rng = np.random.default_rng(3)
    spaces = {switch: Counter(draw(TWO, values(TWO, switch), rng).space for _ in range(6000)) for switch in (False, True)}
    others = [" ", "  ", " || ", " <sep> ", ", ", " , ", ". ", " ,  "]  # without a line break, as " -- ": valid with the same separators
    for switch, times in ((False, 1), (True, 2)):
        mean = sum(spaces[switch][other] for other in others) / len(others)
        assert abs(spaces[switch][" -- "] - times * mean) < 4 * (times * mean) ** 0.5
    assert list(every(TWO, values(TWO, True))) == list(every(TWO)), "the formats are the same"
    assert len(sample(TWO, 640, rng, values(TWO, True))) == 640
    with pytest.raises(UserError, match="fewer than 641"):
        sample(TWO, 641, rng, values(TWO, True))


def test_a_share_of_the_values_has_the_usual_ones() -> None:
    for shape, share in itertools.product((TWO, CHOICE), (0.01, 0.5, 1.0)):
        half, kept = some_values(shape, share, np.random.default_rng(4)), vars(usual(shape))
        for name, some in values(shape).items():
            most = len({*some, kept[name]})  # the usual label has no brackets, which no list of wrappers holds
            assert len(half[name]) == {0.01: 1, 0.5: (len(some) + 1) // 2, 1.0: most}[share]
            assert kept[name] in half[name]
            assert {*half[name]} <= {*some, kept[name]}
        assert valid(shape, usual(shape))
        assert all(valid(shape, draw(shape, half, np.random.default_rng(n))) for n in range(20))
    drawn = {some_values(TWO, 0.5, np.random.default_rng(n))["separator"] for n in range(5)}
    assert len(drawn) > 1


def test_a_key_says_which_format_it_is() -> None:
    keys = [chosen.key() for chosen in every(TWO)]
    assert len({*keys}) == len(keys)
    assert all(0 <= key < 2**63 for key in keys)
    assert Format().key() == Format().key() != Format().key(1)


def test_neighbours_differ_in_one_value() -> None:
    chosen = Format()
    found = neighbors(TWO, chosen)
    assert len(found) == len(set(found)) == 3 + 13 + 13
    assert all(chosen.changes(other) == 1 and valid(TWO, other) for other in found)


@pytest.mark.parametrize(
    ("generated", "gold", "right"),
    [("article", "a", False), ("a", "a", True), ("(A) because", "a", True), ("ii", "i", False), (" i) first", "i)", True), ("", "a", False), ("B.", "[b]", False), ("> b,", "B", True)],
)  # fmt: skip
def test_an_answer_counts_as_a_whole(generated: str, gold: str, right: bool) -> None:
    assert matches(generated, gold) is right
