"""What `run`, `compare` and `prove` share: a plan in, its steps made with what a person sees meanwhile, the summary and the report out."""

from __future__ import annotations

import os
import time
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from paredown.cli import screen, summary
from paredown.core import machine, runner
from paredown.core.context import Engine
from paredown.core.ledger import Ledger
from paredown.core.plan import Plan
from paredown.core.workspace import Workspace


@dataclass(frozen=True)
class How:
    """How to run; nothing here changes a byte of the results."""

    jobs: int = 1
    processes: int = 0  # for document work; 0: one a core
    engine: str = "local"
    as_json: bool = False
    report: bool = True

    def settings(self) -> runner.Settings:
        processes = self.processes or len(os.sched_getaffinity(0))
        return runner.Settings(self.jobs, Engine("ray" if self.engine == "ray" else "local", processes))


def execute(plan: Plan, workspace: Workspace, how: How) -> dict[str, Any]:
    """Make what is not made yet; the summary, whose `status` is `done` or `interrupted`.

    Raises:
        PareError: a step failed.
    """
    settings = how.settings()
    started = time.time()
    run_id = time.strftime("%Y%m%d-%H%M%S", time.gmtime(started)) + f"-{uuid.uuid4().hex[:8]}"  # `prove` begins several a second
    ledger = Ledger(workspace.ledger_path)
    ledger.start_run(run_id, plan.recipe.name, plan.recipe.file, machine.describe(), machine.versions())
    watcher = screen.Watcher(screen.reporter(quiet=how.as_json))
    status = "failed"
    try:
        watcher.records = runner.run(plan, workspace, watcher, settings, run_id, ledger)
        status = "done"
    except KeyboardInterrupt:
        status = "interrupted"
        watcher.close()
        if not how.as_json:
            done = len(watcher.records)
            print(f"\nstopped after {done} of {len(plan.tasks)} steps{watcher.where()}; the same command goes on from here")
    finally:
        watcher.close()
        ledger.end_run(run_id, status)
    found = summary.build(
        plan, watcher.records, watcher.cached, workspace, ledger, run=run_id, started=started, seconds=time.time() - started, status=status
    )
    write(found, workspace, report=how.report and status == "done")
    return found


def write(found: dict[str, Any], workspace: Workspace, *, report: bool) -> None:
    """Store the summary, and the report where it shows other steps than the one that lies there."""
    import orjson

    from paredown.report import write_report, write_text

    stored = workspace.path / "reports" / f"{found['recipe']}.json"
    page = workspace.path / "reports" / f"{found['recipe']}.html"
    found["report"] = str(page) if report else None
    stale = not page.exists() or found["totals"]["cached"] < found["totals"]["finished"] or not _same(stored, found)
    write_text(stored, orjson.dumps(found, option=orjson.OPT_INDENT_2 | orjson.OPT_NON_STR_KEYS, default=str).decode())
    if report and stale:
        write_report(found, page)


def _same(stored: Path, found: dict[str, Any]) -> bool:
    """Whether the report of the last run shows these very steps."""
    import orjson

    try:
        old = orjson.loads(stored.read_bytes())
    except (OSError, ValueError):
        return False
    return bool(
        [s["key"] for s in old["steps"]] == [s["key"] for s in found["steps"]]
        and old["recipe_text"] == found["recipe_text"]
        and old["status"] == "done"
        and old["seeds"] == found["seeds"]
    )


def footer(found: dict[str, Any], plan: Plan) -> list[str]:
    """Where to look next, and what the run took."""
    from paredown.cli.tables import final_model

    lines = [f"  report  {found['report']}"] if found["report"] else []
    last = list(plan.recipe.arms)[-1]
    model = final_model(plan, last, plan.recipe.seeds[0])
    if model:
        folder = next(step["folder"] for step in found["steps"] if step["key"] == model.key)
        lines.append(f"  model   {folder}/model" + (f"  (arm {last})" if last else ""))
    totals = found["totals"]
    from_cache = "none" if not totals["cached"] else "all" if totals["cached"] == totals["steps"] else str(totals["cached"])
    took, flops = screen.seconds(found["seconds"]), screen.number(totals["flops"], "FLOPs")
    return [*lines, f"  {totals['steps']} steps, {from_cache} from cache; {took}; {flops} FLOPs; energy {totals['energy']}"]
