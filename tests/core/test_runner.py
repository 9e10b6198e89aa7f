"""The runner: nothing twice, nothing lost; keys see knobs, sources, helpers and seeds."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest
from toy_runs import artifact_bytes, run  # type: ignore[import-not-found]

from paredown.core import catalog, runner
from paredown.core import recipe as recipes
from paredown.core.errors import DataError, MachineError, PareError
from paredown.core.ledger import Ledger
from paredown.core.plan import make, urgent_first
from paredown.core.workspace import Record, Workspace

TEXT = """\
seed: 1
steps:
  numbers: {use: toy.numbers, count: 6}
  double: {use: toy.double, corpus: $numbers}
  halves: {use: toy.halves, corpus: $double}
  score: {use: toy.length, corpus: $halves.held_out}
arms:
  plus: {}
  star: {double.mark: "*"}
"""


def test_a_run_makes_every_step_once_and_again_makes_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOY_COUNTER", str(tmp_path / "count"))
    plan, records = run(TEXT, tmp_path / "w")
    assert len(records) == len(plan.tasks) == 7
    assert (tmp_path / "count").read_text() == "+\n*\n"
    again = run(TEXT, tmp_path / "w")[1]
    assert (tmp_path / "count").read_text() == "+\n*\n"
    assert {k: r.hashes for k, r in again.items()} == {k: r.hashes for k, r in records.items()}


def test_two_processes_give_the_same_bytes(tmp_path: Path) -> None:
    run(TEXT, tmp_path / "one")
    run(TEXT, tmp_path / "two", jobs=2)
    assert artifact_bytes(tmp_path / "one") == artifact_bytes(tmp_path / "two")
    assert len(artifact_bytes(tmp_path / "one")) > 10


def test_only_what_depends_on_a_changed_knob_has_a_new_key() -> None:
    before = make(recipes.loads(TEXT)).names("plus", 1)
    after = make(recipes.loads(TEXT, settings=["double.mark=?"])).names("plus", 1)
    assert {name for name in before if before[name] != after[name]} == {"double", "halves", "score"}


def test_the_seed_is_part_of_the_key_only_where_it_is_used() -> None:
    one, two = (make(recipes.loads(TEXT.replace("seed: 1", f"seed: {s}"))) for s in (1, 2))
    assert one.names("plus", 1)["numbers"] != two.names("plus", 2)["numbers"]
    assert [t.seed for t in one.tasks.values() if t.name == "double"] == [None, None]


def test_a_change_in_a_helper_that_a_strategy_imports_changes_its_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    copy = tmp_path / "plugin"
    shutil.copytree(Path(__file__).parents[1] / "plugin", copy, ignore=shutil.ignore_patterns("__pycache__"))
    caches = (catalog.paths, catalog.entry, catalog.source_hash, catalog._imports, catalog._module_path)

    def hashes() -> dict[str, str]:
        for cache in caches:
            cache.cache_clear()
        return {name: catalog.source_hash(name) for name in ("toy.double", "toy.halves")}

    real = catalog._module_path.__wrapped__

    def moved(module: str) -> Path | None:
        found = real(module)
        return copy / found.relative_to(Path(__file__).parents[1] / "plugin") if found and module.startswith("paredown_toy") else found

    before = hashes()
    monkeypatch.setattr(catalog, "_module_path", moved)
    moved.cache_clear = lambda: None  # type: ignore[attr-defined]
    caches = (*caches[:-1], moved)  # type: ignore[assignment]
    assert hashes() == before
    (copy / "paredown_toy" / "_helper.py").write_text("def twice(text, mark):\n    return text\n")
    after = hashes()
    monkeypatch.undo()
    for cache in (catalog.source_hash, catalog._imports, catalog._module_path):
        cache.cache_clear()
    assert after["toy.double"] != before["toy.double"]
    assert after["toy.halves"] == before["toy.halves"]


@pytest.mark.parametrize(
    ("how", "kind", "says"),
    [
        ("foreign", runner.StepFailed, "ZeroDivisionError: something foreign"),
        ("data", DataError, "the third document is blue"),
        ("disk", MachineError, "the disk is full"),
        ("memory", MachineError, "not enough memory"),
    ],
)
def test_a_failing_step_says_where_and_keeps_the_others(tmp_path: Path, how: str, kind: type[PareError], says: str) -> None:
    text = f"steps:\n  a: {{use: toy.numbers}}\n  b: {{use: toy.fail, corpus: $a, how: {how}}}\n"
    for jobs in (1, 2):
        with pytest.raises(kind, match=says) as caught:
            run(text, tmp_path / "w", jobs=jobs)
        assert "step b (toy.fail)" in str(caught.value) or how == "disk"
    assert len(list(Workspace(tmp_path / "w").records())) == 1


def test_a_stopped_step_goes_on_from_its_scratch(tmp_path: Path) -> None:
    text = "steps:\n  a: {use: toy.numbers}\n  b: {use: toy.slow, corpus: $a, units: 8}\n"

    class Stop(runner.Reporter):
        def progress(self, key: str, done: float, total: float | None, unit: str, note: str) -> None:
            if done >= 3:
                raise KeyboardInterrupt

    plan = make(recipes.loads(text.replace("units: 8", "units: 8, seconds: 0.2")))
    workspace = Workspace(tmp_path / "w")
    ledger = Ledger(workspace.ledger_path)
    ledger.start_run("r", "t", "t.yaml", {}, {})
    with pytest.raises(KeyboardInterrupt):
        runner.run(plan, workspace, Stop(), runner.Settings(), "r", ledger)
    assert len(workspace.unfinished()) == 1
    records = runner.run(plan, workspace, runner.Reporter(), runner.Settings(), "r", ledger)
    last = list(records.values())[-1]
    assert last.facts["fresh"] < 8
    assert last.cost["seconds"] > 1.2, "the first try counts too"
    assert not workspace.unfinished()


def test_a_flipped_byte_is_found_on_read_and_by_verification(tmp_path: Path) -> None:
    _, records = run(TEXT, tmp_path / "w")
    record = next(r for r in records.values() if r.strategy == "toy.numbers")
    shard = record.folder / "corpus" / "shard-00000.parquet"
    data = bytearray(shard.read_bytes())
    data[len(data) // 2] ^= 1
    shard.write_bytes(data)
    workspace = Workspace(tmp_path / "w")
    assert workspace.damage(deep=False) == {}
    assert workspace.damage(deep=True) == {record.folder: ["corpus/shard-00000.parquet is damaged"]}
    with pytest.raises(DataError, match="is damaged"):
        run(TEXT.replace("double: {use: toy.double,", 'double: {use: toy.double, mark: "~",'), tmp_path / "w")


def test_a_part_that_was_not_kept_is_named(tmp_path: Path) -> None:
    _, records = run(TEXT, tmp_path / "w")
    halves = next(r for r in records.values() if r.strategy == "toy.halves")
    stored = json.loads((halves.folder / "step.json").read_text())
    del stored["parts"]["held_out"]
    (halves.folder / "step.json").write_text(json.dumps(stored))
    for record in Workspace(tmp_path / "w").records():
        if record.strategy == "toy.length":
            shutil.rmtree(record.folder)
    with pytest.raises(DataError, match="made no held_out"):
        run(TEXT, tmp_path / "w")


def test_a_step_may_not_write_outside_of_its_folder(tmp_path: Path) -> None:
    from paredown.artifacts.corpus import Corpus
    from paredown.core.errors import UserError

    workspace = Workspace(tmp_path / "w")
    workspace.work_folder("k" * 64)
    with pytest.raises(UserError, match="outside of the folder"):
        workspace.commit(Record("k" * 64, "toy.numbers", {}, True), Corpus.from_texts(tmp_path / "elsewhere", ["a"]))


def test_the_ledger_counts_steps_and_survives_reopening(tmp_path: Path) -> None:
    _, records = run(TEXT, tmp_path / "w")
    ledger = Ledger(tmp_path / "w" / "ledger.sqlite")
    last = ledger.last_run()
    assert last is not None
    assert ledger.keys_of(last["id"]) == set(records)
    assert ledger.check() == []


def test_a_workspace_that_cannot_be_made_is_a_clear_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(MachineError, match="the workspace cannot be made"):
        Workspace(tmp_path / "file" / "w")


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting needs root")
def test_a_full_disk_is_a_clear_error_and_the_workspace_stays_sound(tmp_path: Path) -> None:
    mount = tmp_path / "small"
    mount.mkdir()
    if os.system(f"mount -t tmpfs -o size=3m tmpfs {mount} 2>/dev/null"):
        pytest.skip("no tmpfs can be mounted here")
    try:
        filler = mount / "filler"
        text = "steps:\n  a: {use: toy.numbers, count: 1000000, upper: 1000000000}\n  b: {use: toy.double, corpus: $a}\n"
        with pytest.raises(MachineError, match="disk is full"):
            run(text, mount / "w")
        filler.unlink(missing_ok=True)
        workspace = Workspace(mount / "w")
        assert workspace.damage(deep=True) == {}
        small = "steps:\n  a: {use: toy.numbers, count: 10}\n"
        for folder in workspace.unfinished():
            workspace.remove(folder, folder.name)
        assert len(run(small, mount / "w")[1]) == 1
    finally:
        os.system(f"umount {mount}")


BILL = """\
seed: 1
steps:
  numbers: {use: toy.numbers, count: 6}
  double: {use: toy.double, corpus: $numbers}
  again: {use: toy.double, corpus: $double}
  halves: {use: toy.halves, corpus: $numbers}
  bill: {use: toy.bill, corpus: $again, others: [$halves.held_out, $double]}
"""


@pytest.mark.parametrize("jobs", [1, 2])
def test_a_step_that_asks_is_told_all_that_its_inputs_were_made_from(tmp_path: Path, jobs: int) -> None:
    """Each step once for an input, however often it was read on the way, in the plan's order; also in another process, and where it was made before."""
    plan, records = run(BILL, tmp_path / "w", jobs)
    folder = records[plan.names("", 1)["bill"]].folder
    expected = {"corpus": ["toy.numbers", "toy.double", "toy.double"], "others": ["toy.numbers", "toy.halves", "toy.double"]}
    assert json.loads((folder / "scores" / "bill.json").read_text()) == expected
    shutil.rmtree(folder)
    again = run(BILL, tmp_path / "w", jobs)[1]
    assert json.loads((again[plan.names("", 1)["bill"]].folder / "scores" / "bill.json").read_text()) == expected


def test_names_of_an_arm_stand_as_the_recipe_orders_them_though_another_arm_makes_a_step_first() -> None:
    """What an arm made last decides what it cost: here `last`, whose very step the first arm makes before `other`."""
    text = """\
seed: 1
steps:
  numbers: {use: toy.numbers, count: 6}
  one: {use: toy.double, corpus: $numbers, mark: "1"}
  other: {use: toy.double, corpus: $numbers, mark: "2"}
  last: {use: toy.double, corpus: $numbers, mark: "3"}
arms:
  first: {}
  second: {last.mark: "1"}
"""
    plan = make(recipes.loads(text))
    assert list(plan.names("second", 1)) == ["numbers", "one", "other", "last"]
    assert plan.names("second", 1)["last"] == plan.names("second", 1)["one"]


def test_what_holds_up_the_longest_chain_begins_first() -> None:
    text = """\
seed: 1
steps:
  short: {use: toy.numbers, count: 1}
  numbers: {use: toy.numbers, count: 6}
  double: {use: toy.double, corpus: $numbers}
  long: {use: toy.numbers, count: 7}
"""
    plan = make(recipes.loads(text))
    keys = plan.names("", 1)
    guesses = {keys["numbers"]: {"seconds": 2.0}, keys["double"]: {"seconds": 30.0}, keys["long"]: {"seconds": 31.0}, keys["short"]: {}}
    order = urgent_first(plan, guesses)
    assert [task.name for task in order] == ["numbers", "long", "double", "short"], "2 + 30, 31, 30 and, of what says nothing, 1 second"
    assert [task.name for task in runner._ready(order, {}, {}, 2)] == ["numbers", "long"]
    made = urgent_first(plan, {key: guesses[key] for name, key in keys.items() if name != "numbers"})
    assert [task.name for task in made] == ["long", "numbers", "double", "short"], "what is made already takes no time"
