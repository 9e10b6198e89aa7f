"""`paredown compare`: every arm with every seed, and for each claim a verdict with its interval."""

from __future__ import annotations

import re
import textwrap
from typing import TYPE_CHECKING, Annotated, Any

import typer

from paredown.cli import options

if TYPE_CHECKING:
    from paredown.core.plan import Plan
    from paredown.core.workspace import Workspace

HELP = """Run every arm of a recipe with several seeds; print verdicts, metrics and costs.

A verdict takes at least 3 seeds, and arms that spent the same of the budget that the claim names. Seeds that this recipe ran
with before are made no second time and count, too; --only counts just those named.

Example: paredown compare recipes/quickstart.yaml --seeds 0..2
"""
MOST_SEEDS = 1000
SeedsOption = Annotated[str, typer.Option("--seeds", metavar="A..B", help="Seeds, such as 0..4 or 0,3,7; without it the recipe's own.")]
OnlyOption = Annotated[bool, typer.Option("--only", help="Leave out seeds that ran before and are not named.")]


def compare(
    recipe: options.RecipeArgument,
    seeds: SeedsOption = "",
    only: OnlyOption = False,
    settings: options.SetOption = None,
    size: options.SizeOption = "",
    workspace: options.WorkspaceOption = options.DEFAULT,
    jobs: options.JobsOption = 1,
    processes: options.ProcessesOption = 0,
    engine: options.EngineOption = "local",
    no_report: options.NoReportOption = False,
    as_json: options.JsonOption = False,
    debug: options.DebugOption = False,
) -> int:
    from paredown.cli import running, screen
    from paredown.core import recipe as recipes
    from paredown.core.workspace import Workspace

    checked = recipes.load(recipe, settings or [], parse_seeds(seeds), size)
    place = Workspace(workspace)
    plan = plan_with_earlier(checked, place, only=only)
    found = running.execute(plan, place, running.How(jobs, processes, engine, as_json, not no_report))
    if as_json:
        screen.print_json(found)
    elif found["status"] == "done":
        print("\n".join(["", *answer(found), *running.footer(found, plan)]))
    return 130 if found["status"] == "interrupted" else 0


def parse_seeds(text: str) -> list[int]:
    """`0..4` (both ends), `0,3,7`, or both mixed; none for an empty text.

    Raises:
        UserError: it is something else.
    """
    from paredown.core.errors import UserError

    found: list[int] = []
    for piece in filter(None, (p.strip() for p in text.split(","))):
        match = re.fullmatch(r"(\d{1,12})(?:\.\.(\d{1,12}))?", piece)
        first, last = (int(match[1]), int(match[2] or match[1])) if match else (0, -1)
        if last - first >= MOST_SEEDS:
            raise UserError(f"--seeds: {piece} are {last - first + 1:,} seeds; {MOST_SEEDS:,} are the most", todo="such as --seeds 0..4")
        if match is None or last < first:
            raise UserError(f"--seeds: {piece!r} is no seed and no range of seeds", todo="such as --seeds 0..4 or --seeds 0,3,7")
        found += range(first, last + 1)
    return list(dict.fromkeys(found))


def plan_with_earlier(recipe: Any, workspace: Workspace, *, only: bool) -> Plan:
    """The plan of the recipe's seeds, and of those that it ran with before and of which every step is there as it is asked for here."""
    from paredown.core import plan as plans
    from paredown.core.ledger import Ledger

    earlier = [] if only else [s for s in Ledger(workspace.ledger_path).seeds_of(recipe.name, recipe.file) if s not in recipe.seeds]
    if earlier:
        named = list(recipe.seeds)
        recipe.seeds = named + earlier
        whole = plans.make(recipe)
        made = {task.key for task in whole.tasks.values() if workspace.find(task.key, task.use)}
        there = [s for s in earlier if all(t.key in made for t in whole.tasks.values() if any(c[1] == s for c in t.cells))]
        recipe.seeds = sorted(named + there)
    return plans.make(recipe)


def answer(found: dict[str, Any]) -> list[str]:
    """Verdicts, then what was measured, then what it cost."""
    lines: list[str] = []
    for claim in found["claims"]:
        lines += [*verdict_lines(claim), ""]
    if not found["claims"]:
        lines += ["  no claims; a recipe's claims are what gets verdicts (docs/recipes.md)", ""]
    for kind in ("metric", "cost"):
        table = _table(found, kind)
        lines += [*(f"  {line}" for line in table), ""] if table else []
    return lines


def verdict_lines(claim: dict[str, Any]) -> list[str]:
    """The verdict, what was claimed, and what it rests on."""
    from paredown.cli.screen import number
    from paredown.report.numbers import beside

    unit = claim["unit"]
    details = []
    if None not in claim["means"]:
        ours, theirs = (number(value, unit) for value in claim["means"])
        said = f"{claim['arm']} {ours}, {claim['other']} {theirs} {beside(unit)}".rstrip()
        if claim["low"] is not None:
            low, high = _signed(claim["low"], unit), _signed(claim["high"], unit)
            said += f"; difference {_signed(claim['difference'], unit)} (95%: {low} to {high})"
        details.append(said)
    if claim["method"]:
        details.append(f"{claim['method']}, n = {claim['n']} seeds" + (f", {claim['items']:,} items" if claim["items"] else ""))
    details += [text for text in (_budget(claim), claim["reason"]) if text]
    head = textwrap.wrap(claim["says"] or claim["text"], 86, break_on_hyphens=False)
    body = [*head[1:], *([claim["text"]] if claim["says"] else [])]
    lines = [f"  {claim['verdict']:<10}  {head[0]}", *(f"{'':14}{line}" for line in body)]
    for text in details:
        lines += textwrap.wrap(text, 100, initial_indent=" " * 14, subsequent_indent=" " * 16, break_on_hyphens=False)
    return lines


def _budget(claim: dict[str, Any]) -> str:
    from paredown.cli.screen import count

    budget, pieces = claim["budget"], []
    if budget and budget["apart"] is not None:
        same = f"{count(budget['arm'])} against {count(budget['other'])}"
        pieces.append(f"{budget['name']}: {same} ({budget['apart']:.1%} apart)")
    pieces += [claim["extra"]] if claim["extra"] else []
    return "; ".join(pieces)


def _signed(value: float, unit: str) -> str:
    """A difference with its sign; a small one keeps three digits."""
    from paredown.cli.screen import number

    if 0 < abs(value) < 0.1:
        return f"{value:+.3g}"
    return ("+" if value > 0 else "") + number(value, unit)


def _table(found: dict[str, Any], kind: str) -> list[str]:
    """Arms down; metrics with the half-width of their 95% interval, or costs with their ratio to the control's."""
    from paredown.cli.screen import number, text_table, unicode_terminal

    table, control = found["table"], found["control"]
    shown = [
        i
        for i, column in enumerate(table["columns"])
        if column["kind"] == kind and any(row["values"][i] is not None for row in table["rows"])
    ]
    if not shown:
        return []
    around = " ±" if unicode_terminal() else " +-"
    rows = []
    for row in table["rows"]:
        cells = []
        for i in shown:
            unit, value = table["columns"][i]["unit"], row["values"][i]
            text = number(value, unit)
            if kind == "metric" and row["interval"][i]:
                half = (row["interval"][i][1] - row["interval"][i][0]) / 2
                text += around + (
                    number(half, unit) if unit in ("FLOPs", "s", "bytes") else f"{half:,.0f}" if half >= 10 else f"{half:.2g}"
                )
            elif kind == "cost" and row["ratios"][i] is not None and row["arm"] != control:
                text += f" x{row['ratios'][i]:.2f}"
            cells.append(text)
        rows.append([row["label"], *cells])
    notes = [row["note"] for row in table["rows"]] if kind == "cost" else []
    lines = text_table(["", *(table["columns"][i]["title"] for i in shown)], rows, notes)
    said = (
        f"means over {len(found['seeds'])} seeds{around} half of the 95% interval (Student t)"
        if kind == "metric" and len(found["seeds"]) > 1
        else f"x is the ratio to {control}" if kind == "cost" and control else ""
    )  # fmt: skip
    return [*lines, *([said] if said else [])]
