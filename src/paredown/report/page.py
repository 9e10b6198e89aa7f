"""From the summary object of a run to what the page's template prints; every text is escaped by the template."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from paredown.core.errors import DataError, MissingExtra
from paredown.report import answer, charts, claims, graph, pareto
from paredown.report.numbers import NONE, beside, count, duration, figure, moment, scientific, size
from paredown.report.steps import INK, Group, colours, groups

HERE = Path(__file__).parent
FORMAT = 1
SCRIPTS = ("page.js", "pareto.js")


def render(summary: dict[str, Any]) -> str:
    """The whole page.

    Raises:
        MissingExtra: jinja2 is not installed.
        DataError: the summary has another format.
    """
    if summary.get("format") != FORMAT:
        raise DataError(
            f"the summary has format {summary.get('format')!r}; this version draws format {FORMAT}", todo="run the recipe again"
        )
    try:
        import jinja2
    except ImportError:
        raise MissingExtra("report", "the report", "jinja2") from None
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(HERE), autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=jinja2.StrictUndefined
    )
    view = build(summary)
    specs = {chart.id: chart.spec for chart in view["curves"] if chart.spec}
    return environment.get_template("page.html.j2").render(
        **view,
        style=(HERE / "style.css").read_text(encoding="utf-8"),
        code=[(HERE / name).read_text(encoding="utf-8") for name in SCRIPTS],
        vega=charts.script() if specs else "",
        specs=_embedded(specs),
        tradeoffs=_embedded(view["quality"]["data"]) if view["quality"] else "",
    )


def _embedded(data: Any) -> str:
    """JSON that may stand inside a script element."""
    return json.dumps(data, sort_keys=True, allow_nan=False).replace("<", "\\u003c")


def build(summary: dict[str, Any]) -> dict[str, Any]:
    """Everything that the template names, as text and numbers."""
    rows = groups(summary)
    colour = colours(summary)
    seeds = summary.get("seeds") or [0]
    return {
        "name": summary.get("recipe", ""),
        "description": summary.get("description") or "",
        "status": summary.get("status", ""),
        "meta": _meta(summary, seeds),
        "evidence": summary.get("evidence") or None,
        "verdict": answer.verdict(summary),
        "claims": claims.build(summary, colour),
        "table": answer.table_of(summary, colour),
        "savings": answer.savings(summary, colour, rows),
        "unsteady": answer.unsteady(rows),
        "colour": lambda arm: colour.get(arm, INK),
        "arms": list(colour),
        "control": summary.get("control"),
        "reference": summary.get("reference"),
        "seeds": seeds,
        "drawing": graph.draw(rows, list(summary.get("arms") or [])),
        "steps": [_step(group, rows, colour) for group in rows],
        "most_seconds": max((group.cost("seconds") or 0 for group in rows), default=0),
        "totals": _totals(summary),
        "funnel": _funnel(rows),
        "curves": charts.curves(rows, colour),
        "quality": pareto.view(summary, rows, colour),
        "samples": _samples(rows),
        "again": _again(summary, rows),
    }


def _meta(summary: dict[str, Any], seeds: list[Any]) -> list[str]:
    totals = summary.get("totals") or {}
    arms = len(summary.get("arms") or [])
    parts = [moment(str(summary.get("started", ""))), f"took {duration(summary.get('seconds'))}"]
    if arms:
        parts.append(f"{arms} arm{'s' * (arms != 1)} × {len(seeds)} seed{'s' * (len(seeds) != 1)}")
    parts.append(f"{totals.get('steps', len(summary.get('steps') or []))} steps, {totals.get('cached') or 'none'} from cache")
    cpu = (summary.get("machine") or {}).get("cpu")
    return [part for part in [*parts, cpu] if part]


def _step(group: Group, rows: list[Group], colour: dict[str, str]) -> dict[str, Any]:
    cost = {
        name: group.cost(name)
        for name in ("seconds", "cpu_seconds", "peak_memory", "flops", "tokens", "documents", "bytes", "energy_joules", "money")
    }
    shared = len(group.arms) != 1
    return {
        "index": group.index,
        "name": group.name,
        "strategy": group.strategy,
        "status": group.status,
        "scope": "shared" if shared and len(group.arms) >= len(colour) else ", ".join(group.arms) or "shared",
        "colours": [colour.get(arm, INK) for arm in group.arms] if len(group.arms) < max(2, len(colour)) else [],
        "summary": group.first.get("summary") or "",
        "error": group.first.get("error") or "",
        "seconds": cost["seconds"] or 0,
        "seeds": len(group.steps),
        "time": duration(cost["seconds"]),
        "flops": scientific(cost["flops"]) if cost["flops"] else NONE,
        "tokens": count(cost["tokens"]) if cost["tokens"] else NONE,
        "memory": size(cost["peak_memory"]) if cost["peak_memory"] else NONE,
        "disk": size(cost["bytes"]),
        "cost": [
            ("time", duration(cost["seconds"])),
            ("processor time", duration(cost["cpu_seconds"])),
            ("peak memory", size(cost["peak_memory"])),
            ("FLOPs", scientific(cost["flops"]) + _how(group) if cost["flops"] else NONE),
            ("tokens", count(cost["tokens"]) if cost["tokens"] else NONE),
            ("documents", count(cost["documents"]) if cost["documents"] else NONE),
            ("on disk", size(cost["bytes"])),
            *_money(group, cost["money"]),
            ("energy", f"{cost['energy_joules']:,.0f} J" if cost["energy_joules"] is not None else "not measured"),
        ],
        "knobs": [(k, _plain(v)) for k, v in (group.first.get("knobs") or {}).items()],
        "inputs": [(k, str(v)) for k, v in (group.first.get("inputs") or {}).items()],
        "facts": [(k.replace("_", " "), _plain(v)) for k, v in (group.first.get("facts") or {}).items()],
        "scores": [
            (s["metric"].replace("_", " "), figure(s["value"], str(s.get("unit") or "")), beside(str(s.get("unit") or "")), s.get("n", 1))
            for s in group.first.get("scores") or []
        ],
        "keys": [(step.get("seed"), str(step.get("key", ""))) for step in group.steps],
    }  # fmt: skip


def _money(group: Group, total: float | None) -> list[tuple[str, str]]:
    """Of a step that asked a server: what its answers cost, or that no price is known."""
    asked = (group.first.get("facts") or {}).get("answers") or {}
    if total is None:
        servers = any(not row.get("flops") for row in asked.values())
        return [("money", "not measured (no prices given)")] if servers else []
    return [("money", f"{total:,.4g} {(group.first.get('cost') or {}).get('currency', '')}")]


def _how(group: Group) -> str:
    how = (group.first.get("cost") or {}).get("flops_how")
    return f" ({how})" if how else ""


def _plain(value: Any) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, float):
        return f"{value:.6g}"
    return json.dumps(value, ensure_ascii=False)


def _totals(summary: dict[str, Any]) -> list[tuple[str, str]]:
    totals = summary.get("totals") or {}
    found = [
        ("computed now", duration(totals.get("seconds"))),
        ("FLOPs", scientific(totals.get("flops") or 0)),
        ("energy", str(totals.get("energy") or "not measured")),
    ]
    return [(name, text) for name, text in found if text]


def _funnel(rows: list[Group]) -> list[dict[str, Any]]:
    """Steps that dropped documents, each with its rules and, where they were kept, some of the rejected texts."""
    found = []
    start = max((group.cost("documents") or 0 for group in rows if group.first.get("dropped")), default=0)
    for group in rows:
        rules = {rule: [*map(int, row), 0, 0, 0][:3] for rule, row in (group.first.get("dropped") or {}).items()}
        if not rules:
            continue
        read = int(group.cost("documents") or 0)
        gone = sum(row[0] for row in rules.values())
        most = max(row[0] for row in rules.values()) or 1
        samples = group.first.get("rejected") or []
        found.append(
            {
                "name": group.name,
                "strategy": group.strategy,
                "read": read,
                "gone": gone,
                "kept": max(0, read - gone),
                "kept_share": 100 * max(0, read - gone) / start if start else 0,
                "bytes": size(sum(row[1] for row in rules.values())),
                "rules": [
                    {
                        "rule": rule.replace("_", " "),
                        "documents": f"{row[0]:,}",
                        "bytes": size(row[1]) if row[1] else NONE,
                        "tokens": count(row[2]) if row[2] else "",
                        "width": round(100 * row[0] / most, 1),
                        "share": f"{row[0] / read:.1%}" if read else "",
                    }
                    for rule, row in sorted(rules.items(), key=lambda item: (-item[1][0], item[0]))
                ],
                "samples": [
                    {"id": str(s.get("id", "")), "reason": str(s.get("reason", "")), "text": str(s.get("text", ""))} for s in samples
                ],
            }
        )
    return found


def _samples(rows: list[Group]) -> list[dict[str, Any]]:
    """Each prompt with its completions, one for each arm and step, in the order of the run."""
    found: dict[str, dict[str, Any]] = {}
    names = {group.name for group in rows if group.first.get("samples")}
    for group in rows:
        for sample in group.first.get("samples") or []:
            prompt = str(sample.get("prompt", ""))
            entry = found.setdefault(prompt, {"prompt": prompt, "last": prompt.rpartition("\n")[2], "reference": None, "arms": []})
            entry["reference"] = entry["reference"] or sample.get("reference")
            label = ", ".join(group.arms) or group.name
            entry["arms"].append(
                {
                    "label": label + (f" · {group.name}" if len(names) > 1 and label != group.name else ""),
                    "arm": group.arms[0] if len(group.arms) == 1 else "",
                    "text": str(sample.get("completion", "")),
                }
            )
    return list(found.values())


def _command(summary: dict[str, Any]) -> str:
    file, seeds = summary.get("file") or summary.get("recipe", ""), summary.get("seeds") or [0]
    return f"paredown run {file}" if len(seeds) == 1 else f"paredown compare {file} --seeds {','.join(map(str, seeds))}"


def _again(summary: dict[str, Any], rows: list[Group]) -> dict[str, Any]:
    machine = dict(summary.get("machine") or {})
    memory = machine.pop("memory_bytes", None)
    known = [(k.replace("_", " "), _plain(v)) for k, v in machine.items() if v not in (None, "")]
    if memory:
        known.append(("memory", size(memory)))
    return {
        "command": _command(summary),
        "run": str(summary.get("run", "")),
        "workspace": str(summary.get("workspace", "")),
        "recipe": str(summary.get("recipe_text") or ""),
        "machine": known,
        "versions": [(str(k), str(v)) for k, v in (summary.get("versions") or {}).items()],
    }
