"""`paredown run`: check a recipe whole, make its steps, print one table and where to look next."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Annotated, Any

import typer

from paredown.cli.options import DEFAULT, DebugOption, JsonOption, WorkspaceOption

HELP = """Run a recipe: make what is not made yet, print the answer and where the report lies.

Example: paredown run recipes/quickstart.yaml --set tokens.vocab_size=2048
"""


def run(
    recipe: Annotated[Path, typer.Argument(help="The recipe (YAML).")],
    settings: Annotated[
        list[str] | None, typer.Option("--set", metavar="STEP.KNOB=VALUE", help="Override a knob; may be repeated.")
    ] = None,
    workspace: WorkspaceOption = DEFAULT,
    jobs: Annotated[int, typer.Option("--jobs", "-j", min=1, help="Steps to run at once, each in a process of its own.")] = 1,
    processes: Annotated[int, typer.Option("--processes", min=0, help="Processes for document work; 0 means one a core.")] = 0,
    engine: Annotated[str, typer.Option("--engine", help="Where document shards are worked on: local or ray.")] = "local",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Check, print the plan and what it will take, run nothing.")] = False,
    no_report: Annotated[bool, typer.Option("--no-report", help="Do not write the HTML report.")] = False,
    as_json: JsonOption = False,
    debug: DebugOption = False,
) -> int:
    from paredown.core import plan as plans
    from paredown.core import recipe as recipes
    from paredown.core.errors import UserError
    from paredown.core.workspace import Workspace

    if engine not in ("local", "ray"):
        raise UserError(f"--engine: {engine!r} is none of local, ray")
    checked = recipes.load(recipe, settings or [])
    plan = plans.make(checked)
    place = Workspace(workspace)
    if dry_run:
        return _dry_run(plan, place, as_json)
    return _run(plan, place, jobs, processes or len(os.sched_getaffinity(0)), engine, as_json, no_report)


def _dry_run(plan: Any, workspace: Any, as_json: bool) -> int:
    from paredown.cli.screen import headline, print_json, seconds, size
    from paredown.core import plan as plans

    guesses = plans.estimates(plan, workspace)
    guess = plans.forecast(plan, guesses)
    rows = []
    for task in plan.tasks.values():
        rows.append(
            {
                "name": task.name,
                "arms": [a for a in task.arms if a],
                "seed": task.seed,
                "strategy": task.use,
                "key": task.key,
                "cached": task.key not in guesses,
                "estimate": guesses.get(task.key, {}),
            }
        )
    if as_json:
        total = {"seconds": guess.seconds, "disk": guess.disk, "memory": guess.memory, "tokens": guess.tokens}
        print_json({"recipe": plan.recipe.name, "steps": rows, "cached": guess.cached, "estimate": total})
        return 0
    print(headline(plan, guess) + "\n")
    for row in rows:
        arms = "" if len(row["arms"]) == len(plan.recipe.arms) else ", ".join(row["arms"])
        estimate = row["estimate"]
        cost = [
            f"about {seconds(estimate['seconds'])}" if "seconds" in estimate else "",
            size(estimate["memory"]) + " memory" if estimate.get("memory") else "",
        ]
        state = "cached" if row["cached"] else ("to run  " + ", ".join(c for c in cost if c)).rstrip()
        name = row["name"] if row["seed"] is None or len(plan.recipe.seeds) == 1 else f"{row['name']} [{row['seed']}]"
        print(f"  {name:<18} {row['strategy']:<26} {arms:<24} {state}".rstrip())
    print("\nnothing was run")
    return 0


def _run(plan: Any, workspace: Any, jobs: int, processes: int, engine: str, as_json: bool, no_report: bool) -> int:
    from paredown.cli import screen
    from paredown.core import machine, runner
    from paredown.core.context import Engine
    from paredown.core.errors import PareError
    from paredown.core.ledger import Ledger

    started = time.time()
    run_id = time.strftime("%Y%m%d-%H%M%S", time.gmtime(started)) + f"-{os.getpid()}"
    ledger = Ledger(workspace.ledger_path)
    ledger.start_run(run_id, plan.recipe.name, plan.recipe.file, machine.describe(), machine.versions())
    watcher = screen.Watcher(screen.reporter(quiet=as_json))
    settings = runner.Settings(jobs, Engine("ray" if engine == "ray" else "local", processes))
    status = "failed"
    try:
        records = runner.run(plan, workspace, watcher, settings, run_id, ledger)
        status = "done"
    except KeyboardInterrupt:
        status = "interrupted"
        watcher.close()
        done = len(watcher.records)
        if not as_json:
            print(f"\nstopped after {done} of {len(plan.tasks)} steps{watcher.where()}; the same command goes on from here")
        _finish(plan, watcher, workspace, ledger, run_id, started, status, as_json, no_report=True)
        return 130
    except PareError:
        watcher.close()
        raise
    finally:
        watcher.close()
        ledger.end_run(run_id, status)
    watcher.records = records
    _finish(plan, watcher, workspace, ledger, run_id, started, status, as_json, no_report)
    return 0


def _finish(
    plan: Any, watcher: Any, workspace: Any, ledger: Any, run_id: str, started: float, status: str, as_json: bool, no_report: bool
) -> None:
    """Write the summary and the report, print the table."""
    import orjson

    from paredown.cli import screen, summary

    found = summary.build(
        plan, watcher.records, watcher.cached, workspace, ledger, run=run_id, started=started, seconds=time.time() - started, status=status
    )
    stored = workspace.path / "reports" / f"{plan.recipe.name}.json"
    report = workspace.path / "reports" / f"{plan.recipe.name}.html"
    found["report"] = None if no_report else str(report)
    temporary = stored.with_suffix(f".{os.getpid()}.tmp")
    stale = not report.exists() or len(watcher.cached) < len(watcher.records) or not _same(stored, found)
    temporary.write_bytes(orjson.dumps(found, option=orjson.OPT_INDENT_2 | orjson.OPT_NON_STR_KEYS, default=str))
    os.replace(temporary, stored)
    if not no_report and stale:
        from paredown.report import write_report

        write_report(found, report)
    if as_json:
        screen.print_json(found)
    elif status == "done":
        for line in answer(found, plan):
            print(line)


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
    )


def answer(found: dict[str, Any], plan: Any) -> list[str]:
    """The table that answers the recipe's question, and where to look next."""
    from paredown.cli.screen import number, seconds, text_table
    from paredown.cli.summary import final_model

    table = found["table"]
    lines = [""]
    titles = ["", *(c["title"] for c in table["columns"])]
    rows = [[row["label"], *(number(v, c["unit"]) for v, c in zip(row["values"], table["columns"], strict=True))] for row in table["rows"]]
    if any(any(row["values"]) for row in table["rows"]):  # a recipe that only makes data has nothing to compare
        lines += [f"  {line}" for line in text_table(titles, rows, [row["note"] for row in table["rows"]])]
        lines.append("")
    if len(found["arms"]) > 1:
        lines += [
            f"  {found['verdict']}",
            *(f"  claim  {claim['text']}: {claim['verdict']} ({claim['reason']})" for claim in found["claims"]),
        ]
    if found["report"]:
        lines.append(f"  report  {found['report']}")
    last = list(plan.recipe.arms)[-1]
    model = final_model(plan, last, plan.recipe.seeds[0])
    if model:
        folder = next(step["folder"] for step in found["steps"] if step["key"] == model.key)
        lines.append(f"  model   {folder}/model" + (f"  (arm {last})" if last else ""))
    totals = found["totals"]
    from_cache = "none" if not totals["cached"] else "all" if totals["cached"] == totals["steps"] else str(totals["cached"])
    lines.append(
        f"  {totals['steps']} steps, {from_cache} from cache; {seconds(found['seconds'])}; {number(totals['flops'], 'FLOPs')} FLOPs; energy {totals['energy']}"
    )
    return lines
