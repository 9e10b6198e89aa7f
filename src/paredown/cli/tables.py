"""The final table of a run: one row an arm, its metrics with intervals over the seeds, and what it took to get there."""

from __future__ import annotations

import functools
import math
import statistics
from typing import Any

from paredown.artifacts.model import Model
from paredown.artifacts.scores import Score, Scores
from paredown.core import compare
from paredown.core.compare import Read, Reading
from paredown.core.plan import Plan, Task
from paredown.core.workspace import Record

MOST_METRICS = 5
COSTS = (  # title, unit, better
    ("FLOPs to get there", "FLOPs", "lower"),
    ("tokens or examples seen", "tokens", "lower"),
    ("seconds to get there", "s", "lower"),
    ("parameters", "parameters", "lower"),
    ("non-zero", "parameters", "lower"),
    ("bytes at rest", "bytes", "lower"),
)
ASKING = (  # of an arm that was asked questions: what each took, votes and chains of thought counted
    ("tokens a question", "tokens a question", "lower"),
    ("ms a question", "ms", "lower"),
)


def reader(plan: Plan, records: dict[str, Record]) -> Read:
    """How verdicts read a metric: the row of a finished measurement, with its items."""

    @functools.cache
    def measured(key: str) -> tuple[dict[str, Score], Any]:
        made = records[key].result(plan.tasks[key].gives)
        return ({row.metric: row for row in made.rows()}, made.items()) if isinstance(made, Scores) else ({}, None)

    def read(arm: str, seed: int, step: str, metric: str) -> Reading | None:
        key = _key(plan, arm, seed, step)
        if key is None or key not in records:
            return None
        rows, items = measured(key)
        if metric not in rows:
            return None
        row, found = rows[metric], None
        if items is not None and not (own := items.filter(metric=metric).sort("item")).is_empty():
            found = (own["item"].to_numpy(), own["value"].to_numpy(), own["weight"].to_numpy())
        return Reading(key, row.value, row.unit, row.better, found)

    return read


def build(plan: Plan, records: dict[str, Record], read: Read) -> dict[str, Any]:
    """The recipe's metrics as means over seeds, then what it took and what it weighs."""
    recipe = plan.recipe
    columns: list[dict[str, str]] = []
    wanted = dict(recipe.summary) or _all_metrics(plan, records)
    cells: dict[str, list[list[float | None]]] = {arm: [] for arm in recipe.arms}
    for title, (step, metric) in wanted.items():
        first: Reading | None = None
        for arm in recipe.arms:
            values = []
            for seed in recipe.seeds:
                reading = read(arm, seed, step, metric)
                first = first or reading
                values.append(reading.value if reading else None)
            cells[arm].append(values)
        columns.append({"title": title, "unit": first.unit if first else "", "better": first.better if first else "none", "kind": "metric"})
    currency = next((found for record in records.values() if (found := record.cost.get("currency"))), "")
    wide = (*COSTS, ("money to get there", currency, "lower")) if currency else COSTS  # only where somebody was paid
    priced = (*ASKING, ("money a question", f"{currency} a question", "lower")) if currency else ASKING
    asking = priced if any("questions" in record.facts for record in records.values()) else ()
    columns += [{"title": title, "unit": unit, "better": better, "kind": "cost"} for title, unit, better in (*wide, *asking)]
    rows: list[dict[str, Any]] = []
    for arm in recipe.arms:
        costs_of = [
            [*_costs(plan, records, arm, seed, currency)[: len(wide)], *_asking(plan, records, arm, seed, currency)[: len(asking)]]
            for seed in recipe.seeds
        ]
        columns_of = cells[arm] + [list(column) for column in zip(*costs_of, strict=True)]
        rows.append(
            {
                "arm": arm,
                "label": _label(plan, arm),
                "values": [_mean(column) for column in columns_of],
                "spread": [[min(v), max(v)] if len(v := [x for x in column if x is not None]) > 1 else None for column in columns_of],
                "interval": [_interval(column, spec["unit"]) for column, spec in zip(columns_of, columns, strict=True)],
                "note": _note(plan, records, arm),
            }
        )
    control = next((row["values"] for row in rows if row["arm"] == recipe.control), None)
    for row in rows:
        pairs = zip(row["values"], control or [None] * len(columns), strict=True)
        row["ratios"] = [v / c if v is not None and c and math.isfinite(v) and math.isfinite(c) else None for v, c in pairs]
    return {"columns": columns, "rows": rows}


def _interval(column: list[float | None], unit: str) -> list[float] | None:
    """95% interval of the mean over the seeds; None where there is none, or nothing varies."""
    values = [v for v in column if v is not None and math.isfinite(v)]
    if len(values) < 2 or len(values) < len(column) or len(set(values)) == 1:
        return None
    from paredown.core.statistics import mean_interval

    found = mean_interval(values, counted=unit in compare.COUNTED)
    return [found.low, found.high] if math.isfinite(found.low) else None


def _mean(values: list[float | None]) -> float | None:
    """None where a seed lacks its value: a mean of the others would flatter an arm that diverges."""
    known = [v for v in values if v is not None]
    return statistics.fmean(known) if known and len(known) == len(values) else None


def _all_metrics(plan: Plan, records: dict[str, Record]) -> dict[str, tuple[str, str]]:
    found = {}
    for task in plan.tasks.values():
        if task.key in records:
            made = records[task.key].result(task.gives)
            if isinstance(made, Scores):
                for row in made.rows():
                    found[f"{task.name} {row.metric.replace('_', ' ')}"] = (task.name, row.metric)
    return dict(list(found.items())[:MOST_METRICS])  # a recipe that wants others names them under `summary`


def _key(plan: Plan, arm: str, seed: int, step: str) -> str | None:
    stands_in = plan.skipped.get((arm, seed, step))
    return stands_in.key if stands_in else plan.names(arm, seed).get(step)


def final_model(plan: Plan, arm: str, seed: int) -> Task | None:
    """The last step of an arm that makes a model."""
    made = [plan.tasks[key] for key in plan.names(arm, seed).values()]
    return next((task for task in reversed(made) if task.gives is Model), None)


def _costs(plan: Plan, records: dict[str, Record], arm: str, seed: int, currency: str) -> list[float | None]:
    """The values of COSTS and the money: of all that made the arm's last model, or of the arm's last step where it makes none."""
    last = final_model(plan, arm, seed)
    if last is None:
        keys = list(plan.names(arm, seed).values())
        if not keys:
            return [None] * (len(COSTS) + 1)
        found, money = compare.spent(plan, records, keys[-1]), compare.paid(plan, records, keys[-1], currency)
        return [found.get("flops"), found.get("tokens"), found.get("seconds"), None, None, None, money]
    if last.key not in records:
        return [None] * (len(COSTS) + 1)
    found, record = compare.spent(plan, records, last.key), records[last.key]
    counted = record.parameters or {}
    return [
        found.get("flops"), found.get("tokens"), found.get("seconds"),
        counted.get("total"), counted.get("nonzero"), record.cost.get("bytes"),
        compare.paid(plan, records, last.key, currency),
    ]  # fmt: skip


def _asking(plan: Plan, records: dict[str, Record], arm: str, seed: int, currency: str) -> list[float | None]:
    """The values of ASKING, and the money: means over the questions of the arm's steps that say how many they asked. The time is that of
    the calls when they were made, one after the other; a rule that answers takes none."""
    facts = [records[key].facts for key in plan.names(arm, seed).values() if key in records]
    facts = [fact for fact in facts if "questions" in fact and "answers" in fact]
    questions, used = sum(fact["questions"] for fact in facts), [row for fact in facts for row in fact["answers"].values()]
    if not questions:
        return [None, None, None]
    tokens = sum(row["prompt_tokens"] + row["completion_tokens"] for row in used)
    seconds = math.fsum(row["seconds"] for row in used)
    unknown = any(row["money"] is None or row["currency"] != currency for row in used)
    money = None if unknown else math.fsum(row["money"] for row in used)
    return [tokens / questions, 1000 * seconds / questions or None, None if money is None else money / questions]


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
