"""The evidence of a published system: a page for people, the same as JSON, and the index of all systems."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from paredown.core.compare import counted
from paredown.core.evidence import INDEX
from paredown.core.plan import Plan, Task, made_by, parts_used
from paredown.core.strategy import Part
from paredown.core.systems import System, systems
from paredown.report import write_text
from paredown.report.numbers import duration, figure, scientific, size

KEPT = ("recipe", "file", "description", "arms", "reference", "control", "seeds", "claims", "table", "machine", "versions")


@dataclass(frozen=True)
class Run:
    """One recipe of a system, run to its end: its plan and its summary."""

    plan: Plan
    summary: dict[str, Any]


def write(system: System, runs: list[Run], size_name: str, folder: Path) -> dict[str, Any]:
    """Write NNN-slug.md and .json and refresh the index; the index's entry of the system.

    `size_name` other than small goes beside it, as NNN-slug.SIZE, and the index keeps the small one where there is one.
    """
    folder.mkdir(parents=True, exist_ok=True)
    stem = str(system) if size_name == "small" else f"{system}.{size_name}"
    claims = [claim for run in runs for claim in run.summary["claims"]]
    steps = {step["key"]: step for run in runs for step in run.summary["steps"]}
    entry = {
        "system": system.number,
        "slug": system.slug,
        "size": size_name,
        "file": f"{stem}.md",
        "verdicts": [claim["verdict"] for claim in claims],
        "seconds": round(sum(step["cost"].get("seconds") or 0 for step in steps.values()), 1),
        "flops": sum(step["cost"].get("flops") or 0 for step in steps.values()),
        "trainings": sum(step["strategy"] == "learn.train" for step in steps.values()),
        "strategies": tested(system, runs),
        "date": runs[-1].summary["started"][:10],
    }
    stored = {
        "format": 1,
        **{key: entry[key] for key in ("system", "slug", "size", "date", "seconds", "flops", "trainings")},
        "title": system.title,
        "arxiv": system.arxiv,
        "runs": [_kept(run) for run in runs],
    }
    write_text(folder / f"{stem}.json", json.dumps(_finite(stored), indent=1, sort_keys=True, allow_nan=False) + "\n")
    write_text(folder / f"{stem}.md", "\n".join(page(system, runs, entry)) + "\n")
    refresh(folder, entry)
    return entry


def _finite(value: Any) -> Any:
    """NaN and infinity, which JSON does not have, as null."""
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _kept(run: Run) -> dict[str, Any]:
    paper = run.plan.recipe.paper
    kept = {key: run.summary[key] for key in KEPT}
    kept["file"] = Path(kept["file"]).name
    machine = dict(kept["machine"])
    kept["machine"] = {key: machine[key] for key in ("cpu", "cores", "memory_bytes", "system", "load") if key in machine}
    return kept | {
        "published": paper.published if paper else "",
        "differs": paper.differs if paper else "",
        "found": paper.found if paper else "",
    }


def tested(system: System, runs: list[Run]) -> dict[str, list[str]]:
    """Strategy to the verdicts on claims that test it: what made the arm's number and not the other's; what made only the
    other's is `control`. Where both use the same strategies, those of this system in the steps that say something else themselves."""
    from paredown.core import catalog

    found: dict[str, list[str]] = {}
    for run in runs:
        for claim in run.summary["claims"]:
            step = claim["metric"].partition(".")[0]
            ours, theirs = (_made(run.plan, name, step) for name in (claim["arm"], claim["other"]))
            arm, other = (_names(tasks.values()) for tasks in (ours, theirs))
            own = arm - other
            if arm == other:
                known = [_described(run.plan, task) for task in theirs.values()]
                differing = _names(task for task in ours.values() if _described(run.plan, task) not in known)
                own = {name for name in differing if name in catalog.paths() and system.number in catalog.entry(name).systems}
            for name in sorted(own):
                found.setdefault(name, []).append(claim["verdict"])
            for name in sorted(other - arm):
                found.setdefault(name, []).append("control")
    return found


def _made(plan: Plan, arm: str, step: str) -> dict[str, Task]:
    """What made the number that a step of an arm gives, and the step itself, by key."""
    key = plan.names(arm, plan.recipe.seeds[0]).get(step)
    return {task.key: task for task in made_by(plan, key)} if key else {}


def _described(plan: Plan, task: Task) -> tuple[Any, ...]:
    """What a step says itself: its strategy with its knobs, and where its inputs come from; not what those were made from."""
    sources = [(source.part, plan.tasks[source.key].name) for source in task.sources()]
    parts = [value.spec() for value in task.inputs.values() if isinstance(value, Part)]
    return task.name, task.strategy.spec(), sources, parts


def _names(tasks: Iterable[Task]) -> set[str]:
    """Names of the strategies and parts of some steps."""
    return {name for task in tasks for name in (task.use, *parts_used(task))}


def page(system: System, runs: list[Run], entry: dict[str, Any]) -> list[str]:
    """The page in Markdown."""
    first = runs[0].summary
    paper = runs[0].plan.recipe.paper
    larger = [name for run in runs for name in run.plan.recipe.sizes]
    lines = [
        f"# {system.number:03d} {system.slug}",
        "",
        f"{system.title}, [arXiv {system.arxiv}](https://arxiv.org/abs/{system.arxiv}). Written by `paredown prove {system.number:03d}`; do not edit.",
        "",
        f"**{counted(entry['verdicts'])}.** Size {entry['size']}, {entry['date']}: {entry['trainings']} trainings, "
        f"{duration(entry['seconds'])} of computing, {scientific(entry['flops'])} FLOPs, on {first['machine'].get('cpu', 'an unknown processor')} "
        f"({first['machine'].get('cores', '?')} cores, load {first['machine'].get('load', '?')}).",
        "",
        "## Published",
        "",
        paper.published if paper else "",
        "",
    ]
    for title, key in (("What differs here", "differs"), ("What was found", "found")):
        said = [(run.plan.recipe.name, getattr(run.plan.recipe.paper, key, "")) for run in runs]
        if any(text for _, text in said):
            lines += [f"## {title}", "", *(f"- {name}: {text}" if len(runs) > 1 else text for name, text in said if text), ""]
    for run in runs:
        lines += _section(run)
    lines += ["## Again, and larger", "", "```sh", f"paredown prove {system.number:03d}"]
    lines += [f"paredown prove {system.number:03d} --size {name}" for name in dict.fromkeys(larger)]
    lines += ["```", ""]
    known = ", ".join(f"{name} {version}" for name, version in first["versions"].items())
    return [*lines, f"Versions: {known}."]


def _section(run: Run) -> list[str]:
    found = run.summary
    lines = [f"## {found['recipe']}", "", found["description"], ""]
    lines += ["| verdict | claim | arm | other | difference (95%) | how |", "| --- | --- | --- | --- | --- | --- |"]
    for claim in found["claims"]:
        said = f"{claim['says']} (`{claim['text']}`)" if claim["says"] else f"`{claim['text']}`"
        ours, theirs = (figure(value, claim["unit"]) for value in claim["means"])
        gap = f"{claim['difference']:+.4g} ({claim['low']:+.4g} to {claim['high']:+.4g})" if claim["low"] is not None else "–"
        how = "; ".join(
            text
            for text in (
                f"{claim['method']}, n = {claim['n']}" if claim["method"] else f"n = {claim['n']}",
                f"{claim['items']:,} items" if claim["items"] else "",
                _budget(claim),
                claim["extra"],
                claim["reason"],
            )
            if text
        )
        lines.append(f"| **{claim['verdict']}** | {_cell(said)} | {ours} | {theirs} | {gap} | {_cell(how)} |")
    table = found["table"]
    shown = [i for i in range(len(table["columns"])) if any(row["values"][i] is not None for row in table["rows"])]
    lines += ["", f"Means over seeds {', '.join(map(str, found['seeds']))}; in brackets the 95% interval of the mean.", ""]
    lines += ["| arm | " + " | ".join(table["columns"][i]["title"] for i in shown) + " |", "| --- |" + " ---: |" * len(shown)]
    for row in table["rows"]:
        cells = []
        for i in shown:
            unit = table["columns"][i]["unit"]
            text = figure(row["values"][i], unit)
            if row["interval"][i] and table["columns"][i]["kind"] == "metric":
                text += f" ({figure(row['interval'][i][0], unit)} to {figure(row['interval'][i][1], unit)})"
            cells.append(text)
        lines.append(f"| {row['label']} | " + " | ".join(cells) + " |")
    notes = {row["label"]: row["note"] for row in table["rows"] if row["note"]}
    lines += ["", *(f"{', '.join(k for k in notes if notes[k] == note)}: {note}." for note in dict.fromkeys(notes.values()))]
    written = sum(step["cost"].get("bytes") or 0 for step in found["steps"])
    return [*lines, f"Recipe: `papers/{Path(found['file']).name}`; {len(found['steps'])} steps, {size(written)} written.", ""]


def _cell(text: str) -> str:
    """Text that stays within its cell of a table."""
    return " ".join(text.replace("|", "\\|").split())


def _budget(claim: dict[str, Any]) -> str:
    budget = claim["budget"]
    return f"{budget['name']} {budget['apart']:.1%} apart" if budget and budget["apart"] is not None else ""


def refresh(folder: Path, entry: dict[str, Any] | None = None) -> None:
    """Write the index, as JSON and as a page of all systems, from what it held and one new entry."""
    try:
        known: dict[str, Any] = json.loads((folder / INDEX).read_bytes())["systems"]
    except (OSError, ValueError, KeyError, TypeError):
        known = {}
    if entry is not None and (entry["size"] == "small" or known.get(str(entry["system"]), {"size": ""})["size"] != "small"):
        known[str(entry["system"])] = entry
    strategies: dict[str, list[list[Any]]] = {}
    for number in sorted(known, key=int):
        for name, verdicts in known[number]["strategies"].items():
            strategies.setdefault(name, []).extend([int(number), verdict] for verdict in dict.fromkeys(verdicts))
    stored = {"format": 1, "systems": {n: known[n] for n in sorted(known, key=int)}, "strategies": dict(sorted(strategies.items()))}
    write_text(folder / INDEX, json.dumps(stored, indent=1) + "\n")
    every = [verdict for item in known.values() for verdict in item["verdicts"]]
    lines = [
        "# Evidence",
        "",
        f"What `paredown prove` found for each of the {len(systems())} published systems, at the size that fits two cores: "
        f"{len(known)} proved, {counted(every)}. "
        "A claim that fails at this size is kept as it is. Written by `paredown prove`; do not edit.",
        "",
        "| system | published as | stage | verdicts | computing |",
        "| --- | --- | --- | --- | --- |",
    ]
    for system in systems():
        row = known.get(str(system.number))
        name = f"[{system}]({row['file']})" if row else str(system)
        said = f"{counted(row['verdicts'])} | {duration(row['seconds'])}" if row else "not proved yet | "
        lines.append(f"| {name} | {system.title}, [arXiv {system.arxiv}](https://arxiv.org/abs/{system.arxiv}) | {system.stage} | {said} |")
    write_text(folder / "README.md", "\n".join(lines) + "\n")
