"""What arms cost and whether a recipe's claims hold: verdicts with intervals, or the reason why there is none."""

from __future__ import annotations

import math
import statistics as means
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from paredown.core.plan import Plan, Task, made_by
from paredown.core.recipe import Claim
from paredown.core.workspace import Record

if TYPE_CHECKING:
    import numpy

LEAST_SEEDS = 3
ALLOWED = 0.01  # share by which two arms' named budget may differ
MEASURING = ("measure.", "infer.")  # stages whose cost is not part of making what they are about
COUNTED = ("weights", "parameters", "bytes", "FLOPs", "documents")  # units of what is counted, not measured
UNITS = {"flops": "FLOPs", "seconds": "s", "processed": "processed tokens"}
NO_VERDICT = "no verdict"
VERDICTS = {  # of one claim, of several
    "holds": ("holds", "hold"),
    "fails": ("fails", "fail"),
    "undecided": ("undecided", "undecided"),
    NO_VERDICT: ("without a verdict", "without a verdict"),
}


@dataclass(frozen=True)
class Reading:
    """One metric of one step, for one arm and seed."""

    key: str  # of the step that measured it
    value: float
    unit: str = ""
    better: str = "lower"  # lower, higher, none
    items: tuple[numpy.ndarray[Any, Any], numpy.ndarray[Any, Any], numpy.ndarray[Any, Any]] | None = None  # items, values, weights


Read = Callable[[str, int, str, str], Reading | None]  # (arm, seed, step, metric)


@dataclass
class Judged:
    """A claim with what was found; what could not be found is None. Its shape is that of the JSON."""

    text: str
    says: str
    metric: str
    arm: str
    other: str
    kind: str
    margin: float
    unit: str = ""
    better: str = "none"
    verdict: str = NO_VERDICT
    reason: str = ""
    means: list[float | None] = field(default_factory=lambda: [None, None])  # of the arm and of the other
    difference: float | None = None  # arm minus other
    low: float | None = None
    high: float | None = None
    method: str = ""
    n: int = 0  # seeds
    items: int = 0
    budget: dict[str, Any] | None = None  # name, arm, other, apart
    extra: str = ""  # what the arm cost beyond the other

    def plain(self) -> dict[str, Any]:
        return asdict(self)


def counted(verdicts: Sequence[str]) -> str:
    """`3 claims: 2 hold, 1 undecided`."""
    counts = Counter(verdicts)
    said = ", ".join(f"{counts[verdict]} {words[counts[verdict] != 1]}" for verdict, words in VERDICTS.items() if counts[verdict])
    return f"{len(verdicts)} claim{'s' * (len(verdicts) != 1)}: {said}" if verdicts else "no claims"


def spent(plan: Plan, records: dict[str, Record], key: str) -> dict[str, float]:
    """What it took to make what the step `key` is, measuring left out: `flops`, `seconds`, `bytes` written, and what trainings
    spent: `tokens`, `processed`, `steps`, `epochs`, `nominal_flops`, `labels`. A total that no step speaks of is left out."""
    found = {"flops": 0.0, "seconds": 0.0}
    for task in _making(plan, records, key):
        cost, facts = records[task.key].cost, records[task.key].facts
        found["flops"] += cost.get("flops") or 0.0
        found["seconds"] += cost.get("seconds") or 0.0
        training = facts.get("training") or {}
        for name in ("tokens", "processed", "steps", "epochs", "nominal_flops"):
            if name in training:
                found[name] = found.get(name, 0.0) + training[name]
        if "labels" in facts:
            found["labels"] = found.get("labels", 0.0) + facts["labels"]
    return found


def paid(plan: Plan, records: dict[str, Record], key: str, currency: str) -> float | None:
    """Money that servers took for what the step `key` is, measuring left out; None where a price is missing or in another currency."""
    total = 0.0
    for task in _making(plan, records, key):
        cost = records[task.key].cost
        asked = (records[task.key].facts.get("answers") or {}).values()
        unknown = any(row.get("money") is None and not row.get("flops") and row.get("prompt_tokens") for row in asked)
        if unknown or cost.get("currency") not in (None, "", currency):
            return None
        total += cost.get("money") or 0.0
    return total


def _making(plan: Plan, records: dict[str, Record], key: str) -> list[Task]:
    """What measures or answers counts where something was made from it: texts that a model wrote for a training are no measurement."""
    made, read = made_by(plan, key), set[str]()
    for task in reversed(made):
        if not task.use.startswith(MEASURING) or task.key in read:
            read.update([task.key, *(source.key for source in task.sources())])
    return [task for task in made if task.key in read and task.key in records]


def judge(claim: Claim, plan: Plan, records: dict[str, Record], read: Read) -> Judged:
    """The verdict on one claim, over all seeds of the plan's recipe."""
    from paredown.core import statistics

    judged = Judged(str(claim), claim.says, claim.metric, claim.arm, claim.other, claim.kind, claim.margin)
    step, _, metric = claim.metric.partition(".")
    seeds = plan.recipe.seeds
    readings: list[list[Reading]] = []
    for number, arm in enumerate((claim.arm, claim.other)):
        found = [read(arm, seed, step, metric) for seed in seeds]
        missing = [seed for seed, reading in zip(seeds, found, strict=True) if reading is None]
        if missing:
            judged.reason = f"{claim.metric} is missing in arm {arm}, seed {', '.join(map(str, missing))}"
            return judged
        readings.append([r for r in found if r is not None])
        values = [r.value for r in readings[number]]
        judged.means[number] = means.fmean(values) if all(map(math.isfinite, values)) else None
    first = readings[0][0]
    judged.unit, judged.better, judged.n = first.unit, first.better, len(seeds)
    if judged.means[0] is not None and judged.means[1] is not None:
        judged.difference = judged.means[0] - judged.means[1]
    judged.budget, judged.extra = _budget(claim, plan, records, readings)
    bad = next(
        ((arm, seed, r.value) for arm, row in zip((claim.arm, claim.other), readings, strict=True)
         for seed, r in zip(seeds, row, strict=True) if not math.isfinite(r.value)), None
    )  # fmt: skip
    if bad:
        judged.reason = f"{claim.metric} is {bad[2]} in arm {bad[0]}, seed {bad[1]}"
        return judged
    if len(seeds) < LEAST_SEEDS:
        judged.reason = f"{len(seeds)} seed{'s' * (len(seeds) != 1)}; a verdict takes {LEAST_SEEDS}"
        return judged
    if first.better == "none" and claim.kind != "equals":
        judged.reason = f"{metric} is a plain fact: neither more nor less of it is better"
        return judged
    counted = first.unit in COUNTED
    distinct = len({(a.key, b.key) for a, b in zip(*readings, strict=True)})
    if distinct < LEAST_SEEDS and not counted:
        judged.reason = f"the seeds share {'one run' if distinct == 1 else f'{distinct} runs'}: nothing before {step} draws random numbers"
        return judged
    if judged.budget is not None and judged.budget["apart"] is None:
        judged.reason = f"no step of arm {claim.arm if judged.budget['arm'] is None else claim.other} says how many {claim.budget} it spent"
        return judged
    if judged.budget is not None and judged.budget["apart"] > ALLOWED:
        judged.reason = (
            f"the arms differ by {judged.budget['apart']:.1%} in {UNITS.get(claim.budget, claim.budget)}, "
            f"and the claim is at equal {UNITS.get(claim.budget, claim.budget)} (allowed {ALLOWED:.0%})"
        )
        return judged
    interval = _interval(readings, counted)
    judged.low, judged.high = interval.low, interval.high
    judged.method, judged.n, judged.items = interval.method, interval.n, interval.items
    judged.difference = interval.mean
    judged.verdict = statistics.verdict(interval, claim.kind, claim.margin, first.better)
    if judged.verdict == "undecided":
        none = math.isinf(interval.high)
        judged.reason = interval.method if none else "the interval holds both outcomes; more seeds narrow it"
    if not math.isfinite(interval.low):
        judged.low = judged.high = None
    return judged


def _interval(readings: list[list[Reading]], counted: bool) -> Any:
    """Over seeds and items where every seed and both arms measured the same items, otherwise over seeds."""
    import numpy as np

    from paredown.core import statistics

    first = readings[0][0].items
    alike = first is not None and len(first[0]) > 1 and not counted
    for reading in (r for row in readings for r in row):
        alike = alike and reading.items is not None and first is not None
        alike = alike and np.array_equal(reading.items[0], first[0]) and np.allclose(reading.items[2], first[2])  # type: ignore[index]
    if alike and first is not None:
        a, b = (np.stack([r.items[1] for r in row if r.items is not None]) for row in readings)
        return statistics.paired_interval_over_items(a, b, first[2])
    ours, theirs = ([r.value for r in row] for row in readings)
    return statistics.paired_interval(ours, theirs, counted=counted)


def _budget(claim: Claim, plan: Plan, records: dict[str, Record], readings: list[list[Reading]]) -> tuple[dict[str, Any] | None, str]:
    """The named budget of both arms, as means over seeds; and what the arm cost beyond the other in FLOPs."""
    costs = [[spent(plan, records, reading.key) for reading in row] for row in readings]
    flops = [means.fmean(c["flops"] for c in row) for row in costs]
    extra = ""
    if claim.budget != "flops" and readings[0][0].unit not in UNITS.values() and flops[1] and abs(flops[0] / flops[1] - 1) >= 0.0005:
        extra = f"{flops[0] / flops[1] - 1:+.1%} FLOPs in {claim.arm}"
    if not claim.budget:
        return None, extra
    known = [means.fmean(c[claim.budget] for c in row) if all(claim.budget in c for c in row) else None for row in costs]
    if known == [0.0, 0.0]:
        known = [None, None]  # equal, but only because nobody counted
    apart = None
    if known[0] is not None and known[1] is not None:
        largest = max(known[0], known[1])
        apart = abs(known[0] - known[1]) / largest if largest else 0.0
    return {"name": claim.budget, "arm": known[0], "other": known[1], "apart": apart}, extra
