"""What every strategy in the catalog must hold; a new one gets these checks for free.

A strategy opts out of a check by name, with the reason, in OPT_OUT.
"""

from __future__ import annotations

import hashlib
import re
import time
from pathlib import Path
from typing import Any

import pytest
from inputs import KINDS, OTHERWISE, inputs, settings  # type: ignore[import-not-found]

from paredown.artifacts.scores import Scores
from paredown.core import catalog, taxonomy
from paredown.core.artifact import Artifact, Bundle
from paredown.core.context import Context, Listener, running
from paredown.core.errors import PareError
from paredown.core.strategy import Configured, Part, Strategy, alternatives
from paredown.core.yaml import parse

OPT_OUT: dict[tuple[str, str], str] = {
    ("measure.first_token", "same bytes twice"): "its result is a clock's",
    ("measure.first_token", "killed and resumed"): "its result is a clock's",
    ("measure.speed", "same bytes twice"): "its result is a clock's",
    ("measure.speed", "killed and resumed"): "its result is a clock's",
}
ENTRIES = [e for e in catalog.entries() if not e.name.startswith("toy.")]
STEPS = [e.name for e in ENTRIES if e.kind == "step"]
CHOICES = [(name, "") for name in STEPS] + [(name, choice) for name in STEPS for choice in catalog.load(name).one_of[1:]]
EACH_CHOICE = pytest.mark.parametrize(("name", "choice"), CHOICES, ids=[f"{name}-{choice}".rstrip("-") for name, choice in CHOICES])


def opted_out(name: str, check: str) -> None:
    if (name, check) in OPT_OUT:
        pytest.skip(f"{name} opts out of {check!r}: {OPT_OUT[name, check]}")


def spec(name: str, folder: Path) -> dict[str, Any]:
    folder.mkdir(parents=True, exist_ok=True)
    wanted = {field: info for field, info in catalog.load(name).model_fields.items() if info.is_required()}
    wires = {
        field: "$given" for field, info in wanted.items() if isinstance(info.annotation, type) and issubclass(info.annotation, Artifact)
    }
    return {"use": name, **wires, **settings(name, folder)}


def build(name: str, folder: Path, choice: str = "") -> Configured:
    built: Configured = catalog.build({**spec(name, folder), **OTHERWISE.get((name, choice), {})})
    return built


def digest(result: Artifact | Bundle) -> dict[str, str]:
    parts = result.parts() if isinstance(result, Bundle) else {"": result}
    return {
        f"{name}/{p.relative_to(part.path).as_posix()}": hashlib.sha256(p.read_bytes()).hexdigest()
        for name, part in parts.items()
        for p in sorted(part.path.rglob("*"))
        if p.is_file()
    }


def run(strategy: Strategy, given: dict[str, Any], folder: Path, step: Context | None = None) -> Artifact | Bundle:
    step = step or fresh(strategy, folder)
    with running(step):
        result: Artifact | Bundle = strategy(**given)  # type: ignore[operator]
    return result


def fresh(strategy: Strategy, folder: Path, scratch: Path | None = None) -> Context:
    folder.mkdir(parents=True, exist_ok=True)
    scratch = scratch or folder / "scratch"
    scratch.mkdir(exist_ok=True)
    return Context(folder / "out", scratch, 0 if strategy.seeded else None, strategy.strategy_name())


@pytest.mark.parametrize("entry", ENTRIES, ids=lambda e: e.name)
def test_card_is_complete(entry: catalog.Entry) -> None:
    assert entry.summary.endswith("."), "the first line is one sentence"
    assert entry.tags, "taxonomy tags"
    if entry.kind == "step":
        for section in ("source", "costs", "control"):
            assert getattr(entry, section), f"the docstring has no {section}"
        control = entry.control.split()[0].rstrip(",;.")
        assert control == "none" or control in catalog.paths(), f"the control {control} does not exist"
        if control == "none":
            assert "(" in entry.control, "no control needs a reason in brackets"
    for knob in entry.knobs:
        assert knob.comment, f"the knob {knob.name} has no comment"
    lines = entry.path.read_text().count("\n")
    assert lines <= 200, f"{lines} lines: a strategy over 200 hides a mechanism"


@pytest.mark.parametrize("entry", ENTRIES, ids=lambda e: e.name)
def test_tags_place_it_in_the_taxonomy(entry: catalog.Entry) -> None:
    assert taxonomy.mistakes(entry.name, entry.tags) == []
    assert catalog.load(entry.name).tags == entry.tags, "the catalog reads them from the source text: write them out"


@pytest.mark.parametrize("name", [e.name for e in ENTRIES])
def test_knobs_round_trip_through_yaml(name: str, tmp_path: Path) -> None:
    import io

    from ruamel.yaml import YAML

    built = build(name, tmp_path)
    stream = io.StringIO()
    YAML().dump(built.spec(), stream)
    read = parse(stream.getvalue(), "round trip").plain()

    def rebuild(value: Any) -> Any:
        if isinstance(value, dict):
            plain = {k: rebuild(v) for k, v in value.items() if k != "use"}
            return catalog.load(value["use"])(**plain) if "use" in value else plain
        return tuple(rebuild(v) for v in value) if isinstance(value, list) else value

    again = rebuild(read)
    assert again.spec() == built.spec()
    assert isinstance(again, (Strategy, Part))


@EACH_CHOICE
def test_same_bytes_twice_inputs_untouched_and_quick(name: str, choice: str, tmp_path: Path) -> None:
    strategy = build(name, tmp_path / "knobs", choice)
    assert isinstance(strategy, Strategy)
    given = inputs(strategy, "sound", tmp_path, choice)
    before = {k: digest(v) for k, v in given.items() if isinstance(v, Artifact)}
    first = run(strategy, given, tmp_path / "a")
    begun = time.process_time()
    second = run(strategy, given, tmp_path / "b")
    assert time.process_time() - begun < 10, "a smoke run takes under 5 s on two cores"
    assert {k: digest(v) for k, v in given.items() if isinstance(v, Artifact)} == before, "inputs are never written"
    kinds = result_kinds(type(strategy).signature().result)
    assert isinstance(first, kinds), "the result is what the annotation says"
    assert first.summary(), "a summary for the progress line"
    opted_out(name, "same bytes twice")
    assert digest(first) == digest(second)


@pytest.mark.parametrize("name", [e.name for e in ENTRIES if e.result == "Scores"])
def test_a_measurement_makes_exactly_the_metrics_that_it_declares(name: str, tmp_path: Path) -> None:
    """So that a misspelt metric of a claim is found before anything runs."""
    strategy = build(name, tmp_path / "knobs")
    assert isinstance(strategy, Strategy)
    made = run(strategy, inputs(strategy, "sound", tmp_path), tmp_path / "a")
    assert isinstance(made, Scores)
    assert list(dict.fromkeys(row.metric for row in made.rows())) == list(strategy.metrics)
    assert catalog.entry(name).metrics == strategy.metrics, "the catalog reads them from the source text: write them out"


def result_kinds(annotation: Any) -> tuple[type, ...]:
    return tuple(a for a in alternatives(annotation) if isinstance(a, type))


@pytest.mark.parametrize("kind", [k for k in KINDS if k != "sound"])
@EACH_CHOICE
def test_odd_input_gives_a_result_or_a_clear_error(name: str, choice: str, kind: str, tmp_path: Path) -> None:
    strategy = build(name, tmp_path / "knobs", choice)
    assert isinstance(strategy, Strategy)
    given = inputs(strategy, kind, tmp_path, choice)
    if not any(isinstance(v, Artifact) for v in given.values()):
        pytest.skip("takes no artifact")
    failed: PareError | None = None
    try:
        result = run(strategy, given, tmp_path / "a")
    except PareError as error:
        failed = error
    if failed:
        assert len(failed.what) > 10
        assert not re.search(r"Traceback|object at 0x", str(failed))
        return
    assert isinstance(result, result_kinds(type(strategy).signature().result))
    for part in (result.parts() if isinstance(result, Bundle) else {"": result}).values():
        assert part.path.is_dir()


class Stop(Listener):
    """Interrupts at the n-th sign of progress."""

    def __init__(self, after: int) -> None:
        self.left = after

    def progress(self, done: float, total: float | None, unit: str, note: str) -> None:
        self.left -= 1
        if self.left < 0:
            raise KeyboardInterrupt


@EACH_CHOICE
def test_killed_and_resumed_equals_uninterrupted(name: str, choice: str, tmp_path: Path) -> None:
    import shutil

    opted_out(name, "killed and resumed")
    strategy = build(name, tmp_path / "knobs", choice)
    assert isinstance(strategy, Strategy)
    given = inputs(strategy, "sound", tmp_path, choice)
    whole = digest(run(strategy, given, tmp_path / "whole"))
    scratch = tmp_path / "scratch"
    interrupted = 0
    for number, after in enumerate((1, 0, 3, 10_000)):
        folder = tmp_path / f"try{number}"
        step = fresh(strategy, folder, scratch)
        step.listener = Stop(after)
        try:
            result = run(strategy, given, folder, step)
        except KeyboardInterrupt:
            interrupted += 1
            shutil.rmtree(folder / "out", ignore_errors=True)
            continue
        assert digest(result) == whole, f"after {interrupted} interruptions"
        return
    pytest.fail("never finished")
