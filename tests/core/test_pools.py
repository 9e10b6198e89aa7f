"""Several steps at once: the same bytes as one after the other, clocks alone, and no worker that outlives or holds up who started it."""

from __future__ import annotations

import json
import math
import os
import signal
import subprocess
import time
from collections.abc import Callable
from itertools import combinations
from pathlib import Path

import psutil
import pytest
from toy_runs import artifact_bytes, run, start, wait_for  # type: ignore[import-not-found]

from paredown.core import pools
from paredown.core.errors import MachineError
from paredown.core.workspace import Workspace

Program = Callable[..., "subprocess.CompletedProcess[str]"]
SEEDS = """\
seeds: [0, 1, 2]
steps:
  numbers: {use: toy.numbers, count: 6}
  double: {use: toy.double, corpus: $numbers}
  halves: {use: toy.halves, corpus: $double}
  score: {use: toy.noisy, corpus: $numbers}
  length: {use: toy.length, corpus: $halves.held_out}
arms:
  control: {}
  star: {double.mark: "*", score.shift: -0.2}
claims:
  - {metric: score.loss, arm: star, beats: control}
"""
SLOW = """\
steps:
  numbers: {use: toy.numbers}
  slow: {use: toy.slow, corpus: $numbers, units: 400, seconds: 0.05}
arms:
  long: {}
  longer: {slow.units: 500}
"""


def chatter(seconds: float) -> None:
    """Say more than anybody hears."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        pools.say("key", 1.0, 2.0, "units", "")


def test_results_errors_and_news_come_from_the_workers() -> None:
    pool = pools.Processes(2)
    try:
        assert pool.submit(math.sqrt, 9.0).result(60) == 3.0
        assert pool.submit(os.getpid).result(60) != os.getpid()
        with pytest.raises(ValueError, match="'x'"):
            pool.submit(int, "x").result(60)
        pool.submit(pools.say, "key", 1.0, None, "units", "note").result(60)
        heard: list[object] = []
        deadline = time.monotonic() + 30
        while not heard and time.monotonic() < deadline:
            heard += pool.news()
        assert heard == [("key", 1.0, None, "units", "note")]
    finally:
        pool.close(stop=False)


def test_a_lost_worker_is_an_error_of_every_later_call_too() -> None:
    pool = pools.Processes(1)
    try:
        for _ in range(2):
            with pytest.raises(MachineError, match="a worker process was killed") as caught:
                pool.submit(os._exit, 3).result(60)
            assert caught.value.kept == "all finished steps"
            assert "the same command goes on" in caught.value.todo
    finally:
        pool.close(stop=False)


def test_stopping_interrupts_what_runs_and_begins_nothing_new() -> None:
    pool = pools.Processes(1)
    pool.submit(os.getpid).result(60)
    running = pool.submit(time.sleep, 100)
    waiting = [pool.submit(time.sleep, 100) for _ in range(4)]
    time.sleep(0.5)
    begun = time.monotonic()
    pool.close(stop=True)
    assert time.monotonic() - begun < 30
    assert isinstance(running.exception(0), KeyboardInterrupt)
    assert waiting[-1].cancelled()


@pytest.mark.parametrize("after", [0.0, 0.1, 0.2])
def test_a_worker_that_is_stopped_amid_a_word_ends(after: float) -> None:
    pool = pools.Processes(1)
    pool.submit(os.getpid).result(60)
    running = pool.submit(chatter, 60)
    while not pool.news():
        time.sleep(0.01)
    time.sleep(after)  # by now it is stuck in what it has said, or will be
    begun = time.monotonic()
    pool.close(stop=True)
    assert time.monotonic() - begun < 30
    assert isinstance(running.exception(0), KeyboardInterrupt)


def test_a_killed_worker_names_its_step_and_the_next_run_goes_on(tmp_path: Path) -> None:
    text = "steps:\n  numbers: {use: toy.numbers}\n  gone: {use: toy.killed, corpus: $numbers}\n  twice: {use: toy.double, corpus: $gone}\n"
    with pytest.raises(MachineError, match="a worker process was killed") as caught:
        run(text, tmp_path / "w", jobs=2)
    assert caught.value.where == "step gone (toy.killed)"
    made = list(Workspace(tmp_path / "w").records())
    assert [record.strategy for record in made] == ["toy.numbers"]
    plan, records = run(text, tmp_path / "w", jobs=2)
    assert set(records) == set(plan.tasks)
    assert records[made[0].key] == made[0], "it was not made again"
    assert not Workspace(tmp_path / "w").unfinished()


def test_a_step_that_measures_time_runs_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOY_TIMES", str(tmp_path / "times"))
    text = """\
seeds: [0, 1]
steps:
  numbers: {use: toy.numbers}
  nap: {use: toy.napping, corpus: $numbers, seconds: 0.3}
  clock: {use: toy.timed, corpus: $numbers, seconds: 0.1}
  again: {use: toy.timed, corpus: $nap, seconds: 0.1}
arms:
  one: {}
  two: {nap.seconds: 0.4, clock.seconds: 0.15}
"""
    plan, records = run(text, tmp_path / "w", jobs=3)
    assert len(records) == len(plan.tasks)
    rows = [line.split() for line in (tmp_path / "times").read_text().splitlines()]
    spans = [(name, float(begin), float(end)) for name, begin, end in rows]
    assert sorted(name for name, *_ in spans) == ["napping"] * 4 + ["timed"] * 8
    beside = [(a[0], b[0]) for a, b in combinations(spans, 2) if a[1] < b[2] and b[1] < a[2]]
    assert beside, "untimed steps do run at once"
    assert set(beside) == {("napping", "napping")}


def test_two_processes_give_the_bytes_and_the_verdict_of_one(within: Program, tmp_path: Path) -> None:
    (tmp_path / "r.yaml").write_text(SEEDS)
    found = [
        json.loads(within("compare", "r.yaml", "--workspace", place, "--jobs", jobs, "--json", "--no-report").stdout)
        for place, jobs in (("one", "1"), ("two", "2"))
    ]
    assert artifact_bytes(tmp_path / "one") == artifact_bytes(tmp_path / "two")
    assert len(artifact_bytes(tmp_path / "one")) > 40
    assert found[0]["claims"] == found[1]["claims"]
    assert [step["scores"] for step in found[0]["steps"]] == [step["scores"] for step in found[1]["steps"]]


def test_ray_gives_the_bytes_and_the_verdict_of_one_process(paredown: Program, within: Program, tmp_path: Path) -> None:
    pytest.importorskip("ray")
    (tmp_path / "r.yaml").write_text(SEEDS)
    one = within("compare", "r.yaml", "--workspace", "one", "--json", "--no-report")
    ray = paredown(
        "compare", "r.yaml", "--workspace", "ray", "--jobs", "2", "--engine", "ray", "--json", "--no-report",
        env={"RAY_ADDRESS": ""}, timeout=300,
    )  # fmt: skip
    assert ray.returncode == 0, ray.stderr
    assert artifact_bytes(tmp_path / "one") == artifact_bytes(tmp_path / "ray")
    assert json.loads(one.stdout)["claims"] == json.loads(ray.stdout)["claims"]


@pytest.mark.parametrize("to", ["program", "group"])
def test_ctrl_c_stops_the_steps_of_all_workers(tmp_path: Path, to: str) -> None:
    (tmp_path / "s.yaml").write_text(SLOW)
    process = start(tmp_path, "run", "s.yaml", "--jobs", "2")
    wait_for(process, tmp_path, ".paredown/work/*/scratch/3.txt", 2)
    begun = time.monotonic()
    if to == "program":
        process.send_signal(signal.SIGINT)
    else:
        os.killpg(process.pid, signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (130, "")
    assert time.monotonic() - begun < 15, "20 seconds of work were left"
    assert "stopped after 1 of 3 steps" in out
    assert "the same command goes on from here" in out
    assert len(list(tmp_path.glob(".paredown/work/*/spent.json"))) == 2, "what the stopped tries cost is noted"


def test_ctrl_c_reaches_a_worker_that_does_nothing_without_a_traceback(tmp_path: Path) -> None:
    (tmp_path / "s.yaml").write_text(SLOW.replace("units: 500", "units: 2"))
    process = start(tmp_path, "run", "s.yaml", "--jobs", "2")
    wait_for(process, tmp_path, ".paredown/steps/toy.slow-*")
    wait_for(process, tmp_path, ".paredown/work/*/scratch/30.txt")
    os.killpg(process.pid, signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (130, "")
    assert "stopped after 2 of 3 steps" in out


def test_workers_end_when_the_program_is_killed(tmp_path: Path) -> None:
    (tmp_path / "s.yaml").write_text(SLOW)
    process = start(tmp_path, "run", "s.yaml", "--jobs", "2")
    wait_for(process, tmp_path, ".paredown/work/*/scratch/3.txt", 2)
    workers = psutil.Process(process.pid).children(recursive=True)
    assert len(workers) >= 2
    process.kill()
    process.communicate(timeout=60)
    _, left = psutil.wait_procs(workers, timeout=15)
    for worker in left:
        worker.kill()
    assert not left
    assert len(Workspace(tmp_path / ".paredown").unfinished()) == 2, "no lock is held any more"
