"""`--json`: exactly one object on standard output, errors too, and its keys are those of docs/json.md, both ways."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from pages import ROOT, blocks, tokens  # type: ignore[import-not-found]
from toy_runs import start, wait_for  # type: ignore[import-not-found]

from paredown.cli import main
from paredown.core import evidence
from paredown.core.yaml import parse
from paredown.engines.answer_store import STORE, Store

Program = Callable[..., "subprocess.CompletedProcess[str]"]
Keys = dict[str, dict[str, str]]  # path of an object ("" for the whole) -> key -> what the page says of it
TOY = """\
steps:
  numbers: {use: toy.numbers, count: 6}
  double: {use: toy.double, corpus: $numbers}
  score: {use: toy.length, corpus: $double}
"""
SMALL = (  # the recipe of docs/recipes.md in a few seconds
    "library.limit=12", "tokens.vocab_size=280", "dense.budget={steps: 2}", "dense.length=32", "dense.batch_size=4", "dense.evaluate_every=1", "dense.log_every=1",
    "dense.model.hidden_size=16", "dense.model.layers=1", "dense.model.intermediate_size=24", "split.held_out=0.3", "quality.max_tokens=400", "code.max_lines=400",
)  # fmt: skip
MORE = """
  samples: {use: infer.generate, answerer: $smaller, prompts: ["def"], new_tokens: 2}
arms:
  control: {}
  gentle: {smaller.sparsity: 0.5}
claims:
  - {metric: quality.loss, arm: gentle, beats: control, budget: tokens}
"""
CLAIMS = """\
seeds: [0, 1, 2]
arms:
  control: {}
  star: {double.mark: "***"}
claims:
  - {metric: score.length, arm: star, beats: control, by: 1, says: Stars are shorter}
  - {metric: score.length, arm: star, equals: control, budget: flops}
  - {metric: score.length, arm: control, not_worse_than: star}
"""


def page() -> dict[str, Keys]:
    """Verb -> what docs/json.md says of its object."""
    found: dict[str, Keys] = {}
    verb = path = ""
    stream = tokens(ROOT / "docs" / "json.md")
    for number, token in enumerate(stream):
        if token.type == "heading_open":
            text = stream[number + 1].content
            if token.tag == "h2":
                verb, path = text.strip("`").removeprefix("paredown "), ""
                found[verb] = {}
            elif token.tag == "h3":
                path = text.strip("`")
        elif token.type == "tr_open" and stream[number + 1].type == "td_open":
            keys, said = (t.content for t in stream[number : number + 7] if t.type == "inline")
            for key in re.findall(r"`(\w+)`", keys):
                assert key not in found[verb].setdefault(path, {}), f"{verb} {path}: {key} stands twice"
                found[verb][path][key] = said
    return found


def objects(value: Any, path: str) -> Iterator[dict[str, Any]]:
    """The objects at a path such as `steps[].cost`."""
    if not path:
        yield value
        return
    name, _, rest = path.partition(".")
    many = name.endswith("[]")
    inner = value.get(name.removesuffix("[]"))
    for item in inner if many and inner is not None else [inner]:
        if item:  # null and empty: there is none
            yield from objects(item, rest)


def compare(documented: Keys, printed: list[Any], name: str) -> None:
    """Every key that is printed is documented, and every documented key is printed somewhere."""
    for path, keys in documented.items():
        seen = [found for value in printed for found in objects(value, path)]
        assert set().union(*seen) == set(keys), f"{name} {path}"
        for key, said in keys.items():
            below = f"{path}.{key}".lstrip(".")
            values = [found[key] for found in seen if key in found]
            holds = any(isinstance(v, dict) for v in values)
            rows = any(isinstance(v, list) and v and isinstance(v[0], dict) for v in values)
            if holds or rows:
                table = below + "[]" * rows in documented
                assert table != ("keys vary" in said), f"{name}: {below} has either a table of its own or keys that vary"


def only_object(done: subprocess.CompletedProcess[str], code: int = 0) -> dict[str, Any]:
    assert done.returncode == code, done.stdout + done.stderr
    found = json.loads(done.stdout)  # fails where anything else stands there
    assert isinstance(found, dict)
    assert "Traceback" not in done.stderr
    return found


@pytest.fixture
def toy(tmp_path: Path) -> Path:
    path = tmp_path / "toy.yaml"
    path.write_text(TOY)
    return path


def same_keys(documented: Keys, found: dict[str, Any]) -> None:
    """What is printed has exactly the documented keys, wherever there is an object of the kind."""
    for path, keys in documented.items():
        for seen in objects(found, path):
            assert set(seen) == set(keys), path


def test_the_page_has_every_verb() -> None:
    documented = [title.split()[0] for title in page()]
    assert documented[0] == "Errors"
    assert set(documented[1:]) == {command.name for command in main.app.registered_commands}
    assert {title for title in page() if " " in title} >= {"run --dry-run", "prove --list"}


def test_run_and_report(paredown: Program, tmp_path: Path) -> None:
    first = next(b for b in blocks("yaml") if b.page == "docs/recipes.md")
    (tmp_path / "small.yaml").write_text(first.text.rstrip() + MORE)
    settings = [word for setting in SMALL for word in ("--set", setting)]
    found = only_object(paredown("run", "small.yaml", "--json", *settings, timeout=300))
    compare(page()["run"], [found], "run")
    assert {step["status"] for step in found["steps"]} == {"done"}
    assert any(step["samples"] for step in found["steps"])
    written = only_object(paredown("report", "--json"))
    compare(page()["report"], [written], "report")
    assert Path(tmp_path, written["report"]).stat().st_size == written["bytes"]


def test_run_of_what_is_cached_waiting_or_skipped(paredown: Program, toy: Path) -> None:
    for settings in ((), (), ("--set", "double.skip=true", "--no-report")):
        found = only_object(paredown("run", "toy.yaml", "--json", *settings))
        same_keys(page()["run"], found)
    assert found["report"] is None


def test_compare(within: Program, toy: Path) -> None:
    toy.write_text(TOY + CLAIMS)
    found = only_object(within("compare", "toy.yaml", "--json"))
    same_keys(page()["run"], found)
    for path in ("table.rows[]", "claims[]", "claims[].budget"):
        assert list(objects(found, path)), path
    assert found["seeds"] == [0, 1, 2]
    assert any(low is not None for row in found["table"]["rows"] for low in row["interval"])
    assert any(ratio is not None for row in found["table"]["rows"] for ratio in row["ratios"])
    again = only_object(within("compare", "toy.yaml", "--seeds", "3", "--json", "--no-report"))
    same_keys(page()["run"], again)
    assert again["seeds"] == [0, 1, 2, 3]


def test_prove(within: Program, tmp_path: Path) -> None:
    (tmp_path / "papers").mkdir()
    (tmp_path / "papers" / "039-toy.yaml").write_text("system: 39\npublished: nothing\n" + TOY + CLAIMS)
    there = ("--papers", "papers", "--evidence", "found")
    found = only_object(within("prove", "39", *there, "--json"))
    compare(page()["prove"], [found], "prove")
    assert (found["status"], found["size"], len(found["systems"][0]["verdicts"])) == ("done", "small", 3)
    assert (tmp_path / found["evidence"] / found["systems"][0]["file"]).exists()
    listed = only_object(within("prove", "--list", *there, "--json"))
    compare(page()["prove --list"], [listed], "prove --list")
    assert len(listed["systems"]) == 101


def test_plan(tmp_path: Path) -> None:
    """On trainings that are written as if they had been run, but for the one that --verify asks for."""
    sys.path.insert(0, str(ROOT / "tests" / "cli"))
    import test_plan as planned  # type: ignore[import-not-found]

    table = tmp_path / "runs.csv"
    table.write_text(
        "params,tokens,loss\n" + "".join(f"{n},{d},{1 + 60 / n**0.35 + 300 / d**0.4}\n" for n in (1e5, 1e6, 1e7) for d in (1e6, 1e8, 1e9))
    )
    compare(page()["plan --fit FILE"], [planned.asked("--fit", str(table), "--budget", "flops=1e17")], "plan --fit FILE")
    sparse = planned.write(tmp_path, planned.PRUNING + planned.GRID)
    planned.finish(sparse, tmp_path / "sparse")
    weighed = planned.asked(str(sparse), "-w", str(tmp_path / "sparse"), "--budget", "flops=4e12,bytes=1.2e5")
    dense = planned.write(tmp_path)
    planned.finish(dense, tmp_path / "dense")
    verified = planned.asked(str(dense), "-w", str(tmp_path / "dense"), "--budget", "flops=4e9", "--verify")
    compare(page()["plan"], [weighed, verified], "plan")
    found = verified["verification"]
    assert found["error"] == pytest.approx(found["predicted"] / found["measured"] - 1), "as the page says"
    assert found["within"] == (found["interval"][0] <= found["measured"] <= found["interval"][1])
    assert weighed["verification"] is None
    other = weighed["alternative"]
    assert other["difference"] == pytest.approx(weighed["choice"]["loss"] - other["loss"])


def test_a_stopped_run(tmp_path: Path) -> None:
    (tmp_path / "slow.yaml").write_text(
        "steps:\n  numbers: {use: toy.numbers}\n  slow: {use: toy.slow, corpus: $numbers, units: 100, seconds: 0.2}\n"
    )
    process = start(tmp_path, "run", "slow.yaml", "--json")
    wait_for(process, tmp_path, ".paredown/work/*/scratch/1.txt")
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    found = only_object(subprocess.CompletedProcess(process.args, process.returncode, out, err), 130)
    assert found["status"] == "interrupted"
    assert [step["status"] for step in found["steps"]] == ["done", "waiting"]
    assert set(found) == set(page()["run"][""])


def test_dry_run(paredown: Program, toy: Path) -> None:
    before = only_object(paredown("run", "toy.yaml", "--dry-run", "--json"))
    compare(page()["run --dry-run"], [before], "run --dry-run")
    assert not list(toy.parent.glob(".paredown/steps/*"))


def test_list_show_and_schema(within: Program, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / evidence.INDEX).write_text('{"systems": {}, "strategies": {"prune.wanda": [[39, "holds"], [80, "control"]]}}')
    monkeypatch.setattr(evidence, "folder", lambda: tmp_path)
    monkeypatch.setattr(evidence, "index", evidence.index.__wrapped__)
    compare(page()["list"], [only_object(within("list", "--json"))], "list")
    same_keys(page()["list"], only_object(within("list", "prune", "--what", "channels", "--json")))
    shown = [only_object(within("show", name, "--json")) for name in ("prune.wanda", "learn.hooks.keep_zeros", "measure.speed")]
    compare(page()["show"], shown, "show")
    assert shown[0]["evidence"] == [{"system": 39, "verdict": "holds"}, {"system": 80, "verdict": "control"}]
    schema = only_object(within("schema", "--json"))
    assert schema == only_object(within("schema"))
    jsonschema.Draft202012Validator.check_schema(schema)
    jsonschema.Draft202012Validator.check_schema(only_object(within("schema", "prune.wanda", "--json")))
    text = (ROOT / "recipes" / "quickstart.yaml").read_text()
    jsonschema.Draft202012Validator(schema).validate(parse(text, "quickstart.yaml").plain())
    wrong = jsonschema.Draft202012Validator(schema).iter_errors(parse(text.replace("threshold: 0.8", "threshold: 8"), "").plain())
    assert list(wrong), "the schema knows the range of a knob"


def test_doctor_and_gc(paredown: Program, toy: Path) -> None:
    outside = only_object(paredown("doctor", "--json"))
    only_object(paredown("run", "toy.yaml", "--json"))
    only_object(paredown("run", "toy.yaml", "--json", "--set", "numbers.count=3"))
    only_object(paredown("run", "toy.yaml", "--json"))
    sound = only_object(paredown("doctor", "--verify", "--json"))
    compare(page()["doctor"], [outside, sound], "doctor")
    with Store(toy.parent / ".paredown" / STORE) as store:
        store.put([(b"key", {"text": "paid"})], "server m")
    shown = only_object(paredown("gc", "--json"))
    gone = only_object(paredown("gc", "--yes", "--json"))
    assert [(row["answers"], row["removed"]) for row in gone["answers"]] == [(1, False)]
    assert [row["removed"] for row in only_object(paredown("gc", "--yes", "--answers", "--json"))["answers"]] == [True]
    assert only_object(paredown("gc", "--json"))["answers"] == []
    compare(page()["gc"], [shown, gone], "gc")
    assert [row["removed"] for row in gone["folders"]] == [True, True, True]
    assert only_object(paredown("gc", "--json"))["folders"] == []
    shard = next(toy.parent.glob(".paredown/steps/toy.numbers-*/corpus/*.parquet"))
    shard.write_bytes(shard.read_bytes() + b"x")
    damaged = only_object(paredown("doctor", "--verify", "--json"), 1)
    compare(page()["doctor"], [damaged], "doctor")
    assert list(damaged["damaged"]) == [shard.parts[-3]]
    repaired = only_object(paredown("doctor", "--verify", "--repair", "--json"))
    assert repaired["removed"] == [shard.parts[-3]]
    assert repaired["sound"]
    (toy.parent / ".paredown" / STORE).write_bytes(b"no database" * 99)
    assert "damaged" in only_object(paredown("doctor", "--json"), 1)["answers"][0]


@pytest.mark.parametrize(
    ("arguments", "code", "what"),
    [
        (("rnu",), 2, "No such command"),
        ((), 2, "No such option"),
        (("run",), 2, "Missing argument"),
        (("run", "nowhere.yaml"), 2, "no such recipe"),
        (("run", "toy.yaml", "--engine", "spark"), 2, "is none of local, ray"),
        (("run", "toy.yaml", "--jobs", "0"), 2, "--jobs"),
        (("run", "toy.yaml", "--nonsense"), 2, "No such option"),
        (("run", "toy.yaml", "--set", "numbers.count=none"), 2, "1 mistake"),
        (("run", "toy.yaml", "--set", "numbers.count=none", "--dry-run"), 2, "1 mistake"),
        (("run", "toy.yaml", "--workspace", "toy.yaml"), 1, "the workspace cannot be made"),
        (("compare", "toy.yaml", "--seeds", "3..1"), 2, "no seed and no range"),
        (("compare", "toy.yaml", "--size", "big"), 2, "1 mistake"),
        (("prove", "rooting"), 2, "there is no system rooting"),
        (("prove", "--papers", "nowhere"), 2, "there are no recipes of published systems"),
        (("list", "prnue"), 2, "nothing in the catalog begins with prnue"),
        (("list", "--what", "none"), 2, "--what has no value none"),
        (("show", "prune.wandaa"), 2, "no strategy prune.wandaa"),
        (("schema", "prune.wandaa"), 2, "no strategy prune.wandaa"),
        (("report",), 2, "no run in this workspace yet"),
        (("gc",), 2, "there is no workspace here"),
    ],
)
def test_errors(within: Program, toy: Path, arguments: tuple[str, ...], code: int, what: str) -> None:
    found = only_object(within(*arguments, "--json"), code)
    documented = {path: keys for path, keys in page()["Errors"].items() if found["error"].get("mistakes") or path != "error.mistakes[]"}
    if "mistakes" not in found["error"]:
        documented["error"] = {key: said for key, said in documented["error"].items() if key != "mistakes"}
    compare(documented, [found], "error")
    assert what in found["error"]["what"]
    assert found["error"]["exit_code"] == code


def test_errors_of_a_run_and_of_what_it_left(paredown: Program, within: Program, tmp_path: Path, toy: Path) -> None:
    (tmp_path / "fail.yaml").write_text("steps:\n  numbers: {use: toy.numbers}\n  fail: {use: toy.fail, corpus: $numbers, how: data}\n")
    found = only_object(paredown("run", "fail.yaml", "--json"), 1)
    assert found["error"]["where"] == "step fail (toy.fail), shard-00000"
    assert found["error"]["do"] == "paint it"
    reports = tmp_path / ".paredown" / "reports"
    (reports / "toy.json").write_text("{")
    assert "damaged" in only_object(within("report", "toy", "--json"), 1)["error"]["what"]
    (reports / "toy.json").write_text("{}")
    assert only_object(within("report", "toy", "--json"), 1)["error"]["exit_code"] == 1
    (tmp_path / ".paredown" / "ledger.sqlite").write_bytes(b"no database at all" * 100)
    assert "the ledger is damaged" in only_object(within("run", "toy.yaml", "--json"), 1)["error"]["what"]
