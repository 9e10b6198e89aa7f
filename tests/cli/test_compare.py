"""`paredown compare`: what it prints, which seeds count, what it refuses, and that a killed one goes on to the same answer."""

from __future__ import annotations

import json
import math
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from toy_runs import artifact_bytes, loaded, start, wait_for  # type: ignore[import-not-found]

from paredown.cli.compare import parse_seeds
from paredown.core.errors import UserError

Program = Callable[..., "subprocess.CompletedProcess[str]"]
TEXT = """\
seeds: [0, 1, 2]
steps:
  numbers: {use: toy.numbers, count: 6}
  double: {use: toy.double, corpus: $numbers}
  score: {use: toy.given, corpus: $double, values: [1.0, 1.1, 0.9, 1.05, 0.95]}
arms:
  control: {}
  better: {score.values: [0.5, 0.7, 0.3, 0.6, 0.4]}
claims:
  - {metric: score.loss, arm: better, beats: control, says: Half of it is enough}
"""


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    path = tmp_path / "toy.yaml"
    path.write_text(TEXT)
    return path


def test_it_prints_the_verdict_what_it_rests_on_and_what_it_cost(paredown: Program, recipe: Path) -> None:
    done = paredown("compare", "toy.yaml")
    assert (done.returncode, done.stderr) == (0, "")
    said = done.stdout[done.stdout.index("  holds") :]
    assert said.startswith(
        "  holds       Half of it is enough\n"
        "              score.loss: better beats control\n"
        "              better 0.500, control 1.000; difference -0.500 (95%: -0.748 to -0.252)\n"
        "              paired t, n = 3 seeds\n"
    )
    assert re.search(r"control +1\.000 ±0\.25\n +better +0\.500 ±0\.5\n", said)
    assert "means over 3 seeds" in said
    assert re.search(r"better +0 +[\d.]+ s x[\d.]+\n", said), "seconds, with their ratio to the control's"
    assert (recipe.parent / ".paredown" / "reports" / "toy.html").exists()
    assert "Half of it is enough" in (recipe.parent / ".paredown" / "reports" / "toy.html").read_text()
    again = paredown("compare", "toy.yaml", "--no-report")
    assert "all from cache" in again.stdout
    assert "report  " not in again.stdout


REFUSED = """\
seeds: [0, 1, 2]
steps:
  words: {use: toy.words}
  numbers: {use: toy.numbers, count: 6}
  train: {use: toy.trained, corpus: $numbers, tokens: 1000}
  score: {use: toy.given, corpus: $train, values: [1.0, 1.1, 0.9]}
  long: {use: toy.length, corpus: $words}
  bytes: {use: toy.length, corpus: $words, unit: bytes}
arms:
  control: {}
  nan: {score.nan_at: 1}
  gone: {score.missing_at: 2}
  far: {train.tokens: 1011, score.values: [0.5, 0.7, 0.3], words.words: [a, b]}
  near: {train.tokens: 1009, score.values: [0.5, 0.7, 0.3]}
claims:
  - {metric: score.loss, arm: nan, beats: control}
  - {metric: score.loss, arm: gone, beats: control}
  - {metric: score.loss, arm: far, beats: control, budget: tokens}
  - {metric: score.loss, arm: near, beats: control, budget: labels}
  - {metric: long.length, arm: far, beats: control}
  - {metric: bytes.length, arm: far, beats: control}
  - {metric: score.loss, arm: near, beats: control, budget: tokens}
"""
REASONS = [
    "score.loss is nan in arm nan, seed 1",
    "score.loss is missing in arm gone, seed 2",
    "the arms differ by 1.1% in tokens, and the claim is at equal tokens (allowed 1%)",
    "no step of arm near says how many labels it spent",
    "the seeds share one run: nothing before long draws random numbers",
    "",
    "",
]


def test_refusals_say_why_in_text_and_json(within: Program, tmp_path: Path) -> None:
    (tmp_path / "r.yaml").write_text(REFUSED)
    claims = loaded(within("compare", "r.yaml", "--json"))["claims"]  # with the report, which must bear NaN, too
    assert [claim["reason"] for claim in claims] == REASONS
    assert [claim["verdict"] for claim in claims] == ["no verdict"] * 5 + ["holds"] * 2
    assert claims[0]["means"] == [None, 1.0]
    said = within("compare", "r.yaml", "--no-report")
    assert said.returncode == 0, "a refused verdict is an answer"
    lines = [line.strip() for line in said.stdout.splitlines()]
    for reason in filter(None, REASONS):
        assert reason in lines
    assert lines.count("tokens: 1,009 against 1,000 (0.9% apart)") == 1
    assert sum(line.startswith("no verdict  ") for line in lines) == 5
    few = within("compare", "r.yaml", "--only", "--seeds", "0,1", "--no-report")
    assert few.stdout.count("2 seeds; a verdict takes 3") == 6, "of all whose values are there, and seed 2 is left out"
    assert few.stdout.count("score.loss is nan in arm nan, seed 1") == 1


def test_a_claim_about_an_arm_that_is_not_there_runs_nothing(within: Program, recipe: Path) -> None:
    recipe.write_text(TEXT.replace("beats: control", "beats: contrl"))
    done = within("compare", "toy.yaml", "--seeds", "0..4")
    assert done.returncode == 2
    assert "toy.yaml:10:46  claims.beats: 'contrl' is no arm\n      did you mean control?" in done.stderr
    assert not (recipe.parent / ".paredown").exists()


def test_seeds_are_added_and_the_old_ones_are_not_made_again(within: Program, recipe: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    counter = recipe.parent / "count"
    monkeypatch.setenv("TOY_COUNTER", str(counter))
    first = loaded(within("compare", "toy.yaml", "--seeds", "0..2", "--json", "--no-report"))
    assert (first["seeds"], counter.read_text()) == ([0, 1, 2], "+\n" * 3)
    done = within("compare", "toy.yaml", "--seeds", "3..4", "--no-report")
    assert counter.read_text() == "+\n" * 5
    assert "paired t, n = 5 seeds" in done.stdout
    assert "means over 5 seeds" in done.stdout
    more = loaded(within("compare", "toy.yaml", "--seeds", "5", "--json", "--no-report"))
    assert (more["seeds"], more["claims"][0]["n"]) == ([0, 1, 2, 3, 4, 5], 6)
    fresh = {s["seed"] for s in more["steps"] if s["status"] == "done" and s["seed"] is not None}
    assert fresh == {5}
    only = loaded(within("compare", "toy.yaml", "--seeds", "3..5", "--only", "--json", "--no-report"))
    assert (only["seeds"], only["claims"][0]["n"], only["totals"]["cached"]) == ([3, 4, 5], 3, only["totals"]["steps"])
    own = loaded(within("compare", "toy.yaml", "--json", "--no-report"))
    assert own["seeds"] == [0, 1, 2, 3, 4, 5], "the recipe's own, and what is there"
    assert counter.read_text() == "+\n" * 6


def test_seeds_that_ran_otherwise_do_not_count(within: Program, recipe: Path) -> None:
    def seeds(*arguments: str) -> list[int]:
        found: list[int] = loaded(within("compare", "toy.yaml", *arguments, "--json", "--no-report"))["seeds"]
        return found

    assert seeds("--seeds", "0..3") == [0, 1, 2, 3]
    assert seeds("--seeds", "4..6", "--set", "numbers.count=7") == [4, 5, 6]
    assert seeds("--seeds", "7", "--set", "numbers.count=7") == [4, 5, 6, 7]
    assert seeds("--seeds", "8") == [0, 1, 2, 3, 8]
    recipe.write_text(TEXT.replace("better: {", "better: {double.mark: x, "))
    assert seeds("--seeds", "9..11") == [9, 10, 11], "one arm changed; a verdict needs both"
    recipe.write_text(TEXT)
    assert seeds("--seeds", "9") == [0, 1, 2, 3, 8, 9]


def test_seeds_of_a_run_that_did_not_end_do_not_count(within: Program, recipe: Path) -> None:
    recipe.write_text(TEXT.replace("claims:", "  bad: {double.use: toy.fail}\nclaims:"))  # seed 5 ends in both other arms
    assert within("compare", "toy.yaml", "--seeds", "5..7", "--json").returncode == 1
    recipe.write_text(TEXT)
    assert loaded(within("compare", "toy.yaml", "--json", "--no-report"))["seeds"] == [0, 1, 2]


@pytest.mark.parametrize(
    ("text", "seeds"),
    [("", []), ("4", [4]), ("0..2", [0, 1, 2]), ("2,0..2, 7,7", [2, 0, 1, 7]), ("5..5", [5]), ("0..999", list(range(1000)))],
)
def test_seeds_are_ranges_and_lists(text: str, seeds: list[int]) -> None:
    assert parse_seeds(text) == seeds


@pytest.mark.parametrize("text", ["a", "3..1", "..", "1..", "..3", "-1", "0..-1", "1.5", "0-2", "1 2", "0...2", "1..2..3", "9" * 13])
def test_other_seeds_are_a_mistake_with_a_hint(text: str) -> None:
    with pytest.raises(UserError, match="is no seed and no range of seeds") as caught:
        parse_seeds(text)
    assert "--seeds 0..4" in caught.value.todo


@pytest.mark.parametrize("text", ["a", "3..1", "..", "1..100000000", "-1"])
def test_a_mistaken_seed_exits_with_2_and_runs_nothing(within: Program, recipe: Path, text: str) -> None:
    done = within("compare", "toy.yaml", "--seeds", text)
    assert (done.returncode, done.stdout) == (2, "")
    assert "such as --seeds 0..4" in done.stderr
    assert ("100,000,000 seeds; 1,000 are the most" in done.stderr) == (text == "1..100000000")
    assert not (recipe.parent / ".paredown").exists()


def test_a_size_brings_its_knobs_and_seeds(within: Program, recipe: Path) -> None:
    recipe.write_text(TEXT + "sizes:\n  big: {numbers.count: 60, seeds: [0, 1, 2, 3]}\n")
    small = loaded(within("compare", "toy.yaml", "--json", "--no-report"))
    big = loaded(within("compare", "toy.yaml", "--size", "big", "--json", "--no-report"))
    assert (small["seeds"], big["seeds"]) == ([0, 1, 2], [0, 1, 2, 3])
    counts = [{s["knobs"]["count"] for s in run["steps"] if s["name"] == "numbers"} for run in (small, big)]
    assert counts == [{6}, {60}]
    named = loaded(within("compare", "toy.yaml", "--size", "big", "--seeds", "4", "--json", "--no-report"))
    assert named["seeds"] == [0, 1, 2, 3, 4]
    done = within("compare", "toy.yaml", "--size", "bgi")
    assert (done.returncode, "did you mean big?" in done.stderr) == (2, True)


SLOW = TEXT.replace("  score:", "  slow: {use: toy.slow, corpus: $double, units: 10, seconds: 0.04}\n  score:").replace(
    "$double, values", "$slow, values"
)


def same_answer(one: dict[str, Any], other: dict[str, Any]) -> bool:
    """Whether two summaries agree in all that is not a time, a place or a name of the run."""
    rows = [[row["values"][0] for row in run["table"]["rows"]] for run in (one, other)]
    steps = [[(s["key"], s["summary"], s["scores"]) for s in run["steps"]] for run in (one, other)]
    return rows[0] == rows[1] and steps[0] == steps[1] and all(one[k] == other[k] for k in ("claims", "verdict", "seeds", "arms"))


@pytest.mark.parametrize(("jobs", "after"), [("1", 1), ("2", 1), ("2", 4)])
def test_a_killed_compare_goes_on_to_the_same_bytes_and_verdicts(
    within: Program, paredown: Program, tmp_path: Path, jobs: str, after: int
) -> None:
    (tmp_path / "s.yaml").write_text(SLOW)
    whole = loaded(within("compare", "s.yaml", "--workspace", "whole", "--json", "--no-report"))
    process = start(tmp_path, "compare", "s.yaml", "--workspace", "killed", "--jobs", jobs, "--no-report")
    wait_for(process, tmp_path, "killed/steps/toy.[gs]*", after)
    wait_for(process, tmp_path, "killed/work/*/scratch/[2-9].txt")
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    assert len(list((tmp_path / "killed" / "steps").iterdir())) < len(whole["steps"])
    rest = loaded(paredown("compare", "s.yaml", "--workspace", "killed", "--jobs", jobs, "--json", "--no-report"))
    assert rest["totals"]["cached"] >= after
    assert artifact_bytes(tmp_path / "killed") == artifact_bytes(tmp_path / "whole")
    assert same_answer(rest, whole)
    assert rest["claims"][0]["verdict"] == "holds"


def test_ctrl_c_says_how_to_go_on(tmp_path: Path) -> None:
    (tmp_path / "s.yaml").write_text(SLOW.replace("units: 10", "units: 200"))
    for arguments in ((), ("--json",)):
        place = f"w{len(arguments)}"
        process = start(tmp_path, "compare", "s.yaml", "--seeds", "0..2", "--workspace", place, *arguments)
        wait_for(process, tmp_path, f"{place}/work/*/scratch/5.txt")
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)
        assert (process.returncode, err) == (130, "")
        if arguments:
            summary = json.loads(out)
            assert (summary["status"], summary["claims"]) == ("interrupted", [])
        else:
            assert "stopped after 2 of 15 steps (slow at " in out
            assert "the same command goes on from here" in out


def test_two_compares_at_once_share_their_steps(tmp_path: Path, recipe: Path) -> None:
    env = {**os.environ, "TOY_COUNTER": str(tmp_path / "count")}
    command = [sys.executable, "-m", "paredown.cli.main", "compare", "toy.yaml", "--json", "--no-report"]
    begun = time.monotonic()
    both = [subprocess.Popen(command, cwd=tmp_path, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE) for _ in range(2)]
    outs = [json.loads(p.communicate(timeout=120)[0]) for p in both]
    assert time.monotonic() - begun < 120
    assert (tmp_path / "count").read_text() == "+\n" * 3
    assert same_answer(*outs)
    assert outs[0]["run"] != outs[1]["run"]


def test_what_is_never_reached_is_said_so() -> None:
    from paredown.cli.screen import number

    assert [number(math.inf, unit) for unit in ("FLOPs", "s", "")] == ["never", "never", "inf"]
    assert number(math.nan, "s") == "nan"
    assert number(1.5, "s") == "1.5 s"
