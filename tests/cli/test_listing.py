"""`paredown list`: which entries an axis picks, and columns that fit."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from paredown.cli import listing
from paredown.core import catalog, taxonomy
from paredown.core.catalog import Entry
from paredown.core.errors import UserError

TAGS = ("when-during", "when-after", "what-weights", "speedup-none")


def entry(name: str, summary: str, tags: tuple[str, ...] = TAGS) -> Entry:
    return Entry(name, Path("none.py"), summary=summary, tags=tags)


def names(*given: object) -> set[str]:
    return {e.name for e in listing.select(*given)}  # type: ignore[arg-type]


def test_axes_pick_what_the_tags_say() -> None:
    everything = {e.name: set(e.tags) for e in catalog.entries()}
    assert names("", {}) == set(everything)
    assert names("", {"what": ["channels"]}) == {n for n, tags in everything.items() if "what-channels" in tags}
    assert names("", {"when": ["before", "runtime"], "speedup": ["none"]}) == {
        n for n, tags in everything.items() if tags & {"when-before", "when-runtime"} and "speedup-none" in tags
    }
    silent = {n for n, tags in everything.items() if n.startswith("prune.") and not any(t.startswith("needs-") for t in tags)}
    assert names("prune", {"needs": ["none"]}) == silent
    assert {"prune.magnitude", "prune.random"} <= silent


def test_a_family_is_a_whole_part_of_a_name() -> None:
    assert names("prune", {}) == {n for n in catalog.paths() if n.startswith("prune.")}
    assert names("prune.wanda", {}) == {"prune.wanda"}
    with pytest.raises(UserError, match="begins with pru") as caught:
        listing.select("pru", {})
    assert "did you mean" in caught.value.todo


def test_nothing_found_says_what_there_is() -> None:
    with pytest.raises(UserError, match="nothing under toy has --when runtime --needs gradients") as caught:
        listing.select("toy", {"when": ["runtime"], "needs": ["gradients"]})
    assert caught.value.todo == "there is when before; needs none"


@pytest.mark.parametrize("proof", ["", "holds, undecided (080)"])
def test_no_line_is_wider_than_100_and_nothing_is_lost(proof: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("paredown.core.evidence.in_words", lambda name: proof)
    found = catalog.entries()
    text = "\n".join(listing.lines(found))
    assert max(map(len, text.splitlines())) <= 100
    expected = [
        f"{e.name} {', '.join(taxonomy.parse(e.tags)['what'])} {', '.join(taxonomy.parse(e.tags)['when'])} {proof} {e.summary}"
        for e in found
    ]
    assert text.split() == " ".join(expected).split()


def test_columns_line_up_and_an_empty_one_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    short, long = entry("prune.a", "One."), entry("prune.longer", "Two " * 30 + "ends.", ("when-before", "what-data", "speedup-none"))
    first, second, *rest = "\n".join(listing.lines([short, long])).splitlines()
    assert first == "prune.a       weights  during, after  One."
    assert second.startswith("prune.longer  data     before         Two Two")
    assert rest
    assert all(line.startswith(" " * first.index("One") + "Two") or line.strip().startswith("ends") for line in rest)
    monkeypatch.setattr("paredown.core.evidence.in_words", lambda name: "holds" if name == "prune.a" else "")
    assert next(listing.lines([short, long])) == "prune.a       weights  during, after  holds  One."


def test_a_sentence_without_room_beside_stands_below() -> None:
    wide = entry("learn." + "x" * 60, "A sentence of its own.")
    assert "\n".join(listing.lines([wide])).splitlines() == [f"{wide.name}  weights  during, after", "    A sentence of its own."]


def test_a_broken_file_and_one_without_tags_are_listed() -> None:
    broken = Entry("prune.bad", Path("bad.py"), broken="does not parse: line 1")
    assert list(listing.lines([broken])) == ["prune.bad  BROKEN: does not parse: line 1"]


def test_json_has_the_axes(capsys: pytest.CaptureFixture[str]) -> None:
    listing.list_("prune.wanda", as_json=True)
    (row,) = json.loads(capsys.readouterr().out)["strategies"]
    assert [f"{axis}-{value}" for axis, values in row["taxonomy"].items() for value in values] == row["tags"]
    assert row["taxonomy"]["how"] == ["magnitude", "norm"]


def listed(*arguments: str) -> subprocess.CompletedProcess[str]:
    """The whole program in a process of its own; its last line of errors says whether pydantic was imported."""
    code = (
        "import sys\nfrom paredown.cli.main import main\nsys.argv[0] = 'paredown'\n"
        "try:\n    main()\nfinally:\n    print('pydantic' in sys.modules, file=sys.stderr)"
    )
    return subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, timeout=60)


@pytest.mark.parametrize(
    ("arguments", "family", "wanted"),
    [
        ((), "", {}),
        (("prune",), "prune", {}),
        (("--what", "channels", "--what", "data", "--when=after", "--needs", "data"), "", {"what": ["channels", "data"], "when": ["after"], "needs": ["data"]}),
        (("--scope", "row", "prune"), "prune", {"scope": ["row"]}),
    ],
)  # fmt: skip
def test_values_arrive_as_typed_and_pydantic_is_not_imported(arguments: tuple[str, ...], family: str, wanted: dict[str, list[str]]) -> None:
    """Importing it takes as long as all the rest; see cli/text_command.py."""
    ran = listed("list", *arguments, "--json")
    assert ran.returncode == 0, ran.stderr
    assert ran.stderr.split() == ["False"]
    assert [row["name"] for row in json.loads(ran.stdout)["strategies"]] == [e.name for e in listing.select(family, wanted)]


@pytest.mark.parametrize("arguments", [("-h",), ("--help",), ("list", "-h"), ("list", "--help")])
def test_help_of_the_program_and_of_a_verb(arguments: tuple[str, ...]) -> None:
    ran = listed(*arguments)
    assert ran.returncode == 0
    assert ran.stdout.startswith("Usage: paredown" + (" list" if "list" in arguments else ""))
    assert "--help" in ran.stdout


@pytest.mark.parametrize(
    ("arguments", "said"), [(("--what",), "--what"), (("--json=3",), "--json"), (("--colour",), "--colour"), (("a", "b"), "b")]
)
def test_wrong_calls_exit_with_2(arguments: tuple[str, ...], said: str) -> None:
    ran = listed("list", *arguments)
    assert ran.returncode == 2
    assert said in ran.stderr
