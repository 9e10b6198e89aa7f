"""The run as one object: what `run --json` prints and the report draws. Its shape is documented in docs/json.md."""

from __future__ import annotations

import datetime
import statistics
from typing import Any

from paredown.artifacts.corpus import Corpus
from paredown.artifacts.examples import Examples
from paredown.artifacts.model import Model
from paredown.artifacts.scores import Score, Scores
from paredown.core import machine
from paredown.core.artifact import Artifact, Bundle
from paredown.core.ledger import Ledger
from paredown.core.plan import Plan, Source, Task
from paredown.core.workspace import Record, Workspace

SAMPLES = 6
MOST_METRICS = 5
REJECTED = 3  # shown of each rule
MOST_REJECTED = 40
TEXT = 600  # characters shown of a rejected document
MEASURING = ("measure.", "infer.")  # stages whose cost is not part of making the model


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
    table = _table(plan, records)
    seeds = len(recipe.seeds)
    fresh = [r for key, r in records.items() if key not in cached]
    verdict = (
        "1 seed: no verdict. Differences between arms of one run may be noise; a verdict needs several seeds."
        if seeds == 1
        else f"{seeds} seeds: no verdict. The table shows means; whether they differ by more than noise is not tested yet."
    )
    untested = "1 seed" if seeds == 1 else f"{seeds} seeds, not tested yet"
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
        "claims": [{"text": str(claim), "verdict": "no verdict", "reason": untested} for claim in recipe.claims],
        "verdict": verdict,
        "totals": {
            "seconds": round(sum(r.cost.get("seconds") or 0 for r in fresh), 2),
            "flops": sum(r.cost.get("flops") or 0 for r in fresh),
            "steps": len(plan.tasks),
            "finished": len(records),
            "cached": len(cached),
            "energy": f"{sum(measured):.0f} J" if measured else "not measured (no counter on this machine)",
        },
    }


def result(plan: Plan, key: str, record: Record) -> Artifact | Bundle:
    """The result of a finished step as handles."""
    return record.result(type(plan.tasks[key].strategy).signature().result)


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
    made = result(plan, task.key, record)
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
        row["samples"] = made.frame().head(SAMPLES).to_dicts()
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


def _table(plan: Plan, records: dict[str, Record]) -> dict[str, Any]:
    """One row an arm: the recipe's metrics as means over seeds, then what it took and what it weighs."""
    recipe = plan.recipe
    columns: list[dict[str, str]] = []
    wanted = dict(recipe.summary) or _all_metrics(plan, records)
    cells: dict[str, list[list[float | None]]] = {arm: [] for arm in recipe.arms}
    for title, (step, metric) in wanted.items():
        first: Score | None = None
        for arm in recipe.arms:
            values = []
            for seed in recipe.seeds:
                score = _score(plan, records, arm, seed, step, metric)
                first = first or score
                values.append(score.value if score else None)
            cells[arm].append(values)
        columns.append({"title": title, "unit": first.unit if first else "", "better": first.better if first else "none", "kind": "metric"})
    costs = (
        ("FLOPs to get there", "FLOPs", "lower"),
        ("parameters", "parameters", "lower"),
        ("non-zero", "parameters", "lower"),
        ("bytes at rest", "bytes", "lower"),
    )
    columns += [{"title": title, "unit": unit, "better": better, "kind": "cost"} for title, unit, better in costs]
    rows = []
    for arm in recipe.arms:
        costs_of = [_costs(plan, records, arm, seed) for seed in recipe.seeds]
        columns_of = cells[arm] + [list(column) for column in zip(*costs_of, strict=True)]
        rows.append(
            {
                "arm": arm,
                "label": _label(plan, arm),
                "values": [_mean(column) for column in columns_of],
                "spread": [[min(v), max(v)] if len(v := [x for x in column if x is not None]) > 1 else None for column in columns_of],
                "note": _note(plan, records, arm),
            }
        )
    return {"columns": columns, "rows": rows}


def _mean(values: list[float | None]) -> float | None:
    known = [v for v in values if v is not None]
    return statistics.fmean(known) if known else None


def _all_metrics(plan: Plan, records: dict[str, Record]) -> dict[str, tuple[str, str]]:
    found = {}
    for task in plan.tasks.values():
        if task.key in records:
            made = result(plan, task.key, records[task.key])
            if isinstance(made, Scores):
                for row in made.rows():
                    found[f"{task.name} {row.metric.replace('_', ' ')}"] = (task.name, row.metric)
    return dict(list(found.items())[:MOST_METRICS])  # a recipe that wants others names them under `summary`


def _key(plan: Plan, arm: str, seed: int, step: str) -> str | None:
    stands_in = plan.skipped.get((arm, seed, step))
    return stands_in.key if stands_in else plan.names(arm, seed).get(step)


def _score(plan: Plan, records: dict[str, Record], arm: str, seed: int, step: str, metric: str) -> Score | None:
    key = _key(plan, arm, seed, step)
    if key is None or key not in records:
        return None
    made = result(plan, key, records[key])
    return next((row for row in made.rows() if row.metric == metric), None) if isinstance(made, Scores) else None


def final_model(plan: Plan, arm: str, seed: int) -> Task | None:
    """The last step of an arm that makes a model."""
    found = None
    for task in plan.tasks.values():
        if any((a, s) == (arm, seed) for a, s, _ in task.cells) and type(task.strategy).signature().result is Model:
            found = task
    return found


def _costs(plan: Plan, records: dict[str, Record], arm: str, seed: int) -> list[float | None]:
    """FLOPs of all that made the arm's model, its parameters, those not zero, its bytes."""
    flops = 0.0
    for key in plan.names(arm, seed).values():
        if key in records and not records[key].strategy.startswith(MEASURING):
            flops += records[key].cost.get("flops") or 0.0
    last = final_model(plan, arm, seed)
    if last is None or last.key not in records:
        return [flops, None, None, None]
    record = records[last.key]
    counted = record.parameters or {}
    return [flops, counted.get("total"), counted.get("nonzero"), record.cost.get("bytes")]


def _label(plan: Plan, arm: str) -> str:
    return f"{arm} (control)" if arm == plan.recipe.control and arm != "control" else arm or plan.recipe.name


def _note(plan: Plan, records: dict[str, Record], arm: str) -> str:
    last = final_model(plan, arm, plan.recipe.seeds[0])
    if last is None or last.key not in records:
        return ""
    counted = records[last.key].parameters or {}
    total, nonzero = counted.get("total", 0), counted.get("nonzero", 0)
    if total and nonzero < 0.99 * total:
        return "zeros; no kernel here uses them"
    reference = plan.recipe.reference
    if reference and arm != reference:
        other = final_model(plan, reference, plan.recipe.seeds[0])
        whole = (records[other.key].parameters or {}).get("total", 0) if other and other.key in records else 0
        if whole and total < whole:
            return f"{1 - total / whole:.0%} of the weights removed"
    return ""
