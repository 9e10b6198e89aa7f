"""`paredown run`: check a recipe whole, make its steps, print one table and where to look next."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from paredown.cli import options

HELP = """Run a recipe: make what is not made yet, print the answer and where the report lies.

Example: paredown run recipes/quickstart.yaml --set tokens.vocab_size=2048
"""
LEFT_OUT = ("tokens or examples seen", "seconds to get there")  # of the table's columns, for want of room; `compare` shows all


def run(
    recipe: options.RecipeArgument,
    settings: options.SetOption = None,
    workspace: options.WorkspaceOption = options.DEFAULT,
    jobs: options.JobsOption = 1,
    processes: options.ProcessesOption = 0,
    engine: options.EngineOption = "local",
    size: options.SizeOption = "",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Check, print the plan and what it will take, run nothing.")] = False,
    no_report: options.NoReportOption = False,
    as_json: options.JsonOption = False,
    debug: options.DebugOption = False,
) -> int:
    from paredown.core import plan as plans
    from paredown.core import recipe as recipes
    from paredown.core.workspace import Workspace

    plan = plans.make(recipes.load(recipe, settings or [], size=size))
    place = Workspace(workspace)
    if dry_run:
        return _dry_run(plan, place, as_json)
    from paredown.cli import running, screen

    found = running.execute(plan, place, running.How(jobs, processes, engine, as_json, not no_report))
    if as_json:
        screen.print_json(found)
    elif found["status"] == "done":
        print("\n".join(answer(found, plan)))
    return 130 if found["status"] == "interrupted" else 0


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


def answer(found: dict[str, Any], plan: Any) -> list[str]:
    """The table that answers the recipe's question, and where to look next."""
    from paredown.cli.running import footer
    from paredown.cli.screen import number, text_table
    from paredown.core.compare import LEAST_SEEDS

    table = found["table"]
    lines = [""]
    shown = [i for i, column in enumerate(table["columns"]) if column["title"] not in LEFT_OUT]
    titles = ["", *(table["columns"][i]["title"] for i in shown)]
    rows = [[row["label"], *(number(row["values"][i], table["columns"][i]["unit"]) for i in shown)] for row in table["rows"]]
    if any(any(row["values"]) for row in table["rows"]):  # a recipe that only makes data has nothing to compare
        lines += [f"  {line}" for line in text_table(titles, rows, [row["note"] for row in table["rows"]])]
        lines.append("")
    if len(found["arms"]) > 1:
        lines += [f"  {found['verdict']}"] if found["verdict"] else []
        lines += [f"  claim  {claim['text']}: {claim['verdict']}{_reason(claim)}" for claim in found["claims"]]
        if found["claims"] and len(found["seeds"]) < LEAST_SEEDS:
            lines.append(f"  for verdicts: paredown compare {plan.recipe.file} --seeds 0..{LEAST_SEEDS - 1}")
    return [*lines, *footer(found, plan)]


def _reason(claim: dict[str, Any]) -> str:
    return f" ({claim['reason']})" if claim["reason"] else ""
