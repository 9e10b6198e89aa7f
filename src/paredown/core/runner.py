"""Runs a plan: each distinct step once, what exists is not made again, a killed step goes on where it was."""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import json
import os
import shutil
import time
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, wait
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from paredown.core import machine, pools
from paredown.core import plan as plans
from paredown.core.artifact import Artifact, Bundle, fsync
from paredown.core.context import Context, Engine, Listener, running
from paredown.core.errors import MachineError, PareError
from paredown.core.ledger import Ledger
from paredown.core.plan import Forecast, Plan, Task
from paredown.core.strategy import handed
from paredown.core.workspace import Record, Workspace, disk_error, folder_bytes

HEARTBEAT = 5.0  # seconds between notes of what a step has cost so far
CURVE_POINTS = 1000


class StepFailed(PareError):
    """A step raised something that no strategy announced; `--debug` shows where."""


class Reporter:
    """Hears what a run does; the command line draws it. The default is silent."""

    def planned(self, plan: Plan, forecast: Forecast) -> None: ...
    def started(self, task: Task) -> None: ...
    def progress(self, key: str, done: float, total: float | None, unit: str, note: str) -> None: ...
    def finished(self, task: Task, record: Record, cached: bool) -> None: ...
    def failed(self, task: Task, error: BaseException) -> None: ...


@dataclass
class Settings:
    """How to run; nothing here changes a byte of the results."""

    jobs: int = 1  # steps at once
    engine: Engine = field(default_factory=Engine)


def run(plan: Plan, workspace: Workspace, reporter: Reporter, settings: Settings, run_id: str, ledger: Ledger) -> dict[str, Record]:
    """Make every step of the plan; returns the records by key.

    Raises:
        PareError: a step failed; the others that it does not hold up were still finished where several run at once.
        KeyboardInterrupt: stopped; finished steps and the progress of the running one are kept.
    """
    guesses = plans.estimates(plan, workspace)
    guess = plans.forecast(plan, guesses)
    preflight(guess, workspace)
    reporter.planned(plan, guess)
    done: dict[str, Record] = {}
    for task in plan.tasks.values():  # what exists already, so that a finished recipe needs no process and no lock
        record = workspace.find(task.key, task.use)
        if record:
            done[task.key] = record
            reporter.finished(task, record, True)
    ledger.run_steps(_rows(plan, run_id, done, cached=True))
    if len(done) < len(plan.tasks):
        if settings.jobs <= 1:
            _in_order(plan, workspace, reporter, settings, run_id, ledger, done)
        else:
            _at_once(plan, plans.urgent_first(plan, guesses), workspace, reporter, settings, run_id, ledger, done)
    return done


def preflight(guess: Forecast, workspace: Workspace) -> None:
    """Stop before hours are spent: room on the disk, memory, and a save path that works.

    Raises:
        MachineError: with what is needed and what there is.
    """
    if guess.steps == guess.cached:
        return
    probe = workspace.path / "work" / f".probe-{os.getpid()}"
    try:
        probe.write_bytes(b"\0" * 1_000_000)
        fsync(probe)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise disk_error(workspace) from None
        raise MachineError(
            f"the workspace cannot be written: {error.strerror}", where=str(workspace.path), todo="choose another with --workspace"
        ) from None
    finally:
        with contextlib.suppress(OSError):
            probe.unlink()
    free = shutil.disk_usage(workspace.path).free
    if guess.disk > free:
        raise MachineError(
            f"the run needs about {guess.disk / 1e9:.1f} GB of disk; {free / 1e9:.1f} GB are free",
            where=str(workspace.path),
            todo="paredown gc shows what can go, or choose another --workspace",
        )
    memory = machine.available_memory()
    if guess.memory > memory:
        raise MachineError(
            f"the largest step needs about {guess.memory / 1e9:.1f} GB of memory; {memory / 1e9:.1f} GB are free",
            todo="a smaller batch or model, or a larger machine",
        )


def _rows(
    plan: Plan, run_id: str, done: dict[str, Record], *, cached: bool, only: str | None = None
) -> list[tuple[str, str, int, str, str, int, int]]:
    rows = []
    for position, task in enumerate(plan.tasks.values()):
        if task.key in done and only in (None, task.key):
            rows += [(run_id, arm, seed, name, task.key, position, int(cached)) for arm, seed, name in task.cells]
    return rows


@dataclass(frozen=True)
class Needs:
    """What a step reads: the records of its inputs by key, what they give, and what they were made from where it asks for that."""

    records: dict[str, Record]
    gives: dict[str, Any]
    made_from: dict[str, list[Record]]  # input -> steps

    @staticmethod
    def of(plan: Plan, task: Task, done: dict[str, Record]) -> Needs:
        keys = [source.key for source in task.sources()]
        made_from = {}
        for name, value in task.inputs.items() if task.strategy.reads_costs else ():
            own = [value] if isinstance(value, plans.Source) else value if isinstance(value, tuple) else []
            steps = {made.key: done[made.key] for source in own for made in plans.made_by(plan, source.key)}
            made_from[name] = list(steps.values())
        return Needs({key: done[key] for key in keys}, {key: plan.tasks[key].gives for key in keys}, made_from)


def _in_order(
    plan: Plan, workspace: Workspace, reporter: Reporter, settings: Settings, run_id: str, ledger: Ledger, done: dict[str, Record]
) -> None:
    for task in plan.tasks.values():
        if task.key in done:
            continue
        reporter.started(task)

        def tell(d: float, t: float | None, u: str, n: str, key: str = task.key) -> None:
            reporter.progress(key, d, t, u, n)

        try:
            record, cached = make_step(task, workspace, Needs.of(plan, task, done), settings.engine, tell, ledger)
        except BaseException as error:
            reporter.failed(task, error)
            raise
        done[task.key] = record
        ledger.run_steps(_rows(plan, run_id, done, cached=cached, only=task.key))
        reporter.finished(task, record, cached)


def _at_once(
    plan: Plan,
    order: list[Task],
    workspace: Workspace,
    reporter: Reporter,
    settings: Settings,
    run_id: str,
    ledger: Ledger,
    done: dict[str, Record],
) -> None:
    pending: dict[Future[tuple[Record, bool]], Task] = {}
    first: PareError | None = None
    pool: pools.Pool = (pools.RayTasks if settings.engine.kind == "ray" else pools.Processes)(settings.jobs)
    try:
        while True:
            for task in _ready(order, done, pending, settings.jobs) if first is None else []:
                reporter.started(task)
                asked = (task, workspace.path.resolve(), Needs.of(plan, task, done), settings.engine)
                pending[pool.submit(_remote, *asked)] = task
            if not pending:
                break
            finished, _ = wait(pending, timeout=0.1, return_when=FIRST_COMPLETED)
            for item in pool.news():
                reporter.progress(*item)
            for future in finished:
                task = pending.pop(future)
                try:
                    record, cached = future.result()
                except PareError as error:
                    reporter.failed(task, error)
                    if first is None:
                        error.where = error.where or " or ".join(f"step {t.name} ({t.use})" for t in (task, *pending.values()))
                        first = error
                    continue
                record = dataclasses.replace(record, folder=workspace.step_folder(task.key, task.use))
                done[task.key] = record
                ledger.run_steps(_rows(plan, run_id, done, cached=cached, only=task.key))
                reporter.finished(task, record, cached)
    except BaseException:
        pool.close(stop=True)
        raise
    pool.close(stop=False)
    if first:
        raise first


def _ready(order: list[Task], done: dict[str, Record], pending: dict[Future[tuple[Record, bool]], Task], jobs: int) -> list[Task]:
    """What may begin now, in this order. A step that measures time runs alone, as another beside it would be measured too.

    It begins only where nothing runs and no other step could; until it ends, nothing more comes free.
    """
    asked = {task.key for task in pending.values()}
    free = [t for t in order if t.key not in done and t.key not in asked and all(s.key in done for s in t.sources())]
    untimed = [task for task in free if not task.strategy.measures_time]
    if untimed:
        return untimed[: jobs - len(pending)]
    return [] if pending else free[:1]


def _remote(task: Task, path: Path, needs: Needs, engine: Engine) -> tuple[Record, bool]:
    def tell(done: float, total: float | None, unit: str, note: str) -> None:
        pools.say(task.key, done, total, unit, note)

    workspace = Workspace(path)
    return make_step(task, workspace, needs, engine, tell, Ledger(workspace.ledger_path))


Tell = Callable[[float, float | None, str, str], None]


class _StepListener(Listener):
    """Passes progress on at most ten times a second and keeps the curves."""

    def __init__(self, tell: Tell) -> None:
        self.tell = tell
        self.curves: dict[str, list[list[float]]] = {}
        self.last = 0.0

    def progress(self, done: float, total: float | None, unit: str, note: str) -> None:
        now = time.monotonic()
        if now - self.last >= 0.1:
            self.last = now
            self.tell(done, total, unit, note)

    def curve(self, metric: str, step: int, value: float, tokens: int) -> None:
        self.curves.setdefault(metric, []).append([step, tokens, value])


def make_step(task: Task, workspace: Workspace, needs: Needs, engine: Engine, tell: Tell, ledger: Ledger) -> tuple[Record, bool]:
    """Make one step under its lock, or find it made; (record, whether it was found)."""
    with workspace.lock(task.key, wait=False) as held:
        if held:
            return _make_locked(task, workspace, needs, engine, tell, ledger)
    tell(0, None, "", "another run makes it; waiting")
    with workspace.lock(task.key):
        return _make_locked(task, workspace, needs, engine, tell, ledger)


def _make_locked(task: Task, workspace: Workspace, needs: Needs, engine: Engine, tell: Tell, ledger: Ledger) -> tuple[Record, bool]:
    found = workspace.find(task.key, task.use)
    if found:
        return found, True
    with _normalized(task, workspace):
        folder = workspace.work_folder(task.key)
        listener = _StepListener(tell)
        step = Context(
            folder / "out", folder / "scratch", task.seed, task.name, listener, engine, needs.made_from, shared=workspace.path.resolve()
        )
        resolved = plans.resolve(task, needs.records, needs.gives)
        strategy, inputs = handed(task.strategy, resolved)
        before = _spent(folder)
        with machine.Meter() as meter, _noting(folder, before), running(step):
            result: Artifact | Bundle = strategy(**inputs)  # type: ignore[operator]
        main = next(iter(result.parts().values())) if isinstance(result, Bundle) else result
        counted = getattr(main, "parameters", None)
        cost: dict[str, Any] = {
            "seconds": round(before["seconds"] + meter.seconds, 4),
            "cpu_seconds": round(before["cpu_seconds"] + meter.cpu_seconds, 4),
            "peak_memory": meter.peak_memory,
            "flops": step.cost.flops,
            "flops_how": step.cost.flops_how,
            "tokens": step.cost.tokens,
            "documents": step.cost.documents,
            "money": step.cost.money,
            "currency": step.cost.currency,
            "bytes": folder_bytes(folder / "out"),
            "energy_joules": meter.energy,
        }
        curves = step.facts.pop("curves", None) or listener.curves
        record = Record(
            key=task.key,
            strategy=task.use,
            parts={},
            single=False,
            knobs=task.strategy.knobs(),
            inputs={name: str(value) for name, value in _named(task).items()},
            seed=task.seed,
            summary=step.says or result.summary(),
            cost=cost,
            facts=step.facts,
            dropped=step.dropped,
            parameters=counted() if callable(counted) else None,
        )
        record = workspace.commit(record, result)
        thin = {metric: points[:: max(1, len(points) // CURVE_POINTS)] for metric, points in curves.items()}
        ledger.step(task.key, task.use, record.folder.name, cost, record.facts, record.parameters, record.dropped, thin)
    return record, False


def _named(task: Task) -> dict[str, str]:
    def one(value: Any) -> str:
        if isinstance(value, plans.Source):
            return value.key[:16] + (f".{value.part}" if value.part else "")
        if isinstance(value, tuple):
            return ", ".join(one(item) for item in value)
        return str(value.spec()["use"])

    return {name: one(value) for name, value in task.inputs.items()}


def _spent(folder: Path) -> dict[str, float]:
    """What earlier, killed tries of this step cost."""
    try:
        loaded: dict[str, float] = json.loads((folder / "spent.json").read_bytes())
        return {"seconds": float(loaded["seconds"]), "cpu_seconds": float(loaded["cpu_seconds"])}
    except (OSError, ValueError, KeyError, TypeError):
        return {"seconds": 0.0, "cpu_seconds": 0.0}


@contextlib.contextmanager
def _noting(folder: Path, before: dict[str, float]) -> Iterator[None]:
    """Note the running cost now and then, so that a killed try still counts."""
    wall, times = time.perf_counter(), os.times()

    def beat() -> None:
        now = os.times()
        cpu = now.user + now.system - times.user - times.system
        spent = {"seconds": before["seconds"] + time.perf_counter() - wall, "cpu_seconds": before["cpu_seconds"] + cpu}
        with contextlib.suppress(OSError):
            temporary = folder / "spent.tmp"
            temporary.write_text(json.dumps(spent))
            os.replace(temporary, folder / "spent.json")

    with machine.heartbeat(HEARTBEAT, beat):
        try:
            yield
        except BaseException:
            beat()
            raise


@contextlib.contextmanager
def _normalized(task: Task, workspace: Workspace) -> Iterator[None]:
    """Foreign exceptions become ours, with the step as their place."""
    try:
        yield
    except PareError as error:
        place = f"step {task.name} ({task.use})"
        error.where = f"{place}, {error.where}" if error.where and not error.where.startswith("step ") else error.where or place
        raise
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise disk_error(workspace) from error
        raise StepFailed(f"{type(error).__name__}: {error}", where=f"step {task.name} ({task.use})", kept="all finished steps") from error
    except MemoryError as error:
        raise MachineError("not enough memory", where=f"step {task.name} ({task.use})", kept="all finished steps") from error
    except Exception as error:
        full = "No space left on device" in str(error)
        if full:
            raise disk_error(workspace) from error
        text = " ".join(str(error).split())[:400]
        raise StepFailed(
            f"{type(error).__name__}: {text}",
            where=f"step {task.name} ({task.use})",
            kept="all finished steps",
            todo="run again with --debug for the place in the code",
        ) from error
