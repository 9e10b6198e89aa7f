"""The list of published systems: complete, unique, well-formed, and found by number or name."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest

from paredown.core import catalog, systems
from paredown.core.errors import UserError

ALL = systems.systems()


def test_there_are_101_in_order_without_gaps() -> None:
    assert [system.number for system in ALL] == list(range(1, 102))


def test_no_two_share_a_slug_an_id_or_a_title() -> None:
    for field in ("slug", "arxiv", "title"):
        values = [getattr(system, field) for system in ALL]
        assert len(set(values)) == len(values), field


@pytest.mark.parametrize("system", ALL, ids=str)
def test_a_row_is_well_formed(system: systems.System) -> None:
    assert re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", system.slug)
    assert not system.slug.isdigit(), "a number would be taken for the system's"
    assert system.stage in catalog.STAGES
    year, month, serial = re.fullmatch(r"(\d\d)(\d\d)\.(\d{4,5})", system.arxiv).groups()  # type: ignore[union-attr]
    assert 1 <= int(month) <= 12
    assert len(serial) == (4 if int(year) < 15 else 5), "five digits since 2015"
    assert system.title == " ".join(system.title.split())
    assert len(system.title) > 15
    assert system.title.isascii()


def test_strategies_name_only_systems_that_there_are() -> None:
    numbers = {system.number for system in ALL}
    for entry in catalog.entries():
        assert set(entry.systems) <= numbers, entry.name


@pytest.mark.parametrize("text", ["41", "041", "rethinking-pruning", "041-rethinking-pruning", " Rethinking-Pruning "])
def test_one_is_found_by_number_and_by_name(text: str) -> None:
    found = systems.find(text)
    assert (found.number, found.arxiv, found.title) == (41, "1810.05270", "Rethinking the Value of Network Pruning")


def test_every_one_is_found_by_each_of_its_names() -> None:
    for system in ALL:
        assert systems.find(system.slug) is systems.find(str(system)) is systems.find(f"{system.number:03d}") is system


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("rethinking-prunning", "did you mean rethinking-pruning?"),
        ("042-rethinking-pruning", "did you mean 041-rethinking-pruning?"),
        ("0", "they are numbered 1 to 101"),
        ("102", "they are numbered 1 to 101"),
        ("-41", "give a number from 1 to 101 or a short name such as dsee"),
        ("\u0664\u0661", "give a number from 1 to 101 or a short name such as dsee"),
        ("", "give a number from 1 to 101 or a short name such as dsee"),
    ],
)
def test_what_is_not_there_gets_the_nearest(text: str, hint: str) -> None:
    with pytest.raises(UserError, match="there is no system") as caught:
        systems.find(text)
    assert caught.value.todo == hint


def test_reading_them_imports_nothing_but_the_standard_library() -> None:
    code = (
        "import sys\nfrom paredown.core import systems, taxonomy\nsystems.systems()\n"
        "print({m.partition('.')[0] for m in sys.modules} - set(sys.stdlib_module_names) - {'__main__', 'paredown'})"
    )
    before = subprocess.run([sys.executable, "-c", code.replace("from paredown.core import systems, taxonomy\nsystems.systems()\n", "")],
                            capture_output=True, text=True, check=True)  # fmt: skip
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout == before.stdout, "beyond what the interpreter itself starts with"
