"""The program as a user meets it: exit codes, one-screen errors, JSON shapes, resume after Ctrl-C."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from toy_runs import start, wait_for  # type: ignore[import-not-found]

TEXT = """\
seed: 1
steps:
  numbers: {use: toy.numbers, count: 6}
  double: {use: toy.double, corpus: $numbers}
  score: {use: toy.length, corpus: $double}
arms:
  plain: {double.skip: true}
  control: {}
  star: {double.mark: "***"}
reference: plain
summary:
  mean length: score.length
claims:
  - {metric: score.length, arm: star, beats: control}
"""
Program = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    path = tmp_path / "toy.yaml"
    path.write_text(TEXT)
    return path


def test_help_names_every_verb_and_each_has_an_example(paredown: Program) -> None:
    text = paredown("--help").stdout
    for verb in ("run", "list", "show", "report", "schema", "doctor", "gc"):
        assert f"  {verb} " in text
        assert "Example: paredown " + verb in " ".join(paredown(verb, "--help").stdout.split())


def test_run_prints_steps_table_and_no_verdict(paredown: Program, recipe: Path) -> None:
    done = paredown("run", str(recipe))
    assert done.returncode == 0, done.stderr
    assert re.search(r"numbers +toy\.numbers +6 documents", done.stdout)
    assert "mean length" in done.stdout
    assert "1 seed: no verdict" in done.stdout
    assert (recipe.parent / ".paredown" / "reports" / "toy.html").exists()
    again = paredown("run", str(recipe))
    assert again.stdout.count(" cached") >= 6
    assert "all from cache" in again.stdout


def test_json_is_one_object_of_the_documented_shape(paredown: Program, recipe: Path) -> None:
    found = json.loads(paredown("run", str(recipe), "--json").stdout)
    assert found["format"] == 1
    assert found["status"] == "done"
    assert found["arms"] == ["plain", "control", "star"]
    assert found["reference"] == "plain"
    documented = (Path(__file__).parents[2] / "docs" / "json.md").read_text()
    for key in found:
        assert f"`{key}`" in documented, f"docs/json.md does not say what {key} is"
    for key in found["steps"][0]:
        assert f"`{key}`" in documented, f"docs/json.md does not say what a step's {key} is"
    numbers = next(s for s in found["steps"] if s["name"] == "numbers")
    assert numbers["seed"] == 1
    assert numbers["knobs"]["count"] == 6
    lengths = {row["arm"]: row["values"][0] for row in found["table"]["rows"]}
    assert lengths["plain"] < lengths["control"] < lengths["star"]


def test_a_changed_knob_reruns_only_what_depends_on_it(paredown: Program, recipe: Path) -> None:
    paredown("run", str(recipe))
    found = json.loads(paredown("run", str(recipe), "--set", "double.mark=?", "--json").stdout)
    states = {(s["name"], tuple(s["arms"])): s["status"] for s in found["steps"]}
    assert states["numbers", ("plain", "control", "star")] == "cached"
    assert states["double", ("control",)] == "done"
    assert states["double", ("star",)] == "cached", "the arm sets its own mark"


def test_mistakes_fit_one_screen_and_exit_with_2(paredown: Program, recipe: Path) -> None:
    recipe.write_text(TEXT.replace("toy.double", "toy.duoble").replace("count: 6", "count: six"))
    done = paredown("run", str(recipe))
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    assert len(done.stderr.splitlines()) < 24
    assert f"{recipe}:3:38" in done.stderr
    assert "did you mean toy.double?" in done.stderr
    assert not (recipe.parent / ".paredown" / "steps").exists()
    found = json.loads(paredown("run", str(recipe), "--json").stdout)
    assert found["error"]["mistakes"][0] | {"what": "", "hint": ""} == {
        "file": str(recipe),
        "line": 3,
        "column": 38,
        "what": "",
        "hint": "",
    }


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (("run", "nowhere.yaml"), 2, "no such recipe: nowhere.yaml"),
        (("rnu",), 2, "No such command"),
        (("run",), 2, "Missing argument"),
        (("show", "prune.wandaa"), 2, "did you mean prune.wanda?"),
        (("list", "prnue"), 2, "did you mean prune?"),
        (("list", "--when", "befor"), 2, "did you mean before?"),
        (("list", "prune", "--when", "before"), 2, "nothing under prune has --when before"),
        (("report",), 2, "no run in this workspace yet"),
        (("gc",), 2, "there is no workspace here"),
        (("run", "x.yaml", "--engine", "spark"), 2, "is none of local, ray"),
    ],
)
def test_wrong_calls_say_what_to_do(paredown: Program, arguments: tuple[str, ...], code: int, says: str) -> None:
    done = paredown(*arguments)
    assert (done.returncode, "Traceback" in done.stderr) == (code, False)
    assert says in done.stderr


def test_a_failing_step_exits_with_1_and_debug_shows_the_traceback(paredown: Program, tmp_path: Path) -> None:
    (tmp_path / "f.yaml").write_text("steps:\n  a: {use: toy.numbers}\n  b: {use: toy.fail, corpus: $a}\n")
    done = paredown("run", "f.yaml")
    assert done.returncode == 1
    assert "ZeroDivisionError: something foreign" in done.stderr
    assert "step b (toy.fail)" in done.stderr
    assert "Traceback" not in done.stderr
    assert "Traceback" in paredown("run", "f.yaml", "--debug").stderr


def test_what_nobody_foresaw_is_one_screen_too(paredown: Program, recipe: Path) -> None:
    paredown("run", str(recipe))
    done = paredown("report", "--output", f"{recipe}/below/a/file.html")
    assert (done.returncode, done.stdout, "Traceback" in done.stderr) == (1, "", False)
    assert "NotADirectoryError" in done.stderr
    assert "--debug" in done.stderr


def test_without_arguments_it_says_what_it_can(paredown: Program) -> None:
    done = paredown()
    assert done.returncode == 2
    assert done.stderr.strip() == paredown("--help").stdout.strip()


def test_dry_run_runs_nothing(paredown: Program, recipe: Path) -> None:
    (recipe.parent / "seeds.yaml").write_text(TEXT + "seeds: [0, 1]\n")
    done = paredown("run", str(recipe), "--dry-run")
    assert "nothing was run" in done.stdout
    assert "numbers [1]" not in done.stdout
    assert "numbers [1] " in paredown("run", "seeds.yaml", "--dry-run").stdout
    assert not list((recipe.parent / ".paredown" / "steps").iterdir())
    found = json.loads(paredown("run", str(recipe), "--dry-run", "--json").stdout)
    assert [s["cached"] for s in found["steps"]] == [False] * len(found["steps"])


def test_ctrl_c_stops_cleanly_and_the_same_command_goes_on(tmp_path: Path, paredown: Program) -> None:
    (tmp_path / "s.yaml").write_text("steps:\n  a: {use: toy.numbers}\n  b: {use: toy.slow, corpus: $a, units: 40, seconds: 0.2}\n")
    process = start(tmp_path, "run", "s.yaml")
    wait_for(process, tmp_path, ".paredown/work/*/scratch/3.txt")
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert "stopped after 1 of 2 steps" in out
    assert "the same command goes on from here" in out
    assert "Traceback" not in err
    found = json.loads(paredown("run", "s.yaml", "--json", "--set", "b.seconds=0.2").stdout)
    last = next(s for s in found["steps"] if s["name"] == "b")
    assert 0 < last["facts"]["fresh"] < 40


def test_doctor_finds_a_flipped_byte_and_repairs(paredown: Program, recipe: Path) -> None:
    paredown("run", str(recipe))
    assert json.loads(paredown("doctor", "--verify", "--json").stdout)["sound"]
    shard = next(recipe.parent.glob(".paredown/steps/toy.numbers-*/corpus/shard-00000.parquet"))
    shard.write_bytes(shard.read_bytes()[:-1] + b"\0")
    done = paredown("doctor", "--verify")
    assert done.returncode == 1
    assert "corpus/shard-00000.parquet is damaged" in done.stdout
    assert paredown("doctor", "--verify", "--repair").returncode == 0
    assert paredown("run", str(recipe)).returncode == 0
    assert paredown("doctor", "--verify").returncode == 0


def test_gc_shows_first_and_keeps_what_a_recipe_names(paredown: Program, recipe: Path) -> None:
    paredown("run", str(recipe))
    paredown("run", str(recipe), "--set", "numbers.count=9")
    recipe_keys = {s["key"] for s in json.loads(paredown("run", str(recipe), "--json").stdout)["steps"]}
    preview = json.loads(paredown("gc", "--json").stdout)
    assert not preview["deleted"]
    assert preview["folders"]
    assert not recipe_keys & {row["key"] for row in preview["folders"]}
    assert paredown("gc", "--yes").returncode == 0
    assert json.loads(paredown("gc", "--json").stdout)["folders"] == []
    assert "all from cache" in paredown("run", str(recipe)).stdout


def test_list_show_and_schema(paredown: Program) -> None:
    names = [s["name"] for s in json.loads(paredown("list", "--json").stdout)["strategies"]]
    assert "prune.wanda" in names
    assert "toy.double" in names
    shown = paredown("show", "prune.wanda").stdout
    for word in ("source", "takes", "gives", "knobs", "sparsity", "control", "2306.11695"):
        assert word in shown
    schema = json.loads(paredown("schema").stdout)
    steps = schema["properties"]["steps"]["additionalProperties"]["oneOf"]
    assert {"toy.double", "prune.wanda"} <= {s["properties"]["use"]["const"] for s in steps}


def test_two_runs_at_once_share_their_steps(tmp_path: Path, recipe: Path) -> None:
    counter = tmp_path / "count"
    env = {**os.environ, "TOY_COUNTER": str(counter)}
    command = [sys.executable, "-m", "paredown.cli.main", "run", str(recipe), "--json"]
    both = [subprocess.Popen(command, cwd=tmp_path, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE) for _ in range(2)]
    outs = [p.communicate(timeout=120) for p in both]
    assert [p.returncode for p in both] == [0, 0], outs
    assert sorted(counter.read_text().splitlines()) == ["***", "+"], "each shared step is made once"


def test_what_readers_and_dedup_set_aside_stands_in_the_summary(paredown: Program, tmp_path: Path) -> None:
    rows = [{"id": "a", "text": "one"}, {"id": "b", "text": ""}, {"id": "c", "text": "one"}]
    (tmp_path / "in.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "r.yaml").write_text(
        "steps:\n  read: {use: corpus.read.files, path: in.jsonl, id: id, keep_rejected: true}\n"
        "  exact: {use: corpus.dedup.exact, corpus: $read, keep_rejected: true}\n"
    )
    found = json.loads(paredown("run", "r.yaml", "--json").stdout)
    assert [[row["reason"] for row in step["rejected"]] for step in found["steps"]] == [["empty_text"], ["exact_duplicate of a"]]
    assert found["steps"][1]["rejected"][0] == {"id": "c", "reason": "exact_duplicate of a", "text": "one"}
