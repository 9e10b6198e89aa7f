"""`paredown prove`: runs recipes of published systems once, writes evidence that stands alone, and what list and show say of it."""

from __future__ import annotations

import json
import re
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from toy_runs import loaded, start, wait_for  # type: ignore[import-not-found]

from paredown.cli.prove import recipes_of
from paredown.core import evidence
from paredown.core.systems import systems

Program = Callable[..., "subprocess.CompletedProcess[str]"]
HEAD = "system: {number}\npublished: Twice as good at half the price.\ndiffers: Words are shorter here.\n"
BODY = """\
description: Whether marks cost anything.
seeds: [0, 1, 2]
steps:
  numbers: {use: toy.numbers, count: 6}
  double: {use: toy.double, corpus: $numbers}
  score: {use: toy.noisy, corpus: $numbers, noise: 0.05}
  length: {use: toy.length, corpus: $double}
arms:
  control: {}
  star: {double.mark: "****", score.shift: -0.5}
claims:
  - {metric: score.loss, arm: star, beats: control, says: A star lowers the loss | by much}
  - {metric: length.length, arm: star, beats: control, by: 2, budget: flops}
sizes:
  big: {numbers.count: 9, seeds: [0, 1, 2, 3]}
"""
MARKED = BODY.replace("star: {double.mark", "star: {double.use: toy.napping, double.seconds: 0.001, double.mark").replace(
    ', double.mark: "****"', ""
)
THERE = ("--papers", "papers", "--evidence", "found")


@pytest.fixture
def papers(tmp_path: Path) -> Path:
    folder = tmp_path / "papers"
    folder.mkdir()
    for number, slug in ((39, "039-sparsegpt"), (41, "041-rethinking-pruning")):
        (folder / f"{slug}.yaml").write_text(HEAD.format(number=number) + (BODY if number == 39 else MARKED))
    (folder / "041-rethinking-pruning.half.yaml").write_text(HEAD.format(number=41) + BODY.replace("count: 6", "count: 3"))
    (folder / "README.yaml").write_text("no recipe: of a system")
    return folder


@pytest.fixture
def proofs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The folder of evidence of this test, and what list and show read."""
    monkeypatch.setattr(evidence, "folder", lambda: tmp_path / "found")
    evidence.index.cache_clear()
    yield tmp_path / "found"
    evidence.index.cache_clear()


def strict(path: Path) -> Any:
    """JSON as the standard has it: without NaN."""

    def refuse(word: str) -> None:
        raise AssertionError(f"{path.name} holds {word}")

    return json.loads(path.read_text(), parse_constant=refuse)


def test_it_writes_a_page_the_same_as_json_and_an_index_of_all_systems(
    within: Program, tmp_path: Path, papers: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TOY_COUNTER", str(tmp_path / "count"))
    done = within("prove", *THERE)
    assert (done.returncode, done.stderr) == (0, "")
    slugs = ["039-" + systems()[38].slug, "041-" + systems()[40].slug]
    assert sorted(p.name for p in (tmp_path / "found").iterdir()) == sorted(
        [f"{slug}.{kind}" for slug in slugs for kind in ("md", "json")] + ["README.md", "index.json"]
    )
    assert done.stdout.count("  holds       A star lowers the loss | by much") == 3
    assert f"039 {systems()[38].slug}  2 claims: 1 holds, 1 without a verdict; " in done.stdout
    rows = [line for line in (tmp_path / "found" / "README.md").read_text().splitlines() if line.startswith("| ")][2:]
    assert len(rows) == 101
    assert [row for row in rows if "[041-" in row.partition(" |")[0]] == [rows[40]]
    assert "4 claims: 2 hold, 2 without a verdict" in rows[40]
    assert sum("not proved yet" in row for row in rows) == 99
    assert "2 proved, 6 claims: 3 hold, 3 without a verdict." in (tmp_path / "found" / "README.md").read_text()

    page = (tmp_path / "found" / f"{slugs[1]}.md").read_text()
    for text in (
        "Twice as good at half the price.",
        "Words are shorter here.",
        "Whether marks cost anything.",
        "paredown prove 041 --size big",
    ):
        assert text in page
    assert page.index("papers/041-rethinking-pruning.yaml") < page.index("papers/041-rethinking-pruning.half.yaml")
    assert "| **holds** | A star lowers the loss \\| by much (`score.loss: star beats control`) |" in page
    stored = strict(tmp_path / "found" / f"{slugs[1]}.json")
    assert [run["file"] for run in stored["runs"]] == ["041-rethinking-pruning.yaml", "041-rethinking-pruning.half.yaml"]
    assert [[claim["verdict"] for claim in run["claims"]] for run in stored["runs"]] == [["holds", "no verdict"]] * 2
    assert stored["runs"][0]["table"]["rows"][1]["arm"] == "star"
    index = strict(tmp_path / "found" / "index.json")
    assert list(index["systems"]) == ["39", "41"]
    assert index["systems"]["41"]["verdicts"] == ["holds", "no verdict"] * 2

    made = (tmp_path / "count").read_text()
    assert len(made.splitlines()) == 12, "the seeds' texts with two marks; those of 041 are the same as of 039 where they count the same"
    within("prove", *THERE)
    within("prove", "41", *THERE)
    assert (tmp_path / "count").read_text() == made, "nothing was made a second time"


def test_nothing_in_the_evidence_says_where_it_was_made(within: Program, tmp_path: Path, papers: Path) -> None:
    done = within("prove", "--papers", str(papers), "--evidence", str(tmp_path / "found"), "--workspace", str(tmp_path / "elsewhere"))
    assert done.returncode == 0, done.stderr
    for path in (tmp_path / "found").iterdir():
        text = path.read_text()
        assert str(tmp_path) not in text
        assert "elsewhere" not in text
        assert ".paredown" not in text
        assert str(Path.home()) not in text or str(Path.home()) == "/"
        assert str(Path(__file__).parents[2]) not in text


def test_nan_is_kept_as_null(within: Program, tmp_path: Path) -> None:
    (tmp_path / "papers").mkdir()
    text = BODY.replace("toy.noisy, corpus: $numbers, noise: 0.05", "toy.given, corpus: $numbers").replace(
        "score.shift: -0.5", "score.nan_at: 1"
    )
    (tmp_path / "papers" / "039-x.yaml").write_text(HEAD.format(number=39) + text)
    assert within("prove", "39", *THERE).returncode == 0
    stored = strict(next((tmp_path / "found").glob("039-*.json")))
    assert stored["runs"][0]["claims"][0]["reason"] == "score.loss is nan in arm star, seed 1"
    assert stored["runs"][0]["table"]["rows"][1]["values"][0] is None


def test_the_list_has_all_systems_and_what_was_found(within: Program, tmp_path: Path, papers: Path) -> None:
    def status() -> list[str]:
        rows = loaded(within("prove", "--list", *THERE, "--json"))["systems"]
        assert [row["system"] for row in rows] == list(range(1, 102))
        assert [row["title"] for row in rows] == [system.title for system in systems()]
        evidence.index.cache_clear()
        return [row["status"] for row in rows]

    before = status()
    assert {n + 1: said for n, said in enumerate(before) if said != "not built yet"} == {39: "not run yet", 41: "not run yet"}
    within("prove", "39", *THERE)
    assert status()[38] == "2 claims: 1 holds, 1 without a verdict"
    lines = within("prove", "--list", *THERE).stdout.splitlines()
    assert len(lines) == 101
    assert lines[38].split() == ["039", systems()[38].slug, systems()[38].stage, systems()[38].arxiv, *status()[38].split()]
    assert lines[40].endswith("  not run yet")


def test_a_larger_size_stands_beside_the_small_one(within: Program, tmp_path: Path, papers: Path) -> None:
    def entry() -> dict[str, Any]:
        found: dict[str, Any] = strict(tmp_path / "found" / "index.json")["systems"]["39"]
        return found

    first = loaded(within("prove", "39", *THERE, "--size", "big", "--json"))
    assert (first["size"], first["systems"][0]["size"], first["systems"][0]["file"]) == ("big", "big", f"{systems()[38]}.big.md")
    assert entry()["size"] == "big", "better than nothing"
    within("prove", "39", *THERE)
    assert entry()["size"] == "small"
    within("prove", "39", *THERE, "--size", "big")
    assert entry()["size"] == "small"
    small, big = (strict(tmp_path / "found" / f"{systems()[38]}{kind}.json") for kind in ("", ".big"))
    assert [run["runs"][0]["seeds"] for run in (small, big)] == [[0, 1, 2], [0, 1, 2, 3]]
    assert [run["runs"][0]["claims"][0]["items"] for run in (small, big)] == [6, 9]
    assert "Size big" in (tmp_path / "found" / f"{systems()[38]}.big.md").read_text()


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("39", "--size", "bgi"), "did you mean big?"),
        (("sparsegtp",), "there is no system sparsegtp"),
        (("rethinking-prunning",), "did you mean rethinking-pruning?"),
        (("102",), "they are numbered 1 to 101"),
        (("0",), "they are numbered 1 to 101"),
        (("40",), "is not built yet"),
        (("toy.doubel",), "did you mean toy.double?"),
        (("toy.doub",), "did you mean toy.double?"),
        (("toy.slow",), "no recipe of a published system uses toy.slow yet"),
        (("--papers", "nowhere"), "give their folder with --papers"),
    ],
)
def test_unknown_names_get_the_nearest(within: Program, tmp_path: Path, papers: Path, arguments: tuple[str, ...], says: str) -> None:
    done = within("prove", *THERE, *arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert says in done.stderr
    assert not (tmp_path / "found").exists()


def test_names_are_numbers_slugs_and_strategies(within: Program, tmp_path: Path, papers: Path) -> None:
    def proved(*names: str) -> list[int]:
        return [row["system"] for row in loaded(within("prove", *names, *THERE, "--json"))["systems"]]

    assert proved("041", "39") == [39, 41]
    assert proved("rethinking-pruning") == proved(str(systems()[40])) == [41]
    assert proved("toy.double") == [39, 41]
    assert proved("toy.napping") == [41]
    assert proved("toy.napping", "39", "039") == [39, 41]
    papers.joinpath("039-sparsegpt.yaml").write_text(HEAD.format(number=39) + BODY.replace("marks", "toy.napping2 and xtoy.napping"))
    assert proved("toy.napping") == [41], "only whole names count"


def test_several_systems_are_counted_and_summed_up(within: Program, papers: Path) -> None:
    said = within("prove", *THERE).stdout.splitlines()
    assert [line for line in said if line.startswith("system ")] == ["system 1 of 2: 039-stun", "system 2 of 2: 041-rethinking-pruning"]
    assert re.fullmatch(r"2 systems  6 claims: \d hold, .*; [\d.hms ]+; found/README\.md", said[-1])
    alone = within("prove", "39", *THERE).stdout
    assert "system 1" not in alone
    assert " systems  " not in alone


def test_a_mistake_in_the_last_recipe_is_found_before_the_first_runs(within: Program, tmp_path: Path, papers: Path) -> None:
    last = papers / "041-rethinking-pruning.half.yaml"
    last.write_text(last.read_text().replace("toy.length", "toy.lenght"))
    done = within("prove", *THERE)
    assert done.returncode == 2
    assert "did you mean toy.length?" in done.stderr
    assert not (tmp_path / "found").exists()
    assert not (tmp_path / ".paredown").exists()
    last.write_text(HEAD.format(number=40) + BODY)
    done = within("prove", *THERE)
    assert (done.returncode, "does not say that it proves system 41" in done.stderr) == (2, True)
    last.write_text(BODY)
    assert "does not say that it proves system 41" in within("prove", "41", *THERE).stderr


def test_recipes_of_one_system_stand_together(papers: Path) -> None:
    (papers / "041-rethinking-pruning.a.yaml").write_text("")
    assert {number: [path.name for path in paths] for number, paths in recipes_of(papers).items()} == {
        39: ["039-sparsegpt.yaml"],
        41: ["041-rethinking-pruning.yaml", "041-rethinking-pruning.a.yaml", "041-rethinking-pruning.half.yaml"],
    }
    assert recipes_of(papers / "nothing") == {}


@pytest.mark.parametrize(("number", "as_json"), [(39, True), (41, False), (41, True)])
def test_an_interrupted_proof_writes_nothing_and_goes_on(within: Program, tmp_path: Path, papers: Path, number: int, as_json: bool) -> None:
    slow = BODY.replace(
        "double: {use: toy.double, corpus: $numbers}", "double: {use: toy.slow, corpus: $numbers, units: 20, seconds: 0.05}"
    )
    slow = slow.replace('double.mark: "****", ', "")
    papers.joinpath("039-sparsegpt.yaml" if number == 39 else "041-rethinking-pruning.yaml").write_text(HEAD.format(number=number) + slow)
    process = start(tmp_path, "prove", *THERE, *(["--json"] if as_json else []))
    wait_for(process, tmp_path, ".paredown/work/*/scratch/5.txt")
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (130, "")
    before = [] if number == 39 else [39]
    written = sorted({path.name[:3] for path in tmp_path.glob("found/[0-9]*")})
    assert written == [f"{n:03d}" for n in before], "what was proved before is kept, the stopped one and those after it have nothing"
    if as_json:
        found = json.loads(out)
        assert (found["status"], [row["system"] for row in found["systems"]]) == ("interrupted", before)
    else:
        assert "the same command goes on from here" in out
    again = loaded(within("prove", *THERE, "--json"))
    assert (again["status"], [row["system"] for row in again["systems"]]) == ("done", [39, 41])


def test_list_and_show_say_the_verdicts(within: Program, papers: Path, proofs: Path) -> None:
    def listed(name: str) -> str:
        return next(line for line in within("list", "toy").stdout.splitlines() if line.startswith(f"{name} "))

    assert "holds" not in listed("toy.napping")
    assert "evidence" not in within("show", "toy.napping").stdout
    within("prove", "41", *THERE)
    evidence.index.cache_clear()
    assert strict(proofs / "index.json")["strategies"] == {
        "toy.double": [[41, "control"]],
        "toy.napping": [[41, "no verdict"]],
    }
    assert "  no verdict (041)  " in listed("toy.napping")
    assert "  control  " in listed("toy.double")
    assert f"evidence     no verdict ({systems()[40]})" in within("show", "toy.napping").stdout
    assert f"evidence     control ({systems()[40]})" in within("show", "toy.double").stdout
    assert loaded(within("show", "toy.napping", "--json"))["evidence"] == [{"system": 41, "verdict": "no verdict"}]
    rows = {row["name"]: row["evidence"] for row in loaded(within("list", "toy", "--json"))["strategies"]}
    assert rows["toy.double"] == [{"system": 41, "verdict": "control"}]
    assert rows["toy.numbers"] == []
