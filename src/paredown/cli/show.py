"""`paredown show`: the card of one strategy, from its source text."""

from __future__ import annotations

import ast
import json
import textwrap
from typing import Annotated, Any

import typer

from paredown.cli.options import DebugOption, JsonOption

HELP = """Show one strategy: idea, source, knobs with defaults and units, inputs, outputs, cost, control.

Example: paredown show prune.wanda
"""


def show(
    name: Annotated[str, typer.Argument(help="A name from paredown list.")],
    as_json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    from paredown.core import catalog, evidence, taxonomy

    entry = catalog.find(name)
    knobs = [{"name": k.name, "type": k.annotation, "default": k.default, "meaning": k.comment} for k in entry.knobs]
    inputs = [{"name": n, "type": annotation, "required": required} for n, annotation, required in entry.inputs]
    if as_json:
        import json

        found: dict[str, Any] = {
            "name": entry.name, "kind": entry.kind, "summary": entry.summary, "source": entry.source, "inputs": inputs, "result": entry.result,
            "knobs": knobs, "costs": entry.costs, "control": entry.control, "not_for": entry.not_for, "tags": list(entry.tags),
            "taxonomy": taxonomy.parse(entry.tags), "systems": list(entry.systems),
            "extras": list(entry.extras), "metrics": list(entry.metrics), "file": str(entry.path), "evidence": evidence.rows(entry.name),
        }  # fmt: skip
        print(json.dumps(found, indent=2, ensure_ascii=False))
        return
    print(f"{entry.name}  {entry.summary}")
    _row("source", entry.source)
    if entry.kind == "step":
        takes = ", ".join(f"{i['name']}: {i['type']}" + ("" if i["required"] else " (optional)") for i in inputs)
        _row("takes", takes or "nothing")
        _row("gives", entry.result)
        _row("metrics", ", ".join(entry.metrics))
    else:
        _row("kind", entry.kind)
    width = max((len(k["name"] or "") for k in knobs), default=0)
    for index, knob in enumerate(knobs):
        default = "must be given" if knob["default"] is None else _default(knob["default"])
        _row("knobs" if index == 0 else "", f"{knob['name']:<{width}}  {default:<14}  {knob['meaning']}", hang=width + 18)
    _row("costs", entry.costs)
    _row("control", entry.control)
    _row("not for", entry.not_for)
    _row("tags", taxonomy.words(entry.tags))
    _row("systems", ", ".join(f"{n:03d}" for n in entry.systems))
    _row("evidence", _proofs(entry.name))
    _row("needs", ", ".join(f"paredown[{extra}]" for extra in entry.extras))


def _proofs(name: str) -> str:
    """`holds, undecided (041-rethinking-pruning); control (080-...)`."""
    from paredown.core import evidence
    from paredown.core.systems import systems

    found: dict[int, list[str]] = {}
    for proof in evidence.of(name):
        found.setdefault(proof.system, []).append(proof.verdict)
    said = {number: ", ".join(verdict for verdict in evidence.ORDER if verdict in verdicts) for number, verdicts in found.items()}
    return "; ".join(f"{verdicts} ({systems()[number - 1]})" for number, verdicts in said.items())


def _default(source: str) -> str:
    """Source text of a default as one would write it in a recipe."""
    if "build(" in source:
        return source.partition("build(")[2].split(")")[0].strip("'\"")
    try:
        value = ast.literal_eval(source)
    except (ValueError, SyntaxError):
        return source
    return _written(value)


def _written(value: Any) -> str:
    """A value in YAML."""
    if isinstance(value, tuple | list):
        return f"[{', '.join(map(_written, value))}]"
    if isinstance(value, str):
        return value if value and value.isprintable() else json.dumps(value)
    return json.dumps(value) if value is None or isinstance(value, bool) else str(value)


def _row(label: str, text: str, hang: int = 0) -> None:
    if not text:
        return
    lines = textwrap.wrap(text, width=100 - 13, subsequent_indent=" " * hang, drop_whitespace=True, break_long_words=False) or [""]
    print(f"{label:<12} {lines[0]}")
    for line in lines[1:]:
        print(f"{'':<12} {line}")
