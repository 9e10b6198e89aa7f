"""The taxonomy: tags to axes and back, what a strategy must say, and what a filter finds."""

from __future__ import annotations

import itertools

import pytest

from paredown.core import taxonomy
from paredown.core.errors import UserError

WANDA = ("when-after", "what-weights", "how-magnitude", "how-norm", "scope-row", "speedup-special", "needs-data")


def test_tags_are_read_by_axis() -> None:
    assert taxonomy.parse(WANDA) == {
        "when": ["after"], "what": ["weights"], "how": ["magnitude", "norm"], "scope": ["row"], "speedup": ["special"], "needs": ["data"],
    }  # fmt: skip


def test_every_value_is_read_back_from_its_tag_and_has_a_meaning() -> None:
    for axis in taxonomy.AXES.values():
        for value, meaning in axis.values.items():
            place = taxonomy.parse([f"{axis.name}-{value}"])
            assert {name: values for name, values in place.items() if values} == {axis.name: [value]}
            assert len(meaning) > 4
            assert "\n" not in meaning


def test_values_come_in_the_order_of_the_axis_whatever_the_order_of_the_tags() -> None:
    tags = [f"when-{value}" for value in taxonomy.AXES["when"].values]
    for order in itertools.permutations(tags):
        assert taxonomy.parse(order)["when"] == ["before", "during", "after", "runtime"]


def test_what_is_no_tag_is_left_out() -> None:
    assert not any(taxonomy.parse(["when", "when-", "-after", "what-weights-", "after", ""]).values())


@pytest.mark.parametrize(
    ("name", "tags", "said"),
    [
        ("prune.wanda", WANDA, []),
        ("learn.schedules.cosine", ("when-during", "what-weights", "speedup-none"), []),
        ("prune.new", tuple(t for t in WANDA if not t.startswith("how-")), ["no how- tag (one or more for prune.* of magnitude"]),
        ("pruneless.new", tuple(t for t in WANDA if not t.startswith("how-")), []),
        ("prune.new", tuple(t for t in WANDA if not t.startswith(("scope-", "needs-"))), []),
        ("prune.new", WANDA[1:], ["no when- tag (one or more of before, during"]),
        ("prune.new", tuple(t for t in WANDA if not t.startswith("what-")), ["no what- tag"]),
        ("prune.new", tuple(t for t in WANDA if not t.startswith("speedup-")), ["no speedup- tag (exactly one of universal"]),
        ("prune.new", (*WANDA, "speedup-none"), ["exactly one of speedup-special and speedup-none"]),
        ("prune.new", (*WANDA, "what-wieghts"), ["what-wieghts is no tag; did you mean what-weights?"]),
        ("prune.new", (*WANDA, "when-after"), ["when-after stands there twice"]),
        ("corpus.new", (), ["no when- tag", "no what- tag", "no speedup- tag"]),
    ],
)
def test_what_is_wrong_with_tags_is_said(name: str, tags: tuple[str, ...], said: list[str]) -> None:
    found = taxonomy.mistakes(name, tags)
    assert len(found) == len(said), found
    assert all(text.startswith(beginning) for text, beginning in zip(found, said, strict=True)), found


def test_a_filter_means_any_value_of_an_axis_and_every_axis() -> None:
    """Against sets, over all pairs of values of two axes and all strategies that one could write with them."""
    when, needs = list(taxonomy.AXES["when"].values), [*taxonomy.AXES["needs"].values, "none"]
    for chosen_when, chosen_needs in itertools.product(powerset(when, 2), powerset(needs[:-1], 2)):
        tags = [f"when-{v}" for v in chosen_when] + [f"needs-{v}" for v in chosen_needs]
        for asked_when, asked_needs in itertools.product(powerset(when, 2), powerset(needs, 2)):
            expected = (not asked_when or bool(set(asked_when) & set(chosen_when))) and (
                not asked_needs or bool(set(asked_needs) & (set(chosen_needs) or {"none"}))
            )
            assert taxonomy.matches(tags, {"when": list(asked_when), "needs": list(asked_needs)}) == expected, (
                tags,
                asked_when,
                asked_needs,
            )


def powerset(values: list[str], most: int) -> list[tuple[str, ...]]:
    return [chosen for count in range(most + 1) for chosen in itertools.combinations(values, count)]


def test_no_speedup_is_a_value_and_not_silence() -> None:
    assert taxonomy.matches(["speedup-none"], {"speedup": ["none"]})
    assert not taxonomy.matches(["speedup-special"], {"speedup": ["none"]})


def test_known_values_pass_and_others_get_the_nearest() -> None:
    for name, known in taxonomy.AXES.items():
        taxonomy.check({name: list(known.values)})
    taxonomy.check({"needs": ["none"], "how": ["none"], "scope": ["none"], "speedup": ["none"]})
    for axis, value, hint in (
        ("what", "chanels", "did you mean channels?"),
        ("when", "xyz", "there are before, during, after, runtime"),
        ("what", "none", "there are weights, channels,"),
        ("what", "Weights", "did you mean weights?"),
        ("needs", "", "there are data, gradients, retraining, none"),
    ):
        with pytest.raises(UserError, match=f"--{axis} has no value {value}") as caught:
            taxonomy.check({axis: [value]})
        assert caught.value.todo.startswith(hint), (axis, value, caught.value.todo)


def test_tags_in_words() -> None:
    assert taxonomy.words(WANDA) == (
        "after training; weights, by magnitude and norm, within a row; faster only with special kernels; needs data"
    )
    assert taxonomy.words(["when-before", "what-data", "what-tokens", "what-bits", "speedup-none"]) == (
        "before training; bits, data and tokens; no speed-up by itself"
    )
    assert taxonomy.words([]) == ""
