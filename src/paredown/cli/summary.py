"""The run as one object: what `run --json` prints and the report draws. Its shape is documented in docs/json.md."""

from __future__ import annotations

import datetime
from typing import Any

from paredown.artifacts.corpus import Corpus
from paredown.artifacts.examples import Examples
from paredown.artifacts.scores import Scores
from paredown.cli import tables
from paredown.core import compare, machine
from paredown.core.ledger import Ledger
from paredown.core.plan import Plan, Source, Task
from paredown.core.recipe import Recipe
from paredown.core.workspace import Record, Workspace

SAMPLES = 6
REJECTED = 3  # shown of each rule
MOST_REJECTED = 40
TEXT = 600  # characters shown of a rejected document
ONE_SEED = f"1 seed: no verdict. Differences between arms of one run may be noise; a verdict takes {compare.LEAST_SEEDS} seeds."


def build(
    plan: Plan,
    records: dict[str, Record],
    cached: set[str],
    workspace: Workspace,
    ledger: Ledger,
    *,
    run: str,
    started: float,
    seconds: float,
    status: str,
) -> dict[str, Any]:
    """The summary of what is finished; steps that are not stand in it as waiting."""
    recipe = plan.recipe
    curves = ledger.curves(list(records))
    steps = [_step(plan, task, records.get(task.key), task.key in cached, workspace, curves) for task in plan.tasks.values()]
    read = tables.reader(plan, records)
    table = tables.build(plan, records, read)
    claims = [compare.judge(claim, plan, records, read) for claim in recipe.claims] if status == "done" else []
    fresh = [r for key, r in records.items() if key not in cached]
    energies = [r.cost.get("energy_joules") for r in fresh]
    measured = [e for e in energies if e is not None]
    return {
        "format": 1,
        "run": run,
        "recipe": recipe.name,
        "file": recipe.file,
        "recipe_text": recipe.text,
        "description": recipe.description,
        "workspace": str(workspace.path),
        "started": datetime.datetime.fromtimestamp(started, datetime.UTC).isoformat(timespec="seconds"),
        "seconds": round(seconds, 2),
        "status": status,
        "machine": machine.describe(),
        "versions": machine.versions(),
        "arms": [arm for arm in recipe.arms if arm],
        "reference": recipe.reference,
        "control": recipe.control,
        "seeds": recipe.seeds,
        "steps": steps,
        "table": table,
        "claims": [claim.plain() for claim in claims],
        "verdict": _verdict(claims, recipe),
        "totals": {
            "seconds": round(sum(r.cost.get("seconds") or 0 for r in fresh), 2),
            "flops": sum(r.cost.get("flops") or 0 for r in fresh),
            "steps": len(plan.tasks),
            "finished": len(records),
            "cached": len(cached),
            "energy": f"{sum(measured):.0f} J" if measured else "not measured (no counter on this machine)",
        },
    }


def _verdict(claims: list[compare.Judged], recipe: Recipe) -> str:
    """One sentence on what may be concluded."""
    seeds = len(recipe.seeds)
    if not claims:
        return "No claims: the table shows what was measured." if seeds > 1 else ONE_SEED if len(recipe.arms) > 1 else ""
    if seeds < compare.LEAST_SEEDS:
        return ONE_SEED if seeds == 1 else f"{seeds} seeds: no verdict. A verdict takes {compare.LEAST_SEEDS}."
    head, _, rest = compare.counted([claim.verdict for claim in claims]).partition(":")
    return f"{head} over {seeds} seeds:{rest}."


def _step(plan: Plan, task: Task, record: Record | None, cached: bool, workspace: Workspace, curves: dict[str, Any]) -> dict[str, Any]:
    row: dict[str, Any] = {
        "name": task.name,
        "arms": [a for a in task.arms if a],
        "seed": task.seed,
        "strategy": task.use,
        "key": task.key,
        "folder": str(workspace.step_folder(task.key, task.use)),
        "status": ("cached" if cached else "done") if record else "waiting",
        "knobs": task.strategy.knobs(),
        "inputs": {name: _input_text(plan, value) for name, value in task.inputs.items()},
        "summary": "", "cost": {}, "facts": {}, "dropped": {}, "parameters": None, "scores": [], "curves": {}, "samples": [], "rejected": [],
    }  # fmt: skip
    if record is None:
        return row
    made = record.result(task.gives)
    row |= {
        "summary": record.summary,
        "cost": record.cost,
        "facts": record.facts,
        "dropped": record.dropped,
        "parameters": record.parameters,
        "curves": curves.get(task.key, {}),
    }
    if isinstance(made, Scores):
        row["scores"] = [score.model_dump(include={"metric", "value", "unit", "n", "better"}) for score in made.rows()]
    if isinstance(made, Examples):
        row["samples"] = made.samples(SAMPLES)
    rejected = getattr(made, "rejected", None)  # of readers, filters and dedup alike
    if isinstance(rejected, Corpus):
        row["rejected"] = _rejected(rejected)
    return row


def _rejected(corpus: Corpus) -> list[dict[str, str]]:
    """Some of what was set aside, with the reason, and with what a duplicate is a duplicate of."""
    import polars

    found: list[dict[str, str]] = []
    for frame in corpus.frames():
        picked = frame.filter(polars.int_range(polars.len()).over("reason") < REJECTED)
        for row in picked.to_dicts():
            reason = row["reason"] + (f" of {row['duplicate_of']}" if row.get("duplicate_of") else "")
            reason += f" ({row['similarity']:.2f})" if row.get("similarity") else ""
            found.append({"id": row["id"], "reason": reason, "text": (row["text"] or "")[:TEXT]})
        if len(found) >= MOST_REJECTED:
            break
    return found[:MOST_REJECTED]


def _input_text(plan: Plan, value: Any) -> str:
    if isinstance(value, Source):
        return plan.tasks[value.key].name + (f".{value.part}" if value.part else "")
    if isinstance(value, tuple):
        return ", ".join(_input_text(plan, item) for item in value)
    return str(value.spec()["use"])
